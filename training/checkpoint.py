"""Keeps a run on disk. Weights, optimizer and random state in, the same bits out - or one sentence about why not.

Note [Run folder]
    run.json               the configuration and the facesets; written before the first step of each start
    latest.safetensors     everything needed to go on: weights, averaged weights, optimizer, random state
    best.safetensors       the averaged weights with the best held-out score: what is evaluated and exported
    sheet.png, history.json   for people

    Every file is written beside its name, forced to the disk and renamed, so a kill at any moment leaves the previous
    one. safetensors and JSON only: nothing is ever unpickled.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from realtime.errors import TrainingError, UsageError
from realtime.files import explain, write_atomically
from training.config import TrainConfig
from training.model import Side, SwapModel
from training.models import build_model

SCHEMA, READABLE = 2, (1, 2)
"""What is written and what can be read; of 1, which had AdamW's moments and nothing else beside the weights."""
LATEST, BEST, RUN = "latest.safetensors", "best.safetensors", "run.json"
MOST_WORTH = 1.0
"""Of a look: a similarity, see training.evaluate; a checkpoint that claims more would never be bettered."""
_META = "liveswap.checkpoint"
_RNG = "random_state"
_LEFTOVER = re.compile(
    r"\.(latest|best|run|sheet|history|critic|report)\.[0-9a-f]{8}\.part\.(safetensors|json|png|html)", re.ASCII
)
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """Where a run stands; everything but weights and random state."""

    iteration: int = 0
    elapsed_s: float = 0.0
    """Training time, summed over interruptions."""
    best_score: float = -10.0
    best_iteration: int = 0
    history: list[dict[str, float]] | None = None
    """One entry per look at the held-out faces."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What run.json says."""

    config: TrainConfig
    facesets: dict[str, dict[str, Any]]
    """By side: path, sha256, faces."""


def write_file(path: Path, data: bytes | str) -> None:
    """Write whole or not at all. Raises TrainingError; what was there before stays."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise TrainingError(explain(error, path)) from error


def write_run(run: Path, record: RunRecord) -> None:
    """Create the folder and run.json."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(explain(error, run)) from error
    values = {"schema": SCHEMA, "config": record.config.to_dict(), "facesets": record.facesets}
    write_file(run / RUN, json.dumps(values, indent=2, sort_keys=True) + "\n")


def read_run(run: Path) -> RunRecord:
    """What run.json says. Raises TrainingError."""
    path = run / RUN
    try:
        if path.stat().st_size > 1 << 20:
            raise TrainingError(f"{path} is too large to be ours; give the folder that 'liveswap train --out' made")
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] not in READABLE:
            raise TrainingError(f"{path} was written by another version of liveswap; train again")
        facesets = {
            side: {"path": str(facts["path"]), "sha256": str(facts["sha256"]), "faces": int(facts["faces"])}
            for side, facts in values["facesets"].items()
        }
        if set(facesets) != set(get_args(Side)):
            raise ValueError(f"facesets of {sorted(facesets)}")
        return RunRecord(TrainConfig.from_dict(values["config"], where=str(path)), facesets)
    except FileNotFoundError as error:
        raise TrainingError(f"{run} holds no run; give the folder that 'liveswap train --out' made") from error
    except OSError as error:
        raise TrainingError(explain(error, path)) from error
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError, UsageError) as error:
        raise TrainingError(f"{path} is damaged; train again, or restore it from a backup") from error


class Resumable(Protocol):
    """What else a run has to find again: a discriminator, a watchdog."""

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything needed to go on exactly from here, by name."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from there. Raises RuntimeError, KeyError, TypeError or ValueError when they do not fit."""


def pack_latest(
    model: nn.Module,
    ema: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    progress: Progress,
    **others: Resumable,
) -> bytes:
    """Everything needed to go on exactly from here, as LATEST holds it; `others` under their names.

    An optimizer may keep any tensors of a weight's shape and single numbers as tensors, and nothing else.
    """
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"ema/{k}": v for k, v in ema.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    for key, other in others.items():
        tensors |= {f"{key}/{name}": value for name, value in other.tensors().items()}
    tensors[_RNG] = generator.get_state()
    return _packed(tensors, progress)


def load_latest(
    run: Path,
    model: nn.Module,
    ema: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    **others: Resumable,
) -> Progress:
    """Put everything back as `pack_latest` found it. Raises TrainingError.

    Of `others`, those that the run did not have yet when it was saved stay as they are.
    """
    tensors, progress = _read_tensors(run / LATEST)
    try:
        for prefix, module in (("model/", model), ("ema/", ema)):
            module.load_state_dict(_taken(prefix, tensors))
        _load_optimizer(optimizer, model, _taken("optimizer/", tensors))
        for key, other in others.items():
            if stored := _taken(f"{key}/", tensors):
                other.load(stored)
        generator.set_state(tensors.pop(_RNG))
        if tensors:
            raise KeyError(next(iter(tensors)))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(f"{run / LATEST} does not fit this model; train again in a new folder") from error
    return progress


