"""Paints a face. Identity in, the skin's part of the texture out; landmarks tell the brush where it is.

The random generator is drawn from in a fixed order: a step that is moved gives everybody another face.
"""

from __future__ import annotations

import cv2
import numpy as np

from realtime.actors.atlas import SKIN, SKIN_HEIGHT_CM, SKIN_TOP_CM, SKIN_UV
from realtime.actors.canvas import Canvas
from realtime.actors.identity import Identity
from realtime.actors.mesh import (
    BROW_LOWER,
    BROW_UPPER,
    EYE,
    EYE_LOWER,
    EYE_UPPER,
    LIPS,
    LOWER_LIP_INNER,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
    mirrored,
)
from realtime.actors.numerics import F32, Floats, bgr, smoothstep, spline, value_noise

SHAPE = (SKIN.height, SKIN.width)
MIDDLE_PX = SKIN.width // 2
EAR_PX = 300.0
"""Distance of the ears from the middle, and their height."""


class _Side:
    """Landmarks of one side of the face, in texture pixels."""

    def __init__(self, left: bool) -> None:
        self._left = left
        self.outwards = 1.0 if left else -1.0

    def __call__(self, *indices: int) -> Floats:
        return SKIN_UV[mirrored(indices) if self._left else list(indices)]


_SIDES = (_Side(left=False), _Side(left=True))


def _grain(rng: np.random.Generator, blur_x: float, blur_y: float = 0.0) -> F32:
    return np.asarray(cv2.GaussianBlur(_white(rng), (0, 0), sigmaX=blur_x, sigmaY=blur_y), np.float32)


def _white(rng: np.random.Generator) -> F32:
    return rng.standard_normal(SHAPE).astype(np.float32)


def _per_channel(blue: float, green: float, red: float) -> F32:
    return np.array([blue, green, red], np.float32)


def paint_skin(identity: Identity) -> F32:
    """(640, 768, 4) BGR in [0, 1] and gloss."""
    rng = np.random.default_rng(identity.seed)
    canvas = Canvas(*SHAPE, bgr(identity.skin), 0.42)
    blotches = value_noise(rng, *SHAPE, (5, 6))[..., None]
    canvas.colour *= 1 + 0.035 * blotches * _per_channel(1.3, 1.1, 0.5)
    _tint(canvas, identity)
    if identity.beard:
        _stubble(canvas, identity, rng)
    _freckles(canvas, identity, rng)
    pores = rng.standard_normal((*SHAPE, 1)).astype(np.float32)
    canvas.colour *= 1 + 0.022 * pores + 0.03 * value_noise(rng, *SHAPE, (120, 140), 2)[..., None]
    for side in _SIDES:
        _folds(canvas, identity, side)
        _eye(canvas, identity, side, rng)
        _brow(canvas, identity, side, rng)
    lips = _mouth(canvas, identity, rng)
    nose, forehead = canvas.blob(SKIN_UV[4], 26), canvas.blob(SKIN_UV[151], 90, 50)
    canvas.gloss += lips * identity.lip_gloss + 0.25 * nose + 0.18 * forehead
    canvas.gloss *= 1 + 0.25 * value_noise(rng, *SHAPE, (60, 70), 3)
    _hair_roots(canvas, identity, rng)
    return canvas.pixels()


def _tint(canvas: Canvas, identity: Identity) -> None:
    """Red cheeks, nose and ears; shade under the eyes, in the sockets and under the lips."""
    blush = identity.blush
    for side in _SIDES:
        canvas.multiply(canvas.blob(side(50, 205, 101).mean(0), 62, 50), 1 - blush * _per_channel(1.2, 1.3, 0.1))
        under_eye = canvas.blob(side(230, 229, 231).mean(0) + np.array([0, 6]), 42, 15)
        canvas.multiply(under_eye, 1 - identity.bags * _per_channel(0.9, 1.2, 0.9))
        canvas.multiply(canvas.blob(side(27, 29).mean(0), 45, 16), [0.9, 0.88, 0.91])
        canvas.multiply(canvas.blob(side(193, 244).mean(0), 16, 22), [0.89, 0.89, 0.91])
        canvas.multiply(canvas.blob((MIDDLE_PX - side.outwards * EAR_PX, EAR_PX), 45), [0.9, 0.9, 0.99])
    canvas.multiply(canvas.blob(SKIN_UV[4], 36, 26), 1 - blush * _per_channel(0.9, 1.0, 0.1))
    canvas.multiply(canvas.blob(SKIN_UV[152], 60, 26), [0.96, 0.96, 1])


def _stubble(canvas: Canvas, identity: Identity, rng: np.random.Generator) -> None:
    jawline = [132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361]
    over_lip = [410, 391, 2, 165, 186]
    outline = [SKIN_UV[jawline] + [0, 10], SKIN_UV[over_lip] + [[8, 6], [10, 0], [0, 2], [-10, 0], [-8, 6]]]
    area = canvas.fill(np.concatenate(outline), 11) * (1 - canvas.fill(SKIN_UV[LIPS], 3))
    hairs = smoothstep(0.5, 1.6, 2.2 * _grain(rng, 0.75))
    canvas.mix(area * (0.34 + 0.3 * hairs), bgr(identity.hair) * 0.8 + 0.12, identity.beard)
    canvas.gloss -= 0.25 * area


