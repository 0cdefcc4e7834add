"""Each optimizer takes the steps that its formula says, and goes on with the same bits after its state was stored."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from training.config import TrainConfig
from training.optimizers import AdaBelief, ScheduleFree, average, make_optimizer

NAMES = ["adamw", "adam", "adabelief", "schedule-free"]
RATE = 1e-2
CONFIG = TrainConfig(learning_rate=RATE, weight_decay=0.1, warmup=3)
GRADIENTS = [torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.0]), torch.tensor([-1.0, 1e-3])]
FLOAT32 = 1e-6


def weights(values: tuple[float, ...] = (1.0, -1.0)) -> list[Tensor]:
    return [torch.tensor(values, requires_grad=True)]


def made(name: str, parameters: list[Tensor], **changes: Any) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"optimizer": name} | changes
    return make_optimizer(replace(CONFIG, **settings), parameters)


def walk(optimizer: torch.optim.Optimizer, parameters: list[Tensor], gradients: list[Tensor]) -> None:
    for gradient in gradients:
        for parameter in parameters:
            parameter.grad = gradient.clone()
        optimizer.step()


def test_adamw_is_torchs() -> None:
    ours, theirs = weights(), weights()
    walk(made("adamw", ours), ours, GRADIENTS)
    walk(torch.optim.AdamW(theirs, RATE, betas=(0.9, 0.99), weight_decay=0.1), theirs, GRADIENTS)
    assert torch.allclose(ours[0], theirs[0], atol=FLOAT32)


def test_adam_takes_a_first_step_of_the_rate_and_does_not_decay() -> None:
    ours = weights()
    walk(made("adam", ours), ours, GRADIENTS[:1])
    assert ours[0].tolist() == pytest.approx([1 - RATE, -1 + RATE], abs=FLOAT32)


def test_adabelief_by_hand() -> None:
    ours = weights((1.0, -1.0))
    walk(made("adabelief", ours), ours, GRADIENTS)
    for index, value in enumerate((1.0, -1.0)):
        mean = square = 0.0
        for gradient in GRADIENTS:
            g = float(gradient[index])
            mean = 0.9 * mean + 0.1 * g
            square = 0.999 * square + 0.001 * (g - mean) ** 2
            value -= RATE * mean / (math.sqrt(square) + 1e-6)
        assert ours[0].tolist()[index] == pytest.approx(value, abs=1e-5)


def test_lr_dropout_changes_its_share_and_ripples() -> None:
    ours = [torch.zeros(20_000, requires_grad=True)]
    optimizer = made("adabelief", ours, lr_dropout=0.3)
    walk(optimizer, ours, [torch.ones(20_000)])
    first = ours[0].detach().clone()
    assert float((first != 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    ripple = (math.cos(2 * math.pi / 500) + 1) / 2
    plain = 0.1 / (math.sqrt(0.001 * 0.81) + 1e-6)
    assert float(first.min()) == pytest.approx(-RATE * ripple * plain, rel=1e-4)
    walk(optimizer, ours, [torch.ones(20_000)])
    again = ours[0].detach() != first
    assert float((again & (first != 0)).float().mean()) == pytest.approx(0.09, abs=0.02)
    for state in optimizer.state.values():
        state["step"].fill_(249)
    before = ours[0].detach().clone()
    walk(optimizer, ours, [torch.ones(20_000)])
    assert torch.equal(ours[0].detach(), before), "half a period on, the rate is 0"


def test_two_weights_of_one_shape_drop_out_differently() -> None:
    ours = [torch.zeros(1000, requires_grad=True) for _ in range(2)]
    walk(AdaBelief(ours, RATE, dropout=0.5), ours, [torch.ones(1000)])
    assert not torch.equal(ours[0] == 0, ours[1] == 0)


def test_schedule_free_by_hand() -> None:
    ours = weights()
    optimizer = made("schedule-free", ours)
    walk(optimizer, ours, GRADIENTS)
    averages = weights()
    with torch.no_grad():
        average(optimizer, averages, ours, 0.5)
    rates = [1 / 3, 2 / 3, 1.0]
    for index, start in enumerate((1.0, -1.0)):
        fast = mean = between = start
        square = total = 0.0
        for count, gradient in enumerate(GRADIENTS, start=1):
            g = float(gradient[index])
            square = 0.999 * square + 0.001 * g * g
            step = g / (math.sqrt(square / (1 - 0.999**count)) + 1e-8)
            fast -= RATE * step + RATE * 0.1 * between
            total += rates[count - 1] ** 2
            mean += (fast - mean) * rates[count - 1] ** 2 / total
            between = 0.1 * fast + 0.9 * mean
        assert ours[0].tolist()[index] == pytest.approx(between, abs=1e-5)
        assert averages[0].tolist()[index] == pytest.approx(mean, abs=1e-5)


def test_without_warm_up_the_average_is_the_plain_mean() -> None:
    free = ScheduleFree(weights(), RATE)
    assert [free.share(count) for count in (1, 2, 10)] == pytest.approx([1, 1 / 2, 1 / 10])
    free = ScheduleFree(weights(), RATE, warmup=2)
    assert [free.share(count) for count in (1, 2, 3)] == pytest.approx([1, 1 / 1.25, 1 / 2.25])


def test_averages_follow_the_weights_of_the_others() -> None:
    ours, averages = weights((1.0, 0.0)), [torch.zeros(2)]
    average(made("adamw", ours), averages, ours, 0.75)
    assert averages[0].tolist() == pytest.approx([0.25, 0.0])


def test_averages_are_the_weights_before_the_first_schedule_free_step() -> None:
    ours, averages = weights(), [torch.zeros(2)]
    average(made("schedule-free", ours), averages, ours, 0.75)
    assert averages[0].tolist() == [1.0, -1.0]


@pytest.mark.parametrize("name", NAMES)
def test_state_is_of_the_weights_shape_or_the_number_of_steps(name: str) -> None:
    ours = [torch.ones(2, 3, requires_grad=True)]
    optimizer = made(name, ours)
    walk(optimizer, ours, [torch.ones(2, 3)] * 2)
    state = optimizer.state[ours[0]]
    assert float(state["step"]) == 2
    assert all(value.shape == (2, 3) for key, value in state.items() if key != "step")


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_with_the_stored_state_goes_on_with_the_same_bits(name: str) -> None:
    gradients = [torch.randn(50, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    changes = {"lr_dropout": 0.3} if name == "adabelief" else {}
    whole = [torch.ones(50, requires_grad=True)]
    walk(made(name, whole, **changes), whole, gradients)

    half = [torch.ones(50, requires_grad=True)]
    first = made(name, half, **changes)
    walk(first, half, gradients[:4])
    rest = [half[0].detach().clone().requires_grad_()]
    second = made(name, rest, **changes)
    second.state[rest[0]] = {key: value.clone() for key, value in first.state[half[0]].items()}
    walk(second, rest, gradients[4:])
    assert torch.equal(rest[0], whole[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_loop_may_change_the_rate(name: str) -> None:
    ours = weights()
    optimizer = made(name, ours, weight_decay=0.0)
    optimizer.param_groups[0]["lr"] = 0.0
    walk(optimizer, ours, GRADIENTS)
    assert ours[0].tolist() == [1.0, -1.0]


@pytest.mark.parametrize("name", NAMES)
def test_weights_without_a_gradient_stay(name: str) -> None:
    ours = [*weights(), *weights()]
    ours[0].grad = torch.ones(2)
    optimizer = made(name, ours)
    optimizer.step()
    assert ours[1].tolist() == [1.0, -1.0]
    assert not optimizer.state.get(ours[1])


@pytest.mark.parametrize("name", ["adabelief", "schedule-free"])
def test_a_closure_is_called_with_gradients(name: str) -> None:
    ours = weights()

    def closure() -> float:
        loss = ours[0].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert made(name, ours).step(closure) == 2.0
    assert ours[0].tolist() != [1.0, -1.0]
