"""One decoder paints both people: the swap goes through what they share, and inter B belongs to the performer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.tiny_run import TINY
from training.config import load_recipe
from training.liae import LiaeAutoencoder
from training.models import build_model, count_macs, count_parameters

ALIKE = 1.1
"""How much more than the same sizes with a decoder each a swap may cost: the shared decoder reads two code maps."""
CONFIG = replace(TINY.model, family="liae")


@pytest.fixture(name="model")
def _model() -> LiaeAutoencoder:
    torch.manual_seed(0)
    return LiaeAutoencoder(CONFIG)


def faces(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def reached(model: LiaeAutoencoder, picture: Tensor) -> set[str]:
    """The parts of the model that a picture's gradient reaches."""
    model.zero_grad(set_to_none=True)
    torch.autograd.backward(picture.sum())
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}


def test_the_family_is_built_by_its_name(model: LiaeAutoencoder) -> None:
    assert isinstance(build_model(CONFIG), LiaeAutoencoder)
    painted, mask, code = model.paint(faces(), "identity")
    assert painted.face.shape == (2, 3, 32, 32)
    assert painted.mask.shape == mask.shape == (2, 1, 32, 32)
    assert code is not None
    assert code.shape == (2, CONFIG.code)


def test_the_performer_is_painted_through_both_inters_and_the_identity_through_one(model: LiaeAutoencoder) -> None:
    assert reached(model, model.paint(faces(), "identity")[0].face) == {"encoder", "decoder"}
    assert reached(model, model.paint(faces(), "performer")[0].face) == {"encoder", "decoder", "inter_b"}


def test_the_swap_does_not_hear_of_the_performers_own_inter(model: LiaeAutoencoder) -> None:
    with torch.no_grad():
        before = [model(faces(), side)[0].face for side in ("identity", "performer")]
        model.inter_b.from_code.weight.add_(1.0)
        after = [model(faces(), side)[0].face for side in ("identity", "performer")]
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_the_mask_shows_the_face_given_whoever_paints(model: LiaeAutoencoder) -> None:
    with torch.no_grad():
        assert torch.equal(model(faces(), "identity")[1], model(faces(), "performer")[1])


def test_a_swap_costs_about_what_the_same_sizes_cost_with_two_decoders() -> None:
    ours = load_recipe("light-128").model
    liae = replace(ours, family="liae")
    assert count_macs(ours) < count_macs(liae) < ALIKE * count_macs(ours)
    assert count_parameters(build_model(liae)) < ALIKE * count_parameters(build_model(ours))


def test_it_learns_to_repaint_both_people(model: LiaeAutoencoder) -> None:
    skin = {"identity": torch.tensor([0.2, 0.4, 0.8]), "performer": torch.tensor([0.7, 0.5, 0.2])}
    pictures = {side: (faces() * 0.2 + colour.view(3, 1, 1)).clamp(0, 1) for side, colour in skin.items()}
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def wrong() -> Tensor:
        identity = model(pictures["identity"], "identity")[0].face - pictures["identity"]
        performer = model(pictures["performer"], "performer")[0].face - pictures["performer"]
        loss: Tensor = identity.abs().mean() + performer.abs().mean()
        return loss

    first = float(wrong().detach())
    for _ in range(15):
        optimizer.zero_grad()
        torch.autograd.backward(wrong())
        optimizer.step()
    assert float(wrong().detach()) < 0.8 * first
