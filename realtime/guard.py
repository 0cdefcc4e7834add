"""Decides what is published. SwapResults and silence in, Publications out: a swapped face or a stand-in.

Note [Fail closed]
    A picture counts as raw until a swap has succeeded on it. Raw pictures leave this room only when the user asked
    for it (`OnMiss.PASS`), and then they are marked `raw`. For everything else there is a stand-in that shows nobody:

        armed   before the first swap: nothing when live, the slate in a file (which needs a picture for every frame)
        live    the swapped picture
        hold    the last swapped picture, for at most hold_ms
        blur    the picture with the heads pixelated - or all of it, when it is not known where they are
        slate   a neutral card
        raw     the picture as it came in; only with OnMiss.PASS
        panic   the card, whatever comes, until the user ends it

    A time that runs backwards, a picture of another size, a crash: whatever is unexpected leads to a stand-in.
    Live, silence does too: when a source stalls or a swap gets stuck, no picture stays up for much longer than hold_ms.
    Only the heads are blurred when the performer's is known to be among them, otherwise the whole picture.

No thread and no clock of its own: the caller says what time it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from realtime.frame import Frame, ImageU8
from realtime.standin import Box, hide, slate
from realtime.swap import Miss, SwapResult

MAX_HOLD_MS = 10_000
"""A picture that stands still for longer helps nobody."""
_MISSED_STEPS, _LONGEST_STEP_S = 2.5, 1.0
"""So many times the usual step from frame to frame is silence; a slow model must not blink between its frames."""
_EARLY, _USUAL = 0.2, 0.15
"""The step assumed before two frames have come, seconds; and how fast the usual step follows."""
_UNSEEN = (Miss.NO_FACE, Miss.WRONG_PERSON, Miss.UNDECIDED)
"""Misses after which nobody knows where the performer's head is."""


class OnMiss(StrEnum):
    """What to publish when a frame could not be swapped."""

    HOLD = "hold"
    BLUR = "blur"
    SLATE = "slate"
    PASS = "pass"


class State(StrEnum):
    """What is being published, see Note [Fail closed]."""

    ARMED = "armed"
    LIVE = "live"
    HOLD = "hold"
    BLUR = "blur"
    SLATE = "slate"
    RAW = "raw"
    PANIC = "panic"


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """What may be shown for one frame."""

    image: ImageU8 | None
    """(H, W, 3) BGR in [0, 255]; None: publish nothing."""
    state: State
    raw: bool
    """Whether `image` is the picture as it came in."""
    faces: tuple[Box, ...] = ()
    """Where faces are in `image`, for marks that must not cover them."""


class Guard:
    """Keeps raw pictures in. Not thread-safe, but for `panic`: one per run."""

    def __init__(self, on_miss: OnMiss = OnMiss.HOLD, hold_ms: float = 250.0, *, live: bool = True) -> None:
        if not (math.isfinite(hold_ms) and 0 <= hold_ms <= MAX_HOLD_MS):
            raise ValueError(f"hold_ms lies between 0 and {MAX_HOLD_MS}, got {hold_ms}")
        self._on_miss, self._hold_s, self._live = OnMiss(on_miss), hold_ms / 1000, live
        self._state = State.ARMED
        self._swapped: ImageU8 | None = None
        self._swapped_faces: tuple[Box, ...] = ()
        self._swapped_s = self._now_s = 0.0
        self._step_s: float | None = None
        self._like: ImageU8 | None = None
        self._slate: ImageU8 | None = None
        self.panic = False
        """While it is set, nothing but the card goes out; may be set from any thread."""

    @property
    def state(self) -> State:
        """What was published last."""
        return self._state

    def publish(self, result: SwapResult, now_s: float) -> Publication:
        """What to show for a frame that went through the swap at time `now_s` (seconds, any origin)."""
        self._come(result.frame, now_s)
        boxes = tuple(face.box for face in result.faces)
        if self.panic:
            self._forget()
            return self._done(Publication(self._card(result.frame.image), State.PANIC, raw=False))
        if result.swapped:
            self._swapped, self._swapped_faces, self._swapped_s = result.frame.image, boxes, now_s
            return self._done(Publication(result.frame.image, State.LIVE, raw=False, faces=boxes))
        seen = boxes + result.hidden
        return self._stand_in(result.frame, () if result.miss in _UNSEEN else seen, now_s, seen)

    def fail(self, frame: Frame, now_s: float) -> Publication:
        """What to show for a frame whose swap crashed: nothing is known about where its faces are."""
        self._come(frame, now_s)
        if self.panic:
            self._forget()
            return self._done(Publication(self._card(frame.image), State.PANIC, raw=False))
        return self._stand_in(frame, (), now_s, ())

    def tick(self, idle_s: float) -> Publication | None:
        """What to show when nothing has come for `idle_s`; None when what is shown may stay. Live runs only."""
        if self._like is None:
            return None
        if self.panic:
            self._forget()
            shown = self._state is State.PANIC
            return None if shown else self._done(Publication(self._card(self._like), State.PANIC, raw=False))
        if self._state in (State.ARMED, State.SLATE, State.PANIC):
            return None
        if self._state is State.HOLD:
            over = idle_s + self._now_s - self._swapped_s > self._hold_s
        else:
            step_s = _EARLY if self._step_s is None else self._step_s
            over = idle_s > max(self._hold_s, _MISSED_STEPS * step_s)
        if not over:
            return None
        self._forget()
        return self._done(Publication(self._card(self._like), State.SLATE, raw=False))

    def _come(self, frame: Frame, now_s: float) -> None:
        if self._like is not None and now_s > self._now_s:
            step_s = min(now_s - self._now_s, _LONGEST_STEP_S)
            self._step_s = step_s if self._step_s is None else self._step_s + _USUAL * (step_s - self._step_s)
        self._like, self._now_s = frame.image, now_s

    def _forget(self) -> None:
        """Hold nothing of what was before: once the card was up, the picture behind it is not shown again."""
        self._swapped_s = -math.inf

    def _stand_in(self, frame: Frame, faces: tuple[Box, ...], now_s: float, seen: tuple[Box, ...]) -> Publication:
        """`faces`: those that hide the performer when they are blurred; `seen`: all, the performer's or not."""
        if self._on_miss is OnMiss.PASS:
            return self._done(Publication(frame.image, State.RAW, raw=True, faces=seen))
        if self._swapped is None and self._live:
            return self._done(Publication(None, State.ARMED, raw=False))
        if self._on_miss is OnMiss.BLUR:
            return self._done(Publication(hide(frame.image, faces), State.BLUR, raw=False, faces=faces))
        if self._swapped is None:
            return self._done(Publication(self._card(frame.image), State.ARMED, raw=False))
        held = self._on_miss is OnMiss.HOLD and 0 <= now_s - self._swapped_s <= self._hold_s
        if held and self._swapped.shape == frame.image.shape:
            return self._done(Publication(self._swapped, State.HOLD, raw=False, faces=self._swapped_faces))
        return self._done(Publication(self._card(frame.image), State.SLATE, raw=False))

    def _done(self, publication: Publication) -> Publication:
        self._state = publication.state
        return publication

    def _card(self, like: ImageU8) -> ImageU8:
        if self._slate is None or self._slate.shape != like.shape:
            self._slate = slate(like.shape[0], like.shape[1])
        return self._slate
