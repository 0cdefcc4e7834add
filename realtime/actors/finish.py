"""Finishes a picture. Rendered pixels in; loose hair, catchlights, motion blur and sensor noise on top out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.actors.actor import Actor, Part
from realtime.actors.camera import Camera
from realtime.actors.numerics import F32, Bools, Floats, bgr, fixed_point
from realtime.actors.pose import Pose, gaze_rotation, head_rotation, place_head, towards_key_light
from realtime.frame import ImageU8

PartMap = NDArray[np.uint8]

NOISE_MARGIN_PX = 64
_NOISE_LEVELS = 2.2
_CATCHLIGHT = (245, 245, 240)


def draw_strands(image: ImageU8, parts: PartMap, actor: Actor, camera: Camera, pose: Pose, light: F32) -> None:
    """Paints loose hairs into the supersampled image; `light` is the (3,) mean BGR light on the hair."""
    strands = actor.strands
    visible = (strands.normals @ head_rotation(pose).T)[:, 2] < 0.25
    points = fixed_point(camera.project(place_head(strands.points, pose))[..., :2])
    root = np.clip(points[:, 0] // 16, 0, [camera.raster_width - 1, camera.raster_height - 1])
    visible &= parts[root[:, 1], root[:, 0]] != Part.HAND
    brightness = np.linspace(0.5, 1.16, 4)[:, None]
    colours = np.sqrt(bgr(actor.body.hair) ** 2 * light * brightness) * 255
    for shade, colour in enumerate(colours):
        lines = list(points[visible & (strands.shades == shade)])
        cv2.polylines(image, lines, False, np.clip(colour, 0, 255).tolist(), 1, cv2.LINE_AA, 4)


def draw_catchlights(image: ImageU8, parts: PartMap, actor: Actor, camera: Camera, pose: Pose) -> None:
    """Paints the reflection of the key light on each visible cornea into the supersampled image."""
    half = towards_key_light(pose) + np.array([0.0, 0.0, -1.0])
    half = half / np.linalg.norm(half)
    forward = gaze_rotation(pose)[:, 2]
    radius = int(1.36 * camera.focal_px / camera.distance_cm)
    for eye_centre in actor.eye_centres:
        x, y, _ = camera.project(place_head(eye_centre - 1.25 * forward, pose) + 0.75 * half).tolist()
        inside = 0 <= x < camera.raster_width and 0 <= y < camera.raster_height
        if inside and parts[int(y), int(x)] == Part.EYE:
            cv2.circle(image, (int(x * 16), int(y * 16)), radius, _CATCHLIGHT, -1, cv2.LINE_AA, 4)


def motion_blur(image: ImageU8, foreground: Bools, shift_px: Floats) -> ImageU8:
    """The foreground smeared along (2,) `shift_px`, centred; shorter than a pixel: the image as it is."""
    length = np.hypot(*shift_px)
    if length < 1:
        return image
    side = int(np.ceil(length)) | 1
    kernel = np.zeros((side + 2, side + 2), np.uint8)
    middle = (side + 1) / 2
    start, end = (np.round((middle + way * shift_px / 2) * 16).astype(int).tolist() for way in (-1, 1))
    cv2.line(kernel, start, end, (255,), 1, cv2.LINE_AA, 4)
    weights = kernel.astype(np.float32) / kernel.sum()
    reach = np.minimum(1, 2 * cv2.filter2D(foreground.astype(np.float32), -1, weights))
    return np.asarray(cv2.blendLinear(cv2.filter2D(image, -1, weights), image, reach, 1 - reach), np.uint8)


def noise_field(camera: Camera, rng: np.random.Generator) -> NDArray[np.int16]:
    """(height + 64, width + 64, 3) grey levels: a window of it, drawn anew each frame, is the noise of that frame."""
    shape = (camera.height + NOISE_MARGIN_PX, camera.width + NOISE_MARGIN_PX, 3)
    noise: NDArray[np.int16] = (rng.standard_normal(shape) * _NOISE_LEVELS).round().astype(np.int16)
    return noise


def add_noise(image: ImageU8, noise: NDArray[np.int16], frame: int) -> ImageU8:
    """The image with the noise of frame number `frame`."""
    top, left = np.random.default_rng(frame).integers(0, NOISE_MARGIN_PX, 2)
    window = noise[top : top + image.shape[0], left : left + image.shape[1]]
    return np.asarray(cv2.add(image, window, dtype=cv2.CV_8U), np.uint8)
