"""Finds faces and follows them. Frame in, list[Face] out.

Note [Follow, then detect]
    A face is looked for where it was one frame ago, which costs one run of the mesh network. Detectors run only while
    fewer than `max_faces` faces are followed: BlazeFace short range first, then full range if that did not find
    enough. When a face gets lost they run in the same frame; while they find nothing new they rest for some frames,
    because an empty chair must not cost more than a face. While a face is followed and others are welcome, the two take
    turns: whoever comes in is seen after a sixth or a third of a second, and with one face in view at 640x480
    `max_faces` 4 costs 1.6 ms a frame instead of 1.1, 4.6 at most in 95 of 100 frames (2.2 and 6.2 with both at once).
    A face that a hand hides for a moment comes back without them: for half a second the mesh network goes on looking in
    its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

from realtime.blazeface import BlazeFace
from realtime.face_mesh import FaceMesh
from realtime.face_nets import MODELS
from realtime.frame import Face, Frame, ImageU8
from realtime.region import Region, box_overlap, region_of_mesh

FACES_IN_VIEW = 4
"""So many faces the live loop follows, so that it knows the performer among others."""

_Detector = Literal["short", "full"]
_DETECTORS: tuple[_Detector, ...] = ("short", "full")
_CLOSER = 1.5
"""Side of the window for a second look, in sides of the region found first."""
_SURE = 0.5
"""Score of a detection that needs no second look."""
_SAME_FACE = 0.5
"""Boxes or regions that overlap so much show the same face."""
_MIN_SIDE_PX = 6.0
_MIN_ASPECT = 0.2
"""Narrow side of a mesh relative to its wide side; a full profile has about 0.6."""
_MIN_VISIBLE = 0.3
"""Share of a mesh's box that must lie inside the frame."""
_MAX_DRIFT = 0.5
"""How far a mesh may lie from the centre of the region it was looked for in, in sides of the region."""
_MAX_GROWTH = 2.5
"""How many times larger or smaller than its region promised a face may turn out."""
_MEMORY_FRAMES = 15
"""A face that comes back to its place within so many frames keeps its track_id..."""
_SAME_PLACE = 0.25
"""... if its region overlaps the one in which it was seen last at least so much."""
_NO_NUMBER = -1
_TURNS: tuple[_Detector, ...] = ("short", "full")
"""Which detector runs when a face is followed and more are welcome."""


@dataclass(frozen=True, slots=True)
class _Sight:
    face: Face
    region: Region
    """Where to look for the face in the next frame."""
    seen: int
    """When the face was found, as a count of frames."""

    @property
    def track_id(self) -> int:
        return self.face.track_id


