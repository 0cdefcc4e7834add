"""The loss is nothing for equal pictures, agrees with an independent DSSIM, and looks where it should."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.augment import Pair
from training.losses import (
    WINDOW_SIGMA,
    WINDOW_TAPS,
    LossConfig,
    alignment_loss,
    blur,
    cross_entropy,
    dssim,
    dssim_map,
    extend_face,
    face_core,
    gaussian_window,
    halved,
    laplacian,
    ms_dssim,
    side_loss,
    similarity_maps,
)
from training.model import CodeStatistics, Painted, Side

SIDE = 32
PICTURES = LossConfig(mask=0.0)
"""Everything but the masks, whose cross-entropy is only 0 for masks that are exactly 0 or 1."""
ROUNDING = 2e-6
"""float32 sums of 121 products in another order."""
DSSIM_ROUNDING = 2e-4
"""float32 variances are differences of nearly equal numbers, and are divided by 0.03 squared; float64 beside it."""
PARTS = {field.name for field in fields(LossConfig)} - {"align", "details", "surroundings"}
"""What adds up to the loss of a picture: `align` is about codes, the other two say where it looks."""
FLOOR = -math.log(1 - 1e-4)
"""Cross-entropy of a perfect mask: predictions are kept away from 0 and 1."""


def picture(seed: int, channels: int = 3, count: int = 2) -> Tensor:
    return torch.rand(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def blob(low: int = 8, high: int = 24) -> Tensor:
    mask = torch.zeros(2, 1, SIDE, SIDE)
    mask[..., low:high, low:high] = 1
    return mask


def pair(targets: Tensor, masks: Tensor, details: Tensor | None = None) -> Pair:
    return Pair(targets, targets, masks, masks, torch.zeros_like(masks) if details is None else details)


def only(*parts: str) -> LossConfig:
    """A loss of these parts alone, inside the mask."""
    return LossConfig(**{field.name: float(field.name in parts) for field in fields(LossConfig)})


def loss_of(
    face: Tensor,
    target: Tensor,
    masks: Tensor | None = None,
    config: LossConfig = PICTURES,
    details: Tensor | None = None,
) -> float:
    masks = blob() if masks is None else masks
    return float(side_loss(Painted(face, masks), masks, pair(target, masks, details), config))


def dssim_by_opencv(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R-10, R-10) of one channel, as Wang et al. wrote it down, in float64 with OpenCV's own Gaussian window."""

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        edge = WINDOW_TAPS // 2
        blurred = cv2.GaussianBlur(x, (WINDOW_TAPS, WINDOW_TAPS), WINDOW_SIGMA)
        return np.asarray(blurred[edge:-edge, edge:-edge], np.float64)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (var_a + var_b + 9e-4)
    return np.asarray((1 - luminance * structure) / 2, np.float64)


def test_a_face_with_its_skin_going_on_around_it_loses_nothing() -> None:
    for masks in (blob(), blob(0, SIDE), blob(14, 26)):
        assert loss_of(extend_face(picture(0), masks), picture(0), masks) == pytest.approx(0, abs=ROUNDING)


def test_perfect_masks_lose_the_floor_of_the_cross_entropy_and_no_more() -> None:
    face, config = extend_face(picture(0), blob()), replace(PICTURES, mask=1.0)
    assert loss_of(face, picture(0), config=config) == pytest.approx(2 * FLOOR, rel=0.02, abs=ROUNDING)


@pytest.mark.parametrize("part", sorted(PARTS - {"mask"}))
def test_every_part_alone_sees_a_difference(part: str) -> None:
    assert loss_of(picture(0), picture(1), config=only()) == 0
    assert loss_of(picture(0), picture(1) ** 2, config=only(part)) > 0.01