def _freckles(canvas: Canvas, identity: Identity, rng: np.random.Generator) -> None:
    rows, columns = np.mgrid[:7, :7]
    for _ in range(int(900 * identity.freckles)):
        x = MIDDLE_PX + rng.normal(0, 78)
        y = 330 + rng.normal(0, 38)
        left, top = int(x) - 3, int(y) - 3
        squared = (rows - 3.0 - x % 1) ** 2 + (columns - 3.0 - y % 1) ** 2
        depth = rng.uniform(0.12, 0.4)
        spot = depth * np.exp(-squared / rng.uniform(1, 2.6) ** 2)
        canvas.colour[top : top + 7, left : left + 7] *= 1 - spot[..., None] * _per_channel(0.75, 0.55, 0.3)


def _folds(canvas: Canvas, identity: Identity, side: _Side) -> None:
    """From the nose to the mouth, under the eye, and the crease of the upper lid."""
    depth = identity.folds
    canvas.multiply(canvas.line(side(129, 203, 206, 216, 212), 5, 4), 1 - depth * _per_channel(0.7, 0.65, 0.5))
    under_eye = canvas.line(side(133, 244, 233, 232, 231) + np.array([0, 2]), 4, 3)
    canvas.multiply(under_eye, 1 - depth * _per_channel(0.6, 0.6, 0.45))
    canvas.multiply(canvas.line(side(226, 247, 30, 29, 27, 28, 56, 190, 243), 3, 1.4), [0.59, 0.59, 0.67])


def _eye(canvas: Canvas, identity: Identity, side: _Side, rng: np.random.Generator) -> None:
    """Lid rims, liner and lashes."""
    upper, lower = side(*EYE_UPPER), side(*EYE_LOWER)
    canvas.mix(canvas.fill(side(*EYE), 1.5), bgr(identity.skin) * [0.6, 0.58, 0.8], 0.8)
    canvas.multiply(canvas.line(upper, 5, 2), 1 - 0.8 * identity.eye_liner * _per_channel(1, 1, 1))
    canvas.mix(canvas.line(upper, 3, 0.7), [0.06, 0.05, 0.07], 0.9)
    canvas.multiply(canvas.line(lower, 2, 1.0), [0.6, 0.6, 0.68])
    roots = spline(upper, 8)[8:-2]
    fan = np.linspace(1, -0.3, len(roots))
    lashes = np.stack([side.outwards * (3 + 4 * fan), -6 + 2 * np.abs(fan)], 1) * identity.lashes
    canvas.mix(np.minimum(1, 1.3 * canvas.strokes(roots, lashes, rng)), [0.04, 0.04, 0.05], 0.85)


def _brow(canvas: Canvas, identity: Identity, side: _Side, rng: np.random.Generator) -> None:
    drop = np.linspace(3, 0, 5)[:, None] * [0, 1]
    upper, lower = spline(side(*BROW_UPPER) + drop), spline(side(*BROW_LOWER) + drop)
    count = int(420 * identity.brow_density)
    along = rng.uniform(0, 1, count)  # 0 at the temple, 1 at the nose
    index = (along * (len(upper) - 1)).astype(int)
    width = smoothstep(0, 0.35, along) * smoothstep(1.02, 0.85, along) * 0.75 + 0.25
    across = rng.uniform(-1, 1, count) * identity.brow_thickness * width
    roots = (upper[index] + lower[index]) / 2 + (lower[index] - upper[index]) * (across * 0.55)[:, None]
    angle = np.deg2rad(12 + 62 * along**1.5 + rng.normal(0, 9, count))
    hairs = np.stack([side.outwards * np.cos(angle), -np.sin(angle)], 1) * rng.uniform(6, 11, count)[:, None]
    mask = np.minimum(1, 1.2 * canvas.strokes(roots - hairs * 0.4, hairs, rng))
    shade = np.asarray(cv2.GaussianBlur(mask, (0, 0), 4), np.float32)
    canvas.multiply(shade, 1 - 0.35 * identity.brow_density * _per_channel(1, 1, 1))
    canvas.mix(mask, bgr(identity.brows), 0.85)
    canvas.gloss *= 1 - 0.6 * mask


def _mouth(canvas: Canvas, identity: Identity, rng: np.random.Generator) -> F32:
    """Nostrils and lips; returns the mask of the lips."""
    for inner, outer in ((79, 60), (309, 290)):
        canvas.multiply(canvas.blob((SKIN_UV[inner] + SKIN_UV[outer]) / 2, 7, 3.5), [0.3, 0.3, 0.36])
    outline = SKIN_UV[LIPS]
    from_centre = outline - outline.mean(0)
    wider = outline + 3.2 * from_centre / np.linalg.norm(from_centre, axis=1, keepdims=True)
    lips = canvas.fill(wider, 1.6)
    canvas.mix(lips, bgr(identity.lips), identity.lip_colour)
    canvas.multiply(canvas.fill(SKIN_UV[UPPER_LIP_OUTER + UPPER_LIP_INNER[::-1]], 2), [0.82, 0.8, 0.86])
    canvas.colour *= 1 + (0.3 * _grain(rng, 1.2, 6) * lips)[..., None]
    canvas.multiply(canvas.line((SKIN_UV[UPPER_LIP_INNER] + SKIN_UV[LOWER_LIP_INNER]) / 2, 3, 1.2), [0.35, 0.3, 0.45])
    canvas.multiply(canvas.blob(SKIN_UV[18] + [0, 2], 30, 9), [0.86, 0.86, 0.9])
    return lips


def _hair_roots(canvas: Canvas, identity: Identity, rng: np.random.Generator) -> None:
    height_cm = canvas.y / SKIN.height * SKIN_HEIGHT_CM + SKIN_TOP_CM
    roots = smoothstep(-6.2, -8.2, height_cm + 0.8 * value_noise(rng, *SHAPE, (3, 50), 2))
    canvas.mix(roots, bgr(identity.hair) * 0.8, 0.9)
    canvas.gloss *= 1 - 0.7 * roots
