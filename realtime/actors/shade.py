"""Turns triangles into a picture. Projected, lit vertices in; supersampled pixels out."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.actors.numerics import F32, Ints
from realtime.actors.raster import Coverage
from realtime.frame import ImageU8

PlanarU8 = NDArray[np.uint8]
"""(3, H, W) BGR in [0, 255]."""

_F4 = np.float32
_BLOCK_PX = 16384
"""Pixels that are shaded at a time: few enough for the cache (and for cv2.remap: 32767), many enough for numpy."""
_ATTRIBUTES = 6


class Surface(NamedTuple):
    """What is interpolated over a triangle."""

    uv: F32
    """(V, 2) texture pixels."""
    diffuse: F32
    """(V, 3) BGR light, linear, 1 being white."""
    highlight: F32
    """(V,) strength, linear."""


class Shader:
    """Paints pixels of one size of picture; it keeps where each pixel lies, and nothing of any picture."""

    def __init__(self, width: int, height: int) -> None:
        self._shape = (height, width)
        self._origin = np.array([width / 2 - 0.5, height / 2 - 0.5], _F4)
        self._column = np.tile(np.arange(width, dtype=_F4) - self._origin[0], height)
        self._row = np.repeat(np.arange(height, dtype=_F4) - self._origin[1], width)

    def shade(
        self,
        backdrop: PlanarU8,
        coverage: Coverage,
        faces: Ints,
        surface: Surface,
        texture: ImageU8,
        highlight_colour: F32,
    ) -> ImageU8:
        """(H, W, 3): the `backdrop` (3, H, W) with the covered pixels painted; `texture` is (h, w, 4) BGR and gloss.

        Texture values are squared into linear light, lit, compressed and brought back by a square root.
        """
        planes = _attribute_planes(coverage, faces, surface, self._origin)
        pixels = np.flatnonzero(coverage.triangle >= 0)
        triangle = coverage.triangle[pixels].astype(np.intp)
        channels = backdrop.reshape(3, -1).copy()
        with np.errstate(invalid="ignore"):
            for start in range(0, len(pixels), _BLOCK_PX):
                block = pixels[start : start + _BLOCK_PX]
                # mode="wrap" because numpy then skips the check for wrong indices.
                plane = np.take(planes, triangle[start : start + _BLOCK_PX], axis=1, mode="wrap")
                values, per_x, per_y = plane.reshape(3, _ATTRIBUTES, -1)
                per_x *= self._column[block]
                values += per_x
                per_y *= self._row[block]
                values += per_y
                for channel, level in zip(channels, _light_texels(texture, values, highlight_colour), strict=True):
                    channel[block] = level
        return np.asarray(cv2.merge([channel.reshape(self._shape) for channel in channels]), np.uint8)


def _light_texels(texture: ImageU8, values: F32, highlight_colour: F32) -> NDArray[np.uint8]:
    """(3, N) levels of N pixels with the given six attributes."""
    texel = cv2.remap(texture, values[:1], values[1:2], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    albedo = texel[0].T.astype(_F4)
    light = albedo[:3] * albedo[:3]
    light *= values[2:5]
    light += albedo[3] * values[5] * highlight_colour[:, None]
    compression = light * _F4(0.18)
    compression += 1
    light /= compression
    return np.asarray(cv2.convertScaleAbs(np.sqrt(light, out=light), alpha=255), np.uint8)


def _attribute_planes(coverage: Coverage, faces: Ints, surface: Surface, origin: NDArray[np.float32]) -> F32:
    """(18, K): six attributes at `origin` (x, y in pixels), their change per pixel to the right, and per pixel down."""
    attributes = np.empty((len(surface.uv), _ATTRIBUTES), _F4)
    attributes[:, :2] = surface.uv
    attributes[:, 2:5] = surface.diffuse
    attributes[:, 5] = surface.highlight
    attributes[:, 2:5] *= _F4(255**-2)  # the texture is squared in [0, 255]
    attributes[:, 5] /= 255
    at_corner = attributes[faces[coverage.drawn]]
    corners = coverage.corners
    side_1, side_2 = corners[:, 1, :2] - corners[:, 0, :2], corners[:, 2, :2] - corners[:, 0, :2]
    rise_1, rise_2 = at_corner[:, 1] - at_corner[:, 0], at_corner[:, 2] - at_corner[:, 0]
    inverse_area = (1 / (side_1[:, 0] * side_2[:, 1] - side_1[:, 1] * side_2[:, 0]))[:, None]
    per_x = (rise_1 * side_2[:, 1:] - rise_2 * side_1[:, 1:]) * inverse_area
    per_y = (rise_2 * side_1[:, :1] - rise_1 * side_2[:, :1]) * inverse_area
    to_origin = origin + _F4(0.5)
    across, down = to_origin[0] - corners[:, 0, :1], to_origin[1] - corners[:, 0, 1:2]
    at_origin = at_corner[:, 0] + per_x * across + per_y * down
    return np.ascontiguousarray(np.concatenate([at_origin, per_x, per_y], 1).T)
