"""Activations that are computed again give the same gradients and need less memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from tests.tiny_run import TINY
from training.config import load_recipe
from training.model import ModelConfig, SwapModel, recompute_activations
from training.models import build_model

CONFIG = replace(TINY.model, resolution=64, residuals=2)


def built(config: ModelConfig, *, recompute: bool) -> SwapModel:
    torch.manual_seed(0)
    model = build_model(config)
    if recompute:
        recompute_activations(model)
    return model


def loss_of(model: SwapModel, side: int) -> Tensor:
    faces = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    painted, mask, _ = model.paint(faces, "identity")
    loss: Tensor = (painted.face - faces).square().mean() + painted.mask.mean() + mask.mean()
    return loss


def gradients(model: SwapModel, side: int = 64) -> dict[str, Tensor]:
    torch.autograd.backward(loss_of(model, side))
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def kept_bytes(model: SwapModel, side: int = 64) -> int:
    """What autograd holds between forward and backward, each tensor once, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, tuple[Tensor, int]] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = (x, storage.nbytes())  # held, so that no address is given out twice
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        loss_of(model, side)
    return sum(size for _, size in held.values())


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, family="liae"), replace(CONFIG, grows=True)])
def test_gradients_are_equal(config: ModelConfig) -> None:
    kept, again = (gradients(built(config, recompute=recompute)) for recompute in (False, True))
    assert list(kept) == list(again)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_gradients_under_autocast_are_equal() -> None:
    results = []
    for recompute in (False, True):
        model = built(CONFIG, recompute=recompute)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, 64)
        torch.autograd.backward(loss)
        results.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_memory_falls() -> None:
    config = load_recipe("tiny-64").model
    kept, again = (kept_bytes(built(config, recompute=recompute)) for recompute in (False, True))
    assert again < 0.6 * kept


def test_painting_without_gradients_computes_nothing_twice() -> None:
    model = built(CONFIG, recompute=True)
    calls: list[int] = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model(torch.rand(1, 3, 64, 64), "identity")
    without = len(calls)
    gradients(model)
    assert len(calls) > 2 * without
