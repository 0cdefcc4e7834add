"""Reads files that may come from a stranger. A path in, checked bytes or a checked array out.

A set is opened on the word of its sender: a file in it may be a link to somewhere else, a pipe that never ends, a
picture that claims a billion pixels or an array that claims to be code. Here nothing is followed, unpacked or
believed before its kind and its size are known.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.errors import FacesetError
from realtime.files import explain
from realtime.frame import ImageU8

_REMEDY = "get an undamaged copy or extract the videos again"
_JPEG_SIZE_MARKERS = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended, progressive: all that OpenCV's decoder reads


def read_plain_file(path: Path, longest: int) -> bytes:
    """The bytes of an ordinary file of at most `longest` bytes. Raises FacesetError; follows no link."""
    check_plain_file(path, longest)
    try:
        with path.open("rb") as file:
            data = file.read(longest + 1)
    except OSError as error:
        raise FacesetError(explain(error, path)) from error
    if len(data) > longest:
        raise FacesetError(f"{path} grew while it was read; try again")
    return data


def check_plain_file(path: Path, longest: int) -> int:
    """The size of `path` in bytes, if it is an ordinary file of at most `longest` bytes; else FacesetError."""
    try:
        info = path.lstat()
    except OSError as error:
        raise FacesetError(explain(error, path)) from error
    if not stat.S_ISREG(info.st_mode):
        raise FacesetError(f"{path} is a link or no ordinary file; {_REMEDY}")
    if info.st_size > longest:
        raise FacesetError(f"{path} has {info.st_size} bytes, at most {longest} are read; {_REMEDY}")
    return info.st_size


def check_jpeg(data: bytes, side: int, name: str) -> None:
    """Raise FacesetError unless `data` is a whole JPEG of `side` x `side`, by its header: no pixel is decoded."""
    if jpeg_size(data) != (side, side):
        width, height = jpeg_size(data) or (0, 0)
        if not width:
            raise FacesetError(f"{name} is not a JPEG file; {_REMEDY}")
        raise FacesetError(f"{name} is {width}x{height}, expected {side}x{side}; {_REMEDY}")
    if not data.endswith(b"\xff\xd9"):
        raise FacesetError(f"{name} is cut off; {_REMEDY}")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a JPEG; None when it is none."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_SIZE_MARKERS:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        if marker == 0xDA or length < 2:
            return None
        at += 2 + length
    return None


def decode_jpeg(data: bytes, side: int, name: str) -> ImageU8:
    """(side, side, 3) BGR pixels of a JPEG of exactly that size. Raises FacesetError."""
    check_jpeg(data, side, name)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape != (side, side, 3):
        raise FacesetError(f"{name} cannot be decoded; {_REMEDY}")
    return np.asarray(image, np.uint8)


def open_float32_array(path: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """The array in a .npy file, read-only and mapped, not loaded, if it is float32 of exactly `shape`.

    The header is read first; a file whose size does not fit it is refused. Raises FacesetError.
    """
    expected = tuple(shape)
    wanted_bytes = int(np.prod(expected, dtype=object)) * 4
    size = check_plain_file(path, wanted_bytes + (1 << 16))
    try:
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("not version 1.0")
            got, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
    except OSError as error:
        raise FacesetError(explain(error, path)) from error
    except ValueError as error:
        raise FacesetError(f"{path} is not an array file of ours; {_REMEDY}") from error
    if got != expected or dtype != np.dtype("<f4") or fortran:
        raise FacesetError(f"{path} holds {dtype} {got}, expected float32 {expected}; {_REMEDY}")
    if size != offset + wanted_bytes:
        raise FacesetError(f"{path} is cut off or has bytes too many; {_REMEDY}")
    return np.asarray(np.memmap(path, np.dtype("<f4"), mode="r", offset=offset, shape=expected))
