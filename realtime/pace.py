"""Plays at the speed of life. The time of the next picture in, its moment waited for.

A file can be read faster than it lasts; whoever watches a virtual camera or a stream wants it as it was filmed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

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
