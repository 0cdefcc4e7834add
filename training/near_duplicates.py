"""Tells which faces of a track show nothing new. Small pictures and meshes in, yes or no out.

Note [Near duplicates]
    A face is a near duplicate when one that was kept shortly before it in the same track looks the same in every
    respect: the pixels of the face differ by less than PIXELS on average, and neither lips nor lids nor brows nor the
    whole mesh have moved by MESH (root mean square). Lips, lids and brows count each for itself, because they are few
    points of many: so what is dropped differs from what is kept by no more than MESH in any of them, a fortieth
    of a mouth that opens wide, and no expression is lost.

    The bounds lie between what was measured of noise and of life, in crops of 320 px, 95 of 100 pairs of frames below:

        a rendered face that holds still, with sensor noise and H.264, up to half a second apart   0.7 levels  0.06 %
    and half of the pairs above:
        a rendered face that talks, neighbours at 30 frames a second                               2.1 levels  0.22 %
        a real one                                                                                 2.3 levels  0.27 %
"""

from __future__ import annotations

import math
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.frame import ImageU8, Points
from realtime.landmarks import BROWS, LEFT_EYE, LIPS_INNER, LIPS_OUTER, RIGHT_EYE

PIXELS = 2.0
"""Mean absolute difference of two small pictures, grey levels."""
MESH = 0.0025
"""Of the side of the stored crop."""
MEMORY = 64
"""So many kept faces of a track a new one is compared with."""
SMALL_PX = 32
_INNER = 0.6
"""Share of the stored crop's side, in its middle, that the face fills."""
_GROUPS = (LIPS_OUTER + LIPS_INNER, RIGHT_EYE + LEFT_EYE, BROWS, tuple(range(468)))


def small_picture(crop: ImageU8) -> NDArray[np.uint8]:
    """(SMALL_PX, SMALL_PX) grey picture of the face in a stored crop (P, P, 3) BGR."""
    edge = round(crop.shape[0] * (1 - _INNER) / 2)
    grey = cv2.cvtColor(np.ascontiguousarray(crop[edge:-edge, edge:-edge]), cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA), np.uint8)


class TrackMemory:
    """Remembers the faces of one track that were kept last. Not thread-safe."""

    def __init__(self) -> None:
        self._pictures: deque[NDArray[np.float32]] = deque(maxlen=MEMORY)
        self._meshes: deque[NDArray[np.float32]] = deque(maxlen=MEMORY)

    def is_new(self, picture: NDArray[np.uint8], mesh: Points, side: int) -> bool:
        """Whether a face shows something new; only then it is remembered.

        `picture` is its small picture, `mesh` (468, 3) lies in the pixels of its crop of `side` pixels.
        """
        values, points = picture.astype(np.float32), np.asarray(mesh[:468, :2] / side, np.float32)
        if self._pictures:
            alike = np.abs(np.stack(self._pictures) - values).mean(axis=(1, 2)) < PIXELS
            if any(_moved(self._meshes[i], points) < MESH for i in np.flatnonzero(alike)):
                return False
        self._pictures.append(values)
        self._meshes.append(points)
        return True


def _moved(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """How far the part of the face that moved most has moved, root mean square, in sides of the crop."""
    squares = ((now - before) ** 2).sum(axis=1)
    return math.sqrt(max(float(squares[list(group)].mean()) for group in _GROUPS))
