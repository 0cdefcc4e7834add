"""A journal that TensorBoard can read, that a resumed run goes on with, and that never stops a run."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.journal import EVENTS, HISTORY, MOST_SHEETS, SHEET, SHEETS, Journal, list_sheets
from training.run_report import read_history, read_scalars


def sheet(grey: int = 90, side: int = 40) -> bytes:
    done, png = cv2.imencode(".png", np.full((side, side, 3), grey, np.uint8))
    assert done
    return png.tobytes()


@contextmanager
def full_disk() -> Iterator[None]:
    """Within it this process can make files, but write nothing into them."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_steps_and_looks_come_back_as_curves(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for step in range(1, 6):
            journal.step(step, {"loss/pixel": 1 / step, "rate": 1e-3})
        journal.look(5, {"score": 0.5, "elapsed_s": 3.0}, sheet())
    curves = read_scalars(tmp_path)
    assert [step for step, _ in curves["loss/pixel"]] == [1, 2, 3, 4, 5]
    assert [value for _, value in curves["loss/pixel"]] == pytest.approx([1 / step for step in range(1, 6)])
    assert curves["held_out/score"] == [(5, 0.5)]
    assert set(curves) == {"loss/pixel", "rate", "held_out/score"}
    assert json.loads((tmp_path / HISTORY).read_text()) == [{"iteration": 5.0, "score": 0.5, "elapsed_s": 3.0}]
    assert (tmp_path / SHEET).read_bytes() == sheet()


def test_what_was_written_is_on_disk_after_each_look(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.step(1, {"loss/pixel": 2.0})
    journal.look(1, {"score": 0.5})
    assert read_scalars(tmp_path)["loss/pixel"] == [(1, 2.0)]
    journal.close()
    journal.close()


def test_a_resumed_run_goes_on_and_forgets_steps_that_did_not_count(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for step in range(1, 10):
            journal.step(step, {"loss/pixel": 1.0})
            if step % 3 == 0:
                journal.look(step, {"score": step / 10}, sheet(step))
        kept = journal.history[:1]
    with Journal(tmp_path, kept, first=4) as journal:
        journal.step(5, {"loss/pixel": 7.0})
        journal.look(6, {"score": 0.65}, sheet(60))
    assert read_scalars(tmp_path)["loss/pixel"] == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 7)]
    assert [(e["iteration"], e["score"]) for e in read_history(tmp_path)] == [(3, 0.3), (6, 0.65)]
    assert [int(path.stem) for path in list_sheets(tmp_path)] == [3, 6]
    assert len(list((tmp_path / EVENTS).glob("events.*"))) == 2


def test_a_run_that_was_rolled_back_forgets_the_looks_after(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for step, score in ((10, 0.5), (20, 0.6), (30, 0.1), (20, 0.62)):
            journal.look(step, {"score": score}, sheet())
        assert [(e["iteration"], e["score"]) for e in journal.history] == [(10, 0.5), (20, 0.62)]
    assert [int(path.stem) for path in list_sheets(tmp_path)] == [10, 20]


def test_sheets_stay_few_and_the_first_and_the_last_are_among_them(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for step in range(1, 5 * MOST_SHEETS):
            journal.look(step, {"score": 0.5}, sheet(step))
            steps = [int(path.stem) for path in list_sheets(tmp_path)]
            assert len(steps) <= MOST_SHEETS
            assert (steps[0], steps[-1]) == (1, step)
    assert len(steps) == MOST_SHEETS
    assert max(np.diff(steps)) <= 3 * step / MOST_SHEETS


def test_a_wide_sheet_is_kept_smaller(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.look(1, {"score": 0.5}, sheet(side=2000))
    image = cv2.imread(str(list_sheets(tmp_path)[0]))
    assert image is not None
    assert image.shape == (800, 800, 3)


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.step(1, {"loss/pixel": math.nan, "rate": 0.5})
        journal.look(1, {"score": math.inf, "flicker": 2.0})
    assert set(read_scalars(tmp_path)) == {"rate", "held_out/flicker"}
    assert json.loads((tmp_path / HISTORY).read_text()) == [{"iteration": 1.0, "flicker": 2.0}]


def test_no_thread_is_started(tmp_path: Path) -> None:
    before = threading.enumerate()
    with Journal(tmp_path) as journal:
        journal.step(1, {"rate": 0.5})
        journal.look(1, {"score": 0.5}, sheet())
        assert threading.enumerate() == before


def test_a_full_disk_is_said_once_and_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Journal(tmp_path) as journal:
        journal.look(1, {"score": 0.1}, sheet())
        with full_disk():
            for step in range(2, 5):
                for _ in range(2000):  # more than the buffer holds
                    journal.step(step, {"loss/pixel": 1.0})
                journal.look(step, {"score": 0.2}, sheet())
        assert len(caplog.records) == 1
        assert "the journal of this run has gaps, training goes on" in caplog.text
        assert [e["iteration"] for e in read_history(tmp_path)] == [1]
        assert [e["iteration"] for e in journal.history] == [1, 2, 3, 4]
        journal.step(5, {"loss/pixel": 5.0})
        journal.look(5, {"score": 0.5}, sheet())  # somebody has made room
    assert [e["iteration"] for e in read_history(tmp_path)] == [1, 2, 3, 4, 5]
    assert read_scalars(tmp_path)["loss/pixel"][-1] == (5, 5.0)
    assert len(caplog.records) == 1
    assert not list(tmp_path.rglob("*.part.*"))


def test_a_folder_in_the_way_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / EVENTS).write_text("in the way")
    (tmp_path / SHEETS).write_text("in the way")
    with caplog.at_level(logging.WARNING), Journal(tmp_path) as journal:
        journal.step(1, {"rate": 0.5})
        journal.look(1, {"score": 0.5}, sheet())
    assert len(caplog.records) == 1
    assert read_history(tmp_path) == [{"iteration": 1.0, "score": 0.5}]


def test_a_run_that_was_removed_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with caplog.at_level(logging.WARNING), Journal(run) as journal:
        os.rmdir(run)
        run.write_text("in the way")
        journal.step(1, {"rate": 0.5})
        journal.look(1, {"score": 0.5}, sheet())
        journal.report(final=True)
    assert len(caplog.records) == 1


def test_leftovers_of_a_kill_are_swept(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.look(1, {"score": 0.5}, sheet())
        leftover = tmp_path / SHEETS / ".000000001.0badcafe.part.jpg"
        leftover.write_bytes(b"half")
        journal.look(2, {"score": 0.5}, sheet())
    assert not leftover.exists()
