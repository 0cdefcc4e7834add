"""The whole product on network streams: real servers on this machine, swapped, cut, reconnected, recorded."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from realtime.config import LiveConfig
from realtime.frame import ImageU8
from realtime.live import Live
from realtime.pattern import PatternSource
from realtime.report import Progress, RunReport
from realtime.score import psnr
from realtime.video_file import VideoFile
from tests.stream_server import HttpServer, RtspServer, Station

MODEL = Path(__file__).resolve().parents[1] / "realtime/models/demo.dfm"
SIZE = 320, 240
LOOP = 24
"""Rendered pictures, shown forwards and backwards."""
BEFORE, AFTER = 25, 60
"""Frames that are swapped before the stream is cut, and until the run is stopped."""
RAW_DB = 32.0
"""A face that came through two encoders but was not swapped is nearer to the performer's (35 dB and more), a swapped
one much farther away (25 dB at most)."""
OUT_OF_STEP_MS = 60.0
"""Sound and picture of a stream lie closer: a third of a picture at 25 a second, and room for a busy machine."""


@cache
def performance() -> list[ImageU8]:
    with PatternSource(width=SIZE[0], height=SIZE[1], frames=LOOP, hand=False, yaw=10, pitch=5, roll=5) as pattern:
        return [frame.image for frame in pattern]


def picture(number: int, width: int, height: int) -> ImageU8:
    place = number % (2 * LOOP - 2)
    image = performance()[min(place, 2 * LOOP - 2 - place)]
    same = (width, height) == SIZE
    return image if same else np.asarray(cv2.resize(image, (width, height)), np.uint8)


@pytest.fixture
def station() -> Station:
    station = Station(gop=10, sound=True)
    station.size, station.picture = SIZE, picture
    performance()
    station.on_air_s += 0.0
    return station


def swap_and_cut(server: HttpServer | RtspServer, out: Path, url: str) -> RunReport:
    """Record the swapped stream, which is cut once on the way."""
    stop, cut = threading.Event(), False
    live = Live(
        LiveConfig(MODEL, source=url, sinks=(str(out), "null"), threads=1),
        geometry=lambda model: model.geometry,
        stop=stop,
    )

    def watch(now: Progress) -> None:
        nonlocal cut
        if now.done >= BEFORE and not cut:
            cut = True
            server.cut()
        if now.done >= AFTER and now.state == "live":
            stop.set()

    guard = threading.Timer(60, stop.set)
    guard.start()
    try:
        return live.run(watch)
    finally:
        guard.cancel()


@pytest.mark.parametrize("kind", ["rtsp", "http"])
def test_a_stream_is_swapped_cut_reconnected_and_recorded_with_its_sound(
    station: Station, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "swapped.mp4"
    with (RtspServer if kind == "rtsp" else HttpServer)(station) as server:
        report = swap_and_cut(server, out, server.url())
        assert server.visits >= 2, "it came back"
    assert report.states["live"] > BEFORE
    assert report.raw_face_frames == 0
    assert report.states["slate"] >= 1, "the card was up while the stream was away"
    assert abs(report.av_offset_ms[out.name]) < OUT_OF_STEP_MS
    with VideoFile(out) as video:
        frames = [frame.image for frame in video]
    assert len(frames) == report.sinks[out.name]
    middle = (slice(60, 180), slice(110, 210))
    closest = max(psnr(frame[middle], raw[middle]) for frame in frames[:: len(frames) // 8] for raw in performance())
    assert closest < RAW_DB
    with av.open(str(out)) as container:
        assert [stream.codec_context.name for stream in container.streams.audio] == ["aac"]
        samples = [block.to_ndarray() for block in container.decode(audio=0)]
    assert np.abs(np.concatenate(samples, axis=-1)).max() > 0.1, "the tone of the station is in it"


def test_a_stream_that_changes_its_size_keeps_the_size_of_the_output(station: Station, tmp_path: Path) -> None:
    stop = threading.Event()
    out = tmp_path / "swapped.mp4"
    with HttpServer(station) as server:
        live = Live(
            LiveConfig(MODEL, source=server.url(), sinks=(str(out),), threads=1),
            geometry=lambda model: model.geometry,
            stop=stop,
        )

        def watch(now: Progress) -> None:
            if now.done >= BEFORE:
                station.size = (240, 240)
            if now.done >= AFTER:
                stop.set()

        report = live.run(watch)
    assert report.raw_face_frames == 0
    with VideoFile(out) as video:
        assert (video.info.width, video.info.height) == SIZE
        assert len(list(video)) == report.sinks[out.name]
