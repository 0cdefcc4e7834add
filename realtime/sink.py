"""What an output is. No picture in, the promises that every sink keeps out.

Every sink works in a plain `for` loop, is opened and closed on the thread that feeds it, and starts no thread.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from realtime.frame import Frame
from realtime.sound import SoundBlock


class Sink(Protocol):
    """Where frames go."""

    @property
    def name(self) -> str:
        """For people and reports."""
        ...

    def send(self, frame: Frame) -> None:
        """Take the next frame. Raises SinkError."""
        ...

    def close(self) -> None:
        """Finish: everything sent is safe afterwards. Safe to call twice. Raises SinkError."""
        ...

    def abort(self) -> None:
        """End after an error, without claiming that the output is whole. Never raises; safe to call twice."""
        ...


@runtime_checkable
class Discarding(Protocol):
    """A sink that can also end as if it had never been there."""

    def discard(self) -> None:
        """End and keep nothing: what was sent is no result. Never raises; does nothing after close() or abort()."""
        ...


@runtime_checkable
class Repeating(Protocol):
    """A sink whose readers want a picture now and then even when none comes."""

    @property
    def repeat_s(self) -> float:
        """After so long without a frame, and again after each repetition, `repeat` is called. Seconds."""
        ...

    def repeat(self) -> None:
        """Show what was sent last once more; nothing when nothing was sent. Raises SinkError."""
        ...


@runtime_checkable
class TakesSound(Protocol):
    """A sink that also takes sound."""

    def hear(self, block: SoundBlock) -> None:
        """Take the next block of sound; safe to call from another thread than `send`. Raises SinkError."""
        ...
