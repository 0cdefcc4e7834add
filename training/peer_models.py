"""Peers' networks, to be measured against: DeepFaceLab's df-ud and two of faceswap's. Batches in, pictures out.

Written from published layer sizes, none of their code is in here. Everything is NCHW, BGR, [0, 1], as in
training.model; each width of a `ModelConfig` means what its docstring there says.

Note [Masks of peers]
    DeepFaceLab learns a mask per decoder, from the code alone. In training a face is painted by its own decoder, so
    the mask of the painting is the mask of the face given; in a swap the performer's branch says where the performer
    is. faceswap learns none unless asked: its masks are 1 everywhere, and the blend has to limit the swap to the hull
    of the landmarks, `BlendSettings(hull=True)`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model import SLOPE, ModelConfig, Painted, Side, SwapModel

RESIDUAL_SLOPE = 0.2
"""Of the leaky rectifiers in DeepFaceLab's residual blocks."""
NORM_FLOOR = 1e-6
"""Added to the mean square that a code is divided by."""


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def _start(module: nn.Module, *, convolutions_he: bool) -> None:
    """Uniform start values: Glorot's, or He's for convolutions; biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            if convolutions_he and isinstance(part, nn.Conv2d):
                limit = math.sqrt(6 / part.weight[0].numel())
                nn.init.uniform_(part.weight, -limit, limit)
            else:
                nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def pixel_norm(code: Tensor) -> Tensor:
    """(N, C) divided by the root of its mean square: the `u` of df-ud."""
    return code * torch.rsqrt(code.square().mean(dim=1, keepdim=True) + NORM_FLOOR)


class Upscale(nn.Module):
    """3x3 convolution, leaky rectifier, pixel shuffle: twice the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 4 * outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(_act(self.conv(x)), 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(F.leaky_relu(self.first(x), RESIDUAL_SLOPE))
        return F.leaky_relu(x + inner, RESIDUAL_SLOPE)


class Downscales(nn.Sequential):
    """(N, 3, R, R) -> (N, encoder[-1], r, r): 5x5 convolutions of stride 2, leaky rectifiers."""

    def __init__(self, config: ModelConfig) -> None:
        widths = (3, *config.encoder)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 5, 2, 2), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers)


class Inter(nn.Module):
    """(N, encoder[-1], r, r) -> (N, decoder[0], r, r) through a dense code; half of r between the two dense layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.channels, self.low = config.code_channels, config.bottleneck // 2
        self.squeeze = nn.Linear(config.encoder[-1] * config.bottleneck**2, config.code)
        self.unfold = nn.Linear(config.code, self.channels * self.low**2)
        self.up = Upscale(self.channels, config.decoder[0])

    def forward(self, x: Tensor) -> Tensor:
        code = self.squeeze(pixel_norm(x.flatten(1)))
        painted: Tensor = self.up(self.unfold(code).view(-1, self.channels, self.low, self.low))
        return painted


class SubPixels(nn.Module):
    """The `d` of df-ud: four convolutions paint one of every four pixels each, the first of them without neighbours."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.phases = nn.ModuleList(nn.Conv2d(inputs, 3, k, padding=k // 2) for k in (1, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        phases = torch.stack([phase(x) for phase in self.phases], dim=2)  # (N, 3, 4, R/2, R/2)
        return F.pixel_shuffle(phases.flatten(1, 2), 2)


