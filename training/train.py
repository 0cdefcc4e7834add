"""The training loop. Two facesets in, a run folder with the best model out.

It reads from top to bottom: open, resume, step, look, save, stop. Rates and warp depend only on how much of the budget
is used, so a run can be stopped and resumed anywhere. With a budget in steps and a seed, the result on a CPU is the
same to the last bit, interrupted or not; several processes reach it together, see training.distributed.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from training import checkpoint
from training.augment import Pair
from training.batches import stack_faces
from training.checkpoint import Progress, Resumable, pack_best, pack_latest
from training.claim import claimed
from training.config import TrainConfig
from training.distributed import Ranks
from training.faceset import Faceset
from training.gan import GanFinish
from training.memory import keep_memory
from training.model import SIDES, FaceAutoencoder, Side, SwapModel, recompute_activations
from training.models import build_model, count_parameters
from training.objective import Objective, compiled
from training.observer import Observer
from training.optimizers import average, make_optimizer
from training.outbox import Outbox
from training.sampling import PairSource
from training.schedule import Budget, average_decay, learning_rate, occluded_share, still_small, warp_strength
from training.settle import settle
from training.watchdog import Verdict, Watchdog

_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
NOTE_EVERY = 10
"""Steps between two entries of the losses in the journal."""
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
    gain_per_hour: float | None
    """Of that, forecast; None while the looks are too few."""
    samples_per_s: float


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """How a run ended."""

    run: str
    preset: str
    iterations: int
    iterations_done: int
    """In this call; fewer than `iterations` where the run was resumed."""
    elapsed_s: float
    best_score: float | None
    """What the best look was worth, see training.evaluate.worth; None without a look."""
    best_iteration: int
    rollbacks: int
    """How often the run left its way and was put back, see training.watchdog."""
    samples_per_s: float
    parameters: int
    device: str
    precision: str
    stopped_early: bool
    """By Ctrl-C, SIGTERM or a closed terminal; `--resume` goes on."""
    gain_per_hour: float | None
    """Held-out score that another hour would add, see training.plateau; None where the looks are too few to tell."""
    outlook: str | None
    """The same in words, and when the score will be flat."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


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
    on_step: Callable[[Progress, SwapModel], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainSummary:
    """Train `run` until its budget is used, or until SIGINT or SIGTERM; either way the newest state is saved.

    `minutes` and `iterations` replace the budget of the configuration. With `resume`, the run's own configuration
    counts, and of `config` only threads and precision, where they are given; where nothing was saved yet, the run
    starts afresh. Without `resume`, a folder where no weights were saved yet is taken as an empty one.
    `on_progress` hears of every step; `on_step` gets the averaged weights after each, while the clock of the run stands
    still, and has to leave them alone.
    `clock` tells the seconds that minutes are counted in; time.process_time leaves out what other programs take.
    Under torchrun, all processes call this alike. Raises UsageError, FacesetError, TrainingError.
    """
    with ExitStack() as held:
        ranks = held.enter_context(Ranks.join())
        stop = held.enter_context(_stop_signals())
        sets: dict[Side, Faceset] = {"identity": Faceset.open(identity), "performer": Faceset.open(performer)}
        facts: dict[str, dict[str, Any]] = {
            side: {"path": str(s.path.resolve()), "sha256": s.sha256, "faces": len(s)} for side, s in sets.items()
        }
        if config.many:
            config = replace(config, model=replace(config.model, people=len(sets["performer"].sources)))
        ranks.same(" ".join(s.sha256 for s in sets.values()), "facesets")
        if ranks.leads:
            held.enter_context(claimed(run))
            config = settle(run, config, facts, resume=resume, minutes=minutes, iterations=iterations)
            checkpoint.sweep(run)
        config = TrainConfig.from_dict(json.loads(ranks.tell(json.dumps(config.to_dict()).encode())))
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        keep_memory()
        torch.manual_seed(config.seed)
        bf16 = bool(ranks.lead(wants_bf16(config, ranks.device)))
        layout = torch.channels_last if config.style == "liveswap" else torch.contiguous_format

        model, ema = (_placed(build_model(config.model), ranks.device, layout) for _ in range(2))
        ema.requires_grad_(False).load_state_dict(model.state_dict())
        if config.checkpoint_activations:
            recompute_activations(model)
        weights: list[Tensor] = list(model.parameters())
        averages: list[Tensor] = list(ema.parameters())
        optimizer = make_optimizer(config, weights)
        gan = GanFinish(config, bf16=bf16, average=ranks.mean).to(ranks.device)
        watchdog = Watchdog(model, ema, optimizer)
        others: dict[str, Resumable] = {"watchdog": watchdog} | ({"gan": gan} if config.gan else {})
        generator = torch.Generator().manual_seed(config.seed)
        progress = Progress(history=[])
        if ranks.lead(resume and (run / checkpoint.LATEST).is_file()):
            with ranks.lent(run / checkpoint.LATEST) as latest:
                progress = checkpoint.load_latest(latest.parent, model, ema, optimizer, generator, **others)
            checkpoint.keep_better(run, progress)
            _log.info("resuming %s at step %d", run, progress.iteration)
        watchdog.begin()
        objective = compiled(ranks.wrap(Objective(model, config, bf16=bf16), unused=config.model.grows), config)
        budget = Budget(config, progress.history or ())
        outbox = Outbox(run)
        sources = {}
        for side in SIDES:
            seen, _ = sets[side].split_by_time(config.held_out)
            sources[side] = PairSource(stack_faces(sets[side], seen, config.geometry), config, side, ranks)
        observer = held.enter_context(Observer(run, sets, config, progress, outbox)) if ranks.leads else None

        began_s, done_s, first = clock(), progress.elapsed_s, progress.iteration
        saved, saved_s, looked_s = first, progress.elapsed_s, progress.elapsed_s
        latest_look: float | None = None
        while (used := budget.used(progress)) < 1 and not ranks.any(stop.is_set()):
            for group in optimizer.param_groups:
                group["lr"] = watchdog.rate * learning_rate(config, progress.iteration, used)
            if not still_small(config, used) and _grow(model, ema):
                watchdog.forget_level()
            drawn = [
                sources[side].draw(
                    generator,
                    size=config.model.resolution // (2 if still_small(config, used) else 1),
                    strength=warp_strength(config, used),
                    occluded=occluded_share(config, used),
                )
                for side in SIDES
            ]

            loss = torch.zeros((), device=ranks.device)
            parts: dict[str, Tensor] = {}
            for part in range(config.accumulate):
                pairs = {side: _laid(next(source), layout) for side, source in zip(SIDES, drawn, strict=True)}
                with ranks.no_sync(objective, part + 1 < config.accumulate):
                    losses = objective(pairs)
                    total = losses.total + gan.generator_term(losses.painted, pairs, used, generator)
                    torch.autograd.backward(total / config.accumulate)
                gan.learn(losses.painted, pairs, used, generator)
                loss += total.detach() / config.accumulate
                parts = losses.parts
            loss = ranks.mean(loss)
            norm = torch.nn.utils.clip_grad_norm_(weights, config.clip)
            verdict = watchdog.judge(loss, norm, progress.iteration)
            progress.iteration += 1
            if verdict is Verdict.STEP:
                optimizer.step()
                average(optimizer, averages, weights, average_decay(config, progress.iteration))
                watchdog.keep(progress.iteration)
            optimizer.zero_grad(set_to_none=True)
            progress.elapsed_s = ranks.lead(done_s + clock() - began_s)

            ended = budget.used(progress) >= 1
            samples_per_s = 2 * config.batch * (progress.iteration - first) / (clock() - began_s)
            if observer is not None and progress.iteration % NOTE_EVERY == 0:
                noted = {f"loss/{name}": float(value) for name, value in parts.items()}
                rates = {"rate": optimizer.param_groups[0]["lr"], "samples_per_s": samples_per_s}
                observer.journal.step(
                    progress.iteration, {"loss": watchdog.loss, **noted, **rates, "gradient_norm": float(norm)}
                )
            look_due = progress.elapsed_s - looked_s >= config.evaluate_every_s
            if progress.iteration % config.evaluate_every == 0 or ended or look_due:
                looked_s = progress.elapsed_s
                figures = {} if observer is None else observer.look(ema, progress, watchdog.rollbacks)
                figures = json.loads(ranks.tell(json.dumps(figures).encode()))
                budget.add({"iteration": float(progress.iteration), **figures})
                latest_look = figures["score"]
            save_due = progress.elapsed_s - saved_s >= config.save_every_s
            save_due |= progress.iteration % config.save_every == 0
            due = ranks.leads and (save_due or ended or stop.is_set())
            if due:
                saved_s = progress.elapsed_s
            if due and outbox.put_latest(pack_latest(model, ema, optimizer, generator, progress, **others)):
                saved = progress.iteration
            if on_step is not None and ranks.leads:
                paused_s = clock()
                on_step(progress, ema)
                began_s += clock() - paused_s
            if on_progress is not None and ranks.leads:
                left_s = budget.left_s(progress)
                on_progress(
                    TrainProgress(
                        progress.iteration,
                        config.iterations,
                        progress.elapsed_s,
                        left_s,
                        watchdog.loss,
                        latest_look,
                        budget.outlook.gain_per_hour if budget.outlook else None,
                        samples_per_s,
                    )
                )

        if ranks.leads:
            if not outbox.has_best:  # stopped before the first look: something to export all the same
                outbox.put_best(pack_best(ema, progress))
            if saved != progress.iteration:  # the signal came after the last chance to save, or the disk was full
                outbox.put_latest(pack_latest(model, ema, optimizer, generator, progress, **others))
            outbox.close()
        elapsed_s = max(clock() - began_s, 1e-9)
        return TrainSummary(
            run=str(run),
            preset=config.name,
            iterations=progress.iteration,
            iterations_done=progress.iteration - first,
            elapsed_s=round(progress.elapsed_s, 2),
            best_score=progress.best_score if progress.history else None,
            best_iteration=progress.best_iteration,
            rollbacks=watchdog.rollbacks,
            samples_per_s=round((progress.iteration - first) * 2 * config.batch / elapsed_s, 2),
            parameters=count_parameters(model),
            device=ranks.device.type,
            precision="bf16" if bf16 else "fp32",
            stopped_early=budget.used(progress) < 1,
            gain_per_hour=round(budget.outlook.gain_per_hour, 5) if budget.outlook else None,
            outlook=budget.outlook.words if budget.outlook else None,
        )


def _placed(model: SwapModel, device: torch.device, layout: torch.memory_format) -> SwapModel:
    """`model` on its device, in the layout that its convolutions keep from one to the next."""
    model.to(device)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


def _laid(pair: Pair, layout: torch.memory_format) -> Pair:
    return pair._replace(inputs=pair.inputs.contiguous(memory_format=layout))


def _grow(*models: SwapModel) -> bool:
    """Let them paint at full resolution; whether they did not yet."""
    small = [model for model in models if isinstance(model, FaceAutoencoder) and model.small]
    for model in small:
        model.grow()
    return bool(small)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set, so that the loop ends between two steps and saves."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C means it
        stop.set()

    before = {number: signal.signal(number, ask) for number in _STOPPING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
