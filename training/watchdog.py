"""Keeps a run alive. The loss and the gradient of every step in, a verdict out; what is broken is taken back.

Note [When a run goes wrong]
    A loss or a gradient that is not finite, and a loss far beyond anything (`OUTLIER`), never reach the weights: the
    step is skipped. A loss that is merely high (`HIGH`) is let through, for a batch may be hard. After `patience` such
    steps in a row, of either kind, the run has left its way: the weights become the averaged ones of the last good
    moment, the optimizer forgets its moments, and the rate starts from nothing towards half of what it was, to recover
    over thousands of steps. When `MOST_ROLLBACKS` in a row have not led to a new good moment, the run ends with a
    sentence.

    What is high is measured against the median of the last `WINDOW` good losses, in units of their spread (the median
    of the deviations, so that one bad batch in ten changes nothing) and of the median itself. A loss that drifts -
    occluders, a discriminator, a falling warp - takes the median along; where a schedule makes it jump, the loop says
    so by `forget_level`.

    All of it is a function of the losses, and `tensors` holds all of it, so a resumed run decides as one that was not
    interrupted. It costs one copy of the weights in main memory, and as much in latest.safetensors.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice
from statistics import median

import torch
from torch import Tensor, nn

from realtime.errors import TrainingError

WINDOW = 200
"""Losses that say what is normal."""
FEWEST = 10
"""Losses until anything is."""
HIGH, HIGH_SPREADS = 2.0, 8.0
"""Times the median, and spreads above it: a loss beyond both is high."""
OUTLIER, OUTLIER_SPREADS = 10.0, 80.0
CALM = 1.25
"""Times the median: newer losses below it make a moment good."""
MAD_TO_SIGMA = 1.4826
"""Of a normal distribution."""
RATE_CUT = 0.5
RECOVERY = 2000
"""Good steps in which the rate doubles again."""
WARMUP = 50
"""Steps after a rollback until the rate is up: the optimizer has to gather its moments anew."""
MOST_ROLLBACKS = 6
_log = logging.getLogger(__name__)


class Verdict(Enum):
    """What becomes of a step."""

    STEP = "step"
    """The gradients may reach the weights."""
    SKIP = "skip"
    """They must not."""
    ROLLED_BACK = "rolled back"
    """They must not, and the weights are those of the last good moment again."""


class Watchdog:
    """Judges every step of one model, see Note [When a run goes wrong]. Owns the copy of the last good weights."""

    def __init__(
        self,
        model: nn.Module,
        ema: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        patience: int = 20,
        keep_every: int = 100,
    ) -> None:
        """`ema` is a copy of `model` that follows it; `begin` has to be called before the first step."""
        self._model, self._ema, self._optimizer = model, ema, optimizer
        self._patience, self._keep_every = patience, keep_every
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._factor, self._since_rollback = 1.0, WARMUP
        self._bad = self._healthy = self._in_a_row = self._good_at = 0
        self.rollbacks = 0
        """Since the run began."""
        self.loss = math.nan
        """The last one judged."""
        self._good: dict[str, Tensor] = {}
        self._good_buffers: dict[str, Tensor] = {}
        self._buffers: list[Tensor] = []

    def begin(self) -> None:
        """Take the weights as they are for good, unless `load` knew better ones."""
        if not self._good:
            self._good = {name: _kept(value) for name, value in self._ema.named_parameters()}
            self._good_buffers = {name: _kept(value) for name, value in self._model.named_buffers()}
        self._buffers = [value.detach().clone() for value in self._model.buffers()]

    @property
    def rate(self) -> float:
        """What the learning rate has to be multiplied by, (0, 1]."""
        return self._factor * min(1.0, (self._since_rollback + 1) / WARMUP)

    @torch.no_grad()
    def judge(self, loss: Tensor, norm: Tensor, iteration: int) -> Verdict:
        """Decide about a step from its loss () and the norm () of its gradient, the same on all processes.

        Both cross over to the processor together: the one wait for the device in a step, and `loss` is there to be
        shown afterwards. Raises TrainingError when rolling back does not help.
        """
        self.loss, of_gradient = torch.stack([loss.detach().float(), norm.detach().float()]).tolist()
        finite = math.isfinite(self.loss) and math.isfinite(of_gradient)
        if finite and self.loss <= self._level(HIGH, HIGH_SPREADS):
            self._bad = 0
            return Verdict.STEP
        self._bad, self._healthy = self._bad + 1, 0
        outlying = self.loss > self._level(OUTLIER, OUTLIER_SPREADS)
        lost = self._bad >= self._patience
        if finite and not outlying and not lost:
            return Verdict.STEP
        _copy(self._buffers, self._model.buffers())
        if lost:
            self._roll_back(iteration)
            return Verdict.ROLLED_BACK
        if self._bad == 1:
            what = f"the loss is {self.loss:.4g}" if outlying else "the loss or its gradient is not finite"
            _log.warning("step %d: %s; the step is skipped", iteration, what)
        return Verdict.SKIP

    @torch.no_grad()
    def keep(self, iteration: int) -> None:
        """Remember a step that was made; `iteration` steps are made now, and the averages have followed."""
        _copy(self._model.buffers(), self._buffers)
        if self._bad:
            return
        self._losses.append(self.loss)
        self._healthy += 1
        self._since_rollback = min(WARMUP, self._since_rollback + 1)
        self._factor = min(1.0, self._factor * 2 ** (1 / RECOVERY))
        if self._healthy >= self._keep_every and self._is_calm():
            self._healthy = self._in_a_row = 0
            self._good_at = iteration
            for good, now in (
                (self._good, self._ema.named_parameters()),
                (self._good_buffers, self._model.named_buffers()),
            ):
                for name, value in now:
                    good[name].copy_(value)

    def forget_level(self) -> None:
        """Learn anew what is normal, because a schedule is about to change the loss at once."""
        self._losses.clear()

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly from here, by name."""
        return {
            "numbers": torch.tensor([getattr(self, name) for name in _NUMBERS], dtype=torch.float64),
            "losses": torch.tensor(list(self._losses), dtype=torch.float64),
            **{f"good/{name}": value for name, value in self._good.items()},
            **{f"good_buffers/{name}": value for name, value in self._good_buffers.items()},
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave. Raises RuntimeError or KeyError when they are another model's."""
        for name, value in zip(_NUMBERS, tensors["numbers"].tolist(), strict=True):
            setattr(self, name, value if name == "_factor" else int(value))
        self._losses = deque(tensors["losses"].tolist(), maxlen=WINDOW)
        self._good = _matching("good/", tensors, self._ema.named_parameters())
        self._good_buffers = _matching("good_buffers/", tensors, self._model.named_buffers())

    def _level(self, times: float, spreads: float) -> float:
        """The loss that is that much beyond what is normal."""
        if len(self._losses) < FEWEST:
            return math.inf
        middle = median(self._losses)
        spread = MAD_TO_SIGMA * median(abs(loss - middle) for loss in self._losses)
        return middle + max(spreads * spread, (times - 1) * abs(middle))

    def _is_calm(self) -> bool:
        """Whether the newest losses are not above what is normal, as they are on the way out."""
        newest = islice(reversed(self._losses), self._patience)
        return median(newest) <= self._level(CALM, 1.0)

    def _roll_back(self, iteration: int) -> None:
        self._in_a_row += 1
        if self._in_a_row > MOST_ROLLBACKS:
            raise TrainingError(
                f"the loss broke out or stopped being finite at step {iteration}, {MOST_ROLLBACKS} times in a row; "
                "resume with --precision fp32, or start again with a lower learning_rate"
            )
        self.rollbacks += 1
        self._bad = self._healthy = self._since_rollback = 0
        self._factor *= RATE_CUT
        for module in (self._model, self._ema):
            for name, parameter in module.named_parameters():
                parameter.copy_(self._good[name])
            for name, buffer in module.named_buffers():
                buffer.copy_(self._good_buffers[name])
        _copy(self._model.buffers(), self._buffers)
        self._optimizer.state.clear()
        _log.warning(
            "step %d: the loss is %.4g; going on from the averaged weights of step %d at %.2g of the rate",
            iteration,
            self.loss,
            self._good_at,
            self._factor,
        )


_NUMBERS = ("_factor", "_since_rollback", "_bad", "_healthy", "_in_a_row", "_good_at", "rollbacks")


def _kept(value: Tensor) -> Tensor:
    """A copy in main memory."""
    return value.detach().to("cpu", copy=True)


def _copy(sources: Iterable[Tensor], goals: Iterable[Tensor]) -> None:
    """In one launch where there is a GPU."""
    pairs = list(zip(goals, sources, strict=True))
    if pairs:
        torch._foreach_copy_([goal for goal, _ in pairs], [source for _, source in pairs])


def _matching(prefix: str, tensors: Mapping[str, Tensor], wanted: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Copies of what is stored for every wanted tensor."""
    found: dict[str, Tensor] = {}
    for name, value in wanted:
        found[name] = tensors[prefix + name].to("cpu", copy=True)
        if found[name].shape != value.shape:
            raise KeyError(name)
    return found
