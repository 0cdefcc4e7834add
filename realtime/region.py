"""The rotated square that a face network looks at. Detection or landmarks in, pixels for the network out.

Note [Corner to corner]
    A region of side s is sampled into n pixels so that the *corners* meet: pixel i of the sample shows the region at
    i / n, not at (i + 0.5) / n. MediaPipe samples like this, and its networks expect the half-pixel shift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.frame import ImageU8, Points

_MARGIN = 1.5
"""A region is so many times as wide as the face in it."""
_RIGHT_EYE_OUTER, _LEFT_EYE_OUTER = 33, 263


@dataclass(frozen=True, slots=True)
class Region:
    """A square in the frame; it may reach beyond the frame."""

    x: float
    y: float
    """Centre in frame pixels."""
    side: float
    """Length of a side in frame pixels."""
    angle: float = 0.0
    """How far the square is turned, in radians, clockwise on the screen."""

    def sample(self, image: ImageU8, pixels: int, border: int) -> ImageU8:
        """(pixels, pixels, 3) view of the region, bilinear, see Note [Corner to corner]; `border` is a cv2.BORDER_*."""
        scale = self.side / pixels
        a, b = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        half = pixels / 2
        to_frame = np.array([[a, -b, self.x - (a - b) * half], [b, a, self.y - (a + b) * half]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(image, to_frame, (pixels, pixels), flags=flags, borderMode=border), np.uint8)

    def to_frame(self, points: NDArray[np.float32], pixels: int) -> Points:
        """(N, 3) points of a sample of `pixels` pixels, in frame pixels; depth gets the same unit."""
        scale = self.side / pixels
        a, b = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        x, y = points[:, 0] - pixels / 2, points[:, 1] - pixels / 2
        moved = np.stack([a * x - b * y + self.x, b * x + a * y + self.y, points[:, 2] * scale], axis=1)
        return moved.astype(np.float32, copy=False)

    def overlap(self, other: Region) -> float:
        """Intersection over union of the two squares as if neither were turned, [0, 1]."""
        return float(box_overlap(self._box(), other._box()[None])[0])

    def _box(self) -> NDArray[np.float64]:
        half = self.side / 2
        return np.array([self.x - half, self.y - half, self.x + half, self.y + half])


def region_around(box: NDArray[np.floating], right_eye: NDArray[np.floating], left_eye: NDArray[np.floating]) -> Region:
    """The region of a face from its box (left, top, right, bottom) and the (x, y) of its two eyes, the person's own."""
    angle = math.atan2(float(left_eye[1] - right_eye[1]), float(left_eye[0] - right_eye[0]))
    side = _MARGIN * max(float(box[2] - box[0]), float(box[3] - box[1]))
    return Region(float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2, side, angle)


def region_of_mesh(landmarks: Points) -> Region:
    """Where to look for a face in the next frame that has (468 or 478, 3) `landmarks` in this one."""
    box = np.concatenate([landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)])
    return region_around(box, landmarks[_RIGHT_EYE_OUTER], landmarks[_LEFT_EYE_OUTER])


def box_overlap(box: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) intersection over union of one box (4,) with (N, 4) others; boxes are left, top, right, bottom."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    joined = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - shared
    return np.asarray(shared / np.maximum(joined, 1e-9), np.float64)
