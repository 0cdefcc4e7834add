"""Reads the head pose off a mesh. Landmarks in, yaw, pitch and roll out.

Note [Head pose]
    The mesh is laid over a reference head by the similarity in three dimensions that fits its 152 rigid points best
    (Procrustes; the same points that align the crop); the rotation of that fit is the pose. It is relative to the
    line of sight, so a head at the edge of the picture that looks along the optical axis is slightly turned.

    Signs, as seen in the image: yaw > 0 turns the face to the left, pitch > 0 looks down, roll > 0 leans clockwise:
    the right-hand rule about x right, y down, z away from the camera, as the rendered actors turn. The order is
    rotation = Roll(z) Pitch(x) Yaw(y): the head is turned first and leaned last.

    The reference is the mean, made symmetric, of what the landmark network sees on eight rendered heads whose pose is
    known, turned back to the front. On other rendered heads within 40 degrees the mean error is 1.5 degrees in yaw,
    2.5 in pitch and 1.2 in roll; pitch is read about a sixth too small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime.align import RIGID
from realtime.frame import Points


@dataclass(frozen=True, slots=True)
class HeadPose:
    """How a head is turned, in degrees, see Note [Head pose]."""

    yaw: float
    """[-180, 180], positive to the left of the image."""
    pitch: float
    """[-90, 90], positive looks down."""
    roll: float
    """[-180, 180], positive leans clockwise in the image."""
    misfit: float
    """Distance of the rigid points from the reference head, rms, relative to its size: 0.05 is usual."""


_REFERENCE = (
    "0,3,-17 0,8,-7 -4,-10,-11 0,-1,-18 0,-7,-16 0,-20,-5 0,6,-15 -4,6,-10 -21,1,3 -3,3,-17 -4,-1,-18 -12,-10,3 "
    "-13,3,-6 -13,0,-5 -33,0,9 -4,-6,-15 -10,5,-5 -6,7,-5 -13,5,-4 -9,6,-4 -8,3,-11 -18,16,2 -46,2,51 0,7,-10 -5,9,-6 "
    "-11,7,-1 -6,8,-6 -17,-8,4 -24,-5,6 -14,2,-2 -10,-13,1 -10,1,-10 -43,-10,23 -23,-9,8 -17,-11,7 -13,-13,5 "
    "-4,-19,-3 -43,-1,21 -2,6,-15 -12,-6,1 -48,-18,48 -10,-16,5 -14,3,2 -10,-2,-9 -7,-4,-13 -46,0,36 -2,7,-10 "
    "-16,-3,2 -42,8,22 0,12,-6 -14,13,-1 -10,4,-6 -6,12,-5 -7,-12,-5 -21,19,5 -36,10,14 -7,-16,-1 0,-11,-12 -4,-14,-7 "
    "0,-15,-8 -9,-5,-5 -18,6,3 -27,6,5 -22,11,4 -31,13,9 -12,-3,-2 -25,16,6 -9,-9,-2 -9,3,-11 -11,4,-7 -7,0,-14 "
    "-47,-9,35 -47,-8,51 -11,5,-5 -7,-8,-8 -6,3,-15 -4,5,-13 -6,4,-13 -10,7,-3 -3,5,-14 -3,7,-10 4,-10,-11 4,6,-10 "
    "21,1,3 3,3,-17 4,-1,-18 12,-10,3 13,3,-6 13,0,-5 33,0,9 4,-6,-15 10,5,-5 6,7,-5 13,5,-4 9,6,-4 8,3,-11 18,16,2 "
    "46,2,51 5,9,-6 11,7,-1 6,8,-6 17,-8,4 24,-5,6 14,2,-2 10,-13,1 10,1,-10 43,-10,23 23,-9,8 17,-11,7 13,-13,5 "
    "4,-19,-3 43,-1,21 2,6,-15 12,-6,1 48,-18,48 10,-16,5 14,3,2 10,-2,-9 7,-4,-13 46,0,36 2,7,-10 16,-3,2 42,8,22 "
    "14,13,-1 10,4,-6 6,12,-5 7,-12,-5 21,19,5 36,10,14 7,-16,-1 4,-14,-7 9,-5,-5 18,6,3 27,6,5 22,11,4 31,13,9 "
    "12,-3,-2 25,16,6 9,-9,-2 9,3,-11 11,4,-7 7,0,-14 47,-9,35 47,-8,51 11,5,-5 7,-8,-8 6,3,-15 4,5,-13 6,4,-13 "
    "10,7,-3 3,5,-14 3,7,-10 "
)
"""x,y,z of the RIGID points on the reference head, millimetres."""


def _reference() -> NDArray[np.float64]:
    points: NDArray[np.float64] = np.array(
        [[float(value) for value in point.split(",")] for point in "".join(_REFERENCE).split()]
    )
    centred: NDArray[np.float64] = points - points.mean(axis=0)
    return centred


_HEAD = _reference()
_HEAD_SQUARE = float((_HEAD**2).sum())


def head_pose(landmarks: Points) -> HeadPose:
    """The pose of one (468 or 478, 3) mesh, in pixels of any picture that is not mirrored or stretched.

    Raises ValueError for a mesh without depth, one that is a single point, or values that are not finite.
    """
    if landmarks.ndim != 2 or landmarks.shape[1] != 3:
        raise ValueError(f"expected (N, 3) landmarks, got {landmarks.shape}")
    points = landmarks[RIGID].astype(np.float64)
    if not np.isfinite(points).all():
        raise ValueError("the points are not finite: no pose can be read")
    points -= points.mean(axis=0)
    square = float((points**2).sum())
    if square < 1e-9:
        raise ValueError("the points coincide: no pose can be read")
    left, stretch, right = np.linalg.svd(points.T @ _HEAD)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * signs) @ right
    # Least squares leave |points|^2 - (sum of the stretches)^2 / |head|^2; relative to the size of the scaled head.
    gain = float((stretch * signs).sum())
    if gain <= 0:
        raise ValueError("the points look like no head at all: no pose can be read")
    misfit = math.sqrt(max(0.0, square * _HEAD_SQUARE / gain**2 - 1))
    return HeadPose(
        yaw=math.degrees(math.atan2(-rotation[2, 0], rotation[2, 2])),
        pitch=math.degrees(math.asin(max(-1.0, min(1.0, rotation[2, 1])))),
        roll=math.degrees(math.atan2(-rotation[0, 1], rotation[1, 1])),
        misfit=misfit,
    )
