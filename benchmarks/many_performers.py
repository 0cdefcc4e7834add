"""Shows one model accept performers whom it has never seen. Rendered identities in; swap scores on strangers out.

    python -m benchmarks.many_performers --work DIR [--facesets DIR] [--performers 20 200] [--frames 12] [--unseen 20]
        [--minutes 10] [--seeds 1] [--recipe light-128] [--told-apart] [--json FILE] [--plot FILE.png]

Ada is swapped onto people that no model was trained on. Beside the model of one performer, Bo, there is one for each
number of random performers, all of them taken for one person by the performer's side of the training; they share
recipe, minutes and Ada's faces. `--told-apart` adds rows in which the performer's decoder knows who is who, see
Note [Many performers] in training.model. Scores are raw: how a face has to be placed is not known for a stranger.

Performers are filmed for a few moments each, far apart in time. What was filmed, trained and rendered before is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.cells import Cell, evenly, run_cells
from benchmarks.ground import Ground, prepare
from benchmarks.performers import film_performers, gather
from benchmarks.quality import spread
from benchmarks.rendered_scene import RenderedScene
from benchmarks.swap_score import METRICS, Scores, score_model, score_nothing
from realtime import machine
from realtime.actors import Scene, random_identity
from realtime.files import write_atomically
from training.config import TrainConfig, load_recipe

SEEN, UNSEEN = 10_000, 50_000
"""First seeds of the performers who are trained on, and of those who are not."""
STRANGERS = Scene(frames=240, fps=30, hand=False)
"""The performance of a stranger, with a seed of its own each."""
EVERY, RUN_UP = 60, 2
"""Of it, four frames are scored, see Note [Bursts]."""


@dataclass(frozen=True, slots=True)
class Cast:
    """One row: whom the performer's side is trained on."""

    name: str
    faceset: Path
    told_apart: bool = False
    """Whether the performer's decoder knows who is who."""


def casts(work: Path, known: Path, counts: Sequence[int], frames: int, *, told_apart: bool) -> Iterator[Cast]:
    """The performer of `known`, and each number of random performers."""
    yield Cast("1 performer", known)
    for count in sorted(counts):
        faceset = work / f"{count}x{frames}-faces"
        yield Cast(f"{count} performers", faceset)
        if told_apart:
            yield Cast(f"{count} performers, told apart", faceset, True)


def strangers(cache: Path, count: int) -> list[RenderedScene]:
    """Ada swapped onto unseen performers, exactly."""
    scenes = []
    for seed in range(UNSEEN, UNSEEN + count):
        scene = replace(STRANGERS, performer=random_identity(seed), seed=seed, background_seed=seed)
        scenes.append(RenderedScene.open(cache, scene, every=EVERY, run_up=RUN_UP))
    return scenes


def train_casts(
    rows: Sequence[Cast], recipe: TrainConfig, seeds: int, ground: Ground, work: Path, jobs: int, console: Console
) -> dict[str, list[dict[str, Any]]]:
    """Every row trained with every seed: the finished cells by the name of the row."""

    def done(result: Mapping[str, Any], count: int, all_cells: int) -> None:
        console.print(f"trained on {result['name']}, seed {result['seed']}")

    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        config = replace(recipe, many=row.told_apart)
        cells = evenly(Cell(row.name, replace(config, seed=seed)) for seed in range(seeds))
        own = replace(ground, performer=row.faceset)
        found[row.name] = run_cells(cells, own, work, jobs=jobs, on_done=done)
    return found


