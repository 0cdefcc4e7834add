"""Talks to the person at the terminal. Words, progress and log records in; lines, or a bar with the time left, out.

Results go to the output, everything else to the error output, so that results can be piped.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from realtime.plain_text import plain_lines

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_EVERY_S = 10.0
"""How often progress becomes a line where nobody watches a bar."""


class Screen:
    """Where words go: results to the output, everything else to the error output, nothing but trouble when quiet."""

    def __init__(self, quiet: bool, json_on_stdout: bool) -> None:
        self._quiet, self._json_on_stdout = quiet, json_on_stdout

    def say(self, text: str) -> None:
        """A result for people; leaves the output to the JSON where both would go there."""
        if not self._quiet:
            _line(text, sys.stderr if self._json_on_stdout else sys.stdout)

    def note(self, text: str) -> None:
        """Something to know beside the result."""
        if not self._quiet:
            _line(text, sys.stderr)

    def warn(self, text: str) -> None:
        """Something that has to be known even when quiet."""
        _line(f"liveswap: warning: {text}", sys.stderr)

    def progress(self, title: str) -> Meter:
        """A progress bar to use in a `with` block."""
        return Meter(title, shown=not self._quiet)


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
            _line(f"{self._title}: {share}{note}", sys.stderr)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Lines(logging.Handler):
    """Log records as lines on the error output that is current when they come."""

    def emit(self, record: logging.LogRecord) -> None:
        _line(f"liveswap: {record.levelname.lower()}: {record.getMessage()}", sys.stderr)
        if record.exc_info and self.level <= logging.DEBUG:
            traceback.print_exception(record.exc_info[1])


@contextlib.contextmanager
def log_lines(verbose: int, quiet: bool) -> Iterator[None]:
    """Send what our rooms log to the error output while a command runs."""
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = _Lines(level)
    loggers = [logging.getLogger(name) for name in ("realtime", "training", "export")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(old)


def _line(text: str, stream: TextIO) -> None:
    # A terminal that was closed takes no words; what is being swapped is finished all the same.
    with contextlib.suppress(OSError):
        stream.write(f"{plain_lines(text)}\n")
        stream.flush()
