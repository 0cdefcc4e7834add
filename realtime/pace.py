"""Plays at the speed of life. A file that could be read faster in, its pictures when they are due out.

Whoever watches a window, a virtual camera or a stream wants a file as it was filmed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self

from realtime.frame import Frame
from realtime.source import Source, SourceInfo

BEHIND_S, AHEAD_S = 0.25, 2.0
"""Who comes later than this is not hurried afterwards; no picture is waited for longer than this."""


class Pace:
    """Turns presentation times into waiting. Not thread-safe."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._zero_s: float | None = None

    def wait(self, pts_s: float) -> None:
        """Return when the picture of `pts_s` is due; the first one is due at once."""
        now = self._clock()
        ahead_s = 0.0 if self._zero_s is None else self._zero_s + pts_s - now
        if self._zero_s is None or not -BEHIND_S <= ahead_s <= AHEAD_S:
            ahead_s = min(max(ahead_s, 0.0), AHEAD_S)
            self._zero_s = now + ahead_s - pts_s
        if ahead_s > 0:
            self._sleep(ahead_s)


class PacedSource:
    """A file that runs like a camera: every picture comes when it is due, captured at that moment."""

    def __init__(self, source: Source, pace: Pace | None = None) -> None:
        """Takes over `source`, which is closed with this."""
        self._source, self._pace = source, pace or Pace()
        self._info = replace(source.info, live=True)

    @property
    def info(self) -> SourceInfo:
        """The file's, but time runs on when nobody reads."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            self._pace.wait(frame.pts_s)
            yield replace(frame, captured_s=time.monotonic())

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
