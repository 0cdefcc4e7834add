"""Finds out which triangle each pixel shows. Projected triangles in, one triangle index per pixel out.

Note [Span rasteriser]
    No loop over triangles: all of them are cut into horizontal spans at once, the spans are sorted by the nearness of
    their middle (16 bits, a radix sort) and written far to near, so that the last write wins. That is a depth buffer
    with the resolution of 1/65536 of the depth range, at the speed of a few numpy calls.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from realtime.actors.numerics import F32, Bools, Ints

_F4, _I4 = np.float32, np.int32


class Coverage(NamedTuple):
    """What a rasterisation saw."""

    triangle: NDArray[np.int32]
    """(H * W,) which of the `drawn` triangles a pixel shows, -1 for none."""
    drawn: Ints
    """(K,) indices of the triangles that face the camera and touch the picture."""
    corners: F32
    """(K, 3, 3) their projected corners."""


def rasterise(points: F32, faces: Ints, width: int, height: int, two_sided: Bools) -> Coverage:
    """`points` (V, 3) are x, y in pixels and nearness (larger is nearer); pixel centres lie at half integers.

    `faces` (F, 3); `two_sided` (F,) marks those that are drawn from behind as well.
    """
    triangles = points[faces]
    x0, x1, x2 = triangles[:, :, 0].T
    y0, y1, y2 = triangles[:, :, 1].T
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    top = _first_centre(np.minimum(np.minimum(y0, y1), y2), height)
    rows = _first_centre(np.maximum(np.maximum(y0, y1), y2), height) - top
    visible = (area < -1e-5) | (two_sided & (area > 1e-5))
    visible &= (rows > 0) & (np.maximum(np.maximum(x0, x1), x2) > 0) & (np.minimum(np.minimum(x0, x1), x2) < width)
    drawn = np.flatnonzero(visible)
    triangles, rows, top = triangles[drawn], rows[drawn], top[drawn]
    edges = _edge_equations(triangles, area[drawn])

    # One entry per triangle and pixel row.
    owner = np.repeat(np.arange(len(drawn), dtype=_I4), rows)
    row = np.arange(len(owner), dtype=_I4) - np.repeat(np.cumsum(rows, dtype=_I4) - rows - top, rows)
    y = row.astype(_F4) + _F4(0.5)
    edge = np.take(edges, owner, axis=1)
    long_side = edge[0] + y * edge[1]
    short_side = np.where(y < edge[6], edge[2] + y * edge[3], edge[4] + y * edge[5])
    start = _first_centre(np.minimum(long_side, short_side), width)
    length = _first_centre(np.maximum(long_side, short_side), width) - start
    nearness = edge[7] + edge[8] * (start.astype(_F4) + _F4(0.5) * length.astype(_F4)) + edge[9] * y

    span = np.flatnonzero(length > 0)
    nearness = nearness[span]
    depth_key = (nearness - nearness.min(initial=np.inf)) * _F4(65535 / max(_range(nearness), 1e-9))
    span = span[np.argsort(depth_key.astype(np.uint16), kind="stable")]
    length = length[span]
    pixel = np.repeat(row[span] * _I4(width) + start[span] - (np.cumsum(length, dtype=_I4) - length), length)
    pixel += np.arange(len(pixel), dtype=_I4)
    index = np.full(width * height, -1, _I4)
    index[pixel] = np.repeat(owner[span], length)
    return Coverage(index, drawn, triangles)


def _first_centre(edge: F32, limit: int) -> NDArray[np.int32]:
    """The first pixel whose centre lies at or behind the edge."""
    centre: NDArray[np.int32] = np.ceil(np.clip(edge, 0, limit) - _F4(0.5)).astype(_I4)
    return centre


def _range(values: F32) -> float:
    return float(np.ptp(values)) if len(values) else 0.0


def _edge_equations(triangles: F32, area: F32) -> F32:
    """(10, K): x = a + b y of the three edges, y of the middle corner, nearness = c + d x + e y."""
    order = np.argsort(triangles[:, :, 1], 1)
    upper, middle, lower = triangles[np.arange(len(triangles))[:, None], order].transpose(1, 2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = [
            _finite((end[0] - start[0]) / (end[1] - start[1]))
            for start, end in ((upper, lower), (upper, middle), (middle, lower))
        ]
    first, second = (triangles[:, corner] - triangles[:, 0] for corner in (1, 2))
    slope_x = (first[:, 2] * second[:, 1] - second[:, 2] * first[:, 1]) / area
    slope_y = (second[:, 2] * first[:, 0] - first[:, 2] * second[:, 0]) / area
    return np.stack(
        [
            upper[0] - upper[1] * slopes[0],
            slopes[0],
            upper[0] - upper[1] * slopes[1],
            slopes[1],
            middle[0] - middle[1] * slopes[2],
            slopes[2],
            middle[1],
            upper[2] - slope_x * upper[0] - slope_y * upper[1],
            slope_x,
            slope_y,
        ]
    )


def _finite(slope: F32) -> F32:
    """A horizontal edge has no slope, and no pixel row to need one."""
    slope[~np.isfinite(slope)] = 0
    return slope
