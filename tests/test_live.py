"""A whole run without a window: what a LiveConfig asks for happens."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.config import LiveConfig
from realtime.errors import ModelError, SinkError, UsageError
from realtime.frame import Frame
from realtime.live import Live
from realtime.pattern import PatternSource
from realtime.recorder import InputRecorder
from realtime.replay import ReplaySource
from realtime.report import Progress, RunReport
from realtime.video_writer import VideoWriter
from tests.community_dfm import random_dfm

DEMO = Path(__file__).resolve().parents[1] / "realtime/models/demo.dfm"
SIZE = 320, 240


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of the rendered performer."""
    path = tmp_path_factory.mktemp("live") / "performer.mp4"
    pattern = PatternSource(width=SIZE[0], height=SIZE[1], frames=60, hand=False)
    with pattern, VideoWriter(path, pattern.info) as video:
        for frame in pattern:
            video.send(frame)
    return path


def go(config: LiveConfig, act: Callable[[Live, Progress], None] | None = None) -> tuple[Live, RunReport]:
    live = Live(config, geometry=lambda model: model.geometry)
    return live, live.run(lambda now: act(live, now) if act else None)


def test_a_file_keeps_every_frame(clip: Path, tmp_path: Path) -> None:
    live, report = go(LiveConfig(DEMO, source=str(clip), sinks=(str(tmp_path / "out.mp4"),), threads=1))
    assert not live.live
    assert (report.frames_out, report.states) == (60, {"live": 60})
    assert report.av_offset_ms == {}, "there is no sound"


def test_a_file_that_only_goes_to_a_stream_plays_at_its_own_speed(clip: Path) -> None:
    config = LiveConfig(DEMO, source=str(clip), sinks=("udp://127.0.0.1:9",), threads=1)
    live, report = go(config)
    assert live.live
    assert 1.8 < report.seconds < 6
    assert report.raw_face_frames == 0


def test_a_file_begins_where_it_is_told(clip: Path, tmp_path: Path) -> None:
    _, report = go(LiveConfig(DEMO, source=str(clip), sinks=(str(tmp_path / "a.mp4"),), seek_s=1.0, threads=1))
    assert report.frames_out == 30


def test_what_went_in_is_recorded_and_replayed_bit_for_bit(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[tuple[int, int]]] = []
    send = VideoWriter.send

    def watched(writer: VideoWriter, frame: Frame) -> None:
        sent[-1].append((frame.index, zlib.crc32(np.ascontiguousarray(frame.image).data)))
        send(writer, frame)

    monkeypatch.setattr(VideoWriter, "send", watched)
    kept = tmp_path / "input"
    for source, record in ((str(clip), kept), (f"replay:{kept}", None)):
        sent.append([])
        out = tmp_path / f"{len(sent)}.mp4"
        go(LiveConfig(DEMO, source=source, sinks=(str(out),), record_input=record, threads=1))
    assert len(sent[0]) == 60
    assert sent[0] == sent[1]
    with ReplaySource(kept) as replay:
        assert replay.settings["model"] == "demo.dfm"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"keep": Path("missing-folder")}, "the folder missing-folder for recordings"),
        ({"loop": True, "sinks": ("endless.mp4",)}, "would fill the disk"),
    ],
)
def test_what_cannot_go_well_is_told_before_anything_opens(clip: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Live(LiveConfig(DEMO, source=str(clip), **settings), geometry=lambda model: model.geometry)


def test_a_recording_of_the_input_that_cannot_begin_ends_the_run_before_a_frame(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = LiveConfig(DEMO, source=str(clip), record_input=tmp_path / "file" / "input", threads=1)
    with pytest.raises(SinkError, match="input"):
        go(config)


def test_a_recording_of_the_input_that_breaks_is_told_and_the_swap_goes_on(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = InputRecorder.record

    def full(recorder: InputRecorder, frame: Frame) -> None:
        if frame.index >= 5:
            raise SinkError("the disk is full; free some space")
        record(recorder, frame)

    monkeypatch.setattr(InputRecorder, "record", full)
    config = LiveConfig(
        DEMO, source=str(clip), sinks=(str(tmp_path / "out.mp4"),), record_input=tmp_path / "input", threads=1
    )
    _, report = go(config)
    assert report.states == {"live": 60}
    assert report.failed_sinks == {"input": "the disk is full; free some space"}


def test_a_live_run_without_a_swap_says_why(clip: Path) -> None:
    _, report = go(LiveConfig(DEMO, source=str(clip), sinks=("udp://127.0.0.1:9",), face=9, threads=1))
    assert report.fruitless is not None
    assert "the performer was not in view" in report.fruitless
    _, report = go(LiveConfig(DEMO, source=str(clip), sinks=("udp://127.0.0.1:9",), latency_cap_ms=1, threads=1))
    assert report.fruitless is not None
    assert "older than the latency cap" in report.fruitless


def test_further_models_are_looked_at_before_anything_opens(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.dfm").write_bytes(b"no model")
    config = LiveConfig(DEMO, source=str(clip), more_models=(tmp_path / "bad.dfm",))
    with pytest.raises(ModelError):
        Live(config, geometry=lambda model: model.geometry)


def test_a_model_that_is_none_is_told_before_anything_opens(tmp_path: Path) -> None:
    (tmp_path / "bad.dfm").write_bytes(b"no model")
    with pytest.raises(ModelError):
        Live(LiveConfig(tmp_path / "bad.dfm", source="0"), geometry=lambda model: model.geometry)


def test_models_are_changed_while_the_picture_goes_on(clip: Path, tmp_path: Path) -> None:
    other = random_dfm(tmp_path / "other.dfm", resolution=64)
    stop = threading.Event()
    config = LiveConfig(
        DEMO, source=str(clip), loop=True, sinks=("udp://127.0.0.1:9",), more_models=(other,), threads=1
    )
    live = Live(config, geometry=lambda model: model.geometry, stop=stop)
    asked_at = changed_at = 0

    def act(now: Progress) -> None:
        nonlocal asked_at, changed_at
        if now.done > 10 and not asked_at:
            asked_at = now.done
            live.desk.press("m")
        if asked_at and not changed_at and any("model other.dfm" in note for note in live.desk.notes()):
            changed_at = now.done
        if changed_at and now.done > changed_at + 15:
            stop.set()

    guard = threading.Timer(60, stop.set)
    guard.start()
    report = live.run(act)
    guard.cancel()
    assert changed_at, "the other model loaded"
    assert report.states["live"] > changed_at
    assert report.failed_frames == 0
    assert report.raw_face_frames == 0
