"""The GPU benchmark does its steps and sums on any machine, and says in one sentence when there is no GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import training_gpu
from benchmarks.training_gpu import MODES, Steps, open_stacks, time_to, with_speed_up
from realtime.errors import TrainingError
from tests.tiny_run import TINY, write_person


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    for who in ("identity", "performer"):
        write_person(folder / f"{who}-faces", who)
    return folder


def test_it_really_trains_on_the_cpu_and_reports(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_gpu, "load_recipe", lambda name: replace(TINY, name=name))
    monkeypatch.setattr(training_gpu, "WARM_UP", 1)
    report_file = tmp_path / "report.json"
    arguments = ["--device", "cpu", "--preset", "tiny-64", "--steps", "2", "--batches", "2", "4", "--minutes", "0.02"]
    arguments += ["--modes", *(mode.name for mode in MODES if not mode.compiled), "--evaluate-every", "2"]
    assert training_gpu.main([*arguments, "--facesets", str(folder), "--json", str(report_file)]) == 0
    report = json.loads(report_file.read_text(encoding="utf-8"))
    assert [(row["mode"], row["batch"]) for row in report["speed"]] == [
        (mode.name, batch) for batch in (2, 4) for mode in MODES if not mode.compiled
    ]
    assert all(row["samples_per_s"] > 0 for row in report["speed"])
    assert report["speed"][0]["speed_up"] == 1.0
    assert 0 < report["run"]["to_09_s"] <= report["run"]["looks"][-1]["elapsed_s"]
    assert "eager bf16" in capsys.readouterr().out


def test_its_steps_change_the_weights_as_training_does(folder: Path) -> None:
    config = replace(TINY, learning_rate=1e-2)
    steps = Steps(config, MODES[0], open_stacks(folder, config), torch.device("cpu"))
    before = [weight.detach().clone() for weight in steps._weights]
    averages = [average.clone() for average in steps._averages]
    steps.run(2)
    assert any(not torch.equal(a, b) for a, b in zip(before, steps._weights, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(averages, steps._averages, strict=True))
    assert all(weight.grad is None for weight in steps._weights)


def test_too_little_memory_is_a_row_without_figures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Steps, count: int) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Steps, "run", full)
    row = training_gpu.measure(TINY, MODES[0], open_stacks(folder, TINY), torch.device("cpu"), 1)
    assert row["samples_per_s"] is None
    assert row["out_of_memory"] is True
    assert with_speed_up([row])[0]["speed_up"] is None


def test_a_mode_leaves_nothing_behind_for_the_whole_run(folder: Path) -> None:
    """Else the run at the end would multiply as the slowest mode does."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for mode in MODES[:2]:
        training_gpu.measure(replace(TINY, batch=2), mode, open_stacks(folder, TINY), torch.device("cpu"), 1)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_what_was_measured_is_written_though_the_whole_run_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report_file = tmp_path / "report.json"

    def fails(*_: object) -> None:
        raise TrainingError("the loss broke out; train with a lower learning_rate")

    monkeypatch.setattr(training_gpu, "load_recipe", lambda name: replace(TINY, name=name))
    monkeypatch.setattr(training_gpu, "WARM_UP", 1)
    monkeypatch.setattr(training_gpu, "train_fully", fails)
    arguments = ["--device", "cpu", "--preset", "tiny-64", "--steps", "1", "--batches", "2", "--modes", MODES[0].name]
    assert training_gpu.main([*arguments, "--facesets", str(folder), "--json", str(report_file)]) == 1
    report = json.loads(report_file.read_text(encoding="utf-8"))
    assert report["speed"][0]["samples_per_s"] > 0
    assert "broke out" in report["failed"]
    assert capsys.readouterr().err.count("\n") == 1


def test_speed_up_is_over_float32_at_the_same_batch_size() -> None:
    rows = [
        {"mode": mode, "batch": batch, "samples_per_s": speed}
        for mode, batch, speed in (("eager fp32", 8, 10.0), ("compiled", 8, 45.0), ("compiled", 16, 50.0))
    ]
    assert [row["speed_up"] for row in with_speed_up(rows)] == [1.0, 4.5, None]


def test_nearly_as_good_is_counted_from_the_first_look_that_is() -> None:
    scores = ((1, 0.2), (2, 0.6), (3, 0.75), (4, 0.7), (5, 0.8))
    history = [{"elapsed_s": 10.0 * at, "score": score} for at, score in scores]
    assert time_to(history, 0.9) == 30.0
    assert time_to([], 0.9) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert training_gpu.main([]) == 2
    error = capsys.readouterr().err
    assert "CUDA" in error
    assert error.count("\n") == 1


@pytest.mark.needs_cuda
def test_every_mode_trains_on_a_gpu(folder: Path) -> None:
    stacks = open_stacks(folder, TINY)
    for mode in MODES:
        row = training_gpu.measure(TINY, mode, stacks, torch.device("cuda"), 2)
        assert row["samples_per_s"] > 0
        assert row["memory_mib"] > 0
