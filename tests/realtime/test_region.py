"""The square that a network looks at: sampling, coming back to the frame, overlap."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.align import canonical_mesh
from realtime.region import Region, box_overlap, region_around, region_of_mesh

SAMPLED_LEVELS = 1.0
"""A ramp of one grey level a pixel, sampled bilinearly and rounded."""


@pytest.fixture(scope="module")
def ramps() -> NDArray[np.uint8]:
    """(200, 250, 3): blue is x, green is y."""
    y, x = np.mgrid[:200, :250]
    return np.stack([x, y, 0 * x], axis=2).astype(np.uint8)


@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
def test_a_point_of_the_sample_shows_its_place_in_the_frame(ramps: NDArray[np.uint8], angle: float) -> None:
    region = Region(120, 95, 90, angle)
    sample = region.sample(ramps, 64, cv2.BORDER_CONSTANT)
    points = np.array([[5, 9, 0], [60, 3, 0], [32, 32, 0]], np.float32)
    for (column, row, _), place in zip(points.astype(int), region.to_frame(points, 64), strict=True):
        assert np.abs(sample[row, column, :2] - place[:2]).max() <= SAMPLED_LEVELS


def test_the_middle_of_the_sample_is_the_middle_of_the_region_and_depth_scales_along() -> None:
    region = Region(10, 20, 96, 0.7)
    assert np.allclose(region.to_frame(np.array([[96, 96, 4]], np.float32), 192), [[10, 20, 2]])


def test_beyond_the_frame_a_sample_is_black_or_repeats_the_rim(ramps: NDArray[np.uint8]) -> None:
    far = Region(1000, 1000, 50)
    assert not far.sample(ramps, 16, cv2.BORDER_CONSTANT).any()
    assert (far.sample(ramps, 16, cv2.BORDER_REPLICATE) == ramps[-1, -1]).all()


def test_a_region_is_turned_as_the_eyes_are() -> None:
    box = np.array([10.0, 20, 30, 60])
    region = region_around(box, np.array([10.0, 30]), np.array([20.0, 40]))
    assert (region.x, region.y, region.side) == (20, 40, 60)
    assert region.angle == pytest.approx(np.pi / 4)


def test_a_mesh_upside_down_has_a_region_upside_down() -> None:
    mesh = np.column_stack([canonical_mesh(), np.zeros(468)]).astype(np.float32)
    upright, turned = region_of_mesh(mesh), region_of_mesh(mesh * np.float32(-1))
    assert abs(upright.angle) < 0.01
    assert abs(abs(turned.angle) - np.pi) < 0.01
    assert turned.side == pytest.approx(upright.side)


def test_overlap_of_boxes() -> None:
    box = np.array([0.0, 0, 2, 2])
    others = np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 4, 4], [5, 5, 6, 6], [0, 0, 1, 1]])
    assert box_overlap(box, others) == pytest.approx([1, 1 / 3, 0, 0, 0.25])
    assert box_overlap(box, np.zeros((0, 4))).shape == (0,)
    assert box_overlap(np.zeros(4), np.zeros((1, 4))) == pytest.approx([0])


def test_overlap_of_regions_ignores_their_angle() -> None:
    assert Region(0, 0, 2).overlap(Region(1, 0, 2, 0.7)) == pytest.approx(1 / 3)
