"""Shows how far something has come. Numbers in, a bar or a line with the time left on the error output out."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_EVERY_S = 10.0
"""How often progress becomes a line where nobody watches a bar."""


class Meter:
    """Progress with the time left: a bar on a terminal, otherwise a line now and then. Callable from any thread."""

    def __init__(self, title: str, shown: bool = True) -> None:
        self._title, self._shown = title, shown
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began_s = self._spoke_s = time.monotonic()
        self._done = 0.0

    def __enter__(self) -> Self:
        if self._shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(self._title, total=None, note="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: float, total: float | None, note: str = "", *, left_s: float | None = None) -> None:
        """Show that `done` of `total` is reached. Without `left_s`, what is done tells how long the rest takes."""
        now_s = time.monotonic()
        if done < self._done:  # the next part of the work
            self._began_s = now_s
        self._done = done
        if left_s is None and total and done > 0:
            left_s = (now_s - self._began_s) * max(total - done, 0) / done
        if left_s is not None:
            note = f"{_clock(left_s)} left, {note}".rstrip(", ")
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif self._shown and now_s - self._spoke_s >= PLAIN_EVERY_S:
            self._spoke_s = now_s
            share = f"{100 * min(done / total, 1):.0f} %, " if total else ""
            sys.stderr.write(f"{self._title}: {share}{note}\n")
            sys.stderr.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
