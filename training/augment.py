"""Turns stored faces into training pairs. A stack of uint8 faces in, warped inputs with straight targets out.

Note [One sampling]
    Crop, affine and warp are composed into one sampling grid, so every pixel is interpolated once from the stored
    picture (twice the training resolution where the footage has it): a chain of resizings would teach the decoder blur.
    Input and target share the affine part; only the input is warped, and the warp fades as training goes on, because
    what it teaches early - geometry from the code, not from the pixels - costs sharpness late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from training.occluders import occlude

CHANNELS = 5
"""Of a stored face: B, G, R, face mask, eyes and mouth."""


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How far inputs stray from the stored face."""

    rotation_deg: float = 8.0
    scale: float = 0.08
    """Zoom is exp(U(-scale, scale))."""
    shift: float = 0.03
    """Of the crop's side."""
    warp: float = 0.055
    """Standard deviation of the node noise at the start, of the crop's side, on the coarsest grid."""
    straight: float = 0.25
    """Share of samples that are never warped."""
    light: float = 0.12
    """Brightness and contrast of input and target together: exp(U(-light, light))."""
    tint: float = 0.12
    """Gain per channel of the input alone: exp(N(0, tint)) - the code must not carry skin colour."""
    flip: bool = False
    occluded: float = 0.5
    """Share of inputs that something stands in front of, once `occlude_by` of the run is over."""
    occlude_by: float = 0.1
    """Share of the run over which occluders come in: what cannot paint a face yet learns nothing from half of one."""

    def __post_init__(self) -> None:
        for name in ("occluded", "occlude_by"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 and 1, got {getattr(self, name)}")


class Pair(NamedTuple):
    """One batch of one person; N, 3 or 1, R, R float32 in [0, 1]."""

    inputs: Tensor
    targets: Tensor
    masks: Tensor
    """Where the face is in the target."""
    input_masks: Tensor
    """Where the face is seen in the input."""
    details: Tensor
    """Eyes and mouth in the target."""


def _uniform(generator: torch.Generator, count: int, reach: float) -> Tensor:
    return (torch.rand(count, generator=generator) * 2 - 1) * reach


def affine_matrices(count: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(count, 2, 3) random similarities on [-1, 1] coordinates."""
    angle = _uniform(generator, count, math.radians(config.rotation_deg))
    zoom = torch.exp(_uniform(generator, count, config.scale))
    shift = torch.stack([_uniform(generator, count, 2 * config.shift) for _ in range(2)], dim=1)
    mirror = torch.ones(count)
    coin = torch.rand(count, generator=generator)
    if config.flip:
        mirror = torch.where(coin < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack(
        [torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)], 1
    )
    return rows


def warp_fields(count: int, size: int, config: AugmentConfig, strength: float, generator: torch.Generator) -> Tensor:
    """(count, size, size, 2) smooth displacements on [-1, 1] coordinates, x and y independent.

    Nodes lie on a 3x3, 5x5 or 9x9 grid; finer grids move less, the noise is a constant share of a cell.
    """
    field = torch.zeros(count, 2, size, size)
    kinds = torch.randint(0, 3, (count,), generator=generator)
    warped = torch.rand(count, generator=generator) >= config.straight
    for kind, nodes in enumerate((3, 5, 9)):
        sigma = 2 * config.warp * strength * 2 / (nodes - 1)
        noise = torch.randn(count, 2, nodes, nodes, generator=generator).clamp(-2.5, 2.5) * sigma
        chosen = (kinds == kind) & warped
        if strength > 0 and bool(chosen.any()):
            field[chosen] = F.interpolate(noise[chosen], size=(size, size), mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)


def crop_grid(matrices: Tensor, size: int, margin: float, stored: int) -> Tensor:
    """(N, size, size, 2) sampling grid of the nominal crop inside a face of `stored` px that is `margin` times as wide.

    Pixel q of a crop lies at q / size of its side, as the live loop cuts; grid_sample counts from the rims of pixels.
    """
    grid = F.affine_grid(matrices / margin, [len(matrices), 1, size, size], align_corners=False)
    return grid + (1 / stored - 1 / (margin * size))


def sample(faces: Tensor, grid: Tensor) -> Tensor:
    """Bilinear sampling of (N, C, P, P) uint8 faces; the border is repeated."""
    return F.grid_sample(faces.float().div_(255), grid, mode="bilinear", padding_mode="border", align_corners=False)


def augment(
    faces: Tensor,
    size: int,
    margin: float,
    config: AugmentConfig,
    strength: float,
    generator: torch.Generator,
    occluded: float = 0.0,
) -> Pair:
    """One random training batch from stored faces.

    Args:
        faces: (N, 5, P, P) uint8, see CHANNELS.
        size: side R of the training crops.
        margin: how much wider than the crop the stored faces are.
        strength: of the warp, 1 at the start of training, towards 0 at its end.
        generator: the only source of randomness.
        occluded: share of inputs that something stands in front of, see Note [Occluders]; targets stay bare.
    """
    count = len(faces)
    straight = crop_grid(affine_matrices(count, config, generator), size, margin, faces.shape[-1])
    bent = straight + warp_fields(count, size, config, strength, generator).to(faces.device) / margin
    light = torch.exp(_uniform(generator, count, config.light)).view(-1, 1, 1, 1)
    gamma = torch.exp(_uniform(generator, count, config.light)).view(-1, 1, 1, 1)
    tint = torch.exp(torch.randn(count, 3, 1, 1, generator=generator) * config.tint)
    brightness = torch.exp(_uniform(generator, count, config.tint)).view(-1, 1, 1, 1)

    target, moved = sample(faces, straight.to(faces.device)), sample(faces[:, :4], bent.to(faces.device))
    relit, moved_relit = (
        (x[:, :3].clamp_min(1e-4) ** gamma.to(x.device) * light.to(x.device)).clamp(0, 1) for x in (target, moved)
    )
    inputs = (moved_relit * (tint * brightness).to(moved.device)).clamp(0, 1)
    seen = occlude(inputs, moved[:, 3:4], occluded, generator)
    return Pair(seen.inputs, relit, target[:, 3:4], seen.masks, target[:, 4:5])


def straight_crops(faces: Tensor, size: int, margin: float) -> Pair:
    """The nominal crops without any augmentation: what the live loop sees."""
    identity = torch.eye(2, 3).expand(len(faces), 2, 3)
    target = sample(faces, crop_grid(identity, size, margin, faces.shape[-1]).to(faces.device))
    return Pair(target[:, :3], target[:, :3], target[:, 3:4], target[:, 3:4], target[:, 4:5])
