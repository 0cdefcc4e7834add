"""Several processes train one model as one process would, stop together, and say once what went wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from realtime.errors import TrainingError, UsageError
from tests.tiny_run import TINY, facts_of, train_tiny
from training.config import TrainConfig
from training.distributed import Ranks, mean_over_ranks
from training.train import train

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0
"""Two processes load torch and train for a few steps in 10 s of a processor; the rest is for a busy machine."""
SUMS_IN_ANOTHER_ORDER = 1e-4
"""Largest difference of a weight: two processes add half the batch each, and float32 sums depend on the order. A step
of Adam moves a weight by up to 1e-3 however small its gradient, so what is 1e-7 in a gradient near nought grows: 3e-5
has been seen after eight steps, while weights that are trained on half the batch are 1e-2 apart."""


def environment(**more: str) -> dict[str, str]:
    """What a process of ours finds: warnings are errors, and it is in no group but the one it is told of."""
    groups = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    own = {name: value for name, value in os.environ.items() if name not in groups and not name.startswith("TORCHEL")}
    return own | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"} | more


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(*command: object, count: int = 2) -> list[subprocess.Popen[str]]:
    """As many processes with this command line as there are ranks, without torchrun between."""
    port = str(free_port())
    together = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), MASTER_PORT=port, **together),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(count)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and error output of each."""
    deadline_s = time.monotonic() + PATIENCE_S
    ends = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=max(1.0, deadline_s - time.monotonic()))
            ends.append((process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
    return ends


def scenario(name: str, folder: Path) -> list[dict[str, Any]]:
    """What each of two processes saw in a scenario of rank_worker."""
    ends = finish(start("tests/training/rank_worker.py", name, folder))
    assert all(code == 0 for code, _, _ in ends), ends
    return [json.loads(out) for _, out, _ in ends]


def torchrun(*arguments: object, count: int = 2) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc-per-node COUNT -m training ...` to its end."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
    return subprocess.run(
        [*launcher, "--master-port", str(free_port()), "-m", "training", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=ROOT,
    )


def write_recipe(path: Path, config: TrainConfig) -> Path:
    """`config` as a recipe file."""
    values = {name: value for name, value in config.to_dict().items() if value is not None}
    path.write_text(tomli_w.dumps(values), "utf-8")
    return path


def furthest(first: Path, second: Path) -> dict[str, float]:
    """Largest difference of the tensors of two checkpoints, by kind; only of those that differ."""
    ours, theirs = load_file(first), load_file(second)
    assert ours.keys() == theirs.keys()
    apart: dict[str, float] = {}
    for name, value in ours.items():
        kind = name.partition("/")[0]
        apart[kind] = max(apart.get(kind, 0.0), float((value.double() - theirs[name].double()).abs().max()))
    return apart


def go_on(people: dict[str, Path], run: Path, iterations: int) -> None:
    train(people["identity"], people["performer"], run, TINY, resume=True, iterations=iterations)


# ---------------------------------------------------------------- the same weights


def test_torchrun_reaches_the_weights_of_one_process(people: dict[str, Path], tmp_path: Path) -> None:
    """Two processes with half the batch each go on from a checkpoint, as one process does with the whole batch."""
    one = train_tiny(people, tmp_path / "one", iterations=2, batch=4, balance=0.5)
    two = shutil.copytree(one, tmp_path / "two")
    go_on(people, one, 8)
    done = torchrun(people["identity"], people["performer"], "--out", two, "--resume", "--iterations", 8)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stopped_early") == 1  # process 0 speaks, alone
    apart = furthest(one / "latest.safetensors", two / "latest.safetensors")
    assert apart.pop("random_state") == 0
    assert 0 < max(apart.values()) < SUMS_IN_ANOTHER_ORDER
    ours, theirs = (facts_of(run / "latest.safetensors") for run in (one, two))
    assert ours["iteration"] == theirs["iteration"] == 8
    assert sorted(path.name for path in two.iterdir()) == sorted(path.name for path in one.iterdir())


def test_parts_of_a_batch_and_a_growing_model_change_nothing_either(people: dict[str, Path], tmp_path: Path) -> None:
    """Four parts in two processes, each of which sends its gradients once; half of the weights rest at first."""
    model = replace(TINY.model, resolution=64, encoder=(8, 16, 16), decoder=(16, 16, 8), grows=True)
    growing = replace(TINY, model=model, half_until=0.5, batch=8, iterations=4)
    one = train_tiny(people, tmp_path / "one", **vars_of(growing))
    recipe = write_recipe(tmp_path / "parts.toml", replace(growing, accumulate=2))
    two = tmp_path / "two"
    done = torchrun(people["identity"], people["performer"], "--out", two, "--preset", recipe, "--quiet")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    weights = [without_statistics(load_file(run / "latest.safetensors")) for run in (one, two)]
    apart = {name: float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]}
    assert 0 < max(apart.values()) < SUMS_IN_ANOTHER_ORDER, max(apart, key=lambda name: apart[name])


def vars_of(config: TrainConfig) -> dict[str, Any]:
    """The settings in which `config` differs from TINY."""
    return {
        field.name: getattr(config, field.name)
        for field in fields(TrainConfig)
        if getattr(config, field.name) != getattr(TINY, field.name)
    }


def without_statistics(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights alone: each part of a batch joins the statistics of the codes by itself."""
    return {name: value.double() for name, value in tensors.items() if "/statistics." not in name}


def test_half_the_batch_would_have_been_noticed(people: dict[str, Path], tmp_path: Path) -> None:
    runs = [train_tiny(people, tmp_path / str(batch), iterations=8, batch=batch) for batch in (4, 2)]
    whole, half = (without_statistics(load_file(run / "best.safetensors")) for run in runs)
    assert max(float((whole[name] - half[name]).abs().max()) for name in whole) > 10 * SUMS_IN_ANOTHER_ORDER


def test_the_gradient_of_a_mean_over_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    for seen in scenario("gradient", tmp_path):
        assert seen["first_part"] != pytest.approx(seen["shared"], rel=0.1)
        assert seen["shared"] == pytest.approx(seen["whole"], rel=1e-5)


def test_the_clouds_of_codes_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    for seen in scenario("clouds", tmp_path):
        assert len(seen["whole"]) == 1 + 16 + 4 + 16
        assert seen["shared"] == pytest.approx(seen["whole"], rel=1e-5, abs=1e-6)


# ---------------------------------------------------------------- one voice


def test_all_hear_the_same(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    content = os.urandom(200_000)
    (tmp_path / "here" / "state.bin").write_bytes(content)
    first, second = scenario("agree", tmp_path)
    assert (first.pop("leads"), second.pop("leads")) == (True, False)
    assert (first.pop("shard"), second.pop("shard")) == ([0, 4], [4, 8])
    assert first == second
    assert (first["nobody"], first["one"], first["lead"], first["mean"]) == (False, True, 10.5, 0.5)
    assert (first["told"], first["nothing"]) == ("from 0", "")
    assert first["refused"] == "the processes were given different facesets; copy the same files to every machine"
    assert first["lent"] == ["state.bin", hashlib.sha256(content).hexdigest()]


def test_a_process_that_fails_ends_the_others_with_its_sentence(tmp_path: Path) -> None:
    first, second = scenario("fails", tmp_path)
    assert second == {"error": "the faces are gone; bring them back", "kind": "FacesetError"}
    assert first == {"error": "process 1: the faces are gone; bring them back", "kind": "TrainingError"}


def test_a_process_that_is_killed_ends_the_others_at_once(tmp_path: Path) -> None:
    began_s = time.monotonic()
    (code, out, _), (killed, _, _) = finish(start("tests/training/rank_worker.py", "dies", tmp_path))
    assert (code, killed) == (0, -signal.SIGKILL)
    assert "another process of this training is gone" in json.loads(out)["error"]
    assert time.monotonic() - began_s < PATIENCE_S / 2


def test_an_error_is_one_sentence_of_process_0(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    (code, out, err), other = finish(start("-m", "training", gone, gone, "--out", tmp_path / "run"))
    assert (code, out) == (1, "")
    assert err.startswith("liveswap: ")
    assert err.count("\n") == 1
    assert other == (1, "", "")


def test_a_signal_to_any_of_them_stops_all_at_the_same_step(people: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = write_recipe(tmp_path / "long.toml", replace(TINY, save_every=1, iterations=100_000))
    sides = (people["identity"], people["performer"])
    processes = start("-m", "training", *sides, "--out", run, "--preset", recipe, "--json", tmp_path / "end.json")
    deadline_s = time.monotonic() + PATIENCE_S
    while not (run / "latest.safetensors").is_file() and time.monotonic() < deadline_s:
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.05)
    processes[1].terminate()
    (code, _, err), (other, said, complained) = finish(processes)
    assert (code, other) == (130, 130), (err, complained)
    assert (said, complained) == ("", "")
    assert "the same command with --resume goes on" in err
    end = json.loads((tmp_path / "end.json").read_text("utf-8"))
    assert end["stopped_early"] is True
    assert facts_of(run / "latest.safetensors")["iteration"] == end["iterations"] > 0


# ---------------------------------------------------------------- alone, and not at all


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RANK", raising=False)
    module, x = nn.Linear(2, 2), torch.ones(3)
    with Ranks.join() as ranks:
        assert (ranks.leads, ranks.count, ranks.shard(7)) == (True, 1, slice(0, 7))
        assert (ranks.any(True), ranks.any(False), ranks.lead(2.5), ranks.tell(b"word")) == (True, False, 2.5, b"word")
        assert ranks.wrap(module) is module
        assert ranks.mean(x) is x
        assert mean_over_ranks(x) is x
        with ranks.no_sync(module), ranks.lent(tmp_path) as lent:
            assert lent == tmp_path
        ranks.same("text", "facesets")
        ranks.barrier()
        ranks.leave()


def test_an_error_of_one_process_alone_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RuntimeError, match="gloo"), Ranks.join():
        raise RuntimeError("gloo is not what this is about")


def test_a_batch_that_cannot_be_shared_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="3 processes cannot share a batch of 16 equally; give another --batch"):
        Ranks(0, 3, torch.device("cpu")).shard(16)


def test_half_an_environment_of_torchrun_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UsageError, match="RANK is set but WORLD_SIZE is not a number; start several processes with"):
        Ranks.join()


def group(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """The environment of process 1 of 2, whose process 0 is nowhere."""
    found = {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**found, "MASTER_PORT": free_port(), **values}.items():
        monkeypatch.setenv(name, str(value))


def test_a_process_that_finds_nobody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    group(monkeypatch)
    with pytest.raises(TrainingError, match="process 1 of 2 does not reach the others; start all of them with"):
        Ranks.join(timeout_s=1)


def test_more_processes_than_gpus_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    group(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="this machine has 1 GPUs for 2 processes; give torchrun --nproc-per-node"):
        Ranks.join(timeout_s=1)
