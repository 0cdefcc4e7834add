"""Several processes train one model. torchrun's environment in; this process's share, and what all of them say, out.

Note [Processes that share a batch]
    Every process holds the whole model and draws the same numbers, see Note [Drawn whole]; each makes and computes its
    own rows of the batch. DistributedDataParallel averages the gradients, and since every loss is a mean over faces
    (Note [One mean]) and all shares are equal, that average is the gradient of the whole batch. So weights, averaged
    weights, optimizer and random state stay the same everywhere, and what process 0 writes is all there is to write.
    They are the weights that one process would have reached, but for the order in which float32 sums are taken.

Note [Gradient of a mean over processes]
    The pull between clouds of codes needs moments of the whole batch, m = (m_1 + ... + m_n) / n. Every process computes
    the same g(m) and should contribute g'(m) m_k' / n to the gradient. DistributedDataParallel divides by n already, so
    backwards the mean passes g'(m) on unchanged and nothing is sent. That holds because g sees m alone, the same in
    every process: moments have to be plain sums over faces, centred by something that is known before.

Note [Who says what went wrong]
    Process 0 alone speaks. A process that fails leaves its sentence in the store that torchrun keeps, before it goes;
    the others find their connection closed at the next step, look there, and end too.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from realtime.errors import LiveswapError, TrainingError, UsageError

TIMEOUT_S = 600.0
"""How long a process waits for the others. One that ends is noticed at once; this is for a machine that vanishes, and
longer than a look at the held-out faces or a compilation, which the others wait for."""
CHUNK = 64 << 20
"""Bytes of a file that are sent at once."""
_FAILED = "liveswap/failed"


class _Mean(torch.autograd.Function):
    """See Note [Gradient of a mean over processes]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def end_process(code: int) -> NoReturn:
    """End one of several processes at once, with what was printed printed.

    A thread of gloo may still be joinable when the destructors of the libraries run, and C++ then aborts a process that
    has done everything it had to do: seen in one of four exits with torch 2.13.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of `x` over all processes, differentiable; `x` itself where there is one. All have to call it."""
    if not dist.is_initialized():
        return x
    mean: Tensor = _Mean.apply(x)  # type: ignore[no-untyped-call]
    return mean


