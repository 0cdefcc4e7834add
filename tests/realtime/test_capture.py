from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from realtime.actors import BO, Actor
from realtime.capture import SourceOptions, is_live, open_source
from realtime.errors import LiveswapError, SourceError, UsageError
from realtime.frame import ImageU8
from realtime.pattern import PatternSource
from realtime.sinks import open_sink
from realtime.video_file import VideoFile
from tests.clips import look, ramp_error, write_clip

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
        (folder, "a.mp4", "holds no picture"),
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
    "spec", ["", "webcam", "ftp://user:secret@host/x", "file:///a.mp4", "pattern:soon", "pattern:-1", "screen:left"]
)
def test_what_cannot_be_meant_is_a_mistake_in_the_call(spec: str) -> None:
    with pytest.raises(UsageError) as error:
        open_source(spec)
    assert "secret" not in sentence(error)


def test_a_mistake_in_the_source_tells_what_works() -> None:
    with pytest.raises(UsageError, match=r"webcam is no source; give a camera .* a stream .* pattern"):
        open_source("webcam")


@pytest.mark.parametrize(
    ("spec", "live"),
    [
        ("0", True),
        ("camera:Desk", True),
        ("screen", True),
        ("screen:0,0,640x480", True),
        ("RTSP://host/x", True),
        ("udp://@:5000", True),
        ("pattern", True),
        ("pattern:3", True),
        ("a.mp4", False),
        ("./screen", False),
        (".", False),
        ("replay:folder", False),
    ],
)
def test_live_is_what_runs_on_when_nobody_reads(spec: str, live: bool) -> None:
    assert is_live(spec) is live


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("0", SourceOptions(seek_s=1)),
        ("screen", SourceOptions(width=640, height=480)),
        ("rtsp://host/x", SourceOptions(loop=True)),
        ("rtsp://host/x", SourceOptions(fps=30)),
        ("a.mp4", SourceOptions(fps=30)),
        ("replay:folder", SourceOptions(mirror=True)),
        ("pattern", SourceOptions(loop=True)),
        ("pattern", SourceOptions(fps=-1)),
    ],
)
def test_a_wish_that_a_source_cannot_fulfil_is_a_mistake_in_the_call(spec: str, options: SourceOptions) -> None:
    with pytest.raises(UsageError) as error:
        open_source(spec, options)
    sentence(error)


def test_a_file_that_is_called_like_a_source_is_named_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("a.mp4"), count=2).rename("screen")
    with open_source("./screen") as video:
        assert len(list(video)) == 2


def test_a_camera_that_is_not_there_is_told_at_once() -> None:
    began_s = time.monotonic()
    with pytest.raises(SourceError) as error:
        open_source("camera:there is no such camera")
    sentence(error)
    assert time.monotonic() - began_s < 10, "nobody waits for what was never there"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a screen")
def test_a_screen_without_a_display_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9999")
    with pytest.raises(SourceError) as error:
        open_source("screen")
    sentence(error)


def test_a_mirror_exchanges_left_and_right(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4", count=2))
    with open_source(path) as plain, open_source(path, SourceOptions(mirror=True)) as mirrored:
        for one, other in zip(plain, mirrored, strict=True):
            np.testing.assert_array_equal(one.image[:, ::-1], other.image)
            assert (one.index, one.pts_s) == (other.index, other.pts_s)
        assert mirrored.info == plain.info


def test_a_folder_of_pictures_is_a_source(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4, 6, 3), number, np.uint8))
    with open_source(str(tmp_path), SourceOptions(images_fps=10, seek_s=0.1)) as folder:
        assert [frame.image[0, 0, 0] for frame in folder] == [1, 2]
        assert folder.info.fps == 10
    with open_source(str(tmp_path), SourceOptions(fps=5)) as folder:
        assert folder.info.fps == 5


def test_a_pattern_has_the_size_and_rate_that_were_asked_for() -> None:
    with open_source("pattern:0.1", SourceOptions(width=96, height=64, fps=12.5)) as pattern:
        assert (pattern.info.width, pattern.info.height, pattern.info.fps) == (96, 64, Fraction(25, 2))


SEEKABLE = [
    ("a.mp4", "0", 30),
    ("a.mp4", "3", 30),
    ("a.mkv", "3", 30),
    ("a.mkv", "0", 300),  # one whole picture at the start
    ("a.ts", "2", 12),
    ("a.avi", "0", 10),
    ("a.h264", "0", 10),  # no times, no index
]
"""Container, pictures between two others that look ahead, and the distance of whole pictures."""


