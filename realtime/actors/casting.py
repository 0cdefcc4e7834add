"""Casts new actors. A seed in, a plausible Identity out: as many performers as anybody wants, none of them a person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from realtime.actors.identity import FaceShape, Identity, Rgb

_SKINS = (
    (244, 212, 194),
    (232, 190, 168),
    (214, 166, 138),
    (190, 140, 110),
    (156, 108, 82),
    (118, 80, 60),
    (88, 60, 48),
)
"""From light to dark."""
_HAIRS = ((196, 160, 108), (138, 72, 42), (128, 88, 56), (96, 60, 38), (62, 42, 30), (30, 24, 22))
"""From blond and red to black."""
_EYES = ((96, 124, 150), (104, 120, 124), (84, 128, 84), (110, 84, 46), (72, 44, 24), (44, 28, 18))
"""From blue and green to dark brown."""
_WARMER = np.array([1.0, 0.0, -1.2])
_GREY = np.array([150.0, 148.0, 146.0])
_LIP_RED = np.array([176.0, 66.0, 72.0])


def random_identity(seed: int) -> Identity:
    """A performer that nobody has met: the same seed gives the same identity for ever.

    Skin runs from light to dark; hair and eyes follow it loosely, as they do in people. A second axis moves jaw, brows,
    beard and make-up together without fixing any of them. Raises ValueError for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"a seed is not negative, got {seed}")
    rng = np.random.default_rng([seed, 0xAC7])
    darkness = float(rng.uniform())
    rugged = float(rng.uniform())
    skin = _ramp(_SKINS, darkness) + rng.normal(0, 1.5, 3) + rng.normal(0, 4) * _WARMER
    hair = _ramp(_HAIRS, np.clip(1.3 * darkness + rng.normal(0.2, 0.3), 0, 1)) + rng.normal(0, 3, 3)
    grey = rng.uniform(0.5, 1) if rng.uniform() < 0.15 else 0.0
    brows = hair * rng.uniform(0.6, 0.95) * (1 - 0.2 * grey)
    hair = hair + (_GREY + rng.normal(0, 18) - hair) * grey
    eyes = _ramp(_EYES, np.clip(1.2 * darkness + rng.normal(0.15, 0.3), 0, 1)) + rng.normal(0, 6, 3)
    lips = skin * 0.92 + (_LIP_RED * (1.05 - 0.45 * darkness) - skin * 0.92) * rng.uniform(0.35, 0.8)
    long_hair = rng.uniform() < 0.85 - 0.75 * rugged
    return Identity(
        seed=int(rng.integers(1 << 31)),
        skin=_rgb(skin),
        lips=_rgb(lips),
        brows=_rgb(brows),
        eyes=_rgb(eyes),
        hair=_rgb(hair),
        cloth=_rgb(rng.uniform(30, 150) + rng.uniform(-40, 40, 3)),
        hair_streaks=_rgb(hair * rng.uniform(1.1, 1.6)),
        hair_style="long" if long_hair else "short",
        parting=float(rng.uniform(-0.5, 0.5)),
        sweep=float(rng.uniform(0.2, 0.8)),
        quiff=0.0 if long_hair else float(rng.uniform(0, 1)),
        blush=float(rng.uniform(0.02, 0.15)),
        bags=float(rng.uniform(0.03, 0.2)),
        folds=float(rng.uniform(0.08, 0.4)),
        freckles=float(rng.uniform(0.2, 1)) if darkness < 0.4 and rng.uniform() < 0.4 else 0.0,
        beard=float(rng.uniform(0.3, 1)) if rugged > 0.5 and rng.uniform() < 0.7 else 0.0,
        lip_colour=float(rng.uniform(0.45, 0.9)),
        lip_gloss=float(rng.uniform(0.05, 0.2) + 0.3 * (1 - rugged)),
        eye_liner=float(rng.uniform(0.1, 0.3) + 0.5 * (1 - rugged) * rng.uniform()),
        lashes=float(rng.uniform(0.4, 0.7) + 0.5 * (1 - rugged)),
        brow_density=float(0.7 + 0.4 * rugged + rng.uniform(0, 0.3)),
        brow_thickness=float(0.7 + 0.4 * rugged + rng.uniform(-0.1, 0.2)),
        glasses=bool(rng.uniform() < 0.2),
        build=float(rng.uniform(0.88, 1.0) + 0.1 * rugged),
        collar=float(rng.uniform(17.2, 20.5)),
        neckline=float(rng.uniform(1, 4)) if rng.uniform() < 0.4 else 0.0,
        shape=_random_shape(rng, rugged),
    )


def _random_shape(rng: np.random.Generator, rugged: float) -> FaceShape:
    def amount(lean: float = 0.0) -> float:
        return float(np.clip(rng.normal(lean * (rugged - 0.5), 0.38), -0.9, 0.9))

    return FaceShape(
        width=amount(),
        forehead=amount(),
        brow_height=amount(-0.5),
        brow_ridge=amount(0.9),
        eye_size=amount(-0.5),
        eye_gap=amount(),
        eye_tilt=amount(-0.4),
        cheekbone=amount(),
        bridge=amount(0.5),
        nose_length=amount(0.3),
        nose_width=amount(0.4),
        nose_tip=amount(0.3),
        mouth_width=amount(0.2),
        lips=amount(-0.5),
        jaw=amount(0.8),
        taper=amount(-0.8),
        chin=amount(0.6),
        chin_out=amount(0.4),
    )


def _ramp(colours: tuple[Rgb, ...], position: float) -> NDArray[np.float64]:
    steps = np.linspace(0, 1, len(colours))
    return np.array([np.interp(position, steps, channel) for channel in zip(*colours, strict=True)])


def _rgb(colour: NDArray[np.float64]) -> Rgb:
    red, green, blue = (int(level) for level in np.clip(np.round(colour), 8, 250))
    return red, green, blue
