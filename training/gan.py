"""The finish with a discriminator. Painted and real faces in, a term for the loss out; it learns to tell them apart.

Note [Finish]
    An autoencoder paints the mean of what a face might be, and a mean has no pores. Towards the end of a run a small
    network learns to tell what was painted from what was filmed, patch by patch, and the decoders are paid for what it
    takes for real. Hinge losses; LeCam regularisation (arXiv 2104.03310) because a few thousand faces are few; painted
    and real faces are brightened and moved alike by chance before it sees them (DiffAugment, arXiv 2006.10738).
    Everything outside the face is grey for it. At first it learns alone, then its weight rises to that of the
    configuration.

Note [Collapse]
    Adversarial training fails in two ways, and both end with a face worse than the one there was. The discriminator
    wins: even at its full weight nothing the decoders do makes it doubt any more, and they are pushed about without
    aim. Or the decoders leave the target to please it. So its own loss, and how far the paintings are from their
    targets beside what that was before it had a say, are followed all the time. Beyond either bound the finish is
    switched off for good, and the run goes on without it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.augment import Pair
from training.config import TrainConfig
from training.model import SIDES, Painted, Side

_log = logging.getLogger(__name__)

ALONE, RISE = 0.1, 0.3
"""Shares of the finish in which the discriminator learns alone, and over which its weight then rises."""
LEARNING_RATE, BETAS = 1e-3, (0.5, 0.99)
"""Of the discriminator; little momentum, as everybody does since DCGAN (arXiv 1511.06434)."""
LECAM = 0.01
"""Weight of the regularisation; the paper's for small data."""
MEMORY = 0.98
"""Share that running means keep from step to step."""
WON = 0.1
"""Hinge loss below which the discriminator has won; one that guesses has 2."""
STRAYED = 1.25
"""How much further from their targets paintings may be than before the discriminator had a say."""
BRIGHTNESS, SHIFT = 0.1, 1 / 16
"""Reach of the random brightness, of [0, 1], and of the random shift, of the side."""