class Ranks:
    """The processes that train together, seen by one of them. Use it in a `with` block, so that nobody is left waiting.

    Every method that asks the others (`any`, `lead`, `tell`, `lent`, `same`, `mean`, `barrier`) has to be called by all
    of them in the same order.
    """

    def __init__(self, rank: int, count: int, device: torch.device, store: Store | None = None) -> None:
        self.rank, self.count, self.device, self._store = rank, count, device, store

    @classmethod
    def join(cls, timeout_s: float = TIMEOUT_S) -> Ranks:
        """Meet the others that torchrun has started; alone where it has not. Raises UsageError, TrainingError.

        Uses the GPU number LOCAL_RANK where there are GPUs, and else an equal share of the processor's cores.
        """
        if "RANK" not in os.environ:
            return cls(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        rank, count, local, neighbours = (
            _environment(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        )
        device, backend = torch.device("cpu"), "gloo"
        if torch.cuda.is_available():
            if local >= torch.cuda.device_count():
                raise UsageError(
                    f"this machine has {torch.cuda.device_count()} GPUs for {neighbours} processes; "
                    "give torchrun --nproc-per-node that number at most"
                )
            device, backend = torch.device("cuda", local), "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(device)
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // neighbours))
        timeout = timedelta(seconds=timeout_s)
        try:
            store, _, _ = next(rendezvous("env://", rank, count, timeout=timeout))
            dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
        except (ValueError, RuntimeError) as error:
            raise TrainingError(
                f"process {rank} of {count} does not reach the others; start all of them with torchrun, "
                "with one --rdzv-endpoint that every machine can reach"
            ) from error
        return cls(rank, count, device, store)

    @property
    def leads(self) -> bool:
        """Whether this is process 0, the one that looks, writes and speaks."""
        return self.rank == 0

    def shard(self, faces: int) -> slice:
        """Which of `faces` this process has to do. Raises UsageError when they cannot be shared out equally."""
        if faces % self.count:
            raise UsageError(f"{self.count} processes cannot share a batch of {faces} equally; give another --batch")
        share = faces // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def any(self, flag: bool) -> bool:
        """Whether any process says yes."""
        if self._store is None:
            return flag
        answer = torch.tensor([int(flag)])
        dist.all_reduce(answer, dist.ReduceOp.MAX)
        return bool(answer.item())

    def lead(self, value: float) -> float:
        """The value of process 0."""
        if self._store is None:
            return value
        number = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(number, src=0)
        return float(number.item())

    def mean(self, x: Tensor) -> Tensor:
        """See `mean_over_ranks`."""
        return mean_over_ranks(x)

    def tell(self, data: bytes) -> bytes:
        """What process 0 says."""
        if self._store is None:
            return data
        length = int(self.lead(len(data)))
        if not length:
            return b""
        heard = torch.frombuffer(bytearray(data if self.leads else length), dtype=torch.uint8)
        dist.broadcast(heard, src=0)
        return heard.numpy().tobytes()

    def same(self, text: str, what: str) -> None:
        """Raises UsageError in every process when not all of them bring the same text, which is named `what`."""
        if self.any(self.tell(text.encode()) != text.encode()):
            raise UsageError(f"the processes were given different {what}; copy the same files to every machine")

    @contextmanager
    def lent(self, path: Path) -> Iterator[Path]:
        """A file that process 0 has: itself there, elsewhere a copy of the same name that lasts as long as the block.

        Raises OSError.
        """
        if self.leads:
            if self._store is not None:
                with path.open("rb") as file:
                    while self.tell(file.read(CHUNK)):
                        pass
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="liveswap-") as folder:
            copy = Path(folder) / path.name
            with copy.open("wb") as file:
                while chunk := self.tell(b""):
                    file.write(chunk)
            yield copy

    def wrap(self, module: nn.Module, *, unused: bool = False) -> nn.Module:
        """`module` such that its gradients are the mean over all processes; starts with the weights of process 0.

        Call it once the weights lie where they stay. `unused`: a forward may leave out some parameters.
        """
        if self._store is None:
            return module
        # Buffers are the same everywhere already; torch 2.13 has renamed the setting and warns of the old name.
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        quiet: dict[str, Any] = {
            "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False
        }
        return DistributedDataParallel(
            module,
            device_ids=None if self.device.type == "cpu" else [self.device],
            gradient_as_bucket_view=True,
            find_unused_parameters=unused,
            **quiet,
        )

    def no_sync(self, module: nn.Module, skip: bool = True) -> AbstractContextManager[None]:
        """Inside, gradients only add up here: for forward and backward of all parts of a batch but the last."""
        if skip and isinstance(module, DistributedDataParallel):
            quiet: AbstractContextManager[None] = module.no_sync()
            return quiet
        return nullcontext()

    def barrier(self) -> None:
        """Wait for all."""
        self.any(False)

    def leave(self) -> None:
        """End the meeting; safe to call twice."""
        if self._store is not None and dist.is_initialized():
            dist.destroy_process_group()
        self._store = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if self._store is not None and error is None:
                self.barrier()  # torchrun ends all as soon as one has ended badly: wait until process 0 has written
        except RuntimeError as lost:
            raise TrainingError(self._blame(lost)) from lost
        else:
            if self._store is not None and error is not None:
                if _is_loss_of_contact(error):
                    raise TrainingError(self._blame(error)) from error
                self._leave_word(error)
        finally:
            self.leave()

    def _leave_word(self, error: BaseException) -> None:
        sentence = str(error) if isinstance(error, LiveswapError) else f"{type(error).__name__}: {error}"
        assert self._store is not None
        with suppress(RuntimeError):  # the store may be gone, too
            self._store.compare_set(_FAILED, "", f"process {self.rank}: {sentence}" if self.rank else sentence)

    def _blame(self, error: BaseException) -> str:
        """Why the others are gone."""
        assert self._store is not None
        with suppress(RuntimeError):
            if self._store.check([_FAILED]):
                return str(self._store.get(_FAILED).decode())
        return "another process of this training is gone; look what ended it, then go on with --resume"


def _environment(name: str) -> int:
    try:
        return int(os.environ[name])
    except (KeyError, ValueError) as error:
        raise UsageError(f"RANK is set but {name} is not a number; start several processes with torchrun") from error


def _is_loss_of_contact(error: BaseException) -> bool:
    # Gloo says it with a plain RuntimeError, in words of its own.
    said = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in said for word in ("gloo", "nccl", "connection closed by peer"))
    )
