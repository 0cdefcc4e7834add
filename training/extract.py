"""Takes faces out of videos and folders of pictures. Clips in, one faceset out.

Films are searched part by part (training.search), by one process or by several (training.extract_parallel); what
the parts have given is kept on the disk (training.part_store), joined (training.gather) and written as one set.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from realtime.errors import FacesetError, UsageError
from training.extract_config import ExtractConfig, ExtractProgress, ExtractReport, SourceReport
from training.extract_parallel import Task, search_in_processes
from training.faceset_index import SourceRecord
from training.faceset_writer import MARGIN, FacesetWriter, check_target
from training.film import Clip, Film, open_film
from training.gather import Gatherer
from training.identity import Reference
from training.part_store import PartStore, key_of
from training.search import Finder, Search, Searcher

__all__ = ["Clip", "ExtractConfig", "ExtractProgress", "ExtractReport", "Finder", "SourceReport", "extract"]

_log = logging.getLogger(__name__)


def extract(
    inputs: Sequence[Path | Clip],
    out: Path,
    config: ExtractConfig | None = None,
    on_progress: Callable[[ExtractProgress], None] | None = None,
    *,
    person: Sequence[Path] = (),
    jobs: int = 1,
    resume: bool = False,
    open_finder: Callable[[], Finder] | None = None,
) -> ExtractReport:
    """Find, cut and store the faces of all `inputs`, videos and folders of pictures, in the new faceset `out`.

    `person`: pictures of the one person to take, see training.identity; `jobs`: processes that search; `resume`: go
    on where an extraction with the same inputs and settings was interrupted. The same inputs and settings give the
    same bytes for every number of jobs and of interruptions. Nothing appears under the name `out` before all is done;
    what was searched until an error or an interruption stays in OUT.unfinished.

    Raises UsageError when `out` is taken or there is nothing to read, SourceError when a film cannot be read to its
    end, FacesetError when no film shows a usable face or the set cannot be written.
    """
    config = config or ExtractConfig()
    if jobs < 1 or (open_finder and jobs > 1):
        raise ValueError(f"expected jobs >= 1, and 1 with a finder of one's own, got {jobs}")
    check_target(out)
    if not inputs:
        raise UsageError("there is no video to take faces from; name at least one")
    began_s = time.monotonic()
    store = PartStore.beside(out)
    store.check()
    if len(store) and not resume:
        raise UsageError(
            f"{store.folder} holds {len(store)} finished parts of an earlier extraction; "
            "go on with --resume, or remove that folder to begin anew"
        )
    clips = [each if isinstance(each, Clip) else Clip(each) for each in inputs]
    reference = Reference.of_pictures(person) if person else None
    films = [open_film(clip, config.rate) for clip in clips]
    with _kept_on_failure(store):
        plan = _Plan(films, config, store, on_progress)
        plan.search(jobs, open_finder)
        return _write(plan, out, reference, began_s)


@contextmanager
def _kept_on_failure(store: PartStore) -> Iterator[None]:
    """Remove what is no longer needed; after an error or an interruption keep what was done, and say so."""
    try:
        yield
    except _NoFaceError:
        store.clear()
        raise
    except BaseException:
        if len(store):
            _log.warning("%d finished parts are kept in %s; go on with --resume", len(store), store.folder)
        else:
            store.clear()
        raise
    store.clear()


class _NoFaceError(FacesetError):
    """Everything was searched, and there is nothing to keep."""


@dataclass(frozen=True, slots=True)
class _Unit:
    number: int
    """Of the film."""
    film: Film
    task: Task


class _Plan:
    """All parts of all films, and how far they are searched."""

    def __init__(
        self,
        films: Sequence[Film],
        config: ExtractConfig,
        store: PartStore,
        on_progress: Callable[[ExtractProgress], None] | None,
    ) -> None:
        self.films, self.config, self.store, self._on_progress = films, config, store, on_progress
        self.units = [
            _Unit(number, film, Task(key_of(film, part, config), film, part))
            for number, film in enumerate(films)
            for part in film.parts
        ]
        known = [film.frames for film in films if film.frames is not None]
        self._total = sum(known) if len(known) == len(films) else None
        self._frames = self._faces = self._before = self.resumed = 0

    def search(self, jobs: int, open_finder: Callable[[], Finder] | None) -> None:
        """Search every part that is not in the store."""
        # The same stretch of the same film may be asked for twice: it is searched once.
        missing: dict[str, Task] = {}
        for unit in self.units:
            part = self._known(unit.task.key)
            if part is None:
                missing[unit.task.key] = unit.task
                continue
            self.resumed += 1
            self._before += part.frames
            self._frames += part.frames
            self._faces += len(part.faces)
        tasks = list(missing.values())
        if min(jobs, len(tasks)) > 1:
            search_in_processes(tasks, self.config, self.store, min(jobs, len(tasks)), self._seen)
        elif tasks:
            self._search_here(tasks, open_finder)

    def _known(self, key: str) -> Search | None:
        """What an earlier extraction has found in a part."""
        if not self.store.holds(key):
            return None
        try:
            return self.store.load(key, faces=False)
        except FacesetError as error:
            _log.warning("a part is searched again: %s", error)
            return None

    def _search_here(self, tasks: Sequence[Task], open_finder: Callable[[], Finder] | None) -> None:
        with Searcher(self.config, open_finder) as searcher:
            for task in tasks:
                before = 0

                def on_frame(faces: int, name: str = task.film.name) -> None:
                    nonlocal before
                    self._seen(name, 1, faces - before)
                    before = faces

                self.store.save(task.key, searcher.search(task.film, task.part, on_frame))

    def _seen(self, name: str, frames: int, faces: int) -> None:
        """Count frames of a film that were read, with the usable faces in them."""
        self._frames += frames
        self._faces += faces
        if self._on_progress:
            self._on_progress(ExtractProgress(name, self._frames, self._total, self._faces, self._before))


def _write(plan: _Plan, out: Path, reference: Reference | None, began_s: float) -> ExtractReport:
    """Join the parts and write the set."""
    config = plan.config
    gatherer, persons = _gather(plan, reference)
    names = ", ".join(str(film.clip.path) for film in plan.films)
    if not sum(now.faces for now in gatherer.films):
        others = sum(now.left_out["another person"] for now in gatherer.films)
        why = "shows the person of --person" if others else "shows the person larger, facing the camera"
        raise _NoFaceError(f"no usable face in {names}; use a video that {why}")
    counts: Counter[int] = Counter()
    with FacesetWriter(out, config.geometry, kind=config.coverage_kind) as writer:
        for film, now in zip(plan.films, gatherer.films, strict=True):
            if not now.faces:
                reason = f"found in {now.with_face} of {now.searched} frames, taken from none"
                _log.warning("%s gives no face: %s", film.clip.path, reason)
            writer.add_source(SourceRecord(film.name, film.sha256, round(film.fps, 6), now.frames))
        for unit, places in zip(plan.units, gatherer.places, strict=True):
            for face, place in zip(plan.store.load(unit.task.key).faces, places, strict=True):
                if not place.kept or place.track not in persons:
                    continue
                person = persons[place.track]
                counts[person] += 1
                writer.add(
                    face.jpeg,
                    face.mesh,
                    source=unit.number,
                    frame_index=place.frame_index,
                    pts_s=face.pts_s,
                    track=place.track,
                    score=face.score,
                    sharpness=face.sharpness,
                    native_px=face.native_px,
                    yaw=face.yaw,
                    pitch=face.pitch,
                    roll=face.roll,
                    person=person,
                    measures=face.measures,
                )
        sha256 = writer.close()
    reports = tuple(
        SourceReport(
            film.name, now.frames, now.searched, now.with_face, now.faces, dict(sorted(now.left_out.items())), now.cuts
        )
        for film, now in zip(plan.films, gatherer.films, strict=True)
    )
    seconds = round(time.monotonic() - began_s, 3)
    frames, faces = sum(each.frames_searched for each in reports), sum(each.faces for each in reports)
    _log.info("%d faces from %d frames in %.1f s: %s", faces, frames, seconds, out)
    people = dict(sorted(counts.items()))
    return ExtractReport(str(out), sha256, frames, faces, people, seconds, plan.resumed, reports)


def _gather(plan: _Plan, reference: Reference | None) -> tuple[Gatherer, dict[int, int]]:
    """What becomes of each face, and track -> person of those that are stored."""
    config = plan.config
    side = config.geometry.widened(MARGIN).size
    gatherer = Gatherer(duplicates=config.keep_duplicates, side=side)
    for unit in plan.units:
        if unit.number == len(gatherer.films):
            gatherer.begin()
        gatherer.add(unit.film, plan.store.load(unit.task.key, faces=False))
    persons = gatherer.choose(reference.shows if reference else None, main_only=config.main_person)
    return gatherer, persons
