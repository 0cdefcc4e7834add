"""Rendered actors: the same seed gives the same pixels, and what they say about themselves is true."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.actors import (
    ADA,
    BO,
    NEUTRAL,
    Actor,
    FaceShape,
    Identity,
    Part,
    Pose,
    Renderer,
    Rendering,
    Scene,
    SwapFrame,
    motion,
    perform,
    random_identity,
    render_clip,
)
from realtime.errors import SourceError
from realtime.frame import Frame, ImageU8

FOCAL_PX, DISTANCE_CM = 1.18 * 320, 70.0
NOSE_TIP, CHIN, UPPER_LIP, LOWER_LIP = 1, 152, 13, 14
RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, LEFT_EYE_UPPER, LEFT_EYE_LOWER = 159, 145, 386, 374

PROJECTION_PX = 1e-3
"""Landmarks are projected in float32: at 320 pixels that leaves about 1e-4."""
OUTSIDE_DB = 50.0
"""Only baked shadows of the other face reach outside the mask: 61 dB at full size, a little less in a small picture."""
GREY_LEVELS = 1.5
"""How far mean colours may be from the stored ones: other builds of OpenCV round otherwise, another actor is 10 off."""
MESH_TOLERANCE = 0.05
"""Mean landmark error in distances of the outer eye corners; measured 0.026, and MediaPipe's own bias is in it."""
TALKING = motion(90, seed=3)


def camera_on(actor: Actor) -> Renderer:
    return Renderer(actor, 320, 240, 1.0)


@pytest.fixture(scope="module")
def bo() -> Renderer:
    return camera_on(Actor(BO))


@pytest.fixture(scope="module")
def ada_on_bo() -> Renderer:
    return camera_on(Actor(ADA, body=BO, tone=1.0))


def outside(*renderings: Rendering) -> NDArray[np.bool_]:
    """(H, W) pixels that none of the face masks touches, not even with their blurred rim."""
    touched = np.maximum.reduce([rendering.truth.face_mask for rendering in renderings])
    clear: NDArray[np.bool_] = np.asarray(cv2.dilate(touched, np.ones((9, 9), np.uint8))) == 0
    return clear


def psnr(a: ImageU8, b: ImageU8, where: NDArray[np.bool_]) -> float:
    return float(10 * np.log10(255**2 / max(((a.astype(float) - b) ** 2)[where].mean(), 1e-9)))


# -- the same arguments give the same pixels ------------------------------------------------------------------------


def test_an_actor_built_twice_gives_the_same_pixels(bo: Renderer) -> None:
    again = camera_on(Actor(BO))
    for index in (1, 50):
        first = bo.render(TALKING[index], TALKING[index - 1], frame=index)
        second = again.render(TALKING[index], TALKING[index - 1], frame=index)
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.truth.face_mask, second.truth.face_mask)
        np.testing.assert_array_equal(first.truth.landmarks, second.truth.landmarks)


def test_rendering_leaves_no_trace_in_the_next_rendering(bo: Renderer) -> None:
    before = bo.render(NEUTRAL)
    bo.render(Pose(yaw=30, jaw=1, hand=True, hand_y=5), Pose(yaw=-30))
    np.testing.assert_array_equal(bo.render(NEUTRAL).image, before.image)


def test_sensor_noise_differs_from_frame_to_frame_and_can_be_switched_off(bo: Renderer) -> None:
    clean = bo.render(NEUTRAL, sensor_noise=False).image.astype(int)
    first, second = (bo.render(NEUTRAL, frame=frame).image.astype(int) for frame in (1, 2))
    assert 1.5 < (first - clean).std() < 3
    assert (first - second).std() > (first - clean).std()


def test_the_actors_look_as_they_did(bo: Renderer, ada_on_bo: Renderer) -> None:
    pose = Pose(yaw=15, pitch=-8, roll=5, jaw=0.4, smile=0.5)
    for renderer, nose, colour in (
        (bo, (143.108, 117.363), (88.8, 114.1, 163.2)),
        (ada_on_bo, (143.323, 115.786), (90.3, 115.7, 165.8)),
    ):
        rendering = renderer.render(pose)
        mean = rendering.image[rendering.truth.face_mask > 127].mean(0)
        np.testing.assert_allclose(mean, colour, atol=GREY_LEVELS)
        np.testing.assert_allclose(rendering.truth.landmarks[NOSE_TIP], nose, atol=2 * PROJECTION_PX)


# -- the exact swap -------------------------------------------------------------------------------------------------


