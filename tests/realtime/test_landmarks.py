"""The groups of the mesh, the 68 iBUG points and the mask of a face, on the canonical face and on a rendered actor."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.actors import BO, Actor, Part, Pose, Renderer, Rendering
from realtime.align import canonical_mesh
from realtime.landmarks import (
    BROWS,
    LEFT_BROW,
    LEFT_EYE,
    LEFT_IRIS,
    LIPS_INNER,
    LIPS_OUTER,
    NOSE,
    OVAL,
    RIGHT_BROW,
    RIGHT_EYE,
    RIGHT_IRIS,
    face_hull,
    ibug68,
)

MIRROR_IBUG = [
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
]  # fmt: skip
"""Which point of the scheme takes which place in a mirrored face."""
SYMMETRY = 0.03
"""The canonical face is itself symmetric to about 0.01 of the distance from brows to lips."""
CUT_RIM = 2e-3
"""OpenCV draws the soft rim of an outline that leaves the picture a little differently: a few pixels at the border."""


@pytest.fixture(scope="module")
def mesh() -> NDArray[np.float32]:
    """(468, 2) the canonical face, 100 pixels from brows to lips."""
    return (canonical_mesh() * 100 + 100).astype(np.float32)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(Actor(BO))


@pytest.fixture(scope="module")
def frontal(renderer: Renderer) -> Rendering:
    return renderer.render(Pose())


@pytest.mark.parametrize("group", [OVAL, LIPS_OUTER, LIPS_INNER, RIGHT_EYE, LEFT_EYE, RIGHT_BROW, LEFT_BROW, NOSE])
def test_a_group_names_each_point_of_the_mesh_once(group: tuple[int, ...]) -> None:
    assert len(set(group)) == len(group)
    assert set(group) <= set(range(468))


def test_irises_are_the_ten_points_after_the_mesh() -> None:
    assert (*RIGHT_IRIS, *LEFT_IRIS) == tuple(range(468, 478))


@pytest.mark.parametrize("outline", [OVAL, LIPS_OUTER, LIPS_INNER, RIGHT_EYE, LEFT_EYE, RIGHT_BROW, LEFT_BROW])
def test_an_outline_goes_once_around_in_small_steps(mesh: NDArray[np.float32], outline: tuple[int, ...]) -> None:
    points = mesh[list(outline)]
    steps = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    middle = points - points.mean(axis=0)
    turns = np.diff(np.unwrap(np.arctan2(middle[:, 1], middle[:, 0])))
    assert steps.max() < 0.35 * np.ptp(points, axis=0).max()
    assert abs(turns.sum()) == pytest.approx(2 * np.pi, rel=0.25)


@pytest.mark.parametrize(("right", "left"), [(RIGHT_EYE, LEFT_EYE), (RIGHT_BROW, LEFT_BROW)])
def test_right_and_left_are_the_persons_own(
    mesh: NDArray[np.float32], right: tuple[int, ...], left: tuple[int, ...]
) -> None:
    nose_x = mesh[1, 0]
    assert (mesh[list(right), 0] < nose_x).all()
    mirrored = mesh[list(left)] * (-1, 1) + (2 * nose_x, 0)
    assert np.abs(mirrored - mesh[list(right)]).max() < 100 * SYMMETRY
    assert set(right) & set(BROWS) in (set(), set(right))


def test_ibug_points_of_a_face_are_those_of_its_mirror_image(mesh: NDArray[np.float32]) -> None:
    points = ibug68(mesh)
    assert points.shape == (68, 2)
    assert points.dtype == np.float32
    mirrored = points * (-1, 1) + (2 * points[30, 0], 0)
    assert np.abs(mirrored[MIRROR_IBUG] - points).max() < 100 * SYMMETRY


def test_the_jaw_goes_from_ear_to_ear_over_the_chin_in_equal_steps(mesh: NDArray[np.float32]) -> None:
    jaw = ibug68(mesh)[:17]
    steps = np.linalg.norm(np.diff(jaw, axis=0), axis=1)
    assert steps.max() < 1.1 * steps.min()
    assert np.argmax(jaw[:, 1]) == 8
    assert (np.diff(jaw[:, 0])[4:12] > 0).all()
    assert np.array_equal(jaw[[0, 8, 16]], mesh[[127, 152, 356]])


def test_ibug_points_move_with_the_picture(mesh: NDArray[np.float32]) -> None:
    turn = np.array([[0.8, -0.6], [0.6, 0.8]], np.float32)
    moved = ibug68(2 * mesh @ turn.T + (5, -3))
    assert np.allclose(moved, 2 * ibug68(mesh) @ turn.T + (5, -3), atol=1e-2)


def test_depth_and_irises_do_not_change_the_ibug_points(mesh: NDArray[np.float32]) -> None:
    refined = np.concatenate([mesh, np.zeros((10, 2), np.float32)])
    with_depth = np.column_stack([refined, np.ones(478, np.float32)])
    assert np.array_equal(ibug68(with_depth), ibug68(mesh))


def test_the_hull_covers_the_face_and_nothing_else(frontal: Rendering) -> None:
    hull = face_hull(frontal.truth.landmarks, 480, 640)
    assert hull.shape == (480, 640)
    assert hull.dtype == np.uint8
    truth, inside = frontal.truth.face_mask > 127, hull > 127
    assert (truth & inside).sum() / (truth | inside).sum() > 0.93
    assert (inside[truth]).mean() > 0.99


def test_the_rim_of_the_hull_is_soft_and_the_rest_is_not(mesh: NDArray[np.float32]) -> None:
    hull = face_hull(mesh, 300, 300)
    soft = (hull > 0) & (hull < 255)
    perimeter = np.linalg.norm(np.roll(mesh[list(OVAL)], -1, axis=0) - mesh[list(OVAL)], axis=1).sum()
    assert 0.5 * perimeter < soft.sum() < 3 * perimeter
    assert len(np.unique(hull)) > 20


def test_the_hull_moves_by_parts_of_a_pixel(mesh: NDArray[np.float32]) -> None:
    hull, shifted = (face_hull(mesh + np.array([dx, 0], np.float32), 300, 300) for dx in (0.0, 0.25))
    assert hull.sum(dtype=np.int64) == pytest.approx(shifted.sum(dtype=np.int64), rel=2e-3)
    assert not np.array_equal(hull, shifted)


@pytest.mark.parametrize("yaw", [-60.0, -30.0, 30.0, 60.0])
def test_a_turned_head_keeps_its_nose_and_loses_the_background_beside_it(renderer: Renderer, yaw: float) -> None:
    truth = renderer.render(Pose(yaw=yaw)).truth
    hull = face_hull(truth.landmarks, 480, 640)
    tip, ear = truth.landmarks[4], truth.landmarks[[234, 454]].mean(axis=0)
    x, y = np.rint(tip + 3 * (ear - tip) / np.linalg.norm(ear - tip)).astype(int)
    assert hull[y, x] == 255
    visible = truth.face_mask > 127
    assert (hull[visible] > 127).mean() > 0.99
    background = (hull > 127) & (truth.part == Part.BACKGROUND)
    assert background.sum() < 0.03 * visible.sum(), "one convex hull has 0.06"


def test_what_lies_outside_the_picture_is_cut_off(mesh: NDArray[np.float32]) -> None:
    whole, part = face_hull(mesh, 300, 300), face_hull(mesh - np.array([100, 150], np.float32), 100, 90)
    assert np.mean(part != whole[150:250, 100:190]) < CUT_RIM
    assert not face_hull(mesh + 1000, 100, 100).any()
    assert not face_hull(mesh - 1e9, 100, 100).any()
    assert face_hull(mesh * 1e6 - 1.5e8, 20, 30).shape == (20, 30)
    assert face_hull(mesh, 0, 0).shape == (0, 0)
