"""The measurement of invisible marks knows one that survives from one that does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.invisible_mark import SIZE, Bits, Method, good, main, measure
from realtime.frame import ImageU8

BITS = np.array([1, 0, 1, 1, 0, 0, 1, 0], np.uint8)
WIDE = 80
"""Pixels of a block that says one bit."""


def blocks(image: ImageU8, bits: Bits) -> ImageU8:
    """Anything but invisible: a black or white block for each bit."""
    marked = image.copy()
    for number, bit in enumerate(bits):
        marked[:WIDE, number * WIDE : (number + 1) * WIDE] = 255 * bit
    return marked


def read_blocks(image: ImageU8, count: int) -> Bits:
    means = [image[:WIDE, number * WIDE : (number + 1) * WIDE].mean() for number in range(count)]
    return (np.array(means) > 127).astype(np.uint8)


def lowest_bits(image: ImageU8, bits: Bits) -> ImageU8:
    marked = image.copy()
    marked[0, : len(bits), 0] = marked[0, : len(bits), 0] & 254 | bits
    return marked


def read_lowest_bits(image: ImageU8, count: int) -> Bits:
    return np.asarray(image[0, :count, 0] & 1, np.uint8)


@pytest.fixture(scope="module")
def pictures() -> list[ImageU8]:
    noise = np.random.default_rng(1).integers(90, 166, (3, SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
    return [each.repeat(8, axis=0).repeat(8, axis=1) for each in noise]


def test_a_mark_of_blocks_survives_every_journey(pictures: list[ImageU8]) -> None:
    row = measure(Method(blocks, read_blocks), pictures, BITS)
    assert set(row["whole"].values()) == {1.0}
    assert row["psnr_db"] < 30


def test_a_mark_in_the_lowest_bits_ends_with_the_first_encoder(pictures: list[ImageU8]) -> None:
    row = measure(Method(lowest_bits, read_lowest_bits), pictures, BITS)
    assert row["whole"]["nothing"] == 1.0
    assert row["whole"]["H.264 at 500 kb/s"] < 1.0
    assert row["psnr_db"] > 60
    assert not good(row)


@pytest.mark.parametrize(("cost_ms", "whole", "wanted"), [(1.0, 1.0, True), (9.0, 1.0, False), (1.0, 0.5, False)])
def test_good_is_cheap_and_survives(cost_ms: float, whole: float, wanted: bool) -> None:
    row: dict[str, Any] = {"cost_ms": cost_ms, "whole": {"H.264 at 500 kb/s": whole}}
    assert good(row) is wanted


def test_without_the_libraries_it_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.invisible_mark.METHODS", {"none": _missing})
    assert main(["--frames", "1"]) == 2
    assert "pip install" in capsys.readouterr().out


def _missing() -> Method:
    raise ImportError("No module named 'none'")
