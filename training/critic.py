"""Tells two people apart. Faces of both in, a small network and how sure it is of the faces it is shown out.

Note [Critic]
    The swap of a performer has no picture to be compared with, but whose face it shows can be asked: a network of some
    40 000 weights learns in seconds to tell the two people of a run apart. What it is shown is the middle of the face,
    brows to lower lip, through a soft disc, so that neither outline nor hair nor what is behind gives the answer away;
    each picture is brought to the same mean for each channel and the same contrast, so that white balance, skin tone
    and light do not either; and it is trained on shifted, relit, blurred and noisy pictures, because a painted face
    is softer than a filmed one.

    Its answers are logits. The margin of some pictures is where their mean logit lies between those of held-out faces
    of the performer (0) and of the identity (1). Smoothed labels keep logits from growing without end, so that what
    lies between means something. Two rendered actors: their exact swap, which keeps the performer's outline and some of
    his skin tone, gets 0.8, a half-and-half picture of it 0.3, a trained model 0.98, the performer blurred or tinted 0.
    It knows these two people only: noise gets something in between, so that it is worth nothing without the finder.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from realtime.align import CropGeometry
from realtime.files import explain, write_atomically
from training.augment import straight_crops
from training.batches import stack_faces
from training.config import TrainConfig
from training.contact_sheet import pick_evenly
from training.faceset import Faceset
from training.model import SIDES, Side

CRITIC = "critic.safetensors"
"""Its file in the folder of a run."""
SIZE = 32
"""Side of what it sees, pixels."""
WINDOW = 1.1
"""Side of what it sees, on the canonical face."""
USELESS_BELOW = 0.9
"""Share of held-out faces that a critic has to tell apart to be asked at all; tossing a coin gets 0.5."""
FACES, HELD_OUT = 256, 64
"""Of each person it learns from and is measured on, spread evenly over the training and the held-out faces."""
FEWEST, FEWEST_HELD_OUT = 24, 4
"""With fewer there is no critic: it would know pictures by heart, or nobody would know how good it is."""
STEPS, BATCH = 200, 48
"""Two to three seconds of one core."""
RATE = 3e-3
SMOOTHING = 0.1
_SCHEMA = 1
_META = "liveswap.critic"
_log = logging.getLogger(__name__)


class CriticNet(nn.Module):
    """(N, 3, SIZE, SIZE) pictures in [0, 1] -> (N,) logits, positive for the identity."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 48, 64)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(4, after), nn.LeakyReLU(0.1)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * (SIZE // 16) ** 2, 1)

    def forward(self, faces: Tensor) -> Tensor:
        disc = soft_disc(SIZE).to(faces)
        area = disc.sum()
        mean = (faces * disc).sum((2, 3), keepdim=True) / area
        centred = (faces / mean.clamp_min(0.02) - 1) * disc
        contrast = ((centred**2).sum((1, 2, 3), keepdim=True) / (3 * area)).sqrt()
        logits: Tensor = self.head(self.layers(centred / contrast.clamp_min(1e-3)).flatten(1)).squeeze(1)
        return logits


def soft_disc(size: int) -> Tensor:
    """(1, 1, size, size) weights: 1 in the middle, 0 from the inscribed circle outwards."""
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    radius = torch.hypot(line[:, None], line[None, :])
    return ((1 - radius) / 0.15).clamp(0, 1).view(1, 1, size, size)


