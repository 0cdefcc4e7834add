"""Measures what each part of a recipe is worth. A recipe and named variants of it in, a table with verdicts out.

    python -m benchmarks.ablation --work DIR [--recipe light-128] [--minutes 3] [--seeds 2] [--only NAME ...]
        [--facesets DIR] [--jobs 2] [--ladder] [--json FILE] [--plot FILE.png]
    python -m benchmarks.ablation --list

Each variant is trained on the same faces with the same seeds as the recipe itself, for the same minutes of one
processor core, whatever else the machine does meanwhile. Its swap is scored against the exact answer, and the
differences are taken seed by seed. `--ladder` adds a second table: from the recipe with everything taken away, one part
after the other put back.

Note [Verdicts]
    A difference in a score counts when it has the same sign for every seed and is on average larger than LEAST; with
    one seed, nothing counts. A part that the recipe has is `kept` when taking it away makes a score worse and none
    better, `to drop` when it makes one better and none worse; a part that it does not have is `to add` or `left out`.
    When scores disagree the verdict is `mixed`, when nothing counts `no difference`.

A benchmark that was interrupted goes on with the cells that are missing, also with more variants or seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.cells import Cell, evenly, run_cells
from benchmarks.ground import prepare
from benchmarks.quality import spread
from benchmarks.variants import VARIANTS, Variant, changes
from realtime import machine
from realtime.errors import UsageError
from realtime.files import write_atomically
from training.config import TrainConfig, load_recipe

LEAST = {"identity_transfer": 0.005, "face_ssim": 0.002, "face_psnr_db": 0.05}
"""Scores that verdicts are made of, higher is better, and the least difference that counts."""
_TITLES = {"identity_transfer": "transfer", "face_ssim": "SSIM", "face_psnr_db": "PSNR dB"}
_VERDICTS = {"without": ("to drop", "kept"), "with": ("to add", "left out")}


def choose(only: Sequence[str] | None, config: TrainConfig) -> list[Variant]:
    """The named variants, or all that make a difference to `config`. Raises UsageError for an unknown name."""
    known = {variant.name: variant for variant in VARIANTS}
    strange = [name for name in only or () if name not in known]
    if strange:
        raise UsageError(f"there is no variant {strange[0]!r}; --list shows them all")
    chosen = list(VARIANTS) if only is None else [known[name] for name in only]
    return [variant for variant in chosen if changes(variant, config)]


def ladder(config: TrainConfig) -> list[tuple[str, TrainConfig]]:
    """Names and recipes of the rungs: everything taken away, then one part after the other put back."""
    parts = [variant for variant in VARIANTS if variant.kind == "without" and changes(variant, config)]
    rungs = []
    for count in range(len(parts) + 1):
        rung = config
        for variant in parts[count:]:
            rung = variant.apply(rung)
        back = f"back: {parts[count - 1].name}" if count else "plain"
        rungs.append((f"{count:02d} {back}", rung))
    return rungs


def differences(cells: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """By score: variant less recipe, one number for each seed that both have."""
    found: dict[str, list[float]] = {}
    own = {cell["seed"]: _scores(cell) for cell in base}
    for metric in LEAST:
        pairs = [(_scores(cell)[metric], own[cell["seed"]][metric]) for cell in cells if cell["seed"] in own]
        found[metric] = [round(a - b, 5) for a, b in pairs]
    return found


def judge(kind: str, found: Mapping[str, Sequence[float]]) -> str:
    """A verdict from the differences of every score, see Note [Verdicts]."""
    signs = set()
    for metric, values in found.items():
        mean = sum(values) / len(values)
        alike = len({value > 0 for value in values}) == 1 and len(values) > 1
        if alike and abs(mean) > LEAST[metric]:
            signs.add(mean > 0)
    if len(signs) == 2:
        return "mixed"
    if not signs:
        return "no difference"
    better, worse = _VERDICTS[kind]
    return better if signs.pop() else worse


def make_report(
    results: Sequence[Mapping[str, Any]], variants: Sequence[Variant], recipe: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that is published, from the cells."""
    cells = {name: [cell for cell in results if cell["name"] == name] for name in {cell["name"] for cell in results}}
    rows: dict[str, Any] = {recipe: _row(cells[recipe])}
    for variant in variants:
        found = differences(cells[variant.name], cells[recipe])
        means = {metric: round(sum(values) / len(values), 5) for metric, values in found.items()}
        verdict = judge(variant.kind, found)
        told = {"what": variant.what, "kind": variant.kind, "differences": found, "mean_difference": means}
        rows[variant.name] = _row(cells[variant.name]) | told | {"verdict": verdict}
    rungs = {name: _row(cells[name]) for name in sorted(cells) if name[:2].isdigit()}
    return {**facts, "recipe": recipe, "rows": rows, "ladder": rungs, "machine": machine.describe()}


