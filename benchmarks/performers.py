"""Films performers whom nobody has met. Seeds in; one short film of each, and one faceset of them all, out.

Every film is a file of its own under its final name when it is whole, so a filming that was interrupted goes on.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import cv2

from realtime.actors import Actor, Renderer, motion, random_identity
from realtime.frame import Frame
from realtime.source import BT709, SourceInfo
from realtime.video_writer import VideoWriter
from training.extract import ExtractConfig, extract

FPS, APART = 30, 60
"""A performance runs at FPS, so that it has the motion blur of a camera; every APART-th frame of it is kept: head, lips
and light have moved on by then."""
SIZE = 640, 480


def film_performer(seed: int, frames: int, path: Path) -> None:
    """`frames` moments of one random performer, two seconds apart, as a camera would have recorded them."""
    cv2.setNumThreads(1)
    width, height = SIZE
    info = SourceInfo("performer", width, height, Fraction(FPS, APART), frames, live=False, colour=BT709)
    poses = motion(frames * APART, FPS, seed, hand=False)
    camera = Renderer(Actor(random_identity(seed)), width, height, background_seed=seed)
    with VideoWriter(path, info, crf=12) as writer:
        for number in range(frames):
            index = (number + 1) * APART - 1
            image = camera.render(poses[index], poses[index - 1], frame=index).image
            pts_s = number * APART / FPS
            writer.send(Frame(image, number, pts_s, pts_s))


def film_performers(
    folder: Path,
    seeds: Sequence[int],
    frames: int,
    *,
    processes: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """One film for each seed in `folder`; what is there already is kept. `on_progress`: films done, films in all."""
    folder.mkdir(parents=True, exist_ok=True)
    films = [folder / f"{seed:05d}-{frames}.mp4" for seed in seeds]
    missing = [(seed, film) for seed, film in zip(seeds, films, strict=True) if not film.exists()]
    say = on_progress or (lambda done, count: None)
    if processes == 1 or len(missing) < 2:
        for done, (seed, film) in enumerate(missing, start=1):
            film_performer(seed, frames, film)
            say(len(films) - len(missing) + done, len(films))
        return films
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(film_performer, seed, frames, film) for seed, film in missing]
        for done, job in enumerate(jobs, start=1):
            job.result()
            say(len(films) - len(missing) + done, len(films))
    return films


def gather(films: Sequence[Path], faceset: Path, size: int = 256) -> None:
    """All faces of all `films` in one new faceset, one source for each performer; nothing happens where it exists."""
    if not faceset.exists():
        extract(list(films), faceset, ExtractConfig(size=size))
