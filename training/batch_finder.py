"""Finds the batch that fits this machine. A configuration in; batches, their memory and their speed, measured, out.

Nothing is estimated: each batch takes real steps - pictures, warp, both people, the discriminator if there will be one,
optimizer, watchdog - in a process of its own, whose largest use of memory the system or the GPU's allocator knows. A
process that dies of it counts as an answer, too.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Literal

import torch

from realtime.errors import LiveswapError, TrainingError
from training.augment import Pair
from training.batches import MARGIN, FaceStack
from training.config import TrainConfig
from training.distributed import Ranks
from training.free_memory import free_bytes, largest_use_bytes
from training.gan import GanFinish
from training.memory import keep_memory
from training.model import SIDES, FaceAutoencoder, Side, recompute_activations
from training.models import build_model
from training.objective import Objective
from training.optimizers import average, make_optimizer
from training.sampling import PairSource
from training.watchdog import Verdict, Watchdog

SHARE = 0.8
"""Of the free memory that training may take: other programs live here, and steps differ."""
MOST = 256
"""Faces of each person in a step; beyond, a step teaches hardly more than a smaller one."""
AS_FAST = 0.95
"""A batch this near to the best rate is as fast; the smallest of them teaches most in a minute."""
FACES = 64
"""In the stack of noise that steps are made of."""
_TIMED_S = 0.5
_PATIENCE_S = 600.0
"""For one process; by then it has come to rest on a swapping disk."""


Limit = Literal["memory", "patience", "most"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One batch that was tried."""

    batch: int
    peak_bytes: int | None
    """None: it died of a lack of memory."""
    seconds_per_step: float
    free_bytes: int
    """Of the GPU, or of the machine, before the model was built."""

    @property
    def samples_per_s(self) -> float:
        """Faces of both people together."""
        return 2 * self.batch / self.seconds_per_step


@dataclass(frozen=True, slots=True)
class Found:
    """What fits."""

    batch: int
    """The largest that was found to fit."""
    peak_bytes: int
    limit_bytes: int
    seconds_per_step: float
    fastest: int
    """The smallest batch that trains nearly as many faces a second as any that fits: the one to train with."""
    limited_by: Limit
    """What ended the search for larger ones."""
    probes: tuple[Probe, ...]
    """Every batch that was tried, smallest first."""


def find_batch(
    config: TrainConfig,
    *,
    limit_bytes: int | None = None,
    reserve_bytes: int = 0,
    most: int = MOST,
    patience_s: float = 30.0,
) -> Found:
    """Double the batch until it is too large, then bisect; `config.batch` does not matter.

    Args:
        config: what is trained; a batch is a multiple of its `accumulate`.
        limit_bytes: what training may take; None: SHARE of what is free, less `reserve_bytes`.
        reserve_bytes: what the run needs besides, for example its stacks of faces.
        most: no batch beyond this is tried.
        patience_s: no batch is begun that would make the search take longer, but for the bisection.

    Raises TrainingError when not even the smallest batch fits, UsageError when this system cannot tell memory.
    """
    search = _Search(config, limit_bytes, reserve_bytes)
    limited_by = search.double(most, patience_s)
    search.bisect()
    return search.found(limited_by)


