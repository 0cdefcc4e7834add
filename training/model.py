"""The autoencoder: a shared encoder, a decoder per person, a head for the performer's mask. Batches in, pictures out.

Note [Why a face moves over]
    Encoder and code are shared, so a code has to say what both people have in common: pose, expression, light. Each
    decoder knows one person. Showing a performer's code to the identity's decoder paints the identity doing what the
    performer does.

Note [Grey world]
    The first thing the encoder does is to scale each channel so that the middle of the face has one fixed mean. Else a
    dark skin looks to it like dim light on a pale one, and the identity is painted in that light: on the rendered
    actors the swap then lost a third of the identity that the decoder could paint. What the scaling takes away, the
    colour of skin and light together, the blend puts back from the performer.

Note [One cloud]
    A decoder knows only its own person's codes. Whatever sets the two people's codes apart - a beard read as shadow,
    a nose read as a pose - is identity that comes along into the swap. So the running mean and covariance of both
    clouds of codes are kept, and each code is pushed to where the other cloud has more room (the gradient of CORAL,
    arXiv:1607.01719, on running instead of batch statistics).

Note [Performer mask]
    The mask of the *input* face may look at the input: it reads encoder maps at every scale, so it is a fraction of a
    decoder and can follow a finger. It still has to tell a hand from a cheek of the same colour, by form alone, which
    takes some layers at every scale but the finest. The mask of the *painted* face is the decoder's fourth channel.

Note [Many performers]
    A model for many performers has one decoder for all of them, and that decoder is told who it paints: a vector
    for each person is added to the code. So the code itself need not say who somebody is, and the encoder learns to
    leave it out - also of people whom it has never seen. The identity's decoder gets the bare code, as it does live.

Note [Growing]
    A model that grows starts at half its resolution: the decoder stops before its finest level, where a 1x1 convolution
    makes a picture of what is there, and so does the mask head. `grow` puts that convolution's weights into the finest
    level, so that the first full picture is the half one, enlarged. Until then full pictures are halved on the way in.

Everything is NCHW, BGR, [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from training.distributed import mean_over_ranks

Family = Literal["liveswap", "liae", "df-ud", "faceswap-original", "faceswap-lightweight"]
"""How a model is built; all but the first two are peers' networks, to be compared with, see training.peer_models."""
Side = Literal["identity", "performer"]
SIDES: tuple[Side, ...] = get_args(Side)
SLOPE = 0.1


