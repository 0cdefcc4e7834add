# mypy: ignore-errors
# ruff: noqa
"""Renders actors. A Pose in, one Rendering out: the picture and the exact truth about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from realtime.actors import _render
from realtime.actors.actor import Actor
from realtime.actors.motion import Pose, dense
from realtime.frame import ImageU8


class Part(IntEnum):
    """What a pixel shows."""

    SKIN = 0
    EAR = 1
    BODY = 2
    HAIR = 3
    EYE = 4
    TEETH_UPPER = 5
    TEETH_LOWER = 6
    MOUTH = 7
    TONGUE = 8
    GLASSES = 9
    HAND = 10
    BACKGROUND = 255


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is known exactly about one rendering."""

    landmarks: NDArray[np.float32]
    """(468, 2) MediaPipe mesh in image pixels, x right, y down."""
    depth_cm: NDArray[np.float32]
    """(468,) distance behind the plane of the resting eyes, centimetres; negative towards the camera."""
    facing: NDArray[np.float32]
    """(468,) in [-1, 1], 1: the surface faces the camera. A hand or hair may still be in front: see `part`."""
    part: NDArray[np.uint8]
    """(H, W) Part of each pixel."""
    face_mask: NDArray[np.uint8]
    """(H, W) in [0, 255], soft: the visible face inside the oval, with eyes and mouth, without hair and hand."""
    rotation: NDArray[np.float32]
    """(3, 3) head space to camera space."""


@dataclass(frozen=True, slots=True, eq=False)
class Rendering:
    """One rendered frame."""

    image: ImageU8
    """(H, W, 3) BGR in [0, 255]."""
    truth: Truth


class Renderer:
    """A camera in front of one actor. Not thread-safe: one renderer per thread."""

    def __init__(self, actor: Actor, width: int = 640, height: int = 480, supersample: float = 1.5, background_seed: int = 5,
                 focal: float = 1.18, distance_cm: float = 70.0) -> None:
        self.actor, self.width, self.height = actor, width, height
        self._dense = _render.Renderer(actor.dense, width, height, supersample, background_seed, focal, distance_cm)

    def render(self, pose: Pose, previous: Pose | None = None, frame: int = 0, *, shutter: float = 0.5, sensor_noise: bool = True) -> Rendering:
        """One frame. `previous`, the pose one frame earlier, blurs the motion over `shutter` of the frame time; `frame` seeds the sensor noise."""
        image, gt = self._dense.render(dense(pose), dense(previous) if previous is not None else None, shutter, frame, sensor_noise)
        return Rendering(image, Truth(gt["landmarks"], gt["depth"], gt["facing"], gt["part"], gt["face_mask"], gt["R"]))
