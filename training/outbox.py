"""Brings checkpoints to the disk, later where it is full now. Packed checkpoints in; files, or one sentence, out.

Note [A full disk]
    A disk that is full, or turned read-only, or went away, is no reason to lose hours of training that still sit in
    memory. What could not be written is said once; the last checkpoint stays as it is, and every next save tries
    again. Only a run that ends with a save undone ends with an error.

    The best weights go first and wait in memory, one copy, until they are written; the newest state is written after
    them or not at all. So what lies on the disk fits together: resumed, it leads to the same bits as ever.
"""

from __future__ import annotations

import logging
from pathlib import Path

from realtime.errors import TrainingError
from training.checkpoint import BEST, LATEST, write_file

_log = logging.getLogger(__name__)


class Outbox:
    """Writes the two checkpoints of a run, see Note [A full disk]."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._best: bytes | None = None
        self._trouble: TrainingError | None = None

    @property
    def has_best(self) -> bool:
        """Whether best weights are on the disk or on their way."""
        return self._best is not None or (self._run / BEST).is_file()

    def put_best(self, data: bytes) -> bool:
        """Write what `pack_best` made, now or before the next newest state. Whether it is on the disk."""
        self._best = data
        return self._send_best()

    def put_latest(self, data: bytes) -> bool:
        """Write what `pack_latest` made, after the best weights if they still wait. Whether it is on the disk."""
        return self._send_best() and self._send(LATEST, data)

    def close(self) -> None:
        """The run is over. Raises TrainingError if the last save could not be written."""
        self._send_best()
        if self._trouble is not None:
            raise self._trouble

    def _send_best(self) -> bool:
        if self._best is None:
            return True
        done = self._send(BEST, self._best)
        if done:
            self._best = None
        return done

    def _send(self, name: str, data: bytes) -> bool:
        try:
            write_file(self._run / name, data)
        except TrainingError as error:
            if self._trouble is None:
                _log.warning("%s; training goes on, the last checkpoint stays, and the next save tries again", error)
            self._trouble = error
            return False
        # The newest state comes last: once it is written, everything is.
        if name == LATEST and self._trouble is not None:
            _log.info("%s could be saved again", self._run)
            self._trouble = None
        return True
