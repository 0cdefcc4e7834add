"""Tells two people apart, roughly. An image and its faces in, how alike two faces are out.

Note [How well faces are told apart]
    What is compared is the shape of the rigid part of the mesh and the colours of the aligned face, between moments in
    which the two faces look nearly the same way: turning a head changes both more than another person does. There is no
    network for faces in here, and it shows. Measured through FaceFinder on 24 rendered people, each filmed for 6 s
    twice with other movements, 30 frames of the second film against the first (`python -m benchmarks.likeness`):

        equal error rate      same light    other light
        shape alone               26 %          31 %
        colours alone              8 %          23 %
        both                       7 %          21 %

    8 frames instead of 30 give 14 and 26 %. With exact landmarks the shape alone still errs in 18 %: the perspective of
    a near camera bends it more than people differ. Of three real people, filmed once each, moments of one film are 0.5
    to 1.4 apart and those of two films 1.6 to 2.9, but there rooms and cameras differ too.
    So whoever uses this counts on errors: see Note [Who is the performer].
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
BIN, REACH = 0.12, 0.3
"""Looks whose directions differ by less than BIN, as sines of angles, are averaged; up to REACH they are compared."""
EXPECTED, EXPECTED_TURNED = 1.7, 8.5
"""The looks of one person in one light are so far apart, and so much further for a difference of 1 in direction."""
MEMORY_LOOKS = 60.0
"""A look counts for less and less as so many newer ones of the same side come in: the light changes, too."""

_GEOMETRY = CropGeometry(32, coverage=1.4)
_CELLS = 8
_SMALLEST_PX, _LARGEST = 8, 8
"""A face narrower than this, or than so many frames, is none."""
_MOST_OUTSIDE = 0.1
"""A face of which more lies outside the picture is not looked at."""
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
    """The look of `face` in a (H, W, 3) BGR `image`; None for landmarks that make no face in it."""
    if not np.isfinite(face.landmarks).all():
        return None
    try:
        matrix = frame_to_crop(face.landmarks, _GEOMETRY)
    except ValueError:
        return None
    side_px = _GEOMETRY.size / math.hypot(matrix[0, 0], matrix[1, 0])
    if not _SMALLEST_PX <= side_px <= _LARGEST * max(image.shape) or _outside(face, image) > _MOST_OUTSIDE:
        return None
    side, shape = rigid_shape(face.landmarks)
    # The crop is averaged over its cells anyway: sampling it sparsely is good enough, and costs the same at any size.
    crop = cv2.warpAffine(image, matrix, (_GEOMETRY.size,) * 2, borderMode=cv2.BORDER_REPLICATE)
    cells = np.asarray(cv2.resize(crop, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA), np.float64)
    parts = (shape / SHAPE_SPREAD / len(RIGID) ** 0.5, np.log(cells + _DARKEST) / COLOUR_SPREAD / _CELLS)
    return Look(side, np.concatenate([part.ravel() for part in parts]))


def _outside(face: Face, image: ImageU8) -> float:
    """Share of a face's box that lies outside the picture."""
    left, top, right, bottom = face.box
    height, width = image.shape[:2]
    inside = max(min(right, width) - max(left, 0.0), 0.0) * max(min(bottom, height) - max(top, 0.0), 0.0)
    return float(1 - inside / max((right - left) * (bottom - top), 1e-9))


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

    def __init__(self, *looks: Look) -> None:
        self._sides: dict[tuple[int, int], tuple[float, Look]] = {}
        self.looks = 0
        """How many were added."""
        for each in looks:
            self.add(each)

    def add(self, look: Look) -> None:
        """Remember a look."""
        key = (round(float(look.side[0]) / BIN), round(float(look.side[1]) / BIN))
        count, mean = self._sides.get(key, (0.0, look))
        share = 1 / (count + 1)
        merged = Look(mean.side + share * (look.side - mean.side), mean.values + share * (look.values - mean.values))
        self._sides[key] = (min(count + 1, MEMORY_LOOKS), merged)
        self.looks += 1

    def distance(self, other: Likeness) -> float | None:
        """How different two faces are: about 1 for one person; None when they never faced nearly the same way."""
        few, many = sorted((self._sides, other._sides), key=len)
        if not few:
            return None
        sides = np.array([each.side for _, each in many.values()])
        entries = list(many.values())
        total, weight = np.zeros(len(entries[0][1].values)), 0.0
        for count, look in few.values():
            turned = np.abs(sides - look.side).max(axis=1)
            nearest = int(turned.argmin())
            turn = float(turned[nearest])
            if turn < REACH:
                there, like = entries[nearest]
                share = min(count, there) / (1 + (turn / BIN) ** 2)
                total += share / (EXPECTED + EXPECTED_TURNED * turn) * (look.values - like.values)
                weight += share
        return float(np.linalg.norm(total)) / weight if weight else None