class FaceFinder:
    """Finds up to `max_faces` faces in each frame and gives each a number that it keeps. Not thread-safe.

    `refine` gives 478 landmarks instead of 468 (lips and eyes closer, irises added) at twice the time. `static` is for
    pictures that do not follow each other: it detects in every frame, fits each mesh once and remembers nothing.
    `detect_every` is the number of frames from a search that found nothing new to the next. A face below `presence`
    is not one.
    """

    def __init__(
        self,
        max_faces: int = 1,
        *,
        refine: bool = False,
        static: bool = False,
        detect_every: int = 5,
        presence: float = 0.5,
        threads: int = 1,
        models: Path = MODELS,
    ) -> None:
        """Load the networks. Raises ModelError when they cannot be used, ValueError for settings out of range."""
        if max_faces < 1 or detect_every < 1 or threads < 1 or not 0 <= presence < 1:
            raise ValueError(
                "expected max_faces, detect_every, threads >= 1 and presence in [0, 1), got "
                f"{max_faces}, {detect_every}, {threads} and {presence}"
            )
        self._max_faces, self._static, self._detect_every, self._presence = max_faces, static, detect_every, presence
        self._mesh: FaceMesh | None = FaceMesh(refine=refine, threads=threads, folder=models)
        self._detectors = [BlazeFace(kind, threads=threads, folder=models) for kind in _DETECTORS]
        self._next_id = 0
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the networks. Safe to call twice."""
        self._mesh = None
        self._detectors = []
        self.reset()

    def reset(self) -> None:
        """Forget the faces that are followed, after a cut or a jump; numbers already given are not given again."""
        self._sights: list[_Sight] = []
        self._count = 0
        self._next_search = 0
        self._turn = 0

    def find(self, frame: Frame) -> list[Face]:
        """The faces in `frame`: the one followed longest first, new ones by size. Raises ValueError after close().

        With `static` the largest comes first and has number 0, the next 1 and so on.
        """
        if self._mesh is None:
            raise ValueError("this FaceFinder is closed; open another one")
        if self._static:
            self.reset()
            self._next_id = 0
        self._count += 1
        image = np.ascontiguousarray(frame.image)
        sights = self._follow(image, self._mesh)
        seen = {sight.track_id for sight in sights}
        lost_one = any(sight.seen == self._count - 1 and sight.track_id not in seen for sight in self._sights)
        if len(sights) < self._max_faces and (lost_one or self._count >= self._next_search):
            detectors = _DETECTORS
            if sights and not lost_one:
                detectors, self._turn = (_TURNS[self._turn],), (self._turn + 1) % len(_TURNS)
            found = self._search(image, self._mesh, sights, detectors)
            if not found:
                self._next_search = self._count + self._detect_every
            sights += self._number(found, seen)
        sights.sort(key=lambda sight: sight.track_id)
        self._remember(sights)
        return [sight.face for sight in sights]

    def _follow(self, image: ImageU8, mesh: FaceMesh) -> list[_Sight]:
        """The faces that are where they were last; of two that came to lie on one face the older one stays."""
        sights: list[_Sight] = []
        for last in self._sights:
            if len(sights) < self._max_faces:
                sight = self._fit(image, mesh, last.region, last.track_id)
                if sight and not _is_among(sight, sights):
                    sights.append(sight)
        return sights

    def _search(
        self, image: ImageU8, mesh: FaceMesh, known: list[_Sight], detectors: tuple[_Detector, ...]
    ) -> list[_Sight]:
        """Faces beside the `known` ones, as many as are wanted, largest first; they have no numbers yet."""
        found: list[_Sight] = []
        for regions in self._detect(image, detectors):
            for region in sorted(regions, key=lambda region: -region.side):
                taken = known + found
                if any(region.overlap(sight.region) > _SAME_FACE for sight in taken):
                    continue
                sight = self._fit(image, mesh, region, _NO_NUMBER)
                if sight and not self._static:
                    # From the detector's box the mesh lies 1 to 2 % of the eye distance off the place that a look from
                    # its own box gives: without a second look the first frame would twitch.
                    sight = self._fit(image, mesh, sight.region, _NO_NUMBER) or sight
                if sight and not _is_among(sight, taken):
                    found.append(sight)
                if len(known) + len(found) == self._max_faces:
                    return _largest_first(found)
        return _largest_first(found)

    def _detect(self, image: ImageU8, detectors: tuple[_Detector, ...]) -> Iterator[list[Region]]:
        """Where faces may be: from the fast detector, then, if the caller wants more, from the thorough one.

        The thorough one draws boxes of a twentieth of the picture even around smaller faces: for each the fast one
        looks again, closer, so that the mesh fits faces of less than half that size.
        """
        short, full = self._detectors
        if "short" in detectors:
            yield [detection.region() for detection in short.find(image)]
        if "full" in detectors:
            yield list(self._closer(image, short, full))

    @staticmethod
    def _closer(image: ImageU8, short: BlazeFace, full: BlazeFace) -> Iterator[Region]:
        for detection in full.find(image):
            coarse = detection.region()
            closer = short.find(image, Region(coarse.x, coarse.y, coarse.side * _CLOSER))
            if closer:
                yield closer[0].region()
            elif detection.score >= _SURE:
                yield coarse

    def _fit(self, image: ImageU8, mesh: FaceMesh, region: Region, track_id: int) -> _Sight | None:
        presence, landmarks = mesh.fit(image, region)
        if presence <= self._presence or not np.isfinite(landmarks).all():
            return None
        sight = _Sight(Face(landmarks, presence, track_id), region_of_mesh(landmarks), self._count)
        return sight if _is_plausible(sight, region, image) else None

    def _number(self, found: list[_Sight], taken: set[int]) -> list[_Sight]:
        """The `found` faces with the number of a face that was lost there a moment ago, or else a new one."""
        lost = [sight for sight in self._sights if sight.track_id not in taken]
        numbered = []
        for sight in found:
            before = max(lost, key=lambda other: other.region.overlap(sight.region), default=None)
            if before and before.region.overlap(sight.region) > _SAME_PLACE:
                lost.remove(before)
                track_id = before.track_id
            else:
                track_id = self._next_id
                self._next_id += 1
            numbered.append(replace(sight, face=replace(sight.face, track_id=track_id)))
        return numbered

    def _remember(self, sights: list[_Sight]) -> None:
        """Keep the faces of this frame first, then those that are lost but not yet forgotten."""
        seen = {sight.track_id for sight in sights}
        recent = [sight for sight in self._sights if self._count - sight.seen < _MEMORY_FRAMES]
        self._sights = sights + [sight for sight in recent if sight.track_id not in seen]


def _largest_first(sights: list[_Sight]) -> list[_Sight]:
    return sorted(sights, key=lambda sight: -sight.region.side)


def _is_among(sight: _Sight, others: list[_Sight]) -> bool:
    if not others:
        return False
    boxes = np.array([other.face.box for other in others])
    return bool((box_overlap(np.array(sight.face.box), boxes) > _SAME_FACE).any())


def _is_plausible(sight: _Sight, region: Region, image: ImageU8) -> bool:
    """Whether a mesh that was looked for in `region` can be a face; presence alone misses a mesh gone astray."""
    left, top, right, bottom = sight.face.box
    narrow, wide = sorted((right - left, bottom - top))
    if narrow < _MIN_SIDE_PX or narrow < _MIN_ASPECT * wide:
        return False
    height, width = image.shape[:2]
    inside_x, inside_y = min(right, width) - max(left, 0), min(bottom, height) - max(top, 0)
    if min(inside_x, inside_y) <= 0 or inside_x * inside_y < _MIN_VISIBLE * (right - left) * (bottom - top):
        return False
    growth = sight.region.side / region.side
    drift = math.hypot(sight.region.x - region.x, sight.region.y - region.y)
    return 1 / _MAX_GROWTH < growth < _MAX_GROWTH and drift < _MAX_DRIFT * region.side
