"""Trains recipes for the same minutes on the same rendered actors and scores their swaps against the exact answer.

    python -m benchmarks.quality --recipes light-128 df-ud-128 faceswap-lightweight --minutes 5 --seeds 3 \\
        --work DIR [--facesets DIR] [--jobs 2] [--json FILE] [--plot FILE.png]

The first recipe is the challenger, the others are the baselines. A row may say more than the name of a recipe:

    light-128/3                 with a third of the minutes
    df-ud-128+bf16              in another precision than its own
    light-128@df-ud-128         for as many samples as df-ud-128 got in its minutes, with the same seed

Note [Fair]
    All rows see the same faces, have the same threads and the same clock, which counts training alone. Seeds take turns
    (all rows of seed 0, then all of seed 1), so that a noisy hour hits all alike. Peers' recipes are trained as their
    own trainers do - precision, batch, rate, augmentation, losses, optimizer - in this code base, on our tensors;
    `+bf16` and `@` show what comes from speed and what from the method. Swaps of all rows go through the same
    FaceSwapper; faces of models without a mask are cut out along the landmarks. See also Note [Placed and raw].

A benchmark that was interrupted goes on with the cells that are missing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cells import Cell, evenly, run_cells
from benchmarks.ground import Ground, prepare
from benchmarks.quality_plot import draw_quality
from benchmarks.swap_score import METRICS, better, score_nothing
from realtime import machine
from realtime.errors import UsageError
from realtime.files import write_atomically
from training.config import TrainConfig, load_recipe

MARKS = (1 / 12, 1 / 6, 1 / 3, 2 / 3, 1.0)
"""Shares of the budget at which a row is scored."""
SHOWN = 0.9
"""Share of swapped frames from which on a score is that of a swap."""
_ROW = re.compile(r"(?P<recipe>[^+/@]+)(\+(?P<precision>bf16|fp32))?(/(?P<part>[1-9]\d*))?(@(?P<as_many>.+))?")
_TITLES = {
    "identity_transfer": "transfer",
    "face_psnr_db": "PSNR dB",
    "face_ssim": "SSIM",
    "landmark_error_iod": "landmarks",
    "flicker": "flicker",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    config: TrainConfig
    """Without a seed; its budget is minutes, or samples that are not known yet."""
    as_many: str | None = None
    """The row whose number of samples this one gets instead of minutes."""

    @classmethod
    def parse(cls, text: str, minutes: float) -> Row:
        """A row from what the user wrote. Raises UsageError."""
        found = _ROW.fullmatch(text)
        if found is None:
            raise UsageError(f"{text!r} is no row; write RECIPE, RECIPE+bf16, RECIPE/3 or RECIPE@OTHER-ROW")
        config = load_recipe(found["recipe"])
        if found["precision"] is not None:
            config = replace(config, precision="bf16" if found["precision"] == "bf16" else "fp32")
        config = replace(config, minutes=minutes / int(found["part"] or 1), iterations=None, until_plateau=False)
        return cls(text, config, found["as_many"])

    def cell(self, seed: int, samples: Mapping[tuple[str, int], int]) -> Cell:
        """This row with one seed; `samples`: how many each finished row got, by name and seed."""
        config = replace(self.config, seed=seed)
        if self.as_many is not None:
            steps = max(1, round(samples[self.as_many, seed] / config.batch))
            config = replace(config, minutes=None, iterations=steps)
        return Cell(self.name, config, MARKS)


def read_rows(texts: Sequence[str], minutes: float) -> list[Row]:
    """Rows that fit together. Raises UsageError."""
    rows = [Row.parse(text, minutes) for text in texts]
    timed = {row.name for row in rows if row.as_many is None}
    if len({row.name for row in rows}) < len(rows):
        raise UsageError("a row is named twice; name each one once")
    for row in rows:
        if row.as_many is not None and row.as_many not in timed:
            raise UsageError(f"{row.name} asks for the samples of {row.as_many}, which is no row with minutes; add it")
    return rows


def run_rows(
    rows: Sequence[Row], seeds: int, ground: Ground, work: Path, *, jobs: int, console: Console
) -> list[dict[str, Any]]:
    """The results of all cells; rows that need the samples of others come after them."""

    def done(result: dict[str, Any], count: int, all_cells: int) -> None:
        score = result["snapshots"][-1]["raw"]["identity_transfer"]
        console.print(f"{count}/{all_cells} {result['name']} seed {result['seed']}: identity transfer {score:.3f}")

    results: list[dict[str, Any]] = []
    for later in (False, True):
        samples = {(each["name"], each["seed"]): each["samples"] for each in results}
        chosen = [row for row in rows if (row.as_many is not None) == later]
        cells = evenly(row.cell(seed, samples) for row in chosen for seed in range(seeds))
        results += run_cells(cells, ground, work, jobs=jobs, on_done=done)
    return results


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean, least and greatest of the values that are there."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    return {"mean": round(mean, 4), "min": round(min(known), 4), "max": round(max(known), 4)}


def summarise_row(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row from its cells, one for each seed."""
    last = [cell["snapshots"][-1] for cell in cells]
    kinds = {
        kind: {name: spread([(each[kind] or {}).get(name) for each in last]) for name in (*METRICS, "swapped")}
        for kind in ("raw", "placed")
    }
    curve = []
    for number, snapshot in enumerate(cells[0]["snapshots"]):
        column = [cell["snapshots"][number] for cell in cells]
        point = {"mark": snapshot["mark"], "elapsed_s": spread([each["elapsed_s"] for each in column])}
        curve.append(point | {name: spread([each["raw"][name] for each in column]) for name in (*METRICS, "swapped")})
    facts = {name: spread([cell[name] for cell in cells]) for name in ("steps", "samples", "samples_per_s")}
    return {"seeds": [cell["seed"] for cell in cells], **kinds, **facts, "curve": curve, "config": cells[0]["config"]}


