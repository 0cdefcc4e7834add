"""Tells two people apart, roughly. An image and its faces in, how alike two faces are out.

Note [How well faces are told apart]
    What is compared is the shape of the rigid part of the mesh and the colours of the aligned face, both only between
    moments in which the two faces look into the same direction: turning a head changes both more than another person
    does. There is no network for faces in here, and it shows. MEASURED
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import RIGID, CropGeometry, canonical_mesh, frame_to_crop
from realtime.frame import Face, ImageU8, Points

SHAPE_SPREAD, COLOUR_SPREAD = 0.02, 0.12
"""How far two looks of one person lie apart, in the middle: the units in which shape and colour are added up."""
BIN = 0.12
"""Faces whose directions differ by less, as sines of an angle, are compared."""
MEMORY_LOOKS = 60.0
"""A look counts for less and less as so many newer ones of the same side come in: the light changes, too."""

_GEOMETRY = CropGeometry(32, coverage=1.4)
_CELLS = 8
_SMALLEST_PX, _LARGEST = 8, 8
"""A face narrower than this, or than so many frames, is none."""
_DARKEST = 8.0
"""Levels added before the logarithm, so that noise in the dark does not count."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one face looks like in one frame."""

    side: NDArray[np.float64]
    """(2,) where it faces: right and down in the picture, sines."""
    values: NDArray[np.float64]
    """(N,) shape and colours; two looks of one person from one side are about 1 apart, Euclidean."""


def look(image: ImageU8, face: Face) -> Look | None:
    """The look of `face` in a (H, W, 3) BGR `image`; None for landmarks that make no face."""
    if not np.isfinite(face.landmarks).all():
        return None
    try:
        matrix = frame_to_crop(face.landmarks, _GEOMETRY)
    except ValueError:
        return None
    side_px = _GEOMETRY.size / math.hypot(matrix[0, 0], matrix[1, 0])
    if not _SMALLEST_PX <= side_px <= _LARGEST * max(image.shape):
        return None
    side, shape = rigid_shape(face.landmarks)
    # The crop is averaged over its cells anyway: sampling it sparsely is good enough, and costs the same at any size.
    crop = cv2.warpAffine(image, matrix, (_GEOMETRY.size, _GEOMETRY.size), flags=cv2.INTER_LINEAR)
    cells = np.asarray(cv2.resize(crop, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA), np.float64)
    parts = (shape / SHAPE_SPREAD / len(RIGID) ** 0.5, np.log(cells + _DARKEST) / COLOUR_SPREAD / _CELLS)
    return Look(side, np.concatenate([part.ravel() for part in parts]))


def rigid_shape(landmarks: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a (468 or 478, 3) mesh faces, (2,), and its rigid points, (152, 3), turned to face the camera at size 1."""
    points = landmarks[RIGID].astype(np.float64)
    points -= points.mean(axis=0)
    across, down = _axes() @ points
    across /= np.linalg.norm(across)
    down -= across * (down @ across)
    down /= np.linalg.norm(down)
    away = np.array([across[i - 2] * down[i - 1] - across[i - 1] * down[i - 2] for i in range(3)])
    turned = points @ np.column_stack([across, down, away])
    return -away[:2], turned / np.sqrt((turned**2).sum() / len(turned))


@cache
def _axes() -> NDArray[np.float64]:
    """(2, 152) weights of the points that give the directions across and down the face."""
    canonical = canonical_mesh()[RIGID]
    return np.asarray((canonical - canonical.mean(axis=0)).T)


class Likeness:
    """Remembers one face from all sides it has shown. Not thread-safe."""

    def __init__(self) -> None:
        self._sides: dict[tuple[int, int], tuple[float, Look]] = {}
        self.looks = 0
        """How many were added."""

    def add(self, look: Look) -> None:
        """Remember a look."""
        key = (round(float(look.side[0]) / BIN), round(float(look.side[1]) / BIN))
        count, mean = self._sides.get(key, (0.0, look))
        share = 1 / (count + 1)
        merged = Look(mean.side + share * (look.side - mean.side), mean.values + share * (look.values - mean.values))
        self._sides[key] = (min(count + 1, MEMORY_LOOKS), merged)
        self.looks += 1

    def distance(self, other: Likeness) -> float | None:
        """How different two faces are: about 1 for one person; None when they never faced the same way."""
        if len(self._sides) > len(other._sides):
            return other.distance(self)
        total, weight = np.zeros(0), 0.0
        for key, (count, mine) in self._sides.items():
            around = ((key[0] + i, key[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1))
            near = [other._sides[each] for each in around if each in other._sides]
            near = [(n, each) for n, each in near if np.abs(each.side - mine.side).max() < BIN]
            if near:
                theirs = sum(n for n, _ in near)
                values = sum((n / theirs * each.values for n, each in near), np.zeros(len(mine.values)))
                share = min(count, theirs)
                total = share * (mine.values - values) + (total if weight else 0)
                weight += share
        return float(np.linalg.norm(total / weight)) if weight else None
