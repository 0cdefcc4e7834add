"""Swaps frames and survives failing swaps. Frame in, Attempt out. No thread."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from realtime.errors import LiveswapError
from realtime.frame import Frame
from realtime.report import StageTimes
from realtime.source import SourceInfo

if TYPE_CHECKING:
    from realtime.swap import SwapResult

_log = logging.getLogger(__name__)

MAX_FAILURES = 30
"""So many swaps in a row may raise before the run ends; the guard stands in for each."""


class Swapper(Protocol):
    """What swaps: realtime.swap.FaceSwapper."""

    def swap(self, frame: Frame) -> SwapResult:
        """Swap one frame; an error costs this frame only."""
        ...

    def close(self) -> None:
        """Free the networks; safe to call twice."""
        ...


@runtime_checkable
class Beginning(Protocol):
    """A swapper that wants to know what it will swap."""

    def begin(self, info: SourceInfo) -> None:
        """Get ready before the first frame; an error ends the run before it began."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """What became of one frame."""

    frame: Frame
    """As it came in."""
    result: SwapResult | None
    """None when the swap raised `error`."""
    error: Exception | None = None


class Swapping:
    """Lets a swapper work through frames. Not thread-safe; the swapper is opened and closed by the caller."""

    def __init__(self, swapper: Swapper) -> None:
        self._swapper = swapper
        self._failures_in_a_row = self._failed = 0
        self.times = StageTimes()
        """Of wait, swap and of what the swapper reports."""
        self.late = 0
        """Frames that were too old to be swapped; counted by the caller."""

    def attempt(self, frame: Frame) -> Attempt:
        """Swap one frame. Raises after MAX_FAILURES failing swaps in a row."""
        began_s = time.monotonic()
        self.times.add("wait", (began_s - frame.captured_s) * 1e3)
        try:
            result = self._swapper.swap(frame)
            if result.swapped and result.frame.image is frame.image:
                raise ValueError("the swap gave back the picture that it was given")
        except Exception as error:
            self._survive(error)
            return Attempt(frame, None, error)
        finally:
            self.times.add("swap", (time.monotonic() - began_s) * 1e3)
        self._failures_in_a_row = 0
        for stage, duration_ms in result.stages_ms.items():
            self.times.add(stage, duration_ms)
        return Attempt(frame, result)

    def _survive(self, error: Exception) -> None:
        self._failed += 1
        self._failures_in_a_row += 1
        if self._failed == 1:
            _log.error("a swap failed, the guard stands in for its frame: %s", error)
            _log.debug("where it failed", exc_info=error)
        if self._failures_in_a_row >= MAX_FAILURES:
            raise failure(error, f"{MAX_FAILURES} frames in a row") from error


def failure(error: Exception, frames: str) -> LiveswapError:
    """The sentence about swaps that failed: the error's own if it has one."""
    if isinstance(error, LiveswapError):
        return error
    return LiveswapError(f"the swap failed on {frames} ({error}); try another model, or report this")
