"""Makes new facesets of old ones. Open facesets and a wish in, new ones out; what was there is never changed.

Crops are copied to the bit, with everything that is known of them. Sources that give no face any more are left out.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realtime.errors import FacesetError, UsageError
from realtime.files import explain, publish_folder
from training.faceset import Faceset
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter, check_target
from training.untrusted import largest_jpeg, read_plain_file

Tell = Callable[[int], None]
"""Is told how many faces were looked at or copied."""


@dataclass(frozen=True, slots=True)
class Pick:
    """One face of a new set."""

    faceset: Faceset
    index: int
    track: int
    person: int


def pick(faceset: Faceset, indices: Iterable[int]) -> list[Pick]:
    """These faces as they are."""
    records = faceset.records
    return [Pick(faceset, int(i), records[i].track, records[i].person) for i in indices]


def write_picks(picks: Sequence[Pick], out: Path, tell: Tell | None = None) -> str:
    """Write the new faceset `out` of these faces, in this order; the sha256 of the set.

    All come from sets of one geometry. Raises UsageError when `out` is taken, FacesetError when a file of an old set
    has changed or nothing can be written.
    """
    if not picks:
        check_target(out)
        raise FacesetError(f"{out} would hold no face; ask for less")
    first = picks[0].faceset
    sources = _sources(picks)
    numbers = {source: i for i, source in enumerate(sources)}
    with FacesetWriter(out, first.geometry, first.margin, kind=first.kind) as writer:
        for source in sources:
            writer.add_source(source)
        for i, each in enumerate(picks):
            if tell:
                tell(i)
            record = each.faceset.records[each.index]
            values = {name: getattr(record, name) for name in _COPIED}
            number = numbers[each.faceset.sources[record.source]]
            mesh = np.asarray(each.faceset.landmarks[each.index])
            writer.add(_bytes(each), mesh, source=number, track=each.track, person=each.person, **values)
        return writer.close()


_COPIED = tuple(["frame_index", "pts_s", "score", "sharpness", "native_px", "yaw", "pitch", "roll", "measures"])


def _bytes(each: Pick) -> bytes:
    record, side = each.faceset.records[each.index], each.faceset.stored_size
    path = each.faceset.path / record.file
    data = read_plain_file(path, largest_jpeg(side))
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise FacesetError(f"{path} changed while it was copied; try again")
    return data


def _sources(picks: Sequence[Pick]) -> list[SourceRecord]:
    """The sources of these faces, each once, in the order of their sets."""
    sets = list(dict.fromkeys(id(each.faceset) for each in picks))
    used = {(id(each.faceset), each.faceset.records[each.index].source) for each in picks}
    by_id = {id(each.faceset): each.faceset for each in picks}
    listed = [by_id[which].sources[i] for which in sets for i in range(len(by_id[which].sources)) if (which, i) in used]
    return list(dict.fromkeys(listed))


def merge(facesets: Sequence[Faceset], *, different_people: bool = False) -> tuple[list[Pick], int]:
    """All faces of several sets, one set after the other, and how many were left out because they come twice.

    Tracks stay apart. Person 0 of every set is taken for one person, unless they are `different_people`; everybody
    else gets a number of their own. Raises UsageError when the sets do not show the same part of a head.
    """
    first = facesets[0]
    for other in facesets[1:]:
        if (other.geometry, other.margin, other.kind) != (first.geometry, first.margin, first.kind):
            raise UsageError(
                f"{first.path} and {other.path} show different parts of a head ({_shape(first)}, {_shape(other)}); "
                "extract or import one of them again with the same --size and --coverage-kind"
            )
    picks: list[Pick] = []
    seen: set[tuple[str, int, str]] = set()
    next_track = next_person = 0
    for number, faceset in enumerate(facesets):
        tracks = {track: next_track + i for i, track in enumerate(sorted({each.track for each in faceset.records}))}
        shared = number > 0 and not different_people
        others = sorted({each.person for each in faceset.records} - ({0} if shared else set()))
        people = ({0: 0} if shared else {}) | {person: next_person + i for i, person in enumerate(others)}
        for i, record in enumerate(faceset.records):
            key = faceset.sources[record.source].sha256, record.frame_index, record.sha256
            if key not in seen:
                seen.add(key)
                picks.append(Pick(faceset, i, tracks[record.track], people[record.person]))
        next_track += len(tracks)
        next_person = max(next_person, *(number + 1 for number in people.values()))
    return picks, sum(map(len, facesets)) - len(picks)


def _shape(faceset: Faceset) -> str:
    return f"{faceset.kind} {faceset.geometry.size} px, margin {faceset.margin:g}"


def split_by(faceset: Faceset, what: str) -> dict[str, list[int]]:
    """The faces of each `source`, `person` or `track`, by the name of the new set."""
    numbers = [int(getattr(record, what)) for record in faceset.records]
    # Names out of the set itself would be paths that a stranger chooses.
    first = 0 if what == "person" else 1
    names = {number: f"{what}-{i + first}" for i, number in enumerate(sorted(set(numbers)))}
    return {name: [i for i, each in enumerate(numbers) if each == number] for number, name in names.items()}


def split_by_time(faceset: Faceset, share: float) -> dict[str, list[int]]:
    """The first `share` of the faces of every source and the rest. Raises UsageError unless 0 < share < 1."""
    if not 0 < share < 1:
        raise UsageError(f"--share is a part of the faces between 0 and 1, not {share:g}; give for example 0.9")
    early: set[int] = set()
    for number in range(len(faceset.sources)):
        mine = [i for i, record in enumerate(faceset.records) if record.source == number]
        mine.sort(key=lambda i: (faceset.records[i].pts_s, i))
        early |= set(mine[: round(share * len(mine))])
    return {
        "early": [i for i in range(len(faceset)) if i in early],
        "late": [i for i in range(len(faceset)) if i not in early],
    }


def split_by_count(faceset: Faceset, count: int, seed: int) -> dict[str, list[int]]:
    """`count` faces that the `seed` draws, and the rest, both in their old order. Raises UsageError for too many."""
    if not 0 < count < len(faceset):
        raise UsageError(f"{faceset.path} has {len(faceset)} faces; give --count a smaller number, above 0")
    drawn = set(np.random.default_rng(seed).permutation(len(faceset))[:count].tolist())
    everything = range(len(faceset))
    return {"picked": [i for i in everything if i in drawn], "rest": [i for i in everything if i not in drawn]}


def write_parts(faceset: Faceset, parts: dict[str, list[int]], out: Path, tell: Tell | None = None) -> dict[str, str]:
    """Write every part as a set of its own into the new folder `out`, all or none; the sha256 of each by its name."""
    final, _ = check_target(out)
    filled = {name: indices for name, indices in parts.items() if indices}
    unfinished = final.with_name(f".{final.name[:80]}.{secrets.token_hex(4)}.part")
    hashes, done = {}, 0
    try:
        for name, indices in filled.items():
            start = done
            count = (lambda i, start=start: tell(start + i)) if tell else None
            hashes[name] = write_picks(pick(faceset, indices), unfinished / name, count)
            done += len(indices)
        publish_folder(unfinished, final)
    except OSError as error:
        raise FacesetError(explain(error, out)) from error
    finally:
        if os.path.lexists(unfinished):  # ours alone: nobody else can know its name
            shutil.rmtree(unfinished, ignore_errors=True)
    return hashes


def sort_by(faceset: Faceset, figure: NDArray[np.float64], *, descending: bool = False) -> list[int]:
    """All faces in the order of a figure, (N,); equal ones keep their order."""
    order = np.argsort(-figure if descending else figure, kind="stable")
    return [int(i) for i in order]
