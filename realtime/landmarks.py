"""Names for the points of the mesh, and the outlines made of them. Landmarks in, points or a mask out.

Right and left are the person's own: the right eye is on the left of an unmirrored picture.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import canonical_mesh
from realtime.frame import Points

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Outline of the mesh, from the middle of the forehead over the person's left temple to the chin and back."""
LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
"""From the person's right corner of the mouth over the upper lip to the left corner and back."""
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
"""From the outer corner over the upper lid to the inner corner and back."""
LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
"""From the temple along the upper edge to the nose and back."""
LEFT_BROW = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
BROWS = RIGHT_BROW + LEFT_BROW
NOSE = (168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 98, 97, 326, 327, 64, 294, 48, 278, 49, 279, 129, 358)
"""Bridge, tip, base and wings, in no order."""
RIGHT_IRIS = (468, 469, 470, 471, 472)
"""Centre and rim; only in meshes of 478 points."""
LEFT_IRIS = (473, 474, 475, 476, 477)

_BAND, _BAND_STEP = 0.28, 0.07
"""On the canonical face. No triangle of the mesh is higher than 0.21: each lies as a whole in one of the bands."""
_SHIFT_BITS = 4
_FAR_PX = 2.0**20
"""OpenCV takes coordinates of 32 bits, of which some are fractions."""

_JAW = (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356)
_CHIN = _JAW.index(152)
_IBUG_17_TO_67 = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # bridge, base of the nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91,  # outer lips
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips
)  # fmt: skip


def ibug68(landmarks: Points) -> NDArray[np.float32]:
    """(68, 2) points of the iBUG scheme in the pixels of the (468 or 478, 2 or 3) `landmarks`.

    Points 17 to 67 - brows, nose, eyes, lips - are points of the mesh. The jaw, 0 to 16, follows the outline of the
    mesh from ear to ear at eight equal steps a side, with the chin at 8, as annotators place it. The steps are
    equal on the canonical face, so that each point stays on its place of the skin when the head turns.
    """
    points = landmarks[:, :2].astype(np.float32)
    return np.concatenate([_jaw_weights() @ points[list(_JAW)], points[list(_IBUG_17_TO_67)]])


@cache
def _jaw_weights() -> NDArray[np.float32]:
    """(17, len(_JAW)) interpolation weights of the jaw points."""
    outline = canonical_mesh()[list(_JAW)]
    way = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(outline, axis=0).T))])
    stops = np.concatenate([np.linspace(0, way[_CHIN], 9), np.linspace(way[_CHIN], way[-1], 9)[1:]])
    columns = [np.interp(stops, way, np.eye(len(_JAW))[i]) for i in range(len(_JAW))]
    weights: NDArray[np.float32] = np.stack(columns, axis=1).astype(np.float32)
    weights.setflags(write=False)
    return weights


def face_hull(landmarks: Points, height: int, width: int) -> NDArray[np.uint8]:
    """(height, width) mask, 255 on the face from chin to forehead as far as the mesh goes, soft at the rim.

    The union of the convex hulls of overlapping bands of the mesh: a face is convex from left to right but not from
    top to bottom, so that in a turned head the nose is inside and the background under it is not.
    `landmarks` is (468 or 478, 2 or 3) in pixels of the mask; what lies outside it is cut off.
    """
    mask = np.zeros((height, width), np.uint8)
    points = np.clip(landmarks[:468, :2], -_FAR_PX, _FAR_PX).astype(np.float32)
    for band in _bands():
        outline = np.rint(cv2.convexHull(points[band]) * 2**_SHIFT_BITS).astype(np.int32)
        cv2.fillConvexPoly(mask, outline, 255, lineType=cv2.LINE_AA, shift=_SHIFT_BITS)
    return mask


@cache
def _bands() -> list[NDArray[np.intp]]:
    """The points of the mesh in overlapping bands from forehead to chin."""
    y = canonical_mesh()[:, 1]
    starts = np.arange(y.min(), y.max(), _BAND_STEP)
    return [np.flatnonzero((start <= y) & (y <= start + _BAND)) for start in starts]
