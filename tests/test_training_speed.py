"""The speed benchmark takes real steps of every trainer, and says by name which goal is missed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import training_speed
from benchmarks.training_speed import GOAL, main, missed, ratios, trainers
from training.config import TrainConfig, load_recipe
from training.distributed import Ranks


def tiny() -> dict[str, TrainConfig]:
    """The same trainers on networks of a few thousand weights."""
    sizes: dict[str, dict[str, Any]] = {
        "faceswap-lightweight": {"encoder": (4, 8, 8), "code": 8, "code_channels": 6, "decoder": (16, 8, 4)},
        "df-ud": {"encoder": (4, 8), "code": 8, "code_channels": 6, "decoder": (6, 8), "mask_width": 2},
        "liveswap": {"encoder": (4, 8), "code": 8, "code_channels": 6, "decoder": (8, 4), "mask_width": 2},
    }
    return {
        name: replace(config, batch=2, model=replace(config.model, resolution=64, **sizes[config.model.family]))
        for name, config in trainers().items()
    }


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny()
    monkeypatch.setattr(training_speed, "trainers", lambda: made)


def figures(seconds: float, cpu_s: float, samples_per_s: float) -> dict[str, Any]:
    return {"step_s": {"median": seconds}, "cpu_s": cpu_s, "samples_per_s": {"best": samples_per_s}}


def test_every_trainer_is_measured_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "speed.json"
    code = main(["--threads", "1", "--steps", "2", "--json", str(path)])
    report = json.loads(path.read_text("utf-8"))
    assert json.loads(capsys.readouterr().out) == report
    assert set(report["trainers"]) == set(tiny())
    for name, entry in report["trainers"].items():
        assert 0 < entry["step_s"]["best"] <= entry["step_s"]["median"], name
        assert 0 < entry["samples_per_s"]["median"] <= entry["samples_per_s"]["best"], name
        assert entry["cpu_s"] > 0
    assert code == (1 if report["missed"] else 0)
    assert report["machine"]["torch"]


def test_ours_has_the_layers_and_the_batch_of_the_peer() -> None:
    made = trainers()
    assert made["peer"] == load_recipe("faceswap-lightweight")
    assert made["ours"].style == "liveswap"
    for name in ("ours", "ours_float32", "ours_planes"):
        assert (made[name].model, made[name].batch) == (made["peer"].model, made["peer"].batch)


def test_steps_change_the_weights() -> None:
    with Ranks(0, 1, torch.device("cpu")) as ranks:
        for name, config in tiny().items():
            trainer = training_speed.Trainer(config, torch.contiguous_format, ranks)
            before = [weight.detach().clone() for weight in trainer._weights]
            trainer.step()
            trainer.step()
            assert any(not torch.equal(a, b) for a, b in zip(before, trainer._weights, strict=True)), name
            assert all(loss > 0 for loss in trainer.losses)


def test_a_part_alone_has_no_ratio_and_misses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--threads", "1", "--steps", "1", "--only", "ours"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["trainers"]) == ["ours"]
    assert report["ratios"] == {}


def test_ratios_compare_steps_processor_time_and_the_record() -> None:
    told = ratios({"peer": figures(6.0, 8.0, 1.0), "ours": figures(1.0, 2.0, 64.0)})
    assert told == {"by_clock": 6.0, "by_processor": 4.0, "recorded": 10.0, "recorded_by_processor": 5.25}


def test_each_missed_goal_is_named() -> None:
    assert missed({"by_clock": GOAL, "recorded": GOAL}) == []
    (sentence,) = missed({"by_clock": 2.0, "recorded": 6.0})
    assert sentence == "missed: 2.00 times as fast as the peer's layers in this run, not 5 times"
    assert "another machine" in missed({"by_clock": 6.0, "recorded": 1.0})[0]


@pytest.mark.parametrize("option", ["--threads", "--steps"])
def test_nothing_of_nothing_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([option, "0"])
    assert "at least 1" in capsys.readouterr().err
