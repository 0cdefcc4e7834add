"""Films a rendered actor. A performance in, Frames out: a source that needs no camera and shows nobody who exists."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Self

from realtime.actors import BO, Actor, Renderer, motion
from realtime.errors import UsageError
from realtime.frame import Frame, ImageU8
from realtime.source import BT709, SourceInfo

_log = logging.getLogger(__name__)

LOOP_FRAMES = 120
"""Rendered before a live pattern starts; played forwards and backwards for ever."""


class PatternSource:
    """An actor who performs. Not thread-safe.

    Live, frames come at `fps` whether or not anybody reads, from a loop that was rendered before: while it runs,
    the pattern costs nothing. Otherwise every frame of the performance is rendered when it is asked for.
    """

    def __init__(
        self,
        actor: Actor | None = None,
        *,
        width: int = 640,
        height: int = 480,
        fps: Fraction | int = 30,
        seconds: float | None = None,
        frames: int | None = None,
        seed: int = 0,
        yaw: float = 40.0,
        pitch: float = 20.0,
        roll: float = 15.0,
        light: float = 1.0,
        hand: bool = True,
        live: bool = False,
        pre_render: int | None = None,
    ) -> None:
        """`actor`: who performs, Bo unless said otherwise. `frames` or `seconds` end the pattern.

        A live one may run for ever. `pre_render`: how many frames the loop has, 0 for none.
        Raises UsageError for a size, rate or length that makes no video.
        """
        if not (64 <= width <= 8192 and 64 <= height <= 8192 and 0 < fps <= 1000):
            raise UsageError(f"a pattern of {width}x{height} at {fps} fps is out of range; choose 64 to 8192 pixels")
        if frames is None and seconds is not None:
            frames = max(round(seconds * fps), 1)
        loop = (LOOP_FRAMES if live else 0) if pre_render is None else pre_render
        if frames is None and not loop:
            raise UsageError("an endless pattern needs a loop; give it a length, or frames to render before")
        if frames is not None and (frames < 1 or loop < 0):
            raise UsageError("a pattern has at least one frame; choose another length")
        self.info = SourceInfo(
            name="pattern",
            width=width,
            height=height,
            fps=Fraction(fps),
            frames=frames,
            live=live,
            time_base=1 / (Fraction(fps) * math.ceil(90_000 / fps)),
            colour=BT709,
        )
        count = min(each for each in (loop or None, frames) if each is not None)
        self._poses = motion(count, float(fps), seed, yaw=yaw, pitch=pitch, roll=roll, light=light, hand=hand)
        self._renderer = Renderer(actor or Actor(BO), width, height)
        self._loop: list[ImageU8] = []
        if loop:
            _log.info("pattern: rendering %d frames of %dx%d", len(self._poses), width, height)
            self._loop = [self._render(index) for index in range(len(self._poses))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames; live, what nobody came to read in time is skipped and leaves a gap in `index`."""
        return self._paced() if self.info.live else self._every()

    def close(self) -> None:
        """Free the loop; safe to call twice."""
        self._loop = []

    def _every(self) -> Iterator[Frame]:
        for index in self._indices():
            image = self._image(index)
            yield Frame(image, index, time.monotonic(), float(index / self.info.fps))

    def _paced(self) -> Iterator[Frame]:
        start_s, fps = time.monotonic(), self.info.fps
        for index in self._indices():
            if index + 1 <= (time.monotonic() - start_s) * fps:
                continue  # the reader was away
            image = self._image(index)
            wait_s = start_s + float(index / fps) - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            yield Frame(image, index, time.monotonic(), float(index / fps))

    def _indices(self) -> Iterator[int]:
        return itertools.count() if self.info.frames is None else iter(range(self.info.frames))

    def _image(self, index: int) -> ImageU8:
        if not self._loop:
            return self._render(index)
        # Forwards, then backwards: the performance has no jump.
        place = index % max(2 * len(self._loop) - 2, 1)
        return self._loop[min(place, 2 * len(self._loop) - 2 - place) if place else 0]

    def _render(self, index: int) -> ImageU8:
        previous = self._poses[index - 1] if index else None
        return self._renderer.render(self._poses[index], previous, frame=index).image
