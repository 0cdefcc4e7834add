"""A run ends with the same bits however often it was stopped, killed or robbed of its disk; and it learns."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from realtime.errors import LiveswapError, TrainingError, UsageError
from tests.tiny_run import FACES, TINY, facts_of, tensors_of, train_tiny, without_times, write_people, write_person
from training.checkpoint import BEST, LATEST, RUN, Progress, load_best, read_run
from training.claim import claimed
from training.evaluate import hold_out, look, open_facesets
from training.losses import side_loss
from training.model import CodeStatistics, FaceAutoencoder
from training.schedule import Budget, learning_rate, occluded_share, warp_strength
from training.train import TrainProgress, TrainSummary, train, wants_bf16

STEPS = 5
LOOKS = (2, 4, 5)
"""Steps at which TINY looks at the held-out faces; it saves at 3 and 5."""
SURE_SCORE_GAIN = 0.15
"""Held-out similarity that 60 steps must add; they add 0.35, a run that does not learn adds nothing."""
CLOSER = 0.7
"""How far apart the clouds of codes may be after 130 steps with the pull between them, relative to without."""
SCORE_FOR_ONE_CLOUD = 0.05
"""Similarity that the pull may cost by then; codes that run away cost 0.7."""
WRITTEN = {LATEST, BEST, RUN, "sheet.png", "history.json"}
FILES = WRITTEN | {"report.html", "sheets", "tensorboard"}
KILLED_STEPS = 40
PATIENCE_S = 120.0
"""A process that has not come as far as the test waits for by then hangs."""

People = dict[str, Path]


def outcome(run: Path) -> dict[str, Any]:
    """Everything a run leaves that must not depend on interruptions."""
    return {
        "latest": tensors_of(run / LATEST),
        "best": tensors_of(run / BEST),
        "facts": [facts_of(run / name) for name in (LATEST, BEST)],
        "history": history_of(run),
    }


def history_of(run: Path) -> list[dict[str, float]]:
    """One entry per look, without the times of day."""
    history: list[dict[str, float]] = without_times(json.loads((run / "history.json").read_text()))
    return history


def assert_same_bits(run: Path, uninterrupted: Path) -> None:
    ours, theirs = outcome(run), outcome(uninterrupted)
    assert ours["facts"] == theirs["facts"]
    assert ours["history"] == theirs["history"]
    for name in ("latest", "best"):
        mine, wanted = ours[name], theirs[name]
        assert mine.keys() == wanted.keys()
        assert [key for key in mine if not torch.equal(mine[key], wanted[key])] == []


def stopping_at(*steps: int, by: signal.Signals = signal.SIGTERM) -> Callable[[TrainProgress], None]:
    """A progress callback that sends this very process a signal."""

    def callback(now: TrainProgress) -> None:
        if now.iteration in steps:
            os.kill(os.getpid(), by)

    return callback


def train_until(people: People, run: Path, step: int, **changes: Any) -> bool:
    """Train TINY, resuming, and stop it by SIGTERM after `step`; whether it was stopped before its end."""
    config = replace(TINY, **changes)
    callback = stopping_at(step)
    return train(people["identity"], people["performer"], run, config, resume=True, on_progress=callback).stopped_early


def assert_is_a_sentence(error: LiveswapError) -> None:
    text = str(error)
    assert "\n" not in text
    assert ";" in text
    assert not text.endswith(".")


# ---------------------------------------------------------------- what a run is


def test_a_run_leaves_the_files_of_a_run_and_nothing_else(finished_run: Path) -> None:
    assert {path.name for path in finished_run.iterdir()} == FILES


def test_the_summary_says_how_the_run_ended(people: People, tmp_path: Path) -> None:
    seen: list[TrainProgress] = []
    summary = train(people["identity"], people["performer"], tmp_path / "run", TINY, on_progress=seen.append)
    assert (summary.iterations, summary.stopped_early, summary.precision) == (STEPS, False, "fp32")
    assert summary.best_score == max(entry["score"] for entry in history_of(tmp_path / "run"))
    assert json.loads(json.dumps(summary.to_json()))["preset"] == "tiny-test"
    assert [now.iteration for now in seen] == list(range(1, STEPS + 1))
    assert all(now.iterations_planned == STEPS and math.isfinite(now.loss) for now in seen)
    assert [now.held_out is None for now in seen] == [True, *[False] * (STEPS - 1)]
    assert seen[-1].eta_s == 0


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    people: People, finished_run: Path, tmp_path: Path
) -> None:
    assert_same_bits(train_tiny(people, tmp_path / "again"), finished_run)
    other = tensors_of(train_tiny(people, tmp_path / "other", seed=1) / BEST)
    same = tensors_of(finished_run / BEST)
    assert not any(torch.equal(value, other[key]) for key, value in same.items() if key.endswith("weight"))


def test_each_decoder_learns_its_own_person_and_the_swap_wears_the_identity(people: People, tmp_path: Path) -> None:
    run = train_tiny(people, tmp_path / "run", iterations=60, evaluate_every=30, save_every=60, learning_rate=3e-3)
    first, last = (entry["score"] for entry in history_of(run))
    assert last > first
    model, record, _ = load_best(run)
    faces = hold_out(open_facesets(record), record.config)
    untrained = look(FaceAutoencoder(record.config.model), faces)
    assert last > untrained["score"] + SURE_SCORE_GAIN
    pair = faces["performer"].crops
    with torch.no_grad():
        swap, same = (model(pair.inputs, side)[0].face * pair.masks for side in ("identity", "performer"))
    blue, _, red = (float(x) for x in swap.mean(dim=(0, 2, 3)))
    assert blue > red  # the identity is bluish
    blue, _, red = (float(x) for x in same.mean(dim=(0, 2, 3)))
    assert red > blue  # the performer is reddish


def test_the_two_clouds_of_codes_come_together_and_do_not_run_away(
    people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CodeStatistics, "RAMP", (5, 20))  # the pull begins in time for a short test
    apart, width, score = list[float](), list[float](), list[float]()
    longer: dict[str, Any] = {"iterations": 130, "evaluate_every": 130, "save_every": 130, "learning_rate": 3e-3}
    for align in (0.0, 0.1):
        bare = replace(TINY.augment, occluded=0.0)  # 130 steps are too few to see past what stands in front
        run = train_tiny(people, tmp_path / f"{align}", loss=replace(TINY.loss, align=align), augment=bare, **longer)
        tensors = tensors_of(run / LATEST)
        mean, covariance = (tensors[f"model/statistics.{name}"] for name in ("mean", "covariance"))
        width.append(float(covariance.diagonal(dim1=1, dim2=2).mean().sqrt()))
        apart.append(float((mean[0] - mean[1]).norm()) / width[-1])
        score.append(history_of(run)[-1]["score"])
    assert apart[1] < CLOSER * apart[0]
    assert width[1] < 3 * width[0]
    assert score[1] > score[0] - SCORE_FOR_ONE_CLOUD


# ---------------------------------------------------------------- stopping and going on


@pytest.mark.parametrize("step", range(1, STEPS))
def test_a_run_stopped_after_any_step_and_resumed_ends_with_the_same_bits(
    people: People, finished_run: Path, tmp_path: Path, step: int
) -> None:
    run = tmp_path / "run"
    assert train_until(people, run, step)
    assert facts_of(run / LATEST)["iteration"] == step
    train_tiny(people, run, resume=True)
    assert_same_bits(run, finished_run)


def test_a_run_stopped_after_every_step_ends_with_the_same_bits(
    people: People, finished_run: Path, tmp_path: Path
) -> None:
    stopped = [train_until(people, tmp_path / "run", step) for step in range(1, STEPS + 1)]
    assert stopped == [True] * (STEPS - 1) + [False]
    assert_same_bits(tmp_path / "run", finished_run)


def test_bfloat16_runs_resume_to_the_same_bits_too(people: People, tmp_path: Path) -> None:
    straight = train_tiny(people, tmp_path / "straight", precision="bf16", iterations=4)
    train_until(people, tmp_path / "run", 3, precision="bf16", iterations=4)
    train_tiny(people, tmp_path / "run", precision="bf16", iterations=4, resume=True)
    assert_same_bits(tmp_path / "run", straight)
    assert not torch.equal(
        tensors_of(straight / BEST)["ema/encoder.squeeze.weight"],
        tensors_of(train_tiny(people, tmp_path / "fp32", iterations=4) / BEST)["ema/encoder.squeeze.weight"],
    )


def test_ctrl_c_stops_between_two_steps_and_a_second_one_at_once(people: People, tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    stop = stopping_at(2, by=signal.SIGINT)
    summary = train(people["identity"], people["performer"], once, TINY, on_progress=stop)
    assert (summary.stopped_early, summary.iterations) == (True, 2)

    def impatient(now: TrainProgress) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        train(people["identity"], people["performer"], twice, TINY, on_progress=impatient)


def test_the_signals_belong_to_their_owner_again_after_the_run(people: People, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train_until(people, tmp_path / "run", 1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_stopped_before_its_first_look_can_be_exported_and_resumed(
    people: People, finished_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_until(people, run, 1)
    assert load_best(run)[2].iteration == 1
    train_tiny(people, run, resume=True)
    assert_same_bits(run, finished_run)


def test_a_run_works_on_another_thread_than_the_main_one(people: People, finished_run: Path, tmp_path: Path) -> None:
    worker = threading.Thread(target=train_tiny, args=(people, tmp_path / "run"))
    worker.start()
    worker.join()
    assert_same_bits(tmp_path / "run", finished_run)


def test_resuming_a_finished_run_changes_nothing(people: People, finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    summary = train(people["identity"], people["performer"], run, TINY, resume=True)
    assert (summary.iterations, summary.stopped_early) == (STEPS, False)
    assert {name: (run / name).read_bytes() for name in WRITTEN} == {
        name: (finished_run / name).read_bytes() for name in WRITTEN
    }


def test_a_larger_budget_goes_on_from_where_the_run_ended(people: People, finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    seen: list[int] = []
    train(
        people["identity"],
        people["performer"],
        run,
        TINY,
        resume=True,
        iterations=STEPS + 2,
        on_progress=lambda now: seen.append(now.iteration),
    )
    assert seen == [STEPS + 1, STEPS + 2]
    assert read_run(run).config.iterations == STEPS + 2
    assert [entry["iteration"] for entry in history_of(run)] == [*LOOKS, STEPS + 1, STEPS + 2]


def test_resume_with_nothing_saved_yet_starts_afresh(people: People, finished_run: Path, tmp_path: Path) -> None:
    new, begun = tmp_path / "new", tmp_path / "begun"
    assert_same_bits(train_tiny(people, new, resume=True), finished_run)
    begun.mkdir()
    shutil.copy(finished_run / RUN, begun / RUN)  # killed before the first save
    assert_same_bits(train_tiny(people, begun, resume=True), finished_run)


@pytest.mark.parametrize("others", [False, True])
def test_a_run_that_ended_before_its_first_save_is_started_afresh_without_resume(
    people: People, finished_run: Path, tmp_path: Path, others: bool
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished_run / RUN, run / RUN)
    if others:
        people = people | {"identity": write_person(tmp_path / "other", "identity", faces=FACES - 1)}
    train_tiny(people, run, iterations=1)
    record = read_run(run)
    assert record.config.iterations == 1
    assert record.facesets["identity"]["faces"] == FACES - others


def test_a_run_with_weights_to_export_but_none_to_resume_is_kept(
    people: People, finished_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / LATEST).unlink()
    with pytest.raises(UsageError, match="holds a run already"):
        train_tiny(people, run)


@pytest.mark.parametrize("resume", [False, True])
def test_weights_that_lost_their_record_are_kept(
    people: People, finished_run: Path, tmp_path: Path, resume: bool
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / RUN).unlink()
    with pytest.raises(UsageError, match="holds weights but no run"):
        train_tiny(people, run, resume=resume)
    assert (run / BEST).read_bytes() == (finished_run / BEST).read_bytes()


def test_better_weights_of_a_look_that_was_forgotten_are_not_replaced_by_worse_ones(
    people: People, tmp_path: Path
) -> None:
    run = train_tiny(people, tmp_path / "run", iterations=3)
    early = (run / LATEST).read_bytes()
    train(people["identity"], people["performer"], run, TINY, resume=True, iterations=30)
    best = load_best(run)[2]
    (run / LATEST).write_bytes(early)  # as after a disk that was full
    train(people["identity"], people["performer"], run, TINY, resume=True, iterations=5)
    assert load_best(run)[2].best_score == best.best_score


def test_best_weights_that_are_damaged_are_replaced_by_the_next_look(people: People, tmp_path: Path) -> None:
    run = train_tiny(people, tmp_path / "run", iterations=3)
    (run / BEST).write_bytes(b"half")
    train(people["identity"], people["performer"], run, TINY, resume=True, iterations=5)
    assert load_best(run)[2].best_iteration in (4, 5)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such claims")
def test_two_trainings_do_not_share_a_folder(people: People, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with claimed(run), pytest.raises(UsageError, match="is being trained by another process") as error:
        train_tiny(people, run)
    assert_is_a_sentence(error.value)
    assert list(run.iterdir()) == []
    train_tiny(people, run)


def test_a_resumed_run_keeps_its_own_recipe_but_for_threads_and_precision(
    people: People, finished_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    train_tiny(people, run, resume=True, batch=5, learning_rate=9.0, precision="auto", threads=None)
    assert read_run(run).config == TINY
    train_tiny(people, run, resume=True, precision="bf16")  # the way out of a loss that stopped being finite
    assert read_run(run).config == replace(TINY, precision="bf16")


def test_a_taken_folder_is_never_written_to_without_resume(people: People, finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run already; pass --resume") as error:
        train_tiny(people, run)
    assert_is_a_sentence(error.value)
    assert_same_bits(run, finished_run)


@pytest.mark.parametrize("side", ["identity", "performer"])
def test_a_run_is_not_resumed_with_another_faceset(
    people: People, finished_run: Path, tmp_path: Path, side: str
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    others = people | {side: write_person(tmp_path / "other", side, faces=FACES - 1)}
    with pytest.raises(UsageError, match=f"was trained on another {side} faceset") as error:
        train_tiny(others, run, resume=True)
    assert_is_a_sentence(error.value)


def test_facesets_may_move_between_two_sessions(people: People, finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    moved = shutil.copytree(people["identity"], tmp_path / "moved")
    train_tiny(people | {"identity": moved}, run, resume=True)
    assert read_run(run).facesets["identity"]["path"] == str(moved.resolve())


def test_a_run_finds_its_facesets_from_any_folder(
    people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(people["identity"].parent)
    relative = {who: Path(path.name) for who, path in people.items()}
    run = train_tiny(relative, tmp_path / "run", iterations=1)
    monkeypatch.chdir(tmp_path)
    train_tiny(people, run, resume=True)
    assert all(Path(facts["path"]).is_absolute() for facts in read_run(run).facesets.values())


# ---------------------------------------------------------------- when things break


class Poison:
    """A loss that stops being a number after some calls; two calls make a step."""

    def __init__(self, after: int) -> None:
        self.calls, self.after = 0, after

    def __call__(self, *args: Any) -> Tensor:
        self.calls += 1
        return side_loss(*args) * (math.nan if self.calls > self.after else 1.0)


def test_a_loss_that_is_not_finite_never_reaches_the_weights(
    people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("training.objective.side_loss", Poison(after=2 * 3))
        train_tiny(people, run)
    now = tensors_of(run / LATEST)
    assert facts_of(run / LATEST)["iteration"] == STEPS
    assert all(torch.isfinite(value).all() for value in now.values() if value.is_floating_point())
    assert all(float(value) == 3 for name, value in now.items() if name.startswith("optimizer/step/"))


def test_a_rate_far_too_high_ends_in_a_sentence(people: People, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"times in a row; .* start again with a lower learning_rate") as error:
        train_tiny(people, tmp_path / "run", learning_rate=1e20, iterations=400, evaluate_every=500, save_every=500)
    assert_is_a_sentence(error.value)


def fill_the_disk_at(name: str, step: int, run: Path, patch: pytest.MonkeyPatch) -> Callable[[TrainProgress], None]:
    """From `step` on, the kernel itself answers "no space left" to whoever writes the file `name`."""
    part = run / f".{Path(name).stem}.full.part{Path(name).suffix}"

    def callback(now: TrainProgress) -> None:
        if now.iteration == step:
            patch.setattr("realtime.files.secrets.token_hex", lambda count: "full")
            part.symlink_to("/dev/full")

    return callback


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", sorted(WRITTEN - {RUN}))
def test_a_disk_that_is_full_for_a_while_costs_nothing(
    people: People,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        callback = fill_the_disk_at(name, 3, run, patch)
        train(people["identity"], people["performer"], run, TINY, on_progress=callback)
    assert "is full; free some space" in caplog.text
    assert_same_bits(run, finished_run)


def test_a_disk_that_turned_read_only_is_one_sentence_and_the_older_checkpoint_stays(
    people: People, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    replace_file = os.replace

    def refusing(source: Path, goal: Path) -> None:
        if goal.name == LATEST and goal.exists():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        replace_file(source, goal)

    with monkeypatch.context() as patch:
        patch.setattr("realtime.files.os.replace", refusing)
        with pytest.raises(TrainingError, match="on a read-only disk") as error:
            train_tiny(people, run)
    assert_is_a_sentence(error.value)
    assert facts_of(run / LATEST)["iteration"] == 3
    assert not [path for path in run.iterdir() if ".part" in path.name]
    assert_same_bits(train_tiny(people, run, resume=True), finished_run)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_sentence(people: People, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(TrainingError, match="choose another place") as error:
            train_tiny(people, tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)
    assert_is_a_sentence(error.value)


def test_a_run_below_a_file_is_one_sentence(people: People, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TrainingError, match="lies below a file") as error:
        train_tiny(people, tmp_path / "file" / "run")
    assert_is_a_sentence(error.value)
    with pytest.raises(UsageError, match="is a file; give --out the name of a folder") as error_at:
        train_tiny(people, tmp_path / "file")
    assert_is_a_sentence(error_at.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_a_kill_left_half_written_is_swept_and_nothing_else(
    people: People, finished_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    left = [run / f".{stem}.0123abcd.part{suffix}" for stem, suffix in (("latest", ".safetensors"), ("run", ".json"))]
    kept = [run / ".notes.0123abcd.part.txt", run / ".latest.mine.part.safetensors", run / "notes.txt"]
    for path in left + kept:
        path.write_text("half")
    train_tiny(people, run, resume=True)
    assert [path.exists() for path in left + kept] == [False] * len(left) + [True] * len(kept)


# ---------------------------------------------------------------- kill -9


def assert_whole(run: Path) -> None:
    """Every file that has its name is complete; what was half written has another name."""
    for path in run.rglob("*") if run.exists() else ():
        if ".part" in path.name or path.is_dir() or "tfevents" in path.name:
            continue
        if path.suffix == ".safetensors":
            assert tensors_of(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
        else:
            assert cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None


def start_training(people: People, run: Path, steps: int = KILLED_STEPS) -> BaseProcess:
    """A process of its own that trains `steps` steps in `run`, going on where it stopped."""
    context = multiprocessing.get_context("forkserver")
    # One server imports torch, once; the processes that are killed are its children.
    context.set_forkserver_preload(["training.train", "torch._dynamo"])
    config = replace(TINY, iterations=steps)
    process = context.Process(
        target=train, args=(people["identity"], people["performer"], run, config), kwargs={"resume": True}
    )
    process.start()
    return process


def step_of(run: Path) -> int:
    """Of the newest checkpoint; 0 when there is none."""
    return int(facts_of(run / LATEST)["iteration"]) if (run / LATEST).exists() else 0


def saving(run: Path) -> bool:
    """Whether a checkpoint is being written at this moment."""
    return run.exists() and any(name.startswith((".latest", ".best")) for name in os.listdir(run))


def kill_when(process: BaseProcess, ready: Callable[[], bool]) -> None:
    """kill -9 the process as soon as `ready` says so, and wait until it is dead."""
    began_s = time.monotonic()
    while not ready():
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() - began_s < PATIENCE_S
        time.sleep(2e-4)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def long_run(people: People, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of KILLED_STEPS steps that nobody disturbed."""
    return train_tiny(people, tmp_path_factory.mktemp("long") / "run", iterations=KILLED_STEPS)


