"""Chooses what a step is trained on. A stack of faces in, this process's pairs of the batch out, part by part.

Note [Rare poses]
    Somebody who is filmed looks ahead most of the time. Of the faces that turn away there may be one in a hundred, and
    the decoder hardly ever sees them, while they are where a swap fails first. So a share of each batch is drawn evenly
    over head poses: yaw and pitch are cut into cells, and a face counts the less the more faces its cell holds. A cell
    of a few faces counts as one of LEAST_SHARE of all: it may be a face whose pose was read wrongly, and seeing the
    same face again and again teaches that face, not the pose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from realtime.errors import UsageError
from training.augment import Numbers, Pair, draw_numbers, stray
from training.batches import FaceStack
from training.config import TrainConfig
from training.distributed import Ranks
from training.model import Side
from training.occluders import shows_another
from training.peer_augment import deepfacelab_pair, faceswap_pair

CELL_DEG = 10.0
"""Sides of the cells that yaw and pitch are cut into: about what a decoder generalises over."""
LEAST_SHARE = 0.01
"""Of all faces; a cell with fewer counts as if it had as many."""
RESIDENT = 0.25
"""Of a GPU's free memory that the faces may take; larger stacks stay in main memory."""


def pose_shares(poses: Tensor) -> Tensor:
    """(N,) float64 that sum to 1: how often each face is drawn when poses count evenly, see Note [Rare poses].

    poses: (N, 2) yaw and pitch in degrees.
    """
    cells = torch.floor(poses / CELL_DEG + 0.5).long()
    _, cell, faces = torch.unique(cells, dim=0, return_inverse=True, return_counts=True)
    weights = 1 / faces[cell].double().clamp_min(LEAST_SHARE * len(poses))
    shares: Tensor = weights / weights.sum()
    return shares


class PairSource:
    """Draws training pairs of one person, the same batch in every process, and makes this process's share of it."""

    def __init__(self, stack: FaceStack, config: TrainConfig, side: Side, ranks: Ranks) -> None:
        """Raises UsageError when the batch cannot be cut into equal parts, or a peer's style does not know how."""
        self._stack, self._config, self._device = stack, config, ranks.device
        self._peer = _peer_pair(config, side)
        cuts = ranks.count * config.accumulate
        if config.batch % cuts:
            raise UsageError(
                f"{ranks.count} processes with {config.accumulate} parts each cannot share a batch of {config.batch} "
                f"equally; give a --batch that is a multiple of {cuts}"
            )
        if self._peer and ranks.count > 1:
            raise UsageError(f"the style {config.style} trains in one process only; start it without torchrun")
        mine, share = ranks.shard(config.batch), config.batch // cuts
        self._parts = [slice(start, start + share) for start in range(mine.start, mine.stop, share)]
        even = torch.full((len(stack),), 1 / len(stack), dtype=torch.float64)
        self._chances = torch.lerp(even, pose_shares(stack.poses), config.balance).cumsum(0)
        self._tells_people = config.many and side == "performer"
        self._pixels = stack.pixels
        if self._device.type == "cuda" and stack.pixels.nbytes < RESIDENT * torch.cuda.mem_get_info()[0]:
            self._pixels = stack.pixels.to(self._device)

    def draw(self, generator: torch.Generator, *, size: int, strength: float, occluded: float) -> Iterator[Pair]:
        """The `accumulate` parts of this process's share of one batch, each made when it is asked for.

        How much is drawn from `generator` depends on the configuration alone, and is drawn before the first part.

        Args:
            generator: the only source of randomness, in the same state in every process.
            size: side R of the crops.
            strength: of the warp, [0, 1].
            occluded: share of inputs that something stands in front of.
        """
        faces = self._choose(generator)
        if self._peer:
            pair = self._peer(self._gather(faces), size, self._stack.margin, generator)
            return iter([Pair(*(plane[rows] for plane in pair[:5])) for rows in self._parts])
        partners = torch.randint(0, len(self._stack), (self._config.batch,), generator=generator)
        numbers = draw_numbers(self._config.batch, self._config.augment, generator)
        make = partial(self._make, size=size, strength=strength, occluded=occluded)
        return (make(faces[rows], partners[rows], numbers.part(rows)) for rows in self._parts)

    def _choose(self, generator: torch.Generator) -> Tensor:
        """(batch,) indices into the stack, drawn with replacement."""
        throws = torch.rand(self._config.batch, dtype=torch.float64, generator=generator)
        return torch.searchsorted(self._chances, throws, right=True).clamp_max(len(self._stack) - 1)

    def _gather(self, faces: Tensor) -> Tensor:
        return self._pixels[faces.to(self._pixels.device)].to(self._device, non_blocking=True)

    def _make(
        self, faces: Tensor, partners: Tensor, numbers: Numbers, size: int, strength: float, occluded: float
    ) -> Pair:
        others = self._gather(partners[shows_another(numbers.things, occluded)])
        pair = stray(self._gather(faces), numbers, size, self._stack.margin, strength, occluded, others)
        return pair._replace(people=self._stack.sources[faces].to(self._device) if self._tells_people else None)


def _peer_pair(config: TrainConfig, side: Side) -> Callable[[Tensor, int, float, torch.Generator], Pair] | None:
    match config.style:
        case "deepfacelab":
            return partial(deepfacelab_pair, flip=side == "performer")
        case "faceswap":
            return faceswap_pair
        case "liveswap":
            return None
