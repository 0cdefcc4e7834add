"""The focal frequency loss is the formula of the paper, and looks at the frequency that is worst."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from training.frequency import focal_frequency

SIDE = 16
ROUNDING = 1e-5
"""float32 transforms beside float64 ones, relative."""


def picture(seed: int) -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def wave(cycles: int, size: float) -> Tensor:
    phase = 2 * torch.pi * cycles * torch.arange(SIDE) / SIDE
    return (size * torch.cos(phase)).expand(1, 1, SIDE, SIDE)


def test_it_is_the_formula_of_the_paper() -> None:
    """Equations 3 to 8 of arXiv 2012.12821 with alpha 1, with the Fourier matrix written out, in float64."""
    u = np.arange(SIDE)
    fourier = np.exp(-2j * np.pi * np.outer(u, u) / SIDE) / np.sqrt(SIDE)
    wanted = []
    for real, fake in zip(picture(0).flatten(0, 1).double(), picture(1).flatten(0, 1).double(), strict=True):
        distance = np.abs(fourier @ real.numpy() @ fourier.T - fourier @ fake.numpy() @ fourier.T)
        wanted.append((distance / distance.max() * distance**2).mean())
    ours = float(focal_frequency(picture(0) - picture(1)))
    assert ours == pytest.approx(float(np.mean(wanted)), rel=ROUNDING)


def test_nothing_wrong_costs_nothing_and_has_a_finite_gradient() -> None:
    error = torch.zeros(1, 3, SIDE, SIDE, requires_grad=True)
    loss = focal_frequency(error)
    (gradient,) = torch.autograd.grad(loss, error)
    assert float(loss.detach()) == 0
    assert bool(torch.isfinite(gradient).all())


def test_the_worst_frequency_gets_more_than_its_share_of_the_gradient() -> None:
    error = (wave(2, 0.4) + wave(7, 0.1)).requires_grad_()
    (gradient,) = torch.autograd.grad(focal_frequency(error), error)
    pull = torch.fft.fft2(gradient).abs()[0, 0, 0]
    assert float(pull[2] / pull[7]) == pytest.approx(16, rel=0.01)  # 4 for the error, 4 for its weight


def test_half_precision_is_computed_in_float32() -> None:
    assert focal_frequency((picture(0) - picture(1)).bfloat16()).dtype == torch.float32
