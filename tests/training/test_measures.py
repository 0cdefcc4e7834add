"""Expression, light and cover, read off rendered actors whose truth is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from realtime.actors import NEUTRAL, Actor, Pose, Renderer, random_identity
from realtime.align import align, invert, transform, whole_face
from realtime.detect import FaceFinder
from realtime.frame import Frame, ImageU8, Points
from training.measures import Measures, measure

GEOMETRY = whole_face(256).widened(1.25)
SEED = 815
"""Nobody that any constant was chosen on."""
Film = Callable[[Pose], Measures]


def crop_of(image: ImageU8, finder: FaceFinder) -> tuple[ImageU8, Points]:
    face = finder.find(Frame(image, 0, 0.0, 0.0))[0]
    crop = align(image, face, GEOMETRY)
    to_crop = invert(crop.crop_to_frame)
    depth = face.landmarks[:468, 2] * float(np.hypot(to_crop[0, 0], to_crop[1, 0]))
    mesh = np.column_stack([transform(to_crop, face.landmarks[:468]), depth])
    return crop.image, mesh.astype(np.float32)


@pytest.fixture(scope="module")
def resting() -> tuple[ImageU8, Points]:
    """A face at rest with nothing in front, as a stored crop and its mesh."""
    with FaceFinder(static=True) as finder:
        return crop_of(Renderer(Actor(random_identity(SEED))).render(NEUTRAL).image, finder)


@pytest.fixture(scope="module")
def film() -> Film:
    """Measures one pose of one actor, as extraction would see it; every pose is rendered once."""
    camera, finder = Renderer(Actor(random_identity(SEED))), FaceFinder(static=True)
    known: dict[Pose, Measures] = {}

    def shoot(pose: Pose) -> Measures:
        if pose not in known:
            known[pose] = measure(*crop_of(camera.render(pose).image, finder), GEOMETRY)
        return known[pose]

    return shoot


def rising(values: Sequence[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("yaw", [-25.0, 0.0, 25.0])
def test_an_opening_mouth_is_read_whatever_the_yaw(film: Film, yaw: float) -> None:
    openings = [film(replace(NEUTRAL, yaw=yaw, jaw=jaw)).mouth for jaw in (0.0, 0.35, 0.7, 1.0)]
    assert rising(openings)
    assert openings[0] < 0.15
    assert openings[-1] > 0.4


def test_lips_are_narrow_when_rounded_and_wide_in_a_smile(film: Film) -> None:
    poses = (replace(NEUTRAL, pucker=0.8), NEUTRAL, replace(NEUTRAL, smile=0.9))
    assert rising([film(pose).width for pose in poses])


def test_shut_eyes_are_lower_than_open_ones(film: Film) -> None:
    shut = film(replace(NEUTRAL, blink_left=1.0, blink_right=1.0))
    assert shut.eyes < film(NEUTRAL).eyes - 0.03


@pytest.mark.parametrize("pitch", [-12.0, 0.0, 12.0])
def test_brows_are_read_whatever_the_pitch(film: Film, pitch: float) -> None:
    assert rising([film(replace(NEUTRAL, pitch=pitch, brow=brow)).brows for brow in (-0.8, 0.0, 0.8)])


def test_turning_the_head_changes_the_expression_less_than_the_face_does(film: Film) -> None:
    turned = [film(replace(NEUTRAL, yaw=yaw, pitch=pitch)) for yaw in (-25.0, 25.0) for pitch in (-12.0, 12.0)]
    raised = film(replace(NEUTRAL, brow=0.8)).brows - film(replace(NEUTRAL, brow=-0.8)).brows
    assert max(abs(each.mouth - film(NEUTRAL).mouth) for each in turned) < 0.15
    assert max(abs(each.brows - film(NEUTRAL).brows) for each in turned) < raised


def test_light_from_the_right_of_the_image_is_positive_and_follows_the_lamp(film: Film) -> None:
    azimuths = (-70.0, -35.0, 0.0, 35.0, 70.0)
    rights = [film(replace(NEUTRAL, light_azimuth=azimuth)).light[1] for azimuth in azimuths]
    assert rising(rights)
    assert rights[0] < -0.3
    assert rights[-1] > 0.3


def test_a_turned_head_under_the_same_lamp_is_lit_from_the_same_side(film: Film) -> None:
    sides = [film(replace(NEUTRAL, yaw=yaw, light_azimuth=60.0)).light[1] for yaw in (-25.0, 0.0, 25.0)]
    assert min(sides) > 0.3


def test_a_higher_lamp_lights_from_above(film: Film) -> None:
    low, high = (film(replace(NEUTRAL, light_azimuth=0.0, light_elevation=up)).light[2] for up in (5.0, 60.0))
    assert high < low - 0.1


def test_half_the_light_is_a_stop_less(film: Film) -> None:
    bright = film(replace(NEUTRAL, key=0.8, ambient=0.4)).light[0]
    dark = film(replace(NEUTRAL, key=0.4, ambient=0.2)).light[0]
    assert bright - dark == pytest.approx(1.0, abs=0.35)  # the renderer's tone curve is no pure power


def test_a_bulb_is_warmer_than_the_day(film: Film) -> None:
    assert rising([film(replace(NEUTRAL, kelvin=kelvin)).warmth for kelvin in (7500.0, 5600.0, 3200.0)])


def test_a_hand_before_mouth_and_chin_covers_part_of_the_face(film: Film) -> None:
    covered = film(replace(NEUTRAL, hand=True, hand_x=0.0, hand_y=13.0)).covered
    assert film(NEUTRAL).covered < 0.1
    assert covered > film(NEUTRAL).covered + 0.1


def test_a_plain_board_covers_more_of_a_face_the_higher_it_reaches(resting: tuple[ImageU8, Points]) -> None:
    crop, mesh = resting
    covered = []
    for share in (0.0, 0.3, 0.6, 1.0):
        hidden = crop.copy()
        hidden[int(crop.shape[0] * (0.95 - 0.75 * share)) :] = (60, 120, 90)
        covered.append(measure(hidden, mesh, GEOMETRY).covered)
    assert covered[0] < 0.1
    assert rising(covered[1:])
    assert covered[-1] > 0.8


def test_the_measures_do_not_depend_on_the_size_of_the_crop(resting: tuple[ImageU8, Points]) -> None:
    crop, mesh = resting
    large = whole_face(512).widened(1.25)
    enlarged = np.asarray(cv2.resize(crop, (large.size, large.size), interpolation=cv2.INTER_CUBIC), np.uint8)
    points = (mesh + 0.5) * 2 - 0.5
    a, b = measure(crop, mesh, GEOMETRY), measure(enlarged, points.astype(np.float32), large)
    assert a.mouth == pytest.approx(b.mouth, abs=0.01)
    assert a.light == pytest.approx(b.light, abs=0.05)
    assert a.covered == pytest.approx(b.covered, abs=0.05)


def test_a_crop_of_another_size_and_a_point_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a 320 px crop"):
        measure(np.zeros((256, 256, 3), np.uint8), np.zeros((468, 3), np.float32), GEOMETRY)
    with pytest.raises(ValueError, match="coincide"):
        measure(np.zeros((320, 320, 3), np.uint8), np.zeros((468, 3), np.float32), GEOMETRY)


def test_a_black_picture_gives_finite_numbers(resting: tuple[ImageU8, Points]) -> None:
    found = measure(np.zeros((320, 320, 3), np.uint8), resting[1], GEOMETRY)
    assert np.isfinite([*found.light, found.warmth, found.covered, found.mouth]).all()
