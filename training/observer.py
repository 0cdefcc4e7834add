"""Watches a run from outside. The averaged weights in; figures, the best checkpoint, journal and report out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from training.checkpoint import Progress, pack_best
from training.config import TrainConfig
from training.evaluate import draw_sheet, hold_out, look, worth
from training.faceset import Faceset
from training.journal import Journal
from training.model import Side, SwapModel
from training.outbox import Outbox
from training.truth import Truth


class Observer:
    """Looks at the held-out faces of a run and keeps what is worth keeping. A context manager; not thread-safe."""

    def __init__(
        self, run: Path, facesets: Mapping[Side, Faceset], config: TrainConfig, progress: Progress, outbox: Outbox
    ) -> None:
        """Best weights go through `outbox`. Raises FacesetError, ModelError."""
        self._outbox = outbox
        self._held_out = hold_out(facesets, config)
        self._truth = Truth.open(run, facesets, config)
        self.journal = Journal(run, progress.history or (), first=progress.iteration)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.report(final=True)
        self.journal.close()

    def look(self, ema: SwapModel, progress: Progress, rollbacks: int) -> dict[str, float]:
        """One look: `progress` hears of it, and the weights are kept when it is worth most."""
        figures = {"elapsed_s": round(progress.elapsed_s, 2), **look(ema, self._held_out, self._truth)}
        if rollbacks:
            figures["rollbacks"] = float(rollbacks)
        self.journal.look(progress.iteration, figures, draw_sheet(ema, self._held_out))
        progress.history = self.journal.history
        if worth(figures) > progress.best_score:
            progress.best_score, progress.best_iteration = worth(figures), progress.iteration
            self._outbox.put_best(pack_best(ema, progress))
        self.journal.report()
        return figures
