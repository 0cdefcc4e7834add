"""Decodes a stranger's picture. The bytes of a JPEG or PNG in; its pixels, or one of its side notes, out.

Note [What reaches the decoder]
    The file is taken apart first: sizes and checksums are compared, and a new file is put together of nothing but the
    parts that pixels need. Thumbnails, colour profiles, text and whatever else the file carries never reach the
    library that decodes it, and PNG data is unpacked once, a piece at a time, to see that it gives as many bytes as
    the picture needs and no more. Only plain files are read: 8 bits a sample, one scan, at most MAX_SIDE_PX wide.

    The decoder paints what is left of a damaged scan and complains on the error output of the process, which is the
    only place where it tells. So that output is caught while it works: a picture that it complains about is refused.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

import cv2
import numpy as np

from realtime.errors import FacesetError
from realtime.frame import ImageU8
from training.foreign import MAX_SIDE_PX

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_REMEDY = "leave the file out or get an undamaged copy"
_PIECE = 1 << 20
_STDERR = 2
_COMPLAINT = re.compile(
    rb"^(?:Corrupt JPEG|Premature end|Invalid|Unsupported|Inconsistent|libpng|\[ WARN).*\n?", re.MULTILINE
)
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type of a PNG -> samples in a pixel."""
_JPEG_PARTS = frozenset((0xC0, 0xC1, 0xC4, 0xDB, 0xDD, 0xE0, 0xEE))
"""Sizes, tables, restart interval, JFIF and Adobe's colour flag: what a decoder needs."""
_PNG_PARTS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))


