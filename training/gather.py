"""Makes one set of what the parts of films have given. Parts in order in; tracks, persons and new faces out.

Parts are searched each for itself, see Note [Parts of a film]; here they are joined. A face keeps its track across a
border when it is found again in its place and no cut is between. Near duplicates and persons are judged only here,
because they depend on what was before.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.film import Film
from training.identity import LOOK_S, cluster
from training.looks import is_jump
from training.near_duplicates import TrackMemory
from training.search import SAME_SHOT_GAP_S, FoundFace, Search, find_again


@dataclass(slots=True)
class FilmFaces:
    """What has become of the faces of one film so far."""

    frames: int = 0
    searched: int = 0
    with_face: int = 0
    cuts: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    faces: int = 0
    """That are stored."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a face goes."""

    frame_index: int
    """Number of its frame in the film."""
    track: int
    """In the whole set."""
    kept: bool


class Gatherer:
    """Looks through all parts in order, without their pictures. Not thread-safe."""

    def __init__(self, *, duplicates: bool, side: int) -> None:
        """`duplicates`: whether near duplicates are kept; `side` of the stored crops in pixels."""
        self._duplicates, self._side = duplicates, side
        self.films: list[FilmFaces] = []
        self.places: list[list[Place]] = []
        """Of each part, of each of its faces."""
        self._film_of_part: list[int] = []
        self._next_track = 0
        self._last: Search | None = None
        self._tracks: dict[int, int] = {}
        self._memories: dict[int, TrackMemory] = {}
        self._sums: dict[int, NDArray[np.float64]] = {}
        self._counts: Counter[int] = Counter()
        self._moments: defaultdict[int, set[int]] = defaultdict(set)

    def begin(self) -> None:
        """The parts that come now belong to the next film."""
        self.films.append(FilmFaces())
        self._last, self._tracks = None, {}
        self._memories.clear()

    def add(self, film: Film, part: Search) -> None:
        """The next part of the film."""
        now = self.films[-1]
        tracks, cut = self._join(part)
        first_index = film.first_index + now.frames
        now.frames += part.frames
        now.searched += part.searched
        now.with_face += part.with_face
        now.cuts += part.cuts + cut
        now.left_out.update(part.left_out)
        self.places.append([self._place(face, tracks[face.track], first_index) for face in part.faces])
        self._film_of_part.append(len(self.films) - 1)
        # Only a track that reaches the border can go on.
        self._memories = {track: self._memories[track] for track in set(tracks.values()) if track in self._memories}
        if part.frames:
            self._last, self._tracks = part, tracks

    def choose(self, wanted: Callable[[NDArray[np.float32], int], bool] | None, *, main_only: bool) -> dict[int, int]:
        """Track -> person, 0 for whom the set shows most, of the tracks that stay; the others are counted as left out.

        `wanted` judges a track by the mean of its vectors and its independent looks; with `main_only` only the person
        shown most stays. Call once, after the last part.
        """
        tracks = [each for each in sorted(self._sums) if wanted is None or wanted(self._mean(each), self._looks(each))]
        persons: dict[int, int] = {}
        if tracks:
            looks = np.array([self._looks(each) for each in tracks])
            labels = cluster(
                np.stack([self._mean(each) for each in tracks]),
                looks,
                np.array([self._counts[each] for each in tracks]),
            )
            persons = {track: int(label) for track, label in zip(tracks, labels, strict=True)}
        if main_only:
            persons = {track: person for track, person in persons.items() if person == 0}
        for number, places in enumerate(self.places):
            now = self.films[self._film_of_part[number]]
            chosen = [place.kept and place.track in persons for place in places]
            others = sum(place.kept for place in places) - sum(chosen)
            if others:
                now.left_out["another person"] += others
            now.faces += sum(chosen)
        return persons

    def _mean(self, track: int) -> NDArray[np.float32]:
        return np.asarray(self._sums[track] / self._counts[track], np.float32)

    def _looks(self, track: int) -> int:
        return len(self._moments[track])

    def _place(self, face: FoundFace, track: int, first_index: int) -> Place:
        memory = self._memories.setdefault(track, TrackMemory())
        kept = self._duplicates or memory.is_new(face.small, face.mesh, self._side)
        if kept:
            self._sums[track] = self._sums.get(track, 0.0) + face.identity.astype(np.float64)
            self._counts[track] += 1
            self._moments[track].add(math.floor(face.pts_s / LOOK_S))
        else:
            self.films[-1].left_out["near duplicate"] += 1
        return Place(first_index + face.frame, track, kept)

    def _join(self, part: Search) -> tuple[dict[int, int], bool]:
        """Track of the part -> track of the set, and whether there is a cut before the part."""
        joined, cut = self._continued(part)
        for face in part.faces:
            if face.track not in joined:
                joined[face.track] = self._next_track
                self._next_track += 1
        return joined, cut

    def _continued(self, part: Search) -> tuple[dict[int, int], bool]:
        """The tracks of the part that go on from before it, and whether there is a cut."""
        last = self._last
        if last is None or last.last_picture is None or part.first_picture is None:
            return {}, False
        if is_jump(last.last_picture, part.first_picture, last.usual_change):
            return {}, True
        if last.last_s is None or part.first_s is None or part.first_s - last.last_s > SAME_SHOT_GAP_S:
            return {}, False
        before = [face for face in last.faces if face.pts_s == last.last_s]
        joined: dict[int, int] = {}
        for face in (each for each in part.faces if each.pts_s == part.first_s):
            nearest = find_again(face.box, face.identity, before)
            if nearest is not None:
                before.remove(nearest)
                joined[face.track] = self._tracks[nearest.track]
        return joined, False
