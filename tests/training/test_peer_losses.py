"""The peers' losses agree with the formulas worked out in other ways, and look where they should."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.augment import Pair
from training.losses import dssim_map
from training.model import Painted
from training.peer_losses import (
    deepfacelab_loss,
    dssim,
    eyes_and_mouth,
    faceswap_loss,
    filtered,
    gaussian,
    soft_mask,
)

Judge = Callable[[Painted, Tensor, Pair], Tensor]
SIDE = 64
CLOSE = 1e-6
"""float32 sums in another order."""
DSSIM_ROUNDING = 2e-5
"""float32 variances are differences of nearly equal numbers; a mean over thousands of pixels hides most of it."""
BLUR = 1e-5
"""OpenCV's float32 blur beside ours."""


def picture(seed: int, side: int = SIDE) -> Tensor:
    rough = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(rough, size=(side, side), mode="bilinear")


def spots(side: int = SIDE) -> Tensor:
    """Two eyes above, a mouth below."""
    details = torch.zeros(2, 1, side, side)
    for rows, columns in (((20, 24), (16, 24)), ((20, 24), (40, 48)), ((44, 50), (24, 40))):
        details[..., slice(*rows), slice(*columns)] = 1
    return details


def blob(side: int = SIDE) -> Tensor:
    mask = torch.zeros(2, 1, side, side)
    mask[..., side // 8 : -side // 8, side // 8 : -side // 8] = 1
    return mask


def pair(target: Tensor, mask: Tensor, details: Tensor | None = None) -> Pair:
    return Pair(target, target, mask, mask, torch.zeros_like(mask) if details is None else details)


def deepfacelab(face: Tensor, mask: Tensor, wanted: Pair) -> float:
    return float(deepfacelab_loss(Painted(face, mask), torch.rand_like(mask), wanted))


def faceswap(face: Tensor, wanted: Pair) -> float:
    return float(faceswap_loss(Painted(face, torch.rand_like(wanted.masks)), torch.rand_like(wanted.masks), wanted))


def test_filtering_is_a_convolution_with_the_window() -> None:
    window = gaussian(5, 1.5)
    square = (window[:, None] * window).view(1, 1, 5, 5).expand(3, 1, 5, 5)
    x = picture(1)
    assert torch.allclose(filtered(x, window), F.conv2d(x, square, groups=3), atol=CLOSE)
    assert torch.allclose(filtered(x, window, 2), F.conv2d(x, square, padding=2, groups=3), atol=CLOSE)


def test_an_even_window_has_its_peak_between_two_pixels() -> None:
    outer, inner = math.exp(-(1.5**2) / 4.5), math.exp(-(0.5**2) / 4.5)
    total = 2 * (outer + inner)
    assert gaussian(4, 1.5).tolist() == pytest.approx([x / total for x in (outer, inner, inner, outer)])


def test_structure_agrees_with_the_map_of_our_own_loss() -> None:
    a, b = picture(1), picture(2)
    assert float(dssim(a, b, 11)) == pytest.approx(float(dssim_map(a, b).mean()), abs=DSSIM_ROUNDING)


def test_equal_pictures_cost_nothing() -> None:
    wanted = pair(picture(1), blob(), spots())
    assert deepfacelab(wanted.targets, wanted.masks, wanted) == pytest.approx(0, abs=10 * DSSIM_ROUNDING)
    assert faceswap(wanted.targets, wanted) == pytest.approx(0, abs=10 * DSSIM_ROUNDING)


def test_deepfacelabs_mask_is_blurred_and_grown() -> None:
    mask = blob()
    sigma = SIDE // 32
    taps = 4 * sigma + 1
    wide = cv2.GaussianBlur(mask[0, 0].numpy(), (taps, taps), sigma, borderType=cv2.BORDER_CONSTANT)
    assert np.abs(soft_mask(mask)[0, 0].numpy() - np.clip(wide, 0, 0.5) * 2).max() < BLUR
    assert float(soft_mask(mask)[0, 0, SIDE // 8 - 1, SIDE // 2]) > 0.5


@pytest.mark.parametrize(("side", "windows"), [(128, ((10.0, 11),)), (256, ((5.0, 22), (5.0, 11)))])
def test_deepfacelabs_parts_have_its_weights(side: int, windows: tuple[tuple[float, int], ...]) -> None:
    face, target, mask, said = picture(1, side), picture(2, side), blob(side), blob(side) * 0.3
    inside = soft_mask(mask)
    structure = sum(weight * float(dssim(face * inside, target * inside, taps)) for weight, taps in windows)
    squares = 10 * float(((face - target) * inside).square().mean()) + 10 * float((said - mask).square().mean())
    assert deepfacelab(face, said, pair(target, mask)) == pytest.approx(structure + squares, rel=1e-4)


def test_deepfacelab_does_not_look_outside_the_mask() -> None:
    wanted = pair(picture(1), blob())
    elsewhere = torch.where(soft_mask(wanted.masks) == 0, 1 - wanted.targets, wanted.targets)
    assert not torch.equal(elsewhere, wanted.targets)
    assert deepfacelab(elsewhere, wanted.masks, wanted) == pytest.approx(0, abs=10 * DSSIM_ROUNDING)


def test_eyes_and_mouth_are_told_apart_by_their_height() -> None:
    details = spots()
    eyes, mouth = eyes_and_mouth(details)
    assert torch.equal(eyes + mouth, details)
    assert float(eyes[..., 44:50, :].sum()) == 0
    assert float(mouth[..., 20:24, :].sum()) == 0
    nothing = eyes_and_mouth(torch.zeros(1, 1, 8, 8))
    assert float(nothing[0].abs().sum() + nothing[1].abs().sum()) == 0


def test_faceswap_counts_eyes_four_times_and_the_mouth_three_times() -> None:
    mask, details = blob(), spots()
    eyes, mouth = eyes_and_mouth(details)
    target = picture(1)

    def squares(where: Tensor) -> float:
        """What faceswap says of a tiny change there beyond the structure."""
        face = target + 0.2 * where
        wanted = pair(target, mask, details)
        parts = [(mask, 1.0), (eyes, 3.0), (mouth, 2.0)]
        structure = sum(weight * float(dssim(face * m, target * m, 11)) for m, weight in parts)
        return (faceswap(face, wanted) - structure) / float((0.2 * where).square().expand(-1, 3, -1, -1).mean())

    assert squares(eyes) == pytest.approx(4, rel=1e-2)
    assert squares(mouth) == pytest.approx(3, rel=1e-2)
    assert squares(mask * (1 - eyes - mouth)) == pytest.approx(1, rel=1e-2)


def test_faceswap_does_not_look_outside_the_mask() -> None:
    wanted = pair(picture(1), blob(), spots())
    elsewhere = torch.where(wanted.masks == 0, 1 - wanted.targets, wanted.targets)
    assert faceswap(elsewhere, wanted) == pytest.approx(0, abs=10 * DSSIM_ROUNDING)


@pytest.mark.parametrize("judge", [deepfacelab_loss, faceswap_loss])
def test_gradients_are_finite_where_a_picture_is_flat(judge: Judge) -> None:
    face = torch.full((2, 3, SIDE, SIDE), 0.5, requires_grad=True)
    loss = judge(Painted(face, blob()), blob(), pair(torch.full((2, 3, SIDE, SIDE), 0.5), blob(), spots()))
    loss.backward()  # type: ignore[no-untyped-call]
    assert face.grad is not None
    assert bool(torch.isfinite(face.grad).all())