def reach(metric: str, curve: Sequence[Mapping[str, Any]], target: float) -> tuple[float, bool] | None:
    """When a curve of means reaches `target`, seconds, interpolated; and whether it did so before its first point.

    None when it never does. Points at which less than SHOWN of the frames were swapped do not count: there the scores
    are those of the performer, who beats a poor swap in all but identity transfer.
    """
    shown = [each for each in curve if each[metric] is not None and each["swapped"]["mean"] >= SHOWN]
    points = [(each["elapsed_s"]["mean"], each[metric]["mean"]) for each in shown]
    for number, (time_s, value) in enumerate(points):
        if better(metric, value, target):
            if number == 0:
                return time_s, True
            before_s, before = points[number - 1]
            return before_s + (time_s - before_s) * (target - before) / (value - before), False
    return None


def compare(rows: Mapping[str, Mapping[str, Any]], challenger: str) -> dict[str, dict[str, Any]]:
    """For each baseline and metric: after which share of its time the challenger reached its final score."""
    found: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        if name == challenger:
            continue
        end = row["curve"][-1]
        found[name] = {}
        for metric in METRICS:
            when = None if end[metric] is None else reach(metric, rows[challenger]["curve"], end[metric]["mean"])
            if when is not None:
                share = round(when[0] / end["elapsed_s"]["mean"], 4)
                found[name][metric] = {"share_of_its_time": share, "at_most": when[1]}
            else:
                found[name][metric] = None
    return found


def make_report(results: Sequence[Mapping[str, Any]], rows: Sequence[Row], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is published, from the cells."""
    table = {row.name: summarise_row([cell for cell in results if cell["name"] == row.name]) for row in rows}
    return {
        **facts,
        "challenger": rows[0].name,
        "rows": table,
        "reaches": compare(table, rows[0].name),
        "machine": machine.describe(),
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the tables of a report."""
    for kind, what in (("raw", "as the model paints"), ("placed", "with each model's measured placement")):
        table = Table(title=f"Swap score after {report['minutes']:g} minutes, {what}")
        table.add_column("recipe")
        for title in (*_TITLES.values(), "swapped", "steps", "samples/s"):
            table.add_column(title, justify="right")
        table.add_row("no swap", *(_number(report["no_swap"].get(name)) for name in METRICS), "", "", "")
        for name, row in report["rows"].items():
            scores = [_figure(row[kind][metric]) for metric in (*METRICS, "swapped")]
            table.add_row(name, *scores, f"{row['steps']['mean']:.0f}", f"{row['samples_per_s']['mean']:.1f}")
        console.print(table)
    for name, metrics in report["reaches"].items():
        parts = [f"{_TITLES[metric]} {_share(found)}" for metric, found in metrics.items()]
        console.print(f"{report['challenger']} reaches the final score of {name} after: {', '.join(parts)} of its time")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def _figure(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "-"
    return f"{_number(value['mean'])} ±{(value['max'] - value['min']) / 2:.3f}"


def _share(found: Mapping[str, Any] | None) -> str:
    return "never" if found is None else f"{'<= ' if found['at_most'] else ''}{found['share_of_its_time']:.0%}"


def main(argv: Sequence[str] | None = None) -> int:
    """Train, score and print; exit code 0, or 2 for a call that cannot work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="The swap score of recipes.")
    names = ["light-128", "df-ud-128", "faceswap-lightweight"]
    parser.add_argument("--recipes", nargs="+", default=names, metavar="ROW", help="the challenger, then baselines")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training for each row (default 5)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each training (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time (default 1)")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made on the way")
    parser.add_argument("--facesets", type=Path, help="folder that holds identity-faces and performer-faces")
    parser.add_argument("--frames", type=int, default=800, help="filmed of each actor (default 800)")
    parser.add_argument("--every", type=int, default=10, help="score every n-th frame of the scene (default 10)")
    parser.add_argument("--run-up", type=int, default=3, help="frames swapped before each of them (default 3)")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--plot", type=Path, help="picture of scores over time")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        rows = read_rows(args.recipes, args.minutes)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    ground = prepare(
        args.work,
        frames=args.frames,
        facesets=args.facesets,
        threads=args.threads,
        every=args.every,
        run_up=args.run_up,
        say=console.print,
    )
    results = run_rows(rows, args.seeds, ground, args.work, jobs=args.jobs, console=console)
    facts = {
        "minutes": args.minutes,
        "seeds": args.seeds,
        "threads": args.threads,
        "jobs": args.jobs,
        "filmed": args.frames if args.facesets is None else None,
        "scored_frames": len(ground.scene.indices) // (ground.scene.run_up + 1),
        "no_swap": score_nothing(ground.scene),
    }
    report = make_report(results, rows, facts)
    show(report, console)
    if args.json is not None:
        write_atomically(args.json, json.dumps(report, indent=1) + "\n")
    if args.plot is not None:
        draw_quality(report, args.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
