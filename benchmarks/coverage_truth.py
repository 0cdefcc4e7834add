"""Asks whether the coverage report tells the truth. Rendered sets with one defect each in; how well it ranked them out.

    python -m benchmarks.coverage_truth --work DIR [--casts 2] [--moments 240] [--recipe light-128] [--steps 1000]
        [--minutes N] [--jobs 2] [--json FILE] [--plot FILE.png]

Every set of benchmarks.coverage_sets is trained against the same clean performer with the same budget. A performance of
the performer that no model has seen is then swapped and compared with the exact answer, frame by frame; what
training.coverage predicts for these frames, before and without any training, is compared with that.

See Note [True score]. Whoever changes a weight of the report does so on other casts than those that test it
(--first-cast). Everything that is finished is kept in --work: a run that was stopped goes on, and one that only asks
again costs seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console

from benchmarks.cells import Cell, run_cell
from benchmarks.coverage_score import draw, make_report, show
from benchmarks.coverage_sets import CLEAN, CROP_PX, DEFECTS, Cast, Defect, Studio, store_face
from benchmarks.ground import Ground
from benchmarks.rendered_scene import RenderedScene
from benchmarks.swap_score import blend_for
from export.placement import Remembering, measure_placement
from realtime.actors import Scene
from realtime.align import whole_face
from realtime.blend import BlendSettings
from realtime.detect import FaceFinder
from realtime.dfm import Placement
from realtime.errors import ExportError, UsageError
from realtime.files import write_atomically
from realtime.infer import open_engine
from realtime.score import identity_transfer, psnr, ssim
from realtime.swap import FaceSwapper
from training.config import TrainConfig, load_recipe
from training.coverage import WEIGHTS, cover
from training.coverage_advice import find_offer, read_offers
from training.coverage_facts import SetFacts, read_facts
from training.coverage_verdict import judge
from training.faceset import Faceset
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter

FIRST_CAST = 900
"""Seed of the first cast, by which the weights of the report were corrected once, see training/coverage.py. The second
was no part of that, but is not untouched: the rule for hidden faces, its limit, the cost of strangers and the error of
a single frame were settled after its figures had been seen."""
FILMED, FILM_FPS, EVERY, RUN_UP = 480, 12.0, 8, 2
"""Of the performance that is scored: frames, rate, and which of them, see Note [Bursts]."""
REHEARSED = 4
"""Every so many of the run-up frames, whose scores nobody takes, serve to measure how the face lies."""
_FRAMES_SET = "scored-frames"


@dataclass(frozen=True, slots=True)
class Job:
    """One defect of one cast, with everything that a process needs to work on it."""

    defect: Defect
    cast_seed: int
    moments: int
    config: TrainConfig
    work: Path
    threads: int

    @property
    def folder(self) -> Path:
        return self.work / f"cast-{self.cast_seed}-{self.moments}"

    @property
    def cast(self) -> Cast:
        return Cast.random(self.cast_seed, self.moments)

    @property
    def scene(self) -> Scene:
        cast = self.cast
        seed = 10 * cast.seed + 9
        return Scene(
            performer=cast.performer, identity=cast.identity, frames=FILMED, fps=FILM_FPS, seed=seed, hand=False
        )


def film(job: Job) -> None:
    """Render what all sets of a cast share: the scored scene with its faceset, and the performer's own set."""
    cv2.setNumThreads(1)
    studio = Studio(job.folder, job.cast)
    studio.make(CLEAN, "performer")
    studio.film("identity")  # most defects are planted after it was filmed
    scene = RenderedScene.open(job.folder / "scenes", job.scene, every=EVERY, run_up=RUN_UP)
    path = job.folder / "sets" / _FRAMES_SET
    if path.is_dir():
        return
    with FaceFinder(static=True) as finder, FacesetWriter(path, whole_face(CROP_PX), kind="whole") as writer:
        writer.add_source(SourceRecord(_FRAMES_SET, "0" * 64, FILM_FPS, FILMED))
        for moment in scene.moments():
            if moment.scored:
                store_face(writer, finder, moment.performer, moment.index, moment.pts_s)


