"""What the person at the terminal reads."""

from __future__ import annotations

import io
import logging

import pytest

from realtime import screen
from realtime.screen import Meter, Screen, log_lines


class Terminal(io.StringIO):
    """An error output that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every update becomes a line."""
    monkeypatch.setattr(screen, "PLAIN_EVERY_S", 0.0)


def test_results_go_to_the_output_and_notes_to_the_error_output(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(quiet=False, json_on_stdout=False).say("done")
    Screen(quiet=False, json_on_stdout=False).note("by the way")
    assert capsys.readouterr() == ("done\n", "by the way\n")


def test_what_files_say_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(quiet=False, json_on_stdout=False).say("one\x1b[2J\ntwo\u202e\udcff")
    assert capsys.readouterr().out == "one [2J\ntwo  \n"


def test_results_leave_the_output_to_json(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(quiet=False, json_on_stdout=True).say("done")
    assert capsys.readouterr() == ("", "done\n")


def test_quiet_keeps_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Screen(quiet=True, json_on_stdout=False)
    quiet.say("done")
    quiet.note("by the way")
    with quiet.progress("work") as meter:
        meter.update(1, 2)
    quiet.warn("careful")
    assert capsys.readouterr() == ("", "liveswap: warning: careful\n")


def test_progress_is_a_line_with_share_time_left_and_note(talkative: None, capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("train") as meter:
        meter.update(25, 100, "step 25", left_s=3725)
        meter.update(100, 100, "step 100", left_s=0)
    assert capsys.readouterr().err.splitlines() == [
        "train: 25 %, 1:02:05 left, step 25",
        "train: 100 %, 0:00 left, step 100",
    ]


def test_without_a_total_there_is_no_share_and_no_time_left(
    talkative: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with Meter("run") as meter:
        meter.update(7, None, "7 frames")
    assert capsys.readouterr().err == "run: 7 frames\n"


def test_progress_is_silent_between_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("run") as meter:
        for done in range(100):
            meter.update(done, 100)
    assert capsys.readouterr().err == ""


def test_the_next_part_of_the_work_has_its_own_pace(
    talkative: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr("realtime.screen.time.monotonic", lambda: now_s)
    meter = Meter("extract")
    now_s = 100.0
    meter.update(10, 10, "first")
    meter.update(0, 10, "second")
    now_s = 110.0
    meter.update(5, 10, "second")
    assert capsys.readouterr().err.splitlines()[-1] == "extract: 50 %, 0:10 left, second"


def test_on_a_terminal_progress_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Meter("extract") as meter:
        meter.update(5, 10, "a.mp4")
    assert "50%" in terminal.getvalue()
    assert "a.mp4" in terminal.getvalue()


def test_log_records_of_our_rooms_become_lines(capsys: pytest.CaptureFixture[str]) -> None:
    room = logging.getLogger("realtime.somewhere")
    with log_lines(verbose=0, quiet=False):
        room.info("nobody asked")
        room.warning("the badge is off")
    with log_lines(verbose=1, quiet=False):
        room.info("asked for")
    with log_lines(verbose=0, quiet=True):
        room.warning("not now")
    assert capsys.readouterr().err.splitlines() == ["liveswap: warning: the badge is off", "liveswap: info: asked for"]
