"""Searches parts of films with several processes. Tasks in, their results in the store out.

Every process takes the next task as soon as it is done with one, and keeps what it found itself; only names and counts
go back. When one fails, or the extraction is stopped, all processes end at once: a part that was not finished is not
kept, and the others are.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from realtime.errors import LiveswapError
from training.extract_config import ExtractConfig
from training.film import Film, Part
from training.part_store import PartStore
from training.search import Searcher

_TELL_EVERY_S = 0.25
_END_S = 5.0


@dataclass(frozen=True, slots=True)
class Task:
    """A part of a film, and the name of what it gives."""

    key: str
    film: Film
    part: Part


@dataclass(frozen=True, slots=True)
class _Seen:
    """Frames of a film that were read since the last time, with the usable faces in them."""

    film: str
    frames: int
    faces: int


@dataclass(frozen=True, slots=True)
class _Ready:
    """Waiting for a task."""


def search_in_processes(
    tasks: Sequence[Task],
    config: ExtractConfig,
    store: PartStore,
    jobs: int,
    on_seen: Callable[[str, int, int], None],
) -> None:
    """Search all `tasks` with `jobs` processes; `on_seen` hears of frames: name of the film, frames, usable faces.

    Raises the first error of any of them, and LiveswapError when the system has ended one.
    """
    waiting = deque(tasks)
    workers = _start(config, store, jobs)
    try:
        while workers:
            for connection in wait(list(workers)):
                assert isinstance(connection, Connection)
                message = _receive(connection)
                if isinstance(message, _Seen):
                    on_seen(message.film, message.frames, message.faces)
                elif isinstance(message, _Ready) and waiting:
                    connection.send(waiting.popleft())
                elif isinstance(message, _Ready):
                    connection.send(None)
                    workers.pop(connection).join(_END_S)
                else:
                    raise message
    finally:
        _end(workers)


def _start(config: ExtractConfig, store: PartStore, jobs: int) -> dict[Connection, BaseProcess]:
    # A fork would copy the locks of libraries that have threads.
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, BaseProcess] = {}
    try:
        for number in range(jobs):
            here, there = context.Pipe()
            name = f"extract-{number}"
            process = context.Process(target=_work, args=(there, config, store.folder), name=name, daemon=True)
            with _ctrl_c_ignored():  # and inherited: a process that is still importing would tell of it at length
                process.start()
            there.close()
            workers[here] = process
    except BaseException:
        _end(workers)
        raise
    return workers


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(workers: dict[Connection, BaseProcess]) -> None:
    for process in workers.values():
        process.terminate()
    for connection, process in workers.items():
        process.join(_END_S)
        connection.close()


def _receive(connection: Connection) -> _Seen | _Ready | Exception:
    try:
        message = connection.recv()
    except (EOFError, OSError):
        return LiveswapError("the system has ended a process of the search, usually for want of memory; try --jobs 1")
    return message if isinstance(message, (_Seen, _Ready)) else _error(message)


def _error(message: object) -> Exception:
    return message if isinstance(message, LiveswapError) else RuntimeError(f"a process of the search failed: {message}")


def _work(connection: Connection, config: ExtractConfig, folder: Path) -> None:
    """What a process does: tasks in, until there is none."""
    # Ctrl-C reaches every process of a terminal; the one that started the others ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import cv2

    cv2.setNumThreads(1)
    store = PartStore(folder)
    with suppress(BrokenPipeError, EOFError):  # whoever started us has gone
        try:
            with Searcher(config) as searcher:
                connection.send(_Ready())
                while task := connection.recv():
                    _search(searcher, task, store, connection)
                    connection.send(_Ready())
        except (BrokenPipeError, EOFError):
            raise
        except LiveswapError as error:
            connection.send(error)
        except Exception:
            connection.send(traceback.format_exc(limit=-3))
    sys.stderr.flush()


def _search(searcher: Searcher, task: Task, store: PartStore, connection: Connection) -> None:
    frames = faces = 0
    told_faces = 0
    told_s = time.monotonic()

    def tell() -> None:
        nonlocal frames, told_faces, told_s
        connection.send(_Seen(task.film.name, frames, faces - told_faces))
        frames, told_faces, told_s = 0, faces, time.monotonic()

    def on_frame(so_far: int) -> None:
        nonlocal frames, faces
        frames, faces = frames + 1, so_far
        if time.monotonic() - told_s > _TELL_EVERY_S:
            tell()

    store.save(task.key, searcher.search(task.film, task.part, on_frame))
    tell()
