"""Inputs stray, targets do not; both come from one sampling of the stored picture."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.augment import (
    AugmentConfig,
    Pair,
    affine_matrices,
    crop_grid,
    draw_numbers,
    sample,
    straight_crops,
    stray,
    warp_fields,
)
from training.occluders import shows_another

SIDE, MARGIN = 32, 1.25
STORED = round(SIDE * MARGIN * 2)
"""Two stored pixels for one of training, as the stacks have where the footage allows."""
STILL = AugmentConfig(light=0, tint=0)
DEFAULT = AugmentConfig()
MANY = 4000
ROUNDING = 2e-5
"""float32 powers, products and interpolation weights of pictures in [0, 1]."""
SUMS = 1e-5
"""float32 sums of another order: kernels pick another one for another number of faces."""
HALF_A_PIXEL = 1 / STORED
"""Of the stored picture: the corner of the most turned, zoomed and shifted crop reaches 0.36 pixels over the rim."""
INPUT_BORDER = 1e-3
"""Share of the input's pixels that may repeat the border at full warp: 3e-4, in corners, none in the middle."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def faces(count: int = 6, low: int = 60, high: int = 190, side: int = STORED) -> Tensor:
    """Smooth (N, 5, P, P) uint8 stacks whose five planes are one and the same picture."""
    coarse = torch.randint(low, high, (count, 1, 6, 6), generator=seeded(9)).float()
    smooth = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=True)
    return smooth.round().to(torch.uint8).expand(-1, 5, -1, -1).contiguous()


def fields(size: int, config: AugmentConfig = DEFAULT, strength: float = 1.0, count: int = MANY) -> Tensor:
    numbers = draw_numbers(count, config, seeded())
    return warp_fields(numbers.grids, numbers.nodes * strength, size)


def augment(
    faces: Tensor,
    size: int,
    margin: float,
    config: AugmentConfig,
    strength: float,
    generator: torch.Generator,
    occluded: float = 0.0,
) -> Pair:
    """These faces, strayed as one process does it that has all of them."""
    numbers = draw_numbers(len(faces), config, generator)
    others = faces.flip(0)[shows_another(numbers.things, occluded).to(faces.device)]
    return stray(faces, numbers, size, margin, strength, occluded, others)


def test_without_warp_and_colour_the_input_is_the_target() -> None:
    pair = augment(faces(), SIDE, MARGIN, STILL, 0.0, seeded())
    assert torch.equal(pair.inputs, pair.targets)
    assert torch.equal(pair.input_masks, pair.masks)


def test_samples_left_straight_share_the_whole_geometry_at_full_warp() -> None:
    pair = augment(faces(), SIDE, MARGIN, replace(STILL, straight=1.0), 1.0, seeded())
    assert torch.equal(pair.inputs, pair.targets)
    other = augment(faces(), SIDE, MARGIN, replace(STILL, straight=0.0), 1.0, seeded())
    assert torch.equal(other.targets, pair.targets)
    assert all(float((a - b).abs().max()) > 0.02 for a, b in zip(other.inputs, other.targets, strict=True))


def test_without_warp_the_input_differs_from_the_target_by_a_gain_for_each_channel() -> None:
    pair = augment(faces(), SIDE, MARGIN, replace(DEFAULT, light=0.0), 0.0, seeded())
    gains = pair.inputs / pair.targets
    inside = pair.inputs < 1
    for sample_gains, unclipped in zip(gains, inside, strict=True):
        for plane, valid in zip(sample_gains, unclipped, strict=True):
            assert float(plane[valid].max() - plane[valid].min()) < 100 * ROUNDING
    assert float(gains.mean(dim=(2, 3)).std()) > 0.05


def test_light_changes_input_and_target_together_and_tint_the_input_alone() -> None:
    plain = augment(faces(), SIDE, MARGIN, STILL, 0.0, seeded())
    tinted = augment(faces(), SIDE, MARGIN, replace(STILL, tint=0.2), 0.0, seeded())
    lit = augment(faces(), SIDE, MARGIN, replace(STILL, light=0.2), 0.0, seeded())
    assert torch.equal(tinted.targets, plain.targets)
    assert not torch.allclose(tinted.inputs, plain.inputs, atol=0.02)
    assert torch.equal(lit.inputs, lit.targets)
    assert not torch.allclose(lit.targets, plain.targets, atol=0.02)
    assert torch.equal(lit.masks, plain.masks)


