"""Follows imported faces from frame to frame. Places and vectors of faces in, tracks and persons out.

Files of other programs say where a face was in its frame, not which faces belong together.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from realtime.region import box_overlap
from training.foreign_list import KnownFile
from training.identity import LOOK_S, cluster

_FOLLOW_GAP_S = 0.15
"""Frames further apart do not follow each other, as in extraction."""
_SAME_PLACE = 0.3
"""Overlap of a face with the one before it in its track."""


class Tracks:
    """Numbers faces that stay in their place from frame to frame. Frames of one source come in order."""

    def __init__(self, fps: float) -> None:
        self._gap, self._next = max(round(_FOLLOW_GAP_S * fps), 1), 0
        self._last: list[tuple[KnownFile, NDArray[np.float64], int]] = []

    def number(self, file: KnownFile, box: NDArray[np.float64] | None) -> int:
        """The track of this face: that of the face in its place a moment ago, or a new one."""
        self._last = [
            each for each in self._last if each[0].source == file.source and file.frame - each[0].frame <= self._gap
        ]
        track = None
        if box is not None:
            before = [each for each in self._last if each[0].frame < file.frame]
            overlaps = [float(box_overlap(box, each[1][None])[0]) for each in before]
            if overlaps and max(overlaps) > _SAME_PLACE:
                past = before[int(np.argmax(overlaps))]
                self._last = [each for each in self._last if each is not past]
                track = past[2]
        if track is None:
            track, self._next = self._next, self._next + 1
        if box is not None:
            self._last.append((file, box, track))
        return track


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
