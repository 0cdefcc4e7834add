"""Follows imported faces from frame to frame. Places and vectors of faces in, tracks and persons out.

Files of other programs say where a face was in its frame, not which faces belong together.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime.region import box_overlap
from training.foreign_list import KnownFile
from training.identity import LOOK_S, cluster, likeness

_FOLLOW_GAP_S = 0.15
"""Frames further apart do not follow each other, as in extraction."""
_SAME_PLACE = 0.3
"""Overlap of a face with the one before it in its track."""


@dataclass(frozen=True, slots=True, eq=False)
class _Last:
    """The last face of a track."""

    file: KnownFile
    box: NDArray[np.float64] | None
    identity: NDArray[np.float32]
    track: int


class Tracks:
    """Numbers faces that stay in their place from frame to frame. Frames of one source come in order.

    Where no place is known, a face follows the one with its number in the frame before if they look like one person.
    """

    def __init__(self, fps: float) -> None:
        self._gap, self._next = max(round(_FOLLOW_GAP_S * fps), 1), 0
        self._last: list[_Last] = []

    def number(self, file: KnownFile, box: NDArray[np.float64] | None, identity: NDArray[np.float32]) -> int:
        """The track of this face, with its `box` (4,) in the source and its vector: an old one, or a new one."""
        self._last = [
            each for each in self._last if each.file.source == file.source and file.frame - each.file.frame <= self._gap
        ]
        found = self._followed(file, box, identity)
        if found:
            self._last = [each for each in self._last if each is not found]
        else:
            self._next += 1
        track = found.track if found else self._next - 1
        self._last.append(_Last(file, box, identity, track))
        return track

    def _followed(
        self, file: KnownFile, box: NDArray[np.float64] | None, identity: NDArray[np.float32]
    ) -> _Last | None:
        earlier = [each for each in self._last if each.file.frame < file.frame and (each.box is None) == (box is None)]
        if box is None:
            same = [each for each in earlier if each.file.face == file.face]
            alike = [each for each in same if likeness(each.identity, identity, 1, 1) < 1]
            return alike[-1] if alike else None
        overlaps = [float(box_overlap(box, each.box[None])[0]) for each in earlier if each.box is not None]
        return earlier[int(np.argmax(overlaps))] if overlaps and max(overlaps) > _SAME_PLACE else None


class People:
    """Tells who is who when all faces are known, track by track, as extraction does."""

    def __init__(self) -> None:
        self._sums: dict[int, NDArray[np.float64]] = {}
        self._faces: Counter[int] = Counter()
        self._moments: dict[int, set[int]] = {}

    def add(self, track: int, pts_s: float, identity: NDArray[np.float32]) -> None:
        """One more face of a track."""
        self._sums[track] = self._sums.get(track, np.zeros(identity.shape)) + identity
        self._faces[track] += 1
        self._moments.setdefault(track, set()).add(math.floor(pts_s / LOOK_S))

    def counts(self) -> dict[int, int]:
        """Person -> faces."""
        counts: Counter[int] = Counter()
        for track, person in self.persons().items():
            counts[person] += self._faces[track]
        return dict(sorted(counts.items()))

    def persons(self) -> dict[int, int]:
        """Track -> person, 0 for whom most faces show."""
        tracks = sorted(self._sums)
        faces = np.array([self._faces[track] for track in tracks], np.float64)
        means = np.stack([self._sums[track] for track in tracks]) / faces[:, None]
        looks = np.array([len(self._moments[track]) for track in tracks], np.float64)
        return {track: int(person) for track, person in zip(tracks, cluster(means, looks, faces), strict=True)}
