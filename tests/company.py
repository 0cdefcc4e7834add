"""Films several rendered people in one picture. Cast and places in, frames and where each face is out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

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

    def __init__(self, identity: Identity = BO, seed: int = 0, count: int = 60, *, still: bool = False) -> None:
        self._camera = Renderer(Actor(identity), WIDTH, HEIGHT, 1.0, distance_cm=120.0)
        lively = motion(count, FPS, seed, yaw=18, pitch=8, roll=8, light=0.2, hand=False)
        self._poses = [replace(pose, x=0.4 * pose.x, light_azimuth=-30.0, light_elevation=30.0) for pose in lively]
        self._still = still
        self._made: dict[int, Cutout] = {}

    def cutout(self, index: int) -> Cutout:
        """The person in frame `index` of a performance that is played forwards and backwards for ever."""
        place = index % (2 * len(self._poses) - 2)
        index = 7 if self._still else min(place, 2 * len(self._poses) - 2 - place)
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


@cache
def _grain() -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-2, 3, (HEIGHT + 64, WIDTH + 64, 3), np.int16)


def compose(room: ImageU8, people: Sequence[Placed], index: int = 0) -> tuple[ImageU8, list[NDArray[np.float32]]]:
    """The picture, and where the landmarks of each of `people` are; who comes later stands in front.

    `index` chooses the camera's noise.
    """
    image, where = room.astype(np.int16), []
    for each in people:
        cutout, dx, dy = each.player.cutout(each.index), round(each.x), round(each.y)
        here = slice(max(dy, 0), min(HEIGHT + dy, HEIGHT)), slice(max(dx, 0), min(WIDTH + dx, WIDTH))
        there = slice(max(-dy, 0), min(HEIGHT - dy, HEIGHT)), slice(max(-dx, 0), min(WIDTH - dx, WIDTH))
        if abs(dx) < WIDTH and abs(dy) < HEIGHT:
            np.copyto(image[here], cutout.image[there], where=cutout.mask[there][:, :, None])
        where.append(cutout.landmarks + np.array([dx, dy], np.float32))
    top, left = 7 * index % 64, 13 * index % 64
    image += _grain()[top : top + HEIGHT, left : left + WIDTH]
    return np.clip(image, 0, 255).astype(np.uint8), where


def frame(image: ImageU8, index: int, start_s: float = 100.0) -> Frame:
    return Frame(image, index, start_s + index / FPS, start_s + index / FPS)


def whose(face: Face, where: Sequence[NDArray[np.float32]]) -> int:
    """Whose face it is: the one of `where` whose landmarks lie nearest."""
    return int(np.argmin([np.linalg.norm(face.landmarks[:468, :2] - each, axis=1).mean() for each in where]))