def test_a_person_swapped_with_himself_stays_himself(bo: Renderer) -> None:
    himself = camera_on(Actor(BO, body=BO, tone=1.0))
    np.testing.assert_array_equal(himself.render(TALKING[30]).image, bo.render(TALKING[30]).image)


def test_the_swap_changes_the_face_and_nothing_else(bo: Renderer, ada_on_bo: Renderer) -> None:
    for index in (0, 45):
        performer, ideal = (renderer.render(TALKING[index], frame=index) for renderer in (bo, ada_on_bo))
        assert psnr(performer.image, ideal.image, outside(performer, ideal)) > OUTSIDE_DB
        assert psnr(performer.image, ideal.image, ideal.truth.face_mask > 127) < 30


def test_tone_pulls_the_skin_towards_the_body(bo: Renderer, ada_on_bo: Renderer) -> None:
    fair_ada_on_bo = camera_on(Actor(ADA, body=BO, tone=0.0))
    cheek = np.s_[130:150, 125:140]
    body, toned, fair = (camera.render(NEUTRAL).image[cheek].mean() for camera in (bo, ada_on_bo, fair_ada_on_bo))
    assert abs(toned - body) < 0.5 * abs(fair - body)


def test_a_tone_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="tone"):
        Actor(ADA, body=BO, tone=1.5)


# -- the truth ------------------------------------------------------------------------------------------------------


def test_shapes_and_types_of_a_rendering_are_as_documented() -> None:
    rendering = Renderer(Actor(random_identity(5)), width=161, height=123, supersample=1.5).render(NEUTRAL)
    truth = rendering.truth
    assert rendering.image.shape == (123, 161, 3)
    assert (truth.part.shape, truth.face_mask.shape) == ((123, 161), (123, 161))
    assert {rendering.image.dtype, truth.part.dtype, truth.face_mask.dtype} == {np.dtype(np.uint8)}
    assert (truth.landmarks.shape, truth.depth_cm.shape, truth.facing.shape) == ((468, 2), (468,), (468,))
    assert {truth.landmarks.dtype, truth.depth_cm.dtype, truth.facing.dtype} == {np.dtype(np.float32)}
    np.testing.assert_allclose(truth.rotation @ truth.rotation.T, np.eye(3), atol=1e-6)


def test_a_step_to_the_side_moves_each_landmark_as_its_depth_says(bo: Renderer) -> None:
    before, after = bo.render(NEUTRAL).truth, bo.render(Pose(x=3, y=-2)).truth
    scale = FOCAL_PX / (DISTANCE_CM + before.depth_cm)
    expected = before.landmarks + scale[:, None] * [3, -2]
    np.testing.assert_allclose(after.landmarks, expected, atol=PROJECTION_PX)


def test_a_head_farther_away_is_smaller_in_proportion(bo: Renderer) -> None:
    near, far = bo.render(NEUTRAL).truth, bo.render(Pose(z=20)).truth
    np.testing.assert_allclose(far.depth_cm, near.depth_cm + 20, atol=1e-4)
    assert np.ptp(far.landmarks, axis=0) == pytest.approx(np.ptp(near.landmarks, axis=0) * 70 / 90, rel=0.03)


@pytest.mark.parametrize(
    ("pose", "axis", "direction"),
    [
        (Pose(yaw=20), 0, -1),
        (Pose(yaw=-20), 0, 1),
        (Pose(pitch=15), 1, 1),
        (Pose(pitch=-15), 1, -1),
    ],
)
def test_the_nose_points_where_the_angles_say(bo: Renderer, pose: Pose, axis: int, direction: int) -> None:
    rest, turned = (bo.render(moment).truth.landmarks for moment in (NEUTRAL, pose))
    moved = (turned[NOSE_TIP] - turned[[33, 263]].mean(0)) - (rest[NOSE_TIP] - rest[[33, 263]].mean(0))
    assert moved[axis] * direction > 2


def test_roll_leans_the_head_clockwise(bo: Renderer) -> None:
    right_eye, left_eye = bo.render(Pose(roll=15)).truth.landmarks[[33, 263]]
    assert np.rad2deg(np.arctan2(*(left_eye - right_eye)[::-1])) == pytest.approx(15, abs=2)


