"""Measures how fast a recipe trains on a GPU, and how soon it is nearly as good as it gets. A machine in, JSON out.

    python -m benchmarks.training_gpu --json benchmarks/results/training_gpu.json [--facesets DIR]

One command on a machine with CUDA, within ten minutes; not yet executed on a GPU. It films two rendered actors first,
unless it is given their facesets, which saves the libraries that filming needs.

    samples_per_s     of training: drawing, augmentation, both people's loss, gradients and step, after warm-up, for the
                      modes below at two batch sizes
    memory_mib        the most that tensors took
    speed_up          samples_per_s over those of eager fp32 at the same batch size
    to_09             seconds of training until the held-out score was first 0.9 of what it was at the end of a run of
                      `--minutes`, from the looks of that run

    eager fp32        float32 with its whole mantissa
    eager tf32        float32 as tensor cores shorten it
    eager bf16        bfloat16 autocast, planes one after the other
    channels_last     the same, the channels of a pixel side by side
    compiled          the same through torch.compile, anew for each batch size

What was measured until something fails is told and written all the same, with the reason as `failed`.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from realtime import machine
from realtime.errors import LiveswapError, UsageError
from realtime.files import write_atomically
from training.batches import FaceStack, stack_faces
from training.config import TrainConfig, load_recipe
from training.distributed import Ranks
from training.faceset import Faceset
from training.journal import HISTORY
from training.model import SIDES, Side
from training.models import build_model, count_parameters
from training.objective import Objective
from training.optimizers import average, make_optimizer
from training.sampling import PairSource
from training.train import train

WARM_UP = 5
"""Steps before the clock starts; the first of them compiles."""
FACES = 400
"""Of each person that the speed is measured with."""
NEARLY = 0.9


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to compute the same steps."""

    name: str
    bf16: bool = True
    tf32: bool = True
    channels_last: bool = True
    compiled: bool = False


MODES = (
    Mode("eager fp32", bf16=False, tf32=False, channels_last=False),
    Mode("eager tf32", bf16=False, channels_last=False),
    Mode("eager bf16", channels_last=False),
    Mode("channels_last"),
    Mode("compiled", compiled=True),
)


class Steps:
    """Training steps as the loop does them, without looking and saving."""

    def __init__(self, config: TrainConfig, mode: Mode, stacks: Mapping[Side, FaceStack], device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self._config, self._layout = config, torch.channels_last if mode.channels_last else torch.contiguous_format
        model, self._ema = (build_model(config.model).to(device) for _ in range(2))
        for parameter in (*model.parameters(), *self._ema.parameters()):
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=self._layout)
        self.parameters = count_parameters(model)
        self._weights: list[Tensor] = list(model.parameters())
        self._averages: list[Tensor] = list(self._ema.requires_grad_(False).parameters())
        self._optimizer = make_optimizer(config, self._weights)
        self._objective = Objective(model, config, bf16=mode.bf16)
        if mode.compiled:
            self._objective.compile()
        self._generator = torch.Generator().manual_seed(config.seed)
        ranks = Ranks(0, 1, device)
        self._sources = {side: PairSource(stack, config, side, ranks) for side, stack in stacks.items()}

    def run(self, count: int) -> None:
        """Do `count` steps."""
        config = self._config
        for _ in range(count):
            pairs = {}
            for side in SIDES:
                size = config.model.resolution
                drawn = self._sources[side].draw(self._generator, size=size, strength=1.0, occluded=0.5)
                pair = next(iter(drawn))
                pairs[side] = pair._replace(inputs=pair.inputs.contiguous(memory_format=self._layout))
            self._objective(pairs).total.backward()
            torch.nn.utils.clip_grad_norm_(self._weights, config.clip).item()
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            average(self._optimizer, self._averages, self._weights, config.ema)


@contextmanager
def multiplying(mode: Mode) -> Iterator[None]:
    """Inside, float32 is multiplied as `mode` says; afterwards, and so in the whole run, as before."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if mode.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = mode.tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def measure(
    config: TrainConfig, mode: Mode, stacks: Mapping[Side, FaceStack], device: torch.device, steps: int
) -> dict[str, Any]:
    """Speed and memory of one mode at the batch size of `config`; without figures where the memory is too small."""
    gc.collect()  # of the mode before: what was compiled hangs together in circles
    cuda = device.type == "cuda"
    row: dict[str, Any] = {"mode": mode.name, "batch": config.batch, "samples_per_s": None, "memory_mib": None}
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        with multiplying(mode):
            trained = Steps(config, mode, stacks, device)
            began_s = time.monotonic()
            trained.run(WARM_UP)
            _finish(device)
            row["warm_up_s"] = round(time.monotonic() - began_s, 2)
            began_s = time.monotonic()
            trained.run(steps)
            _finish(device)
            row["samples_per_s"] = round(steps * 2 * config.batch / (time.monotonic() - began_s), 2)
            row["memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20) if cuda else None
    except torch.OutOfMemoryError:
        row["out_of_memory"] = True
    except RuntimeError as error:  # what torch.compile cannot compile here
        if not mode.compiled:
            raise
        row["not_compiled"] = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    finally:
        if mode.compiled:
            torch.compiler.reset()  # else the next batch size would be compiled for any, and be slower
    return row


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def with_speed_up(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `speed_up` over the first mode at the same batch size; None where either has no figure."""
    first = {row["batch"]: row["samples_per_s"] for row in rows if row["mode"] == MODES[0].name}
    out = []
    for row in rows:
        base, own = first.get(row["batch"]), row["samples_per_s"]
        out.append({**row, "speed_up": round(own / base, 2) if base and own else None})
    return out


