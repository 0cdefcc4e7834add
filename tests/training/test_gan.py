"""The finish learns to tell blurred from sharp, its term sharpens, and a collapse switches it off, once."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.tiny_run import TINY
from training.augment import Pair
from training.gan import ALONE, RISE, WON, Discriminator, GanFinish, disturb
from training.losses import laplacian
from training.model import SIDES, Painted, Side

SIDE, COUNT = 32, 2
CONFIG = replace(TINY, gan=0.1, gan_from=0.5)
BEFORE, LEARNING, FULL = 0.4, 0.5, 1.0
"""Shares of a run: before the finish, while the discriminator learns alone, and at its full weight."""

Batch = tuple[dict[Side, Painted], dict[Side, Pair]]


@pytest.fixture(name="finish")
def _finish() -> GanFinish:
    torch.manual_seed(0)
    return GanFinish(CONFIG)


@pytest.fixture(name="chance")
def _chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def sharp(seed: int, count: int = COUNT) -> Tensor:
    """Pictures with fine detail on a soft ground."""
    generator = torch.Generator().manual_seed(seed)
    ground = torch.rand(count, 3, 4, 4, generator=generator)
    ground = F.interpolate(ground, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    dots = (torch.rand(count, 3, SIDE, SIDE, generator=generator) < 0.3).float()
    return (0.2 + 0.5 * ground + 0.3 * dots).clamp(0, 1)


def blurred(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(pictures, (2, 2, 2, 2), mode="replicate"), 5, 1)


def batch(seed: int, faces: Tensor | None = None) -> Batch:
    """Both people; painted blurred, or as `faces` for both."""
    painted, pairs = {}, {}
    masks = torch.ones(COUNT, 1, SIDE, SIDE)
    for shift, side in enumerate(SIDES):
        target = sharp(2 * seed + shift)
        painted[side] = Painted(blurred(target) if faces is None else faces, masks)
        pairs[side] = Pair(target, target, masks, masks, torch.zeros_like(masks))
    return painted, pairs


def taught(finish: GanFinish, chance: torch.Generator, steps: int = 60, used: float = LEARNING) -> GanFinish:
    for seed in range(steps):
        finish.learn(*batch(seed), used, chance)
    return finish


def sharpness(faces: Tensor) -> float:
    return float(laplacian(faces.detach()).abs().mean())


def test_it_learns_to_tell_blurred_from_sharp(finish: GanFinish, chance: torch.Generator) -> None:
    taught(finish, chance)
    _, pairs = batch(1000)
    whose = torch.ones(COUNT, 1, SIDE, SIDE)
    target = pairs["identity"].targets
    with torch.no_grad():
        for real, fake in zip(
            *(finish.discriminator(torch.cat([x, whose], 1) * 2 - 1) for x in (target, blurred(target))), strict=True
        ):
            assert float(real.mean()) > float(fake.mean()) + 0.5
    assert float(finish.hinge) < 1.8  # a running mean from 2
    assert float(finish.lecam[0]) > float(finish.lecam[1])


def test_descending_its_term_sharpens_what_is_blurred(finish: GanFinish, chance: torch.Generator) -> None:
    taught(finish, chance)
    painted, pairs = batch(1000)
    faces = painted["identity"].face.clone().requires_grad_()
    before = sharpness(faces)
    optimizer = torch.optim.Adam([faces], 0.01)
    for _ in range(10):
        optimizer.zero_grad()
        both = dict.fromkeys(SIDES, Painted(faces, painted["identity"].mask))
        torch.autograd.backward(finish.generator_term(both, pairs, FULL, chance))
        optimizer.step()
    assert sharpness(faces) > 1.5 * before


def test_the_term_leaves_no_gradient_in_the_discriminator_and_learning_none_in_the_paintings(
    finish: GanFinish, chance: torch.Generator
) -> None:
    painted, pairs = batch(0)
    for side in SIDES:
        painted[side].face.requires_grad_()
    torch.autograd.backward(finish.generator_term(painted, pairs, FULL, chance))
    assert all(p.grad is None and p.requires_grad for p in finish.parameters())
    pulls = [painted[side].face.grad for side in SIDES]
    assert all(pull is not None and float(pull.abs().sum()) > 0 for pull in pulls)
    held = [None if pull is None else pull.clone() for pull in pulls]
    finish.learn(painted, pairs, LEARNING, chance)
    assert all(torch.equal(a, b) for a, b in zip(held, pulls, strict=True) if a is not None and b is not None)


def test_it_does_nothing_before_its_time_and_its_weight_rises(finish: GanFinish, chance: torch.Generator) -> None:
    before = [p.detach().clone() for p in finish.parameters()]
    finish.learn(*batch(0), BEFORE, chance)
    assert all(torch.equal(a, b) for a, b in zip(before, finish.parameters(), strict=True))
    assert float(finish.steps) == 0
    assert float(finish.generator_term(*batch(0), BEFORE, chance)) == 0
    assert [finish.weight(used) for used in (BEFORE, 0.5, 0.5 + 0.5 * ALONE)] == [0, 0, pytest.approx(0)]
    assert finish.weight(0.5 + 0.5 * (ALONE + RISE / 2)) == pytest.approx(0.05)
    assert finish.weight(FULL) == CONFIG.gan


def test_without_a_weight_there_is_no_finish(chance: torch.Generator) -> None:
    finish = GanFinish(replace(CONFIG, gan=0.0))
    assert not finish.active
    assert float(finish.generator_term(*batch(0), FULL, chance)) == 0


@pytest.mark.parametrize("kind", ["wins", "strays"])
def test_a_collapse_switches_it_off_and_says_so_once(
    kind: str, finish: GanFinish, chance: torch.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "strays":
        taught(finish, chance, 20)
    with caplog.at_level(logging.WARNING):
        for seed in range(300):
            wrong = 1 - blurred(sharp(seed)) if kind == "strays" else torch.zeros(COUNT, 3, SIDE, SIDE)
            finish.learn(*batch(seed, wrong), FULL, chance)
            if not finish.active:
                break
    assert not finish.active
    says = {"wins": "tells every painting", "strays": "stray from their targets"}
    assert [says[kind] in record.message for record in caplog.records] == [True]
    if kind == "wins":
        assert float(finish.hinge) < WON
    assert all(bool(torch.isfinite(p).all()) for p in finish.parameters())
    before = [p.detach().clone() for p in finish.parameters()]
    finish.learn(*batch(0), FULL, chance)
    assert float(finish.generator_term(*batch(0), FULL, chance)) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, finish.parameters(), strict=True))
    assert len(caplog.records) == 1


def test_a_batch_that_is_not_finite_teaches_it_nothing(finish: GanFinish, chance: torch.Generator) -> None:
    before = {name: value.clone() for name, value in finish.tensors().items()}
    finish.learn(*batch(0, torch.full((COUNT, 3, SIDE, SIDE), torch.nan)), FULL, chance)
    assert finish.active
    after = finish.tensors()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_good_paintings_do_not_switch_it_off(finish: GanFinish, chance: torch.Generator) -> None:
    taught(finish, chance, 20)
    for seed in range(30):
        target = sharp(2 * seed)
        finish.learn(*batch(seed, target), FULL, chance)
    assert finish.active


def test_the_same_chance_gives_the_same_finish() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        finish = taught(GanFinish(CONFIG), torch.Generator().manual_seed(4), 5)
        states.append([*finish.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


@pytest.mark.parametrize("steps", [0, 5])
def test_it_goes_on_from_its_stored_tensors_as_if_nothing_had_happened(
    steps: int, finish: GanFinish, chance: torch.Generator
) -> None:
    taught(finish, chance, steps)
    again = GanFinish(CONFIG)
    again.load({name: x.clone() for name, x in finish.tensors().items()})
    for each in (finish, again):
        taught(each, torch.Generator().manual_seed(9), 3)
    one, other = finish.tensors(), again.tensors()
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_once_off_it_stays_off_over_an_interruption(finish: GanFinish, chance: torch.Generator) -> None:
    for seed in range(300):
        finish.learn(*batch(seed, torch.zeros(COUNT, 3, SIDE, SIDE)), FULL, chance)  # it wins
    assert not finish.active
    again = GanFinish(CONFIG)
    assert again.active
    again.load(finish.tensors())
    assert not again.active


def test_every_process_steps_along_the_mean_gradient() -> None:
    sent: list[Tensor] = []

    def average(x: Tensor) -> Tensor:
        sent.append(x)
        return x / 2  # as if another process had found nothing

    torch.manual_seed(0)
    finish = GanFinish(CONFIG, average=average)
    torch.manual_seed(0)
    alone = GanFinish(CONFIG)
    for each in (finish, alone):
        each.learn(*batch(0), LEARNING, torch.Generator().manual_seed(0))
    assert [x.numel() for x in sent] == [sum(p.numel() for p in finish.parameters()), 4]
    assert float(finish.error[0]) == pytest.approx(float(alone.error[0]) / 2)


def test_only_the_face_is_judged(finish: GanFinish, chance: torch.Generator) -> None:
    painted, pairs = batch(0)
    half = torch.ones(COUNT, 1, SIDE, SIDE)
    half[..., SIDE // 2 :] = 0
    pairs = {side: pair._replace(masks=half) for side, pair in pairs.items()}
    other = {side: Painted(torch.where(half > 0, p.face, 1 - p.face), p.mask) for side, p in painted.items()}
    terms = [
        float(finish.generator_term(each, pairs, FULL, torch.Generator().manual_seed(0))) for each in (painted, other)
    ]
    assert terms[0] == terms[1]
    assert terms[0] != 0


def test_disturbing_moves_and_brightens_whole_pictures(chance: torch.Generator) -> None:
    pictures = torch.rand(16, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    pictures[:, 3] = pictures[:, 0]
    moved = disturb(pictures, chance)
    light = moved[:, 0] - moved[:, 3]
    assert float(light.std((1, 2)).max()) < 1e-6  # the fourth channel moved along and kept its light
    assert len({round(float(each[0, 0]), 4) for each in light}) > 10
    middle = slice(4, -4)
    found = {
        (dy, dx)
        for n in range(16)
        for dy in range(-2, 3)
        for dx in range(-2, 3)
        if torch.equal(moved[n, 3, middle, middle], pictures[n, 3, 4 + dy : SIDE - 4 + dy, 4 + dx : SIDE - 4 + dx])
    }
    assert len(found) > 5


@pytest.mark.parametrize("side", [32, 64])
def test_the_discriminator_answers_for_patches_and_for_pixels(side: int) -> None:
    coarse, fine = Discriminator()(torch.rand(2, 4, side, side))
    assert coarse.shape == (2, 1, side // 8, side // 8)
    assert fine.shape == (2, 1, side, side)