@pytest.fixture
def orphans() -> Iterator[list[BaseProcess]]:
    """Processes that end with the test even when it fails."""
    processes: list[BaseProcess] = []
    yield processes
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()


needs_kill = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods(), reason="this system has no kill -9"
)


@needs_kill
def test_a_run_killed_during_its_first_save_and_later_ends_with_the_same_bits(
    people: People, long_run: Path, tmp_path: Path, orphans: list[BaseProcess]
) -> None:
    run = tmp_path / "run"

    def ready(step: int) -> bool:
        return saving(run) and (step == 0 or step_of(run) >= step)

    for step in (0, 8, 22):  # the first save; a save after some; one after a resume
        before = step_of(run)
        orphans.append(start_training(people, run))
        kill_when(orphans[-1], lambda step=step: ready(step))  # type: ignore[misc]  # a default binds the step
        assert_whole(run)
        assert step_of(run) >= before
    assert step_of(run) >= 22
    train_tiny(people, run, resume=True)
    assert_same_bits(run, long_run)
    assert {path.name for path in run.iterdir()} == FILES


def test_the_rate_warms_up_stays_and_falls_to_a_fiftieth() -> None:
    config = replace(TINY, warmup=10, decay_from=0.5, learning_rate=1.0)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 9, 0.1) == 1.0
    assert learning_rate(config, 50, 0.5) == 1.0
    assert learning_rate(config, 75, 0.75) == pytest.approx(0.51)
    assert learning_rate(config, 100, 1.0) == pytest.approx(0.02)
    assert learning_rate(replace(config, warmup=0), 0, 0.0) == 1.0


