"""Makes a model of rendered actors from nothing. A plan in; videos, facesets, a training run and a .dfm out.

Note [Demo model]
    Two actors who do not exist, ADA and BO, are filmed giving different performances, so that no frame of one answers
    a frame of the other. From there on it is what any user does: extract, train, export. The performance that the
    model is scored on has another seed again. `python -m export.demo_model OUT` makes such a model by the
    plan of the shipped one; `realtime/models/demo.json` says how that one came about and what it scores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from export.placement import measure_placement
from export.statement import Statement
from export.to_onnx import ExportReport, export_run
from realtime.actors import ADA, BO, Actor, Identity, Renderer, Scene
from realtime.frame import ImageU8
from realtime.pattern import PatternSource
from realtime.video_writer import VideoWriter
from training.config import load_recipe
from training.extract import ExtractConfig, ExtractProgress, extract

if TYPE_CHECKING:
    from training.train import TrainProgress

OnProgress = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, [0, 1]."""

FILM_FPS = 8
"""A performance sampled slowly: neighbouring frames of 30 fps teach almost the same."""
SEEDS = {"identity": 101, "performer": 202}
ACTORS: dict[str, Identity] = {"identity": ADA, "performer": BO}
REHEARSED = 40
"""Moments on which the placement is measured."""
STATEMENT = Statement(
    "Ada, a rendered actor",
    "Ada is computer graphics and resembles nobody; consent is not needed.",
    exporter="liveswap",
    licence="Apache-2.0",
    uses=("demonstrations and tests of liveswap",),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to film and how long to train."""

    frames: int
    """Of each actor."""
    preset: str
    minutes: float | None = None
    iterations: int | None = None


FROM_SCRATCH = Plan(frames=800, preset="light-128", minutes=5.0)
"""Fits into ten minutes on two cores, filming and scoring included."""
SHIPPED = Plan(frames=2400, preset="light-128", iterations=17500)
"""As much film and training as the model in realtime/models had; what differed is in the demo.json beside it."""


def film(who: str, frames: int, path: Path) -> None:
    """Render one actor's performance into a video file, as a camera would have recorded it."""
    source = PatternSource(Actor(ACTORS[who]), fps=FILM_FPS, frames=frames, seed=SEEDS[who], hand=False)
    with source, VideoWriter(path, source.info, crf=12) as writer:
        for frame in source:
            writer.send(frame)


def make_model(out: Path, plan: Plan, on_progress: OnProgress | None = None, *, resume: bool = False) -> ExportReport:
    """Film, extract, train and export below the folder `out`; the model is `out/demo.dfm`."""
    say = on_progress or (lambda what, share: None)
    out.mkdir(parents=True, exist_ok=True)
    videos = {who: out / f"{who}.mp4" for who in ACTORS}
    facesets = {who: out / f"{who}-faces" for who in ACTORS}

    say("filming two actors", 0.0)
    missing = [who for who in ACTORS if not videos[who].exists()]
    if missing:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(film, who, plan.frames, videos[who]) for who in missing]
            for done, job in enumerate(jobs, start=1):
                job.result()
                say("filming two actors", done / len(jobs))

    for who in ACTORS:
        if not facesets[who].exists():
            _extract(who, videos[who], facesets[who], plan.frames, say)

    from training.train import train

    def trained(progress: TrainProgress) -> None:
        rest_s = progress.eta_s or 0.0
        say(f"training {plan.preset}", progress.elapsed_s / max(progress.elapsed_s + rest_s, 1e-9))

    train(
        facesets["identity"],
        facesets["performer"],
        out / "run",
        load_recipe(plan.preset),
        resume=resume,
        minutes=plan.minutes,
        iterations=plan.iterations,
        on_progress=trained,
    )
    say("exporting", 0.0)
    model = out / "demo.dfm"
    export_run(out / "run", model, STATEMENT)
    say("exporting", 0.2)
    placement = measure_placement(model, rehearsal(plan.frames))
    report = export_run(out / "run", model, STATEMENT, placement=placement)
    say("exporting", 1.0)
    return report


def _extract(who: str, video: Path, faceset: Path, frames: int, say: OnProgress) -> None:
    def extracted(progress: ExtractProgress) -> None:
        say(f"extracting the {who}'s faces", progress.frames_done / frames)

    extract([video], faceset, ExtractConfig(keep_duplicates=True), extracted)


def rehearsal(frames: int) -> Iterator[tuple[ImageU8, ImageU8]]:
    """Moments of the performance that was trained on, with their exact answers: what the placement is measured on."""
    scene = Scene(frames=frames, fps=FILM_FPS, seed=SEEDS["performer"], hand=False)
    cameras = [Renderer(actor) for actor in (Actor(BO), Actor(ADA, body=BO, tone=scene.tone))]
    poses = scene.poses()
    for index in range(0, frames, max(1, frames // REHEARSED)):
        performer, answer = (camera.render(poses[index], frame=index).image for camera in cameras)
        yield performer, answer


def main(argv: Sequence[str] | None = None) -> int:
    """Repeat the shipped model in a folder; goes on where it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m export.demo_model", description="Repeat the shipped demo model.")
    parser.add_argument("out", type=Path, help="folder to work in")
    parser.add_argument("--iterations", type=int, default=SHIPPED.iterations)
    args = parser.parse_args(argv)
    last = ""

    def show(what: str, share: float) -> None:
        nonlocal last
        line = f"{what} {share:4.0%}"
        if line != last:
            sys.stderr.write(line + "\n")
            last = line

    make_model(args.out, replace(SHIPPED, iterations=args.iterations), show, resume=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
