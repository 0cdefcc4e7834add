"""Scores against the table that the rendered actors were calibrated with, and against small arrays by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.actors import ADA, BO, Actor, Renderer, motion
from realtime.frame import ImageU8
from realtime.score import (
    CEILING_DB,
    Example,
    flicker,
    identity_transfer,
    landmark_error_iod,
    outside_psnr,
    psnr,
    score_frame,
    score_frames,
    ssim,
    summarise,
)

TRANSFER_TOLERANCE = 0.02
"""The calibration table gives two decimals."""
TABLE_DB, TABLE_SSIM = 1.5, 0.06
"""The table is the mean of sixty frames, these are two of them."""


@dataclass(frozen=True)
class Scene:
    performer: ImageU8
    truth: ImageU8
    noisy_truth: ImageU8
    mask: NDArray[np.uint8]
    points: NDArray[np.float32]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    performer, ideal = Renderer(Actor(BO)), Renderer(Actor(ADA, BO, 1.0))
    performance, scenes = motion(120, seed=3), []
    for i in (20, 60):
        truth = ideal.render(performance[i], frame=i)
        other_noise = ideal.render(performance[i], frame=i + 7).image
        start = performer.render(performance[i], frame=i).image
        scenes.append(Scene(start, truth.image, other_noise, truth.truth.face_mask, truth.truth.landmarks))
    return scenes


def moved(image: ImageU8, by_px: float) -> ImageU8:
    matrix = np.array([[1, 0, by_px], [0, 1, 0]], np.float64)
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE), np.uint8)


def mean_scores(scenes: list[Scene], swaps: list[ImageU8]) -> dict[str, float | None]:
    pairs = zip(scenes, swaps, strict=True)
    return summarise([score_frame(Example(swap, s.performer, s.truth, s.mask)) for s, swap in pairs])


def test_no_swap_scores_as_in_the_table(scenes: list[Scene]) -> None:
    scores = mean_scores(scenes, [scene.performer for scene in scenes])
    assert scores["identity_transfer"] == pytest.approx(0.0, abs=1e-9)
    assert scores["face_psnr_db"] == pytest.approx(20.91, abs=TABLE_DB)
    assert scores["face_ssim"] == pytest.approx(0.699, abs=TABLE_SSIM)


def test_the_exact_swap_transfers_everything(scenes: list[Scene]) -> None:
    scores = mean_scores(scenes, [scene.truth for scene in scenes])
    assert scores["identity_transfer"] == pytest.approx(1.0, abs=1e-9)
    assert scores["face_psnr_db"] == CEILING_DB
    assert scores["face_ssim"] == pytest.approx(1.0, abs=1e-6)
    assert scores["outside_psnr_db"] == CEILING_DB


def test_another_sensors_noise_is_the_ceiling_of_the_table(scenes: list[Scene]) -> None:
    scores = mean_scores(scenes, [scene.noisy_truth for scene in scenes])
    assert scores["identity_transfer"] == pytest.approx(1.0, abs=TRANSFER_TOLERANCE)
    assert scores["face_psnr_db"] == pytest.approx(38.2, abs=TABLE_DB)
    assert scores["face_ssim"] == pytest.approx(0.963, abs=0.02)


def test_half_a_swap_transfers_half_the_identity(scenes: list[Scene]) -> None:
    halves = [cv2.addWeighted(scene.performer, 0.5, scene.truth, 0.5, 0) for scene in scenes]
    scores = mean_scores(scenes, [np.asarray(half, np.uint8) for half in halves])
    assert scores["identity_transfer"] == pytest.approx(0.5, abs=TRANSFER_TOLERANCE)
    assert scores["face_psnr_db"] == pytest.approx(26.7, abs=TABLE_DB)
    assert scores["face_ssim"] == pytest.approx(0.90, abs=0.03)


@pytest.mark.parametrize(
    ("shift_px", "transfer", "decibels", "similarity"), [(1, 0.98, 28.3, 0.86), (2, 0.95, 24.7, 0.74)]
)
def test_a_shifted_swap_scores_as_in_the_table(
    scenes: list[Scene], shift_px: float, transfer: float, decibels: float, similarity: float
) -> None:
    scores = mean_scores(scenes, [moved(scene.truth, shift_px) for scene in scenes])
    assert scores["identity_transfer"] == pytest.approx(transfer, abs=0.03)
    assert scores["face_psnr_db"] == pytest.approx(decibels, abs=TABLE_DB)
    assert scores["face_ssim"] == pytest.approx(similarity, abs=TABLE_SSIM)


def test_only_the_transfer_ranks_a_shifted_swap_far_above_no_swap(scenes: list[Scene]) -> None:
    shifted = mean_scores(scenes, [moved(scene.truth, 3) for scene in scenes])
    none = mean_scores(scenes, [scene.performer for scene in scenes])
    assert shifted["identity_transfer"] is not None
    assert none["identity_transfer"] is not None
    assert shifted["identity_transfer"] > none["identity_transfer"] + 0.8
    assert shifted["face_ssim"] is not None
    assert none["face_ssim"] is not None
    assert shifted["face_ssim"] < none["face_ssim"] + 0.1


def test_the_swap_outside_the_mask_is_not_seen_by_the_face_scores(scenes: list[Scene]) -> None:
    scene = scenes[0]
    swap = np.where(scene.mask[..., None] > 127, scene.truth, 0).astype(np.uint8)
    assert psnr(swap, scene.truth, scene.mask) == CEILING_DB
    assert outside_psnr(swap, scene.truth, scene.mask) < 15


GREY = np.full((8, 8, 3), 100, np.uint8)
FULL = np.ones((8, 8), bool)


def test_psnr_of_a_known_error() -> None:
    assert psnr(GREY, GREY + np.uint8(10)) == pytest.approx(20 * math.log10(255 / 10))


def test_psnr_counts_only_masked_pixels() -> None:
    picture = GREY.copy()
    picture[:4] = 0
    lower = np.zeros((8, 8), np.uint8)
    lower[4:] = 255
    assert psnr(picture, GREY, lower) == CEILING_DB


def test_a_mask_that_fills_the_picture_leaves_no_outside() -> None:
    assert outside_psnr(GREY, GREY, FULL) == CEILING_DB


def test_equal_pictures_are_similar() -> None:
    assert ssim(GREY, GREY) == pytest.approx(1.0)


def test_a_constant_error_does_not_flicker() -> None:
    assert flicker([GREY + np.uint8(9)] * 3, [GREY] * 3, [FULL] * 3) == 0.0


def test_flicker_is_the_temporal_deviation_of_the_error() -> None:
    rng = np.random.default_rng(0)
    swaps = [(128 + rng.normal(0, 4, (64, 64, 3))).astype(np.float32) for _ in range(20)]
    truth = np.full((64, 64, 3), 128, np.uint8)
    assert flicker(swaps, [truth] * 20, [np.ones((64, 64), bool)] * 20) == pytest.approx(4.0, rel=0.02)


def test_one_frame_does_not_flicker() -> None:
    assert flicker([GREY], [GREY], [FULL]) == 0.0


def test_landmark_error_is_relative_to_the_eyes() -> None:
    truth = np.zeros((468, 3), np.float32)
    truth[33], truth[263] = (100, 50, 9), (200, 50, 9)
    assert landmark_error_iod(truth + np.array([3, 4, 77], np.float32), truth[:, :2]) == pytest.approx(0.05)


def test_a_mesh_with_irises_can_be_compared() -> None:
    truth = np.zeros((478, 2), np.float32)
    truth[263] = (10, 0)
    assert landmark_error_iod(truth, truth[:468]) == 0.0


def test_too_few_landmarks_are_refused() -> None:
    with pytest.raises(ValueError, match="468 points"):
        landmark_error_iod(np.zeros((68, 2)), np.zeros((68, 2)))


def test_equal_people_cannot_be_told_apart() -> None:
    with pytest.raises(ValueError, match="no identity to transfer"):
        identity_transfer(GREY, GREY, GREY, FULL)


def test_pictures_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="equal"):
        psnr(GREY, GREY[:4])


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="mask"):
        ssim(GREY, GREY, FULL[:4])


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="covers no pixel"):
        psnr(GREY, GREY, ~FULL)


def test_a_clip_passes_over_frames_without_a_face() -> None:
    performer, truth = GREY, GREY + np.uint8(20)
    seen = Example(truth, performer, truth, FULL)
    unseen = Example(truth, performer, truth, ~FULL)
    assert score_frames([seen, unseen, seen])["identity_transfer"] == pytest.approx(1.0)
    assert score_frames([seen, unseen, seen])["flicker"] is None  # the two faces are no neighbours
    assert score_frames([seen, seen])["flicker"] == 0.0


def test_a_clip_without_any_face_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="no frame shows a face"):
        score_frames([Example(GREY, GREY, GREY, ~FULL)])


def test_a_summary_leaves_out_what_was_not_measured() -> None:
    truth = GREY + np.uint8(20)
    points = np.zeros((468, 2), np.float32)
    points[263] = (10, 0)
    with_points = score_frame(Example(truth, GREY, truth, FULL, points + 1, points))
    without = score_frame(Example(truth, GREY, truth, FULL))
    assert summarise([with_points, without])["landmark_error_iod"] == with_points.landmark_error_iod
    assert summarise([without])["landmark_error_iod"] is None