def run_job(job: Job) -> dict[str, Any]:
    """Make the set, train on it and score every frame; a job that was finished before is read."""
    name = f"{job.defect.name}-{job.config.name}-{job.config.iterations or f'{job.config.minutes:g}min'}"
    path = job.folder / "placed-results" / f"{name}.json"
    if path.is_file():
        finished: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return finished
    cv2.setNumThreads(1)
    identity = Studio(job.folder, job.cast).make(job.defect)
    scene = RenderedScene.open(job.folder / "scenes", job.scene, every=EVERY, run_up=RUN_UP)
    ground = Ground(identity, job.folder / "sets" / "performer-clean", scene, None, job.threads)
    cell = Cell(name, job.config)
    trained = run_cell(cell, ground, job.folder)
    frames = score_frames(cell.model_in(job.folder), scene, blend_for(job.config), job.threads)
    result = {"defect": job.defect.name, "steps": trained["steps"], "elapsed_s": trained["elapsed_s"], "frames": frames}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    return result


def score_frames(model: Path, scene: RenderedScene, blend: BlendSettings, threads: int) -> list[dict[str, float]]:
    """The scores of every scored frame, see Note [True score]."""
    found = []
    engine = Remembering(open_engine(model, threads=threads))
    engine.place(_placement(model, scene))
    with FaceSwapper(FaceFinder(), engine, blend=blend) as swapper:
        for moment in scene.moments():
            result = swapper.swap(moment.frame)
            if not moment.scored or not (moment.mask > 127).any():
                continue
            pictures = (result.frame.image, moment.performer, moment.truth)
            transfer = identity_transfer(*pictures, moment.mask)
            likeness = ssim(pictures[0], pictures[2], moment.mask)
            score = min(max(transfer, 0.0), 1.0) * likeness if result.swapped else 0.0
            found.append(
                {
                    "index": moment.index,
                    "score": round(score, 4),
                    "identity_transfer": round(transfer, 4),
                    "face_ssim": round(likeness, 4),
                    "face_psnr_db": round(psnr(pictures[0], pictures[2], moment.mask), 3),
                    "swapped": float(result.swapped),
                }
            )
    return found


def _placement(model: Path, scene: RenderedScene) -> Placement:
    """How the model's face lies over the performer's head; as it is where too few frames show that."""
    between = [(each.performer, each.truth) for each in scene.moments() if not each.scored and (each.mask > 127).any()]
    try:
        return measure_placement(model, between[::REHEARSED])
    except ExportError:
        return Placement()


def predict(job: Job, identity: SetFacts, frames: SetFacts, numbers: Sequence[int], shown_px: float) -> dict[str, Any]:
    """What the report says about one set: the score, its first finding and the risk of every scored frame."""
    found = cover(identity, frames, shown_px)
    # The scored frames are too few to train on, and nobody does: they are what was filmed later.
    found = replace(found, costs={cause: cost for cause, cost in found.costs.items() if cause != "performer few"})
    verdict = judge(found)
    return {
        "predicted": round(found.score, 4),
        "level": verdict.level,
        "first": verdict.findings[0].cause if verdict.findings else "",
        "sentence": verdict.findings[0].sentence if verdict.findings else "",
        "losses": verdict.losses,
        "risk": dict(zip(numbers, (round(value, 4) for value in found.risk.tolist()), strict=True)),
        "axes": {axis: [round(value, 4) for value in found.costs[axis].tolist()] for axis in WEIGHTS},
    }


