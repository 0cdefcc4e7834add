"""One of several processes in a test. A scenario's name in; what this process saw, as JSON on the output, out."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from realtime.errors import FacesetError, LiveswapError
from training.distributed import Ranks, end_process, mean_over_ranks
from training.losses import alignment_loss
from training.model import CodeStatistics


def agree(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Everything that one process can ask of all."""
    with ranks.lent(folder / ("here" if ranks.leads else "nowhere") / "state.bin") as file:
        name, lent = file.name, file.read_bytes()
    told = ranks.tell(f"from {ranks.rank}".encode()).decode()
    try:
        ranks.same(str(ranks.rank), "facesets")
        refused = ""
    except LiveswapError as error:
        refused = str(error)
    ranks.same("alike", "facesets")
    return {
        "leads": ranks.leads,
        "nobody": ranks.any(False),
        "one": ranks.any(ranks.rank == 1),
        "lead": ranks.lead(10.5 + ranks.rank),
        "mean": float(ranks.mean(torch.tensor(float(ranks.rank)))),
        "shard": [ranks.shard(8).start, ranks.shard(8).stop],
        "told": told,
        "nothing": ranks.tell(b"").decode(),
        "refused": refused,
        "lent": [name, hashlib.sha256(lent).hexdigest()],
    }


class Squared(nn.Module):
    """A loss of the mean over the whole batch, which no process has alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(1.0, 4.0))

    def forward(self, x: Tensor) -> Tensor:
        moment = mean_over_ranks((torch.tanh(x * self.weight)).mean(dim=0))
        return (moment**2).sum()


def gradient(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The gradient of such a loss, in two parts of which only the second is sent."""
    batch = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    bare, shared = Squared(), ranks.wrap(Squared())
    torch.autograd.backward(bare(batch))  # every process has the whole batch here: the mean changes nothing
    before = [1.0] * 3
    for skip in (True, False):
        with ranks.no_sync(shared, skip):
            torch.autograd.backward(shared(batch[ranks.shard(8)]) / 2)
        if skip:
            before = gradient_of(shared)
    return {"whole": gradient_of(bare), "shared": gradient_of(shared), "first_part": before}


class Pulled(nn.Module):
    """The pull on the codes of one person, whose cloud lies beside the other's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(4))
        self.statistics = CodeStatistics(4)
        self.statistics.updates.fill_(3000)
        self.statistics.mean[1] += 2

    def forward(self, x: Tensor) -> Tensor:
        code = x @ self.weight
        pull = alignment_loss(code, "identity", self.statistics)
        self.statistics.update(code.detach(), "identity")
        return pull


def clouds(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Pull, its gradient and the statistics, from half the codes and from all."""
    codes = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)) + 3
    bare = Pulled()
    shared = ranks.wrap(Pulled())
    seen = {}
    for name, module, part in (("whole", bare, codes), ("shared", shared, codes[ranks.shard(8)])):
        pull = module(part)
        torch.autograd.backward(pull)
        (_, mean), (_, covariance), _ = module.named_buffers()
        seen[name] = [pull.item(), *gradient_of(module), *mean[0].tolist(), *covariance[0].flatten().tolist()]
    return seen


def gradient_of(module: nn.Module) -> list[float]:
    (parameter,) = module.parameters()
    assert parameter.grad is not None
    values: list[float] = parameter.grad.flatten().tolist()
    return values


def fails(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Process 1 cannot go on, the other waits for it."""
    if ranks.rank == 1:
        raise FacesetError("the faces are gone; bring them back")
    ranks.barrier()
    return {}


def dies(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Process 1 is killed, the other waits for it."""
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.barrier()
    return {}


SCENARIOS = {"agree": agree, "gradient": gradient, "clouds": clouds, "fails": fails, "dies": dies}


def main(name: str, folder: Path) -> None:
    seen: dict[str, Any] = {}
    try:
        with Ranks.join(timeout_s=60) as ranks:
            seen = SCENARIOS[name](ranks, folder)
    except LiveswapError as error:
        seen = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    end_process(0)
