"""A film comes apart into parts that hold each of its pictures once, wherever the borders fall."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from realtime.errors import LiveswapError, SourceError, UsageError
from realtime.frame import ImageU8
from realtime.video_file import VideoFile
from training import film
from training.film import Clip, Film, open_film, read_part
from training.search import Sampler

FRAMES, FPS = 50, 25


def picture(number: int) -> ImageU8:
    """Six vertical bars, dark or bright: the bits of the number."""
    bits = np.array([number >> bit & 1 for bit in range(6)], np.uint8)
    return np.repeat(np.repeat(60 + 120 * bits, 16)[None, :, None], 48, axis=0).repeat(3, axis=2)


def number_of(image: ImageU8) -> int:
    bars = image.reshape(-1, 6, 16, 3).mean(axis=(0, 2, 3)) > 120
    return sum(int(bar) << bit for bit, bar in enumerate(bars))


def write(path: Path, *, ticks: list[int] | None = None, base: int = FPS, codec: str = "libx264") -> Path:
    """FRAMES pictures with B-frames and few key pictures; `ticks`: their times in units of 1 / base seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options={"bf": "2", "g": "20"} if codec == "libx264" else {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, base)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number), "bgr24")
            frame.pts, frame.time_base = (ticks[number] if ticks else number), Fraction(1, base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "PART_S", 0.3)


def all_parts(opened: Film) -> list[tuple[int, float]]:
    """Number and time of every picture, part after part."""
    return [(number_of(frame.image), frame.pts_s) for part in opened.parts for frame in read_part(opened, part)]


def in_one_go(path: Path) -> list[tuple[int, float]]:
    with VideoFile(path) as source:
        return [(number_of(frame.image), round(frame.pts_s, 6)) for frame in source]


def test_parts_hold_every_picture_once(video: Path) -> None:
    opened = open_film(Clip(video))
    assert len(opened.parts) == 7
    assert (opened.frames, opened.first_index, opened.name) == (FRAMES, 0, "film.mp4")
    assert all_parts(opened) == in_one_go(video) == [(i, round(i / FPS, 6)) for i in range(FRAMES)]


@pytest.mark.parametrize("ending", ["mkv", "avi", "ts", "mov"])
def test_parts_hold_every_picture_once_in_any_container(tmp_path: Path, ending: str) -> None:
    codec = "mpeg4" if ending == "avi" else "libx264"
    path = write(tmp_path / f"film.{ending}", codec=codec)
    opened = open_film(Clip(path))
    assert len(opened.parts) > 1
    assert all_parts(opened) == in_one_go(path)
    assert [number for number, _ in all_parts(opened)] == list(range(FRAMES))


def test_pictures_at_irregular_times_are_each_read_once(tmp_path: Path) -> None:
    steps = np.random.default_rng(3).integers(7, 90, FRAMES)  # milliseconds
    path = write(tmp_path / "phone.mkv", ticks=[int(each) for each in np.cumsum(steps) - steps[0]], base=1000)
    opened = open_film(Clip(path))
    assert len(opened.parts) > 4
    assert all_parts(opened) == in_one_go(path)
    assert len(all_parts(opened)) == FRAMES


def test_a_bare_stream_that_knows_no_time_is_read_in_one_part(tmp_path: Path) -> None:
    path = write(tmp_path / "film.m4v", codec="mpeg4")
    opened = open_film(Clip(path))
    assert all_parts(opened) == in_one_go(path)
    assert len(all_parts(opened)) == FRAMES


@pytest.mark.parametrize(("start_s", "end_s"), [(0.4, 1.2), (0.0, 0.04), (1.92, 99.0), (0.41, 0.43 + 0.04)])
def test_a_stretch_holds_the_pictures_between_its_times(video: Path, start_s: float, end_s: float) -> None:
    opened = open_film(Clip(video, start_s, end_s))
    expected = [i for i in range(FRAMES) if start_s <= i / FPS < end_s]
    assert [number for number, _ in all_parts(opened)] == expected
    assert (opened.first_index, opened.frames) == (expected[0], len(expected))


def test_no_two_parts_share_a_slot_of_sampled_time(video: Path) -> None:
    opened = open_film(Clip(video, 0.1), lambda fps: 7.0)
    assert len(opened.parts) > 4
    apart = []
    for part in opened.parts:
        wanted = Sampler(7.0, 0.1)
        apart += [frame.pts_s for frame in read_part(opened, part) if wanted(frame.pts_s)]
    wanted = Sampler(7.0, 0.1)
    assert apart == [pts_s for _, pts_s in in_one_go(video) if pts_s >= 0.1 and wanted(pts_s)]


def test_the_pictures_of_a_folder_come_in_natural_order_each_in_its_own_size(tmp_path: Path) -> None:
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"shot {number}.png"), picture(number)[: 20 + number])
    (tmp_path / "notes.txt").write_text("not a picture")
    opened = open_film(Clip(tmp_path))
    frames = [frame for part in opened.parts for frame in read_part(opened, part)]
    assert [number_of(frame.image) for frame in frames] == list(range(12))
    assert [frame.image.shape[0] for frame in frames] == list(range(20, 32))
    assert [frame.pts_s for frame in frames] == [round(i / 30, 6) for i in range(12)]
    some = open_film(Clip(tmp_path, 0.1, 0.2))
    assert (some.first_index, some.frames) == (3, 3)


def test_the_checksum_of_a_folder_tells_names_and_pictures(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number))
    before = open_film(Clip(tmp_path)).sha256
    (tmp_path / "2.png").rename(tmp_path / "3.png")
    assert open_film(Clip(tmp_path)).sha256 != before


def the_sentence(clip: Clip, kind: type[LiveswapError]) -> str:
    with pytest.raises(kind) as refusal:
        open_film(clip)
    return str(refusal.value)


def test_what_cannot_be_opened_is_told_in_one_sentence(tmp_path: Path, video: Path) -> None:
    assert "does not exist; check the spelling" in the_sentence(Clip(tmp_path / "none.mp4"), UsageError)
    assert "ends at 2.0 s; choose an earlier --from" in the_sentence(Clip(video, 2.0), UsageError)
    assert "holds no picture" in the_sentence(Clip(tmp_path), SourceError)
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    assert "holds 0.0 s of pictures at 30 a second" in the_sentence(Clip(tmp_path, 5.0), UsageError)


@pytest.mark.parametrize(("start_s", "end_s"), [(2.0, 1.0), (1.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_a_stretch_without_length_is_a_mistake(video: Path, start_s: float, end_s: float) -> None:
    with pytest.raises(UsageError, match="give --from below --to"):
        Clip(video, start_s, end_s)


def test_a_folder_with_a_broken_picture_names_it(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    (tmp_path / "1.png").write_bytes(b"no picture")
    opened = open_film(Clip(tmp_path))
    with pytest.raises(SourceError, match=r"1\.png is no picture"):
        list(read_part(opened, opened.parts[0]))
