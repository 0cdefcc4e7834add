"""What changes in the course of a run. Configuration and share of the budget in, rates and strengths out.

All of it is a pure function of how much of the budget is used, so a run can be stopped and resumed anywhere.
"""

from __future__ import annotations

import math

from training.checkpoint import Progress
from training.config import TrainConfig

LAST_RATE = 0.02
"""Of the full learning rate, at the end of the run."""


def budget_used(config: TrainConfig, progress: Progress) -> float:
    """0 at the start of the run, 1 at its end."""
    shares = [0.0]
    if config.iterations is not None:
        shares.append(progress.iteration / config.iterations)
    if config.minutes is not None:
        shares.append(progress.elapsed_s / (60 * config.minutes))
    return min(1.0, max(shares))


def learning_rate(config: TrainConfig, iteration: int, used: float) -> float:
    """Linear warm-up, a plateau, a cosine down to LAST_RATE."""
    warm = min(1.0, (iteration + 1) / config.warmup) if config.warmup else 1.0
    late = max(0.0, used - config.decay_from) / max(1 - config.decay_from, 1e-9)
    return config.learning_rate * warm * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * late)))


def warp_strength(config: TrainConfig, used: float) -> float:
    """1 at the start, 0 from `warp_until` on."""
    if config.warp_until == 0:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, used / config.warp_until)))


def occluded_share(config: TrainConfig, used: float) -> float:
    """0 at the start, all of `augment.occluded` from `augment.occlude_by` on."""
    by = config.augment.occlude_by
    return config.augment.occluded * (min(1.0, used / by) if by else 1.0)


def still_small(config: TrainConfig, used: float) -> bool:
    """Whether the model is trained at half its resolution, see Note [Growing] in training.model."""
    return config.model.grows and used < config.half_until


def average_decay(config: TrainConfig, iteration: int) -> float:
    """Of the averaged weights: young averages follow quickly, so that a short run is not averaged with its start."""
    return min(config.ema, iteration / (iteration + 20))