def time_to(history: Sequence[Mapping[str, float]], share: float) -> float | None:
    """Seconds of training until the held-out score was first `share` of the last one; None without a look."""
    if not history:
        return None
    wanted = share * history[-1]["score"]
    return next(look["elapsed_s"] for look in history if look["score"] >= wanted)


def open_stacks(folder: Path, config: TrainConfig) -> dict[Side, FaceStack]:
    """Up to FACES faces of each person. Raises FacesetError."""
    stacks: dict[Side, FaceStack] = {}
    for side in SIDES:
        faceset = Faceset.open(folder / f"{side}-faces")
        stacks[side] = stack_faces(faceset, range(min(FACES, len(faceset))), config.geometry)
    return stacks


def train_fully(folder: Path, config: TrainConfig, work: Path) -> dict[str, Any]:
    """A whole run as the product does it, and how soon it was nearly as good as at its end."""
    summary = train(folder / "identity-faces", folder / "performer-faces", work / "run", config)
    history = json.loads((work / "run" / HISTORY).read_text(encoding="utf-8"))
    looks = [{name: look[name] for name in ("iteration", "elapsed_s", "score")} for look in history]
    return {"summary": summary.to_json() | {"run": None}, "to_09_s": time_to(history, NEARLY), "looks": looks}


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the table of a report."""
    table = Table(title=f"{report['preset']} on {report['device']}")
    for title in ("mode", "batch", "samples/s", "speed-up", "MiB", "warm-up s"):
        table.add_column(title, justify="right")
    for row in report["speed"]:
        names = ("mode", "batch", "samples_per_s", "speed_up", "memory_mib", "warm_up_s")
        table.add_row(*("-" if row.get(name) is None else str(row[name]) for name in names))
    console.print(table)
    if report["run"] is not None:
        console.print(f"{NEARLY:g} of the final score after {report['run']['to_09_s']} s of training")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything that is measured. Raises LiveswapError: one sentence."""
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA GPU that PyTorch can use; run it on a machine that has one, or --device cpu")
    device = torch.device(args.device)
    config = replace(load_recipe(args.preset), compile="off", accumulate=1, minutes=None, iterations=None)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        folder = args.facesets
        if folder is None:
            from benchmarks.ground import make_facesets

            folder = work
            make_facesets(work, FACES, console.print)
        stacks = open_stacks(folder, config)
        rows = []
        for batch in args.batches:
            for mode in MODES if args.modes is None else [mode for mode in MODES if mode.name in args.modes]:
                rows.append(measure(replace(config, batch=batch), mode, stacks, device, args.steps))
                console.print(f"{mode.name}, batch {batch}: {rows[-1]['samples_per_s']} samples/s")
        parameters = Steps(replace(config, batch=2), MODES[0], stacks, device).parameters
        whole, failed = None, None
        if args.minutes > 0:
            timed = replace(config, minutes=args.minutes, compile="auto", evaluate_every=args.evaluate_every)
            try:
                whole = train_fully(folder, timed, work)
            except (LiveswapError, torch.OutOfMemoryError) as error:
                failed = str(error).splitlines()[0]
    return {
        "preset": args.preset,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else machine.describe()["cpu"],
        "torch": torch.__version__,
        "parameters": parameters,
        "steps": args.steps,
        "modes": [asdict(mode) for mode in MODES],
        "speed": with_speed_up(rows),
        "run": whole,
        "failed": failed,
        "machine": machine.describe(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 0, 1 when the whole run failed, 2 with one sentence where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_gpu", description="Training on a GPU.")
    parser.add_argument("--preset", default="df-256")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the script")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64], help="faces of each person a step")
    parser.add_argument("--steps", type=int, default=30, help="timed for each figure (default 30)")
    parser.add_argument("--modes", nargs="+", choices=[mode.name for mode in MODES], help="these alone")
    parser.add_argument("--minutes", type=float, default=3.0, help="of the whole run; 0: none (default 3)")
    parser.add_argument("--evaluate-every", type=int, default=50, help="steps between its looks (default 50)")
    parser.add_argument("--facesets", type=Path, help="folder that holds identity-faces and performer-faces")
    parser.add_argument("--json", type=Path, help="file for the report")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        report = run(args, console)
    except LiveswapError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    show(report, console)
    if args.json is not None:
        write_atomically(args.json, json.dumps(report, indent=1) + "\n")
    if report["failed"] is not None:
        sys.stderr.write(f"the whole run failed: {report['failed']}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
