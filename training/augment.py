"""Turns stored faces into training pairs. A stack of uint8 faces in, warped inputs with straight targets out.

Note [One sampling]
    Crop, affine and warp are composed into one sampling grid, so every pixel is interpolated once from the stored
    picture (twice the training resolution where the footage has it): a chain of resizings would teach the decoder blur.
    Input and target share the affine part; only the input is warped, and the warp fades as training goes on, because
    what it teaches early - geometry from the code, not from the pixels - costs sharpness late.

Note [Drawn whole]
    All random numbers of a batch are drawn at once, from one generator, and how many there are depends on the size of
    the batch alone. Row n of them is about face n alone. So processes that share a batch draw the same numbers and
    each does the work for its own rows: N processes together see exactly what one process sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from training.occluders import Things, draw_things, occlude

CHANNELS = 5
"""Of a stored face: B, G, R, face mask, eyes and mouth."""
GRIDS = (3, 5, 9)
"""Nodes along a side of the grids that a warp is made from."""


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How far inputs stray from the stored face.

    Rotation, scale and shift are what the live loop's alignment is uncertain by, and no more: a decoder that has to
    paint a face anywhere is a softer one. With four times as much (8 degrees, 0.08, 0.03: two thirds of what peers
    have) light-128 lost 0.25 dB and 0.012 SSIM against the exact swap after the same 700 steps.
    """

    rotation_deg: float = 2.0
    scale: float = 0.02
    """Zoom is exp(U(-scale, scale))."""
    shift: float = 0.008
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
        largest = {"rotation_deg": 180.0, "shift": 0.5, "warp": 0.5}
        for name in self.__slots__:
            most = largest.get(name, 1.0)
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} lies between 0 and {most:g}, got {getattr(self, name)}")


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
    people: Tensor | None = None
    """(N,) int64: which of many performers each face shows; None where nobody asks."""


class Numbers(NamedTuple):
    """What decides how N faces stray, see Note [Drawn whole]. Kept on the CPU."""

    matrices: Tensor
    """(N, 2, 3) similarities on [-1, 1] coordinates."""
    grids: Tensor
    """(N,) index into GRIDS; len(GRIDS): never warped."""
    nodes: Tensor
    """(N, 2, 9, 9) displacements at full strength, of which a smaller grid reads a corner."""
    light: Tensor
    """(N, 2) exponent and gain of input and target."""
    tint: Tensor
    """(N, 3) gain of each channel of the input."""
    things: Things

    def part(self, rows: slice | Tensor) -> Numbers:
        """The numbers of some of the faces."""
        matrices, grids, nodes, light, tint, things = self
        return Numbers(matrices[rows], grids[rows], nodes[rows], light[rows], tint[rows], things.part(rows))


def _uniform(generator: torch.Generator, count: int, reach: float) -> Tensor:
    return (torch.rand(count, generator=generator) * 2 - 1) * reach


def draw_numbers(count: int, config: AugmentConfig, generator: torch.Generator) -> Numbers:
    """Everything random about `count` faces. How much is drawn from `generator` depends on `count` alone."""
    matrices = affine_matrices(count, config, generator)
    grids = torch.randint(0, len(GRIDS), (count,), generator=generator)
    straight = torch.rand(count, generator=generator) < config.straight
    sigma = 2 * config.warp * 2 / (torch.tensor(GRIDS) - 1)
    nodes = torch.randn(count, 2, GRIDS[-1], GRIDS[-1], generator=generator).clamp(-2.5, 2.5)
    light = torch.stack([torch.exp(_uniform(generator, count, config.light)) for _ in range(2)], dim=1)
    tint = torch.exp(torch.randn(count, 3, generator=generator) * config.tint)
    brightness = torch.exp(_uniform(generator, count, config.tint))
    return Numbers(
        matrices,
        grids.masked_fill(straight, len(GRIDS)),
        nodes * sigma[grids].view(-1, 1, 1, 1),
        light,
        tint * brightness[:, None],
        draw_things(count, generator),
    )


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


