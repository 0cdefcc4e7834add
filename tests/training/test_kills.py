"""The command killed with SIGKILL fifty times: every file whole, nothing lost, and in the end the same bits."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.tiny_run import facts_of, tensors_of, without_times
from training.checkpoint import BEST, LATEST, load_best

KILLS = 50
STEPS = 400
"""More than fifty lives of MOST_SAVES saves and SECONDS get to: the run is alive until the last kill."""
MOST_SAVES, SECONDS = 5, 0.2
PATIENCE_S = 300.0
"""A process that has not come as far as the test waits for by then hangs."""
RECIPE = """
batch = 2
warmup = 2
ema = 0.9
evaluate_every = 4
save_every = 1
precision = "fp32"
threads = 1
[model]
resolution = 32
encoder = [8, 16]
code_channels = 8
code = 16
decoder = [16, 8]
"""
_log = logging.getLogger(__name__)
PART = re.compile(r"\.(\w+)\.[0-9a-f]{8}\.part\.\w+")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9"),
]


@dataclass
class Lives:
    """What the kills met, for the person who reads the log of the test."""

    in_a_save: int = 0
    of_what: dict[str, int] = field(default_factory=dict)


def command(people: dict[str, Path], recipe: Path, run: Path, steps: int) -> list[str]:
    """`liveswap train` as a user calls it."""
    train = ["train", str(people["identity"]), str(people["performer"]), "--out", str(run), "--preset", str(recipe)]
    return [sys.executable, "-m", "liveswap", *train, "--iterations", str(steps), "--resume", "--verbose"]


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """They end with the test even when it fails."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def parts_in(run: Path) -> set[str]:
    """What is being written at this moment: latest, best, history, sheet, run."""
    names = os.listdir(run) if run.exists() else []
    return {match[1] for name in names if (match := PART.fullmatch(name))}


def step_of(run: Path) -> int:
    """Of the newest checkpoint; 0 when there is none."""
    return int(facts_of(run / LATEST)["iteration"]) if (run / LATEST).exists() else 0


def assert_whole(run: Path, had_best: bool) -> None:
    """Every file that has its name is complete, and the best weights can be used once there were any."""
    for path in run.rglob("*.*"):
        if PART.fullmatch(path.name):
            continue
        if path.suffix == ".safetensors":
            assert tensors_of(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix in (".png", ".jpg"):
            assert cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None
    if had_best:
        assert load_best(run)[2].iteration > 0


def kill_at_a_random_moment(process: subprocess.Popen[str], run: Path, chance: random.Random) -> set[str]:
    """SIGKILL at some moment, mostly while a file is half written. What lay there half written then."""
    before, began_s = step_of(run), time.monotonic()

    def alive() -> None:
        assert process.poll() is None, f"the run ended before it could be killed: {process.communicate()}"
        assert time.monotonic() - began_s < PATIENCE_S

    kind = chance.choice(["a save", "a save", "the best", "any moment"])
    if kind == "any moment" and chance.random() < 0.3:  # while it starts
        time.sleep(chance.uniform(0, 3))
        alive()
    else:
        saves = chance.randrange(MOST_SAVES)
        while step_of(run) < before + saves:
            alive()
            time.sleep(2e-3)
        if kind == "any moment":
            time.sleep(chance.uniform(0, SECONDS))
            alive()
        else:
            wanted = {"latest", "run"} if kind == "a save" else {"best", "history", "sheet"}
            while not parts_in(run) & wanted:
                alive()
                time.sleep(2e-4)
            time.sleep(chance.choice([0, 0, 1e-3, 3e-3]))
    os.kill(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_S)
    assert process.returncode == -signal.SIGKILL
    return parts_in(run)


def test_a_command_killed_fifty_times_loses_nothing_and_ends_with_the_same_bits(
    people: dict[str, Path], tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    recipe, run, straight = tmp_path / "tiny.toml", tmp_path / "run", tmp_path / "straight"
    recipe.write_text(RECIPE)
    chance, lives, began_s = random.Random(20), Lives(), time.monotonic()
    for number in range(KILLS):
        before, had_best = step_of(run), (run / BEST).exists()
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command(people, recipe, run, STEPS), **pipes))  # type: ignore[call-overload]
        half_written = kill_at_a_random_moment(processes[-1], run, chance)
        told = processes[-1].communicate()[1]
        resumed = re.search(r"resuming .* at step (\d+)", told)
        assert resumed is None or int(resumed[1]) == before, f"life {number} did not go on from its last save"
        assert step_of(run) == before or before == 0 or resumed is not None
        assert step_of(run) >= before, f"kill number {number} lost a checkpoint"
        assert (run / BEST).exists() >= had_best, f"kill number {number} lost the best weights"
        assert_whole(run, had_best)
        lives.in_a_save += bool(half_written)
        for name in half_written:
            lives.of_what[name] = lives.of_what.get(name, 0) + 1
    assert 0 < step_of(run) < STEPS
    for folder in (run, straight):
        subprocess.run([*command(people, recipe, folder, STEPS), "--quiet"], check=True, timeout=PATIENCE_S)
        assert step_of(folder) == STEPS
    assert not parts_in(run)
    for name in (LATEST, BEST):
        ours, theirs = tensors_of(run / name), tensors_of(straight / name)
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
        assert facts_of(run / name) == facts_of(straight / name)
    histories = [without_times(json.loads((folder / "history.json").read_text())) for folder in (run, straight)]
    assert histories[0] == histories[1]
    seconds = time.monotonic() - began_s
    _log.info("%d kills, %d during a save %s, %.0f s", KILLS, lives.in_a_save, lives.of_what, seconds)
    assert lives.in_a_save >= KILLS / 3
