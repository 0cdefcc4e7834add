"""Bends the generic face into a person's. FaceShape and seed in, (468, 3) vertices out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from realtime.actors.identity import FaceShape
from realtime.actors.mesh import (
    EYE,
    LOWER_LIP_INNER,
    LOWER_LIP_OUTER,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
    VERTICES,
    mirrored,
)
from realtime.actors.numerics import gaussian, smoothstep

Vertices = NDArray[np.float64]


def shape_face(shape: FaceShape, seed: int) -> Vertices:
    """The generic face with smooth offsets, in head space; `seed` draws the asymmetry that every face has."""
    vertices = VERTICES.copy()
    _bend(vertices, shape)
    for rim in (EYE, mirrored(EYE)):
        _shape_eye(vertices, rim, shape)
    for outer, inner, direction in ((UPPER_LIP_OUTER, UPPER_LIP_INNER, -1), (LOWER_LIP_OUTER, LOWER_LIP_INNER, 1)):
        _shape_lip(vertices, outer, inner, direction, shape.lips)
    _unbalance(vertices, np.random.default_rng(seed))
    return vertices


def _bend(vertices: Vertices, shape: FaceShape) -> None:
    """Everything but eyes and lips; each offset is a bell or a step on the generic face."""
    x, y, z = vertices.T.copy()
    side, from_middle = np.tanh(x / 0.8), np.abs(x)
    front = smoothstep(3.0, 0, z)
    eye = gaussian(from_middle - 3.3, 2.2) * gaussian(y - 0.8, 1.7)
    brow = gaussian(y + 1.2, 1.4) * smoothstep(4, 1, z)
    nose = gaussian(from_middle, 1.6) * smoothstep(0, 4.5, y) * smoothstep(7, 5.4, y) * front
    tip = gaussian(from_middle, 1.7) * gaussian(y - 4.6, 1.6) * front
    mouth = gaussian(y - 7.6, 1.9) * gaussian(from_middle, 4.5) * smoothstep(5, 2, z)
    cheek = gaussian(from_middle - 5.3, 2.2) * gaussian(y - 4.2, 2.2)
    chin = smoothstep(8.5, 13, y)

    widening = 0.12 * shape.width + 0.16 * shape.jaw * smoothstep(4, 11.5, y) - 0.1 * shape.taper * chin
    vertices[:, 0] += x * (widening + 0.3 * shape.nose_width * tip + 0.22 * shape.mouth_width * mouth)
    vertices[:, 0] += side * (0.28 * shape.eye_gap * eye + 0.35 * shape.cheekbone * cheek)
    lowering = 0.8 * shape.nose_length * nose + 0.9 * shape.chin * chin - 0.5 * shape.brow_height * brow
    vertices[:, 1] += lowering - 0.9 * shape.forehead * smoothstep(-1.5, -8, y)
    bridge = 0.45 * shape.bridge * gaussian(from_middle, 1.1) * gaussian(y - 1.9, 1.7) * front
    vertices[:, 2] -= 0.7 * shape.nose_tip * tip + bridge + 0.5 * shape.cheekbone * cheek
    ridge = 0.6 * shape.brow_ridge * brow * smoothstep(6.5, 3, from_middle)
    vertices[:, 2] -= ridge + 0.8 * shape.chin_out * gaussian(y - 12, 2.3) * gaussian(from_middle, 3.5)


def _shape_eye(vertices: Vertices, rim: list[int], shape: FaceShape) -> None:
    centre = vertices[rim].mean(0)
    offset = vertices - centre
    near = gaussian(np.linalg.norm(offset * [1, 1.4, 0.6], axis=1), 2.3)
    vertices += near[:, None] * offset * [0.22, 0.35, 0] * shape.eye_size
    vertices[:, 1] -= near * offset[:, 0] * np.sign(centre[0]) * 0.22 * shape.eye_tilt


def _shape_lip(vertices: Vertices, outer: list[int], inner: list[int], direction: int, fullness: float) -> None:
    """`direction` is -1 for the upper lip, 1 for the lower one."""
    for rim, edge in zip(outer[1:-1], inner[1:-1], strict=True):
        amount = fullness * (1 - abs(vertices[rim, 0]) / (abs(vertices[UPPER_LIP_OUTER[0], 0]) + 0.1))
        vertices[rim] += [0, direction * 0.45 * amount, -0.28 * amount]
        vertices[edge, 2] -= 0.2 * amount


def _unbalance(vertices: Vertices, rng: np.random.Generator) -> None:
    for _ in range(10):
        push = rng.normal(0, 0.06, 3)
        distance = np.linalg.norm(vertices - vertices[rng.integers(len(vertices))], axis=1)
        vertices += push * gaussian(distance, 3.5)[:, None] * [1, 1, 0.5]
