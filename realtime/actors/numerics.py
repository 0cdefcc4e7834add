"""Small mathematics of the actors. Arrays in, arrays out; the element type of the input is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
"""float32 or float64."""
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]


def gaussian(distance: ArrayLike, sigma: float) -> Floats:
    """exp(-(distance / sigma)^2): 1 at 0."""
    bell: Floats = np.exp(-((np.asarray(distance) / sigma) ** 2))
    return bell


def smoothstep(start: float, end: float, x: ArrayLike) -> Floats:
    """0 before `start`, 1 after `end`, smooth in between; `start` may be the larger one."""
    t = np.clip((np.asarray(x) - start) / (end - start), 0, 1)
    step: Floats = t * t * (3 - 2 * t)
    return step


def bgr(rgb: Sequence[int]) -> F32:
    """A colour from [0, 255] RGB to [0, 1] BGR."""
    return np.array(rgb[::-1], np.float32) / np.float32(255)


def fixed_point(points: ArrayLike, scale: int = 16) -> NDArray[np.int32]:
    """Points as OpenCV's drawing functions want them: integers in 1 / `scale` pixels, 16 for `shift=4`."""
    return np.round(np.asarray(points) * scale).astype(np.int32)


def points_3d(x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Floats:
    """(N, 3) points from coordinates that broadcast against each other."""
    return np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3)


def cross(a: Floats, b: Floats) -> Floats:
    """Row-wise cross product of two (N, 3) arrays; several times faster than np.cross."""
    return np.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        1,
    )


def value_noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    cells: tuple[float, float],
    octaves: int = 4,
    falloff: float = 0.5,
) -> F32:
    """(height, width) smooth noise, about [-1, 1]; `cells` = rows, columns of the coarsest octave."""
    noise = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows, columns = (
            min(int(count * 2**octave) + 1, limit) for count, limit in zip(cells, (height, width), strict=True)
        )
        lattice = rng.standard_normal((rows, columns)).astype(np.float32)
        noise += falloff**octave / 1.6 * cv2.resize(lattice, (width, height), interpolation=cv2.INTER_CUBIC)
    return noise


def spline(points: ArrayLike, steps: int = 10, closed: bool = False) -> Floats:
    """Catmull-Rom curve through (N, 2 or 3) points, `steps` samples per span; an open one ends on its last point."""
    knots = np.asarray(points, float)
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    spans = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False)
    ]
    return np.concatenate(spans if closed else [*spans, knots[-1:]])
