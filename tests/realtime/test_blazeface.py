"""BlazeFace on a rendered actor, and its suppression of double hits by hand."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.actors import BO, NEUTRAL, Actor, Renderer, Rendering
from realtime.blazeface import BlazeFace, merge
from realtime.region import Region

NEAR = 0.15
"""How far a detector's points may lie from the mesh's, in eye distances: it is meant to be coarse."""


@pytest.fixture(scope="module")
def moment() -> Rendering:
    return Renderer(Actor(BO)).render(NEUTRAL)


@pytest.mark.parametrize("kind", ["short", "full"])
def test_one_actor_is_one_detection_with_eyes_nose_and_mouth(moment: Rendering, kind: Literal["short", "full"]) -> None:
    (found,) = BlazeFace(kind).find(moment.image)
    mesh = moment.truth.landmarks
    eyes = [mesh[[33, 133]].mean(axis=0), mesh[[362, 263]].mean(axis=0)]
    expected = np.stack([*eyes, mesh[1], mesh[[13, 14]].mean(axis=0)])
    distance = np.linalg.norm(mesh[33] - mesh[263])
    assert np.linalg.norm(found.points[:4] - expected, axis=1).max() < NEAR * distance
    assert found.points.shape == (6, 2)
    left, top, right, bottom = found.box
    assert left < expected[0, 0] < expected[1, 0] < right
    assert top < expected[0, 1] < expected[3, 1] < bottom
    assert 0.7 < found.score <= 1


def test_the_region_of_a_detection_holds_the_face(moment: Rendering) -> None:
    region = BlazeFace("short").find(moment.image)[0].region()
    mesh = moment.truth.landmarks
    assert (np.abs(mesh - (region.x, region.y)) < region.side / 2).all()


def test_a_window_is_searched_alone_and_answers_in_frame_pixels(moment: Rendering) -> None:
    detector = BlazeFace("short")
    whole = detector.find(moment.image)[0]
    closer = detector.find(moment.image, Region(whole.points[2, 0], whole.points[2, 1], 400))[0]
    eyes_px = np.linalg.norm(whole.points[0] - whole.points[1])
    assert np.linalg.norm(closer.points[:4] - whole.points[:4], axis=1).max() < NEAR * eyes_px
    assert detector.find(moment.image, Region(40, 40, 80)) == []


def hits(*boxes: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """(N, 8, 2): boxes whose six points all lie in the middle."""
    corners = np.array(boxes, np.float32).reshape(-1, 2, 2)
    return np.concatenate([corners, np.repeat(corners.mean(axis=1, keepdims=True), 6, axis=1)], axis=1)


def test_boxes_that_overlap_are_averaged_by_their_scores() -> None:
    ((score, points),) = merge(np.array([0.9, 0.3]), hits((0, 0, 10, 10), (4, 0, 14, 10)))
    assert score == 0.9
    assert points[:2].ravel() == pytest.approx([1, 0, 11, 10])
    assert points[2:] == pytest.approx(np.full((6, 2), [6, 5]))


def test_boxes_side_by_side_stay_apart_in_the_order_of_their_scores() -> None:
    merged = merge(np.array([0.9, 0.8, 0.7]), hits((20, 0, 30, 10), (0, 0, 10, 10), (40, 0, 50, 10)))
    assert [score for score, _ in merged] == [0.9, 0.8, 0.7]
    assert [points[0, 0] for _, points in merged] == [20, 0, 40]


def test_a_box_of_no_size_is_kept_and_no_boxes_are_none() -> None:
    assert len(merge(np.array([0.9]), hits((5, 5, 5, 5)))) == 1
    assert merge(np.zeros(0), hits()) == []
