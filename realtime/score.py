"""Scores a swap against the exact answer. Pictures and the true face mask in, numbers out.

Note [What a score means]
    identity_transfer   projection of (swap - performer) on (truth - performer) inside the face: 0 still the
                        performer, 1 the exact swap. The only score that ranks a working swap above doing nothing.
    face_psnr_db        peak signal to noise ratio inside the face: 38 dB is another sensor's noise, 28 dB a shift by
                        one pixel, 21 dB the performer himself
    face_ssim           structural similarity of the grey pictures inside the face: 0.96, 0.86, 0.70 for the same three
    outside_psnr_db     the same outside the face, against the truth: what the swap should have left alone
    landmark_error_iod  mean distance of two meshes, relative to the distance between the outer corners of the eyes
    flicker             how much the error changes from frame to frame, grey levels: the temporal standard deviation of
                        (swap - truth) inside the face; what stays wrong in the same way does not flicker

    Pictures are (H, W, 3) BGR in [0, 255], uint8 or float; masks are (H, W), bool, or uint8 in which 128 and more is
    inside. Every function is pure. ValueError: shapes differ, or a mask covers no pixel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8] | NDArray[np.float32]
Mask = NDArray[np.bool_] | NDArray[np.uint8]
_Float = NDArray[np.float32]

CEILING_DB = 100.0
"""PSNR of equal pictures, so that reports hold finite numbers."""
_BLUR_PX = 1.5
_SSIM_C1, _SSIM_C2 = 6.5, 58.5  # (0.01 * 255)^2 and (0.03 * 255)^2
_EYE_CORNERS = 33, 263
_MESH = 468


def psnr(picture: Picture, truth: Picture, mask: Mask | None = None) -> float:
    """Peak signal to noise ratio in dB, at most CEILING_DB; inside `mask` if there is one."""
    inside = _inside(mask, picture, truth)
    squares = (_planes(picture)[inside] - _planes(truth)[inside]) ** 2
    error = float(squares.mean(dtype=np.float64))
    return min(CEILING_DB, 10 * math.log10(255**2 / error)) if error > 0 else CEILING_DB


def ssim(picture: Picture, truth: Picture, mask: Mask | None = None) -> float:
    """Structural similarity of the grey pictures, Gaussian window of 1.5 px, averaged inside `mask`; 1 is equal."""
    inside = _inside(mask, picture, truth)
    a, b = (np.asarray(cv2.cvtColor(_planes(x), cv2.COLOR_BGR2GRAY), np.float32) for x in (picture, truth))
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a, variance_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    same = (2 * mean_a * mean_b + _SSIM_C1) * (2 * covariance + _SSIM_C2)
    both = (mean_a**2 + mean_b**2 + _SSIM_C1) * (variance_a + variance_b + _SSIM_C2)
    return float((same / both)[inside].mean(dtype=np.float64))


def identity_transfer(swap: Picture, performer: Picture, truth: Picture, mask: Mask) -> float:
    """How far the face went from the performer (0) to the true swap (1), as a projection; noise is blurred away first.

    Raises ValueError also when performer and truth are equal inside the mask.
    """
    inside = _inside(mask, swap, performer, truth)
    out, start, goal = (_blurred(_planes(x))[inside].astype(np.float64) for x in (swap, performer, truth))
    way = goal - start
    length = float((way**2).sum())
    if length <= 0:
        raise ValueError("performer and truth are equal inside the mask: there is no identity to transfer")
    return float(((out - start) * way).sum()) / length


def outside_psnr(swap: Picture, truth: Picture, mask: Mask) -> float:
    """PSNR in dB outside the face mask; CEILING_DB where the mask fills the picture."""
    outside = ~_inside(mask, swap, truth)
    return psnr(swap, truth, outside) if outside.any() else CEILING_DB


def landmark_error_iod(points: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Mean distance between two meshes, (468 or more, 2 or more) px, relative to the outer eye corners of `truth`.

    0.026 is what the landmark network itself is wrong by on rendered faces. Raises ValueError for other shapes.
    """
    if min(len(points), len(truth)) < _MESH or min(points.shape[1], truth.shape[1]) < 2:
        raise ValueError(f"expected two meshes of 468 points, got {points.shape} and {truth.shape}")
    a, b = np.asarray(points[:_MESH, :2], np.float64), np.asarray(truth[:_MESH, :2], np.float64)
    right, left = b[list(_EYE_CORNERS)]
    eyes = math.dist(right, left)
    if not eyes > 0:
        raise ValueError("the eye corners of the true mesh coincide")
    return float(np.linalg.norm(a - b, axis=1).mean()) / eyes


