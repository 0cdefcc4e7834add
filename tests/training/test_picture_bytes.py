"""A stranger's picture is decoded as it is, or refused before it takes memory or time."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from realtime.errors import FacesetError
from tests.conftest import ROOT
from tests.training.foreign_files import faceswap_png, jpg, png, png_chunk, shot, with_app15
from training.picture_bytes import decode_any_jpeg, decode_any_png

SIDE = 256


def header(width: int, height: int, *flags: int) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, *(flags or (8, 2, 0, 0, 0))))


def png_of(head: bytes, packed: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def test_pixels_are_those_that_opencv_sees() -> None:
    image = shot().crop
    data = with_app15(jpg(image), b"anything")
    np.testing.assert_array_equal(decode_any_jpeg(data, "x"), cv2.imdecode(np.frombuffer(jpg(image), np.uint8), 1))
    np.testing.assert_array_equal(decode_any_png(faceswap_png(shot()), "x"), image)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pngs_become_colour(channels: int) -> None:
    image = np.full((32, 48, channels), 100, np.uint8)
    assert decode_any_png(png(image), "x").shape == (32, 48, 3)


def test_a_picture_that_lies_on_its_side_stays_there() -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    turned = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = jpg(image)
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(turned) + 2) + turned + data[2:]
    assert decode_any_jpeg(data, "x").shape == (32, 64, 3)


def refusal(data: bytes) -> str:
    decode = decode_any_png if data[:4] == b"\x89PNG" else decode_any_jpeg
    with pytest.raises(FacesetError) as caught:
        decode(data, "x")
    return str(caught.value)


def test_huge_pictures_are_refused_unread() -> None:
    data = jpg(np.zeros((32, 32, 3), np.uint8))
    size = data.index(b"\xff\xc0") + 5
    assert "at most 4096" in refusal(data[:size] + struct.pack(">HH", 65535, 65535) + data[size + 4 :])
    assert "at most 4096" in refusal(png_of(header(1 << 31, 16), zlib.compress(b"")))
    assert "no size" in refusal(png_of(header(0, 16), zlib.compress(b"")))


def test_a_png_holds_as_many_pixels_as_it_says() -> None:
    rows = (1 + 3 * SIDE) * SIDE
    assert decode_any_png(png_of(header(SIDE, SIDE), zlib.compress(b"\0" * rows)), "x").shape == (SIDE, SIDE, 3)
    for count in (0, rows - 1, rows + 1, 80_000_000):
        assert "more or fewer pixels" in refusal(png_of(header(SIDE, SIDE), zlib.compress(b"\0" * count)))


def test_rare_kinds_are_refused_with_a_remedy() -> None:
    done, slow = cv2.imencode(".jpg", shot().crop, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    assert "save it as a plain one" in refusal(slow.tobytes())
    for flags in ((16, 2, 0, 0, 0), (8, 2, 0, 0, 1), (8, 5, 0, 0, 0)):
        assert "without interlacing" in refusal(png_of(header(SIDE, SIDE, *flags), zlib.compress(b"")))


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\0", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    refusal(data)


def test_every_truncation_is_refused() -> None:
    for data in (jpg(np.zeros((32, 32, 3), np.uint8)), png(np.zeros((32, 32, 3), np.uint8))):
        for end in range(0, len(data) - 1, 7):
            refusal(data[:end])


def test_a_damaged_checksum_is_seen() -> None:
    data = bytearray(png(shot().crop))
    data[-30] ^= 1
    assert "a checksum differs" in refusal(bytes(data))


def test_a_damaged_scan_is_refused_and_the_decoder_stays_quiet() -> None:
    code = """
import sys
import numpy as np
from realtime.errors import FacesetError
from tests.training.foreign_files import jpg
from training.picture_bytes import decode_any_jpeg
data = bytearray(jpg(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
for at in range(len(data) // 2, len(data) // 2 + 40):
    data[at] = 0xAA
sys.stderr.write("before\\n")
try:
    decode_any_jpeg(bytes(data[:-200]) + bytes(data[-2:]), "x")
except FacesetError as error:
    sys.stderr.write(f"{error}\\n")
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.stderr.splitlines() == [
        "before",
        "x is damaged, not all of it can be decoded; leave the file out or get an undamaged copy",
    ]
