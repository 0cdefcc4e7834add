from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.errors import SourceError, UsageError
from realtime.frame import ImageU8
from realtime.images import MAX_PIXELS, ImageFolder, keeps_its_word, natural_order, stated_size

LOSSY_LEVELS = 4
"""What JPEG and WebP at their best leave on one even colour (measured: 2 at most)."""


def picture(grey: int, width: int = 8, height: int = 6) -> ImageU8:
    return np.full((height, width, 3), grey, np.uint8)


def write(path: Path, image: ImageU8) -> Path:
    best = [cv2.IMWRITE_JPEG_QUALITY, 100] if path.suffix in (".jpg", ".jpeg") else []
    ok, data = cv2.imencode(path.suffix, image, best)
    assert ok
    path.write_bytes(data.tobytes())
    return path


def greys(folder: ImageFolder) -> list[int]:
    return [int(frame.image[3, 4, 0]) for frame in folder]


def test_pictures_come_in_the_order_a_person_would_give_them(tmp_path: Path) -> None:
    for number, name in enumerate(("Shot 1.png", "shot 2.png", "shot 10.png", "shot 10b.png", "title.png")):
        write(tmp_path / name, picture(10 * number))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "more.png").mkdir()
    with ImageFolder(tmp_path, fps=25) as folder:
        assert folder.info.frames == 5
        frames = list(folder)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 10, 20, 30, 40]
    assert [frame.index for frame in frames] == list(range(5))
    assert [frame.pts_s for frame in frames] == [0, 0.04, 0.08, 0.12, 0.16]


def test_names_with_strange_digits_are_sorted_too() -> None:
    assert sorted(["a²", "a10", "a9", "٣", ""], key=natural_order)


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".png", ".webp", ".bmp"])
def test_every_kind_is_read_and_its_size_known_before(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"bläh{ending}", picture(200, 30, 20))
    assert stated_size(path.read_bytes()) == (30, 20)
    frame = next(iter(ImageFolder(tmp_path)))
    assert frame.image.shape == (20, 30, 3)
    assert np.abs(frame.image.astype(int) - 200).max() <= LOSSY_LEVELS


def test_pictures_of_another_size_are_fitted_into_the_first(tmp_path: Path) -> None:
    write(tmp_path / "1.png", picture(100, 40, 20))
    write(tmp_path / "2.png", picture(200, 10, 10))
    _, second = ImageFolder(tmp_path)
    assert second.image.shape == (20, 40, 3)
    assert (second.image[:, 10:30] == 200).all()
    assert not second.image[:, :10].any()
    assert not second.image[:, 30:].any()


def test_a_loop_never_ends_and_a_start_skips(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.bmp", picture(number))
    folder = ImageFolder(tmp_path, fps=10, seek_s=0.15, loop=True)
    assert folder.info.frames is None
    frames = list(itertools.islice(folder, 5))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [2, 3, 2, 3, 2]
    assert [frame.index for frame in frames] == list(range(5))
    assert [frame.pts_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path / "a.png", picture(1, 12, 10))
    info = ImageFolder(tmp_path, fps=29.97).info
    assert (info.name, info.width, info.height, info.live) == (tmp_path.name, 12, 10, False)
    assert info.fps == Fraction(2997, 100)
    assert info.time_base <= Fraction(1, 90_000)


def test_an_unreadable_picture_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    write(tmp_path / "1.jpg", picture(1))
    (tmp_path / "2.jpg").write_bytes(b"\xff\xd8 no more than this")
    frames = iter(ImageFolder(tmp_path))
    next(frames)
    with pytest.raises(SourceError, match=r"2\.jpg is no picture") as error:
        next(frames)
    assert ";" in str(error.value)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp"])
def test_a_truncated_picture_is_refused(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    path = write(tmp_path / f"a{ending}", noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="damaged"):
        ImageFolder(tmp_path)


def test_a_picture_that_disappears_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "1.png", picture(1))
    write(tmp_path / "2.png", picture(1))
    frames = iter(ImageFolder(tmp_path))
    next(frames)
    (tmp_path / "2.png").unlink()
    with pytest.raises(SourceError, match=r"2\.png does not exist"):
        next(frames)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp"])
def test_a_forged_size_is_refused_before_memory_is_taken(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a{ending}", picture(1, 16, 16))
    data = bytearray(path.read_bytes())
    if ending == ".png":
        data[16:24] = (60_000).to_bytes(4, "big") * 2
    elif ending == ".bmp":
        data[18:26] = (60_000).to_bytes(4, "little") + (-60_000).to_bytes(4, "little", signed=True)
    elif ending == ".jpg":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = (60_000).to_bytes(2, "big") * 2
    else:
        assert data[12:16] == b"VP8L"
        data[21:25] = (15_999 | 15_999 << 14).to_bytes(4, "little")
    path.write_bytes(data)
    width, height = stated_size(bytes(data))
    assert width * height > MAX_PIXELS
    with pytest.raises(SourceError, match=f"{width}x{height}") as error:
        ImageFolder(tmp_path)
    assert "million pixels" in str(error.value)


def test_a_png_whose_parts_claim_more_than_there_is_is_not_decoded() -> None:
    whole = cv2.imencode(".png", np.zeros((5, 7, 3), np.uint8))[1].tobytes()
    forged = whole[:33] + b"\xff\xff\xff\x1a" + whole[37:]  # behind the header
    assert keeps_its_word(whole)
    assert keeps_its_word(whole + b"what an archive adds")
    assert not keeps_its_word(forged)
    assert not keeps_its_word(whole[:-1])
    assert not keeps_its_word(whole[:8])


def test_all_kinds_of_webp_tell_their_size() -> None:
    ok, lossy = cv2.imencode(".webp", picture(9, 30, 20), [cv2.IMWRITE_WEBP_QUALITY, 80])
    assert ok
    assert lossy.tobytes()[12:16] == b"VP8 "
    assert stated_size(lossy.tobytes()) == (30, 20)
    canvas = (29).to_bytes(3, "little") + (19).to_bytes(3, "little")
    assert stated_size(b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + canvas) == (30, 20)


def test_a_turned_photograph_comes_upright(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", picture(50, 30, 20))
    turn = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(turn) + 2).to_bytes(2, "big") + turn + data[2:])
    assert ImageFolder(tmp_path).info.height == 30


@pytest.mark.parametrize(("fps", "seek_s"), [(0, 0), (-1, 0), (float("nan"), 0), (30, -1), (30, 5)])
def test_rates_and_starts_that_cannot_be_are_mistakes(tmp_path: Path, fps: float, seek_s: float) -> None:
    write(tmp_path / "1.png", picture(1))
    with pytest.raises(UsageError, match="; "):
        ImageFolder(tmp_path, fps=fps, seek_s=seek_s)


def test_a_folder_without_pictures_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no picture; .*\.png"):
        ImageFolder(tmp_path)
    with pytest.raises(SourceError, match="does not exist"):
        ImageFolder(tmp_path / "nothing")
