"""Imports the faces of other programs. A folder of DeepFaceLab's or faceswap's crops, or a pack, in; a faceset out.

Files that cannot be used are left out and reported, see Note [What a foreign crop becomes].
"""

from __future__ import annotations

import logging
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from realtime.align import CropGeometry, full_face, whole_face
from realtime.errors import FacesetError
from realtime.frame import ImageU8
from training.contact_sheet import pick_evenly
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter, check_target
from training.foreign import Facts, ForeignFile
from training.foreign_list import KnownFile, find_alignments, list_files, look_through, read_facts
from training.identity import embed
from training.import_config import ImportConfig, ImportProgress, ImportReport
from training.import_tracks import People, Tracks
from training.looks import sharpness
from training.measures import Measures, measure
from training.picture_bytes import PNG, decode_any_jpeg, decode_any_png
from training.realign import INSIDE, Found, MeshSeeker, Realigned, inside, realign

__all__ = ["ImportConfig", "ImportProgress", "ImportReport", "Seeker", "import_faces"]

_log = logging.getLogger(__name__)

_TRIED = 9
"""So many pictures are looked at to see how much they show."""
_MOST_SENTENCES = 20


class Seeker(Protocol):
    """What importing needs of a MeshSeeker."""

    def find(self, image: ImageU8, facts: Facts) -> Found | str: ...


def import_faces(
    source: Path,
    out: Path,
    config: ImportConfig | None = None,
    on_progress: Callable[[ImportProgress], None] | None = None,
    *,
    open_seeker: Callable[[], AbstractContextManager[Seeker]] = MeshSeeker,
) -> ImportReport:
    """Store the faces of `source` in the new faceset `out`; the same files and settings give the same bytes.

    Raises UsageError when `out` is taken or `source` is nothing to import, FacesetError when no file gives a face or
    the set cannot be written.
    """
    config, started_s = config or ImportConfig(), time.monotonic()
    check_target(out)
    files = list_files(source)
    with open_seeker() as seeker:
        job = _Import(source, config, seeker, on_progress or (lambda now: None))
        known, sources = job.look_through(files)
        kind = job.choose_kind(known) if config.coverage_kind == "auto" else config.coverage_kind
        geometry = whole_face(config.size) if kind == "whole" else full_face(config.size)
        with FacesetWriter(out, geometry, kind=kind) as writer:
            for record in sources:
                writer.add_source(record)
            job.store(known, sources, writer)
            job.need(len(writer))
            writer.name_people(job.people.persons())
            sha256 = writer.close()
    report = job.report(out, sha256, kind, len(files), sources, round(time.monotonic() - started_s, 3))
    _log.info("%d faces from %d files in %.1f s: %s", report.faces, report.files, report.seconds, out)
    return report


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """A face that is ready to be written."""

    face: Realigned
    sharpness: float
    measures: Measures
    identity: NDArray[np.float32]
    """(24,), see training.identity."""