def score_row(cells: Sequence[Mapping[str, Any]], scenes: Sequence[RenderedScene], work: Path) -> dict[str, Any]:
    """How one row fares with strangers, and with Bo."""
    each: list[list[Scores]] = []
    for cell in cells:
        model = Cell(cell["name"], TrainConfig.from_dict(cell["config"])).model_in(work)
        each.append([score_model(model, scene)["raw"] for scene in scenes])
    metrics = (*METRICS, "swapped")
    by_stranger = [
        {metric: _mean([scores[number][metric] for scores in each]) for metric in metrics}
        for number in range(len(scenes))
    ]
    return {
        "unseen": {metric: spread([stranger[metric] for stranger in by_stranger]) for metric in metrics},
        "by_stranger": by_stranger,
        "bo": {metric: spread([cell["snapshots"][-1]["raw"][metric] for cell in cells]) for metric in metrics},
        "steps": spread([cell["steps"] for cell in cells]),
        "samples_per_s": spread([cell["samples_per_s"] for cell in cells]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the table of a report."""
    table = Table(
        title=f"Ada swapped onto {report['unseen']} people who were never seen, {report['minutes']:g} minutes"
    )
    for title in ("trained on", *METRICS, "swapped", "onto Bo: identity_transfer"):
        table.add_column(title)
    table.add_row("no swap", *(f"{report['no_swap'][metric]['mean']:.3f}" for metric in METRICS), "", "")
    for name, row in report["rows"].items():
        scores = [row["unseen"][metric] for metric in (*METRICS, "swapped")]
        bo = row["bo"]["identity_transfer"]["mean"]
        table.add_row(name, *("-" if s is None else f"{s['mean']:.3f}" for s in scores), f"{bo:.3f}")
    console.print(table)


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Each stranger a dot, each row a column with its mean, for the two scores that matter most."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    titles = {"identity_transfer": "identity transfer onto strangers", "face_ssim": "SSIM onto strangers"}
    for axes, (metric, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for place, row in enumerate(report["rows"].values()):
            values = [stranger[metric] for stranger in row["by_stranger"]]
            spots = [place + 0.5 * (number / max(1, len(values) - 1) - 0.5) for number in range(len(values))]
            axes.plot(spots, values, ".", alpha=0.6)
            axes.hlines(row["unseen"][metric]["mean"], place - 0.3, place + 0.3, color="black")
        axes.axhline(report["no_swap"][metric]["mean"], color="grey", linestyle="--", linewidth=0.8, label="no swap")
        axes.set_xticks(range(len(report["rows"])), list(report["rows"]), fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="y", alpha=0.25)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> int:
    """Film, train, score and print; exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_performers", description="Swaps onto strangers.")
    parser.add_argument("--performers", type=int, nargs="+", default=[200], help="how many to train on (default 200)")
    parser.add_argument("--frames", type=int, default=12, help="of each of them (default 12)")
    parser.add_argument("--unseen", type=int, default=20, help="strangers to score on (default 20)")
    parser.add_argument("--told-apart", action="store_true", help="also with a decoder that knows who is who")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training for each row (default 10)")
    parser.add_argument("--recipe", default="light-128")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each training (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default 1)")
    parser.add_argument("--processes", type=int, default=2, help="that film (default 2)")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made on the way")
    parser.add_argument("--facesets", type=Path, help="folder that holds identity-faces and performer-faces of Bo")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--plot", type=Path, help="picture of the scores")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 160)
    ground = prepare(args.work, facesets=args.facesets, threads=args.threads, rehearse=False, say=console.print)

    def filmed(done: int, count: int) -> None:
        if done % 10 == 0 or done == count:
            console.print(f"filmed {done} of {count} performers")

    seeds = range(SEEN, SEEN + max(args.performers))
    films = film_performers(args.work / "films", seeds, args.frames, processes=args.processes, on_progress=filmed)
    rows = list(casts(args.work, ground.performer, args.performers, args.frames, told_apart=args.told_apart))
    for count in args.performers:
        gather(films[:count], args.work / f"{count}x{args.frames}-faces")
    console.print(f"rendering {args.unseen} strangers")
    scenes = strangers(args.work / "scenes", args.unseen)
    recipe = replace(load_recipe(args.recipe), minutes=args.minutes, iterations=None, until_plateau=False)
    cells = train_casts(rows, recipe, args.seeds, ground, args.work, args.jobs, console)
    nothing = [score_nothing(scene) for scene in scenes]
    report = {
        "recipe": args.recipe,
        "minutes": args.minutes,
        "seeds": args.seeds,
        "threads": args.threads,
        "jobs": args.jobs,
        "frames_of_each": args.frames,
        "unseen": args.unseen,
        "no_swap": {metric: spread([scores[metric] for scores in nothing]) for metric in METRICS},
        "rows": {name: score_row(each, scenes, args.work) for name, each in cells.items()},
        "machine": machine.describe(),
    }
    show(report, console)
    if args.json is not None:
        write_atomically(args.json, json.dumps(report, indent=1) + "\n")
    if args.plot is not None:
        draw(report, args.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
