from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from realtime.actors import BO, Actor
from realtime.capture import open_source
from realtime.errors import LiveswapError, SourceError, UsageError
from realtime.frame import ImageU8
from realtime.pattern import PatternSource
from realtime.video_file import VideoFile
from tests.clips import ramp_error, write_clip

CODEC_LEVELS = 2.5
"""What H.264 at crf 5 leaves on the ramps (measured: 1.1 at most); a wrong colour matrix or range makes 6 and more."""

INDEX_FIRST = {"movflags": "faststart"}


def read(path: Path) -> list[ImageU8]:
    with VideoFile(path) as video:
        return [frame.image for frame in video]


def sentence(error: pytest.ExceptionInfo[LiveswapError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert ";" in text, "an error ends with its remedy"
    return text


def test_every_frame_comes_in_order_with_its_time(tmp_path: Path) -> None:
    with VideoFile(write_clip(tmp_path / "a.mp4", count=30)) as video:
        before_s = time.monotonic()
        frames = list(video)
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.pts_s for frame in frames] == pytest.approx([1001 * index / 30_000 for index in range(30)])
    assert all(before_s <= frame.captured_s <= time.monotonic() for frame in frames)
    for index in (0, 13, 29):
        assert ramp_error(frames[index].image, index) < CODEC_LEVELS


def test_a_file_tells_what_it_holds_before_it_is_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", count=30, audio="aac")
    with VideoFile(path) as video:
        info = video.info
    assert (info.name, info.width, info.height, info.frames, info.live) == ("a.mp4", 64, 48, 30, False)
    assert info.fps == Fraction(30_000, 1001)
    assert info.path == info.audio_path == path
    assert info.pixel_aspect == 1


def test_variable_frame_rates_keep_their_times(tmp_path: Path) -> None:
    ticks = [0, 700, 1500, 4000, 4001, 9000]
    with VideoFile(write_clip(tmp_path / "a.mp4", ticks=ticks)) as video:
        assert [frame.pts_s for frame in video] == pytest.approx([tick / 30_000 for tick in ticks])


def test_times_count_from_the_start_of_the_file(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.ts", ticks=[90_000, 91_001, 92_002])
    with av.open(str(path)) as container:
        assert container.start_time > 1_000_000, "the clip is meant to start late"
    with VideoFile(path) as video:
        assert [frame.pts_s for frame in video] == pytest.approx([0, 0.0334, 0.0667], abs=0.001)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_turned_videos_come_upright_as_opencv_shows_them(tmp_path: Path, rotation: int) -> None:
    path = write_clip(tmp_path / "a.mp4", count=3, rotation=rotation)
    with VideoFile(path) as video:
        info, frame = video.info, next(iter(video))
    assert frame.image.shape == (info.height, info.width, 3)
    assert (info.width, info.height) == ((64, 48) if rotation == 180 else (48, 64))
    reference = cv2.VideoCapture(str(path))
    _, expected = reference.read()
    reference.release()
    assert np.abs(frame.image.astype(int) - np.asarray(expected).astype(int)).mean() < CODEC_LEVELS


@pytest.mark.parametrize(
    ("matrix", "full_range", "pixel_format"),
    [
        (1, False, "yuv420p"),
        (1, True, "yuv420p"),
        (6, False, "yuv420p"),
        (6, True, "yuv444p"),
        (1, False, "yuv420p10le"),
    ],
)
def test_colours_are_read_as_the_file_marks_them(
    tmp_path: Path, matrix: int, full_range: bool, pixel_format: str
) -> None:
    path = write_clip(tmp_path / "a.mp4", count=2, matrix=matrix, full_range=full_range, pixel_format=pixel_format)
    assert ramp_error(read(path)[0]) < CODEC_LEVELS


@pytest.mark.parametrize(("height", "matrix"), [(48, 6), (720, 1)])
def test_unmarked_colours_are_read_as_players_do(tmp_path: Path, height: int, matrix: int) -> None:
    path = write_clip(tmp_path / "a.mp4", count=1, width=160, height=height, matrix=matrix, marked=False)
    assert ramp_error(read(path)[0]) < CODEC_LEVELS


def test_videos_without_times_or_length_are_read_too(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.h264", count=5)
    with VideoFile(path) as video:
        frames = list(video)
    assert len(frames) == 5
    assert all(later.pts_s > earlier.pts_s for earlier, later in itertools.pairwise(frames))


def test_a_name_that_looks_like_a_protocol_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("a.mp4"), count=2).rename("http:a.mp4")
    with open_source("http:a.mp4") as video:
        assert len(list(video)) == 2


def text_file(path: Path) -> None:
    path.write_text("not a video\n" * 50)


def empty_file(path: Path) -> None:
    path.touch()


def folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    pass


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        track = container.add_stream("aac", rate=44_100)
        assert isinstance(track, av.AudioStream)
        block = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        block.sample_rate = 44_100
        container.mux(track.encode(block))
        container.mux(track.encode(None))


def cut_before_the_index(path: Path) -> None:
    whole = write_clip(path, count=30).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (text_file, "a.mp4", "no video, or only part of one"),
        (text_file, "a.txt", "is a text"),
        (empty_file, "a.mp4", "is empty"),
        (folder, "a.mp4", "is a folder"),
        (nothing, "a.mp4", "does not exist"),
        (sound_only, "a.m4a", "no moving pictures"),
        (cut_before_the_index, "a.mp4", "no video, or only part of one"),
    ],
)
def test_what_is_no_video_is_one_sentence(
    tmp_path: Path, make: Callable[[Path], object], name: str, expected: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(SourceError, match=expected) as error:
        open_source(str(tmp_path / name))
    sentence(error)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_file_that_breaks_on_the_way_gives_its_frames_up_to_there(tmp_path: Path, damage: str) -> None:
    path = write_clip(tmp_path / "a.mp4", count=90, options=INDEX_FIRST)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    noise = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
    path.write_bytes(whole[:middle] if damage == "cut" else whole[:middle] + noise + whole[middle + 4000 :])
    came: list[int] = []
    with VideoFile(path) as video, pytest.raises(SourceError, match="is damaged after") as error:
        came.extend(frame.index for frame in video)
    assert came == list(range(len(came)))
    assert 10 < len(came) < 80
    assert re.search(rf"after {len(came)} frames", sentence(error))


@pytest.mark.parametrize(
    "spec", ["", "0", "camera:Desk", "screen", "rtsp://user:secret@host/x", "pattern:soon", "pattern:-1"]
)
def test_what_is_not_supported_is_a_mistake_in_the_call(spec: str) -> None:
    with pytest.raises(UsageError) as error:
        open_source(spec)
    assert "secret" not in sentence(error)


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    video = VideoFile(write_clip(tmp_path / "a.mp4", count=2))
    video.close()
    video.close()


@pytest.fixture(scope="module")
def bo() -> Actor:
    return Actor(BO)


def test_the_pattern_renders_what_it_is_asked_for_and_always_the_same(bo: Actor) -> None:
    first, second = (list(PatternSource(bo, width=96, height=64, frames=2, seed=4)) for _ in range(2))
    assert [frame.index for frame in first] == [0, 1]
    assert first[1].pts_s == pytest.approx(1 / 30)
    assert first[0].image.shape == (64, 96, 3)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_live_pattern_keeps_time_and_leaves_a_gap_for_who_was_away(bo: Actor) -> None:
    with PatternSource(bo, width=64, height=64, fps=50, live=True, pre_render=2) as pattern:
        frames = iter(pattern)
        first = next(frames)
        time.sleep(0.2)
        later = list(itertools.islice(frames, 10))
    assert pattern.info.live
    assert later[0].index >= 9
    assert [frame.index for frame in later] == sorted({frame.index for frame in later})
    for frame in later:
        assert frame.captured_s - first.captured_s >= (frame.index - first.index) / 50 - 0.005


def test_a_pattern_lasts_as_long_as_it_was_asked_to(bo: Actor) -> None:
    assert PatternSource(bo, width=64, height=64, fps=25, seconds=2).info.frames == 50
    with PatternSource(bo, width=64, height=64, fps=200, frames=20, live=True, pre_render=1) as pattern:
        assert list(pattern)[-1].index <= 19


def test_the_loop_of_a_pattern_runs_forwards_and_backwards(bo: Actor) -> None:
    frames = list(PatternSource(bo, width=64, height=64, frames=7, pre_render=3))
    for index, same in ((3, 1), (4, 0), (5, 1), (6, 2)):
        np.testing.assert_array_equal(frames[index].image, frames[same].image)


@pytest.mark.parametrize(
    "make",
    [
        lambda actor: PatternSource(actor, width=8, frames=1),
        lambda actor: PatternSource(actor, fps=0, frames=1),
        lambda actor: PatternSource(actor, frames=0),
        lambda actor: PatternSource(actor),
    ],
    ids=["too small", "no rate", "no frame", "endless without a loop"],
)
def test_a_pattern_that_cannot_be_is_refused(bo: Actor, make: Callable[[Actor], PatternSource]) -> None:
    with pytest.raises(UsageError):
        make(bo)