def test_the_same_seed_gives_the_same_batch_and_nothing_else_decides() -> None:
    before = torch.get_rng_state()
    first = augment(faces(), SIDE, MARGIN, DEFAULT, 0.7, seeded(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    second = augment(faces(), SIDE, MARGIN, DEFAULT, 0.7, seeded(3))
    other = augment(faces(), SIDE, MARGIN, DEFAULT, 0.7, seeded(4))
    assert all(torch.equal(a, b) for a, b in zip(first[:5], second[:5], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first[:5], other[:5], strict=True))


def test_the_strength_of_the_warp_does_not_change_what_is_drawn_next() -> None:
    strong, weak = seeded(), seeded()
    targets = [augment(faces(), SIDE, MARGIN, DEFAULT, s, g).targets for s, g in ((1.0, strong), (0.0, weak))]
    assert torch.equal(*targets)
    assert torch.equal(strong.get_state(), weak.get_state())


def test_the_masks_follow_the_pictures() -> None:
    """All planes of these faces are one picture, so masks and pictures must stay the same through every bend."""
    pair = augment(faces(), SIDE, MARGIN, STILL, 1.0, seeded())
    assert not torch.allclose(pair.inputs, pair.targets, atol=0.02)
    for channel in range(3):
        torch.testing.assert_close(pair.inputs[:, channel], pair.input_masks[:, 0], atol=ROUNDING, rtol=0)
        torch.testing.assert_close(pair.targets[:, channel], pair.masks[:, 0], atol=ROUNDING, rtol=0)
        torch.testing.assert_close(pair.targets[:, channel], pair.details[:, 0], atol=ROUNDING, rtol=0)


def test_everything_lies_between_nothing_and_one() -> None:
    loud = AugmentConfig(light=0.8, tint=0.8)
    noise = torch.randint(0, 256, (4, 5, STORED, STORED), generator=seeded()).to(torch.uint8)
    for part in augment(noise, SIDE, MARGIN, loud, 1.0, seeded())[:5]:
        assert part.dtype == torch.float32
        assert 0 <= float(part.min()) <= float(part.max()) <= 1


@pytest.mark.parametrize("finer", [1, 2])
def test_a_straight_crop_is_the_stored_pixels_themselves(finer: int) -> None:
    """No pixel is interpolated twice: where the grids meet, not even once."""
    side = round(SIDE * MARGIN * finer)
    noise = torch.randint(0, 256, (2, 5, side, side), generator=seeded()).to(torch.uint8)
    pair = straight_crops(noise, SIDE, MARGIN)
    edge = (side - SIDE * finer) // 2
    inner = noise[:, :, edge : edge + SIDE * finer : finer, edge : edge + SIDE * finer : finer].float() / 255
    torch.testing.assert_close(pair.targets, inner[:, :3], atol=ROUNDING, rtol=0)
    torch.testing.assert_close(pair.masks, inner[:, 3:4], atol=ROUNDING, rtol=0)
    torch.testing.assert_close(pair.details, inner[:, 4:], atol=ROUNDING, rtol=0)
    assert torch.equal(pair.inputs, pair.targets)


def test_affine_and_warp_are_one_sampling_of_the_stored_picture() -> None:
    """A second interpolation would flatten the noise more than bilinear sampling does once."""
    noise = torch.randint(0, 256, (64, 5, 40, 40), generator=seeded()).to(torch.uint8)
    far = replace(STILL, straight=0.0, rotation_deg=8.0, scale=0.08, shift=0.03)  # so that no pixel stays on its grid
    pair = augment(noise, SIDE, MARGIN, far, 1.0, seeded())
    once = sample(noise, crop_grid(affine_matrices(64, far, seeded(1)), SIDE, MARGIN, 40))
    spread = [float(x.std()) for x in (pair.targets, pair.inputs, once)]
    assert spread[0] == pytest.approx(spread[2], rel=0.03)
    assert spread[1] == pytest.approx(spread[2], rel=0.05)


def test_targets_never_show_the_border_of_what_is_stored() -> None:
    grid = crop_grid(affine_matrices(MANY, DEFAULT, seeded()), SIDE, MARGIN, STORED)
    assert float(grid.abs().max()) <= 1 + HALF_A_PIXEL
    assert float((grid.abs() > 1).float().mean()) < 1e-6


def test_inputs_show_the_border_hardly_ever_and_never_in_the_middle() -> None:
    numbers = draw_numbers(MANY, DEFAULT, seeded())
    grid = crop_grid(numbers.matrices, SIDE, MARGIN, STORED)
    grid = grid + warp_fields(numbers.grids, numbers.nodes, SIDE) / MARGIN
    beyond = (grid.abs() > 1).any(dim=-1).float()
    assert 0 < float(beyond.mean()) < INPUT_BORDER
    quarter = SIDE // 4
    assert float(beyond[:, quarter:-quarter, quarter:-quarter].max()) == 0


def test_the_similarities_keep_their_limits_and_use_them() -> None:
    matrices = affine_matrices(MANY, DEFAULT, seeded())
    zoom = matrices[:, :, 0].norm(dim=1)
    angle = torch.rad2deg(torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    shift = matrices[:, :, 2]
    for values, limit in ((zoom.log(), DEFAULT.scale), (angle, DEFAULT.rotation_deg), (shift, 2 * DEFAULT.shift)):
        assert 0.97 * limit < float(values.abs().max()) <= limit * (1 + 1e-4)
        assert abs(float(values.mean())) < 0.05 * limit
    # No shear: the second column is the first, turned by a right angle.
    torch.testing.assert_close(matrices[:, 0, 1], -matrices[:, 1, 0])
    torch.testing.assert_close(matrices[:, 1, 1], matrices[:, 0, 0])


@pytest.mark.parametrize(("flip", "share"), [(False, 0.0), (True, 0.5)])
def test_faces_are_mirrored_only_where_asked_for(flip: bool, share: float) -> None:
    matrices = affine_matrices(MANY, replace(DEFAULT, flip=flip), seeded())
    mirrored = (torch.linalg.det(matrices[:, :, :2]) < 0).float()
    assert float(mirrored.mean()) == pytest.approx(share, abs=0.03)


def test_the_warp_moves_x_and_y_independently() -> None:
    field = fields(9, replace(DEFAULT, straight=0.0))
    x, y = (field[..., axis].numpy() for axis in (0, 1))
    corners = [np.corrcoef(x[:, i, j], y[:, i, j])[0, 1] for i in (0, 4, 8) for j in (0, 4, 8)]
    assert max(abs(value) for value in corners) < 0.06
    assert 0.9 < x.std() / y.std() < 1.1
    assert abs(x.mean()) < 0.01


def test_the_warp_is_smooth_and_as_strong_as_it_says() -> None:
    size = 65
    field = fields(size, replace(DEFAULT, straight=0.0), count=2000)
    node = field[:, size // 2, size // 2].std()  # every grid has a node in the middle
    kinds = [2 * DEFAULT.warp * 2 / (nodes - 1) for nodes in (3, 5, 9)]
    expected = math.sqrt(sum(sigma**2 for sigma in kinds) / 3)
    assert float(node) == pytest.approx(expected, rel=0.06)
    steps = field[:, :, 1:] - field[:, :, :-1]
    assert float(steps.abs().max()) < 2 / size  # neighbours never change places by more than a pixel


def test_the_warp_between_its_nodes_is_the_bicubic_one_of_torch() -> None:
    numbers = draw_numbers(60, replace(DEFAULT, straight=0.0), seeded())
    field = warp_fields(numbers.grids, numbers.nodes, 40)
    for n, grid in enumerate(numbers.grids.tolist()):
        nodes = numbers.nodes[n : n + 1, :, : (3, 5, 9)[grid], : (3, 5, 9)[grid]]
        wanted = F.interpolate(nodes, (40, 40), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
        torch.testing.assert_close(field[n], wanted, atol=ROUNDING, rtol=0)


def test_the_warp_is_proportional_to_its_strength_and_spares_its_share() -> None:
    whole, half, none = (fields(9, strength=strength) for strength in (1.0, 0.5, 0.0))
    torch.testing.assert_close(half * 2, whole, atol=1e-6, rtol=1e-5)
    assert not none.any()
    spared = (whole.abs().amax(dim=(1, 2, 3)) == 0).float()
    assert float(spared.mean()) == pytest.approx(DEFAULT.straight, abs=0.03)


def test_things_stand_in_front_of_inputs_alone() -> None:
    bare, occluded = (augment(faces(), SIDE, MARGIN, DEFAULT, 0.5, seeded(), share) for share in (0.0, 1.0))
    assert torch.equal(occluded.targets, bare.targets)
    assert torch.equal(occluded.masks, bare.masks)
    assert torch.equal(occluded.details, bare.details)
    assert not torch.equal(occluded.inputs, bare.inputs)
    assert bool((occluded.input_masks <= bare.input_masks).all())
    assert float(occluded.input_masks.sum()) < 0.95 * float(bare.input_masks.sum())


@pytest.mark.parametrize("rows", [slice(0, 20), slice(20, 40), slice(7, 8)])
def test_a_part_of_the_batch_is_made_as_the_whole_batch_makes_it(rows: slice) -> None:
    """Whoever has only some of the faces to do makes of them what one process makes that does all."""
    batch, numbers = faces(40), draw_numbers(40, DEFAULT, seeded(2))
    others = faces(40).flip(0)
    another = shows_another(numbers.things, 1.0)
    assert int(another[:20].sum()) > 0 < int(another[20:].sum())
    whole = stray(batch, numbers, SIDE, MARGIN, 0.8, 1.0, others[another])
    part = stray(batch[rows], numbers.part(rows), SIDE, MARGIN, 0.8, 1.0, others[rows][another[rows]])
    for ours, theirs in zip(part[:5], whole[:5], strict=True):
        torch.testing.assert_close(ours, theirs[rows], atol=SUMS, rtol=0)


@pytest.mark.parametrize("name", ["occluded", "occlude_by"])
@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_a_share(name: str, share: float) -> None:
    with pytest.raises(ValueError, match=f"{name} lies between 0 and 1"):
        AugmentConfig(**{name: share})  # type: ignore[arg-type]
