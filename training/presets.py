"""What each recipe costs and gives. Recipes and what was measured of them in, one row for each out.

Note [Computed and measured]
    Resolution, arithmetic and parameters are computed from the recipe, on tensors without memory. Memory, time and
    score depend on a machine: they come from recipes/measured.json, which `python -m benchmarks.presets` writes, each
    with the machine it was seen on. A figure counts only as long as the recipe is what it was when it was measured, and
    what nobody has measured is not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from realtime.errors import UsageError
from training.config import DEFAULT_MINUTES, RECIPES, TrainConfig, list_recipes
from training.model import ModelConfig
from training.models import build_model, count_macs, count_parameters

MEASURED = RECIPES / "measured.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """What training took on one machine."""

    machine: str
    """Processor and cores; on a GPU, its name."""
    device: str
    """cpu or cuda."""
    threads: int
    precision: str
    memory_mib: int
    """At most, of the process on a processor, of torch on a GPU; without the facesets."""
    step_s: float
    """Of one step with the recipe's batch, median."""


@dataclass(frozen=True, slots=True)
class Scored:
    """How good swaps were against the exact answer on rendered actors, see benchmarks.quality."""

    machine: str
    minutes: float
    """Of training."""
    seeds: int
    identity_transfer: float
    """0: still the performer, 1: the exact answer; mean over seeds."""
    face_ssim: float


@dataclass(frozen=True, slots=True)
class PresetRow:
    """One recipe."""

    name: str
    about: str
    resolution: int
    gmac: float
    """10^9 multiply-accumulates of a swap."""
    parameters: int
    """That are trained and stored."""
    swap_parameters: int
    """That a swap needs."""
    batch: int
    """Faces of each person in a step."""
    minutes: float | None
    """That it is meant to be trained; None where it has a budget in steps."""
    measured: tuple[Measured, ...]
    scored: tuple[Scored, ...]

    def steps_in_its_time(self, seen: Measured) -> int | None:
        """How many steps that machine does in `minutes`."""
        return None if self.minutes is None else round(60 * self.minutes / seen.step_s)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def preset_rows(measured: Path = MEASURED) -> list[PresetRow]:
    """The shipped recipes, smallest first. Raises UsageError when the file `measured` is damaged."""
    facts = read_measured(measured)
    return [_row(recipe, facts) for recipe in list_recipes()]


def fingerprint(config: TrainConfig) -> str:
    """Of what the recipe sets otherwise than the defaults, but for name, text, budget, seed, threads and intervals."""
    values, defaults = _flat(config.to_dict()), _flat(TrainConfig().to_dict())
    aside = {
        "name",
        "about",
        "minutes",
        "iterations",
        "seed",
        "threads",
        "evaluate_every",
        "save_every",
        "evaluate_every_s",
        "save_every_s",
    }
    set_here = {name: value for name, value in values.items() if value != defaults.get(name) and name not in aside}
    return hashlib.sha256(json.dumps(set_here, sort_keys=True).encode()).hexdigest()[:16]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in values.items() if not isinstance(value, dict)}
    sections = {name: value for name, value in values.items() if isinstance(value, dict)}
    return flat | {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}


def read_measured(path: Path = MEASURED) -> dict[str, list[dict[str, Any]]]:
    """`measured` and `scored`: entries with the `recipe`, its `fingerprint` and the fields above. Raises UsageError."""
    if not path.is_file():
        return {"measured": [], "scored": []}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        facts = {kind: list(values[kind]) for kind in ("measured", "scored")}
        for kind, shape in (("measured", Measured), ("scored", Scored)):
            for entry in facts[kind]:
                _entry(shape, entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged; write it anew with python -m benchmarks.presets --json {path}") from error
    return facts


def _entry(shape: type[Any], entry: Mapping[str, Any]) -> Any:
    facts = {name: value for name, value in entry.items() if name not in ("recipe", "fingerprint")}
    if not (isinstance(entry["recipe"], str) and isinstance(entry["fingerprint"], str)):
        raise TypeError("recipe and fingerprint are text")
    return shape(**facts)


def _row(config: TrainConfig, facts: Mapping[str, list[dict[str, Any]]]) -> PresetRow:
    def known(kind: str, shape: type[Any]) -> tuple[Any, ...]:
        same = {"recipe": config.name, "fingerprint": fingerprint(config)}
        return tuple(_entry(shape, entry) for entry in facts[kind] if same.items() <= entry.items())

    with torch.device("meta"):  # shapes without arithmetic
        macs, (parameters, needed) = count_macs(config.model), count_stored_and_needed(config.model)
    return PresetRow(
        name=config.name,
        about=config.about,
        resolution=config.model.resolution,
        gmac=macs / 1e9,
        parameters=parameters,
        swap_parameters=needed,
        batch=config.batch,
        minutes=DEFAULT_MINUTES if config.minutes is None and config.iterations is None else config.minutes,
        measured=known("measured", Measured),
        scored=known("scored", Scored),
    )


def count_stored_and_needed(config: ModelConfig) -> tuple[int, int]:
    """How many trained values a model has, and how many one swap reads: those of every layer that works then."""
    worked: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: tuple[Tensor, ...], output: object) -> None:
        worked[module] = sum(p.numel() for p in module.parameters(recurse=False))

    model = build_model(config)
    for module in model.modules():
        module.register_forward_hook(note)
    with torch.no_grad():
        model(torch.zeros(1, 3, config.resolution, config.resolution), "identity")
    return count_parameters(model), sum(worked.values())
