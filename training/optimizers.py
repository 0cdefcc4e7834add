"""How gradients become steps. A configuration and weights in, a torch optimizer out.

Whatever an optimizer remembers of a weight is a tensor of its shape or the number of steps, `step`; randomness is
derived from that number. So training.checkpoint can store it, and a resumed run goes on with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from training.config import TrainConfig

BETAS = 0.9, 0.99
"""Of adamw. The peers and schedule-free use their own, below."""
KERAS_EPSILON = 1e-7
BELIEF_BETAS, BELIEF_EPSILON = (0.9, 0.999), 1e-6
"""DeepFaceLab's, the latter the resolution of float32 in decimal digits."""
RIPPLE_STEPS = 500
"""Period of the cosine that DeepFaceLab's rate follows while lr_dropout is on."""
FREE_BETAS, FREE_EPSILON = (0.9, 0.999), 1e-8
"""Of schedule-free; the first is how near gradients are taken to the average, as the paper recommends."""


def make_optimizer(config: TrainConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimizer that `config.optimizer` names, at `config.learning_rate`; the loop may change `lr` of its groups.

    adamw          torch's, decoupled decay `config.weight_decay`
    adam           torch's with Keras' defaults, no decay: faceswap's
    adabelief      DeepFaceLab's, see AdaBelief
    schedule-free  see ScheduleFree; what is evaluated then comes from `average`
    """
    weights, rate = list(parameters), config.learning_rate
    if config.optimizer == "adabelief":
        return AdaBelief(weights, rate, dropout=config.lr_dropout, seed=config.seed)
    if config.optimizer == "schedule-free":
        return ScheduleFree(weights, rate, weight_decay=config.weight_decay, warmup=config.warmup)
    if config.optimizer == "adam":
        return torch.optim.Adam(weights, rate, betas=(0.9, 0.999), eps=KERAS_EPSILON, fused=True)
    return torch.optim.AdamW(weights, rate, betas=BETAS, weight_decay=config.weight_decay, fused=True)


@torch.no_grad()
def average(
    optimizer: torch.optim.Optimizer, averages: Sequence[Tensor], weights: Sequence[Tensor], decay: float
) -> None:
    """Let `averages`, the weights that are evaluated, follow `weights` after a step.

    With schedule-free they are its own averages, and `decay` counts for nothing; before its first step the weights.
    """
    if isinstance(optimizer, ScheduleFree):
        torch._foreach_copy_(list(averages), [optimizer.state[w].get("average", w) for w in weights])
    else:
        torch._foreach_lerp_(list(averages), list(weights), 1 - decay)


class _Stepper(torch.optim.Optimizer):
    """Counts the steps of each weight, and steps those of one count together."""

    def __init__(self, weights: Iterable[Tensor], rate: float, decay: float = 0.0) -> None:
        super().__init__(list(weights), {"lr": rate, "weight_decay": decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Change every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_count: dict[int, list[tuple[int, Tensor]]] = {}
            for place, weight in enumerate(group["params"]):
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32)
                    state.update(self._begin(weight))
                state["step"] += 1
                by_count.setdefault(int(state["step"]), []).append((place, weight))
            for count, placed in by_count.items():
                self._update(group, count, [place for place, _ in placed], [weight for _, weight in placed])
        return loss

    def _remembered(self, key: str, weights: list[Tensor]) -> list[Tensor]:
        return [self.state[weight][key] for weight in weights]

    def _begin(self, weight: Tensor) -> dict[str, Tensor]:
        """What is remembered of a weight before its first step."""
        raise NotImplementedError

    def _update(self, group: dict[str, Any], count: int, places: list[int], weights: list[Tensor]) -> None:
        """Step number `count`, from 1, of the weights at these places of the group."""
        raise NotImplementedError


class AdaBelief(_Stepper):
    """AdaBelief (arXiv:2010.07468) as DeepFaceLab has it: no correction of the first steps, no decay.

    With `dropout` below 1 each step changes only that share of the values, drawn anew in every step from the seed,
    the number of the step and the place of the weight; and the rate follows a cosine between itself and 0.
    """

    def __init__(self, weights: Iterable[Tensor], rate: float, *, dropout: float = 1.0, seed: int = 0) -> None:
        super().__init__(weights, rate)
        self._dropout, self._seed = dropout, seed

    def _begin(self, weight: Tensor) -> dict[str, Tensor]:
        return {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}

    def _update(self, group: dict[str, Any], count: int, places: list[int], weights: list[Tensor]) -> None:
        gradients = [_gradient(weight) for weight in weights]
        means, squares = self._remembered("exp_avg", weights), self._remembered("exp_avg_sq", weights)
        torch._foreach_lerp_(means, gradients, 1 - BELIEF_BETAS[0])
        surprises = torch._foreach_sub(gradients, means)
        torch._foreach_mul_(squares, BELIEF_BETAS[1])
        torch._foreach_addcmul_(squares, surprises, surprises, 1 - BELIEF_BETAS[1])
        divisors = torch._foreach_sqrt(squares)
        torch._foreach_add_(divisors, BELIEF_EPSILON)
        steps, rate = torch._foreach_div(means, divisors), group["lr"]
        if self._dropout < 1:
            rate *= (math.cos(2 * math.pi * count / RIPPLE_STEPS) + 1) / 2
            torch._foreach_mul_(
                steps, [self._chosen(w, count, place) for w, place in zip(weights, places, strict=True)]
            )
        torch._foreach_add_(weights, steps, alpha=-rate)

    def _chosen(self, weight: Tensor, count: int, place: int) -> Tensor:
        """Of the weight's shape: 1 where this step changes it, else 0."""
        generator = torch.Generator(weight.device)
        # Odd factors of 64 bits keep neighbouring steps and places apart.
        generator.manual_seed((self._seed + count * 0x9E3779B97F4A7C15 + place * 0xD1B54A32D192ED03) % (1 << 63))
        return torch.empty_like(weight).bernoulli_(self._dropout, generator=generator)


class ScheduleFree(_Stepper):
    """Schedule-free AdamW (arXiv:2405.15682, algorithm 1): no rate has to fall, the run may end at any time.

    Three points: `fast` takes the steps, `average` is the mean of where it was, and the weights themselves, where
    gradients are taken, lie between them. Nothing is switched between training and looking: `average` (the function)
    copies the average into the weights that are evaluated. The steps of the warm-up count in the mean with the square
    of their rate, as in the paper; the rate is taken to be constant afterwards.
    """

    def __init__(self, weights: Iterable[Tensor], rate: float, *, weight_decay: float = 0.0, warmup: int = 0) -> None:
        super().__init__(weights, rate, weight_decay)
        self._warmup = warmup

    def _begin(self, weight: Tensor) -> dict[str, Tensor]:
        start = {key: weight.detach().clone() for key in ("fast", "average")}
        return start | {"exp_avg_sq": torch.zeros_like(weight)}

    def share(self, count: int) -> float:
        """What step `count`, from 1, has of the mean of all steps up to it."""
        rising = min(count, self._warmup)
        # Sum of k^2 for k in 1..rising, in units of the last one's square, and 1 for every step after them.
        total = rising * (rising + 1) * (2 * rising + 1) / 6 / max(self._warmup, 1) ** 2 + count - rising
        return min(1.0, count / max(self._warmup, 1)) ** 2 / total

    def _update(self, group: dict[str, Any], count: int, places: list[int], weights: list[Tensor]) -> None:
        gradients = [_gradient(weight) for weight in weights]
        squares, fast = self._remembered("exp_avg_sq", weights), self._remembered("fast", weights)
        averages = self._remembered("average", weights)
        near, long = FREE_BETAS
        torch._foreach_mul_(squares, long)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - long)
        divisors = torch._foreach_div(squares, 1 - long**count)
        torch._foreach_sqrt_(divisors)
        torch._foreach_add_(divisors, FREE_EPSILON)
        torch._foreach_addcdiv_(fast, gradients, divisors, -group["lr"])
        if group["weight_decay"]:
            torch._foreach_add_(fast, weights, alpha=-group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(averages, fast, self.share(count))
        torch._foreach_copy_(weights, fast)
        torch._foreach_lerp_(weights, averages, near)


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