def jpeg_segments(data: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of every segment before the scan, at last 0xDA with the scan and all that follows it.

    Raises FacesetError when the file is no JPEG, is cut off, or has the kind of scans that take minutes to decode.
    """
    if not data.startswith(JPEG):
        raise FacesetError(f"{name} is no JPEG file; {_REMEDY}")
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":  # filling bytes
            at += 1
        marker, length = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        if marker < 0xFF00 or length < 2 or at + 2 + length > len(data):
            raise FacesetError(f"{name} is a damaged JPEG file; {_REMEDY}")
        if marker == 0xFFDA:
            yield 0xDA, data[at + 2 :]
            return
        if 0xFFC2 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            raise FacesetError(f"{name} is a progressive JPEG or a rarer kind; save it as a plain one")
        yield marker & 0xFF, data[at + 4 : at + 2 + length]
        at += 2 + length


def decode_any_jpeg(data: bytes, name: str) -> ImageU8:
    """(H, W, 3) BGR pixels of a JPEG from a stranger, see Note [What reaches the decoder]. Raises FacesetError."""
    parts, size = [b"\xff\xd8"], (0, 0)
    for marker, payload in jpeg_segments(data, name):
        if marker == 0xDA:
            if not payload.rstrip(b"\0").endswith(b"\xff\xd9"):
                raise FacesetError(f"{name} is cut off; {_REMEDY}")
            parts.append(b"\xff\xda" + payload)
        elif marker in _JPEG_PARTS:
            if marker in (0xC0, 0xC1):
                if size != (0, 0) or len(payload) < 6 or payload[0] != 8:
                    raise FacesetError(f"{name} is a damaged JPEG file; {_REMEDY}")
                size = int.from_bytes(payload[3:5], "big"), int.from_bytes(payload[1:3], "big")
            parts.append(bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload)
    _check_size(*size, name)
    return _decode(b"".join(parts), *size, name)


def png_chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Kind and payload of every chunk to the end mark. Raises FacesetError for a file that is cut off or damaged."""
    if not data.startswith(PNG):
        raise FacesetError(f"{name} is no PNG file; {_REMEDY}")
    at, kind = len(PNG), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data):
            raise FacesetError(f"{name} is cut off; {_REMEDY}")
        if zlib.crc32(data[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            raise FacesetError(f"{name} is a damaged PNG file, a checksum differs; {_REMEDY}")
        yield kind, data[at + 8 : end]
        at = end + 4


def decode_any_png(data: bytes, name: str) -> ImageU8:
    """(H, W, 3) BGR pixels of a PNG from a stranger, see Note [What reaches the decoder]. Raises FacesetError."""
    chunks = [(kind, payload) for kind, payload in png_chunks(data, name) if kind in _PNG_PARTS]
    header = chunks[0][1] if chunks[0][0] == b"IHDR" else b""
    if len(header) != 13 or sum(kind == b"IHDR" for kind, _ in chunks) != 1:
        raise FacesetError(f"{name} is a damaged PNG file; {_REMEDY}")
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    _check_size(width, height, name)
    depth, colour, interlaced = header[8], header[9], header[12]
    if depth != 8 or colour not in _CHANNELS or interlaced:
        raise FacesetError(f"{name} is a PNG of a rare kind; save it with 8 bits a colour and without interlacing")
    packed = b"".join(payload for kind, payload in chunks if kind == b"IDAT")
    _check_unpacked(packed, height * (1 + width * _CHANNELS[colour]), name)
    parts = [PNG]
    for kind, payload in chunks:
        parts += [len(payload).to_bytes(4, "big"), kind, payload, zlib.crc32(kind + payload).to_bytes(4, "big")]
    return _decode(b"".join(parts), width, height, name)


def _check_unpacked(packed: bytes, expected: int, name: str) -> None:
    """Raise FacesetError unless `packed` is zlib data of exactly `expected` bytes; never holds more than a piece."""
    machine, count = zlib.decompressobj(), 0
    try:
        while not machine.eof:
            piece = machine.decompress(packed, _PIECE)
            count, packed = count + len(piece), machine.unconsumed_tail
            if count > expected or not (piece or packed or machine.eof):
                break
    except zlib.error as error:
        raise FacesetError(f"{name} is a damaged PNG file; {_REMEDY}") from error
    if count != expected or not machine.eof:
        raise FacesetError(f"{name} holds more or fewer pixels than it says; {_REMEDY}")


def _check_size(width: int, height: int, name: str) -> None:
    if not width or not height:
        raise FacesetError(f"{name} says no size; {_REMEDY}")
    if max(width, height) > MAX_SIDE_PX:
        raise FacesetError(f"{name} says that it is {width}x{height}, at most {MAX_SIDE_PX} pixels are read; shrink it")
    if min(width, height) < 16:
        raise FacesetError(f"{name} is {width}x{height}, too small for a face; leave it out")


def _decode(data: bytes, width: int, height: int, name: str) -> ImageU8:
    with _ErrorOutput() as complaints:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error as error:
            raise FacesetError(f"{name} cannot be decoded; {_REMEDY}") from error
    if image is None or image.shape != (height, width, 3) or complaints.heard:
        raise FacesetError(f"{name} is damaged, not all of it can be decoded; {_REMEDY}")
    return np.asarray(image, np.uint8)


class _ErrorOutput:
    """Catches what C libraries write to the error output; what is no decoder's complaint is passed on afterwards."""

    def __init__(self) -> None:
        self.heard = False
        self._handles: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        try:
            saved = os.dup(_STDERR)
        except OSError:  # it is closed: nobody hears anything
            return self
        reader, writer = os.pipe()
        for end in (reader, writer):
            os.set_blocking(end, False)  # a full pipe must not stop the decoder
        os.dup2(writer, _STDERR)
        os.close(writer)
        self._handles = saved, reader
        return self

    def __exit__(self, *_: object) -> None:
        if self._handles is None:
            return
        saved, reader = self._handles
        os.dup2(saved, _STDERR)
        with suppress(BlockingIOError):
            said = os.read(reader, 1 << 16)
            others = _COMPLAINT.sub(b"", said)
            self.heard = others != said
            os.write(saved, others)
        os.close(saved)
        os.close(reader)
