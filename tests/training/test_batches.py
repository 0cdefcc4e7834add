"""Training sees what the live loop sees: the same view, the same pixels, in the order asked for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from realtime.align import CropGeometry, align, cut, frame_to_crop, full_face, transform, whole_face
from realtime.errors import FacesetError
from realtime.frame import Face, ImageU8, Matrix, Points
from tests.tiny_run import FACES, SKIN, face_like, mesh_in
from training import batches
from training.augment import straight_crops
from training.batches import MARGIN, crop_between, draw_channels, stack_faces
from training.faceset import Faceset
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter

SAME_MATRIX = 1e-9
"""Composed and direct transforms: float64 rounding on pictures of a few hundred pixels."""
LIVE_LEVELS, LIVE_DB = 2.5, 36.0
"""Mean difference in grey levels and PSNR inside the face between a training crop and the live crop of one frame, whose
camera has noise: JPEG of quality 95 alone costs 1.4 levels, sampling twice the rest of 2.1 levels and 37 dB. A crop one
pixel beside it would be 4 to 12 levels and 30 to 22 dB away."""
BESIDE_PX = 0.1
"""A live crop moved by this much is already less like the training crop."""
PERSON = {"source": 0, "track": 0, "score": 1.0, "sharpness": 1.0, "native_px": 100.0, "yaw": 0.0, "pitch": 0.0}


def compose(second: Matrix, first: Matrix) -> Matrix:
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def write(path: Path, geometry: CropGeometry, faces: list[tuple[ImageU8, Points]]) -> Faceset:
    with FacesetWriter(path, geometry, kind="custom") as writer:
        writer.add_source(SourceRecord("one.mp4", "0" * 64, 30.0, len(faces)))
        for index, (image, points) in enumerate(faces):
            writer.add(image, points, frame_index=index, pts_s=index / 30, roll=0.0, **PERSON)  # type: ignore[arg-type]
    return Faceset.open(path)


def grey_faces(geometry: CropGeometry, levels: list[int]) -> list[tuple[ImageU8, Points]]:
    stored = geometry.widened(1.25)
    return [(np.full((stored.size, stored.size, 3), level, np.uint8), mesh_in(stored)) for level in levels]


@pytest.mark.parametrize("wanted", [full_face(128), full_face(64), whole_face(256), CropGeometry(96, 1.9, 0.05, -0.1)])
@pytest.mark.parametrize("stored", [whole_face(256).widened(1.25), full_face(200).widened(1.25)])
def test_a_crop_of_a_crop_is_the_crop_of_the_frame(stored: CropGeometry, wanted: CropGeometry) -> None:
    turned = np.array([[1.3, -0.4, 210.0], [0.4, 1.3, -35.0]])
    mesh = mesh_in(CropGeometry(180, 2.0), seed=4)
    mesh[:, :2] = transform(turned, mesh)
    direct = frame_to_crop(mesh, wanted)
    through_stored = compose(crop_between(stored, wanted), frame_to_crop(mesh, stored))
    np.testing.assert_allclose(through_stored, direct, atol=SAME_MATRIX)


def test_a_crop_between_equal_views_moves_nothing() -> None:
    np.testing.assert_allclose(crop_between(whole_face(256), whole_face(256)), [[1, 0, 0], [0, 1, 0]], atol=SAME_MATRIX)


@pytest.fixture(scope="module")
def filmed() -> tuple[ImageU8, Points]:
    """One frame of a rendered actor and her true mesh."""
    from realtime.actors import ADA, Actor, Pose, Renderer

    rendering = Renderer(Actor(ADA), 640, 480, 1.5).render(Pose(yaw=14, roll=-9, pitch=4))
    return rendering.image, rendering.truth.landmarks


@pytest.fixture(scope="module")
def extracted(filmed: tuple[ImageU8, Points], tmp_path_factory: pytest.TempPathFactory) -> Faceset:
    """What extraction stores of that frame."""
    image, landmarks = filmed
    mesh = with_depth(landmarks)
    stored = whole_face(256).widened(1.25)
    crop = align(image, Face(mesh, 1.0), stored)
    inside = with_depth(transform(frame_to_crop(mesh, stored), mesh))
    return write(tmp_path_factory.mktemp("extracted") / "set", whole_face(256), [(crop.image, inside)])


def with_depth(points: NDArray[np.floating]) -> Points:
    return np.column_stack([points[:, :2], np.zeros(len(points))]).astype(np.float32)


@pytest.mark.parametrize("wanted", [full_face(128), full_face(64), whole_face(128), whole_face(256)])
def test_a_training_crop_is_the_crop_that_the_live_loop_cuts(
    filmed: tuple[ImageU8, Points], extracted: Faceset, wanted: CropGeometry
) -> None:
    stack = stack_faces(extracted, [0], wanted)
    pair = straight_crops(stack.pixels, wanted.size, stack.margin)
    training = pair.inputs[0].permute(1, 2, 0).numpy() * 255
    inside = pair.masks[0, 0].numpy() > 0.5

    matrix = frame_to_crop(with_depth(filmed[1]), wanted)

    def difference(shift_x: float, shift_y: float) -> NDArray[np.floating]:
        moved = matrix + np.array([[0, 0, shift_x], [0, 0, shift_y]])
        return np.asarray((training - cut(filmed[0], moved, wanted.size).image)[inside])

    exact = difference(0, 0)
    steps = [(x * BESIDE_PX, y * BESIDE_PX) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    assert np.abs(exact).mean() < LIVE_LEVELS
    assert 20 * np.log10(255 / np.sqrt((exact**2).mean())) > LIVE_DB
    assert np.abs(exact).mean() < min(np.abs(difference(*step)).mean() for step in steps)


def test_the_mask_of_a_training_crop_lies_on_the_live_mesh(filmed: tuple[ImageU8, Points], extracted: Faceset) -> None:
    wanted = full_face(128)
    stack = stack_faces(extracted, [0], wanted)
    mask = straight_crops(stack.pixels, wanted.size, stack.margin).masks[0, 0].numpy()
    mesh = transform(frame_to_crop(with_depth(filmed[1]), wanted), filmed[1])
    hull = np.zeros((128, 128), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.round(mesh).astype(np.int32)), 1)
    assert mask[hull > 0].mean() > 0.98
    assert mask[cv2.dilate(hull, np.ones((13, 13), np.uint8)) == 0].mean() < 0.02


def test_a_stack_keeps_four_stored_pixels_for_one_where_the_footage_has_them(people: dict[str, Path]) -> None:
    faceset = Faceset.open(people["identity"])  # 64 px for 2.2 canonical squares
    stack = stack_faces(faceset, range(FACES), full_face(32))
    assert stack.pixels.shape == (FACES, 5, 58, 58)  # 64 / 2.2 * 1.5966 * 1.25: all that is stored, below 2 * 32 * 1.25
    assert stack.pixels.dtype == torch.uint8
    assert stack.margin == MARGIN
    assert len(stack) == FACES
    assert stack_faces(faceset, [0], whole_face(32)).pixels.shape[-1] == 80


def test_a_large_set_keeps_one(people: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "STACK_BYTES", 1000)
    assert stack_faces(Faceset.open(people["identity"]), [0, 1], full_face(32)).pixels.shape == (2, 5, 40, 40)


def test_faces_are_stacked_in_the_order_asked_for(tmp_path: Path) -> None:
    levels = [20, 60, 100, 140, 180, 220]
    faceset = write(tmp_path / "set", whole_face(64), grey_faces(whole_face(64), levels))
    order, seen = [4, 1, 5, 0, 0], list[tuple[int, int]]()
    stack = stack_faces(faceset, order, full_face(32), lambda done, total: seen.append((done, total)))
    assert stack.pixels[:, :3].float().mean(dim=(1, 2, 3)).round().tolist() == [levels[i] for i in order]
    assert seen == [(i, 5) for i in range(1, 6)]


def test_the_planes_are_colours_mask_and_details() -> None:
    image, landmarks = face_like(whole_face(256), SKIN["identity"], seed=3)
    planes = draw_channels(image, landmarks)
    assert planes.shape == (5, 256, 256)
    assert planes.dtype == np.uint8
    np.testing.assert_array_equal(planes[:3].transpose(1, 2, 0), image)
    mask, details = planes[3], planes[4]
    nose, left_eye, mouth = (landmarks[i, :2].round().astype(int) for i in (4, 386, 13))
    corner = (2, 2)
    assert [int(mask[y, x]) for x, y in (nose, left_eye, mouth, corner)] == [255, 255, 255, 0]
    assert min(int(details[y, x]) for x, y in (left_eye, mouth)) > 128
    assert max(int(details[y, x]) for x, y in (nose, corner)) == 0
    assert 0.01 < details.mean() / mask.mean() < 0.2


def test_no_face_at_all_is_one_sentence(people: dict[str, Path]) -> None:
    with pytest.raises(FacesetError, match="holds no face to train on; extract more video"):
        stack_faces(Faceset.open(people["identity"]), [], full_face(32))


def test_crops_that_show_too_little_for_a_preset_are_one_sentence(tmp_path: Path) -> None:
    close = write(tmp_path / "close", full_face(64), grey_faces(full_face(64), [90]))
    assert len(stack_faces(close, [0], full_face(32))) == 1
    with pytest.raises(FacesetError, match="shows less of the face than this preset needs; extract it again with"):
        stack_faces(close, [0], whole_face(32))