class _Search:
    """What was tried, and between which batches the limit lies."""

    def __init__(self, config: TrainConfig, limit_bytes: int | None, reserve_bytes: int) -> None:
        self._config, self._unit = config, config.accumulate
        self._limit, self._reserve = limit_bytes, reserve_bytes
        self._probes: dict[int, Probe] = {}
        self._fits, self._too_large = 0, 0

    def double(self, most: int, patience_s: float) -> Limit:
        """From the smallest batch up to the first that does not fit. Says what ended it."""
        began_s, batch = time.monotonic(), self._unit
        while batch <= most:
            before_s = time.monotonic()
            if not self._try(batch):
                return "memory"
            now_s = time.monotonic()
            if batch * 2 <= most and now_s - began_s + 2 * (now_s - before_s) > patience_s:
                return "patience"
            batch *= 2
        return "most"

    def bisect(self) -> None:
        """Between the largest that fitted and the smallest that did not, to an eighth."""
        while self._too_large - self._fits > max(self._unit, self._fits // 8):
            middle = (self._fits + self._too_large) // 2 // self._unit * self._unit
            if middle <= self._fits:
                return
            self._try(middle)

    def found(self, limited_by: Limit) -> Found:
        assert self._limit is not None
        if not self._fits:
            raise TrainingError(
                f"not even {self._unit} faces of each person fit into {max(self._limit, 0) / 2**20:.0f} MiB of memory; "
                "close other programs, or choose a smaller preset"
            )
        tried = tuple(self._probes[batch] for batch in sorted(self._probes))
        fitting = [probe for probe in tried if probe.batch <= self._fits]
        best = max(probe.samples_per_s for probe in fitting)
        fastest = next(probe.batch for probe in fitting if probe.samples_per_s >= AS_FAST * best)
        largest = fitting[-1]
        assert largest.peak_bytes is not None
        return Found(
            largest.batch, largest.peak_bytes, self._limit, largest.seconds_per_step, fastest, limited_by, tried
        )

    def _try(self, batch: int) -> bool:
        """Whether it fits."""
        probe = self._probes[batch] = _probe(self._config, batch)
        if self._limit is None:
            self._limit = round(SHARE * probe.free_bytes) - self._reserve
        fits = probe.peak_bytes is not None and probe.peak_bytes <= self._limit
        if fits:
            self._fits = batch
        else:
            self._too_large = batch
        return fits


def _probe(config: TrainConfig, batch: int) -> Probe:
    """Measure one batch in a process of its own. Raises what it raised, but for a lack of memory."""
    context: ForkServerContext | SpawnContext = multiprocessing.get_context("spawn")
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # one server imports torch, once
    mine, other = context.Pipe(duplex=False)
    config = replace(config, batch=batch)
    process = context.Process(target=_measure, args=(config.to_dict(), other), name=f"batch {batch}", daemon=True)
    process.start()
    other.close()
    told: dict[str, object] = {}
    try:
        if mine.poll(_PATIENCE_S):
            told = mine.recv()
    except EOFError:  # the system killed it
        pass
    finally:
        process.kill()
        process.join()
        mine.close()
    error = told.get("error")
    if isinstance(error, str):
        raise TrainingError(f"a batch of {batch} could not be tried: {error}; give --batch a number")
    peak, seconds, free = (told.get(name) for name in ("peak_bytes", "seconds_per_step", "free_bytes"))
    return Probe(
        batch,
        peak if isinstance(peak, int) else None,
        seconds if isinstance(seconds, float) else math.inf,
        free if isinstance(free, int) else free_bytes(),
    )


def _measure(values: dict[str, object], told: Connection) -> None:
    """In the process of a probe: take steps, say what they took."""
    answer: dict[str, object] = {}
    try:
        config = TrainConfig.from_dict(values)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        answer["free_bytes"] = torch.cuda.mem_get_info()[0] if device.type == "cuda" else free_bytes()
        answer["seconds_per_step"] = _steps(config, device)
        answer["peak_bytes"] = torch.cuda.max_memory_allocated() if device.type == "cuda" else largest_use_bytes()
    except (MemoryError, torch.OutOfMemoryError):
        pass
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            answer["error"] = " ".join(str(error).split())
    except LiveswapError as error:
        answer["error"] = str(error)
    told.send(answer)
    told.close()


def _steps(config: TrainConfig, device: torch.device) -> float:
    """Take steps as the training loop does, at the end of the run, when everything takes part. Seconds of one."""
    from training.train import wants_bf16

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_memory()
    ranks, bf16 = Ranks(0, 1, device), wants_bf16(config, device)
    layout = torch.channels_last if config.style == "liveswap" else torch.contiguous_format
    model, ema = (build_model(config.model).to(device) for _ in range(2))
    ema.requires_grad_(False)
    if config.checkpoint_activations:
        recompute_activations(model)
    for module in (model, ema):
        if isinstance(module, FaceAutoencoder) and module.small:
            module.grow()
    weights, averages = list(model.parameters()), list(ema.parameters())
    optimizer, gan = make_optimizer(config, weights), GanFinish(config, bf16=bf16).to(device)
    watchdog = Watchdog(model, ema, optimizer)
    watchdog.begin()
    objective = Objective(model, config, bf16=bf16)
    generator = torch.Generator().manual_seed(0)
    sources = {side: PairSource(_noise(config, generator), config, side, ranks) for side in SIDES}
    best_s, began_s, number = math.inf, time.monotonic(), 0
    # The second step is the first with all that the optimizer remembers; the first warms up and is not timed.
    while number < 2 or time.monotonic() - began_s < _TIMED_S:
        before_s = time.monotonic()
        drawn = [
            sources[side].draw(generator, size=config.model.resolution, strength=1.0, occluded=1.0) for side in SIDES
        ]
        for _ in range(config.accumulate):
            pairs: dict[Side, Pair] = {}
            for side, source in zip(SIDES, drawn, strict=True):
                pair = next(source)
                pairs[side] = pair._replace(inputs=pair.inputs.contiguous(memory_format=layout))
            losses = objective(pairs)
            total = losses.total + gan.generator_term(losses.painted, pairs, 1.0, generator)
            torch.autograd.backward(total / config.accumulate)
            gan.learn(losses.painted, pairs, 1.0, generator)
        norm = torch.nn.utils.clip_grad_norm_(weights, config.clip)
        if watchdog.judge(total, norm, number) is Verdict.STEP:
            optimizer.step()
            average(optimizer, averages, weights, config.ema)
            watchdog.keep(number + 1)
        optimizer.zero_grad(set_to_none=True)
        if number:
            best_s = min(best_s, time.monotonic() - before_s)
        number += 1
    return best_s


def _noise(config: TrainConfig, generator: torch.Generator) -> FaceStack:
    """Faces of noise, as large as those of a faceset are stacked."""
    side = round(2 * config.model.resolution * MARGIN)
    pixels = torch.randint(0, 256, (FACES, 5, side, side), dtype=torch.uint8, generator=generator)
    return FaceStack(pixels, MARGIN, torch.zeros(FACES, 2), torch.zeros(FACES, dtype=torch.int64))