def test_the_warp_fades_from_one_to_nothing() -> None:
    config = replace(TINY, warp_until=0.8)
    shares = [warp_strength(config, used) for used in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert [shares[i] for i in (0, 2, 4, 5)] == pytest.approx([1, 0.5, 0, 0])
    assert warp_strength(replace(TINY, warp_until=0.0), 0.0) == 0.0


def test_occluders_come_in_once_and_stay() -> None:
    config = replace(TINY, augment=replace(TINY.augment, occluded=0.6, occlude_by=0.2))
    assert [occluded_share(config, used) for used in (0.0, 0.1, 0.2, 1.0)] == pytest.approx([0.0, 0.3, 0.6, 0.6])
    at_once = replace(TINY, augment=replace(TINY.augment, occluded=0.6, occlude_by=0.0))
    assert occluded_share(at_once, 0.0) == 0.6


def test_the_budget_ends_with_whichever_of_time_and_steps_ends_first() -> None:
    config = replace(TINY, minutes=2.0, iterations=100)
    assert Budget(config).used(Progress(iteration=10, elapsed_s=30.0)) == 0.25
    assert Budget(config).used(Progress(iteration=90, elapsed_s=30.0)) == 0.9
    assert Budget(config).used(Progress(iteration=90, elapsed_s=300.0)) == 1.0
    assert Budget(replace(TINY, minutes=None, iterations=None)).used(Progress(iteration=90)) == 0.0


def test_a_run_until_its_plateau_says_when_it_will_be_done_and_what_an_hour_more_would_bring() -> None:
    """The score is 0.9 - 0.3 / sqrt(minutes): as long again adds 0.3 * (1 - 1 / sqrt(2)) / sqrt(minutes)."""
    open_ended = replace(TINY, minutes=None, iterations=None, until_plateau=True)
    curve = [0.9 - 0.3 * (60 / t) ** 0.5 for t in range(60, 3601, 60)]
    looks = [{"iteration": 60.0 * n, "elapsed_s": 60.0 * n, "score": score} for n, score in enumerate(curve, 1)]
    young = Budget(open_ended, looks[:3])
    assert young.outlook is None
    assert young.left_s(Progress(iteration=180, elapsed_s=180.0)) is None
    budget = Budget(open_ended, looks[:-1])
    budget.add(looks[-1])
    assert budget.outlook is not None
    assert budget.outlook.gain_per_hour == pytest.approx(0.3 / 60**0.5 * (1 - 2**-0.5), rel=0.1)
    left_s = budget.left_s(Progress(iteration=3600, elapsed_s=3600.0))
    flat_at_s = 60 * (0.3 * (1 - 2**-0.5) / 0.005) ** 2
    assert left_s is not None
    assert 3600 + left_s == pytest.approx(flat_at_s / open_ended.decay_from, rel=0.3)


def test_a_budget_in_minutes_ends_the_run_and_counts_over_interruptions(people: People, tmp_path: Path) -> None:
    run, brief = tmp_path / "run", replace(TINY, iterations=None, minutes=1.0)

    def go_on(on_progress: Callable[[TrainProgress], None] | None = None) -> TrainSummary:
        seconds = count(0.0, 2.0)  # at each glance at the clock: the machine may be a slow one
        who = people["identity"], people["performer"]
        return train(*who, run, brief, resume=True, on_progress=on_progress, clock=lambda: next(seconds))

    assert go_on(stopping_at(1)).stopped_early
    began_s = load_elapsed(run)
    assert 0 < began_s < 60
    summary = go_on()
    assert not summary.stopped_early
    assert 60 <= summary.elapsed_s < 60 + 20
    assert summary.iterations_done < summary.iterations == facts_of(run / LATEST)["iteration"]


def load_elapsed(run: Path) -> float:
    with safe_open(run / LATEST, framework="pt") as file:
        facts: dict[str, float] = json.loads(file.metadata()["liveswap.checkpoint"])
    return facts["elapsed_s"]


def test_without_a_budget_a_run_lasts_an_hour(people: People, tmp_path: Path) -> None:
    train_until(people, tmp_path / "run", 1, iterations=None)
    config = read_run(tmp_path / "run").config
    assert (config.minutes, config.iterations) == (60.0, None)


def test_bfloat16_is_used_where_asked_for_or_where_the_processor_has_it() -> None:
    cpu = torch.device("cpu")
    assert wants_bf16(replace(TINY, precision="bf16"), cpu)
    assert not wants_bf16(replace(TINY, precision="fp32"), cpu)
    has = torch.cpu.get_capabilities()
    assert wants_bf16(replace(TINY, precision="auto"), cpu) == bool(has.get("avx512_bf16") or has.get("amx_bf16"))


@pytest.mark.needs_cuda
def test_a_run_on_a_gpu_resumes_with_the_optimizer_it_had(people: People, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_until(people, run, 3)
    before = tensors_of(run / LATEST)
    train_tiny(people, run, resume=True)
    after = tensors_of(run / LATEST)
    assert facts_of(run / LATEST)["iteration"] == STEPS
    steps = [value for key, value in after.items() if key.startswith("optimizer/step/")]
    assert all(float(value) == STEPS for value in steps)
    assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith("model/"))


# ---------------------------------------------------------------- what is said before it begins


def test_two_people_are_needed(people: People, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the same faceset"):
        train_tiny({"identity": people["identity"], "performer": people["identity"]}, tmp_path / "run")


def test_too_few_faces_to_hold_any_back_are_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_tiny(write_people(tmp_path, faces=5), tmp_path / "run", iterations=1)
    assert caplog.text.count("has 5 faces: too few to hold some back") == 2


def test_slow_steps_are_looked_at_and_saved_by_the_clock(people: People, tmp_path: Path) -> None:
    saved: list[int] = []
    run = tmp_path / "run"

    def watch(progress: Progress, ema: object) -> None:
        saved.append(facts_of(run / LATEST)["iteration"])

    config = replace(TINY, iterations=4, evaluate_every=1000, save_every=1000, evaluate_every_s=1e-9, save_every_s=1e-9)
    train(people["identity"], people["performer"], run, config, on_step=watch)
    assert [entry["iteration"] for entry in history_of(run)] == [1, 2, 3, 4]
    assert saved == [1, 2, 3, 4]
