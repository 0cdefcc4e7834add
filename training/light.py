"""Reads the light off a face. Crop and mesh in, how bright, from where and how warm out.

Note [Light of a face]
    Skin is taken for a matt surface of one colour, so that its luminance is low-order spherical harmonics of the
    direction it faces (Ramamoorthi, Hanrahan, 2001; here the constant and the three linear terms): level times
    (1 + right * x + down * y + front * z) for a normal (x, y, z) in the crop, z towards the camera. Eyes, brows, lips
    and the hairline are left out; what fits badly - hair, a hand, a highlight - loses its say (Tukey's biweight).

    Level and warmth hold the colour of the skin, too, which differs from person to person; the directions do not.
    Measured through FaceFinder on 4 rendered people that no constant was chosen on, 156 faces turned by up to 40
    degrees: rank correlation with the renderer's lamp, each person's own mean taken off, is 0.94 for right, 0.75 for
    down, 0.76 for front, 0.92 for level and 0.96 for warmth, and nowhere above 0.3 with yaw or pitch. Between people
    in the same light, level differs by up to 2.4 stops, warmth by up to 1.9, right by up to 0.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.actors.mesh import TRIANGLES
from realtime.align import canonical_mesh
from realtime.frame import ImageU8, Points
from realtime.landmarks import BROWS, LEFT_EYE, LIPS_OUTER, OVAL, RIGHT_EYE

_FACE_PX = 40
"""Height of the mesh, about, at which colours are read: pores and noise are averaged away."""
_NEAR = 0.09
"""Points nearer to eyes, brows or lips than this, on the canonical face, are not skin."""
_ROUNDS = 4
_CUT = 3.0
"""Residuals beyond so many median absolute residuals have no say at all."""
_PRIOR = 0.02
"""Share of all weight that pulls the three directions to nothing, so that they are defined when a face shows little."""
LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
"""Light of a grey level, 1 is white."""
LUMINANCE = np.array([0.0722, 0.7152, 0.2126], np.float32)
"""Of BGR in linear light (ITU-R BT.709)."""
DARKEST = 0.002
"""Linear luminance below which there is only noise."""


@dataclass(frozen=True, slots=True)
class Light:
    """How a face is lit, see Note [Light of a face]."""

    level: float
    """Mean luminance of the skin in stops, log2 of linear light: 0 is white, -3 a lit face, -6 the dark."""
    right: float
    """From where on the right of the image light comes: -1 to 1, usually below 0.6 in size; negative: from the left."""
    down: float
    """Negative: from above."""
    front: float
    """Negative: from behind."""
    warmth: float
    """log2 of red over blue of the skin: about 1 in daylight, 2 under a bulb."""


def read_light(crop: ImageU8, mesh: Points) -> Light:
    """The light on one face. `crop` (P, P, 3) BGR, `mesh` (468 or more, 3) in its pixels, z away from the camera."""
    points, normals = mesh[:468].astype(np.float32), _normals(mesh[:468])
    skin = _skin()
    height = float(np.ptp(points[:, 1]))
    shrink = min(1.0, _FACE_PX / max(height, 1.0))
    side = max(8, round(crop.shape[0] * shrink))
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    linear = LINEAR[small]
    at = (points[skin, :2] + 0.5) * (side / crop.shape[0]) - 0.5
    colours = _sample(linear, at)
    facing = normals[skin]
    seen = np.clip(facing[:, 2], 0, 1) * _inside(points[skin, :2], crop.shape[0])
    luminance = colours @ LUMINANCE
    weights = seen
    middle = float(np.median(luminance[seen > 0])) if (seen > 0).any() else DARKEST
    relative = luminance / max(middle, DARKEST)
    terms = np.column_stack([np.ones(len(skin), np.float32), facing])
    found = np.array([1.0, 0, 0, 0], np.float32)
    for _ in range(_ROUNDS):
        found = _solve(terms, relative, weights)
        residual = np.abs(relative - terms @ found)
        limit = _CUT * float(np.median(residual[seen > 0])) + 1e-3 if (seen > 0).any() else 1.0
        weights = seen * np.clip(1 - (residual / limit) ** 2, 0, None) ** 2
    share = weights / max(float(weights.sum()), 1e-9)
    blue, _, red = (float(share @ colours[:, channel]) for channel in range(3))
    brightness = max(float(share @ (colours @ LUMINANCE)), DARKEST)
    right, down, front = (float(np.clip(value / max(float(found[0]), 0.2), -2, 2)) for value in found[1:])
    return Light(
        level=float(np.log2(brightness)),
        right=right,
        down=down,
        front=front,
        warmth=float(np.log2(max(red, DARKEST) / max(blue, DARKEST))),
    )


def _solve(
    terms: NDArray[np.float32], values: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    weighted = terms * weights[:, None]
    square = weighted.T @ terms
    square[[1, 2, 3], [1, 2, 3]] += _PRIOR * float(weights.sum()) + 1e-6
    square[0, 0] += 1e-6
    return np.asarray(np.linalg.solve(square, weighted.T @ values), np.float32)


def _normals(mesh: Points) -> NDArray[np.float32]:
    """(468, 3) unit normals, z towards the camera."""
    points = mesh.astype(np.float32)
    a, b, c = (points[TRIANGLES[:, corner]] for corner in range(3))
    ab, ac = b - a, c - a
    across = np.column_stack([ab[:, i - 2] * ac[:, i - 1] - ab[:, i - 1] * ac[:, i - 2] for i in range(3)])
    summed = np.zeros_like(points)
    for corner in range(3):
        for axis in range(3):
            summed[:, axis] += np.bincount(TRIANGLES[:, corner], across[:, axis], len(points)).astype(np.float32)
    summed /= np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-9)
    summed[:, 2] *= -1
    return summed


def _sample(picture: NDArray[np.float32], at: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 3) colours of a picture at (N, 2) positions in its pixels."""
    where = np.clip(at, -1, picture.shape[0]).astype(np.float32)[None]
    sampled = cv2.remap(picture, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled[0], np.float32)


def _inside(points: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(((points >= 0) & (points <= side - 1)).all(axis=1), np.float32)


@cache
def _skin() -> NDArray[np.intp]:
    """The points of the mesh that lie on nothing but skin."""
    canonical = canonical_mesh()
    features = canonical[list((*RIGHT_EYE, *LEFT_EYE, *BROWS, *LIPS_OUTER))]
    nearest = np.linalg.norm(canonical[:, None] - features[None], axis=2).min(axis=1)
    lips = canonical[list(LIPS_OUTER)]
    in_lips = (np.abs(canonical - lips.mean(axis=0)) < np.ptp(lips, axis=0) / 2).all(axis=1)
    hairline = np.isin(np.arange(468), OVAL) | (canonical[:, 1] < -0.2)
    return np.flatnonzero((nearest > _NEAR) & ~in_lips & ~hairline)