def _scores(cell: Mapping[str, Any]) -> Mapping[str, float]:
    """The scores of a finished cell: as its face was placed, or where that could not be measured, raw."""
    last = cell["snapshots"][-1]
    scores: Mapping[str, float] = last["placed"] or last["raw"]
    return scores


def _row(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scores = {metric: spread([_scores(cell)[metric] for cell in cells]) for metric in LEAST}
    return {
        "seeds": [cell["seed"] for cell in cells],
        "scores": scores,
        "steps": spread([cell["steps"] for cell in cells]),
        "samples_per_s": spread([cell["samples_per_s"] for cell in cells]),
        "held_out_score": spread([cell["held_out"].get("score") for cell in cells]),
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the tables of a report."""
    table = Table(title=f"{report['recipe']}, {report['minutes']:g} minutes, {report['seeds']} seeds")
    for title in ("variant", *_TITLES.values(), "steps", "verdict", "what"):
        table.add_column(title)
    for name, row in report["rows"].items():
        scores = [f"{row['scores'][metric]['mean']:.3f}" for metric in _TITLES]
        if "mean_difference" in row:
            changed = row["mean_difference"]
            scores = [f"{score} {changed[metric]:+.3f}" for score, metric in zip(scores, _TITLES, strict=True)]
        table.add_row(name, *scores, f"{row['steps']['mean']:.0f}", row.get("verdict", ""), row.get("what", ""))
    console.print(table)
    if report["ladder"]:
        table = Table("rung", *_TITLES.values(), "steps", title="From a plain trainer upwards")
        for name, row in report["ladder"].items():
            scores = [f"{row['scores'][metric]['mean']:.3f}" for metric in _TITLES]
            table.add_row(name, *scores, f"{row['steps']['mean']:.0f}")
        console.print(table)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """A bar for each variant and score: how much it differs from the recipe; a dot for each seed."""
    rows = {name: row for name, row in report["rows"].items() if "differences" in row}
    figure = Figure(figsize=(12, 1.2 + 0.3 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(LEAST), sharey=True)
    for axes, metric in zip(panels, LEAST, strict=True):
        for place, row in enumerate(rows.values()):
            mean = row["mean_difference"][metric]
            axes.barh(place, mean, color="tab:green" if mean > 0 else "tab:red", alpha=0.6)
            values = row["differences"][metric]
            axes.plot(values, [place] * len(values), "k.", markersize=4)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(f"{_TITLES[metric]}, variant less {report['recipe']}", fontsize=10)
    panels[0].set_yticks(range(len(rows)), [f"{name}: {row['verdict']}" for name, row in rows.items()], fontsize=8)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, score and print; exit code 0, or 2 for a call that cannot work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description="What each part is worth.")
    parser.add_argument("--list", action="store_true", help="print the variants and end")
    parser.add_argument("--recipe", default="light-128")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants instead of all")
    parser.add_argument("--ladder", action="store_true", help="also from a plain trainer upwards")
    parser.add_argument("--minutes", type=float, default=3.0, help="of processor time for each cell (default 3)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time (default 1)")
    parser.add_argument("--work", type=Path, help="folder for everything that is made on the way")
    parser.add_argument("--facesets", type=Path, help="folder that holds identity-faces and performer-faces")
    parser.add_argument("--frames", type=int, default=800, help="filmed of each actor (default 800)")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--plot", type=Path, help="picture of the differences")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 160)
    if args.list:
        for variant in VARIANTS:
            console.print(f"{variant.kind:8}{variant.name:18}{variant.what}")
        return 0
    try:
        if args.work is None:
            raise UsageError("give --work a folder")
        recipe = replace(load_recipe(args.recipe), minutes=args.minutes, iterations=None, until_plateau=False)
        variants = choose(args.only, recipe)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    ground = prepare(args.work, frames=args.frames, facesets=args.facesets, say=console.print)
    named = [(args.recipe, recipe), *((variant.name, variant.apply(recipe)) for variant in variants)]
    named += ladder(recipe) if args.ladder else []
    cells = [
        Cell(name, replace(config, seed=seed), by_processor=True)
        for name, config in named
        for seed in range(args.seeds)
    ]

    def done(result: dict[str, Any], count: int, all_cells: int) -> None:
        score = _scores(result)["identity_transfer"]
        console.print(f"{count}/{all_cells} {result['name']} seed {result['seed']}: identity transfer {score:.3f}")

    results = run_cells(evenly(cells), ground, args.work, jobs=args.jobs, on_done=done)
    facts = {"minutes": args.minutes, "seeds": args.seeds, "threads": 1, "clock": "processor", "jobs": args.jobs}
    report = make_report(results, variants, args.recipe, facts)
    show(report, console)
    if args.json is not None:
        write_atomically(args.json, json.dumps(report, indent=1) + "\n")
    if args.plot is not None:
        draw(report, args.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