class _Import:
    """One import: first the facts of every file, then, frame by frame, the faces."""

    def __init__(
        self, source: Path, config: ImportConfig, seeker: Seeker, tell: Callable[[ImportProgress], None]
    ) -> None:
        self._source, self._config, self._seeker, self._tell = source, config, seeker, tell
        self._alignments = find_alignments(source, config.alignments)
        self._refused: Counter[str] = Counter()
        self._sentences: list[str] = []
        self._counts: Counter[str] = Counter()
        self._by_source: Counter[int] = Counter()
        self._made_up: list[float] = []
        self.people = People()

    def look_through(self, files: Sequence[ForeignFile]) -> tuple[list[KnownFile], list[SourceRecord]]:
        """What there is to import, and from which sources."""

        def refuse(why: str) -> None:
            self._refuse("unreadable", why)

        def tell(done: int) -> None:
            self._tell(ImportProgress("look through", done, len(files), 0))

        known, sources = look_through(files, self._alignments, self._source, self._config.fps, refuse, tell)
        self.need(len(known))
        return known, sources

    def choose_kind(self, known: Sequence[KnownFile]) -> str:
        """`whole` if the pictures show most of it, else `full`."""
        shown = []
        for i in pick_evenly(len(known), _TRIED):
            try:
                image, facts = self._read(known[i].file)
            except FacesetError:
                continue
            found = self._seeker.find(image, facts)
            if isinstance(found, Found):
                shown.append(inside(image, found.mesh, whole_face(self._config.size)))
        return "full" if shown and statistics.median(shown) < INSIDE else "whole"

    def store(self, known: Sequence[KnownFile], sources: Sequence[SourceRecord], writer: FacesetWriter) -> None:
        """Cut and write the face of every file that shows a usable one."""
        tracks = Tracks(self._config.fps)
        for i, each in enumerate(known):
            self._tell(ImportProgress("import", i, len(known), len(writer)))
            try:
                image, facts = self._read(each.file)
            except FacesetError as error:
                self._refuse("unreadable", str(error))
                continue
            made = self._make(image, facts, writer.geometry, writer.margin)
            if isinstance(made, str):
                self._refuse(made, f"{each.file.name} is left out: {made}")
            else:
                self._write(made, facts, each, tracks, writer)

    def need(self, count: int) -> None:
        """Raise FacesetError when there is none left."""
        if not count:
            first = self._sentences[0] if self._sentences else "it is empty"
            files = sum(self._refused.values())
            left_out = "1 file was left out" if files == 1 else f"{files} files were left out, the first"
            raise FacesetError(f"no usable face in {self._source}, {left_out}: {first}")

    def report(
        self, out: Path, sha256: str, kind: str, files: int, sources: Sequence[SourceRecord], seconds: float
    ) -> ImportReport:
        """What became of the files."""
        names: Counter[str] = Counter()
        for i, record in enumerate(sources):
            names[record.name] += self._by_source[i]
        return ImportReport(
            faceset=str(out),
            sha256=sha256,
            coverage_kind=kind,
            files=files,
            faces=len(self._made_up),
            refused=dict(sorted(self._refused.items())),
            sentences=tuple(self._sentences),
            without_metadata=self._counts["without metadata"],
            masks_left_out=self._counts["masked"],
            made_up=round(statistics.fmean(self._made_up), 4),
            sources=dict(names),
            persons=self.people.counts(),
            seconds=seconds,
        )

    def _read(self, file: ForeignFile) -> tuple[ImageU8, Facts]:
        data = file.read()
        decode = decode_any_png if data.startswith(PNG) else decode_any_jpeg
        return decode(data, file.name), read_facts(data, file.name, self._alignments)

    def _make(self, image: ImageU8, facts: Facts, geometry: CropGeometry, margin: float) -> _Measured | str:
        """The face as our sets hold it, or why it is left out."""
        found = self._seeker.find(image, facts)
        if isinstance(found, str):
            return found
        stored = geometry.widened(margin)
        try:
            face = realign(image, facts, found, geometry, margin)
            measures = measure(face.crop.image, face.mesh, stored)
            identity = embed(face.crop.image, face.mesh)
        except ValueError:
            return "implausible"
        if face.native_px < self._config.min_native_px:
            return "too small"
        return _Measured(face, sharpness(face.crop, stored, face.mesh), measures, identity)

    def _write(self, made: _Measured, facts: Facts, each: KnownFile, tracks: Tracks, writer: FacesetWriter) -> None:
        face, pts_s = made.face, each.frame / self._config.fps
        track = tracks.number(each, face.box, made.identity)
        self.people.add(track, pts_s, made.identity)
        writer.add(
            face.crop.image,
            face.mesh,
            source=each.source,
            frame_index=each.frame,
            pts_s=pts_s,
            track=track,
            score=face.score,
            sharpness=made.sharpness,
            native_px=face.native_px,
            yaw=face.pose.yaw,
            pitch=face.pose.pitch,
            roll=face.pose.roll,
            measures=made.measures,
        )
        self._made_up.append(face.made_up)
        self._by_source[each.source] += 1
        self._counts["without metadata"] += not facts.metadata
        self._counts["masked"] += facts.masked

    def _refuse(self, reason: str, sentence: str) -> None:
        self._refused[reason] += 1
        if len(self._sentences) < _MOST_SENTENCES:
            self._sentences.append(sentence)
