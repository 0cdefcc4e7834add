"""Looks at the stage. Points in camera space in, pixels of the supersampled picture out; and the room behind."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.actors.numerics import Floats, gaussian, smoothstep

_BOXES, _LIGHTS = 16, 6


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera in front of the resting eyes."""

    width: int
    """Of the finished picture, pixels."""
    height: int
    supersample: float
    """Rendered pixels per pixel of the finished picture, along each side."""
    focal: float
    """Focal length in widths of the picture."""
    distance_cm: float
    """From the camera to the resting eyes."""

    def __post_init__(self) -> None:
        if not (16 <= self.width <= 8192 and 16 <= self.height <= 8192):
            raise ValueError(f"a picture has a width and a height of 16 to 8192 pixels, got {self.width}x{self.height}")
        if not 1 <= self.supersample <= 4:
            raise ValueError(f"supersample is 1 to 4, got {self.supersample}")
        if not self.focal > 0 or not self.distance_cm > 30:
            raise ValueError(f"focal {self.focal} is above 0 and distance {self.distance_cm} above 30 cm")

    @property
    def raster_width(self) -> int:
        """Rendered pixels."""
        return int(self.width * self.supersample)

    @property
    def raster_height(self) -> int:
        """Rendered pixels."""
        return int(self.height * self.supersample)

    @property
    def focal_px(self) -> float:
        """Focal length in rendered pixels."""
        return self.focal * self.width * self.supersample

    def project(self, points: Floats) -> Floats:
        """(..., 3) camera space, cm -> x, y in rendered pixels (0, 0 is the outer corner) and nearness, 1000 / cm."""
        distance = points[..., 2] + self.distance_cm
        scale = self.focal_px / distance
        x = self.raster_width / 2 + scale * points[..., 0]
        y = self.raster_height * 0.47 + scale * (points[..., 1] - 2)
        return np.stack([x, y, 1e3 / distance], -1)


def paint_room(camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(3, raster height, raster width) an out-of-focus room: boxes and lights on a wall."""
    width, height = camera.raster_width, camera.raster_height
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    room: Floats = rng.uniform(90, 150) + (rng.normal(0, 8, 3) - 45 * y[..., None] + 20 * x[..., None])
    for number in range(_BOXES + _LIGHTS):
        left, top = rng.uniform(-0.1, 1.4), rng.uniform(-0.1, 1.0)
        across, down = rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.5)
        if number < _BOXES:
            mask = smoothstep(across / 2 + 0.01, across / 2 - 0.01, np.abs(x - left))
            mask = mask * smoothstep(down / 2 + 0.01, down / 2 - 0.01, np.abs(y - top))
            colour = rng.normal(0, 20) + rng.normal(0, 9, 3)
        else:
            radius, distance = 0.03 + 0.1 * across, np.hypot(x - left, y - top)
            mask = gaussian(distance, radius) ** 0.3
            mask = mask * smoothstep(0.05 + 0.1 * across, radius, distance)
            colour = rng.uniform(10, 40) + rng.normal(0, 10, 3)
        room = room + mask[..., None] * colour
    blurred = np.asarray(cv2.GaussianBlur(room.astype(np.float32), (0, 0), height / 110), np.float32)
    return np.ascontiguousarray(np.clip(blurred, 8, 235).astype(np.uint8).transpose(2, 0, 1))