def test_the_jaw_opens_the_mouth_and_blinks_shut_the_right_eye(bo: Renderer) -> None:
    def gap(pose: Pose, upper: int, lower: int) -> float:
        landmarks = bo.render(pose).truth.landmarks
        return float(landmarks[lower, 1] - landmarks[upper, 1])

    assert gap(Pose(jaw=1), UPPER_LIP, LOWER_LIP) > gap(NEUTRAL, UPPER_LIP, LOWER_LIP) + 8
    assert gap(Pose(blink_right=1), RIGHT_EYE_UPPER, RIGHT_EYE_LOWER) < 1
    assert gap(Pose(blink_right=1), LEFT_EYE_UPPER, LEFT_EYE_LOWER) > 2
    assert gap(Pose(blink_left=1), LEFT_EYE_UPPER, LEFT_EYE_LOWER) < 1


def test_the_mask_is_the_visible_face_inside_the_oval(bo: Renderer) -> None:
    truth = bo.render(Pose(jaw=0.6)).truth
    inside = truth.face_mask > 200
    assert set(np.unique(truth.part[inside])) <= {
        Part.SKIN,
        Part.EYE,
        Part.TEETH_UPPER,
        Part.TEETH_LOWER,
        Part.MOUTH,
        Part.TONGUE,
    }
    hull = np.zeros_like(truth.face_mask)
    cv2.fillConvexPoly(hull, cv2.convexHull(truth.landmarks.round().astype(np.int32)), (255,))
    assert ((hull > 0) & inside).sum() / ((hull > 0) | inside).sum() > 0.85  # hair covers a little of the forehead


def test_a_hand_in_front_is_on_the_part_map_and_not_in_the_mask(bo: Renderer) -> None:
    covered, free = bo.render(Pose(hand=True, hand_x=-3, hand_y=9)).truth, bo.render(NEUTRAL).truth
    hand = covered.part == Part.HAND
    assert hand.sum() > 1000
    assert covered.face_mask[hand].max() <= 255
    assert covered.face_mask.sum() < 0.8 * free.face_mask.sum()
    assert not (free.part == Part.HAND).any()
    np.testing.assert_array_equal(covered.landmarks, free.landmarks)


def test_glasses_are_worn_by_those_who_have_them() -> None:
    wearer = camera_on(Actor(replace(BO, glasses=True)))
    truth = wearer.render(NEUTRAL).truth
    assert (truth.part == Part.GLASSES).sum() > 100
    assert truth.face_mask[truth.part == Part.GLASSES].mean() < 128


def test_fast_motion_blurs_the_actor_and_not_the_room(bo: Renderer) -> None:
    still = bo.render(NEUTRAL, sensor_noise=False)
    moving = bo.render(NEUTRAL, Pose(x=-6), sensor_noise=False)
    room = np.asarray(cv2.erode((still.truth.part == Part.BACKGROUND).astype(np.uint8), np.ones((41, 41)))) > 0
    np.testing.assert_array_equal(moving.image[room], still.image[room])
    sharp, blurred = (
        cv2.Laplacian(each.image, cv2.CV_32F)[still.truth.face_mask > 200].std() for each in (still, moving)
    )
    assert blurred < 0.7 * sharp


def test_the_face_finder_sees_the_landmarks_that_are_there(bo: Renderer) -> None:
    from realtime.detect import FaceFinder

    with FaceFinder(static=True) as finder:
        for index in (5, 25):
            rendering = bo.render(TALKING[index], frame=index)
            (face,) = finder.find(Frame(rendering.image, index, 0.0))
            truth = rendering.truth.landmarks
            error = np.linalg.norm(face.landmarks[:, :2] - truth, axis=1).mean()
            assert error < MESH_TOLERANCE * np.linalg.norm(truth[33] - truth[263])


@pytest.mark.parametrize(
    "bad",
    [
        {"width": 8, "height": 480},
        {"width": 640, "height": 10_000},
        {"supersample": 0.5},
        {"focal": 0.0},
        {"distance_cm": 5.0},
    ],
)
def test_a_camera_that_cannot_exist_is_refused(bo: Renderer, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad)).split("_")[0]):
        Renderer(bo.actor, **bad)


# -- motion ---------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_performance_and_another_seed_another_one() -> None:
    assert motion(40, seed=1) == motion(40, seed=1)
    assert motion(40, seed=1) != motion(40, seed=2)


@pytest.mark.parametrize(("count", "fps"), [(1, 30), (2, 30), (90, 29.97), (25, 12.5)])
def test_a_performance_has_one_pose_per_frame(count: int, fps: float) -> None:
    assert len(motion(count, fps)) == count


