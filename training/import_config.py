"""What an import is told, and what it tells. Settings in; progress and a report out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from realtime.errors import UsageError


@dataclass(frozen=True, slots=True)
class ImportConfig:
    """How faces of other programs become a faceset."""

    size: int = 256
    """Side of the crops in pixels; stored crops are 1.25 times as large."""
    coverage_kind: Literal["auto", "whole", "full"] = "auto"
    """How much of a head; auto: whole if the pictures show that much, else full."""
    fps: float = 30.0
    """Frames a second of the videos that the faces come from."""
    min_native_px: float = 24.0
    """Faces less high than this in their source, hairline to chin, are left out."""
    alignments: Path | None = None
    """A faceswap file of alignments; None: alignments.json or alignments.fsa beside the pictures, if there is one."""

    def __post_init__(self) -> None:
        """Raises UsageError for a setting that cannot work."""
        if not 32 <= self.size <= 2048:
            raise UsageError(f"crops are 32 to 2048 pixels wide, not {self.size}; give --size 256")
        if self.coverage_kind not in ("auto", "whole", "full"):
            raise UsageError(f"there is no coverage kind {self.coverage_kind!r}; give auto, whole or full")
        if not 0 < self.fps <= 1000:
            raise UsageError(f"no video has {self.fps} frames a second; give --fps a number above 0")


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far an import has come."""

    stage: Literal["look through", "import"]
    done: int
    total: int
    """Files."""
    faces: int
    """Faces in the set so far."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of the files."""

    faceset: str
    """Folder of the set."""
    sha256: str
    coverage_kind: str
    files: int
    faces: int
    refused: dict[str, int]
    """Files that gave no face, by reason: unreadable, no face found, landmarks elsewhere, implausible, too small."""
    sentences: tuple[str, ...]
    """What was wrong with the first of them."""
    without_metadata: int
    """Faces taken whose files say nothing about them: of unknown place and size in their source."""
    masks_left_out: int
    """Faces taken whose files bring a mask; our sets hold none."""
    made_up: float
    """Mean share of the crops that lies beyond the edge of the pictures and repeats it, [0, 1]."""
    sources: dict[str, int]
    """Faces by the name of their source."""
    persons: dict[int, int]
    """Faces of each person; how well they are told apart: training.identity."""
    seconds: float

    def to_json(self) -> dict[str, object]:
        """The report as plain values, ready for json.dump."""
        return asdict(self)
