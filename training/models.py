"""Builds a model of any family. ModelConfig in, SwapModel out; also what it costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.model import FaceAutoencoder, ModelConfig, SwapModel


def build_model(config: ModelConfig) -> SwapModel:
    """A model with fresh weights, drawn from torch's own generator."""
    match config.family:
        case "liveswap":
            return FaceAutoencoder(config)
        case "liae":
            from training.liae import LiaeAutoencoder

            return LiaeAutoencoder(config)
        case "df-ud":
            from training.peer_models import DeepFaceLabDF

            return DeepFaceLabDF(config)
        case "faceswap-original" | "faceswap-lightweight":
            from training.peer_models import FaceswapAutoencoder

            return FaceswapAutoencoder(config)


def count_parameters(module: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in module.parameters())


def count_macs(config: ModelConfig) -> int:
    """Multiply-accumulates of one swap - encoder, one decoder, the masks - at batch 1, measured on the real modules."""
    total = 0

    def tally(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    model = build_model(config)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(tally)
    with torch.no_grad():
        model(torch.zeros(1, 3, config.resolution, config.resolution), "identity")
    return total
