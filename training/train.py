"""The training loop. Two facesets in, a run folder with the best model out.

It reads from top to bottom: open, resume, step, look, save, stop. Rates and warp depend only on how much of the budget
is used, so a run can be stopped and resumed anywhere. With a budget in steps and a seed, the result on a CPU is the
same to the last bit, interrupted or not.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from realtime.errors import TrainingError, UsageError
from training import checkpoint
from training.augment import Pair, augment
from training.batches import FaceStack, stack_faces
from training.checkpoint import Progress, RunRecord
from training.config import DEFAULT_MINUTES, TrainConfig
from training.evaluate import HeldOut, draw_sheet, look
from training.faceset import Faceset
from training.model import SIDES, FaceAutoencoder, Side, SwapModel
from training.models import build_model, count_parameters
from training.objective import Objective
from training.optimizers import average, make_optimizer
from training.schedule import average_decay, budget_used, learning_rate, occluded_share, still_small, warp_strength

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """What a progress bar wants to know, after every step."""

    iteration: int
    iterations_planned: int | None
    elapsed_s: float
    eta_s: float | None
    loss: float
    held_out: float | None
    """Structural similarity on held-out faces, the newest look."""
    samples_per_s: float


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """How a run ended."""

    run: str
    preset: str
    iterations: int
    elapsed_s: float
    best_score: float
    best_iteration: int
    samples_per_s: float
    parameters: int
    device: str
    precision: str
    stopped_early: bool
    """By Ctrl-C or SIGTERM; `--resume` goes on."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def pick_device() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wants_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether to autocast to bfloat16: where it was asked for, or where the hardware multiplies it natively."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def train(
    identity: Path,
    performer: Path,
    run: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    minutes: float | None = None,
    iterations: int | None = None,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> TrainSummary:
    """Train `run` until its budget is used, or until SIGINT or SIGTERM; either way the newest state is saved.

    `minutes` and `iterations` replace the budget of the configuration. With `resume`, the run's own configuration
    counts, and of `config` only threads and precision, where they are given; where nothing was saved yet, the run
    starts afresh. Without `resume`, a folder where no weights were saved yet is taken as an empty one.
    Raises UsageError, FacesetError, TrainingError.
    """
    sets = {"identity": Faceset.open(identity), "performer": Faceset.open(performer)}
    facesets = {side: {"path": str(s.path.resolve()), "sha256": s.sha256, "faces": len(s)} for side, s in sets.items()}
    config = _settle(run, config, facesets, resume=resume, minutes=minutes, iterations=iterations)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = pick_device()
    bf16 = wants_bf16(config, device)
    ours = config.style == "liveswap"
    layout = torch.channels_last if ours else torch.contiguous_format

    model = _placed(build_model(config.model), device, layout)
    ema = _placed(build_model(config.model), device, layout).requires_grad_(False)
    ema.load_state_dict(model.state_dict())
    objective = Objective(model, config, bf16=bf16)
    weights: list[Tensor] = list(model.parameters())
    averages: list[Tensor] = list(ema.parameters())
    optimizer = make_optimizer(config, weights)
    generator = torch.Generator().manual_seed(config.seed)
    progress = Progress(history=[])
    checkpoint.sweep(run)
    if resume and (run / checkpoint.LATEST).is_file():
        progress = checkpoint.load_latest(run, model, ema, optimizer, generator)
        _log.info("resuming %s at step %d", run, progress.iteration)

    stacks: dict[Side, FaceStack] = {}
    held_out: dict[Side, HeldOut] = {}
    for side in SIDES:
        seen, unseen = sets[side].split_by_time(config.held_out)
        stacks[side] = stack_faces(sets[side], seen, config.geometry)
        held_out[side] = HeldOut.choose(sets[side], unseen if len(unseen) else seen, config.geometry)

    began_s, done_s, first = time.monotonic(), progress.elapsed_s, progress.iteration
    saved = first
    latest_look: float | None = None
    with _stop_signals() as stop:
        while budget_used(config, progress) < 1 and not stop.is_set():
            used = budget_used(config, progress)
            if config.model.grows and not still_small(config, used):
                for each in (model, ema):
                    if isinstance(each, FaceAutoencoder) and each.small:
                        each.grow()
            size = config.model.resolution // (2 if still_small(config, used) else 1)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, progress.iteration, used)

            pairs: dict[Side, Pair] = {}
            for side in SIDES:
                faces = stacks[side].batch(config.batch, generator).to(device, non_blocking=True)
                pair = augment(
                    faces,
                    size,
                    stacks[side].margin,
                    config.augment,
                    warp_strength(config, used),
                    generator,
                    occluded_share(config, used),
                )
                pairs[side] = pair._replace(inputs=pair.inputs.contiguous(memory_format=layout))
            losses = objective(pairs)
            losses.total.backward()
            norm = torch.nn.utils.clip_grad_norm_(weights, config.clip)
            # A step with a bad gradient would be in the weights for good; the check is one number, on the CPU free.
            if not math.isfinite(norm.item()):
                raise TrainingError(
                    f"the loss stopped being finite at step {progress.iteration}; resume with --precision fp32, "
                    "or start again with a lower learning_rate"
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress.iteration += 1
            average(optimizer, averages, weights, average_decay(config, progress.iteration))
            progress.elapsed_s = done_s + time.monotonic() - began_s

            ended = budget_used(config, progress) >= 1
            if progress.iteration % config.evaluate_every == 0 or ended:
                latest_look = _evaluate(run, ema, held_out, progress)
            if progress.iteration % config.save_every == 0 or ended or stop.is_set():
                checkpoint.save_latest(run, model, ema, optimizer, generator, progress)
                saved = progress.iteration
            if on_progress is not None:
                on_progress(_describe(config, progress, first, began_s, losses.total.item(), latest_look))

    if saved != progress.iteration:  # the signal came after the last chance to save
        checkpoint.save_latest(run, model, ema, optimizer, generator, progress)
    if not (run / checkpoint.BEST).is_file():  # stopped before the first look: something to export all the same
        checkpoint.save_best(run, ema, progress)
    elapsed_s = max(time.monotonic() - began_s, 1e-9)
    return TrainSummary(
        run=str(run),
        preset=config.name,
        iterations=progress.iteration,
        elapsed_s=round(progress.elapsed_s, 2),
        best_score=progress.best_score,
        best_iteration=progress.best_iteration,
        samples_per_s=round((progress.iteration - first) * 2 * config.batch / elapsed_s, 2),
        parameters=count_parameters(model),
        device=device.type,
        precision="bf16" if bf16 else "fp32",
        stopped_early=budget_used(config, progress) < 1,
    )


def _placed(model: SwapModel, device: torch.device, layout: torch.memory_format) -> SwapModel:
    """`model` on its device, in the layout that its convolutions keep from one to the next."""
    model.to(device)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


def _settle(
    run: Path,
    config: TrainConfig,
    facesets: dict[str, dict[str, Any]],
    *,
    resume: bool,
    minutes: float | None,
    iterations: int | None,
) -> TrainConfig:
    """The configuration that counts, with run.json on disk."""
    if run.exists() and not run.is_dir():
        raise UsageError(f"{run} is a file; give --out the name of a folder")
    trained = any((run / name).is_file() for name in (checkpoint.LATEST, checkpoint.BEST))
    if (run / checkpoint.RUN).is_file() and (resume or trained):
        if not resume:
            raise UsageError(f"{run} holds a run already; pass --resume to go on with it, or another --out")
        record = checkpoint.read_run(run)
        for side, now in facesets.items():
            if record.facesets.get(side, {}).get("sha256") != now["sha256"]:
                raise UsageError(f"{run} was trained on another {side} faceset; give that one, or another --out")
        threads, precision = config.threads or record.config.threads, config.precision
        config = replace(record.config, threads=threads)
        if precision != "auto":
            config = replace(config, precision=precision)
    if minutes is not None or iterations is not None:
        config = replace(config, minutes=minutes, iterations=iterations)
    if config.minutes is None and config.iterations is None:
        config = replace(config, minutes=DEFAULT_MINUTES)
    checkpoint.write_run(run, RunRecord(config, facesets))
    return config


def _evaluate(run: Path, ema: SwapModel, held_out: dict[Side, HeldOut], progress: Progress) -> float:
    """Look at the held-out faces, keep the best, leave a picture. Returns the score."""
    scores = look(ema, held_out)
    entry = {"iteration": float(progress.iteration), "elapsed_s": round(progress.elapsed_s, 2), **scores}
    progress.history = [*(progress.history or []), entry]
    if scores["score"] > progress.best_score:
        progress.best_score, progress.best_iteration = scores["score"], progress.iteration
        checkpoint.save_best(run, ema, progress)
    checkpoint.write_file(run / "sheet.png", draw_sheet(ema, held_out))
    checkpoint.write_file(run / "history.json", json.dumps(progress.history, indent=1) + "\n")
    return scores["score"]


def _describe(
    config: TrainConfig, progress: Progress, first: int, began_s: float, loss: float, held_out: float | None
) -> TrainProgress:
    used = budget_used(config, progress)
    step_s = (time.monotonic() - began_s) / max(1, progress.iteration - first)
    return TrainProgress(
        iteration=progress.iteration,
        iterations_planned=config.iterations,
        elapsed_s=progress.elapsed_s,
        eta_s=progress.elapsed_s * (1 - used) / used if used > 0 else None,
        loss=loss,
        held_out=held_out,
        samples_per_s=2 * config.batch / step_s,
    )


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that the loop ends between two steps and saves."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C means it
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
