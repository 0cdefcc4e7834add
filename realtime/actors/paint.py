"""Paints a person. Identity in, the whole texture out: skin, eyes, teeth, mouth, hand, body, hair, glasses.

The random generator is drawn from in a fixed order: a step that is moved gives everybody another look.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from realtime.actors import atlas
from realtime.actors.atlas import Region
from realtime.actors.canvas import Canvas
from realtime.actors.identity import Identity
from realtime.actors.numerics import F32, bgr, gaussian, smoothstep, value_noise
from realtime.actors.skin import paint_skin
from realtime.frame import ImageU8

BODY_TOP_CM, BODY_HEIGHT_CM = 7, 33
BODY_ANGLE = 4.4
"""Radians round the neck that the width of the body's texture spans."""


@lru_cache(maxsize=4)
def paint_atlas(identity: Identity) -> ImageU8:
    """(1024, 1280, 4) BGR and gloss in [0, 255], read-only; atlas.py says where what lies.

    The last few are kept, because whoever films a swap needs each of the two persons twice.
    """
    texture = np.zeros(atlas.ATLAS_SHAPE, np.float32)
    rng = np.random.default_rng(identity.seed + 7)
    texture[atlas.SKIN.window] = paint_skin(identity)
    texture[atlas.EYE.window] = _paint_eye(identity, rng)
    texture[atlas.TEETH.window] = _paint_teeth()
    texture[atlas.FLESH.window] = _paint_flesh()
    texture[atlas.HAND.window] = _paint_hand(identity, rng)
    texture[atlas.BODY.window] = _paint_body(identity, rng)
    texture[atlas.HAIR.window] = _paint_hair(identity, rng)
    texture[atlas.FRAME.window] = np.array([0.09, 0.08, 0.08, 0.9], np.float32)
    painted = np.clip(texture * 255, 0, 255).astype(np.uint8)
    painted.setflags(write=False)
    return painted


def _shape(region: Region) -> tuple[int, int]:
    return region.height, region.width


def _paint_eye(identity: Identity, rng: np.random.Generator) -> F32:
    height, width = _shape(atlas.EYE)
    canvas = Canvas(height, width, [0.86, 0.88, 0.90], 0.9)
    x, y = canvas.x - 127.5, canvas.y - 127.5
    off_axis_deg = np.hypot(x, y) / 1.5
    canvas.multiply(smoothstep(24, 60, off_axis_deg), [0.72, 0.72, 0.88])
    veins = smoothstep(0.9, 1.6, value_noise(rng, height, width, (4, 60), 2)) * smoothstep(25, 60, off_axis_deg)
    canvas.mix(veins, [0.35, 0.35, 0.75], 0.3)
    fibres = value_noise(rng, 1, width, (1, 90), 2)[0][((np.arctan2(y, x) / np.pi + 1) * 127.5).astype(int)]
    iris = bgr(identity.eyes) * (0.8 + 0.35 * fibres + 0.35 * smoothstep(6, 13, off_axis_deg))[..., None]
    canvas.colour += (iris - canvas.colour) * smoothstep(19, 17, off_axis_deg)[..., None]
    canvas.multiply(gaussian(off_axis_deg - 18, 2.2), [0.35, 0.35, 0.38])  # limbal ring
    canvas.mix(smoothstep(8.6, 7.2, off_axis_deg), [0.02, 0.02, 0.02])  # pupil
    return canvas.pixels()


def _paint_teeth() -> F32:
    """Gum on top."""
    canvas = Canvas(*_shape(atlas.TEETH), [0.80, 0.88, 0.91], 0.9)
    from_middle = canvas.x - 128
    across_tooth = np.abs((from_middle / 24 + 0.5) % 1 - 0.5) * 2
    canvas.multiply(smoothstep(0.80, 1.0, across_tooth), [0.55, 0.6, 0.66])
    canvas.multiply(smoothstep(45, 115, np.abs(from_middle)), [0.15, 0.15, 0.18])
    canvas.mix(smoothstep(46, 36, canvas.y + 8 * across_tooth**2), [0.42, 0.42, 0.70])
    return canvas.pixels()


def _paint_flesh() -> F32:
    """The cavity of the mouth on the left, the tongue on the right."""
    canvas = Canvas(*_shape(atlas.FLESH), [0.05, 0.04, 0.10], 0.2)
    canvas.colour[:, 128:] = [0.38, 0.36, 0.66]
    return canvas.pixels()


def _paint_hand(identity: Identity, rng: np.random.Generator) -> F32:
    canvas = Canvas(*_shape(atlas.HAND), bgr(identity.skin) * 0.96, 0.35)
    canvas.colour *= 1 + 0.05 * value_noise(rng, *_shape(atlas.HAND), (5, 6))[..., None]
    return canvas.pixels()


def _paint_body(identity: Identity, rng: np.random.Generator) -> F32:
    """Neck, then cloth below the collar."""
    height, width = _shape(atlas.BODY)
    canvas = Canvas(height, width, bgr(identity.skin) * [0.93, 0.95, 0.98], 0.3)
    canvas.colour *= 1 + 0.03 * value_noise(rng, height, width, (6, 8))[..., None]
    y_cm = BODY_TOP_CM + canvas.y / height * BODY_HEIGHT_CM
    angle = (canvas.x / width - 0.5) * BODY_ANGLE
    if identity.beard:
        throat = smoothstep(12.5, 9, y_cm) * smoothstep(1.5, 0.9, np.abs(angle))
        canvas.mix(throat, bgr(identity.hair) * 0.8 + 0.12, 0.3 * identity.beard)
    rise = 0.9 * smoothstep(0.4, 1.4, np.abs(angle))
    below_collar = y_cm - (identity.collar + identity.neckline * gaussian(angle, 0.5) - rise)
    covered = smoothstep(-0.06, 0.06, below_collar)
    wrinkles = 0.07 * value_noise(rng, height, width, (10, 14))
    weave = 0.05 * np.sin(canvas.x * 1.1) * np.sin(canvas.y * 1.4)
    cloth = bgr(identity.cloth) * (1 + wrinkles + weave)[..., None]
    canvas.multiply(gaussian(below_collar + 0.2, 0.5), [0.6, 0.6, 0.65])
    canvas.colour += (cloth - canvas.colour) * covered[..., None]
    canvas.multiply(gaussian(below_collar - 0.9, 0.12), [0.7, 0.7, 0.7])  # seam
    canvas.gloss *= 1 - covered
    return canvas.pixels()


def _paint_hair(identity: Identity, rng: np.random.Generator) -> F32:
    height, width = _shape(atlas.HAIR)
    canvas = Canvas(height, width, bgr(identity.hair), 0.5)
    fine = value_noise(rng, height, width, (1.2, 150), 3, 0.7)
    coarse = value_noise(rng, height, width, (1, 30), 2)
    canvas.colour *= np.clip(1 + 0.42 * fine + 0.22 * coarse, 0.25, 2.2)[..., None]
    canvas.mix(np.clip(coarse * 0.5, 0, 0.5), bgr(identity.hair_streaks or identity.hair), 0.8)
    canvas.gloss = np.clip(0.5 + 0.35 * fine, 0, 1)
    return canvas.pixels()
