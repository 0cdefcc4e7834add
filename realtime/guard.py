"""Decides what is published. SwapResult in, Publication out: a swapped face or a stand-in, never the raw face.

Note [Fail closed]
    A picture counts as raw until a swap has succeeded on it. Raw pictures leave this room only when the user asked
    for it (`OnMiss.PASS`), and then they are marked `raw`. For everything else there is a stand-in that shows nobody:

        armed   before the first swap: nothing when live, the slate in a file (which needs a picture for every frame)
        live    the swapped picture
        hold    the last swapped picture, for at most hold_ms
        blur    the picture with the heads pixelated - or all of it, when it is not known where they are
        slate   a neutral card
        raw     the picture as it came in; only with OnMiss.PASS

    A time that runs backwards, a picture of another size, a crash: whatever is unexpected leads to a stand-in.

No thread and no clock of its own: the caller says what time it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from realtime.frame import Frame, ImageU8
from realtime.standin import Box, hide, slate

if TYPE_CHECKING:
    from realtime.swap import SwapResult

MAX_HOLD_MS = 10_000
"""A picture that stands still for longer helps nobody."""


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
    """Keeps raw pictures in. Not thread-safe: one per run."""

    def __init__(self, on_miss: OnMiss = OnMiss.HOLD, hold_ms: float = 250.0, *, live: bool = True) -> None:
        if not (math.isfinite(hold_ms) and 0 <= hold_ms <= MAX_HOLD_MS):
            raise ValueError(f"hold_ms lies between 0 and {MAX_HOLD_MS}, got {hold_ms}")
        self._on_miss, self._hold_s, self._live = OnMiss(on_miss), hold_ms / 1000, live
        self._state = State.ARMED
        self._swapped: ImageU8 | None = None
        self._swapped_faces: tuple[Box, ...] = ()
        self._swapped_s = 0.0
        self._slate: ImageU8 | None = None

    @property
    def state(self) -> State:
        """What was published last."""
        return self._state

    def publish(self, result: SwapResult, now_s: float) -> Publication:
        """What to show for a frame that went through the swap at time `now_s` (seconds, any origin)."""
        boxes = tuple(face.box for face in result.faces)
        if result.swapped:
            self._swapped, self._swapped_faces, self._swapped_s = result.frame.image, boxes, now_s
            return self._done(Publication(result.frame.image, State.LIVE, raw=False, faces=boxes))
        return self._stand_in(result.frame, boxes, now_s)

    def fail(self, frame: Frame, now_s: float) -> Publication:
        """What to show for a frame whose swap crashed: nothing is known about where its faces are."""
        return self._stand_in(frame, (), now_s)

    def _stand_in(self, frame: Frame, faces: tuple[Box, ...], now_s: float) -> Publication:
        if self._on_miss is OnMiss.PASS:
            return self._done(Publication(frame.image, State.RAW, raw=True, faces=faces))
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
