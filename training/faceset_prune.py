"""Leaves faces out of a set. An open faceset and rules in, the faces that stay and why the others go out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from realtime.errors import UsageError
from training.faceset import Faceset
from training.faceset_figures import measures_of
from training.faceset_index import FaceRecord
from training.near_duplicates import TrackMemory, small_picture

Tell = Callable[[int], None]
"""Is told how many faces were looked at."""
POSE_CELL_DEG = 6.0
"""Faces whose yaw and pitch lie in one such cell count as one pose when poses are spread."""


@dataclass(frozen=True, slots=True)
class PruneRules:
    """Which faces stay; None: all of them."""

    min_sharpness: float | None = None
    min_native_px: float | None = None
    yaw: tuple[float, float] | None = None
    pitch: tuple[float, float] | None = None
    """Degrees, from and to."""
    person: int | None = None
    max_covered: float | None = None
    """Share of the face, [0, 1]."""
    duplicates: bool = False
    """Whether near duplicates go, see Note [Near duplicates]."""
    count: int | None = None
    """So many faces stay, spread over all poses; of equal poses the sharpest."""

    def __post_init__(self) -> None:
        """Raises UsageError for rules that contradict themselves, and when there is none."""
        for name, limits in (("--yaw", self.yaw), ("--pitch", self.pitch)):
            if limits and limits[0] >= limits[1]:
                raise UsageError(f"{name} goes from {limits[0]:g} to {limits[1]:g}; give the smaller number first")
        if all(each in (None, False) for each in astuple(self)):
            raise UsageError("nothing says which faces to leave out; give for example --min-sharpness 4")


def prune(faceset: Faceset, rules: PruneRules, tell: Tell | None = None) -> tuple[list[int], dict[str, int]]:
    """The faces that stay, in their old order, and how many each rule has left out."""
    left_out: Counter[str] = Counter()
    kept: list[int] = []
    covered = measures_of(faceset, tell) if rules.max_covered is not None else None
    for i, record in enumerate(faceset.records):
        reason = _why_not(record, rules)
        if not reason and covered is not None and covered[i].covered > (rules.max_covered or 0):
            reason = "covered"
        if reason:
            left_out[reason] += 1
        else:
            kept.append(i)
    if rules.duplicates:
        unique = _unique(faceset, kept, tell)
        left_out["near duplicate"] += len(kept) - len(unique)
        kept = unique
    if rules.count is not None and rules.count < len(kept):
        left_out["more than asked for"] += len(kept) - rules.count
        kept = spread(faceset, kept, rules.count)
    return kept, {reason: count for reason, count in left_out.items() if count}


def _why_not(record: FaceRecord, rules: PruneRules) -> str:
    if rules.min_sharpness is not None and record.sharpness < rules.min_sharpness:
        return "not sharp"
    if rules.min_native_px is not None and record.native_px < rules.min_native_px:
        return "too small"
    if rules.yaw and not rules.yaw[0] <= record.yaw <= rules.yaw[1]:
        return "yaw"
    if rules.pitch and not rules.pitch[0] <= record.pitch <= rules.pitch[1]:
        return "pitch"
    return "another person" if rules.person is not None and record.person != rules.person else ""


def _unique(faceset: Faceset, indices: Sequence[int], tell: Tell | None) -> list[int]:
    """Those that show something new in their track, in the old order."""
    records, memories, kept = faceset.records, dict[int, TrackMemory](), []
    for done, i in enumerate(sorted(indices, key=lambda i: (records[i].source, records[i].pts_s, i))):
        if tell:
            tell(done)
        memory = memories.setdefault(records[i].track, TrackMemory())
        mesh = np.asarray(faceset.landmarks[i])
        if memory.is_new(small_picture(faceset.image(i)), mesh, faceset.stored_size):
            kept.append(i)
    return sorted(kept)


def spread(faceset: Faceset, indices: Sequence[int], count: int) -> list[int]:
    """`count` of these faces, spread over all poses: each pose gives its sharpest, then each its second and so on."""
    cells: dict[tuple[int, int], list[int]] = {}
    for i in indices:
        record = faceset.records[i]
        cells.setdefault((round(record.yaw / POSE_CELL_DEG), round(record.pitch / POSE_CELL_DEG)), []).append(i)
    ranked: list[tuple[int, float, int]] = []
    for members in cells.values():
        members.sort(key=lambda i: (-faceset.records[i].sharpness, i))
        ranked += [(rank, -faceset.records[i].sharpness, i) for rank, i in enumerate(members)]
    return sorted(i for _, _, i in sorted(ranked)[:count])