@pytest.mark.parametrize(("name", "b_frames", "gop"), SEEKABLE)
def test_a_start_on_the_way_is_exact_to_the_frame(tmp_path: Path, name: str, b_frames: str, gop: int) -> None:
    path = write_clip(tmp_path / name, count=60, encoding={"bf": b_frames, "g": str(gop)})
    with VideoFile(path) as video:
        every = list(video)
    for wanted_s in (0.01, 0.5, every[30].pts_s, every[30].pts_s + 0.001, every[-1].pts_s - 0.0005):
        expected = [frame for frame in every if frame.pts_s >= wanted_s - 1e-5]
        with VideoFile(path, seek_s=wanted_s) as video:
            came = list(video)
        assert len(came) == len(expected)
        assert [frame.index for frame in came] == list(range(len(came)))
        for one, other in zip(came, expected, strict=True):
            np.testing.assert_array_equal(one.image, other.image)
            assert one.pts_s == pytest.approx(other.pts_s - expected[0].pts_s, abs=1e-6)
        if name != "a.h264":
            # the sound of the source must be found at the same place in the file
            assert video.info.start_s == pytest.approx(VideoFile(path).info.start_s + expected[0].pts_s, abs=1e-6)
            if name != "a.avi":  # counts in 1/600 s and says so
                assert video.info.frames is not None
                assert abs(video.info.frames - len(came)) <= 2


def test_the_sound_starts_where_the_picture_does(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", count=60, audio="aac")
    for start_s in (0.0, 1.0):
        with open_source(str(path), SourceOptions(seek_s=start_s)) as video:
            sink = open_sink(str(tmp_path / f"out{start_s}.mp4"), video.info)
            for frame in video:
                sink.send(frame)
            sink.close()
    whole, cut = look(tmp_path / "out0.0.mp4"), look(tmp_path / "out1.0.mp4")
    assert len(cut.times_s) == 30
    assert len(whole.times_s) == 60
    assert whole.sound.endswith(cut.sound[len(cut.sound) // 2 :])
    packet_s = 1024 / 44_100
    assert abs(cut.sound_starts_s) <= packet_s
    assert len(cut.sound) == pytest.approx(len(whole.sound) / 2, rel=0.15)


@pytest.mark.parametrize("seek_s", [100.0, -1.0, float("nan")])
def test_a_start_outside_the_video_is_a_mistake_in_the_call(tmp_path: Path, seek_s: float) -> None:
    path = write_clip(tmp_path / "a.mp4", count=10)
    with pytest.raises(UsageError) as error:
        VideoFile(path, seek_s=seek_s)
    sentence(error)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.h264"])
def test_a_loop_starts_again_and_its_time_runs_on(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, count=12)
    with VideoFile(path) as video:
        once = list(video)
    with VideoFile(path, loop=True) as video:
        assert video.info.frames is None
        came = list(itertools.islice(video, 30))
    assert [frame.index for frame in came] == list(range(30))
    step_s = 1 / float(video.info.fps)
    for frame in came:
        turn, place = divmod(frame.index, 12)
        np.testing.assert_array_equal(frame.image, once[place].image)
        assert frame.pts_s == pytest.approx(turn * 12 * step_s + once[place].pts_s, abs=0.001)


def test_a_loop_runs_from_where_it_started_and_leaves_the_sound_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_clip(tmp_path / "a.mp4", count=12, audio="aac")
    with caplog.at_level("INFO"), VideoFile(path, seek_s=0.3, loop=True) as video:
        came = list(itertools.islice(video, 7))
    assert video.info.audio_path is None
    assert "without its sound" in caplog.text
    for first, again in zip(came[:3], came[3:6], strict=True):
        np.testing.assert_array_equal(first.image, again.image)
    assert came[3].pts_s == pytest.approx(3 / 29.97, abs=0.001)


def test_a_loop_whose_file_disappears_is_one_sentence(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", count=5)
    with VideoFile(path, loop=True) as video:
        frames = iter(video)
        assert len(list(itertools.islice(frames, 5))) == 5
        path.unlink()
        with pytest.raises(SourceError, match="does not exist") as error:
            next(frames)
    sentence(error)


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