@lru_cache(maxsize=8)
def _node_weights(size: int, device: torch.device) -> Tensor:
    """(len(GRIDS) + 1, size, 9) how much each node of a line counts at each pixel, bicubic; the last: nothing does."""
    weights = torch.zeros(len(GRIDS) + 1, size, GRIDS[-1])
    for kind, nodes in enumerate(GRIDS):
        lines = F.interpolate(torch.eye(nodes)[None, :, :, None], (size, 1), mode="bicubic", align_corners=True)
        weights[kind, :, :nodes] = lines[0, :, :, 0].T
    return weights.to(device)


def warp_fields(grids: Tensor, nodes: Tensor, size: int) -> Tensor:
    """(N, size, size, 2) smooth displacements on [-1, 1] coordinates from `grids` and `nodes` of Numbers.

    x and y are independent. Finer grids move less, the noise is a constant share of a cell. Bicubic interpolation is
    linear in the nodes and goes by rows and columns, so it is two small products of matrices.
    """
    weights = _node_weights(size, nodes.device)[grids][:, None]
    return (weights @ nodes @ weights.mT).permute(0, 2, 3, 1)


def crop_grid(matrices: Tensor, size: int, margin: float, stored: int) -> Tensor:
    """(N, size, size, 2) sampling grid of the nominal crop inside a face of `stored` px that is `margin` times as wide.

    Pixel q of a crop lies at q / size of its side, as the live loop cuts; grid_sample counts from the rims of pixels.
    """
    grid = F.affine_grid(matrices / margin, [len(matrices), 1, size, size], align_corners=False)
    return grid + (1 / stored - 1 / (margin * size))


def sample(faces: Tensor, grid: Tensor) -> Tensor:
    """Bilinear sampling of (N, C, P, P) uint8 faces; the border is repeated."""
    return _sample(faces.float().div_(255), grid)


def _sample(pictures: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def stray(
    faces: Tensor,
    numbers: Numbers,
    size: int,
    margin: float,
    strength: float,
    occluded: float = 0.0,
    others: Tensor | None = None,
) -> Pair:
    """Make stored faces a training batch.

    Args:
        faces: (N, 5, P, P) uint8, see CHANNELS.
        numbers: how each of them strays.
        size: side R of the training crops.
        margin: how much wider than the crop the stored faces are.
        strength: of the warp, 1 at the start of training, towards 0 at its end.
        occluded: share of inputs that something stands in front of, see Note [Occluders]; targets stay bare.
        others: (K, 5, P, P) uint8, a face for each of the K rows that `shows_another` names; without, things with a
            piece of another picture on them have a plain colour.
    """
    device = faces.device
    matrices, grids, nodes, light, tint = (x.to(device, non_blocking=True) for x in numbers[:5])
    straight = crop_grid(matrices, size, margin, faces.shape[-1])
    bent = straight + warp_fields(grids, nodes * strength, size) / margin
    pictures = faces.float().div_(255)
    target, moved = _sample(pictures, straight), _sample(pictures[:, :4], bent)
    gamma, gain = light[:, :1, None, None], light[:, 1:, None, None]
    relit, moved_relit = ((x[:, :3].clamp_min(1e-4) ** gamma * gain).clamp(0, 1) for x in (target, moved))
    inputs = (moved_relit * tint[:, :, None, None]).clamp(0, 1)
    pieces = straight_crops(others, size, margin).inputs if others is not None and len(others) else None
    seen = occlude(inputs, moved[:, 3:4], numbers.things, occluded, pieces)
    return Pair(seen.inputs, relit, target[:, 3:4], seen.masks, target[:, 4:5])


def straight_crops(faces: Tensor, size: int, margin: float) -> Pair:
    """The nominal crops without any augmentation: what the live loop sees."""
    identity = torch.eye(2, 3).expand(len(faces), 2, 3)
    target = sample(faces, crop_grid(identity, size, margin, faces.shape[-1]).to(faces.device))
    return Pair(target[:, :3], target[:, :3], target[:, 3:4], target[:, 3:4], target[:, 4:5])