def test_peaks_are_kept_and_a_hand_passes_only_if_wanted() -> None:
    poses = motion(300, seed=4, yaw=10, pitch=5, roll=2)
    assert 8 < max(abs(pose.yaw) for pose in poses) <= 10
    assert max(abs(pose.pitch) for pose in poses) <= 5
    assert max(abs(pose.roll) for pose in poses) <= 2
    assert [index for index, pose in enumerate(poses) if pose.hand] == list(range(144, 228))
    assert not any(pose.hand for pose in motion(300, seed=4, hand=False))


def test_steady_light_keeps_its_strength() -> None:
    assert {(pose.key, pose.ambient, pose.kelvin) for pose in motion(60, light=0)} == {(1.0, 0.5, 5500.0)}


@pytest.mark.parametrize(("count", "fps"), [(0, 30), (10, 0)])
def test_a_performance_without_frames_is_refused(count: int, fps: float) -> None:
    with pytest.raises(ValueError, match="at least 1 frame"):
        motion(count, fps)


# -- identities -----------------------------------------------------------------------------------------------------


def test_a_seed_names_one_identity_and_every_seed_another() -> None:
    cast = [random_identity(seed) for seed in range(200)]
    assert cast == [random_identity(seed) for seed in range(200)]
    assert len(set(cast)) == 200
    assert {identity.hair_style for identity in cast} == {"short", "long"}
    assert 10 < sum(identity.glasses for identity in cast) < 80
    brightness = [sum(identity.skin) for identity in cast]
    assert min(brightness) < 250 < 600 < max(brightness)


def test_a_random_identity_has_a_visible_face() -> None:
    truth = camera_on(Actor(random_identity(1))).render(NEUTRAL).truth
    assert (truth.face_mask > 127).sum() > 4000
    assert (truth.part == Part.EYE).sum() > 60
    assert (truth.facing > 0).mean() > 0.8


def test_impossible_identities_are_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        random_identity(-1)
    with pytest.raises(ValueError, match="skin"):
        replace(BO, skin=(300, 0, 0))
    with pytest.raises(ValueError, match="seed"):
        replace(BO, seed=-2)
    with pytest.raises(ValueError, match="jaw"):
        FaceShape(jaw=float("nan"))


def test_an_identity_is_a_value() -> None:
    assert replace(BO) == BO
    assert isinstance(hash(BO), int)
    assert BO != ADA
    with pytest.raises(AttributeError):
        BO.__setattr__("beard", 0.0)
    assert isinstance(ADA, Identity)


# -- scenes ---------------------------------------------------------------------------------------------------------

SCENE = Scene(frames=20, seed=2, size=(160, 120), supersample=1.0)


@pytest.fixture(scope="module")
def filmed() -> list[SwapFrame]:
    """The first frames of SCENE."""
    return list(islice(perform(SCENE), 4))


def test_a_scene_films_the_performer_and_the_exact_answer(filmed: list[SwapFrame]) -> None:
    assert [frame.index for frame in filmed] == [0, 1, 2, 3]
    for frame in filmed:
        clear = outside(frame.performer, frame.ideal)
        assert psnr(frame.performer.image, frame.ideal.image, clear) > OUTSIDE_DB
        assert psnr(frame.performer.image, frame.ideal.image, frame.ideal.truth.face_mask > 127) < 30
        np.testing.assert_array_equal(frame.performer.truth.rotation, frame.ideal.truth.rotation)


def test_workers_give_the_same_frames_in_order_and_end_when_the_film_is_left(filmed: list[SwapFrame]) -> None:
    with closing(render_clip(SCENE, workers=2)) as film:
        for expected, frame in zip(filmed, film, strict=False):
            assert frame.index == expected.index
            np.testing.assert_array_equal(frame.performer.image, expected.performer.image)
            np.testing.assert_array_equal(frame.ideal.image, expected.ideal.image)
            np.testing.assert_array_equal(frame.ideal.truth.landmarks, expected.ideal.truth.landmarks)
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_is_an_error_and_not_the_end_of_the_film() -> None:
    film = render_clip(SCENE, workers=1)
    next(film)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    with pytest.raises(SourceError, match="workers=1"):
        list(film)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("bad", [{"frames": 0}, {"fps": 0.0}, {"size": (8, 8)}, {"tone": 2.0}, {"supersample": 0.0}])
def test_a_scene_that_cannot_be_filmed_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"scene|tone"):
        Scene(**bad)
    with pytest.raises(ValueError, match="worker"):
        render_clip(SCENE, workers=0)
