"""What shows nothing new is dropped; what moves, however little of it, stays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.actors import BO, NEUTRAL, Actor, Pose, Renderer, motion
from realtime.align import canonical_mesh, whole_face
from realtime.detect import FaceFinder
from realtime.frame import Frame, Points
from realtime.landmarks import BROWS, LEFT_EYE, LIPS_INNER, LIPS_OUTER
from training.cut import cut_face
from training.measures import Measures, measure
from training.near_duplicates import MEMORY, MESH, PIXELS, SMALL_PX, TrackMemory, small_picture

SIDE = 320
GEOMETRY = whole_face(256).widened(1.25)
STILL_KEPT = 0.1
"""Share of a face that holds still: the first one, and little else."""
MOUTH_LOST, EYES_LOST = 0.03, 0.05
"""Openings, in the units of training.measures, whose whole ranges are about 0.5 and 0.35: the noise of the mesh."""


def grey(level: int) -> NDArray[np.uint8]:
    return np.full((SMALL_PX, SMALL_PX), level, np.uint8)


def mesh(moved: tuple[int, ...] = (), by: float = 0.0) -> Points:
    """A face of the crop, some of whose points have moved down by a share of its side."""
    points = np.zeros((468, 3), np.float32)
    points[:, :2] = canonical_mesh() * 110 + 100
    points[list(moved), 1] += by * SIDE
    return points


def test_the_same_face_again_is_nothing_new() -> None:
    memory = TrackMemory()
    assert memory.is_new(grey(100), mesh(), SIDE)
    assert not memory.is_new(grey(100), mesh(), SIDE)
    assert not memory.is_new(grey(100 + int(PIXELS) - 1), mesh(tuple(range(468)), 0.9 * MESH), SIDE)


@pytest.mark.parametrize("part", [LIPS_OUTER + LIPS_INNER, LEFT_EYE, BROWS])
def test_lips_lids_and_brows_count_each_for_itself(part: tuple[int, ...]) -> None:
    memory = TrackMemory()
    memory.is_new(grey(100), mesh(), SIDE)
    assert memory.is_new(grey(100), mesh(part, 1.6 * MESH), SIDE)


def test_another_light_is_new() -> None:
    memory = TrackMemory()
    memory.is_new(grey(100), mesh(), SIDE)
    assert memory.is_new(grey(100 + int(PIXELS)), mesh(), SIDE)


def test_a_slow_drift_is_compared_with_what_was_kept_and_not_with_what_was_dropped() -> None:
    memory = TrackMemory()
    kept = [memory.is_new(grey(100), mesh(tuple(range(468)), 0.1 * MESH * step), SIDE) for step in range(41)]
    assert sum(kept) in (4, 5)


def test_what_was_kept_long_ago_is_forgotten() -> None:
    memory = TrackMemory()
    memory.is_new(grey(0), mesh(), SIDE)
    for number in range(MEMORY):
        assert memory.is_new(grey(3 * (number + 1)), mesh(), SIDE)
    assert memory.is_new(grey(0), mesh(), SIDE)


def film(poses: list[Pose]) -> Iterator[tuple[NDArray[np.uint8], Points, Measures]]:
    camera = Renderer(Actor(BO), 320, 240, 1.0)
    with FaceFinder() as finder:
        for i, pose in enumerate(poses):
            image = camera.render(pose, poses[i - 1] if i else None, frame=i).image
            (face,) = finder.find(Frame(image, i, 0.0))
            crop, points = cut_face(image, face, GEOMETRY)
            yield small_picture(crop.image), points, measure(crop.image, points, GEOMETRY)


def test_a_face_that_holds_still_is_kept_once() -> None:
    memory = TrackMemory()
    kept = [memory.is_new(small, points, SIDE) for small, points, _ in film([NEUTRAL] * 20)]
    assert kept[0]
    assert np.mean(kept) <= STILL_KEPT


def test_a_face_that_talks_loses_no_expression() -> None:
    memory = TrackMemory()
    seen = list(film(motion(60, 30, seed=5, yaw=6, pitch=4, roll=3, light=0.0, hand=False)))
    kept = np.array([memory.is_new(small, points, SIDE) for small, points, _ in seen])
    assert 0 < (~kept).sum() < len(seen) / 2
    shown = np.array([[each.mouth, each.eyes] for _, _, each in seen])
    lost = np.abs(shown[~kept, None] - shown[None, kept])
    nearest = (lost / [MOUTH_LOST, EYES_LOST]).max(axis=2).min(axis=1)
    assert nearest.max() < 1
    assert np.ptp(shown[kept], axis=0) == pytest.approx(np.ptp(shown, axis=0), abs=MOUTH_LOST)
