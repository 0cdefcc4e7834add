"""One moment of a performance. Numbers in, rotations and light directions out; nothing in it belongs to an identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from realtime.actors.numerics import F32, Floats

NECK_PIVOT = np.array([0, 9.0, 10.0], np.float32)
"""The point round which a head turns, head space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Where the head is, what the face does, how the light falls. All defaults: at rest, looking into the camera.

    Left and right in the image, as in Note [Head space]; only `blink_left` and `blink_right` are the person's own.
    """

    yaw: float = 0.0
    """Degrees; positive turns the face to the left of the image."""
    pitch: float = 0.0
    """Degrees; positive looks down."""
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
    """0 open to 1 shut; the person's left eye, at the right of the image."""
    blink_right: float = 0.0
    """0 open to 1 shut; the person's right eye, at the left of the image."""
    pucker: float = 0.0
    """Rounded lips, 0 to 1."""
    gaze_x: float = 0.0
    """-1 to 1, to the right of the image; 1 is 25 degrees off the head's axis."""
    gaze_y: float = 0.0
    """-1 to 1, down; 1 is 20 degrees."""
    light_azimuth: float = -35.0
    """Degrees of the key light; 0 is behind the camera, positive at the right of the image."""
    light_elevation: float = 35.0
    """Degrees above the horizon."""
    key: float = 1.0
    """Strength of the key light."""
    ambient: float = 0.5
    """Strength of sky and fill."""
    kelvin: float = 5600.0
    """Colour temperature of the key light; 6500 is white, less is warmer."""
    hand: bool = False
    """A hand in front of the face."""
    hand_x: float = 0.0
    """Centimetres to the right of the image."""
    hand_y: float = 0.0
    """Centimetres down."""
    hand_turn: float = 0.0
    """Degrees, clockwise as seen in the image."""


NEUTRAL = Pose()
"""At rest, looking into the camera, under soft light from the left."""


def rotation(yaw: float, pitch: float, roll: float) -> F32:
    """(3, 3) in degrees: first yaw, then pitch, then roll, with the signs of Pose."""
    cos_yaw, cos_pitch, cos_roll = np.cos(np.deg2rad([yaw, pitch, roll]))
    sin_yaw, sin_pitch, sin_roll = np.sin(np.deg2rad([yaw, pitch, roll]))
    rolled = np.array([[cos_roll, -sin_roll, 0], [sin_roll, cos_roll, 0], [0, 0, 1]])
    pitched = np.array([[1, 0, 0], [0, cos_pitch, -sin_pitch], [0, sin_pitch, cos_pitch]])
    yawed = np.array([[cos_yaw, 0, sin_yaw], [0, 1, 0], [-sin_yaw, 0, cos_yaw]])
    turn: F32 = (rolled @ pitched @ yawed).astype(np.float32)
    return turn


def head_rotation(pose: Pose) -> F32:
    """(3, 3) head space to camera space."""
    return rotation(pose.yaw, pose.pitch, pose.roll)


def body_rotation(pose: Pose) -> F32:
    """(3, 3): shoulders follow the head a little."""
    return rotation(pose.yaw * 0.15, 0, pose.roll * 0.1)


def translation(pose: Pose) -> F32:
    """(3,) of the head, cm."""
    return np.array([pose.x, pose.y, pose.z], np.float32)


def gaze_rotation(pose: Pose) -> F32:
    """(3, 3) of the eyeballs in the head."""
    return rotation(-pose.gaze_x * 25, pose.gaze_y * 20, 0)


def place_head(points: Floats, pose: Pose) -> Floats:
    """(..., 3) points of the head from head space to camera space."""
    placed: Floats = (points - NECK_PIVOT) @ head_rotation(pose).T + NECK_PIVOT + translation(pose)
    return placed


def towards_key_light(pose: Pose) -> F32:
    """(3,) unit vector in camera space."""
    azimuth, elevation = np.deg2rad([pose.light_azimuth, pose.light_elevation])
    towards = [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)]
    return np.array(towards, np.float32)


def white_balance(kelvin: float) -> F32:
    """(3,) BGR gains of a light; 6500 K is 1, 1, 1."""
    t = np.clip((kelvin - 6500) / 3500, -1, 1)
    warm, cool = [1 + 0.42 * t, 1 + 0.04 * t, 1 - 0.35 * t], [1 + 0.2 * t, 1, 1 - 0.2 * t]
    return np.array(warm if t < 0 else cool, np.float32)
