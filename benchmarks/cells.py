"""Trains and scores one recipe with one seed: a cell of a table. A configuration in, its scores over time out.

Note [Off the clock]
    At each mark, a share of the budget, the averaged weights are exported while the clock of the run stands still; they
    are scored when the training is over. So neither costs it anything. Looks at held-out faces are left out but for the
    last one, and nothing is saved before the end.

Every finished cell is one JSON file: a benchmark that was interrupted goes on with the cells that are missing.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from benchmarks.ground import Ground
from benchmarks.swap_score import blend_for, score_model, write_model
from realtime.files import write_atomically
from training import checkpoint
from training.checkpoint import Progress
from training.config import TrainConfig
from training.model import SwapModel
from training.train import train

NEVER = 10**8
"""Steps between looks and between saves: only the end, and what a mark asks for."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One recipe with one seed."""

    name: str
    """Of the row, unique but for the seed."""
    config: TrainConfig
    """With its budget and its seed."""
    marks: tuple[float, ...] = (1.0,)
    """Shares of the budget at which it is scored, rising; the last is 1."""
    by_processor: bool = False
    """Whether minutes are those of the processor, which other programs take nothing of; for one thread."""

    @property
    def seed(self) -> int:
        return self.config.seed

    def result_in(self, work: Path) -> Path:
        """Where the finished cell is written."""
        return work / "cells" / f"{_plain(self.name)}-{self.seed}.json"

    def model_in(self, work: Path) -> Path:
        """Where the model of the finished cell is kept, as it was when the budget was used."""
        return work / "models" / f"{_plain(self.name)}-{self.seed}.dfm"


def run_cell(cell: Cell, ground: Ground, work: Path) -> dict[str, Any]:
    """Train and score one cell; a cell that was finished before is read.

    Raises KeyboardInterrupt when somebody stops the training.
    """
    path = cell.result_in(work)
    if path.is_file():
        finished: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return finished
    cv2.setNumThreads(1)
    folder = work / "running" / path.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    snapshots = _train(cell, ground, folder)
    blend = blend_for(cell.config)
    for snapshot in snapshots:
        model = folder / snapshot.pop("model")
        rehearsal = ground.rehearsal if snapshot is snapshots[-1] else None
        snapshot.update(score_model(model, ground.scene, blend, rehearsal=rehearsal, threads=ground.threads))
    _, _, progress = checkpoint.load_best(folder / "run")
    last = snapshots[-1]
    result = {
        "name": cell.name,
        "seed": cell.seed,
        "config": cell.config.to_dict(),
        "steps": last["iteration"],
        "samples": last["iteration"] * cell.config.batch,
        "elapsed_s": last["elapsed_s"],
        "samples_per_s": round(2 * last["iteration"] * cell.config.batch / last["elapsed_s"], 3),
        "held_out": (progress.history or [{}])[-1],
        "snapshots": snapshots,
    }
    cell.model_in(work).parent.mkdir(exist_ok=True)
    (folder / "final.dfm").replace(cell.model_in(work))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(result, indent=1) + "\n")
    shutil.rmtree(folder)
    return result


def run_cells(
    cells: Sequence[Cell],
    ground: Ground,
    work: Path,
    *,
    jobs: int = 1,
    on_done: Callable[[dict[str, Any], int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """All cells in their order, `jobs` at a time, each in a fresh process. `on_done`: a result, cells done, all cells.

    The processes are spawned: a script that calls this needs the usual `if __name__ == "__main__":`. The first error
    of a cell is raised once the cells that are under way are done.
    """
    results: dict[int, dict[str, Any]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        waiting: dict[Future[dict[str, Any]], int] = {}
        try:
            for number, cell in enumerate(cells):
                if cell.result_in(work).is_file():
                    results[number] = run_cell(cell, ground, work)
                else:
                    waiting[pool.submit(run_cell, cell, ground, work)] = number
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    results[waiting.pop(future)] = future.result()
                    if on_done is not None:
                        on_done(future.result(), len(results), len(cells))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [results[number] for number in range(len(cells))]


def evenly(values: Iterable[Cell]) -> list[Cell]:
    """The cells seed by seed, so that a noisy hour of the machine hits all rows alike."""
    return sorted(values, key=lambda cell: cell.seed)


def _train(cell: Cell, ground: Ground, folder: Path) -> list[dict[str, Any]]:
    """Train, and export the averaged weights at every mark: where and when that was."""
    config = replace(cell.config, threads=ground.threads, evaluate_every=NEVER, save_every=NEVER)
    config = replace(config, evaluate_every_s=float(NEVER), save_every_s=float(NEVER))
    snapshots: list[dict[str, Any]] = []

    def export_at_marks(progress: Progress, ema: SwapModel) -> None:
        used = _share(config, progress)
        for mark in cell.marks[len(snapshots) :]:
            if used < mark:
                break
            name = "final.dfm" if mark == 1 else f"{mark:.4f}.dfm"
            write_model(copy.deepcopy(ema).cpu(), config, folder / name)
            elapsed_s = round(progress.elapsed_s, 2)
            snapshots.append({"mark": mark, "model": name, "iteration": progress.iteration, "elapsed_s": elapsed_s})

    clock = time.process_time if cell.by_processor else time.monotonic
    train(ground.identity, ground.performer, folder / "run", config, on_step=export_at_marks, clock=clock)
    if len(snapshots) < len(cell.marks):
        raise KeyboardInterrupt
    return snapshots


def _share(config: TrainConfig, progress: Progress) -> float:
    """Of the budget that is used, without the plateau that a benchmark does not wait for."""
    steps = progress.iteration / config.iterations if config.iterations else 0.0
    return max(steps, progress.elapsed_s / (60 * config.minutes) if config.minutes else 0.0)


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)
