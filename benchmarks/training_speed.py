"""Measures how fast training is on a CPU beside the peers'. Layer sizes in, samples per second as JSON out.

    python -m benchmarks.training_speed [--threads N] [--steps N] [--json FILE] [--only NAME ...]

Every trainer takes whole steps - drawing, augmentation, both people's loss, gradients, clipping, optimizer, averaged
weights - on random faces, which cost what real ones cost. One step of each in turn, so that a machine that has other
things to do slows all of them alike.

    peer              faceswap's `lightweight` as its recipe trains it: float32, its augmentation, losses and Adam
    ours              the same layers and batch through our trainer: bfloat16 where the processor multiplies it,
                      channels_last, our augmentation and losses, fused AdamW, averaged weights
    ours_float32      ours without bfloat16
    ours_planes       ours without channels_last
    df-ud-128         DeepFaceLab's network as its recipe trains it, for scale
    light-128         our recipe for the same resolution

    step_s            seconds of a step by the clock: median, and the best one, which other programs disturbed least
    cpu_s             processor seconds of a step, all threads: median
    samples_per_s     2 x batch / the median step, as faceswap counts; and of the best step
    ratios            ours over the peer: `by_clock`, `by_processor`, and `recorded`, our best window over the best that
                      faceswap itself reached on another machine, see RECORDED

Exit code 1 where ours is not GOAL times as fast as the peer in this run, or as what is recorded; both are named.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from realtime import machine
from realtime.files import write_atomically
from training.batches import MARGIN, FaceStack
from training.config import TrainConfig, load_recipe
from training.distributed import Ranks
from training.memory import keep_memory
from training.model import SIDES, Side
from training.models import build_model, count_parameters
from training.objective import Objective
from training.optimizers import average, make_optimizer
from training.sampling import PairSource
from training.schedule import average_decay, learning_rate, occluded_share, warp_strength
from training.train import wants_bf16

GOAL = 5.0
RECORDED = {
    "samples_per_s": 6.4,
    "cpu_s": 10.5,
    "what": "faceswap v3, lightweight, batch 16 per side, Keras on torch, float32, 2 threads; the best window",
    "machine": "another one: 2 shared virtual cores of a Xeon with AVX-512 and AMX",
}
FACES = 64
"""In each stack: more than a batch, so that drawing costs what it costs."""
AS_USED = 0.5
"""Share of the budget that is gone: warp, occluders and rates as in the middle of a run."""
THREADS, STEPS = 2, 8


def trainers() -> dict[str, TrainConfig]:
    """What is compared, by name."""
    peer = load_recipe("faceswap-lightweight")
    ours = TrainConfig(name="ours", model=peer.model, batch=peer.batch)
    return {
        "peer": peer,
        "ours": ours,
        "ours_float32": replace(ours, precision="fp32"),
        "ours_planes": ours,
        "df-ud-128": load_recipe("df-ud-128"),
        "light-128": load_recipe("light-128"),
    }


def random_stack(size: int, seed: int) -> FaceStack:
    """FACES faces of noise, stored as finely as a stack of real ones."""
    generator, side = torch.Generator().manual_seed(seed), round(2 * MARGIN * size)
    pixels = torch.randint(0, 256, (FACES, 5, side, side), dtype=torch.uint8, generator=generator)
    poses = torch.randn(FACES, 2, generator=generator) * 20
    return FaceStack(pixels, MARGIN, poses, torch.zeros(FACES, dtype=torch.int64))


class Trainer:
    """The parts of training.train that a step is made of, and how long its steps took."""

    def __init__(self, config: TrainConfig, layout: torch.memory_format, ranks: Ranks) -> None:
        torch.manual_seed(config.seed)
        self.config, self._layout = config, layout
        self.bf16 = wants_bf16(config, ranks.device)
        model, ema = build_model(config.model), build_model(config.model)
        for weight in (*model.parameters(), *ema.parameters()):
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=layout)
        self._weights: list[Tensor] = list(model.parameters())
        self._averages: list[Tensor] = list(ema.requires_grad_(False).parameters())
        self.parameters = count_parameters(model)
        self._optimizer = make_optimizer(config, self._weights)
        self._objective = Objective(model, config, bf16=self.bf16)
        self._generator = torch.Generator().manual_seed(config.seed)
        size = config.model.resolution
        self._sources: dict[Side, PairSource] = {
            side: PairSource(random_stack(size, seed), config, side, ranks) for seed, side in enumerate(SIDES)
        }
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []
        self.losses: list[float] = []

    def step(self) -> None:
        """One step, timed."""
        wall_s, cpu_s = time.monotonic(), time.process_time()
        config, count = self.config, len(self.losses)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(config, config.warmup + count, AS_USED)
        pairs = {}
        for side, source in self._sources.items():
            (pair,) = source.draw(
                self._generator,
                size=config.model.resolution,
                strength=warp_strength(config, AS_USED),
                occluded=occluded_share(config, AS_USED),
            )
            pairs[side] = pair._replace(inputs=pair.inputs.contiguous(memory_format=self._layout))
        total = self._objective(pairs).total
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(self._weights, config.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            average(self._optimizer, self._averages, self._weights, average_decay(config, count + 1))
        self.losses.append(float(total.detach()))
        self.wall_s.append(time.monotonic() - wall_s)
        self.cpu_s.append(time.process_time() - cpu_s)

    def figures(self) -> dict[str, Any]:
        """Of all steps but the first, in which libraries get ready."""
        wall_s, cpu_s = self.wall_s[1:], self.cpu_s[1:]
        samples = 2 * self.config.batch
        median_s, best_s = statistics.median(wall_s), min(wall_s)
        return {
            "step_s": {"median": round(median_s, 3), "best": round(best_s, 3)},
            "cpu_s": round(statistics.median(cpu_s), 3),
            "samples_per_s": {"median": round(samples / median_s, 2), "best": round(samples / best_s, 2)},
            "resolution": self.config.model.resolution,
            "batch_per_side": self.config.batch,
            "parameters": self.parameters,
            "precision": "bf16" if self.bf16 else "fp32",
            "optimizer": self.config.optimizer,
        }


def measure(configs: Mapping[str, TrainConfig], steps: int, ranks: Ranks) -> dict[str, dict[str, Any]]:
    """The figures of each trainer after `steps` timed steps, taken in turns."""
    planes = {"ours_planes"} | {name for name, config in configs.items() if config.style != "liveswap"}
    running = {
        name: Trainer(config, torch.contiguous_format if name in planes else torch.channels_last, ranks)
        for name, config in configs.items()
    }
    for _ in range(1 + steps):
        for trainer in running.values():
            trainer.step()
    return {name: trainer.figures() for name, trainer in running.items()}


def ratios(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """How many times as fast `ours` is as `peer`, and as what is recorded. The last is of two machines."""
    ours, peer = figures["ours"], figures["peer"]
    return {
        "by_clock": round(peer["step_s"]["median"] / ours["step_s"]["median"], 2),
        "by_processor": round(peer["cpu_s"] / ours["cpu_s"], 2),
        "recorded": round(ours["samples_per_s"]["best"] / RECORDED["samples_per_s"], 2),
        "recorded_by_processor": round(RECORDED["cpu_s"] / ours["cpu_s"], 2),
    }


def missed(told: Mapping[str, float]) -> list[str]:
    """A sentence for each goal that was not reached."""
    names = {"by_clock": "the peer's layers in this run", "recorded": "what faceswap reached on another machine"}
    return [
        f"missed: {told[name]:.2f} times as fast as {what}, not {GOAL:g} times"
        for name, what in names.items()
        if told[name] < GOAL
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Measure how fast training is on a CPU beside the peers'.")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"of the processor (default {THREADS})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each, that are timed (default {STEPS})")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--only", nargs="+", choices=sorted(trainers()), help="leave the others out")
    options = parser.parse_args(arguments)
    if min(options.threads, options.steps) < 1:
        parser.error("--threads and --steps are at least 1")
    torch.set_num_threads(options.threads)
    keep_memory()  # as the product does; here the peers gain by it, too
    chosen = {name: config for name, config in trainers().items() if name in (options.only or trainers())}
    with Ranks(0, 1, torch.device("cpu")) as ranks:
        figures = measure(chosen, options.steps, ranks)
    told = ratios(figures) if {"ours", "peer"} <= set(figures) else {}
    report = {
        "machine": machine.describe() | {"torch": torch.__version__},
        "threads": options.threads,
        "steps": options.steps,
        "trainers": figures,
        "recorded": RECORDED,
        "ratios": told,
        "goal": GOAL,
        "missed": missed(told) if told else [],
    }
    text = json.dumps(report, indent=2) + "\n"
    if options.json:
        write_atomically(options.json, text.encode())
    sys.stdout.write(text)
    return 1 if report["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
