"""Reads folders of pictures. A folder in, every picture in natural order as a Frame out, all of one size."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from realtime.errors import SourceError, UsageError
from realtime.files import explain
from realtime.frame import Frame, ImageU8
from realtime.letterbox import letterbox
from realtime.source import SourceInfo

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_PIXELS = 64_000_000
"""A picture that claims more is refused before it is decoded: 8000 x 8000 takes 192 MB, a forged header any amount."""
MAX_BYTES = 256_000_000


class ImageFolder:
    """Pictures as the frames of a video: `2.png` before `10.png`, upright, those of another size fitted into the first.

    Not thread-safe. Folders inside the folder and files of other kinds are left out.
    """

    def __init__(self, path: Path | str, *, fps: float = 30.0, seek_s: float = 0.0, loop: bool = False) -> None:
        """`fps`: how fast the pictures come; `seek_s`: where to start; `loop`: start there again, for ever.

        Raises SourceError for a folder without pictures and a first picture that cannot be read, UsageError for a rate
        or a start that cannot be.
        """
        self._folder, self._loop = Path(path), loop
        if not 0 < fps <= 1000:
            raise UsageError(f"pictures cannot follow each other at {fps} fps; choose a rate between 0 and 1000")
        self._fps = Fraction(fps).limit_denominator(100_000)
        try:
            found = [each for each in self._folder.iterdir() if each.suffix.lower() in ENDINGS and each.is_file()]
        except OSError as error:
            raise SourceError(explain(error, self._folder)) from error
        if not found:
            kinds = ", ".join(ENDINGS)
            raise SourceError(f"{self._folder} holds no picture; give a folder with {kinds}, or the path of a video")
        first = math.ceil(round(seek_s * float(self._fps), 6)) if 0 <= seek_s < 1e9 else len(found)
        if first >= len(found):
            raise UsageError(
                f"{self._folder} holds {float(len(found) / self._fps):g} s of pictures at {float(self._fps):g} fps,"
                f" it cannot start at {seek_s:g} s; choose an earlier start"
            )
        self._paths = sorted(found, key=lambda each: natural_order(each.name))[first:]
        height, width = read_image(self._paths[0]).shape[:2]
        self.info = SourceInfo(
            name=self._folder.resolve().name,
            width=width,
            height=height,
            fps=self._fps,
            frames=None if loop else len(self._paths),
            live=False,
            time_base=1 / (self._fps * -(-90_000 // self._fps)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Every picture, in order. Raises SourceError that names the file which cannot be read."""
        paths = itertools.cycle(self._paths) if self._loop else self._paths
        for index, path in enumerate(paths):
            image = letterbox(read_image(path), self.info.width, self.info.height)
            yield Frame(image, index, time.monotonic(), float(index / self._fps))

    def close(self) -> None:
        """Nothing is open between two pictures."""


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """What to sort names by, so that numbers in them count as numbers and capitals do not matter."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def read_image(path: Path) -> ImageU8:
    """(H, W, 3) BGR, upright; what is transparent is as the file paints it. Raises SourceError that names the file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SourceError(f"{path} is larger than {MAX_BYTES // 1_000_000} MB; make it smaller, or remove it")
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(explain(error, path)) from error
    width, height = stated_size(data)
    if width * height > MAX_PIXELS:
        raise SourceError(
            f"{path} says that it is {width}x{height}, at most {MAX_PIXELS // 1_000_000} million pixels are read;"
            " make it smaller, or remove it"
        )
    image = None
    if width * height and keeps_its_word(data):
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is None:
        raise SourceError(f"{path} is no picture, or a damaged one; get a whole copy, or remove it")
    return np.asarray(image, np.uint8)


def stated_size(data: bytes) -> tuple[int, int]:
    """Width and height from the header of a JPEG, PNG, WebP or BMP, without decoding it; (0, 0) when it is none."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _number(data[16:20], "big"), _number(data[20:24], "big")
    if data[:2] == b"BM":
        return _number(data[18:22], "little"), abs(int.from_bytes(data[22:26], "little", signed=True))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _size_of_webp(data)
    if data[:2] == b"\xff\xd8":
        return _size_of_jpeg(data)
    return 0, 0


def keeps_its_word(data: bytes) -> bool:
    """Whether all parts of a PNG are as long as they say; true for other kinds.

    OpenCV allocates what a part says before it looks for it: 4 GB for four forged bytes.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return True
    place, kind = 8, b""
    while place + 12 <= len(data) and kind != b"IEND":
        length, kind = _number(data[place : place + 4], "big"), data[place + 4 : place + 8]
        place += 12 + length
    return kind == b"IEND" and place <= len(data)


def _number(data: bytes, order: str) -> int:
    return int.from_bytes(data, "big" if order == "big" else "little")


def _size_of_webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return _number(data[24:27], "little") + 1, _number(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = _number(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _number(data[26:28], "little") & 0x3FFF, _number(data[28:30], "little") & 0x3FFF


def _size_of_jpeg(data: bytes) -> tuple[int, int]:
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a filling byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _number(data[place + 7 : place + 9], "big"), _number(data[place + 5 : place + 7], "big")
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without content
            place += 2
        else:
            place += 2 + _number(data[place + 2 : place + 4], "big")
    return 0, 0
