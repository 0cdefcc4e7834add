"""What other programs' face pictures say. The facts and names in a file in, checked ones out.

DeepFaceLab and faceswap both keep crops with 68 landmarks and where they were cut. Whatever a reader finds out comes
in this form, with everything missing that the file does not tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime.align import fit_similarity
from realtime.errors import FacesetError
from realtime.frame import Matrix

MAX_FILE_BYTES = 64 << 20
"""A crop of 4096 pixels a side with its metadata takes less."""
MAX_SIDE_PX = 4096
_LONGEST_FRAME = 9
"""Digits; longer numbers are dates, not frames."""
_SCALES = (1 / 64, 64.0)
"""Pixels of the source for one of the crop."""
_FRAME_AND_FACE = re.compile(r"(.*?)[ _-]*([0-9]+)_([0-9]{1,2})", re.ASCII)
_FRAME = re.compile(r"(.*?)[ _-]*([0-9]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """One picture of a face, still unread."""

    name: str
    """For complaints, and for the order: file name, or its number in a pack."""
    read: Callable[[], bytes]
    """Raises FacesetError."""


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """Where a face was cut out, as far as its file tells."""

    source: str = ""
    """Name of the video or series of pictures; empty when only frames are numbered."""
    frame: int | None = None
    face: int = 0
    """Number of the face in its frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What one file says about its face; None for what it leaves out."""

    place: SourcePlace
    landmarks: NDArray[np.float32] | None = None
    """(68, 2) in the pixels of the picture."""
    source_landmarks: NDArray[np.float32] | None = None
    """(68, 2) in the pixels of the source."""
    to_source: Matrix | None = None
    """(2, 3) similarity from the pixels of the picture to those of the source."""
    metadata: bool = True
    """Whether the file says anything."""
    masked: bool = False
    """Whether it brings a mask of its own."""

    def crop_to_source(self) -> Matrix | None:
        """The similarity from the picture to the source: between both landmarks, or else as the file states it."""
        matrix = self.to_source
        if self.landmarks is not None and self.source_landmarks is not None:
            try:
                matrix = fit_similarity(self.landmarks, self.source_landmarks)
            except ValueError:
                return None
        return matrix if matrix is not None and plausible(matrix) else None


def plausible(matrix: Matrix) -> bool:
    """Whether a crop can have been cut with this scale."""
    return bool(np.isfinite(matrix).all() and _SCALES[0] < np.hypot(matrix[0, 0], matrix[1, 0]) < _SCALES[1])


def place_of(name: str, *, own_name: bool = False) -> SourcePlace:
    """What the name of a frame, or (`own_name`) of the crop itself, tells: `clip_000123.png` is frame 123 of clip.

    Folders in it are left out, and so is what cannot be printed: the name is only ever shown.
    """
    last = re.split(r"[/\\]", name)[-1]
    stem = last.rpartition(".")[0] or last
    stem = "".join(char if char.isprintable() else "?" for char in stem)[:200]
    face = 0
    match = _FRAME_AND_FACE.fullmatch(stem) if own_name else None
    if match and len(match[2]) <= _LONGEST_FRAME:
        return SourcePlace(match[1], int(match[2]), int(match[3]))
    match = _FRAME.fullmatch(stem)
    if match and len(match[2]) <= _LONGEST_FRAME:
        return SourcePlace(match[1], int(match[2]), face)
    return SourcePlace()


def points68(value: object, name: str, what: str) -> NDArray[np.float32]:
    """(68, 2) float32 landmarks out of a plain list or array. Raises FacesetError unless they are that and finite."""
    points = _numbers(value, (68, 2))
    if points is None or np.abs(points).max() > 1e6:
        raise FacesetError(f"{name}: {what!r} are not 68 points; leave the file out or get an undamaged copy")
    return points.astype(np.float32)


def matrix23(value: object, name: str, what: str) -> Matrix:
    """(2, 3) float64 matrix out of a plain list or array. Raises FacesetError unless it is that and finite."""
    matrix = _numbers(value, (2, 3))
    if matrix is None or np.abs(matrix).max() > 1e9:
        raise FacesetError(f"{name}: {what!r} is no 2x3 matrix; leave the file out or get an undamaged copy")
    return matrix


def _numbers(value: object, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """`value` as an array of `shape`, None unless it is one and finite. Lists are walked: they may hold anything."""
    if isinstance(value, np.ndarray):
        array = value if value.shape == shape and value.dtype.kind in "iuf" else None
    else:
        array = _rows(value, shape)
    if array is None:
        return None
    array = array.astype(np.float64)
    return array if np.isfinite(array).all() else None


def _rows(value: object, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    if not isinstance(value, list) or len(value) != shape[0]:
        return None
    rows: list[list[float]] = []
    for row in value:
        cells = row.tolist() if isinstance(row, np.ndarray) else row
        if not isinstance(cells, list) or len(cells) != shape[1]:
            return None
        if not all(isinstance(cell, int | float) and not isinstance(cell, bool) and abs(cell) < 1e30 for cell in cells):
            return None  # NaN is caught here, too
        rows.append([float(cell) for cell in cells])
    return np.array(rows)
