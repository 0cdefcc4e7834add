"""Measures what training the recipes takes on this machine. Recipes in; memory and seconds a step out, as JSON.

    python -m benchmarks.presets [--recipes light-128 base-192] [--steps 8] [--threads 1] \\
        [--scores QUALITY.json ...] [--json training/recipes/measured.json]

Each recipe is trained for a few steps by the real loop, looks at held-out faces and saving included, in a process of
its own, whose memory is then its own. Faces are drawn, not filmed: what they show costs no time and no memory. The
first step warms up and the last one looks and saves, so neither is counted. Scores are not measured here; they are
taken over from reports of benchmarks.quality, named with `--scores`. Entries of other machines and recipes in the file
stay. Let nothing else run beside it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from realtime import machine
from realtime.errors import LiveswapError
from realtime.files import write_atomically
from tests.tiny_run import write_people
from training.config import TrainConfig, list_recipes, load_recipe
from training.presets import MEASURED, fingerprint, read_measured

NEVER = 10**8
"""Steps between looks and between saves: only at the end."""
LEAST_STEPS = 3
"""One to warm up, one to count, one to look and save."""


def peak_mib(device: str) -> int:
    """The most memory that this process has used; on a GPU what torch has taken there."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved() >> 20)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return int(peak >> (20 if sys.platform == "darwin" else 10))


def train_briefly(config: TrainConfig, steps: int, work: Path) -> dict[str, Any]:
    """Train for `steps`; facts of that. Runs in a process of its own."""
    from training.train import TrainProgress, train

    people = write_people(work / "faces")
    moments: list[float] = []

    def note(_: TrainProgress) -> None:
        moments.append(time.monotonic())

    config = replace(config, minutes=None, iterations=steps, evaluate_every=NEVER, save_every=NEVER)
    summary = train(people["identity"], people["performer"], work / "run", config, on_progress=note)
    steps_s = [after - before for before, after in pairwise(moments[:-1])]
    return {
        "device": summary.device,
        "precision": summary.precision,
        "memory_mib": peak_mib(summary.device),
        "step_s": round(statistics.median(steps_s), 4),
    }


def describe_machine(device: str) -> str:
    """The processor and its cores, or the GPU."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    facts = machine.describe()
    return f"{facts['cpu']}, {facts['cores']} cores"


def measure(config: TrainConfig, steps: int, threads: int) -> dict[str, Any]:
    """An entry of the file for one recipe on this machine."""
    config = replace(config, threads=threads)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as work, ProcessPoolExecutor(1, mp_context=spawn) as pool:
        facts = pool.submit(train_briefly, config, steps, Path(work)).result()
    where = {"machine": describe_machine(facts["device"]), "threads": threads}
    return {"recipe": config.name, "fingerprint": fingerprint(config), **where, **facts}


def scores_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries of the file from a report of benchmarks.quality: of its rows those that are a recipe as it stands."""
    entries = []
    names = {recipe.name for recipe in list_recipes()}
    where = f"{report['machine']['cpu']}, {report['machine']['cores']} cores"
    for name, row in report["rows"].items():
        if name not in names:
            continue
        config = TrainConfig.from_dict(row["config"], where=f"the row {name}")
        entry = {"recipe": name, "fingerprint": fingerprint(config), "machine": where, "minutes": report["minutes"]}
        metrics = {metric: row["raw"][metric]["mean"] for metric in ("identity_transfer", "face_ssim")}
        entries.append(entry | {"seeds": len(row["seeds"])} | metrics)
    return entries


def merge(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], same: Sequence[str]) -> list[dict[str, Any]]:
    """Old entries with new ones in the place of those that agree in `recipe` and `same`, in the order of recipes."""
    keys = {tuple(entry[name] for name in ("recipe", *same)) for entry in new}
    kept = [entry for entry in old if tuple(entry[name] for name in ("recipe", *same)) not in keys]
    order = [recipe.name for recipe in list_recipes()]
    return sorted([*kept, *new], key=lambda entry: order.index(entry["recipe"]) if entry["recipe"] in order else -1)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write where asked to; exit code 0, or 1 for what cannot be measured."""
    ours = [recipe.name for recipe in list_recipes() if recipe.style == "liveswap"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.presets", description="What training recipes takes.")
    parser.add_argument("--recipes", nargs="*", default=ours, metavar="NAME", help="default: all but the baselines")
    parser.add_argument("--steps", type=int, default=8, help=f"of training each, {LEAST_STEPS} at least (default 8)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scores", nargs="*", type=Path, default=[], help="reports of benchmarks.quality")
    parser.add_argument("--json", type=Path, help=f"file to add to, such as {MEASURED.parent.name}/{MEASURED.name}")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        facts = read_measured(args.json) if args.json is not None else {"measured": [], "scored": []}
        measured = []
        for name in args.recipes:
            measured.append(measure(load_recipe(name), max(LEAST_STEPS, args.steps), args.threads))
            console.print(f"{name}: {measured[-1]['step_s']:.3f} s a step, {measured[-1]['memory_mib']} MiB")
        scored = [entry for path in args.scores for entry in scores_of(json.loads(path.read_text(encoding="utf-8")))]
    except (LiveswapError, OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    report = {
        "measured": merge(facts["measured"], measured, ("machine", "device", "threads", "precision")),
        "scored": merge(facts["scored"], scored, ("machine", "minutes")),
    }
    table = Table(title="Training, a step of each person's batch")
    for title in ("recipe", "machine", "threads", "precision", "MiB", "s a step"):
        table.add_column(title)
    for each in report["measured"]:
        values = (each[name] for name in ("recipe", "machine", "threads", "precision", "memory_mib", "step_s"))
        table.add_row(*map(str, values))
    console.print(table)
    if args.json is not None:
        write_atomically(args.json, json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
