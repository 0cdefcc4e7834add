"""Size, sharpness and cuts, on meshes and pictures made by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from realtime.align import canonical_mesh, cut, frame_to_crop, invert, transform, whole_face
from realtime.frame import ImageU8, Points
from training.looks import CutFinder, face_height_px, sharpness

SIZE_PX = 0.01
"""float32 landmarks of a few hundred pixels."""


def flat_face(height_px: float, angle_deg: float = 0.0) -> Points:
    """The canonical mesh itself, `height_px` from hairline to chin, somewhere in a frame."""
    mesh = canonical_mesh() / (canonical_mesh()[152, 1] - canonical_mesh()[10, 1]) * height_px
    turn = np.asarray(cv2.getRotationMatrix2D((0, 0), angle_deg, 1.0), np.float64)
    turn[:, 2] = 320, 240
    return np.column_stack([transform(turn, mesh), np.zeros(468)]).astype(np.float32)


def texture(detail_px: int, seed: int = 0, contrast: float = 1.0) -> ImageU8:
    noise = np.random.default_rng(seed).normal(0, 40 * contrast, (480 // detail_px, 640 // detail_px, 3))
    return np.clip(128 + cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def sharpness_of(image: ImageU8, landmarks: Points, size: int) -> float:
    geometry = whole_face(size)
    crop = cut(image, frame_to_crop(landmarks, geometry), size)
    points = np.column_stack([transform(invert(crop.crop_to_frame), landmarks), landmarks[:, 2]])
    return sharpness(crop, geometry, points.astype(np.float32))


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 180.0])
def test_the_height_of_a_face_does_not_depend_on_its_angle(angle_deg: float) -> None:
    assert face_height_px(flat_face(150, angle_deg)) == pytest.approx(150, abs=SIZE_PX)


def test_an_open_mouth_makes_no_face_higher() -> None:
    mesh = flat_face(150)
    mesh[152, 1] += 40  # the chin is not among the rigid points
    assert face_height_px(mesh) == pytest.approx(150, abs=SIZE_PX)


def test_a_point_is_no_face() -> None:
    with pytest.raises(ValueError, match="coincide"):
        face_height_px(np.zeros((468, 3), np.float32))


def test_detail_is_sharp_and_blur_is_not() -> None:
    crisp = texture(2)
    soft = np.asarray(cv2.GaussianBlur(crisp, (0, 0), 3), np.uint8)
    face = flat_face(160)
    assert sharpness_of(crisp, face, 256) > 5 * sharpness_of(soft, face, 256)


def test_a_face_enlarged_from_few_pixels_is_not_sharp() -> None:
    image = texture(2)
    assert sharpness_of(image, flat_face(160), 256) > 3 * sharpness_of(image, flat_face(40), 256)


def test_sharpness_hardly_depends_on_the_size_of_the_crop() -> None:
    image, face = texture(8), flat_face(160)
    assert sharpness_of(image, face, 512) == pytest.approx(sharpness_of(image, face, 256), rel=0.25)


def test_a_plain_wall_has_no_sharpness() -> None:
    assert sharpness_of(np.full((480, 640, 3), 90, np.uint8), flat_face(160), 128) == 0.0


def test_the_surroundings_do_not_count() -> None:
    face = flat_face(120)
    image = texture(2)
    hull = cv2.convexHull(np.ascontiguousarray(face[:, :2])).astype(np.int32)
    cv2.fillConvexPoly(image, hull, (90, 90, 90))
    assert sharpness_of(image, face, 256) < 1.0


def cuts(frames: list[ImageU8]) -> list[int]:
    finder = CutFinder()
    return [i for i, frame in enumerate(frames) if finder.is_cut(frame)]


def panned(image: ImageU8, by_px: int) -> ImageU8:
    return np.asarray(np.roll(image, by_px, axis=1), np.uint8)


def test_the_first_frame_is_no_cut() -> None:
    assert cuts([texture(40)]) == []


def test_a_still_is_never_cut() -> None:
    assert cuts([texture(40)] * 5) == []


def test_noise_and_slow_motion_are_no_cuts() -> None:
    scene, rng = texture(60), np.random.default_rng(0)
    frames = [panned(scene, 3 * i) + rng.integers(0, 8, scene.shape, np.uint8) // 2 for i in range(20)]
    assert cuts(frames) == []


def test_a_new_scene_is_a_cut() -> None:
    first, second = texture(60), texture(60, seed=1)
    assert cuts([first, first, first, second, second, first]) == [3, 5]


def test_a_cut_is_found_in_motion() -> None:
    first, second = texture(60), texture(60, seed=1)
    frames = [panned(first, 6 * i) for i in range(10)] + [panned(second, 6 * i) for i in range(10)]
    assert cuts(frames) == [10]


def test_a_fade_is_no_cut() -> None:
    first, second = texture(60), texture(60, seed=1)
    shares = np.linspace(0, 1, 40)
    assert cuts([np.asarray(cv2.addWeighted(first, 1 - s, second, s, 0), np.uint8) for s in shares]) == []


@pytest.mark.parametrize("shape", [(16, 16, 3), (1080, 1920, 3), (40, 2000, 3)])
def test_every_frame_size_will_do(shape: tuple[int, int, int]) -> None:
    black, white = np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
    assert cuts([black, black, white]) == [2]
