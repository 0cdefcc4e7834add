"""Keeps the time of a stream. Its own times and the clock in; times that grow, and what is worth showing, out.

Pure: no stream and no clock is touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

JUMP_S = 5.0
"""Times that run away from the clock by more were set anew: the sender was started again, a counter ran out."""
BACK_S = 0.5
"""The same for times that go back."""
WAIT_S = 0.004
"""A picture that had to be waited for at least so long was not there before: it is the newest there is."""
SHOWN_EVERY_S = 0.2
"""However late pictures are, one is shown so often."""
HOPELESS_S = 2.0
"""Later than this, pictures are not even decoded until the next whole one."""
SETTLED_S = 1.0
"""When all pictures were later than usual for so long, later is usual."""
UNDERRUN_S = 0.5
"""A stream that comes in pieces may be so late before all of it is shown later from then on."""


class StreamTime:
    """Puts a stream's own times on a scale that starts at 0 with its first picture and only grows."""

    def __init__(self, step_s: float) -> None:
        """`step_s`: how long a picture usually lasts."""
        self._step_s = step_s
        self._shift_s: float | None = None
        self._last_pts_s: float | None = None
        self._last_now_s = 0.0

    def place(self, raw_s: float | None, now_s: float) -> float:
        """pts_s of the next picture. `raw_s`: its time in the stream, if it has one; `now_s`: the clock."""
        last_s = self._last_pts_s
        if last_s is None:
            pts_s = 0.0
        else:
            elapsed_s = now_s - self._last_now_s
            pts_s = last_s + self._step_s if raw_s is None or self._shift_s is None else raw_s + self._shift_s
            if raw_s is not None and not -BACK_S < pts_s - last_s < JUMP_S + elapsed_s:
                pts_s, self._shift_s = last_s + max(elapsed_s, self._step_s), None
            pts_s = max(pts_s, last_s + 1e-4)
        if raw_s is not None and self._shift_s is None:
            self._shift_s = pts_s - raw_s
        self._last_pts_s, self._last_now_s = pts_s, now_s
        return pts_s

    def place_sound(self, raw_s: float | None) -> float | None:
        """pts_s of a block of sound; None where it cannot be said, before the first picture and just after a jump."""
        if raw_s is None or self._shift_s is None or self._last_pts_s is None:
            return None
        pts_s = raw_s + self._shift_s
        return pts_s if abs(pts_s - self._last_pts_s) < JUMP_S else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a picture."""

    show: bool
    wait_s: float = 0.0
    """How long it comes too early."""
    hopeless: bool = False
    """It is so late that decoding everything would never catch up."""


class _Patience:
    """Lets a stale picture through now and then, for a reader who never catches up."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def is_over(self, now_s: float, *, stale: bool) -> bool:
        """Whether to show this picture."""
        if stale and self._since_s is None:
            self._since_s = now_s
        show = not stale or (self._since_s is not None and now_s - self._since_s >= SHOWN_EVERY_S)
        if show:
            self._since_s = None
        return show


class Punctuality:
    """Tells which pictures of a stream are stale. See Note [Staying at the live edge] in realtime.stream.

    A picture that had to be waited for is the newest there is. One that was there already is stale if it comes later
    than is usual for this stream; what is usual is what the waited-for pictures show, the best of them at first.
    """

    def __init__(self, step_s: float) -> None:
        """`step_s`: how long a picture usually lasts."""
        self._tolerance_s = max(2 * step_s, 0.1)
        self._usual_s: float | None = None
        self._least_s = math.inf
        self._waited_before = False
        self._since_s: float | None = None
        self._patience = _Patience()

    def judge(self, pts_s: float, now_s: float, waited_s: float) -> Verdict:
        """`waited_s`: how long the reader had to wait for this picture; the clock shows `now_s` when it is decoded."""
        waited, lateness_s = waited_s >= WAIT_S, now_s - pts_s
        self._learn(lateness_s, now_s, waited)
        late_s = 0.0 if self._usual_s is None else lateness_s - self._usual_s
        in_time = self._usual_s is not None and late_s <= self._tolerance_s
        show = self._patience.is_over(now_s, stale=not waited and not in_time)
        return Verdict(show, hopeless=not waited and late_s > HOPELESS_S)

    def _learn(self, lateness_s: float, now_s: float, waited: bool) -> None:
        usual_s = self._usual_s
        if usual_s is None:
            # The first of many old pictures may have been waited for, too: one alone says nothing.
            settled = waited and self._waited_before
        elif lateness_s <= usual_s + self._tolerance_s:
            self._usual_s = min(usual_s, lateness_s)
            self._since_s, self._least_s = None, math.inf
            return
        elif not waited:
            return
        else:
            settled = False
        self._since_s = now_s if self._since_s is None else self._since_s
        self._least_s = min(self._least_s, lateness_s)
        self._waited_before = waited
        if settled or now_s - self._since_s >= SETTLED_S:
            self._usual_s, self._since_s, self._least_s = self._least_s, None, math.inf


class Pacer:
    """Spreads the pictures of a stream that comes in pieces of seconds (HLS, a file on a server)."""

    def __init__(self) -> None:
        self._usual_s: float | None = None
        self._patience = _Patience()

    def judge(self, pts_s: float, now_s: float, waited_s: float) -> Verdict:
        """As Punctuality.judge; a picture that comes too early is to be kept for a while."""
        lateness_s = now_s - pts_s
        usual_s = lateness_s if self._usual_s is None else self._usual_s
        late_s = lateness_s - usual_s
        if late_s > UNDERRUN_S and waited_s >= WAIT_S:
            usual_s, late_s = lateness_s, 0.0
        self._usual_s = usual_s
        show = self._patience.is_over(now_s, stale=late_s > UNDERRUN_S)
        return Verdict(show, max(-late_s, 0.0))
