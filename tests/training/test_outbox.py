"""A full disk costs no training: the last checkpoint stays, and what could not be written comes later."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from realtime.errors import TrainingError
from training.checkpoint import BEST, LATEST
from training.outbox import Outbox

OLD, NEW = b"old" * 100, b"new" * 300_000
"""What fits on the disk, and what does not while it is full."""
DISK_BYTES = 2 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of DISK_BYTES of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes an administrator of a Linux system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_checkpoints_are_written_at_once_where_there_is_room(tmp_path: Path) -> None:
    box = Outbox(tmp_path)
    assert not box.has_best
    assert box.put_best(NEW)
    assert box.has_best
    assert box.put_latest(OLD)
    box.close()
    assert (tmp_path / BEST).read_bytes() == NEW
    assert (tmp_path / LATEST).read_bytes() == OLD


def test_a_full_disk_keeps_the_last_checkpoint_and_takes_the_next_one_when_there_is_room_again(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box, ballast = Outbox(small_disk), small_disk / "ballast"
    assert box.put_best(OLD)
    assert box.put_latest(OLD)
    ballast.write_bytes(b"\0" * (DISK_BYTES - (256 << 10)))
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert not box.put_latest(NEW)
    assert len(caplog.messages) == 1  # said once
    assert "is full; free some space or choose another place; training goes on" in caplog.messages[0]
    assert (small_disk / LATEST).read_bytes() == OLD
    assert {path.name for path in small_disk.iterdir()} == {BEST, LATEST, "ballast"}
    with pytest.raises(TrainingError, match="is full; free some space"):
        box.close()
    ballast.unlink()
    with caplog.at_level(logging.INFO):
        assert box.put_latest(NEW)
    assert "could be saved again" in caplog.messages[-1]
    assert (small_disk / LATEST).read_bytes() == NEW
    box.close()


def test_the_newest_state_waits_for_the_best_weights(small_disk: Path) -> None:
    box, ballast = Outbox(small_disk), small_disk / "ballast"
    assert box.put_best(OLD)
    assert box.put_latest(OLD)
    ballast.write_bytes(b"\0" * (DISK_BYTES - (256 << 10)))
    assert not box.put_best(NEW)
    assert not box.put_latest(b"small enough")
    assert [(small_disk / name).read_bytes() for name in (BEST, LATEST)] == [OLD, OLD]
    ballast.unlink()
    assert box.put_latest(b"newest")
    assert [(small_disk / name).read_bytes() for name in (BEST, LATEST)] == [NEW, b"newest"]
    box.close()


def test_best_weights_that_waited_are_not_lost_at_the_end(small_disk: Path) -> None:
    box, ballast = Outbox(small_disk), small_disk / "ballast"
    ballast.write_bytes(b"\0" * (DISK_BYTES - (256 << 10)))
    assert not box.put_best(NEW)
    assert box.has_best
    with pytest.raises(TrainingError, match="is full"):
        box.close()
    ballast.unlink()
    with pytest.raises(TrainingError, match="is full"):  # no newest state was written after them
        box.close()
    assert (small_disk / BEST).read_bytes() == NEW


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond `size` bytes."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_three_times(run: Path, told: Connection) -> None:
    """With room, without, and with room again; says what came of it."""
    box = Outbox(run)
    first = box.put_best(OLD), box.put_latest(OLD)
    with files_no_larger_than(len(NEW) // 2):
        second = box.put_best(NEW), box.put_latest(NEW)
        there = [(run / name).read_bytes() == OLD for name in (BEST, LATEST)]
        try:
            box.close()
        except TrainingError as error:
            sentence = str(error)
    told.send((first, second, there, sentence, box.put_latest(NEW), sorted(path.name for path in run.iterdir())))
    box.close()


@pytest.mark.skipif(os.name == "nt", reason="this system has no limits for a process")
def test_a_refusal_by_the_kernel_keeps_the_last_checkpoint_and_later_takes_both(tmp_path: Path) -> None:
    mine, other = multiprocessing.Pipe(duplex=False)
    # A process of its own: pytest's own files may be larger than the limit.
    process = multiprocessing.get_context("spawn").Process(target=save_three_times, args=(tmp_path, other))
    process.start()
    assert mine.poll(120)
    first, second, there, sentence, third, names = mine.recv()
    process.join(30)
    assert process.exitcode == 0
    assert (first, second, there, third) == ((True, True), (False, False), [True, True], True)
    assert "; " in sentence
    assert names == [BEST, LATEST]
    assert [(tmp_path / name).read_bytes() for name in (BEST, LATEST)] == [NEW, NEW]
