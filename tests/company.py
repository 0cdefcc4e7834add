"""Films several rendered people in one picture. Cast and places in, frames and where each face is out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from realtime.actors import BO, Actor, Identity, Part, Pose, Renderer, motion
from realtime.frame import Face, Frame, ImageU8

WIDTH, HEIGHT, FPS = 640, 480, 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """One person without the room."""

    image: ImageU8
    mask: NDArray[np.bool_]
    landmarks: NDArray[np.float32]
    """(468, 2) pixels."""


class Player:
    """One person in front of the camera, who talks and moves; or a picture of him that never does."""

    def __init__(self, identity: Identity = BO, seed: int = 0, count: int = 90, *, still: bool = False) -> None:
        self._camera = Renderer(Actor(identity), WIDTH, HEIGHT, 1.0, distance_cm=120.0)
        lively = motion(count, FPS, seed, yaw=18, pitch=8, roll=8, light=0.2, hand=False)
        self._poses = [replace(pose, x=0.4 * pose.x, light_azimuth=-30.0, light_elevation=30.0) for pose in lively]
        self._still = still
        self._made: dict[int, Cutout] = {}

    def cutout(self, index: int) -> Cutout:
        index = 7 if self._still else index % len(self._poses)
        if index not in self._made:
            pose = self._poses[index]
            self._made[index] = self._cut(pose, index)
        return self._made[index]

    def room(self) -> ImageU8:
        """The empty room."""
        far = Pose(x=400.0)
        return self._camera.render(far).image

    def _cut(self, pose: Pose, index: int) -> Cutout:
        rendering = self._camera.render(pose, frame=index)
        return Cutout(rendering.image, rendering.truth.part != Part.BACKGROUND, rendering.truth.landmarks)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Somebody in one frame: who, which moment, how far right and down of the middle, in pixels."""

    player: Player
    index: int
    x: float
    y: float = 0.0


def compose(room: ImageU8, people: Sequence[Placed], noise_seed: int = 0) -> tuple[ImageU8, list[NDArray[np.float32]]]:
    """The picture, and where the landmarks of each of `people` are; who comes later stands in front."""
    image, where = room.copy(), []
    for each in people:
        cutout, (dx, dy) = each.player.cutout(each.index), (round(each.x), round(each.y))
        columns = np.clip(np.arange(WIDTH) - dx, -1, WIDTH), np.clip(np.arange(HEIGHT) - dy, -1, HEIGHT)
        inside_x = (columns[0] >= 0) & (columns[0] < WIDTH)
        inside_y = (columns[1] >= 0) & (columns[1] < HEIGHT)
        grid = np.ix_(columns[1][inside_y], columns[0][inside_x])
        target = image[np.ix_(inside_y, inside_x)]
        mask = cutout.mask[grid]
        target[mask] = cutout.image[grid][mask]
        image[np.ix_(inside_y, inside_x)] = target
        where.append(cutout.landmarks + np.array([dx, dy], np.float32))
    noise = np.random.default_rng(noise_seed).integers(-2, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), where


def frame(image: ImageU8, index: int, start_s: float = 100.0) -> Frame:
    return Frame(image, index, start_s + index / FPS, start_s + index / FPS)


def whose(face: Face, where: Sequence[NDArray[np.float32]]) -> int:
    """Whose face it is: the one of `where` whose landmarks lie nearest."""
    return int(np.argmin([np.linalg.norm(face.landmarks[:468, :2] - each, axis=1).mean() for each in where]))
