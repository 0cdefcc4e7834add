"""What extraction is told, and what it tells. Settings in; progress and a report out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from realtime.align import CropGeometry, full_face, whole_face
from realtime.errors import UsageError

_GEOMETRIES: dict[str, Callable[[int], CropGeometry]] = {"whole": whole_face, "full": full_face}


@dataclass(frozen=True, slots=True)
class ExtractConfig:
    """How faces are taken out of videos."""

    size: int = 256
    """Side of the crops in pixels; stored crops are 1.25 times as large."""
    coverage_kind: Literal["whole", "full"] = "whole"
    """whole: forehead to chin with room around; full: brows to chin, for small models."""
    fps: float | None = None
    """Look at no more than so many frames a second; None: at every frame."""
    every: int = 1
    """Look at every n-th frame of those that `fps` leaves."""
    max_faces: int = 1
    """Faces taken from one frame; the one followed longest comes first."""
    detector: Literal["mediapipe", "dlib"] = "mediapipe"
    """What finds faces; the mesh is fitted by the same network in the box of either."""
    min_native_px: float = 24.0
    """Faces less high than this in the source, hairline to chin, are left out."""
    keep_duplicates: bool = False
    """Store faces that show nothing new, too, see Note [Near duplicates]."""
    main_person: bool = False
    """Store only whom the set shows most, see training.identity."""

    def __post_init__(self) -> None:
        """Raises UsageError for a setting that cannot work."""
        if not 32 <= self.size <= 2048:
            raise UsageError(f"crops are 32 to 2048 pixels wide, not {self.size}; give --size 256")
        if self.coverage_kind not in _GEOMETRIES:
            raise UsageError(f"there is no coverage kind {self.coverage_kind!r}; give whole or full")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"cannot look at {self.fps} frames a second; give --fps a number above 0")
        if self.every < 1 or self.max_faces < 1:
            raise UsageError("'every' and 'max_faces' count from 1; give larger numbers")
        if self.detector not in ("mediapipe", "dlib"):
            raise UsageError(f"there is no detector {self.detector!r} in this version; give mediapipe or dlib")

    @property
    def geometry(self) -> CropGeometry:
        """What the crops show."""
        return _GEOMETRIES[self.coverage_kind](self.size)

    def rate(self, film_fps: float) -> float | None:
        """Frames a second to look at in a film of that nominal rate; None: every frame."""
        if self.every == 1:
            return self.fps
        return min(self.fps or film_fps, film_fps) / self.every

    def search_settings(self) -> dict[str, Any]:
        """What the search of a film depends on, as plain values; the rest is decided when all films are searched."""
        return {name: value for name, value in asdict(self).items() if name not in _DECIDED_LATE}


_DECIDED_LATE = "keep_duplicates", "main_person"


@dataclass(frozen=True, slots=True)
class ExtractProgress:
    """How far an extraction has come."""

    source: str
    """Name of the film that is read; of one of them when several are read at a time."""
    frames_done: int
    """Frames of all films that were read."""
    frames_total: int | None
    """Frames that they probably have; None when one of them does not say."""
    faces: int
    """Usable faces found so far, in all films."""
    frames_before: int = 0
    """Of `frames_done`, those that an earlier extraction has read."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What became of one video."""

    name: str
    frames_read: int
    frames_searched: int
    """Frames that `fps` and `every` left to look at."""
    frames_with_face: int
    """Of these, frames in which a face was found, taken or not."""
    faces: int
    """Faces taken into the set."""
    left_out: dict[str, int]
    """Faces found and not taken, by reason: too small, outside the frame, implausible, near duplicate, another person.
    """
    cuts: int
    """Jump cuts."""


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """What became of all videos."""

    faceset: str
    """Folder of the set."""
    sha256: str
    frames: int
    """Frames looked at."""
    faces: int
    persons: dict[int, int]
    """Faces of each person in the set, 0 for whom it shows most; how well they are told apart: training.identity."""
    seconds: float
    parts_resumed: int
    """Parts of the films that an earlier, interrupted extraction had searched."""
    sources: tuple[SourceReport, ...]

    def to_json(self) -> dict[str, object]:
        """The report as plain values, ready for json.dump."""
        return asdict(self)