def flicker_step(
    swap: Picture, truth: Picture, mask: Mask, last_swap: Picture, last_truth: Picture, last_mask: Mask
) -> float:
    """Flicker between two neighbouring frames, grey levels; NaN when their masks share no pixel.

    The root mean square of the change of (swap - truth), divided by the square root of two: for errors that are
    independent from frame to frame this is their temporal standard deviation.
    """
    inside = _inside(mask, swap, truth) & _inside(last_mask, last_swap, last_truth)
    if not inside.any():
        return math.nan
    now = _planes(swap)[inside] - _planes(truth)[inside]
    before = _planes(last_swap)[inside] - _planes(last_truth)[inside]
    return math.sqrt(float(((now - before) ** 2).mean(dtype=np.float64)) / 2)


def flicker(swaps: Sequence[Picture], truths: Sequence[Picture], masks: Sequence[Mask]) -> float:
    """Flicker of a whole clip, grey levels: the mean of `flicker_step` over neighbouring frames; 0 for one frame."""
    frames = list(zip(swaps, truths, masks, strict=True))
    steps = [flicker_step(*now, *before) for before, now in itertools.pairwise(frames)]
    return _mean(steps) or 0.0


@dataclass(frozen=True, slots=True)
class FrameScores:
    """Scores of one frame, see Note [What a score means]; None where there is nothing to compare."""

    identity_transfer: float
    face_psnr_db: float
    face_ssim: float
    outside_psnr_db: float
    landmark_error_iod: float | None = None
    flicker: float | None = None
    """Against the frame before; None for the first."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One frame to score."""

    swap: Picture
    performer: Picture
    truth: Picture
    mask: Mask
    """The visible face in `truth`."""
    points: NDArray[np.floating] | None = None
    """The mesh that was found in `swap`."""
    true_points: NDArray[np.floating] | None = None


def score_frame(example: Example, last: Example | None = None) -> FrameScores:
    """All scores of one frame; `last` is the frame before it, for the flicker."""
    swap, truth, mask = example.swap, example.truth, example.mask
    error = change = None
    if example.points is not None and example.true_points is not None:
        error = landmark_error_iod(example.points, example.true_points)
    if last is not None:
        change = flicker_step(swap, truth, mask, last.swap, last.truth, last.mask)
    return FrameScores(
        identity_transfer=identity_transfer(swap, example.performer, truth, mask),
        face_psnr_db=psnr(swap, truth, mask),
        face_ssim=ssim(swap, truth, mask),
        outside_psnr_db=outside_psnr(swap, truth, mask),
        landmark_error_iod=error,
        flicker=None if change is None or math.isnan(change) else change,
    )


def summarise(scores: Sequence[FrameScores]) -> dict[str, float | None]:
    """The mean of every score over the frames that have it, by name; None where none has."""
    return {field.name: _mean([getattr(score, field.name) for score in scores]) for field in fields(FrameScores)}


def score_frames(examples: Iterable[Example]) -> dict[str, float | None]:
    """Mean scores of a clip whose frames follow each other. Frames that show no face are passed over.

    Holds two frames at a time. Raises ValueError when no frame shows a face.
    """
    scores: list[FrameScores] = []
    last: Example | None = None
    for example in examples:
        if not _as_bool(example.mask).any():
            last = None
            continue
        scores.append(score_frame(example, last))
        last = example
    if not scores:
        raise ValueError("no frame shows a face: there is nothing to score")
    return summarise(scores)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else None


def _planes(picture: Picture) -> _Float:
    return np.asarray(picture, np.float32)


def _blurred(values: NDArray[np.float32]) -> _Float:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _BLUR_PX), np.float32)


def _as_bool(mask: Mask) -> NDArray[np.bool_]:
    return np.asarray(mask, np.uint8) > 127 if mask.dtype == np.uint8 else np.asarray(mask, np.bool_)


def _inside(mask: Mask | None, *pictures: Picture) -> NDArray[np.bool_]:
    """The mask as booleans, after all shapes were compared."""
    shape = pictures[0].shape
    if len(shape) != 3 or shape[2] != 3 or any(picture.shape != shape for picture in pictures):
        raise ValueError(f"expected equal (H, W, 3) pictures, got {[picture.shape for picture in pictures]}")
    if mask is None:
        return np.ones(shape[:2], bool)
    if mask.shape != shape[:2]:
        raise ValueError(f"expected a {shape[:2]} mask, got {mask.shape}")
    inside = _as_bool(mask)
    if not inside.any():
        raise ValueError("the mask covers no pixel: there is nothing to score")
    return inside
