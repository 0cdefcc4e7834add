"""Lists what there is to import. A folder or a pack in; its files, in the order of their sources and frames, out.

Note [Imported sources]
    A file names the frame that it was cut from: `clip_000123.png` is frame 123 of the source clip, `00123.png` is frame
    123 of a source that gets the name of the folder. Files that name no frame follow each other in their own order. The
    checksum of a source is that of the checksums of its files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from realtime.errors import FacesetError, UsageError
from realtime.files import explain
from realtime.images import natural_order
from training.dfl_jpeg import dfl_facts
from training.dfl_pak import list_pak
from training.faceset_index import INDEX, MAX_FACES, MAX_SOURCES, SourceRecord
from training.foreign import MAX_FILE_BYTES, Facts, ForeignFile, SourcePlace
from training.import_faceswap import Alignments, faceswap_facts, read_alignments
from training.picture_bytes import PNG
from training.untrusted import read_plain_file

ENDINGS = (".jpg", ".jpeg", ".png")
PACK = "faceset.pak"
ALIGNMENTS = ("alignments.json", "alignments.fsa")


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file whose facts could be read."""

    file: ForeignFile
    source: int
    """Index of its source."""
    frame: int
    face: int
    """Number of the face in the frame."""


def list_files(source: Path) -> list[ForeignFile]:
    """The pictures in a folder, in natural order, or in a pack. Raises UsageError or FacesetError for anything else."""
    try:
        if source.is_file():
            if source.suffix.lower() != ".pak":
                raise UsageError(f"{source} is no folder and no .pak; give a folder of face crops, or a {PACK}")
            return list_pak(source)
        names = sorted((path.name for path in source.iterdir()), key=natural_order)
    except OSError as error:
        raise UsageError(explain(error, source)) from error
    except ValueError as error:
        raise UsageError(f"{str(source)!r} is no file name; check it") from error
    if INDEX in names:
        raise UsageError(f"{source} is a faceset already; use it as it is")
    pictures = [name for name in names if Path(name).suffix.lower() in ENDINGS]
    if not pictures and PACK in names:
        return list_pak(source / PACK)
    if not pictures:
        raise UsageError(f"{source} holds no JPG and no PNG; give a folder of face crops, or a {PACK}")
    if len(pictures) > MAX_FACES:
        raise UsageError(f"{source} holds {len(pictures)} pictures, at most {MAX_FACES} are read; split it")
    return [ForeignFile(_printable(name), _FileReader(source / name, _printable(name))) for name in pictures]


def find_alignments(source: Path, given: Path | None) -> Alignments | None:
    """What the file of alignments says: the given one, or one beside the pictures. Raises FacesetError."""
    if given:
        return read_alignments(given)
    found = [source / name for name in ALIGNMENTS if (source / name).exists()] if source.is_dir() else []
    return read_alignments(found[0]) if found else None


def read_facts(data: bytes, name: str, alignments: Alignments | None) -> Facts:
    """The facts in a JPG of DeepFaceLab's or a PNG of faceswap's. Raises FacesetError."""
    return faceswap_facts(data, name, alignments) if data.startswith(PNG) else dfl_facts(data, name)


def look_through(
    files: Sequence[ForeignFile],
    alignments: Alignments | None,
    source: Path,
    fps: float,
    refuse: Callable[[str], None],
    tell: Callable[[int], None],
) -> tuple[list[KnownFile], list[SourceRecord]]:
    """The files whose facts can be read, in order, and their sources, see Note [Imported sources].

    `refuse` is told why a file cannot be used, `tell` how many were looked at.
    """
    found: list[tuple[ForeignFile, SourcePlace, bytes]] = []
    for i, file in enumerate(files):
        tell(i)
        try:
            data = file.read()
            place = read_facts(data, file.name, alignments).place
        except FacesetError as error:
            refuse(str(error))
        else:
            found.append((file, place, hashlib.sha256(data).digest()))
    groups: dict[tuple[str, bool], list[tuple[ForeignFile, SourcePlace, bytes]]] = {}
    for each in found:
        groups.setdefault((each[1].source, each[1].frame is None), []).append(each)
    if len(groups) > MAX_SOURCES:
        raise FacesetError(f"{source} names {len(groups)} videos, at most {MAX_SOURCES} are kept apart; split it")
    known: list[KnownFile] = []
    records: list[SourceRecord] = []
    for (name, _), members in sorted(groups.items()):
        numbered = [(i if place.frame is None else place.frame, place.face) for i, (_, place, _) in enumerate(members)]
        order = sorted(range(len(members)), key=lambda i: numbered[i])
        known += [KnownFile(members[i][0], len(records), *numbered[i]) for i in order]
        digest = hashlib.sha256(b"".join(members[i][2] for i in order)).hexdigest()
        frames = max(frame for frame, _ in numbered) + 1
        records.append(SourceRecord((name or _printable(source.resolve().name))[:255], digest, fps, frames))
    return known, records


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name)


@dataclass(frozen=True, slots=True)
class _FileReader:
    """Reads one file when it is called."""

    path: Path
    name: str

    def __call__(self) -> bytes:
        return read_plain_file(self.path, MAX_FILE_BYTES, self.name, "leave it out")
