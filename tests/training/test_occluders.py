"""Things in front of a face hide it from the input alone, and take from the mask exactly what they hide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.occluders import GRAIN, MOST_HIDDEN, SHADOWS, Occluded, draw_things, occlude, shows_another

SIDE, MANY = 64, 300
OPAQUE = 1e-6
"""Of what is left of a mask behind the middle of a thing."""
ROUNDING = 1e-6
"""float32 products of pictures in [0, 1]."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, seed: int = 1) -> Tensor:
    coarse = torch.rand(count, 3, 5, 5, generator=seeded(seed)) * 0.6 + 0.2
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=True)


def masks(count: int) -> Tensor:
    steps = (torch.arange(SIDE) + 0.5) / SIDE - 0.5
    disc = (steps[None] ** 2 + steps[:, None] ** 2 < 0.4**2).float()
    return disc.expand(count, 1, SIDE, SIDE).contiguous()


def covered(inputs: Tensor, seen: Tensor, share: float, seed: int = 0) -> Occluded:
    """Things in front of `inputs`, some of them pieces of other inputs."""
    things = draw_things(len(inputs), seeded(seed))
    return occlude(inputs, seen, things, share, inputs.flip(0)[shows_another(things, share)])


def test_nothing_in_front_changes_nothing() -> None:
    inputs, seen = pictures(8), masks(8)
    result = covered(inputs, seen, 0.0)
    assert torch.equal(result.inputs, inputs)
    assert torch.equal(result.masks, seen)


def test_what_is_given_is_left_alone() -> None:
    inputs, seen = pictures(8), masks(8)
    before = inputs.clone(), seen.clone()
    covered(inputs, seen, 1.0)
    assert torch.equal(inputs, before[0])
    assert torch.equal(seen, before[1])


def test_the_mask_loses_exactly_what_is_hidden() -> None:
    """Where a mask is gone, the picture says nothing about what was there; where it stays, only a shadow may fall."""
    seen = masks(MANY)
    stripes = torch.arange(SIDE).remainder(2).float().view(1, 1, 1, SIDE) * 0.2
    light, dark = (torch.full((MANY, 3, SIDE, SIDE), 0.4) + each for each in (stripes, 0.2 - stripes))
    first, second = (covered(each, seen, 1.0, 3) for each in (light, dark))
    assert torch.equal(first.masks, second.masks)
    behind = ((first.masks < OPAQUE) & (seen > 0)).expand(-1, 3, -1, -1)
    assert int(behind.sum()) > 10_000
    # Pieces of other pictures, one in twelve, are made of those stripes themselves.
    same = ((first.inputs - second.inputs).abs() < 1e-3)[behind].float().mean()
    assert 0.88 < float(same) < 1
    stays = (first.masks == seen) & (seen > 0)
    assert float((first.inputs - light)[stays.expand(-1, 3, -1, -1)].max()) <= ROUNDING


def test_a_thing_hides_part_of_a_face_but_never_most_of_it() -> None:
    seen = masks(MANY)
    left = covered(pictures(MANY), seen, 1.0).masks
    hidden = 1 - left.sum(dim=(1, 2, 3)) / seen.sum(dim=(1, 2, 3))
    assert float(hidden.min()) >= -ROUNDING
    assert 0.5 < float(hidden.max()) < MOST_HIDDEN
    assert 0.1 < float(hidden.mean()) < 0.4
    assert float((hidden > 0.01).float().mean()) > 0.6


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_the_share_is_kept_and_some_shadows_fall_without_a_thing(share: float) -> None:
    inputs, seen = pictures(MANY), masks(MANY)
    result = covered(inputs, seen, share, 5)
    changed = (result.inputs != inputs).flatten(1).any(dim=1)
    hidden = (result.masks != seen).flatten(1).any(dim=1)
    shaded = changed & ~hidden
    assert float(changed.float().mean()) < share * (1 + SHADOWS) + 0.06
    assert 0.5 * share < float(hidden.float().mean()) < share + 0.05
    assert bool(shaded.any())
    inside = (seen > 0).expand(-1, 3, -1, -1)
    assert bool(((result.inputs <= inputs + ROUNDING) | ~inside)[shaded].all())


def test_the_numbers_alone_decide_and_as_many_are_drawn_whatever_is_shown() -> None:
    inputs, seen = pictures(6), masks(6)
    first, second, other = (covered(inputs, seen, 0.8, seed) for seed in (2, 2, 3))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.inputs, other.inputs)


def test_a_piece_of_another_picture_shows_that_picture_and_no_other_thing_does() -> None:
    inputs, seen = pictures(MANY), torch.ones(MANY, 1, SIDE, SIDE)
    things = draw_things(MANY, seeded(4))
    another = shows_another(things, 1.0)
    assert 0.04 < float(another.float().mean()) < 0.12
    shown = {}
    for level in (0.0, 1.0):
        pieces = torch.full((int(another.sum()), 3, SIDE, SIDE), level)
        shown[level] = occlude(inputs, seen, things, 1.0, pieces)
    differs = (shown[0.0].inputs != shown[1.0].inputs).flatten(1).any(dim=1)
    thing = (shown[0.0].masks < OPAQUE).flatten(1).any(dim=1)
    assert torch.equal(differs, another & (shown[0.0].masks < 1).flatten(1).any(dim=1))
    for n in torch.nonzero(another & thing).flatten():
        assert float(shown[0.0].inputs[n][:, shown[0.0].masks[n, 0] < OPAQUE].max()) < ROUNDING


def test_the_grain_is_normal_noise_cut_from_many_places() -> None:
    from training.occluders import _Draws, _grain

    numbers = torch.rand(50, 2, generator=seeded())
    numbers[0] = 1 - 1e-6  # the last corner of the sheet goes on at the first
    grain = _grain(_Draws(numbers), GRAIN // 8)
    assert grain.shape == (50, 1, GRAIN // 8, GRAIN // 8)
    assert abs(float(grain.mean())) < 0.02
    assert float(grain.std()) == pytest.approx(1, abs=0.02)
    assert float((grain[1:] * grain[:-1]).mean().abs()) < 0.02


def test_pictures_stay_pictures_and_one_face_is_enough() -> None:
    for seed in range(20):
        result = covered(pictures(1), masks(1), 1.0, seed)
        for part in result:
            assert part.dtype == torch.float32
            assert 0 <= float(part.min()) <= float(part.max()) <= 1


def test_things_differ_in_colour_place_and_form() -> None:
    seen = torch.ones(MANY, 1, SIDE, SIDE)
    result = covered(torch.full((MANY, 3, SIDE, SIDE), 0.5), seen, 1.0, 7)
    thing = result.masks < OPAQUE
    there = thing.flatten(1).any(dim=1)
    places = torch.stack([each.nonzero().float().mean(dim=0)[1:] for each in thing[there]])
    tones = torch.stack([i[:, t[0]].mean(dim=1) for i, t in zip(result.inputs[there], thing[there], strict=True)])
    assert float(places.std(dim=0).min()) > SIDE / 10
    assert float(tones.std(dim=0).min()) > 0.1
    # Not all of one colour: light falls on a round thing from one side.
    shaded = [float(i[:, t[0]].std(dim=1).mean()) for i, t in zip(result.inputs[there], thing[there], strict=True)]
    assert sum(each > 0.02 for each in shaded) > 0.5 * len(shaded)
