"""Rooms that fail, dawdle and count on demand. Shared by the tests of the live loop; no mocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Self

import numpy as np

from realtime.frame import Face, Frame, ImageU8
from realtime.source import BT709, SourceInfo
from realtime.swap import SwapResult

RAW, SWAPPED = (0, 0, 255), (0, 255, 0)
"""Colours of the fakes' pictures, BGR: what came in, and what a swap made of it."""


class Fault(Exception):
    """What a fake room raises when it was told to fail."""


def plain(colour: tuple[int, int, int] = RAW, height: int = 48, width: int = 64) -> ImageU8:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def frame(index: int = 0, image: ImageU8 | None = None, fps: float = 30.0) -> Frame:
    """A frame as a source would deliver it now."""
    return Frame(plain() if image is None else image, index, time.monotonic(), index / fps)


def face(left: float, top: float, right: float, bottom: float, track_id: int = 0) -> Face:
    """A face whose mesh fills a box, in pixels."""
    spread = np.linspace(0, 1, 468, dtype=np.float32)
    landmarks = np.stack([left + (right - left) * spread, top + (bottom - top) * spread, 0 * spread], axis=1)
    return Face(landmarks.astype(np.float32), 0.9, track_id)


def info(live: bool = False, frames: int | None = None, width: int = 64, height: int = 48) -> SourceInfo:
    """What a source of plain pictures says about itself."""
    return SourceInfo("fake", width, height, Fraction(30), frames, live, colour=BT709)


class Room:
    """Counts what happens to it and on which threads; fails at the step it was told, if any.

    `fail_at`: "open", "close", or the index of the frame from which on it raises Fault.
    """

    def __init__(self, fail_at: str | int | None = None, delay_s: float = 0.0) -> None:
        self.fail_at, self.delay_s = fail_at, delay_s
        self.closes = 0
        self.threads = {threading.current_thread().name}
        self.step("open")

    def step(self, at: str | int) -> None:
        """Be slow, then fail if this is the step."""
        self.threads.add(threading.current_thread().name)
        if self.delay_s and isinstance(at, int):
            time.sleep(self.delay_s)
        reached = isinstance(at, int) and isinstance(self.fail_at, int) and at >= self.fail_at
        if reached or at == self.fail_at:
            raise Fault(f"{type(self).__name__} failed at {at}")

    def close(self) -> None:
        self.closes += 1
        self.step("close")


class FakeSource(Room):
    """`count` plain pictures; live ones come at `delay_s` whether or not anybody reads."""

    def __init__(
        self, count: int = 10, fail_at: str | int | None = None, delay_s: float = 0.0, *, live: bool = False
    ) -> None:
        self.count = count
        self.info = info(live, count)
        super().__init__(fail_at, delay_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            self.step(index)
            yield frame(index)


class FakeSwapper(Room):
    """Paints every picture in the colour of a swap, but for the frames in `misses`."""

    provider = "FakeProvider"

    def __init__(
        self,
        fail_at: str | int | None = None,
        delay_s: float = 0.0,
        misses: frozenset[int] = frozenset(),
        failing: frozenset[int] = frozenset(),
    ) -> None:
        self.misses, self.failing = misses, failing
        super().__init__(fail_at, delay_s)

    def swap(self, frame: Frame) -> SwapResult:
        self.step(frame.index)
        if frame.index in self.failing:
            raise Fault(f"frame {frame.index} cannot be swapped")
        if frame.index in self.misses:
            return SwapResult(frame, (), False, "no face", {"detect": 1.0})
        image = plain(SWAPPED, *frame.image.shape[:2])
        return SwapResult(frame.with_image(image), (), True, None, {"detect": 1.0, "infer": 2.0})


class FakeSink(Room):
    """Remembers what it was sent and how it ended."""

    name = "fake"

    def __init__(self, fail_at: str | int | None = None, delay_s: float = 0.0) -> None:
        self.frames: list[Frame] = []
        self.ended = ""
        super().__init__(fail_at, delay_s)

    def send(self, frame: Frame) -> None:
        self.step(frame.index)
        self.frames.append(frame)

    def close(self) -> None:
        super().close()
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = self.ended or "aborted"