def _load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, stored: dict[str, Tensor]) -> None:
    """What the optimizer knows of each weight; of some it may know nothing yet, for they had no gradient."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    state = optimizer.state_dict() | {"state": dict[int, dict[str, Tensor]]()}
    keys = sorted({path.partition("/")[0] for path in stored}, key=lambda key: (key != "step", key))
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for place, weight in enumerate(weights):
        name = names[id(weight)]
        if keys and f"{keys[0]}/{name}" in stored:
            state["state"][place] = {key: _like(weight, stored.pop(f"{key}/{name}")) for key in keys}
    if stored:
        raise KeyError(next(iter(stored)))
    # torch decides where a number of steps lies: with the weights for a fused step, else on the processor.
    optimizer.load_state_dict(state)


def _like(weight: Tensor, value: Tensor) -> Tensor:
    """`value`, of the weight's shape or a number, as a fresh tensor in the weight's layout."""
    # A fused step walks through memory, and what was read still hangs on the file, which Windows would not let the
    # next save replace.
    if not value.ndim:
        return value.clone()
    if value.shape != weight.shape:
        raise ValueError(f"{tuple(value.shape)} for {tuple(weight.shape)}")
    return torch.empty_like(weight, requires_grad=False).copy_(value)


def sweep(run: Path) -> None:
    """Remove what a kill in the middle of a save has left; checkpoints of large models fill a disk."""
    for path in run.glob(".*.part.*"):
        if _LEFTOVER.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def pack_best(ema: nn.Module, progress: Progress) -> bytes:
    """The averaged weights that score best so far, as BEST holds them."""
    return _packed({f"ema/{k}": v for k, v in ema.state_dict().items()}, progress)


def load_best(run: Path) -> tuple[SwapModel, RunRecord, Progress]:
    """The best model of a run, in evaluation mode on the CPU. Raises TrainingError."""
    record = read_run(run)
    if not (run / BEST).is_file():
        raise TrainingError(f"{run} holds no finished checkpoint yet; let 'liveswap train' run for a few minutes")
    tensors, progress = _read_tensors(run / BEST)
    model = build_model(record.config.model)
    try:
        model.load_state_dict(_taken("ema/", tensors))
    except RuntimeError as error:
        raise TrainingError(f"{run / BEST} does not fit {run / RUN}; train again in a new folder") from error
    if not all(bool(torch.isfinite(value).all()) for value in model.state_dict().values()):
        raise TrainingError(f"{run / BEST} holds numbers that are not finite; train again with a lower rate")
    return model.eval(), record, progress


def keep_better(run: Path, progress: Progress) -> None:
    """Tell `progress` of the best weights in `run`: they may be of a look that it has forgotten, and are not to be
    replaced by worse ones. Weights that cannot be read count for nothing; the next look replaces them."""
    try:
        _, best = _read_tensors(run / BEST)
    except TrainingError as error:
        if (run / BEST).is_file():
            _log.warning("%s; the next look replaces it", str(error).partition(";")[0])
        best = Progress()
    if best.best_score > progress.best_score or not best.best_iteration:
        progress.best_score, progress.best_iteration = best.best_score, best.best_iteration


def _taken(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is stored below `prefix`, taken out of `tensors`."""
    return {k.removeprefix(prefix): tensors.pop(k) for k in list(tensors) if k.startswith(prefix)}


def _packed(tensors: Mapping[str, Tensor], progress: Progress) -> bytes:
    meta = {"schema": SCHEMA} | {name: getattr(progress, name) for name in Progress.__slots__}
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    return save(plain, metadata={_META: json.dumps(meta)})


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], Progress]:
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})[_META])
            if meta.pop("schema") not in READABLE:
                raise TrainingError(f"{path} was written by another version of liveswap; train again")
            return {key: file.get_tensor(key) for key in file.keys()}, _progress(meta)  # noqa: SIM118
    except OSError as error:
        raise TrainingError(explain(error, path)) from error
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise TrainingError(f"{path} is damaged; restore it from a backup or train again") from error


def _progress(values: Mapping[str, Any]) -> Progress:
    progress = Progress(**values)
    numbers = (progress.iteration, progress.elapsed_s, progress.best_score, progress.best_iteration)
    if not all(_is_number(x) for x in numbers) or progress.elapsed_s < 0 or progress.best_score > MOST_WORTH:
        raise ValueError(f"progress {numbers}")
    if not all(isinstance(x, int) and 0 <= x < 1 << 53 for x in (progress.iteration, progress.best_iteration)):
        raise ValueError(f"steps of {numbers}")
    for look in progress.history or ():
        if not isinstance(look, dict) or "iteration" not in look or not all(map(_is_number, look.values())):
            raise TypeError("history")
    return progress


def _is_number(x: object) -> bool:
    return isinstance(x, int | float) and math.isfinite(x)
