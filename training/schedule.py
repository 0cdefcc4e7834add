"""What changes in the course of a run. Configuration and share of the budget in, rates and strengths out.

All of it is a pure function of how much of the budget is used, so a run can be stopped and resumed anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from training.checkpoint import Progress
from training.config import DEFAULT_MINUTES, TrainConfig
from training.plateau import Outlook, Plateau, forecast

LAST_RATE = 0.02
"""Of the full learning rate, at the end of the run."""


class Budget:
    """How much of a run is over: by its minutes and its steps, or by its plateau. The looks tell it all it knows.

    With `until_plateau`, minutes and steps are only where the run ends at the latest.
    """

    def __init__(self, config: TrainConfig, history: Sequence[Mapping[str, float]] = ()) -> None:
        """`history`: the looks of the run until now, oldest first."""
        self._config = config
        self._looks = list(history)
        self.plateau: Plateau | None = None
        if config.until_plateau:
            cap_s = None if config.minutes is None else 60 * config.minutes
            by_steps = config.iterations is not None
            self.plateau = Plateau(
                decay_from=config.decay_from,
                horizon=float(config.iterations or cap_s or 60 * DEFAULT_MINUTES),
                cap=float(config.iterations) if config.iterations is not None else cap_s,
                clock="iteration" if by_steps else "elapsed_s",
            )
            self.plateau.replay(history)
        self.outlook = self._outlook()
        """What more training would bring; None while the looks are too few to tell."""

    def used(self, progress: Progress) -> float:
        """0 at the start of the run, 1 at its end."""
        if self.plateau is not None:
            by_steps = self.plateau.clock == "iteration"
            return self.plateau.used(progress.iteration if by_steps else progress.elapsed_s)
        shares = [0.0]
        if self._config.iterations is not None:
            shares.append(progress.iteration / self._config.iterations)
        if self._config.minutes is not None:
            shares.append(progress.elapsed_s / (60 * self._config.minutes))
        return min(1.0, max(shares))

    def add(self, look: Mapping[str, float]) -> None:
        """Hear of a look at the held-out faces."""
        self._looks.append(look)
        if self.plateau is not None:
            self.plateau.add(look)
        self.outlook = self._outlook()

    def left_s(self, progress: Progress) -> float | None:
        """Training time until the end, on the way to a plateau as the looks promise it; None: not known yet."""
        used = self.used(progress)
        if self.plateau is None or self.plateau.decided_at is not None:
            return progress.elapsed_s * (1 - used) / used if used else None
        if self.outlook is None or self.outlook.eta_s is None:
            return None
        flat_at_s = max(progress.elapsed_s + self.outlook.eta_s, self.plateau.steady_from)
        return flat_at_s / self._config.decay_from - progress.elapsed_s

    def _outlook(self) -> Outlook | None:
        timed = [look for look in self._looks if "elapsed_s" in look]
        # A rate that is still up will add more by its fall, so only a run that has waited for it is ever called flat.
        return forecast(timed, rate_will_fall=self.plateau is None or self.plateau.flat_at is None)


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