def predict_all(jobs: Sequence[Job], console: Console) -> dict[tuple[int, str], dict[str, Any]]:
    """By cast and defect. The facts are read here, once for each set; nothing of the training is looked at."""
    shown_px = find_offer(read_offers(), jobs[0].config.name).face_px
    found = {}
    frames: dict[int, tuple[SetFacts, list[int]]] = {}
    for job in jobs:
        sets = job.folder / "sets"
        if job.cast_seed not in frames:
            shown = Faceset.open(sets / _FRAMES_SET, verify=False)
            frames[job.cast_seed] = (read_facts(shown), [record.frame_index for record in shown.records])
        facts = read_facts(Faceset.open(sets / f"identity-{job.defect.name}", verify=False))
        found[job.cast_seed, job.defect.name] = predict(job, facts, *frames[job.cast_seed], shown_px)
    console.print(f"predicted {len(found)} sets")
    return found


def plan(args: argparse.Namespace) -> list[Job]:
    """All jobs, cast by cast. Raises UsageError."""
    config = load_recipe(args.recipe)
    if args.minutes is not None:
        config = replace(config, minutes=args.minutes, iterations=None, until_plateau=False)
    else:
        config = replace(config, minutes=None, iterations=args.steps, until_plateau=False)
    known = {each.name: each for each in DEFECTS}
    missing = [name for name in args.only or () if name not in known]
    if missing:
        raise UsageError(f"there is no set {missing[0]!r}; choose among {', '.join(known)}")
    chosen = [each for each in DEFECTS if not args.only or each.name in args.only]
    return [
        Job(defect, args.first_cast + number, args.moments, config, args.work, args.threads)
        for number in range(args.casts)
        for defect in chosen
    ]


def run(jobs: Sequence[Job], processes: int, console: Console) -> dict[tuple[int, str], dict[str, Any]]:
    """The results of all jobs by cast and defect, `processes` at a time."""
    results: dict[tuple[int, str], dict[str, Any]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        try:
            firsts = {job.cast_seed: job for job in reversed(jobs)}
            for filmed in as_completed([pool.submit(film, job) for job in firsts.values()]):
                filmed.result()
            console.print(f"filmed {len(firsts)} casts")
            waiting = {pool.submit(run_job, job): job for job in jobs}
            for done in as_completed(waiting):
                job, result = waiting[done], done.result()
                results[job.cast_seed, job.defect.name] = result
                score = float(np.mean([frame["score"] for frame in result["frames"]]))
                console.print(f"{len(results)}/{len(jobs)} cast {job.cast_seed}, {job.defect.name}: score {score:.3f}")
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {(job.cast_seed, job.defect.name): results[job.cast_seed, job.defect.name] for job in jobs}


def main(argv: Sequence[str] | None = None) -> int:
    """Film, train, score and compare; exit code 0, or 2 for a call that cannot work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage_truth", description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made on the way")
    parser.add_argument("--casts", type=int, default=2, help="trios of people (default 2)")
    parser.add_argument("--first-cast", type=int, default=FIRST_CAST, metavar="SEED", help=f"default {FIRST_CAST}")
    parser.add_argument("--moments", type=int, default=240, help="faces of each set (default 240)")
    parser.add_argument("--recipe", default="light-128")
    parser.add_argument("--steps", type=int, default=1000, help="of training for each set (default 1000)")
    parser.add_argument("--minutes", type=float, help="of training for each set, instead of steps")
    parser.add_argument("--only", nargs="+", metavar="SET", help="only these sets")
    parser.add_argument("--threads", type=int, default=1, help="of each training (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="sets at a time (default 1)")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--plot", type=Path, help="picture of predicted against true")
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        jobs = plan(args)
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    results = run(jobs, args.jobs, console)
    facts = {"recipe": args.recipe, "steps": args.steps, "minutes": args.minutes, "moments": args.moments}
    report = {**facts, **make_report(results, predict_all(jobs, console))}
    show(report, console)
    if args.json is not None:
        write_atomically(args.json, json.dumps(report, indent=1) + "\n")
    if args.plot is not None:
        draw(report, args.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
