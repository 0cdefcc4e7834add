"""What a source of frames is. No picture in, the promises that every source keeps out.

Every source works in a plain `for` loop, is opened and closed on the thread that reads it, and starts no thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, Self

from realtime.frame import Frame


@dataclass(frozen=True, slots=True)
class Colour:
    """How a video says that its colours are meant, in the numbers of ITU-T H.273; 2 is `unspecified`."""

    matrix: int
    primaries: int = 2
    transfer: int = 2


BT709 = Colour(1, 1, 1)
BT601 = Colour(6, 6, 6)
SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""H.273 matrix -> the converter's name for it (libswscale, SWS_CS_*)."""


def usual_colour(height: int) -> Colour:
    """What players assume for video that does not say: BT.709 for high definition, BT.601 below."""
    return BT709 if height > 576 else BT601


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known about a source before its first frame."""

    name: str
    """For people: without folders and credentials."""
    width: int
    height: int
    """Of the frames that come out, upright, in pixels."""
    fps: Fraction
    """The average rate of a file, the wanted rate of a live source."""
    frames: int | None
    """How many frames will come, as far as the source knows."""
    live: bool
    """Whether time runs on when nobody reads."""
    audio_path: Path | None = None
    """The file that holds the sound, if there is any."""
    path: Path | None = None
    """The file itself: sinks refuse to overwrite it."""
    time_base: Fraction = Fraction(1, 90_000)
    """Presentation times are multiples of it, seconds."""
    start_s: float = 0.0
    """The time inside the file at which pts_s is 0."""
    first_pts_s: float = 0.0
    """pts_s of the first frame of a source that is not live: sinks count from it."""
    colour: Colour | None = None
    """How the source marks its colours; None: it does not, and means what is usual for its size."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel divided by its height."""


class Source(Protocol):
    """Where frames come from."""

    @property
    def info(self) -> SourceInfo:
        """Known as soon as the source is open."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Every frame in order. Raises SourceError when the source breaks."""
        ...

    def close(self) -> None:
        """Free the device or the file; safe to call twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
