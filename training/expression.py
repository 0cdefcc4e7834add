"""Reads the expression off a mesh. Landmarks in, openings of mouth and eyes, width of the mouth and brows out.

Note [Expression]
    The mesh is turned to the front by its own pose and measured in face sizes (the rms distance of its rigid points
    from their middle, about 0.7 of the distance between the outer eye corners), so that neither pose nor distance
    count. A resting face differs from person to person: what is compared between two people is how far each leaves
    their own rest, see training.coverage.

    Measured through FaceFinder on 4 rendered people that no constant was chosen on, 156 faces turned by up to 40
    degrees, three in ten with a hand before them; rank correlation with what the actor was told to do, each person's
    own mean taken off: opening of the mouth 0.86, brows 0.83, width with smile 0.51 and with rounding -0.29, each eye
    with its blink -0.6. Of an open and a shut pair of eyes the shut pair is lower in 95 of 100 cases: blinks are
    found, half-shut lids are not. The network moves both eyes together, so that a wink is half a blink.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime.align import RIGID
from realtime.frame import Points
from training.pose import HeadPose

_LIPS = (13, 14), (82, 87), (312, 317)
"""Upper and lower inner lip, in the middle and beside it."""
_CORNERS = 61, 291
_RIGHT_LIDS, _LEFT_LIDS = ((159, 145), (160, 144), (158, 153)), ((386, 374), (387, 373), (385, 380))
_RIGHT_EYE, _LEFT_EYE = (33, 133), (263, 362)
_BROWS = (63, 105, 66, 293, 334, 296)
_WIDTH_PITCH, _EYE_PITCH, _BROW_PITCH = -0.0033, 0.0015, 0.0036
"""What one degree of looking down adds to a width, an eye and the brows, because the network's mesh bends with it."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What a face does; lengths in face sizes, see Note [Expression]."""

    mouth: float
    """Opening between the lips, 0 when shut, about 0.8 wide open."""
    width: float
    """Distance of the corners of the mouth: small when rounded, large in a smile."""
    eye_right: float
    eye_left: float
    """Opening relative to the width of the eye, the person's own right and left."""
    brows: float
    """Height of the brows above the eyes."""


def read_expression(mesh: Points, pose: HeadPose) -> Expression:
    """The expression of one (468 or 478, 3) `mesh` that is turned as `pose` says. Raises ValueError for a point."""
    face = frontal(mesh, pose)

    def opening(lids: tuple[tuple[int, int], ...], corners: tuple[int, int]) -> float:
        open_by = sum(float(face[lower, 1] - face[upper, 1]) for upper, lower in lids) / len(lids)
        return open_by / max(math.dist(*face[list(corners)]), 1e-6) - _EYE_PITCH * pose.pitch

    eyes, brows = face[[*_RIGHT_EYE, *_LEFT_EYE], 1].mean(), face[list(_BROWS), 1].mean()
    return Expression(
        mouth=sum(math.dist(*face[list(pair)]) for pair in _LIPS) / len(_LIPS),
        width=math.dist(*face[list(_CORNERS)]) - _WIDTH_PITCH * pose.pitch,
        eye_right=opening(_RIGHT_LIDS, _RIGHT_EYE),
        eye_left=opening(_LEFT_LIDS, _LEFT_EYE),
        brows=float(eyes - brows) - _BROW_PITCH * pose.pitch,
    )


def frontal(mesh: Points, pose: HeadPose) -> NDArray[np.float64]:
    """(468, 3) the mesh turned to the front, its rigid points in the middle and of unit rms size."""
    yaw, pitch, roll = (math.radians(angle) for angle in (pose.yaw, pose.pitch, pose.roll))
    about_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    about_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    points = mesh[:468].astype(np.float64)
    points -= points[RIGID].mean(axis=0)
    size = math.sqrt(float((points[RIGID] ** 2).sum(axis=1).mean()))
    if not size > 0:
        raise ValueError("the points coincide: no expression can be read")
    turned: NDArray[np.float64] = points @ (about_z @ about_x @ about_y) / size
    return turned