def view(faces: Tensor, geometry: CropGeometry, size: int = SIZE) -> Tensor:
    """(N, 3, size, size): the middle of (N, 3, R, R) crops that show `geometry`, averaged down where they are finer."""
    share = WINDOW / geometry.coverage
    matrix = torch.tensor(
        [
            [share, 0, -2 * geometry.offset_x / geometry.coverage],
            [0, share, -2 * geometry.offset_y / geometry.coverage],
        ]
    ).to(faces)
    finer = max(1, round(share * faces.shape[-1] / size))
    shape = [len(faces), 3, size * finer, size * finer]
    grid = F.affine_grid(matrix.expand(len(faces), 2, 3), shape, align_corners=False)
    cut = F.grid_sample(faces, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(cut, finer)


def _vary(faces: Tensor, generator: torch.Generator) -> Tensor:
    """Random views of (N, 3, S, S) faces at the same size: moved, relit, softened, with noise."""
    count, size = len(faces), faces.shape[-1]

    def even(reach: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * reach

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    angle, zoom = even(math.radians(8)), torch.exp(even(0.08))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    x, y = even(0.06), even(0.06)
    matrices = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)
    grid = F.affine_grid(matrices, [count, 3, size, size], align_corners=False)
    moved = F.grid_sample(faces, grid, padding_mode="border", align_corners=False)
    line = torch.linspace(-1, 1, size)
    ramp = normal(1, 1, 1) * 0.25 * line + normal(1, 1, 1) * 0.25 * line[:, None]
    gamma = torch.exp(even(0.3)).view(-1, 1, 1, 1)
    gains = torch.exp(normal(3, 1, 1) * 0.2)
    lit = moved.clamp_min(1e-3) ** gamma * gains * torch.exp(ramp)
    blurred = F.avg_pool2d(F.pad(lit, (2, 2, 2, 2), mode="replicate"), 5, 1)
    softness = torch.rand(count, 1, 1, 1, generator=generator)
    noise = normal(3, size, size) * 0.02 * torch.rand(count, 1, 1, 1, generator=generator)
    return (lit + softness * (blurred - lit) + noise).clamp(0, 1)


def _train_net(views: Mapping[Side, Tensor], seed: int) -> CriticNet:
    """A net that gives the faces `views["identity"]` (N, 3, S, S) high logits and those of the performer low ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = CriticNet()
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.01)
    wanted = torch.cat([torch.full((BATCH // 2,), 1 - SMOOTHING), torch.full((BATCH // 2,), SMOOTHING)])
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        drawn = [views[side][torch.randint(0, len(views[side]), (BATCH // 2,), generator=generator)] for side in SIDES]
        loss = F.binary_cross_entropy_with_logits(net(_vary(torch.cat(drawn), generator)), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True, eq=False)
class Critic:
    """A trained net and its yardstick, see Note [Critic]."""

    net: CriticNet
    geometry: CropGeometry
    """What the crops show that it is asked about; their size is free."""
    accuracy: float
    """Share of held-out faces that it tells apart, the mean of both people."""
    performer_logit: float
    identity_logit: float
    """Means over the held-out faces of each: 0 and 1 of the margin."""

    @property
    def useful(self) -> bool:
        """Whether its answers mean anything."""
        return self.accuracy >= USELESS_BELOW and self.identity_logit > self.performer_logit

    def margin(self, faces: Tensor) -> float:
        """How much (N, 3, R, R) faces in [0, 1], N > 0, look like the identity: 0 as the performer, 1 as the identity.

        It may lie outside of [0, 1]: a painted face can look more like the identity than filmed ones do on average.
        """
        with torch.no_grad():
            logit = float(self.net(view(faces.float().cpu(), self.geometry)).mean())
        return (logit - self.performer_logit) / (self.identity_logit - self.performer_logit)


def train_critic(
    train: Mapping[Side, Tensor], held_out: Mapping[Side, Tensor], geometry: CropGeometry, seed: int
) -> Critic:
    """A critic of two people from (N, 3, R, R) crops in [0, 1] of both that show `geometry`.

    The same faces and seed give the same critic on the same machine.
    """
    net = _train_net({side: view(train[side], geometry) for side in SIDES}, seed)
    with torch.no_grad():
        logits = {side: net(view(held_out[side], geometry)) for side in SIDES}
    right = [float((logits["identity"] > 0).float().mean()), float((logits["performer"] < 0).float().mean())]
    return Critic(net, geometry, sum(right) / 2, float(logits["performer"].mean()), float(logits["identity"].mean()))


def open_critic(run: Path, facesets: Mapping[Side, Faceset], config: TrainConfig) -> Critic | None:
    """The critic of a run: RUN/critic.safetensors, or, where that is of other faces or not there, a new one put there.

    None when there are too few faces to make one. Raises FacesetError for faces that cannot be read.
    """
    key = {
        "schema": _SCHEMA,
        "facesets": {side: facesets[side].sha256 for side in SIDES},
        "view": [config.geometry.coverage, config.geometry.offset_x, config.geometry.offset_y],
        "held_out": config.held_out,
        "seed": config.seed,
    }
    known = _read(run / CRITIC, key, config.geometry)
    if known is not None:
        return known
    train: dict[Side, Tensor] = {}
    held_out: dict[Side, Tensor] = {}
    for side in SIDES:
        seen, unseen = facesets[side].split_by_time(config.held_out)
        if len(seen) < FEWEST or len(unseen) < FEWEST_HELD_OUT:
            return None
        train[side] = _crops(facesets[side], seen, FACES, config.geometry)
        held_out[side] = _crops(facesets[side], unseen, HELD_OUT, config.geometry)
    critic = train_critic(train, held_out, config.geometry, config.seed)
    if not critic.useful:
        _log.warning("the two people cannot be told apart; the identity margin will not be measured")
    try:
        _write(run / CRITIC, critic, key)
    except OSError as error:
        _log.warning("the critic is not kept: %s", explain(error, run / CRITIC))
    return critic


def _crops(faceset: Faceset, indices: NDArray[np.intp], most: int, geometry: CropGeometry) -> Tensor:
    """(N, 3, R, R) of up to `most` faces, R small enough for what the critic sees."""
    small = geometry.resized(min(geometry.size, 2 * math.ceil(SIZE * geometry.coverage / WINDOW)))
    stack = stack_faces(faceset, indices[pick_evenly(len(indices), most)], small)
    return straight_crops(stack.pixels, small.size, stack.margin).inputs


def _write(path: Path, critic: Critic, key: Mapping[str, object]) -> None:
    """Raises OSError; what was there before stays."""
    measured = [critic.accuracy, critic.performer_logit, critic.identity_logit]
    meta = json.dumps({"key": key, "measured": measured})
    write_atomically(path, save({k: v.contiguous() for k, v in critic.net.state_dict().items()}, {_META: meta}))


def _read(path: Path, key: Mapping[str, object], geometry: CropGeometry) -> Critic | None:
    """The critic at `path`; None where there is none, or one of other faces, or a damaged one."""
    if not path.is_file():
        return None
    net = CriticNet()
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})[_META])
            if meta["key"] != json.loads(json.dumps(key)):
                return None
            accuracy, performer, identity = (float(x) for x in meta["measured"])
            net.load_state_dict({name: file.get_tensor(name).clone() for name in file.keys()})  # noqa: SIM118
        values = [accuracy, performer, identity, *(float(v.sum()) for v in net.state_dict().values())]
        if not all(map(math.isfinite, values)):
            raise ValueError("not finite")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError):
        _log.warning("%s is damaged; it is made again", path)
        return None
    return Critic(net.eval().requires_grad_(False), geometry, accuracy, performer, identity)
