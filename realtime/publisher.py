"""Lets out only what is safe. Attempts and silence in, the frame to show out, or None; counts what happened.

Guard and badge in a row. No thread.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

from realtime.badge import Badge
from realtime.errors import LiveswapError, ModelError, SourceError
from realtime.frame import Frame
from realtime.guard import Guard, Publication, State
from realtime.report import Durations, StageTimes
from realtime.swap import Miss
from realtime.swapping import Attempt, failure

_CARD_STEP_S = 1e-3
"""A card follows so soon after the last picture."""

_SENTENCES: dict[str, tuple[type[LiveswapError], str, str]] = {
    Miss.NO_FACE: (SourceError, "no face was found in", "choose a video that shows a face"),
    Miss.WRONG_PERSON: (SourceError, "the performer was not in view in", "choose a face with --face, or click on it"),
    Miss.UNDECIDED: (SourceError, "it was not clear who the performer is in", "choose a face with --face"),
    Miss.NO_SHAPE: (SourceError, "the landmarks made no face in", "choose a video that shows a face clearly"),
    Miss.NOT_FINITE: (ModelError, "the model's answer was not finite in", "try another model"),
    Miss.UNCOVERED: (ModelError, "the mask did not cover the face in", "try another model, or other blend settings"),
    Miss.UNPAINTED: (ModelError, "the model painted its input back in", "try another model"),
    Miss.OUTSIDE: (SourceError, "the face lay outside the picture in", "choose a video that shows the whole face"),
}
"""What is said when not one frame was swapped: the kind of error, what was wrong, the remedy."""


class Publisher:
    """Turns attempts into what may be shown. Not thread-safe, but for what other threads read."""

    def __init__(self, guard: Guard, badge: Badge | None, *, live: bool) -> None:
        """`live`: the guard's time is the time of capture, otherwise the presentation time."""
        self._guard, self._badge, self._live = guard, badge, live
        self._last_failure: Exception | None = None
        self._last: Frame | None = None
        self._last_s = 0.0
        self.times = StageTimes()
        """Of guard and badge."""
        self.latency = Durations()
        """From the capture of a frame to its publication."""
        self.states: Counter[str] = Counter()
        """Frames by the state of the guard."""
        self.misses: Counter[str] = Counter()
        """Frames that were not swapped, by the reason; those that failed are counted in `failed`."""
        self.state = "opening"
        """What was published last."""
        self.frames = self.raw = self.failed = self.late = 0
        """Frames that came in, went out raw, could not be swapped because of an error, were too old to be shown."""

    def publish(self, attempt: Attempt) -> Frame | None:
        """What to show for a frame, None for nothing."""
        frame, result = attempt.frame, attempt.result
        began_s = time.monotonic()
        now_s = frame.captured_s if self._live else frame.pts_s
        if result is None:
            self.failed += 1
            self._last_failure = attempt.error
            publication = self._guard.fail(frame, now_s)
        else:
            if not result.swapped:
                self.misses[result.miss or "no reason given"] += 1
            publication = self._guard.publish(result, now_s)
        self.times.add("guard", (time.monotonic() - began_s) * 1e3)
        self._last, self._last_s = frame, time.monotonic()
        self.frames += 1
        self.raw += publication.raw
        self.states[str(publication.state)] += 1
        shown = self._stamped(frame, publication)
        self.latency.add((time.monotonic() - frame.captured_s) * 1e3)
        return shown

    def refuse(self, attempt: Attempt) -> Frame | None:
        """Count a frame that is too old to be shown; see tick."""
        self.late += 1
        return self.tick()

    def tick(self) -> Frame | None:
        """What to show when nothing came in time, None when what is shown may stay; live runs only."""
        if self._last is None or not self._live:
            return None
        idle_s = time.monotonic() - self._last_s
        publication = self._guard.tick(idle_s)
        if publication is None:
            return None
        self.states[str(publication.state)] += 1
        # Right behind the last picture: the one that is still in the swap comes later, and time must not step back.
        card = replace(self._last, captured_s=self._last_s + idle_s, pts_s=self._last.pts_s + _CARD_STEP_S)
        return self._stamped(card, publication)

    def _stamped(self, frame: Frame, publication: Publication) -> Frame | None:
        self.state = str(publication.state)
        image = publication.image
        if image is None:
            return None
        if self._badge is not None:
            began_s = time.monotonic()
            image = self._badge.stamp(image, publication.faces)
            self.times.add("badge", (time.monotonic() - began_s) * 1e3)
        return frame.with_image(image)

    @property
    def fruitless(self) -> bool:
        """Whether nothing that came out so far is a result: not one frame was swapped, or passed raw."""
        return not (self.states[State.LIVE] or self.states[State.RAW])

    def check_result(self) -> None:
        """Raise when a whole source went by and not one frame could be swapped: slates are no result.

        The sentence names the most frequent reason.
        """
        if not self.frames and self.late:
            raise LiveswapError(f"all of {self.late} frames were older than the latency cap; allow more, or use less")
        if not self.frames or not self.fruitless:
            return
        reason, count = max(self.misses.items(), key=lambda item: item[1], default=("", 0))
        if self._last_failure is not None and self.failed >= count:
            every = f"every frame, {self.failed} in all"
            some = f"{self.failed} of {self.frames} frames"
            raise failure(self._last_failure, every if self.failed == self.frames else some) from self._last_failure
        kind, what, remedy = _SENTENCES.get(
            reason, (LiveswapError, f"nothing was swapped ({reason}) in", "report this")
        )
        whole = reason == Miss.NO_FACE and count == self.frames
        frames = f"any of {count} frames" if whole else f"{count} of {self.frames} frames"
        raise kind(f"{what} {frames}; {remedy}")
