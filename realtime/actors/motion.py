# mypy: ignore-errors
# ruff: noqa
"""How actors move. A number of frames and a seed in, one Pose a frame out; nothing in it belongs to an identity."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """One moment of a performance: where the head is, what the face does, how the light falls. All zeros: at rest."""

    yaw: float = 0.0
    """Degrees; positive turns the face to the right of the image."""
    pitch: float = 0.0
    """Degrees; positive looks up."""
    roll: float = 0.0
    """Degrees; positive leans clockwise as seen in the image."""
    x: float = 0.0
    """Centimetres to the right of the image."""
    y: float = 0.0
    """Centimetres down."""
    z: float = 0.0
    """Centimetres away from the camera."""
    jaw: float = 0.0
    """Opening, 0 to 1."""
    smile: float = 0.0
    """-1 (sad) to 1."""
    brow: float = 0.0
    """Raised brows, -1 to 1."""
    frown: float = 0.0
    """0 to 1."""
    blink_left: float = 0.0
    """0 open to 1 shut; the actor's left eye, on the right of the image."""
    blink_right: float = 0.0
    pucker: float = 0.0
    """Rounded lips, 0 to 1."""
    gaze_x: float = 0.0
    """-1 to 1, to the right of the image; 1 is 25 degrees."""
    gaze_y: float = 0.0
    """-1 to 1, down; 1 is 20 degrees."""
    light_azimuth: float = -35.0
    """Degrees of the key light; 0 is at the camera, positive at the right of the image."""
    light_elevation: float = 35.0
    """Degrees above the horizon."""
    key: float = 1.0
    """Strength of the key light."""
    ambient: float = 0.5
    """Strength of sky and fill."""
    kelvin: float = 5600.0
    """Colour temperature of the key light; 6500 is white."""
    hand: bool = False
    """A hand between face and camera."""
    hand_x: float = 0.0
    """Centimetres to the right of the image."""
    hand_y: float = 0.0
    """Centimetres down."""
    hand_turn: float = 0.0
    """Degrees, clockwise."""


NEUTRAL = Pose()
"""At rest, looking into the camera, under soft light from the left."""


def motion(
    count: int,
    fps: float = 30.0,
    seed: int = 0,
    *,
    yaw: float = 40.0,
    pitch: float = 20.0,
    roll: float = 15.0,
    light: float = 1.0,
    hand: bool = True,
) -> list[Pose]:
    """A talking performance of `count` frames: head, lips, brows, blinks, gaze and light move, a hand passes late.

    `yaw`, `pitch` and `roll` are the peaks in degrees, `light` scales how much the light changes (0: not at all but for
    its direction). The same arguments give the same performance. Raises ValueError for a count below 1 or fps not above 0.
    """
    if count < 1 or not fps > 0:
        raise ValueError(f"a performance has at least one frame and more than 0 frames per second, got {count} at {fps}")
    from realtime.actors import _render

    return [_pose(q) for q in _render.motion(max(count, 2), fps, seed, yaw, pitch, roll, light, hand)[:count]]


_DENSE = dict(
    x="tx", y="ty", z="tz", blink_left="blink_l", blink_right="blink_r", light_azimuth="light_az", light_elevation="light_el",
    hand="occ", hand_x="occ_x", hand_y="occ_y", hand_turn="occ_r",
)


def _pose(q: dict[str, float]) -> Pose:
    names = {v: k for k, v in _DENSE.items()}
    return Pose(**{names.get(k, k): bool(v) if k == "occ" else v for k, v in q.items()})


def dense(pose: Pose) -> dict[str, float]:
    return {_DENSE.get(k, k): float(getattr(pose, k)) for k in Pose.__slots__}
