"""The peers' augmentation stays within their published numbers, and comes from the generator alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from training.augment import Pair, straight_crops
from training.peer_augment import (
    CELL_NOISE,
    deepfacelab_maps,
    deepfacelab_pair,
    faceswap_maps,
    faceswap_pair,
)

STORED, SIZE, MARGIN = 80, 64, 1.25
Augment = Callable[[Tensor, int, float, torch.Generator], Pair]
BOTH = [deepfacelab_pair, faceswap_pair]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramps(count: int = 4) -> Tensor:
    """Faces whose blue rises to the right and whose green rises downwards, face and details in one square."""
    rise = torch.linspace(0, 255, STORED).round()
    faces = torch.full((count, 5, STORED, STORED), 128.0)
    faces[:, 0], faces[:, 1] = rise, rise[:, None]
    faces[:, 3:] = 0
    faces[:, 3:, 24:56, 24:56] = 255
    return faces.to(torch.uint8)


@pytest.mark.parametrize("augment", BOTH)
def test_a_batch_is_a_pair_in_range(augment: Augment) -> None:
    pair = augment(ramps(), SIZE, MARGIN, generator())
    for pictures, channels in zip(pair[:5], (3, 3, 1, 1, 1), strict=True):
        assert pictures.shape == (4, channels, SIZE, SIZE)
        assert pictures.dtype == torch.float32
        assert 0 <= pictures.min() <= pictures.max() <= 1
    assert torch.equal(pair.input_masks, pair.masks)


@pytest.mark.parametrize("augment", BOTH)
def test_the_generator_decides_everything(augment: Augment) -> None:
    first, again, other = (augment(ramps(), SIZE, MARGIN, generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first[:5], again[:5], strict=True))
    assert not torch.equal(first.inputs, other.inputs)
    drawn = generator(3)
    augment(ramps(), SIZE, MARGIN, drawn)
    assert not torch.equal(augment(ramps(), SIZE, MARGIN, drawn).inputs, first.inputs)


@pytest.mark.parametrize("augment", BOTH)
def test_input_and_target_differ_by_the_warp(augment: Augment) -> None:
    pair = augment(ramps(8), SIZE, MARGIN, generator())
    middle = (slice(None), slice(0, 2), slice(16, 48), slice(16, 48))
    off = (pair.inputs[middle] - pair.targets[middle]).abs().mean()
    assert 0.005 < float(off) < 0.1


def test_without_noise_deepfacelabs_crop_is_the_live_loops_half_a_pixel_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    from training import peer_augment

    for name, value in {"CELL_NOISE": 0.0, "ROTATION_DEG": 0.0, "SHIFT": 0.0, "DEEPFACELAB_ZOOM": (1.0, 1.0)}.items():
        monkeypatch.setattr(peer_augment, name, value)
    pair, straight = deepfacelab_pair(ramps(1), SIZE, MARGIN, generator()), straight_crops(ramps(1), SIZE, MARGIN)
    pixel = 1 / (SIZE * MARGIN)
    assert float((pair.targets - straight.targets).abs().max()) < 0.6 / 255
    moved = (pair.inputs - pair.targets)[:, :2, 8:-8, 8:-8]
    assert float((moved - pixel / 2).abs().max()) < 0.6 / 255
    assert float((pair.masks - straight.masks).abs().mean()) < 1e-6


def test_deepfacelabs_nodes_move_as_published() -> None:
    rng = np.random.default_rng(0)
    for cells in (2, 4, 8):
        bends = []
        for _ in range(300):
            x, y = deepfacelab_maps(64, rng, cells)
            assert np.array_equal(y, x.T)
            bends.append(x[32, 32] - 32.5)
            assert abs(x[0, 32] - 32.5) < 0.25, "half a pixel from the rim, where nodes stay"
        cell = 64 / cells
        assert np.abs(bends).max() <= 2 * CELL_NOISE * cell
        assert 0.10 * cell < np.std(bends) < 0.14 * cell


def test_faceswaps_nodes_all_move_and_each_way_by_itself() -> None:
    rng = np.random.default_rng(0)
    corners, middles, ties = [], [], []
    for _ in range(300):
        x, y = faceswap_maps(64, rng)
        corners.append(x[0, 0])
        middles.append(x[32, 32] - 32.5)
        ties.append(np.abs(x - y.T).max())
    deviation = 5 / 256 * 64
    assert np.std(corners) == pytest.approx(deviation, rel=0.2)
    assert np.std(middles) == pytest.approx(deviation, rel=0.2)
    assert min(ties) > 0


def test_deepfacelab_mirrors_only_where_asked() -> None:
    faces = ramps(40)

    def mirrored(flip: bool) -> int:
        blue = deepfacelab_pair(faces, SIZE, MARGIN, generator(), flip=flip).targets[:, 0]
        return int((blue[:, 32, 8] > blue[:, 32, -8]).sum())

    assert mirrored(False) == 0
    assert 8 <= mirrored(True) <= 24


def test_faceswap_mirrors_half_and_changes_colours_of_input_and_target_alike() -> None:
    pair = faceswap_pair(ramps(60), SIZE, MARGIN, generator())
    blue = pair.targets[:, 0]
    assert 18 <= int((blue[:, 32, 8] > blue[:, 32, -8]).sum()) <= 42
    red = pair.targets[:, 2].mean((1, 2))
    assert float(red.std()) > 0.03
    shared = torch.corrcoef(torch.stack([red, pair.inputs[:, 2].mean((1, 2))]))[0, 1]
    assert float(shared) > 0.95


def test_masks_move_with_the_target() -> None:
    faces = ramps(8)
    faces[:, 0] = faces[:, 3]
    pair = deepfacelab_pair(faces, SIZE, MARGIN, generator())
    assert float(((pair.targets[:, :1] > 0.5).float() - (pair.masks > 0.5).float()).abs().mean()) < 0.01
