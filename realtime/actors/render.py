"""Films an actor. A Pose in, one Rendering out: the picture and the exact truth about it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.actors.actor import Actor, Part
from realtime.actors.camera import Camera, paint_room
from realtime.actors.deform import Posed, pose_actor
from realtime.actors.finish import add_noise, draw_catchlights, draw_strands, motion_blur, noise_field
from realtime.actors.light import light_actor
from realtime.actors.mesh import FACE_COUNT
from realtime.actors.numerics import F32
from realtime.actors.pose import Pose, head_rotation, place_head, white_balance
from realtime.actors.raster import Coverage, rasterise
from realtime.actors.shade import PlanarU8, Shader, Surface
from realtime.frame import ImageU8

_ANCHORS = np.array([[0, 0, 0], [0, 8, 0], [-6, 3, 5], [6, 3, 5]], np.float32)
"""Points of the head whose mean motion is the motion blur."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is known exactly about one rendering."""

    landmarks: NDArray[np.float32]
    """(468, 2) MediaPipe mesh in pixels, x right, y down; (0, 0) is the outer corner of the first pixel."""
    depth_cm: NDArray[np.float32]
    """(468,) behind the plane of the resting eyes; negative is nearer to the camera."""
    facing: NDArray[np.float32]
    """(468,) in [-1, 1], 1: the surface faces the camera. Hair or a hand may still hide it: see `part`."""
    part: NDArray[np.uint8]
    """(H, W) the Part that each pixel shows."""
    face_mask: NDArray[np.uint8]
    """(H, W) in [0, 255], soft: the visible face inside the oval with eyes and mouth, without hair and hand."""
    rotation: NDArray[np.float32]
    """(3, 3) of the head, head space to camera space."""


@dataclass(frozen=True, slots=True, eq=False)
class Rendering:
    """One filmed moment."""

    image: ImageU8
    """(H, W, 3) BGR in [0, 255]."""
    truth: Truth


class Renderer:
    """A camera in front of one actor; it keeps the background and the sensor's noise. One per thread.

    `focal` is the focal length in picture widths, `supersample` the rendered pixels per pixel and side.
    """

    def __init__(
        self,
        actor: Actor,
        width: int = 640,
        height: int = 480,
        supersample: float = 1.5,
        background_seed: int = 5,
        *,
        focal: float = 1.18,
        distance_cm: float = 70.0,
    ) -> None:
        self.actor = actor
        self.camera = Camera(width, height, supersample, focal, distance_cm)
        rng = np.random.default_rng(background_seed)
        self._room = paint_room(self.camera, rng)
        self._shader = Shader(self.camera.raster_width, self.camera.raster_height)
        self._noise = noise_field(self.camera, rng)
        self._faces_without_hand = np.flatnonzero(actor.keep & (actor.face_part != Part.HAND))
        self._faces_with_hand = np.flatnonzero(actor.keep)

    def render(
        self,
        pose: Pose,
        previous: Pose | None = None,
        frame: int = 0,
        *,
        shutter: float = 0.5,
        sensor_noise: bool = True,
    ) -> Rendering:
        """Film one moment; the same arguments give the same pixels.

        `previous`, the pose one frame earlier, blurs the motion over `shutter` of the time in between; `frame` is the
        number that draws the sensor's noise.
        """
        actor, camera = self.actor, self.camera
        posed = pose_actor(actor, pose)
        diffuse, highlight = light_actor(actor, pose, posed)
        points = camera.project(posed.placed).astype(np.float32)
        points[actor.slices[Part.EYE], 2] -= 350 / camera.distance_cm**2  # lids always win over the eyeball
        chosen = self._faces_with_hand if pose.hand else self._faces_without_hand
        faces = actor.faces[chosen]
        coverage = rasterise(points, faces, camera.raster_width, camera.raster_height, actor.two_sided[chosen])
        drawn = chosen[coverage.drawn]
        shape = (camera.raster_height, camera.raster_width)
        parts = _look_up(actor.face_part[drawn], coverage, Part.BACKGROUND).reshape(shape)
        mask = _look_up(actor.in_oval[drawn] * np.uint8(255), coverage, 0).reshape(shape)

        surface = Surface(actor.uv, diffuse, highlight)
        colour = white_balance(pose.kelvin)
        image = self._shader.shade(self._lit_room(pose), coverage, faces, surface, actor.texture, colour)
        draw_strands(image, parts, actor, camera, pose, diffuse[actor.slices[Part.HAIR]].mean(0))
        draw_catchlights(image, parts, actor, camera, pose)

        image, mask, parts = self._shrink(image), self._shrink(mask), self._nearest(parts)
        if previous is not None:
            image = motion_blur(image, parts != Part.BACKGROUND, shutter * self._shift_px(previous, pose))
        if sensor_noise:
            image = add_noise(image, self._noise, frame)
        return Rendering(image, self._truth(posed, points, parts, mask, pose))

    def _lit_room(self, pose: Pose) -> PlanarU8:
        gains = np.sqrt((pose.ambient * 0.55 + pose.key * 0.45) * white_balance(pose.kelvin))
        lit = [cv2.convertScaleAbs(channel, alpha=float(gain)) for channel, gain in zip(self._room, gains, strict=True)]
        return np.asarray(np.stack(lit), np.uint8)

    def _shrink(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # Area averaging costs several milliseconds unless the factor is exactly 2; at 1.5, linear looks the same.
        method = cv2.INTER_AREA if self.camera.supersample == 2 else cv2.INTER_LINEAR
        size = (self.camera.width, self.camera.height)
        return np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)

    def _nearest(self, parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = (self.camera.width, self.camera.height)
        return np.asarray(cv2.resize(parts, size, interpolation=cv2.INTER_NEAREST), np.uint8)

    def _shift_px(self, previous: Pose, pose: Pose) -> NDArray[np.float64]:
        """(2,) mean motion of the head between two poses, in pixels of the finished picture."""
        now, then = (self.camera.project(place_head(_ANCHORS, moment)) for moment in (pose, previous))
        shift: NDArray[np.float64] = (now - then).mean(0)[:2] / self.camera.supersample
        return shift

    def _truth(self, posed: Posed, points: F32, parts: NDArray[np.uint8], mask: NDArray[np.uint8], pose: Pose) -> Truth:
        return Truth(
            landmarks=points[:FACE_COUNT, :2] / self.camera.supersample,
            depth_cm=posed.placed[:FACE_COUNT, 2].copy(),
            facing=-posed.normals[:FACE_COUNT, 2],
            part=parts,
            face_mask=mask,
            rotation=head_rotation(pose),
        )


def _look_up(of_triangle: NDArray[np.uint8], coverage: Coverage, nothing: int) -> NDArray[np.uint8]:
    """(H * W,) the value of the drawn triangle that each pixel shows."""
    table = np.append(of_triangle, np.uint8(nothing))
    return np.take(table, coverage.triangle, mode="wrap")  # -1 wraps round to `nothing`
