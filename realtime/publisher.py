"""Swaps frames and lets out only what is safe. Frame in, the frame to show out, or None; counts what happened.

Swap, guard and badge in a row, and the one place where a failing swap is survived. No thread.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from realtime.badge import Badge
from realtime.errors import LiveswapError, ModelError, SourceError
from realtime.frame import Frame
from realtime.guard import Guard, State
from realtime.report import StageTimes
from realtime.swap import Miss

if TYPE_CHECKING:
    from realtime.swap import SwapResult

_log = logging.getLogger(__name__)

MAX_FAILURES = 30
"""So many swaps in a row may raise before the run ends; the guard stands in for each."""

_SENTENCES: dict[str, tuple[type[LiveswapError], str, str]] = {
    Miss.NO_FACE: (SourceError, "no face was found in", "choose a video that shows a face"),
    Miss.NO_SHAPE: (SourceError, "the landmarks made no face in", "choose a video that shows a face clearly"),
    Miss.NOT_FINITE: (ModelError, "the model's answer was not finite in", "try another model"),
    Miss.UNCOVERED: (ModelError, "the mask did not cover the face in", "try another model, or other blend settings"),
    Miss.OUTSIDE: (SourceError, "the face lay outside the picture in", "choose a video that shows the whole face"),
}
"""What is said when not one frame was swapped: the kind of error, what was wrong, the remedy."""


class Swapper(Protocol):
    """What swaps: realtime.swap.FaceSwapper."""

    def swap(self, frame: Frame) -> SwapResult:
        """Swap one frame; an error costs this frame only."""
        ...

    def close(self) -> None:
        """Free the networks; safe to call twice."""
        ...


class Publisher:
    """Turns frames into what may be shown. Not thread-safe; the swapper is opened and closed by the caller."""

    def __init__(self, swapper: Swapper, guard: Guard, badge: Badge | None, *, live: bool) -> None:
        """`live`: the guard's time is the time of capture, otherwise the presentation time."""
        self._swapper, self._guard, self._badge, self._live = swapper, guard, badge, live
        self._failures_in_a_row = 0
        self._last_failure: Exception | None = None
        self.times = StageTimes()
        """Of wait, swap, guard, badge and of what the swapper reports."""
        self.states: Counter[str] = Counter()
        """Frames by the state of the guard."""
        self.misses: Counter[str] = Counter()
        """Frames that were not swapped, by the reason; those that failed are counted in `failed`."""
        self.state = "opening"
        """What was published last."""
        self.frames = self.raw = self.failed = 0
        """Frames that came in, went out raw, could not be swapped because of an error."""

    def publish(self, frame: Frame) -> Frame | None:
        """What to show for a frame, None for nothing. Raises after MAX_FAILURES failing swaps in a row."""
        began_s = time.monotonic()
        self.times.add("wait", (began_s - frame.captured_s) * 1e3)
        result = self._try_to_swap(frame)
        swapped_s = time.monotonic()
        now_s = frame.captured_s if self._live else frame.pts_s
        publication = self._guard.fail(frame, now_s) if result is None else self._guard.publish(result, now_s)
        guarded_s = time.monotonic()
        image = publication.image
        if self._badge is not None and image is not None:
            image = self._badge.stamp(image, publication.faces)
            self.times.add("badge", (time.monotonic() - guarded_s) * 1e3)
        self.times.add("swap", (swapped_s - began_s) * 1e3)
        self.times.add("guard", (guarded_s - swapped_s) * 1e3)
        self.frames += 1
        self.raw += publication.raw
        self.state = str(publication.state)
        self.states[self.state] += 1
        return None if image is None else frame.with_image(image)

    @property
    def fruitless(self) -> bool:
        """Whether nothing that came out so far is a result: not one frame was swapped, or passed raw."""
        return not (self.states[State.LIVE] or self.states[State.RAW])

    def check_result(self) -> None:
        """Raise when a whole source went by and not one frame could be swapped: slates are no result.

        The sentence names the most frequent reason.
        """
        if not self.frames or not self.fruitless:
            return
        reason, count = max(self.misses.items(), key=lambda item: item[1], default=("", 0))
        if self._last_failure is not None and self.failed >= count:
            every = f"every frame, {self.failed} in all"
            some = f"{self.failed} of {self.frames} frames"
            raise self._sentence(every if self.failed == self.frames else some) from self._last_failure
        kind, what, remedy = _SENTENCES.get(
            reason, (LiveswapError, f"nothing was swapped ({reason}) in", "report this")
        )
        whole = reason == Miss.NO_FACE and count == self.frames
        frames = f"any of {count} frames" if whole else f"{count} of {self.frames} frames"
        raise kind(f"{what} {frames}; {remedy}")

    def _try_to_swap(self, frame: Frame) -> SwapResult | None:
        try:
            result = self._swapper.swap(frame)
            if result.swapped and result.frame.image is frame.image:
                raise ValueError("the swap gave back the picture that it was given")
        except Exception as error:
            self._survive(error)
            return None
        self._failures_in_a_row = 0
        if not result.swapped:
            self.misses[result.miss or "no reason given"] += 1
        for stage, duration_ms in result.stages_ms.items():
            self.times.add(stage, duration_ms)
        return result

    def _survive(self, error: Exception) -> None:
        self.failed += 1
        self._failures_in_a_row += 1
        if self._last_failure is None:
            _log.error("a swap failed, the guard stands in for its frame: %s", error)
            _log.debug("where it failed", exc_info=error)
        self._last_failure = error
        if self._failures_in_a_row >= MAX_FAILURES:
            raise self._sentence(f"{MAX_FAILURES} frames in a row") from error

    def _sentence(self, frames: str) -> LiveswapError:
        if isinstance(self._last_failure, LiveswapError):
            return self._last_failure
        return LiveswapError(f"the swap failed on {frames} ({self._last_failure}); try another model, or report this")
