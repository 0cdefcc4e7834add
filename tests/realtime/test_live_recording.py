"""A video recorded while live: flashes and beeps of the same moment in, a file in which they lie together out."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.frame import Frame, ImageU8
from realtime.sink import TakesSound
from realtime.sound import SoundBlock
from realtime.source import SourceInfo
from realtime.video_file import VideoFile
from realtime.video_writer import VideoWriter
from tests.clips import look, ramp, write_clip
from tests.fakes import info

TICK_S = 1 / 90_000
"""Times are rounded to the ticks of the file."""
BEEP_S = 0.06
"""How long the flash and the beep of a moment last."""
SAME_MOMENT_S = 0.002
"""Flash and beep: AAC spreads the start of a beep over a few samples, and finding it in a file costs another few."""
CLICK = 0.1
"""The largest step between two samples of the tone used here is 0.033; a cut in the middle of it steps by up to 0.5."""

RATE = 48_000


def beeps(start_s: float, seconds: float, *, rate: int = RATE, clock: float = 1.0) -> SoundBlock:
    """What a microphone hears from `start_s` on: a beep as long as BEEP_S at every full second, silence between.

    `clock`: how many seconds its own clock counts in one.
    """
    moments = start_s + np.arange(round(seconds * rate)) / (rate * clock)
    wave = 0.5 * np.sin(2 * np.pi * 1000 * moments) * (np.mod(moments + 1e-9, 1) < BEEP_S)
    return SoundBlock(wave.astype(np.float32)[:, None], rate, start_s)


def flash(moment_s: float) -> ImageU8:
    """White while a beep sounds, else black."""
    return np.full((48, 64, 3), 255 if (moment_s + 1e-9) % 1 < BEEP_S else 0, np.uint8)


def heard(path: Path) -> tuple[NDArray[np.float32], float]:
    """The sound of a file, one channel of it, and the moment of its first sample."""
    with av.open(str(path)) as container:
        pieces = list(container.decode(audio=0))
    first_s = float((pieces[0].pts or 0) * (pieces[0].time_base or 0))
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces]), first_s


def beep_times(path: Path) -> list[float]:
    """When the beeps of a file begin."""
    wave, first_s = heard(path)
    loud = np.flatnonzero(np.abs(wave) > 0.1)
    starts = loud[np.flatnonzero(np.diff(loud, prepend=-RATE) > RATE // 4)]
    return [first_s + float(start) / RATE for start in starts]


def flash_times(path: Path) -> list[float]:
    """When the flashes of a file begin."""
    with VideoFile(path) as video:
        seen = [(frame.pts_s + video.info.start_s, frame.image.mean() > 128) for frame in video]
    return [time_s for (time_s, lit), (_, before) in zip(seen[1:], seen, strict=False) if lit and not before]


def frame(index: int, pts_s: float, image: ImageU8 | None = None) -> Frame:
    return Frame(ramp(shift=index) if image is None else image, index, time.monotonic(), pts_s)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("late_s", [0.0, 0.4])
def test_flash_and_beep_of_one_moment_lie_together_however_late_the_picture_comes(
    tmp_path: Path, suffix: str, late_s: float
) -> None:
    path, start_s = tmp_path / f"out{suffix}", 812.3
    with VideoWriter(path, info(live=True), sound=True) as writer:
        assert isinstance(writer, TakesSound)
        for index in range(150):
            moment_s = start_s + index / 50
            writer.hear(beeps(moment_s, 0.02))
            if moment_s - late_s >= start_s:
                writer.send(frame(index, moment_s - late_s, flash(moment_s - late_s)))
        assert writer.av_offset_ms is not None
        assert abs(writer.av_offset_ms) < 0.1
    assert flash_times(path)
    assert beep_times(path)[: len(flash_times(path))] == pytest.approx(flash_times(path), abs=SAME_MOMENT_S)
    assert flash_times(path)[0] == pytest.approx(0.7, abs=0.001 if suffix == ".mkv" else TICK_S)


def test_sound_from_before_the_first_picture_is_cut_and_it_ends_with_the_last(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", info(live=True), sound=True) as writer:
        for index in range(100):
            writer.hear(beeps(index / 50, 0.02))
        for index in range(15):
            writer.send(frame(index, 0.5 + index / 30))
    wave, first_s = heard(tmp_path / "out.mp4")
    assert len(wave) / RATE + first_s == pytest.approx(0.5, abs=1024 / RATE)
    assert look(tmp_path / "out.mp4").seconds == pytest.approx(0.5)
    assert beep_times(tmp_path / "out.mp4") == []


def test_a_gap_in_the_sound_is_silence_and_what_follows_stands_in_its_place(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", info(live=True), sound=True) as writer:
        for index in range(200):
            if not 60 <= index < 90:
                writer.hear(beeps(index / 50, 0.02))
            writer.send(frame(index, index / 50, flash(index / 50)))
    assert beep_times(tmp_path / "out.mp4") == pytest.approx([0, 1, 2, 3], abs=SAME_MOMENT_S)
    wave, first_s = heard(tmp_path / "out.mp4")
    gap = wave[round((1.21 - first_s) * RATE) : round((1.79 - first_s) * RATE)]
    assert np.abs(gap).max() < 1e-3


@pytest.mark.parametrize("drift", [200e-6, -200e-6])
def test_a_microphone_whose_clock_runs_wrong_stays_with_the_picture_without_a_click(
    tmp_path: Path, drift: float
) -> None:
    """40 s at 0.02 %: uncorrected the sound would be 8 ms off at the end."""
    clock, tone = 1 + drift, 500
    with VideoWriter(tmp_path / "out.mkv", replace(info(live=True), fps=Fraction(2)), sound=True) as writer:
        for second in range(40):
            for part in range(10):
                start_s = (second + part / 10) / clock
                moments = start_s + np.arange(4800) / (RATE * clock)
                wave = 0.5 * np.sin(2 * np.pi * tone * moments).astype(np.float32)
                writer.hear(SoundBlock(wave[:, None], RATE, start_s))
            for half in range(2):
                writer.send(frame(2 * second + half, second + half / 2))
        assert writer.av_offset_ms is not None
        assert 0.2 < abs(writer.av_offset_ms) < 1
        offset_ms = writer.av_offset_ms
    wave, first_s = heard(tmp_path / "out.mkv")
    assert np.abs(np.diff(wave[RATE // 10 : 39 * RATE])).max() < CLICK
    window = np.arange(round((37 - first_s) * RATE), round((38 - first_s) * RATE))
    phase = np.angle((wave[window] * np.exp(-2j * np.pi * tone * (window / RATE + first_s))).sum()) + np.pi / 2
    lag_ms = -1e3 * float(np.angle(np.exp(1j * phase))) / (2 * np.pi * tone)
    assert lag_ms == pytest.approx(offset_ms, abs=0.1)


def test_a_microphone_that_never_says_anything_does_not_hold_the_pictures_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", info(live=True), sound=True)
    for index in range(400):
        writer.send(frame(index, index / 30))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "out.partial.mp4").read_bytes())
    with VideoFile(tmp_path / "cut.mp4") as video:
        assert sum(1 for _ in video) >= 120
    writer.close()
    assert writer.av_offset_ms is None
    assert "has no sound" in caplog.text
    wave, _ = heard(tmp_path / "out.mp4")
    assert len(wave) / RATE == pytest.approx(400 / 30, abs=0.03)
    assert np.abs(wave).max() < 1e-4


@pytest.mark.parametrize("end", ["close", "abort", "discard"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_recording_may_end_at_any_moment(tmp_path: Path, end: str, count: int) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", info(live=True), sound=True)
    writer.hear(beeps(0, 0.1))
    for index in range(count):
        writer.send(frame(index, index / 30))
    getattr(writer, end)()
    writer.hear(beeps(0.1, 0.1))
    writer.close()
    left = [path.name for path in tmp_path.iterdir()]
    assert left == {"close": ["out.mp4"], "abort": ["out.partial.mp4"], "discard": []}[end if count else "discard"]
    for name in left:
        with VideoFile(tmp_path / name) as video:
            assert sum(1 for _ in video) == count


def test_the_log_says_how_far_apart_sound_and_picture_lie(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with VideoWriter(tmp_path / "out.mp4", info(live=True), sound=True) as writer:
        for index in range(30):
            writer.hear(beeps(index / 30, 1 / 30))
            writer.send(Frame(ramp(), index, time.monotonic() - 0.25, index / 30))
    assert "sound and picture lie 0.0 ms apart" in caplog.text
    late_ms = float(caplog.text.partition("the picture came ")[2].partition(" ms")[0])
    assert 250 <= late_ms < 400


def test_pictures_keep_their_true_times_over_gaps_and_repetitions(tmp_path: Path) -> None:
    """Long enough for several fragments, with stalls, dropped frames and frames that are sent again."""
    random = np.random.default_rng(3)
    times = np.cumsum(random.choice([1 / 30, 1 / 29, 2 / 30, 0.4, 2.5], 300, p=[0.5, 0.3, 0.15, 0.04, 0.01]))
    shown: list[float] = []
    with VideoWriter(tmp_path / "out.mp4", info(live=True)) as writer:
        for index, pts_s in enumerate(1000 + times):
            for _ in range(1 + (index % 7 == 3)):
                writer.send(frame(index, float(pts_s)))
                shown.append(float(pts_s - 1000 - times[0]))
    seen = look(tmp_path / "out.mp4").times_s
    assert len(seen) == len(shown)
    assert np.abs(np.array(seen) - shown).max() < 1.6 * TICK_S


def test_a_frame_of_another_shape_keeps_its_shape(tmp_path: Path) -> None:
    white = np.full((40, 20, 3), 255, np.uint8)
    with VideoWriter(tmp_path / "out.mp4", info(live=True), crf=1) as writer:
        writer.send(frame(0, 0.0))
        writer.send(frame(1, 0.1, white))
    with VideoFile(tmp_path / "out.mp4") as video:
        picture = [each.image for each in video][1].astype(int)
    assert picture.shape == (48, 64, 3)
    assert picture[:, 22:42].min() > 240
    assert picture[:, :18].max() < 15
    assert picture[:, 46:].max() < 15


def test_recordings_start_and_stop_while_sound_and_pictures_run_on(tmp_path: Path) -> None:
    """What a key does in the middle of a run: three recordings while another thread speaks all the time."""
    sinks: list[VideoWriter] = []
    over, began_s = threading.Event(), time.monotonic()

    def speak() -> None:
        at_s = 0.0
        while not over.is_set():
            if at_s > time.monotonic() - began_s:
                time.sleep(0.005)
                continue
            for sink in list(sinks):
                sink.hear(beeps(at_s, 0.02))
            at_s += 0.02

    speaker = threading.Thread(target=speak)
    speaker.start()
    try:
        for take in range(3):
            with VideoWriter(tmp_path / f"{take}.mp4", info(live=True), sound=True) as writer:
                sinks.append(writer)
                until_s = time.monotonic() + 1.3
                while (now_s := time.monotonic()) < until_s:
                    writer.send(frame(0, now_s - began_s, flash(now_s - began_s)))
                    time.sleep(0.004)
                sinks.remove(writer)
    finally:
        over.set()
        speaker.join()
    for take in range(3):
        flashes = flash_times(tmp_path / f"{take}.mp4")
        beeped = [time_s for time_s in beep_times(tmp_path / f"{take}.mp4") if time_s > 0.05]
        assert flashes
        # Pictures come every 4 ms and more: a flash is seen up to that much late.
        assert beeped == pytest.approx(flashes, abs=0.02)


def with_start(video: SourceInfo, seek_s: float) -> SourceInfo:
    return replace(video, start_s=video.start_s + seek_s)


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("pcm_s16le", ".mkv")])
@pytest.mark.parametrize("first_pts_s", [0.0, 50.0])
def test_a_file_that_is_read_from_its_middle_keeps_its_sound_in_place(
    tmp_path: Path, codec: str, suffix: str, first_pts_s: float
) -> None:
    """A beep after 3.6 s of the source lies at 1.3 s of an output that begins at 2.3 s."""
    source, seek_s = beeping_clip(tmp_path / f"in{suffix}", codec), 2.3
    with VideoFile(source) as video:
        begins = replace(with_start(video.info, seek_s - first_pts_s), first_pts_s=first_pts_s)
        with VideoWriter(tmp_path / "out.mp4", begins) as writer:
            for each in video:
                if each.pts_s >= seek_s:
                    writer.send(replace(each, pts_s=each.pts_s - seek_s + first_pts_s))
    seen = look(tmp_path / "out.mp4")
    assert min(seen.times_s[0], seen.sound_starts_s) > -0.03
    offset_s = 3.6 - seek_s
    assert beep_times(tmp_path / "out.mp4") == pytest.approx([offset_s], abs=SAME_MOMENT_S)
    wave, first_s = heard(tmp_path / "out.mp4")
    assert len(wave) / RATE + first_s == pytest.approx(seen.seconds, abs=0.06)


def beeping_clip(path: Path, codec: str) -> Path:
    """Five seconds of pictures with one beep after 3.6 s."""
    silent = write_clip(path.with_name("silent.mp4"), count=150)
    with av.open(str(silent)) as pictures, av.open(str(path), "w") as output:
        video = output.add_stream_from_template(pictures.streams.video[0])
        sound = output.add_stream(codec, rate=RATE)
        assert isinstance(sound, av.AudioStream)
        moments = np.arange(5 * RATE) / RATE
        wave = 0.5 * np.sin(2 * np.pi * 1000 * moments) * (moments >= 3.6) * (moments < 3.6 + BEEP_S)
        for first in range(0, 5 * RATE, 960):
            piece = np.repeat(wave[None, first : first + 960], 2, axis=0).astype(np.float32)
            block = av.AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            block.sample_rate, block.pts, block.time_base = RATE, first, Fraction(1, RATE)
            output.mux(sound.encode(block))
        output.mux(sound.encode(None))
        for packet in pictures.demux(pictures.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                output.mux(packet)
    return path