MOST_CHANNELS = 1 << 14
"""A recipe may come from a stranger, and torch asserts instead of complaining."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of the networks. The bottleneck is `resolution / 2 ** len(encoder)` pixels wide."""

    family: Family = "liveswap"
    resolution: int = 128
    """Side of the input and the output in pixels."""
    encoder: tuple[int, ...] = (24, 64, 128, 256)
    """Channels after each halving of the resolution."""
    code_channels: int = 64
    """Channels of the bottleneck map before and after the dense code."""
    code: int = 256
    """Length of the dense code: small enough that identity cannot hide in it."""
    decoder: tuple[int, ...] = (192, 96, 64, 32)
    """Channels at the bottleneck's size and after each doubling but the last."""
    residuals: int = 1
    """Residual blocks at each decoder size."""
    mask_width: int = 16
    """Channels of the head that finds the performer's face."""
    grows: bool = False
    """Can be trained at half the resolution first, see Note [Growing]."""
    people: int = 1
    """Performers that the performer's decoder tells apart; the encoder must not, see Note [Many performers]."""

    def __post_init__(self) -> None:
        if len(self.encoder) != len(self.decoder):
            raise ValueError(f"{len(self.encoder)} halvings need as many doublings, got {len(self.decoder)}")
        if not self.encoder:
            raise ValueError("encoder and decoder need at least one width")
        if not 32 <= self.resolution <= 1024:
            raise ValueError(f"resolution is 32 to 1024, got {self.resolution}")
        if self.resolution % 2 ** len(self.encoder):
            raise ValueError(f"resolution {self.resolution} is not a multiple of {2 ** len(self.encoder)}")
        if not 1 <= self.people <= 1 << 16:
            raise ValueError(f"people lies between 1 and {1 << 16}, got {self.people}")
        if (self.grows or self.people > 1) and self.family != "liveswap":
            raise ValueError(f"models of the family {self.family} neither grow nor tell people apart")
        if max(*self.encoder, *self.decoder, self.code, self.code_channels, self.mask_width) > MOST_CHANNELS:
            raise ValueError(f"no width is above {MOST_CHANNELS}")
        if self.residuals > MOST_CHANNELS:
            raise ValueError(f"there are at most {MOST_CHANNELS} residual blocks")
        if min(*self.encoder, *self.decoder, self.code, self.code_channels, self.mask_width) < 1 or self.residuals < 0:
            raise ValueError("every width must be at least 1")

    @property
    def bottleneck(self) -> int:
        """Side of the smallest map in pixels."""
        return int(self.resolution // 2 ** len(self.encoder))


class Painted(NamedTuple):
    """What a decoder paints."""

    face: Tensor
    """(N, 3, R, R) BGR in [0, 1]."""
    mask: Tensor
    """(N, 1, R, R) in [0, 1]: where the painted face is."""


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # bias=True makes it a tensor
    return conv


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut; starts as the identity, so that depth costs nothing at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _conv(channels, channels), _conv(channels, channels)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return _act(x + self.second(_act(self.first(x))))


class Up(nn.Module):
    """3x3 convolution and pixel shuffle: twice the size. ICNR (arXiv:1707.02937): starts without a checkerboard."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _conv(inputs, 4 * outputs)
        with torch.no_grad():
            self.conv.weight.copy_(self.conv.weight[::4].repeat_interleave(4, dim=0))

    def take_over(self, flat: nn.Conv2d) -> None:
        """Paint what the 1x1 convolution `flat` paints, enlarged."""
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[:, :, 1, 1] = flat.weight[:, :, 0, 0].repeat_interleave(4, dim=0)
            if self.conv.bias is not None and flat.bias is not None:
                self.conv.bias.copy_(flat.bias.repeat_interleave(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


def grey_world(x: Tensor) -> Tensor:
    """(N, 3, R, R) with the mean of the middle half of every channel brought to 0.45, see Note [Grey world]."""
    quarter = x.shape[-1] // 4
    middle = x[:, :, quarter : 3 * quarter, quarter : 3 * quarter].mean(dim=(2, 3), keepdim=True)
    return x * (0.45 / middle.clamp_min(0.05))


class SwapModel(nn.Module):
    """What every family of models promises: `paint` for training, calling it for looking and exporting."""

    config: ModelConfig
    statistics: CodeStatistics
    """Only where `paint` answers codes."""

    def paint(self, faces: Tensor, side: Side, people: Tensor | None = None) -> tuple[Painted, Tensor, Tensor | None]:
        """Faces (N, 3, R, R) -> the painting by `side`'s decoder, the faces' masks (N, 1, R, R), their codes (N, C).

        The masks show where the face *given* is, whoever paints. Codes are None where a family does not align them.
        `people` (N,) says which performer each face shows, where the model tells them apart.
        """
        raise NotImplementedError

    def forward(self, faces: Tensor, side: Side) -> tuple[Painted, Tensor]:
        """Faces (N, 3, R, R) -> the painting by `side`'s decoder, and the mask (N, 1, R, R) of the faces given."""
        painted, mask, _ = self.paint(faces, side)
        return painted, mask


class Encoder(nn.Module):
    """(N, 3, R, R) -> maps at every size, then the code as a (N, code_channels, r, r) map."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = (3, *config.encoder)
        kernels = [5] + [3] * (len(config.encoder) - 1)
        self.halvings = nn.ModuleList(
            _conv(a, b, kernel, stride=2) for a, b, kernel in zip(widths, widths[1:], kernels, strict=False)
        )
        self.residual = Residual(config.encoder[-1])
        self.side = config.bottleneck
        flat = config.code_channels * self.side**2
        self.squeeze = _conv(config.encoder[-1], config.code_channels, 1)
        self.to_code, self.from_code = nn.Linear(flat, config.code), nn.Linear(config.code, flat)

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps at every size, and the (N, code) dense code."""
        maps: list[Tensor] = []
        x = grey_world(x)
        for halve in self.halvings:
            x = _act(halve(x))
            maps.append(x)
        code: Tensor = self.to_code(self.squeeze(self.residual(x)).flatten(1))
        return maps, code

    def unfold(self, code: Tensor) -> Tensor:
        """(N, code) -> the (N, code_channels, r, r) map that a decoder reads."""
        # Every size but the batch's is a number here: an exported model takes any batch.
        return _act(self.from_code(code)).view(-1, self.squeeze.out_channels, self.side, self.side)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        maps, code = self.encode(x)
        return maps, self.unfold(code)


class Decoder(nn.Module):
    """Code map -> one person's face and its mask."""

    recompute = False
    """Whether the activations of a level are computed again for the gradient instead of kept: what a decoder needs most
    memory for in training. The gradient is the same."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.decoder
        self.half_exit = _conv(widths[-1], 4, 1) if config.grows else None
        self.entry = _conv(config.code_channels, widths[0])
        self.blocks = nn.ModuleList(nn.Sequential(*(Residual(w) for _ in range(config.residuals))) for w in widths)
        self.ups = nn.ModuleList(Up(a, b) for a, b in zip(widths, (*widths[1:], 4), strict=True))
        with torch.no_grad():
            self.ups[-1].conv.weight.mul_(0.1)  # type: ignore[union-attr, operator]  # start near grey

    def grow(self) -> None:
        """Let the finest level paint what `half_exit` painted, see Note [Growing]."""
        assert self.half_exit is not None
        last = self.ups[-1]
        assert isinstance(last, Up)
        last.take_over(self.half_exit)

    def _doubled(self, x: Tensor, level: int) -> Tensor:
        x = self.ups[level](self.blocks[level](x))
        return x if level == len(self.ups) - 1 else _act(x)

    def forward(self, x: Tensor, small: bool = False) -> Painted:
        x = _act(self.entry(x))
        for level in range(len(self.ups)):
            if small and level == len(self.ups) - 1 and self.half_exit is not None:
                x = self.half_exit(x)
            elif self.recompute and torch.is_grad_enabled():
                x = checkpoint(self._doubled, x, level, use_reentrant=False, preserve_rng_state=False)
            else:
                x = self._doubled(x, level)
        x = torch.sigmoid(x.float())
        return Painted(x[:, :3], x[:, 3:])


class MaskHead(nn.Module):
    """Encoder maps -> mask of the input face, see Note [Performer mask]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, coarser = config.mask_width, config.encoder[1:]
        self.inputs = nn.ModuleList(_conv(channels, width, 1) for channels in config.encoder)
        self.merges = nn.ModuleList(_conv(width, width) for _ in coarser)
        self.blocks = nn.ModuleList(Residual(width) for _ in coarser)
        self.exit = Up(width, 1)
        self.half_exit = _conv(width, 1, 1) if config.grows else None

    def grow(self) -> None:
        """As the decoders do, see Note [Growing]."""
        assert self.half_exit is not None
        self.exit.take_over(self.half_exit)

    def forward(self, maps: Sequence[Tensor], small: bool = False) -> Tensor:
        x = self.inputs[-1](maps[-1])
        for level in range(len(maps) - 1, 0, -1):
            x = self.blocks[level - 1](_act(x))
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.merges[level - 1](_act(x + self.inputs[level - 1](maps[level - 1])))
        leave = self.half_exit if small and self.half_exit is not None else self.exit
        return torch.sigmoid(leave(_act(x)).float())


class CodeStatistics(nn.Module):
    """Running mean and covariance of each person's codes, see Note [One cloud]."""

    SHARE = 0.005
    """Of one batch in the running statistics, at least: the covariance of few codes is noise, and so is its pull."""
    MEMORY = 5.0
    """The statistics reach back over one part in so many of the run, as long as that gives a share above SHARE."""
    RAMP = 200, 1000
    """Updates until the statistics are trusted at all, and until they are trusted wholly."""
    mean: Tensor
    """(2, C), identity first."""
    covariance: Tensor
    """(2, C, C)."""
    updates: Tensor
    """(2,) batches seen."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2, length))
        self.register_buffer("covariance", torch.eye(length).repeat(2, 1, 1))
        self.register_buffer("updates", torch.zeros(2))

    def joined(self, code: Tensor, side: Side) -> tuple[Tensor, Tensor]:
        """Mean (C,) and covariance (C, C) of `side` after a batch of codes (N, C); differentiable in the codes.

        The batch is that of all processes together. Where it is computed in parts, each part joins as a batch of its
        own: the statistics then follow the run sooner, and a part is pulled by its own moments instead of the batch's.
        """
        row = SIDES.index(side)
        share = self.share(side)
        # Moments around the mean until now, which every process knows: see Note [Gradient of a mean over processes].
        away = code - self.mean[row]
        moments = mean_over_ranks(torch.cat([away.mean(dim=0)[None], away.T @ away / len(away)]))
        shift, square = moments[0], moments[1:]
        spread = square - share * (2 - share) * torch.outer(shift, shift)  # around the new mean, `share` further on
        return self.mean[row] + share * shift, torch.lerp(self.covariance[row], spread, share)

    def share(self, side: Side) -> Tensor:
        """() of the next batch in the statistics: what the encoder made of a face at first is soon forgotten."""
        return torch.clamp(self.MEMORY / (self.updates[SIDES.index(side)] + self.MEMORY), min=self.SHARE)

    @torch.no_grad()
    def update(self, code: Tensor, side: Side) -> None:
        """Let a batch of codes (N, C) join."""
        row = SIDES.index(side)
        self.mean[row], self.covariance[row] = self.joined(code, side)
        self.updates[row] += 1

    def trust(self) -> Tensor:
        """How much the statistics say, [0, 1]."""
        first, last = self.RAMP
        return ((self.updates.min() - first) / (last - first)).clamp(0, 1)


def recompute_activations(model: SwapModel) -> None:
    """Let the decoders of `model` trade time for memory in training, see Decoder.recompute; others stay as they are."""
    for module in model.modules():
        if isinstance(module, Decoder):
            module.recompute = True


class FaceAutoencoder(SwapModel):
    """Our own family: `encode`, then `paint` as one of the two people."""

    grown: Tensor
    """() 1 as soon as it paints at its full resolution; only where it grows."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoders = nn.ModuleDict({"identity": Decoder(config), "performer": Decoder(config)})
        self.mask_head = MaskHead(config)
        self.statistics = CodeStatistics(config.code)
        self.people = nn.Embedding(config.people, config.code) if config.people > 1 else None
        if config.grows:
            self.register_buffer("grown", torch.zeros(()))

    @property
    def small(self) -> bool:
        """Whether it still paints at half its resolution."""
        return self.config.grows and not bool(self.grown)

    def grow(self) -> None:
        """Paint at the full resolution from now on, see Note [Growing]."""
        for decoder in self.decoders.values():
            assert isinstance(decoder, Decoder)
            decoder.grow()
        self.mask_head.grow()
        self.grown.fill_(1)

    def paint(self, faces: Tensor, side: Side, people: Tensor | None = None) -> tuple[Painted, Tensor, Tensor | None]:
        small, full = self.small, faces.shape[-1] == self.config.resolution
        # The first convolution wants its own size; enlarging a half picture costs nothing beside the levels left out.
        maps, code = self.encoder.encode(faces if full else F.interpolate(faces, scale_factor=2.0))
        told = code
        if self.people is not None and side == "performer" and people is not None:
            told = code + self.people(people)
        painted: Painted = self.decoders[side](self.encoder.unfold(told), small)
        mask = self.mask_head(maps, small)
        if small and full:
            face, own, mask = (_enlarged(x) for x in (painted.face, painted.mask, mask))
            painted = Painted(face, own)
        return painted, mask, code


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