class Discriminator(nn.Module):
    """Real or painted? A U-Net with two answers: one for coarse patches, one for every pixel."""

    LEVELS = 3

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        widths = [width << level for level in range(self.LEVELS + 1)]
        pairs = list(pairwise(widths))
        self.entry = nn.Conv2d(3 + 1, width, 3, padding=1)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)
        self.middle = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.ups = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in reversed(pairs))
        self.coarse, self.fine = nn.Conv2d(widths[-1], 1, 1), nn.Conv2d(width, 1, 3, padding=1)
        for module in self.modules():  # torch's own start lets a signal fade over so many layers
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, a=0.2)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 4, R, R), a picture and whose it is -> (N, 1, R/8, R/8) and (N, 1, R, R), above 0 for real."""
        x = F.leaky_relu(self.entry(x), 0.2)
        skips = []
        for down in self.downs:
            skips.append(x)
            x = F.leaky_relu(down(x), 0.2)
        x = F.leaky_relu(self.middle(x), 0.2)
        coarse = self.coarse(x)
        for up in self.ups:
            x = F.interpolate(up(x), scale_factor=2.0, mode="nearest")
            x = F.leaky_relu(x + skips.pop(), 0.2)
        return coarse.float(), self.fine(x).float()


def disturb(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """(N, C, R, R) with the first three channels brightened and everything moved, each by its own chance."""
    count, _, side, _ = pictures.shape
    light = (torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1) * BRIGHTNESS
    reach = round(SHIFT * side)
    moves = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
    light, moves = light.to(pictures.device), moves.to(pictures.device)
    rows, columns = (torch.arange(side, device=pictures.device) + moves).clamp(0, side - 1)
    who = torch.arange(count, device=pictures.device)[:, None, None]
    moved = pictures[who, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return torch.cat([moved[:, :3] + light, moved[:, 3:]], dim=1)


def _alone(x: Tensor) -> Tensor:
    return x


class GanFinish(nn.Module):
    """Discriminator, optimizer and guard of the last part of a run, see Note [Finish].

    Its parameters are the discriminator's and what the guard knows is in buffers; `tensors` and `load` carry both, with
    what the optimizer knows, over an interruption. `average` is the mean of a tensor over processes.
    """

    lecam: Tensor
    """(2,) running means of the answers to real and to painted faces."""
    hinge: Tensor
    """() running mean of the discriminator's own loss; one that guesses has 2."""
    error: Tensor
    """(2,) L1 of the paintings in the face: running mean, and that of the time before the discriminator had a say."""
    steps: Tensor
    """() steps learned."""
    off: Tensor
    """() 1 once the guard has switched it off."""

    def __init__(
        self, config: TrainConfig, *, bf16: bool = False, average: Callable[[Tensor], Tensor] = _alone
    ) -> None:
        super().__init__()
        self._config, self._bf16, self._average = config, bf16, average
        self.discriminator = Discriminator()
        for name, value in (("lecam", [0.0, 0.0]), ("hinge", 2.0), ("error", [0.0, 0.0]), ("steps", 0.0), ("off", 0.0)):
            self.register_buffer(name, torch.tensor(value))
        self.optimizer = torch.optim.AdamW(self.parameters(), LEARNING_RATE, betas=BETAS, weight_decay=1e-3)

    @property
    def active(self) -> bool:
        """Whether the configuration wants it and the guard lets it."""
        return self._config.gan > 0 and not bool(self.off)

    def learns(self, used: float) -> bool:
        """Whether it learns at this share of the budget; before, both methods below do nothing."""
        return self.active and used >= self._config.gan_from

    def weight(self, used: float) -> float:
        """What its answer counts for at this share of the budget."""
        if not self.learns(used):
            return 0.0
        done = (used - self._config.gan_from) / max(1 - self._config.gan_from, 1e-9)
        return self._config.gan * min(1.0, max(0.0, (done - ALONE) / RISE))

    def generator_term(
        self, painted: Mapping[Side, Painted], pairs: Mapping[Side, Pair], used: float, generator: torch.Generator
    ) -> Tensor:
        """() to be added to the loss: falls as the paintings look real. No gradient reaches the discriminator."""
        weight, device = self.weight(used), painted[SIDES[0]].face.device
        if weight == 0:
            return torch.zeros((), device=device)
        with self._frozen():
            answers = self._answers({side: painted[side].face for side in painted}, pairs, generator)
        return -weight * torch.stack([answer.mean() for answer in answers]).mean()

    def learn(
        self, painted: Mapping[Side, Painted], pairs: Mapping[Side, Pair], used: float, generator: torch.Generator
    ) -> None:
        """One step of the discriminator, and a look at how it goes. The paintings get no gradient."""
        if not self.learns(used):
            return
        faces = {side: painted[side].face.detach().float() for side in painted}
        real = self._answers({side: pair.targets for side, pair in pairs.items()}, pairs, generator)
        fake = self._answers(faces, pairs, generator)
        hinge = torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)])
        apart = [(r - self.lecam[1]).square().mean() for r in real] + [
            (f - self.lecam[0]).square().mean() for f in fake
        ]
        loss = hinge.mean() + LECAM * torch.stack(apart).mean() * 2
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._share_gradients()
        torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        means = [torch.stack([answer.detach().mean() for answer in answers]).mean() for answers in (real, fake)]
        wrong = torch.stack([_error(faces[side], pairs[side]) for side in faces]).mean()
        facts = self._average(torch.stack([*means, hinge.detach().mean(), wrong]))
        if self._judge(facts, used):
            self.optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly from here, by name."""
        tensors: dict[str, Tensor] = dict(self.state_dict())
        for name, parameter in self.named_parameters():
            tensors |= {f"optimizer/{key}/{name}": x for key, x in self.optimizer.state[parameter].items()}
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave. Raises RuntimeError or KeyError when they are another network's."""
        own = self.state_dict()
        self.load_state_dict({name: tensors[name] for name in own})
        for name, parameter in self.named_parameters():
            state = {key: tensors.get(f"optimizer/{key}/{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if state["step"] is not None:  # else nothing was learned yet
                where = {"step": torch.device("cpu")}
                self.optimizer.state[parameter] = {
                    key: x.to(where.get(key, parameter.device), copy=True) for key, x in state.items() if x is not None
                }

    def _answers(
        self, pictures: Mapping[Side, Tensor], pairs: Mapping[Side, Pair], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        seen = []
        for side, picture in pictures.items():
            masks = pairs[side].masks
            inside = picture.float() * masks + 0.5 * (1 - masks)
            whose = torch.full_like(masks, 1.0 if side == SIDES[0] else -1.0)
            seen.append(torch.cat([inside, whose], dim=1))
        x = disturb(torch.cat(seen), generator) * 2 - 1
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
            coarse, fine = self.discriminator(x)
        return coarse, fine

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Nothing that is computed inside leaves a gradient in the discriminator."""
        self.requires_grad_(False)
        try:
            yield
        finally:
            self.requires_grad_(True)

    def _share_gradients(self) -> None:
        """Give every process the mean gradient, in one message."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        mean = self._average(torch.cat([g.flatten() for g in gradients]))
        for own, shared in zip(gradients, torch.split(mean, [g.numel() for g in gradients]), strict=True):
            own.copy_(shared.view_as(own))

    @torch.no_grad()
    def _judge(self, facts: Tensor, used: float) -> bool:
        """Remember how the step went; False, and a line for the operator, where the finish has to end."""
        if not bool(torch.isfinite(facts).all()):
            return False  # one bad batch, see training.watchdog
        share = max(1 - MEMORY, 1 / (float(self.steps) + 1))
        self.lecam.lerp_(facts[:2], share)
        self.hinge.lerp_(facts[2], 1 - MEMORY)  # starts at the 2 of one that guesses: no early verdict
        self.error[0].lerp_(facts[3], share)
        self.steps += 1
        if self.weight(used) == 0:
            self.error[1] = self.error[0]
        elif self.weight(used) == self._config.gan and float(self.hinge) < WON:
            return self._end("it tells every painting from a real face")
        elif math.isfinite(before := float(self.error[1])) and 0 < STRAYED * before < float(self.error[0]):
            return self._end("the paintings stray from their targets")
        return True

    def _end(self, why: str) -> bool:
        self.off.fill_(1)
        _log.warning("the discriminator is switched off, the run goes on without it: %s", why)
        return False


def _error(face: Tensor, pair: Pair) -> Tensor:
    """() L1 of a painting inside the face, each channel brought to its target's mean as the loss does."""
    inside, area = pair.masks, pair.masks.sum((2, 3), keepdim=True) + 1e-6
    shift = ((face - pair.targets) * inside).sum((2, 3), keepdim=True) / area
    wrong = ((face - pair.targets - shift).abs() * inside).sum((1, 2, 3)) / (3 * area.flatten())
    return wrong.mean()
