"""Makes what the training benchmarks stand on. A folder in; two facesets and two rendered scenes out, made once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.rendered_scene import RenderedScene
from export.demo import SEED
from export.demo_model import ACTORS, FILM_FPS, SEEDS, film
from realtime.actors import Scene
from training.extract import ExtractConfig, extract

SCENE = Scene(frames=300, fps=30, seed=SEED, hand=False)
"""What is scored: the demo's performance, which no model was trained on."""
REHEARSED = 12
"""Moments of the performance that was trained on, on which placements are measured."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all cells of a benchmark share."""

    identity: Path
    """Faceset of who is swapped in."""
    performer: Path
    scene: RenderedScene
    """What is scored."""
    rehearsal: RenderedScene | None
    """What placements are measured on, of the finished models only: it costs more than all scoring."""
    threads: int = 1


def prepare(
    work: Path,
    *,
    frames: int = 800,
    facesets: Path | None = None,
    threads: int = 1,
    every: int = 10,
    run_up: int = 3,
    rehearse: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Ground:
    """Film both actors for `frames` moments and take out their faces, or use those in the folder `facesets`.

    `every` and `run_up`: see Note [Bursts]. Without `rehearse` no placements can be measured. What was made before in
    `work` is kept.
    """
    work.mkdir(parents=True, exist_ok=True)
    if facesets is None:
        facesets = work
        make_facesets(work, frames, say)
    say("rendering the scene")
    rendered = RenderedScene.open(work / "scenes", SCENE, every=every, run_up=run_up)
    rehearsal = None
    if rehearse:
        practised = replace(SCENE, frames=frames, fps=FILM_FPS, seed=SEEDS["performer"])
        rehearsal = RenderedScene.open(work / "scenes", practised, every=max(1, frames // REHEARSED), run_up=0)
    return Ground(facesets / "identity-faces", facesets / "performer-faces", rendered, rehearsal, threads)


def make_facesets(work: Path, frames: int, say: Callable[[str], None]) -> None:
    """Film both actors for `frames` moments and take out their faces, below `work`; what is there is kept."""
    videos = {who: work / f"{who}.mp4" for who in ACTORS}
    missing = [who for who in ACTORS if not videos[who].exists()]
    if missing:
        say("filming two actors")
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            for job in [pool.submit(film, who, frames, videos[who]) for who in missing]:
                job.result()
    for who, video in videos.items():
        if not (work / f"{who}-faces").exists():
            say(f"extracting the {who}'s faces")
            extract([video], work / f"{who}-faces", ExtractConfig(keep_duplicates=True))
