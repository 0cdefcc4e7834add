"""People show life; pictures of them do not, whether they hang, are carried, or the camera moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.actors import BO, NEUTRAL, Actor, Pose, Renderer, motion
from realtime.alive import STILL_S, Life, unlike_a_picture
from realtime.detect import FaceFinder
from realtime.frame import Frame, ImageU8, Points

FPS = 30
QUICK_S = 1.5
"""Who talks and turns is found alive after so long; 0.4 to 0.9 s measured."""
EXACT = 1e-6
"""Affine transforms are undone to rounding."""


@cache
def camera() -> Renderer:
    return Renderer(Actor(BO), 640, 480, 1.0)


def meshes(images: Iterable[ImageU8]) -> list[Points]:
    """What FaceFinder sees; every image has one face."""
    with FaceFinder() as finder:
        return [finder.find(Frame(image, i, i / FPS, i / FPS))[0].landmarks for i, image in enumerate(images)]


def film(poses: list[Pose]) -> list[Points]:
    return meshes(camera().render(pose, frame=i).image for i, pose in enumerate(poses))


def watched(seen: list[Points], fps: float = FPS) -> Life:
    life = Life()
    for i, each in enumerate(seen):
        life.watch(each, i / fps)
    return life


def picture_in_motion(seconds: float, *, pan_px: float, turn_deg: float, zoom: float) -> list[Points]:
    """A still picture, moved in front of the camera (or the camera in front of it), with the camera's noise."""
    still = cv2.resize(camera().render(NEUTRAL, sensor_noise=False).image, (400, 300), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)

    def shown(i: int) -> ImageU8:
        a = np.sin(2 * np.pi * np.array([0.31, 0.23, 0.4, 0.27]) * i / FPS)
        moved = cv2.getRotationMatrix2D((200, 150), turn_deg * a[2], 1 + zoom * a[3])
        moved[:, 2] += (120 + pan_px * a[0], 90 + 0.6 * pan_px * a[1])
        image = cv2.warpAffine(still, moved, (640, 480), borderValue=(120, 120, 120))
        return np.asarray(np.clip(image + rng.normal(0, 3, image.shape), 0, 255), np.uint8)

    return meshes(shown(i) for i in range(round(seconds * FPS)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_somebody_who_talks_is_alive_within_a_moment(seed: int) -> None:
    assert watched(film(motion(round(QUICK_S * FPS), FPS, seed, hand=False))).alive


@pytest.mark.parametrize(
    "movement",
    [
        {"pan_px": 0, "turn_deg": 0, "zoom": 0},
        {"pan_px": 60, "turn_deg": 0, "zoom": 0},
        {"pan_px": 40, "turn_deg": 8, "zoom": 0.15},
    ],
    ids=["hangs still", "panned over", "carried"],
)
def test_a_picture_is_not_alive_and_is_known_for_one(movement: dict[str, float]) -> None:
    life = watched(picture_in_motion(STILL_S + 1.5, **movement))
    assert not life.alive
    assert life.picture


def test_a_quiet_person_is_not_taken_for_a_picture() -> None:
    lively = motion(round((STILL_S + 1.5) * FPS), FPS, 81, yaw=4, pitch=2, roll=2, light=0, hand=False)
    quiet = [replace(pose, jaw=0, pucker=0, frown=0, smile=0.1 * pose.smile, brow=0.1 * pose.brow) for pose in lively]
    assert not watched(film(quiet)).picture


def test_a_moment_is_not_enough_to_call_a_face_a_picture() -> None:
    life = watched(picture_in_motion(2, pan_px=0, turn_deg=0, zoom=0))
    assert not life.picture


def mesh(seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 50, (468, 2)) + 200


def test_every_affine_movement_could_be_a_pictures() -> None:
    points = mesh()
    moved = points @ np.array([[0.8, 0.3], [-0.1, 1.2]]) + (30, -40)
    assert unlike_a_picture(points, moved) < EXACT
    moved[13] += 40
    assert unlike_a_picture(points, moved) > EXACT


def test_single_frames_gone_astray_are_no_life() -> None:
    seen = [np.column_stack([mesh(), np.zeros(468)]).astype(np.float32) for _ in range(60)]
    for i in (10, 30, 50):
        seen[i][:, :2] = mesh(i)
    assert not watched(seen).alive


@pytest.mark.parametrize("wreck", [np.nan, np.inf, 0.0])
def test_landmarks_that_make_no_face_show_no_life(wreck: float) -> None:
    points = np.full((468, 3), wreck, np.float32)
    assert not watched([points] * 60).alive


def test_life_needs_no_steady_frame_rate() -> None:
    poses = motion(60, 10, 2, hand=False)
    assert watched(film(poses), fps=10).alive
