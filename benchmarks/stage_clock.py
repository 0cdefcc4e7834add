"""Times the stages of an extraction. A block of code in, processor seconds by stage out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from realtime.detect import FaceFinder
from realtime.face_mesh import FaceMesh
from training import extract as extraction
from training import film as film_parts
from training import search
from training.dlib_detector import DlibFinder
from training.looks import CutFinder
from training.part_store import PartStore

T = TypeVar("T")
STAGES = "decode", "detect", "mesh", "align", "measure", "write", "join", "rest"


class CpuClock:
    """Processor time of the process by stage, seconds; what a stage calls counts for the inner one alone."""

    def __init__(self) -> None:
        self.spent_s = dict.fromkeys(STAGES, 0.0)
        self._inner_s = [0.0]

    def wrap(self, stage: str, work: Callable[..., T]) -> Callable[..., T]:
        """`work`, which notes what it took."""

        def timed(*args: Any, **flags: Any) -> T:
            began_s = time.process_time()
            self._inner_s.append(0.0)
            try:
                return work(*args, **flags)
            finally:
                took_s = time.process_time() - began_s
                self.spent_s[stage] += took_s - self._inner_s.pop()
                self._inner_s[-1] += took_s

        return timed

    def wrap_iterator(self, stage: str, work: Callable[..., Iterator[T]]) -> Callable[..., Iterator[T]]:
        """The same for what yields."""

        def timed(*args: Any) -> Iterator[T]:
            items = iter(work(*args))
            step = self.wrap(stage, lambda: next(items, None))
            while (item := step()) is not None:
                yield item

        return timed


@contextmanager
def timed_stages(clock: CpuClock) -> Iterator[None]:
    """While the block runs, the stages of a search in this process are timed."""
    stages: list[tuple[object, str, str]] = [
        (FaceMesh, "fit", "mesh"),
        (FaceFinder, "find", "detect"),
        (DlibFinder, "find", "detect"),
        (search, "cut_face", "align"),
        (search, "encode_crop", "write"),
        (PartStore, "save", "write"),
        (extraction, "_write", "write"),
        (extraction, "_gather", "join"),
        (CutFinder, "is_cut", "measure"),
        *((search, name, "measure") for name in ("measure", "sharpness", "small_picture", "embed", "head_pose")),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in stages]
    before.append((search, "read_part", film_parts.read_part))
    try:
        for (owner, name, work), (_, _, stage) in zip(before, stages, strict=False):
            setattr(owner, name, clock.wrap(stage, work))
        setattr(search, "read_part", clock.wrap_iterator("decode", film_parts.read_part))  # noqa: B010
        yield
    finally:
        for owner, name, work in before:
            setattr(owner, name, work)
