"""What a step of training makes smaller. Both people's pairs in, one loss and its parts out.

It is one module with one forward, because that is what torch.compile and DistributedDataParallel can wrap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.augment import Pair
from training.config import TrainConfig
from training.losses import alignment_loss, side_loss
from training.model import SIDES, Painted, Side, SwapModel


class Losses(NamedTuple):
    """What one forward answers."""

    total: Tensor
    """() what the gradients are taken of."""
    parts: dict[str, Tensor]
    """() each, without gradients: how the total came about."""
    painted: dict[Side, Painted]


class Objective(nn.Module):
    """The loss of both people together, in the style of the configuration."""

    def __init__(self, model: SwapModel, config: TrainConfig, *, bf16: bool) -> None:
        super().__init__()
        self.model, self._config, self._bf16 = model, config, bf16

    def forward(self, pairs: Mapping[Side, Pair]) -> Losses:
        parts: dict[str, Tensor] = {}
        painted: dict[Side, Painted] = {}
        aligned: list[Tensor] = []
        for side in SIDES:
            pair = pairs[side]
            with torch.autocast(pair.inputs.device.type, torch.bfloat16, enabled=self._bf16):
                painted[side], mask, code = self.model.paint(pair.inputs, side, pair.people)
            parts[side] = self._side(painted[side], mask, pair)
            if code is not None:
                statistics = self.model.statistics
                pull = self._config.loss.align * alignment_loss(code, side, statistics)
                aligned.append(pull)
                statistics.update(code.detach().float(), side)
        total = torch.stack(list(parts.values())).sum()
        if aligned:
            # Its value tells of hundreds of batches, and the watchdog judges this one: it counts by its gradient alone.
            parts["alignment"] = torch.stack(aligned).sum()
            total = total + parts["alignment"] - parts["alignment"].detach()
        return Losses(total, {name: part.detach() for name, part in parts.items()}, painted)

    def _side(self, painted: Painted, mask: Tensor, pair: Pair) -> Tensor:
        match self._config.style:
            case "liveswap":
                return side_loss(painted, mask, pair, self._config.loss)
            case "deepfacelab":
                from training.peer_losses import deepfacelab_loss

                return deepfacelab_loss(painted, mask, pair)
            case "faceswap":
                from training.peer_losses import faceswap_loss

                return faceswap_loss(painted, mask, pair)


def compiled(objective: nn.Module, config: TrainConfig) -> nn.Module:
    """`objective` compiled where the configuration wants it; what cannot be compiled runs as it is."""
    on_gpu = next(objective.parameters()).is_cuda
    if config.compile == "off" or (config.compile == "auto" and not on_gpu):
        return objective
    torch._dynamo.config.suppress_errors = True
    objective.compile()
    return objective
