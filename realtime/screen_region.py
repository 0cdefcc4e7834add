"""Films the screen, or a part of it. What the user typed in, Frames at an even rate out."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

from realtime.errors import SourceError, UsageError
from realtime.frame import Frame, ImageU8
from realtime.source import SourceInfo

if TYPE_CHECKING:
    from mss.models import Monitor

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of the desktop in its own units, which on some screens hold several pixels."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width}x{self.height}"


def parse_region(rest: str) -> int | Region | None:
    """What stands behind `screen:`: a monitor, 0 for all together; LEFT,TOP,WIDTHxHEIGHT; or None for the main monitor.

    Raises UsageError for anything else.
    """
    if not rest:
        return None
    if rest.isdecimal():
        return int(rest)
    numbers = re.fullmatch(r"(-?\d{1,6}),(-?\d{1,6}),(\d{1,6})x(\d{1,6})", rest.replace(" ", ""))
    region = Region(*(int(each) for each in numbers.groups())) if numbers else None
    if region is None or min(region.width, region.height) < 1:
        raise UsageError(f"screen:{rest} is no part of a screen; write for example screen:1 or screen:0,0,1280x720")
    return region


class ScreenRegion:
    """The screen as a source of frames. Not thread-safe, except for close().

    Pictures are taken at `fps`; what nobody came to read in time is skipped and leaves a gap in `index`.
    """

    def __init__(
        self,
        rest: str = "",
        *,
        fps: float = 30,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect to the display and take one picture. `rest`: see parse_region.

        Raises UsageError for a place or a rate that does not exist, SourceError when there is no display.
        """
        wanted = parse_region(rest)
        if not 0 < fps <= 1000:
            raise UsageError(f"a screen is not filmed at {fps} fps; give a rate up to 1000")
        import mss

        # Where the display goes away, some versions fail an assertion of their own.
        self._broken = (mss.ScreenShotError, AssertionError, OSError)
        self._clock, self._sleep = clock, sleep
        self._closed = False
        try:
            # Its first name; version 10.2 gave it a better one.
            self._display = mss.MSS() if hasattr(mss, "MSS") else mss.mss()
        except mss.ScreenShotError as error:
            raise SourceError("there is no display to film; run it on a desktop, or set DISPLAY") from error
        try:
            self._place = _place(wanted, self._display.monitors)
            height, width = self._picture().shape[:2]
        except BaseException:
            self.close()
            raise
        if os.environ.get("WAYLAND_DISPLAY"):
            _log.warning("under Wayland the screen may stay black; log in to an X11 session to film all of it")
        self.info = SourceInfo(
            name=f"screen:{rest}" if rest else "screen",
            width=width,
            height=height,
            fps=Fraction(fps).limit_denominator(1001),
            frames=None,
            live=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """The pictures as they are taken, until close(). Raises SourceError when the display is gone."""
        start_s, step_s = self._clock(), 1 / float(self.info.fps)
        index = 0
        while not self._closed:
            wait_s = start_s + index * step_s - self._clock()
            if wait_s > 0:
                self._sleep(wait_s)
            if self._closed:
                return
            try:
                image = self._picture()
            except SourceError:
                if self._closed:
                    return
                raise
            captured_s = self._clock()
            yield Frame(image, index, captured_s, captured_s - start_s)
            index = max(index + 1, int((self._clock() - start_s) / step_s))

    def close(self) -> None:
        """Leave the display; safe to call twice and from another thread."""
        self._closed = True
        with contextlib.suppress(*self._broken):  # the display may be gone already
            self._display.close()

    def _picture(self) -> ImageU8:
        """(H, W, 3) BGR of the region."""
        try:
            shot = self._display.grab(self._place)
        except self._broken as error:
            raise SourceError("the screen cannot be filmed any more; check that its display is still there") from error
        pixels = np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR), np.uint8)


def _place(wanted: int | Region | None, monitors: list[Monitor]) -> Monitor:
    """The rectangle to film, as mss wants it. `monitors`: all together, then each."""
    if wanted is None:
        return next((each for each in monitors[1:] if each.get("is_primary")), monitors[min(1, len(monitors) - 1)])
    if isinstance(wanted, int):
        if wanted >= len(monitors):
            raise UsageError(f"there is no monitor {wanted}; {_there_are(monitors)}")
        return monitors[wanted]
    whole = monitors[0]
    left, top = wanted.left - whole["left"], wanted.top - whole["top"]
    if not (0 <= left <= whole["width"] - wanted.width and 0 <= top <= whole["height"] - wanted.height):
        raise UsageError(f"the region {wanted} reaches outside the screen; {_there_are(monitors)}")
    return {"left": wanted.left, "top": wanted.top, "width": wanted.width, "height": wanted.height}


def _there_are(monitors: list[Monitor]) -> str:
    rows = (f"{each['left']},{each['top']},{each['width']}x{each['height']}" for each in monitors[1:])
    return "choose from " + ", ".join(f"monitor {number} at {row}" for number, row in enumerate(rows, start=1))
