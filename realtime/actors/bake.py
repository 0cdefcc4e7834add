"""Bakes how light reaches a body. Mesh in; visibility per vertex and direction out, and which faces can be seen at all.

Note [Baked light]
    A head is lit by 96 directions spread evenly over the sphere. For each of them a small depth map tells which
    vertices it reaches. At show time any light - a key light with a soft edge, a sky, a fill - is a weighted sum over
    the directions, so soft self-shadows and ambient occlusion cost one matrix product. The bake knows the resting face
    only: an open jaw does not move its shadows.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from realtime.actors.numerics import F32, Bools, Ints, smoothstep
from realtime.actors.raster import rasterise

DIRECTIONS = 96
_EXTENT_CM = 44
_PIXELS_PER_CM = 4.5
_MIDDLE = np.array([0, 4, 9], np.float32)


class LightTransport(NamedTuple):
    """Where light comes from and arrives."""

    directions: F32
    """(96, 3) unit vectors towards the light, head space."""
    visibility: F32
    """(V, 96) in [0, 1]: 1 where nothing is in the way."""
    cosines: F32
    """(V, 96) of the angle between normal and light, 0 for light from behind."""
    seen: Bools
    """(V,) vertices that a camera somewhere in front can see."""


def light_directions() -> F32:
    """(96, 3) a Fibonacci lattice on the unit sphere."""
    step = np.arange(DIRECTIONS) + 0.5
    longitude = np.pi * (1 + 5**0.5) * step
    z = 1 - 2 * step / DIRECTIONS
    radius = np.sqrt(1 - z**2)
    return np.stack([np.cos(longitude) * radius, np.sin(longitude) * radius, z], 1).astype(np.float32)


def bake_light(vertices: F32, normals: F32, faces: Ints, solid: int) -> LightTransport:
    """Trace the light for (V, 3) vertices; `faces` use the first `solid` of them, the others stay in full light."""
    directions = light_directions()
    facing = normals @ directions.T
    visibility = np.ones((len(vertices), DIRECTIONS), np.float32)
    seen = np.zeros(len(vertices), bool)
    centred = vertices[:solid] - _MIDDLE
    side_px = int(_EXTENT_CM * _PIXELS_PER_CM)
    two_sided = np.ones(len(faces), bool)
    for number, towards_light in enumerate(directions):
        right = np.cross(towards_light, [0.01, 1, 0.02])
        right /= np.linalg.norm(right)
        down = np.cross(towards_light, right)
        x, y = ((centred @ axis + _EXTENT_CM / 2) * _PIXELS_PER_CM for axis in (right, down))
        points = np.stack([x, y, centred @ towards_light], 1).astype(np.float32)
        coverage = rasterise(points, faces, side_px, side_px, two_sided)
        depth = np.r_[coverage.corners[:, :, 2].mean(1), np.float32(-1e9)][coverage.triangle].reshape(side_px, side_px)
        map_x, map_y = (points[None, :, axis] - np.float32(0.5) for axis in (0, 1))
        nearest = cv2.remap(depth, map_x, map_y, cv2.INTER_NEAREST, borderValue=(-1e9,))[0]
        gap_cm = nearest - points[:, 2]
        lit = facing[:solid, number] > 0.05
        visibility[:solid, number] = np.where(lit, smoothstep(0.85, 0.35, gap_cm), 1)
        if towards_light[2] < -0.5:
            seen[:solid] |= gap_cm < 0.6
    return LightTransport(directions, visibility, np.maximum(facing, 0), seen)
