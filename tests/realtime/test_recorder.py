"""Recording the input: a private folder, plain sentences for what goes wrong, and nothing lost to a kill."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from realtime.errors import SinkError, UsageError
from realtime.frame import Frame
from realtime.recorder import InputRecorder
from realtime.replay import ReplaySource
from realtime.source import Colour
from tests.clips import ramp
from tests.fakes import info

FRAME = Frame(ramp(), 0, 1.0, 0.0)


def test_a_recording_is_for_its_owner_alone_and_the_log_says_what_it_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "made").mkdir(mode=0o755)
    for folder in (tmp_path / "new", tmp_path / "made"):
        with InputRecorder(folder, info(live=True), {}) as recorder:
            recorder.record(FRAME)
        if sys.platform != "win32":
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert caplog.text.count(f"the input is recorded in {folder}: raw faces") == 1


def test_it_says_how_the_run_was_set(tmp_path: Path) -> None:
    source = replace(info(live=True), name="Webcam 3", fps=Fraction(30_000, 1001), colour=Colour(1, 1, 1))
    settings = {"model_sha256": "ab" * 32, "knobs": {"morph": 0.1 + 0.2}}
    InputRecorder(tmp_path / "r", source, settings).close()
    about = json.loads((tmp_path / "r" / "recording.json").read_text())
    assert about["schema"] == "liveswap-recording-1"
    assert about["settings"] == settings
    assert about["info"]["name"] == "Webcam 3"
    assert (about["info"]["width"], about["info"]["height"], about["info"]["fps"]) == (64, 48, "30000/1001")
    assert str(tmp_path) not in json.dumps(about)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"dear")
    mode = tmp_path.stat().st_mode
    with pytest.raises(UsageError, match="is not empty; choose a new folder"):
        InputRecorder(tmp_path, info(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    assert tmp_path.stat().st_mode == mode


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("missing/r", "does not exist; create it"),
        ("file", "check the disk"),
        ("file/r", "does not exist; create it"),
        pytest.param(
            "/sys/r", "choose another place", marks=pytest.mark.skipif(sys.platform != "linux", reason="needs /sys")
        ),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, place: str, expected: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError, match=expected) as error:
        InputRecorder(tmp_path / place, info(), {})
    assert "\n" not in str(error.value)


def test_frames_of_another_size_end_the_recording_in_one_sentence(tmp_path: Path) -> None:
    with InputRecorder(tmp_path / "r", info(), {}) as recorder:
        recorder.record(FRAME)
        with pytest.raises(
            SinkError, match=r"changed from 64x48 to 128x96 .*; record the new size into another folder"
        ):
            recorder.record(Frame(ramp(96, 128), 1, 1.1, 0.1))
    with ReplaySource(tmp_path / "r") as replayed:
        assert [frame.index for frame in replayed] == [0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["frames.nut", "frames.jsonl"])
def test_a_disk_that_gets_full_is_one_sentence_and_what_was_written_can_be_replayed(tmp_path: Path, name: str) -> None:
    recorder = InputRecorder(tmp_path / "r", info(), {})
    for index in range(3):
        recorder.record(replace(FRAME, index=index))
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), descriptor_of(tmp_path / "r" / name))
    for _ in range(2):
        with pytest.raises(SinkError, match="is full; free some space"):
            recorder.record(replace(FRAME, index=3))
    with pytest.raises(SinkError, match="is full"):
        recorder.close()
    recorder.close()
    with ReplaySource(tmp_path / "r") as replayed:
        assert [frame.index for frame in replayed] == [0, 1, 2]


def descriptor_of(path: Path) -> int:
    """The number under which this process has `path` open."""
    (number,) = [int(each.name) for each in Path("/proc/self/fd").iterdir() if each.exists() and each.samefile(path)]
    return number


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_what_was_recorded_before_a_kill_can_be_replayed(tmp_path: Path) -> None:
    code = f"""
import itertools
from realtime.frame import Frame
from realtime.recorder import InputRecorder
from tests.clips import ramp
from tests.fakes import info
recorder = InputRecorder({str(tmp_path / "r")!r}, info(live=True), {{}})
for index in itertools.count():
    recorder.record(Frame(ramp(shift=index), index, index / 7, 0.0))
    print(index, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [int(child.stdout.readline()) for _ in range(40)]
    child.kill()
    said += [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    with ReplaySource(tmp_path / "r") as replayed:
        frames = list(replayed)
    assert len(frames) >= len(said) >= 40
    assert [frame.pts_s for frame in frames] == [index / 7 for index in range(len(frames))]
    assert all((frame.image == ramp(shift=frame.index)).all() for frame in frames)


def test_an_event_belongs_to_the_frame_that_follows_it(tmp_path: Path) -> None:
    with InputRecorder(tmp_path / "r", info(live=True), {}) as recorder:
        recorder.note({"morph": 0.1 + 0.2})
        recorder.record(replace(FRAME, index=5))
        recorder.record(replace(FRAME, index=7))
        recorder.note({"text": 'per cent %d and "quotes"\n'})
        recorder.note({"second": [1, None, True]})
        recorder.record(replace(FRAME, index=12))
        recorder.note({"after": "the last"})
    with ReplaySource(tmp_path / "r") as replayed:
        assert replayed.events == [
            (5, {"morph": 0.1 + 0.2}),
            (12, {"text": 'per cent %d and "quotes"\n'}),
            (12, {"second": [1, None, True]}),
            (13, {"after": "the last"}),
        ]
        assert [frame.index for frame in replayed] == [5, 7, 12]


def test_events_may_come_from_another_thread(tmp_path: Path) -> None:
    with InputRecorder(tmp_path / "r", info(live=True), {}) as recorder:

        def turn_knobs() -> None:
            for number in range(500):
                recorder.note({"number": number})

        thread = threading.Thread(target=turn_knobs)
        thread.start()
        for index in range(50):
            recorder.record(replace(FRAME, index=index))
        thread.join()
    with ReplaySource(tmp_path / "r") as replayed:
        assert [event["number"] for _, event in replayed.events] == list(range(500))
        assert len(list(replayed)) == 50


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), "x" * 100_000])
def test_what_a_recording_cannot_hold_is_refused_when_it_is_noted(tmp_path: Path, value: object) -> None:
    with InputRecorder(tmp_path / "r", info(), {}) as recorder:
        recorder.record(FRAME)
        with pytest.raises((ValueError, TypeError)):
            recorder.note({"value": value})
    with ReplaySource(tmp_path / "r") as replayed:
        assert replayed.events == []


def test_settings_that_are_no_plain_values_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        InputRecorder(tmp_path / "r", info(), {"knob": math.nan})
    assert not (tmp_path / "r").exists()


def test_a_closed_recording_takes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    recorder = InputRecorder(tmp_path / "r", info(), {})
    recorder.record(FRAME)
    recorder.close()
    recorder.close()
    assert caplog.text.count("1 frames recorded") == 1
    with pytest.raises(ValueError, match="closed"):
        recorder.record(FRAME)