class DeepFaceLabDecoder(nn.Module):
    """(N, decoder[0], r, r) -> one person's face, and by a branch of its own that person's mask."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths, mask = config.decoder, [config.mask_width << step for step in reversed(range(len(config.decoder)))]
        self.ups = nn.ModuleList(Upscale(a, b) for a, b in pairwise(widths))
        self.blocks = nn.ModuleList(ResidualBlock(width) for width in widths[1:])
        self.exit = SubPixels(widths[-1])
        self.mask_ups = nn.ModuleList(Upscale(a, b) for a, b in pairwise((widths[0], *mask)))
        self.mask_exit = nn.Conv2d(mask[-1], 1, 1)

    def face(self, x: Tensor) -> Tensor:
        """(N, 3, R, R)."""
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = block(up(x))
        return torch.sigmoid(self.exit(x).float())

    def mask(self, x: Tensor) -> Tensor:
        """(N, 1, R, R)."""
        for up in self.mask_ups:
            x = up(x)
        return torch.sigmoid(self.mask_exit(x).float())


class DeepFaceLabDF(SwapModel):
    """DeepFaceLab's `df-ud`. Its e, ae, d and m: encoder e, 2e, 4e, 8e; code, code_channels and decoder[0] ae;
    decoder ae, 8d, 4d, 2d; mask_width m."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.bottleneck % 2:
            raise ValueError(f"resolution {config.resolution} is not a multiple of {2 << len(config.encoder)}")
        self.config = config
        self.encoder, self.inter = Downscales(config), Inter(config)
        self.decoders = nn.ModuleDict({"identity": DeepFaceLabDecoder(config), "performer": DeepFaceLabDecoder(config)})
        _start(self, convolutions_he=False)

    def _decoder(self, side: Side) -> DeepFaceLabDecoder:
        decoder = self.decoders[side]
        assert isinstance(decoder, DeepFaceLabDecoder)
        return decoder

    def paint(self, faces: Tensor, side: Side, people: Tensor | None = None) -> tuple[Painted, Tensor, Tensor | None]:
        """As `SwapModel`; the faces are taken to be those of `side`, see Note [Masks of peers]."""
        unfolded, decoder = self.inter(self.encoder(faces)), self._decoder(side)
        painted = Painted(decoder.face(unfolded), decoder.mask(unfolded))
        return painted, painted.mask, None

    def forward(self, faces: Tensor, side: Side) -> tuple[Painted, Tensor]:
        unfolded, decoder = self.inter(self.encoder(faces)), self._decoder(side)
        painted = Painted(decoder.face(unfolded), decoder.mask(unfolded))
        return painted, painted.mask if side == "performer" else self._decoder("performer").mask(unfolded)


class FaceswapAutoencoder(SwapModel):
    """faceswap's `original` and `lightweight`, a picture without a mask.

    The dense layers make a map of a sixteenth of the resolution, the first doubling is still shared. In `original` this
    map is the bottleneck and that doubling is decoder[0]; `lightweight` halves three times instead of four, its
    bottleneck is what the shared doubling makes of a map of `code` channels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        original = config.family == "faceswap-original"
        shared = (config.code_channels, config.decoder[0]) if original else (config.code, config.code_channels)
        self.low = config.bottleneck if original else config.bottleneck // 2
        if not self.low:
            raise ValueError(f"resolution {config.resolution} is not a multiple of {2 << len(config.encoder)}")
        self.channels = shared[0]
        self.encoder = Downscales(config)
        self.squeeze = nn.Linear(config.encoder[-1] * config.bottleneck**2, config.code)
        self.unfold = nn.Linear(config.code, self.channels * self.low**2)
        self.up = Upscale(*shared)
        widths = config.decoder if original else (shared[1], *config.decoder)
        self.decoders = nn.ModuleDict({"identity": self._decoder(widths), "performer": self._decoder(widths)})
        _start(self, convolutions_he=True)

    @staticmethod
    def _decoder(widths: tuple[int, ...]) -> nn.Module:
        ups = (Upscale(a, b) for a, b in pairwise(widths))
        return nn.Sequential(*ups, nn.Conv2d(widths[-1], 3, 5, padding=2))

    def encode(self, faces: Tensor) -> Tensor:
        """(N, 3, R, R) -> the map that decoders read; no activation around the dense layers."""
        code = self.unfold(self.squeeze(self.encoder(faces).flatten(1)))
        unfolded: Tensor = self.up(code.view(-1, self.channels, self.low, self.low))
        return unfolded

    def paint(self, faces: Tensor, side: Side, people: Tensor | None = None) -> tuple[Painted, Tensor, Tensor | None]:
        face = torch.sigmoid(self.decoders[side](self.encode(faces)).float())
        everywhere = torch.ones_like(face[:, :1])
        return Painted(face, everywhere), everywhere, None
