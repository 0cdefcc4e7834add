"""Reads files that may come from a stranger. A path in, checked bytes or a checked array out.

A set is opened on the word of its sender: a file in it may be a link to somewhere else, a pipe that never ends, a
picture that claims a billion pixels or an array that claims to be code. Here nothing is followed, unpacked or
believed before its kind and its size are known.
"""

from __future__ import annotations

import hashlib
import math
import re
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
_JPEG_SIZE_MARKERS = frozenset((0xC0, 0xC1))  # baseline and extended; progressive scans can take minutes to decode
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(rb"\{'descr': '<f4', 'fortran_order': False, 'shape': \(([0-9, ]+)\), \} *\n")


def read_plain_file(path: Path, longest: int, name: str = "", remedy: str = _REMEDY) -> bytes:
    """The bytes of an ordinary file of at most `longest` bytes. Raises FacesetError; follows no link.

    `name` is what complaints call the file when its own name is a stranger's, `remedy` how they end.
    """
    check_plain_file(path, longest, name, remedy)
    try:
        with path.open("rb") as file:
            data = file.read(longest + 1)
    except OSError as error:
        raise FacesetError(explain(error, Path(name or path))) from error
    if len(data) > longest:
        raise FacesetError(f"{name or path} grew while it was read; try again")
    return data


def file_sha256(path: Path) -> str:
    """Of a whole file. Raises FacesetError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FacesetError(explain(error, path)) from error


def check_plain_file(path: Path, longest: int, name: str = "", remedy: str = _REMEDY) -> int:
    """The size of `path` in bytes, if it is an ordinary file of at most `longest` bytes; else FacesetError."""
    try:
        info = path.lstat()
    except OSError as error:
        raise FacesetError(explain(error, Path(name or path))) from error
    if not stat.S_ISREG(info.st_mode):
        raise FacesetError(f"{name or path} is a link or no ordinary file; {remedy}")
    if info.st_size > longest:
        raise FacesetError(f"{name or path} has {info.st_size} bytes, at most {longest} are read; {remedy}")
    return info.st_size


def check_jpeg(data: bytes, side: int, name: str) -> None:
    """Raise FacesetError unless `data` is a whole JPEG of `side` x `side`, by its header: no pixel is decoded."""
    if jpeg_size(data) != (side, side):
        width, height = jpeg_size(data) or (0, 0)
        if not width:
            raise FacesetError(f"{name} is no plain JPEG file; {_REMEDY}")
        raise FacesetError(f"{name} is {width}x{height}, expected {side}x{side}; {_REMEDY}")
    if not data.endswith(b"\xff\xd9"):
        raise FacesetError(f"{name} is cut off; {_REMEDY}")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a JPEG that is not progressive; None when it is none."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_SIZE_MARKERS:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        if marker in (0xC2, 0xDA) or length < 2:
            return None
        at += 2 + length
    return None


def decode_jpeg(data: bytes, side: int, name: str) -> ImageU8:
    """(side, side, 3) BGR pixels of a JPEG of exactly that size. Raises FacesetError."""
    check_jpeg(data, side, name)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise FacesetError(f"{name} cannot be decoded; {_REMEDY}") from error
    if image is None or image.shape != (side, side, 3):
        raise FacesetError(f"{name} cannot be decoded; {_REMEDY}")
    return np.asarray(image, np.uint8)


def largest_jpeg(side: int) -> int:
    """More bytes than a crop of `side` pixels ever takes, even one of pure noise."""
    return (64 << 10) + 6 * side * side


def open_float32_array(path: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """The array in a .npy file, read-only and mapped, not loaded, if it is float32 of exactly `shape`.

    The header is compared with the one that we write and never evaluated; a file whose size does not fit its header
    is refused. Raises FacesetError.
    """
    expected = tuple(shape)
    wanted_bytes = math.prod(expected) * 4
    size = check_plain_file(path, wanted_bytes + (1 << 16))
    try:
        with path.open("rb") as file:
            start = file.read(len(_NPY_MAGIC) + 2)
            length = int.from_bytes(start[len(_NPY_MAGIC) :], "little")
            header = _NPY_HEADER.fullmatch(file.read(length))
    except OSError as error:
        raise FacesetError(explain(error, path)) from error
    if not start.startswith(_NPY_MAGIC) or not header:
        raise FacesetError(f"{path} is no float32 array file; {_REMEDY}")
    got = header[1].decode()
    if got != ", ".join(map(str, expected)):
        raise FacesetError(f"{path} holds an array of ({got[:60]}), expected {expected}; {_REMEDY}")
    offset = len(start) + length
    if size != offset + wanted_bytes:
        raise FacesetError(f"{path} is cut off or has bytes too many; {_REMEDY}")
    return np.asarray(np.memmap(path, np.dtype("<f4"), mode="r", offset=offset, shape=expected))