def test_dssim_agrees_with_an_independent_formulation() -> None:
    a, b = picture(0), 0.7 * picture(0) + 0.3 * picture(1)
    ours = dssim_map(a, b)
    for n in range(2):
        for channel in range(3):
            theirs = dssim_by_opencv(a[n, channel].double().numpy(), b[n, channel].double().numpy())
            np.testing.assert_allclose(ours[n, channel].numpy(), theirs, atol=DSSIM_ROUNDING)
    assert ours.shape == (2, 3, SIDE - 10, SIDE - 10)


def test_dssim_lies_between_nothing_and_one_and_is_symmetric() -> None:
    stripes = torch.zeros(1, 1, SIDE, SIDE)
    stripes[..., ::2] = 1
    opposite = dssim_map(stripes, 1 - stripes)
    assert 0.9 < float(opposite.min()) <= float(opposite.max()) <= 1
    assert torch.allclose(dssim_map(picture(0), picture(1)), dssim_map(picture(1), picture(0)), atol=ROUNDING)


SPARSE_VALUE = 0.005
"""Relative difference of the DSSIM of a whole face through every window and through every second one."""
SPARSE_GRADIENT = 0.97
"""Least cosine between their gradients; seen 0.985. What differs is finer than two pixels."""


def near_misses(side: int = 128) -> tuple[Tensor, Tensor, Tensor]:
    """A smooth picture, a painting of it that is off in coarse and fine detail, and soft weights around its middle."""
    generator = torch.Generator().manual_seed(1)

    def noise(cells: int) -> Tensor:
        cloud = torch.randn(2, 3, cells, cells, generator=generator)
        return F.interpolate(cloud, size=(side, side), mode="bicubic", align_corners=False)

    target = (0.5 + 0.15 * noise(side // 8) + 0.05 * noise(side // 2)).clamp(0, 1)
    painting = (target + 0.05 * noise(side // 16) + 0.03 * noise(side // 2)).clamp(0, 1)
    ramp = torch.linspace(-1, 1, side)
    weights = torch.exp(-2 * (ramp[:, None] ** 2 + ramp**2)).expand(2, 1, side, side)
    return painting, target, weights


def gradient_of(loss: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, x)
    return gradient.flatten()


def test_every_window_of_the_cheap_dssim_is_one_of_the_exact_map() -> None:
    painting, target, _ = near_misses(64)
    exact = dssim_map(painting, target)
    for stride in (1, 2, 3):
        luminance, structure = similarity_maps(painting, target, stride)
        chosen = exact[..., ::stride, ::stride]
        torch.testing.assert_close((1 - luminance * structure) / 2, chosen, atol=DSSIM_ROUNDING, rtol=0)


def test_every_second_window_gives_nearly_the_value_and_the_gradient_of_all() -> None:
    painting, target, weights = near_misses()
    painting.requires_grad_()
    inner = weights[..., 5:-5, 5:-5]
    exact = (dssim_map(painting, target) * inner).sum() / (inner.sum() * 3)
    cheap = dssim(painting, target, weights)
    assert float(cheap.detach()) == pytest.approx(float(exact.detach()), rel=SPARSE_VALUE)
    ours, theirs = gradient_of(cheap, painting), gradient_of(exact, painting)
    assert float(F.cosine_similarity(ours, theirs, dim=0)) > SPARSE_GRADIENT
    assert float(ours.norm() / theirs.norm()) == pytest.approx(1, abs=1 - SPARSE_GRADIENT)


def test_no_pixel_is_seen_less_through_every_second_window() -> None:
    face = torch.full((1, 1, 64, 64), 0.5, requires_grad=True)
    luminance, _ = similarity_maps(face, torch.full((1, 1, 64, 64), 0.7), 2)
    pull = gradient_of(luminance.sum(), face).view(64, 64)[12:-12, 12:-12]
    assert float(pull.std() / pull.mean()) < 1e-3


def test_the_target_of_a_similarity_has_no_gradient() -> None:
    painting, target, weights = near_misses(32)
    target.requires_grad_()
    assert not dssim(painting, target, weights).requires_grad


def test_ms_ssim_agrees_with_wangs_formula() -> None:
    """Computed once more from the exact blur, by averaging 2x2 pixels between the scales and multiplying the means."""
    painting, target, _ = near_misses(192)
    a, b, product = painting, target, torch.ones(2, 3)
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        mean_a, mean_b, aa, bb, ab = (blur(x, gaussian_window()) for x in (a, b, a * a, b * b, a * b))
        contrast = (2 * (ab - mean_a * mean_b) + 9e-4) / (aa - mean_a**2 + bb - mean_b**2 + 9e-4)
        luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
        last = weight == 0.1333
        product = product * (contrast * luminance if last else contrast).mean((2, 3)) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    ours = float(ms_dssim(painting, target, torch.ones(2, 1, 192, 192), stride=1))
    assert ours == pytest.approx(float((1 - product).mean() / 2), abs=DSSIM_ROUNDING)
    assert float(ms_dssim(painting, target, torch.ones(2, 1, 192, 192))) == pytest.approx(ours, rel=0.02)


@pytest.mark.parametrize("side", [16, 25, 32, 100])
def test_ms_ssim_takes_as_many_scales_as_the_picture_holds(side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 3, side, side, generator=generator) for _ in range(2))
    everywhere = torch.ones(1, 1, side, side)
    assert float(ms_dssim(a, a, everywhere)) == pytest.approx(0, abs=ROUNDING)
    assert 0.2 < float(ms_dssim(a, b, everywhere)) <= 0.5


def test_halving_is_the_mean_of_two_by_two_pixels() -> None:
    torch.testing.assert_close(halved(picture(0)), F.avg_pool2d(picture(0), 2), atol=ROUNDING, rtol=0)
    odd = picture(0)[..., :-1, :-3]
    torch.testing.assert_close(halved(odd), F.avg_pool2d(odd, 2), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("side", [16, 64, 128, 200])
def test_the_core_of_a_face_is_its_mask_eroded_by_a_square(side: int) -> None:
    mask = (torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0)) + 0.95).floor().clamp(0, 1)
    mask[0, :, :, : side // 2] *= 0.4
    reach = max(1, side // 40)
    assert torch.equal(face_core(mask), -F.max_pool2d(-mask, 2 * reach + 1, 1, reach))


def test_inside_the_face_the_picture_stays_as_it_is() -> None:
    assert torch.equal(extend_face(picture(0), blob())[..., 11:21, 11:21], picture(0)[..., 11:21, 11:21])
    everywhere = extend_face(picture(0), blob(0, SIDE))
    torch.testing.assert_close(everywhere[..., 1:-1, 1:-1], picture(0)[..., 1:-1, 1:-1], atol=ROUNDING, rtol=0)


def test_what_was_behind_the_face_never_shows() -> None:
    face, wall = picture(0), picture(1)
    wall[..., 8:24, 8:24] = face[..., 8:24, 8:24]
    assert torch.equal(extend_face(face, blob()), extend_face(wall, blob()))


def test_skin_goes_on_in_the_colour_of_the_nearest_cheek() -> None:
    skin = torch.zeros(2, 3, SIDE, SIDE)
    skin[..., :16] = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1)
    skin[..., 16:] = torch.tensor([0.3, 0.5, 0.9]).view(3, 1, 1)
    around = extend_face(skin, blob())
    for column, colour in ((2, [0.2, 0.4, 0.6]), (29, [0.3, 0.5, 0.9])):
        assert around[0, :, 16, column].tolist() == pytest.approx(colour, abs=0.02)


def test_a_picture_without_a_face_stays_finite() -> None:
    assert torch.isfinite(extend_face(picture(0), torch.zeros(2, 1, SIDE, SIDE))).all()


def test_the_separable_window_is_the_square_one() -> None:
    window = gaussian_window()
    square = torch.outer(window, window).expand(3, 1, WINDOW_TAPS, WINDOW_TAPS)
    torch.testing.assert_close(blur(picture(0), window), F.conv2d(picture(0), square, groups=3), atol=ROUNDING, rtol=0)
    assert float(window.sum()) == pytest.approx(1)
    assert torch.equal(window, window.flip(0))


def test_the_laplacian_sees_edges_and_no_slopes() -> None:
    slope = torch.arange(SIDE, dtype=torch.float32).expand(1, 1, SIDE, SIDE) / SIDE
    assert float(laplacian(slope).abs().max()) < ROUNDING
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 1
    assert laplacian(dot)[0, 0].tolist() == [[0, 1, 0], [1, -4, 1], [0, 1, 0]]


def test_a_blurred_face_loses_edges_that_the_pixels_hardly_miss() -> None:
    sharp = picture(0)
    soft = F.avg_pool2d(sharp, 3, stride=1, padding=1)
    assert loss_of(soft, sharp, config=only("edges")) > 3 * loss_of(soft, sharp, config=only("pixel"))


@pytest.mark.parametrize("surroundings", [0.0, 0.1])
def test_what_lies_outside_the_face_counts_as_much_as_the_surroundings_do(surroundings: float) -> None:
    config = replace(PICTURES, surroundings=surroundings)
    target, mask = picture(0), blob(14, 26)
    far = extend_face(target, mask)
    far[..., :2, :] = 1 - far[..., :2, :]  # further from the mask than any window reaches
    near = extend_face(target, mask)
    near[..., 18:20, :] = 1 - near[..., 18:20, :]
    outside, inside = (loss_of(painted, target, mask, config) for painted in (far, near))
    assert inside > 0.3
    if surroundings:
        assert ROUNDING < outside < 3 * surroundings * inside
    else:
        assert outside < ROUNDING


def test_eyes_and_mouth_count_more() -> None:
    target, details = picture(0), torch.zeros(2, 1, SIDE, SIDE)
    details[..., 14:18, 14:18] = 1
    wrong = extend_face(target, blob())
    wrong[..., 14:18, 14:18] = 1 - wrong[..., 14:18, 14:18]
    pixel_only = replace(only("pixel"), details=2.0, surroundings=0.1)
    assert loss_of(wrong, target, config=pixel_only, details=details) > 2 * loss_of(wrong, target, config=pixel_only)


def test_the_weights_do_not_change_what_a_uniform_error_costs() -> None:
    target = torch.full((2, 3, SIDE, SIDE), 0.5)
    stripes = target.clone()
    stripes[..., ::2] += 0.25
    stripes[..., 1::2] -= 0.25
    for masks in (blob(), blob(2, 30)):
        for config in (only("pixel"), replace(only("pixel"), surroundings=0.5)):
            assert loss_of(stripes, target, masks, config) == pytest.approx(0.25, rel=1e-4)


def test_the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_faces() -> None:
    face, target = picture(0), picture(1)
    masks, details = blob(), torch.zeros(2, 1, SIDE, SIDE)
    masks[1] = blob(14, 26)[1]  # a small face counts as much as a large one
    details[0, :, 14:18, 14:18] = 1
    config = LossConfig(ms_structure=1.0, frequency=1.0)
    both = loss_of(face, target, masks, config, details)
    one, other = (slice(n, n + 1) for n in (0, 1))
    each = [loss_of(face[n], target[n], masks[n], config, details[n]) for n in (one, other)]
    assert abs(each[0] - each[1]) > 0.05
    assert both == pytest.approx(sum(each) / 2, abs=ROUNDING)


def test_both_masks_are_learned() -> None:
    face, wanted = picture(0), blob()
    config = only("mask")
    batch = Pair(face, face, wanted, blob(4, 20), torch.zeros_like(wanted))

    def of(painted: Tensor, input_mask: Tensor) -> float:
        return float(side_loss(Painted(face, painted), input_mask, batch, config))

    right = of(wanted, blob(4, 20))
    assert right < 3 * FLOOR
    assert of(1 - wanted, blob(4, 20)) > 1
    assert of(wanted, 1 - blob(4, 20)) > 1


def test_cross_entropy_is_the_one_of_torch() -> None:
    mask, wanted = picture(0, 1) * 0.98 + 0.01, picture(1, 1)
    torch.testing.assert_close(cross_entropy(mask, wanted), F.binary_cross_entropy(mask, wanted))


def test_pictures_that_are_not_finite_give_a_loss_that_is_not_finite_instead_of_an_abort() -> None:
    face = picture(0)
    for broken in (face * math.nan, face):
        mask = blob() * (math.nan if broken is face else 1)
        loss = side_loss(Painted(broken, mask), mask, pair(face, blob()), LossConfig())
        assert not math.isfinite(float(loss))


def test_the_loss_is_float32_whatever_was_painted() -> None:
    face = picture(0).to(torch.bfloat16)
    assert side_loss(Painted(face, blob()), blob(), pair(picture(1), blob()), LossConfig()).dtype == torch.float32


# ---------------------------------------------------------------- one cloud of codes


def clouds(shift: float = 0.0, width: float = 1.0, updates: int = 3000) -> CodeStatistics:
    """Statistics of two clouds of codes that are known well; the performer's is moved and widened."""
    statistics = CodeStatistics(4)
    statistics.updates.fill_(updates)
    statistics.mean[1] += shift
    statistics.covariance[1] *= width**2
    return statistics


def codes(mean: float = 0.0, width: float = 1.0, count: int = 4000) -> Tensor:
    noise = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return (noise * width + mean).requires_grad_()


def pull_on(code: Tensor, side: Side, statistics: CodeStatistics) -> Tensor:
    """Where gradient descent moves the codes."""
    alignment_loss(code, side, statistics).backward()  # type: ignore[no-untyped-call]
    assert code.grad is not None
    return -code.grad


def test_codes_in_one_cloud_are_left_alone_and_the_loss_is_never_below_nought() -> None:
    together = float(alignment_loss(codes(), "identity", clouds()).detach())
    assert 0 <= together < 0.01
    for shift, width in ((2.0, 1.0), (-2.0, 1.0), (0.0, 2.0), (0.0, 0.5)):
        assert float(alignment_loss(codes(), "identity", clouds(shift, width)).detach()) > 10 * together


@pytest.mark.parametrize("shift", [2.0, -2.0])
def test_codes_are_pulled_towards_the_other_persons(shift: float) -> None:
    assert float((pull_on(codes(), "identity", clouds(shift)) * shift).mean()) > 0
    assert float((pull_on(codes(shift), "performer", clouds(shift)) * shift).mean()) < 0


@pytest.mark.parametrize(("width", "outwards"), [(2.0, True), (0.5, False)])
def test_a_narrow_cloud_widens_and_a_wide_one_shrinks(width: float, outwards: bool) -> None:
    code = codes()
    assert (float((pull_on(code, "identity", clouds(width=width)) * code.detach()).mean()) > 0) == outwards


def test_clouds_that_are_hardly_known_pull_nobody() -> None:
    first, last = CodeStatistics.RAMP
    losses = [
        float(alignment_loss(codes(), "identity", clouds(2.0, updates=n)).detach())
        for n in (0, first, (first + last) // 2, last)
    ]
    assert losses[:2] == [0, 0]
    assert 0 < losses[2] < losses[3]


def test_the_pull_does_not_depend_on_the_unit_of_the_codes() -> None:
    large = clouds(2.0)
    for part in (large.mean, large.covariance):
        part *= 10 if part is large.mean else 100
    small_loss, large_loss = (
        float(alignment_loss(code.detach(), "identity", statistics))
        for code, statistics in ((codes(), clouds(2.0)), (codes(width=10.0), large))
    )
    assert large_loss == pytest.approx(small_loss, rel=1e-3)
