"""Swaps the face in a frame: detect, align, infer, blend. Frame in, SwapResult out. No thread, no clock of its own."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from typing import Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import CropGeometry, SteadySimilarity, canonical_mesh, cut, frame_to_crop, invert, transform
from realtime.blend import Blender, BlendSettings
from realtime.frame import Crop, Face, Frame, MaskF32
from realtime.infer import DEFAULT_MORPH, Engine, EngineOutput
from realtime.landmarks import LEFT_EYE, LIPS_OUTER, NOSE, OVAL, RIGHT_EYE, face_hull

MEMORY_S = 0.5
"""After a longer gap, or a step back in time, the smoothing of crop and colour starts anew."""
SMALLEST_SWAP = 0.1
"""A mask that covers less of the face than this does not hide the performer: the frame counts as not swapped."""
FACE_COVERED, INNER_COVERED = 0.5, 0.6
"""The masks of the model cover at least so much of the face, and of each half of eyes, nose and mouth, or the performer
could be recognised: the frame counts as not swapped."""
SMALLEST_CROP_PX, LARGEST_CROP = 8, 8
"""A crop narrower than this, or than so many frames, comes from landmarks that make no face."""

_GRID = 32
"""Coverage is measured on a grid of so many cells a side."""
_SHIFT_BITS, _FAR = 4, 2.0**20
_MIDDLE = (168, 6, 197, 195, 5, 4, 1, 2, 0, 17)
"""Bridge of the nose to lower lip."""


class Miss(StrEnum):
    """Why a frame was not swapped."""

    NO_FACE = "no face"
    WRONG_PERSON = "the performer is not in view"
    NO_SHAPE = "the landmarks make no face"
    NOT_FINITE = "the model's answer is not finite"
    UNCOVERED = "the mask does not cover the face"
    OUTSIDE = "the face lies outside the picture"


class Finder(Protocol):
    """What finds faces: realtime.detect.FaceFinder."""

    def find(self, frame: Frame) -> list[Face]:
        """The faces in a frame, the most important first."""
        ...

    def close(self) -> None:
        """Free the networks; safe to call twice."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SwapResult:
    """What became of one frame."""

    frame: Frame
    """The swapped frame, or the untouched input when `swapped` is False."""
    faces: tuple[Face, ...]
    """All faces in view; when `swapped`, the first is the one that was swapped."""
    swapped: bool
    miss: str | None = None
    """Why nothing was swapped, in a few words, see Miss; None when `swapped`."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds in detect, align, infer and blend, as far as the frame came."""
    chosen: tuple[int, ...] = ()
    """The track_id of every face that was swapped."""


class FaceSwapper:
    """Swaps the face of one performer, frame by frame. Owns the finder and the engine; not thread-safe.

    With several faces in view it keeps to the one it swapped last, as long as that one is followed. `geometry`
    overrides what the model says about its crop; the size stays the model's. `live` tells which time of a frame counts
    for smoothing: when it was captured, or its place in the file. Without `smooth` every frame stands alone.
    """

    def __init__(
        self,
        finder: Finder,
        engine: Engine,
        *,
        blend: BlendSettings | None = None,
        morph: float = DEFAULT_MORPH,
        smooth: bool = True,
        geometry: CropGeometry | None = None,
        live: bool = False,
    ) -> None:
        if not 0 <= morph <= 1:
            raise ValueError(f"morph must lie in [0, 1], got {morph}")
        self._finder, self._engine = finder, engine
        self._morph, self._smooth, self._live = morph, smooth, live
        self._geometry = (geometry or engine.dfm.geometry).resized(engine.dfm.resolution)
        blend = blend or BlendSettings()
        self._blender = Blender(blend if smooth else replace(blend, colour_smoothing_s=0), engine.dfm.placement)
        self._steady = SteadySimilarity(self._geometry.size)
        self._track_id: int | None = None
        self._last_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def provider(self) -> str:
        """What runs the model, as the engine says."""
        return self._engine.provider

    def close(self) -> None:
        """Close the finder and the engine; safe to call twice."""
        try:
            self._finder.close()
        finally:
            self._engine.close()

    def swap(self, frame: Frame) -> SwapResult:
        """Swap the face in one frame. What fails in a room is raised; what is wrong with the picture is a miss."""
        clock = _Stopwatch()
        faces = self._chosen_first(self._finder.find(frame))
        clock.lap("detect")
        if not faces:
            return SwapResult(frame, (), False, Miss.NO_FACE, clock.laps_ms)
        now_s = frame.captured_s if self._live else frame.pts_s
        crop = self._align(frame, faces[0], now_s)
        clock.lap("align")
        if crop is None:
            return SwapResult(frame, faces, False, Miss.NO_SHAPE, clock.laps_ms)
        output = self._engine.run(crop.image, self._morph)
        clock.lap("infer")
        if not _finite(output):
            return SwapResult(frame, faces, False, Miss.NOT_FINITE, clock.laps_ms)
        mask = self._mask(faces[0], crop, output, frame.image.shape[:2])
        if mask is None:
            return SwapResult(frame, faces, False, Miss.UNCOVERED, clock.laps_ms)
        image = self._blender.blend(frame.image, output, crop.crop_to_frame, now_s, mask=mask, crop=crop.image)
        clock.lap("blend")
        if image is frame.image:
            return SwapResult(frame, faces, False, Miss.OUTSIDE, clock.laps_ms)
        return SwapResult(frame.with_image(image), faces, True, None, clock.laps_ms)

    def _chosen_first(self, faces: list[Face]) -> tuple[Face, ...]:
        return tuple(sorted(faces, key=lambda face: face.track_id != self._track_id))

    def _align(self, frame: Frame, face: Face, now_s: float) -> Crop | None:
        """The crop of `face`, kept still over time; None for landmarks that make no face."""
        if face.track_id != self._track_id or not 0 <= now_s - self._last_s <= MEMORY_S:
            self._steady.reset()
            self._blender.reset()
        self._track_id, self._last_s = face.track_id, now_s
        if not np.isfinite(face.landmarks).all():
            return None
        try:
            matrix = frame_to_crop(face.landmarks, self._geometry)
        except ValueError:
            return None
        side_px = self._geometry.size / math.hypot(matrix[0, 0], matrix[1, 0])
        if not SMALLEST_CROP_PX <= side_px <= LARGEST_CROP * max(frame.image.shape):
            return None
        if self._smooth:
            matrix = self._steady(matrix, now_s)
        return cut(frame.image, matrix, self._geometry.size)

    def _mask(self, face: Face, crop: Crop, output: EngineOutput, shape: tuple[int, int]) -> MaskF32 | None:
        """Where the identity will be seen, (R, R); None when that leaves the performer's face uncovered."""
        size = self._geometry.size
        to_crop = invert(crop.crop_to_frame)
        mesh = transform(to_crop, face.landmarks).astype(np.float32)
        height, width = shape
        picture = transform(to_crop, np.array([[0, 0], [width, 0], [width, height], [0, height]]))
        if not covers(self._blender.coverage(output, _GRID), mesh * (_GRID / size), picture * (_GRID / size)):
            return None
        hull = face_hull(mesh, size, size) * np.float32(1 / 255) if self._blender.settings.hull else None
        mask = self._blender.mask(output, hull)
        outline_px = min(cv2.contourArea(mesh[list(OVAL)]), mask.size)
        return mask if float(mask.sum()) >= SMALLEST_SWAP * outline_px else None


def covers(coverage: MaskF32, mesh: NDArray[np.floating], picture: NDArray[np.floating]) -> bool:
    """Whether `coverage` (n, n) in [0, 1] hides the face, judged where it lies both inside the grid and the picture.

    mesh: (468 or 478, 2), picture: (4, 2) the corners of the frame; both in cells of the grid.
    """
    seen = np.zeros(coverage.shape, np.uint8)
    cv2.fillConvexPoly(seen, _corners(picture), 1, shift=_SHIFT_BITS)
    face = np.zeros_like(seen)
    cv2.fillPoly(face, [_corners(mesh[_inner()[0]])], 1, shift=_SHIFT_BITS)
    if not cv2.countNonZero(face):
        return False
    parts = [(face, FACE_COVERED)]
    for points in _inner()[1:]:
        half = np.zeros_like(seen)
        outline = np.asarray(cv2.convexHull(mesh[points].astype(np.float32)), np.float32)
        cv2.fillConvexPoly(half, _corners(outline), 1, shift=_SHIFT_BITS)
        parts.append((half, INNER_COVERED))
    for part, least in parts:
        part &= seen
        if cv2.countNonZero(part) and cv2.mean(coverage, mask=part)[0] < least:
            return False
    return True


def _corners(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """A polygon for OpenCV: whole numbers of 1 / 2 ** _SHIFT_BITS, counted from the centre of the first cell."""
    return np.asarray(np.rint(np.clip((points - 0.5) * 2**_SHIFT_BITS, -_FAR, _FAR)), np.int32)


@cache
def _inner() -> tuple[NDArray[np.intp], ...]:
    """The outline of the face, and the points around eye, nose and mouth on the right and on the left of its middle."""
    middle = canonical_mesh()[_MIDDLE[0], 0]
    around = np.array(RIGHT_EYE + LEFT_EYE + NOSE + LIPS_OUTER)
    x = canonical_mesh()[around, 0]
    halves = (np.union1d(around[side], _MIDDLE) for side in (x < middle, x > middle))
    return (np.array(OVAL), *halves)


def _finite(output: EngineOutput) -> bool:
    return all(bool(np.isfinite(each).all()) for each in (output.face, output.face_mask, output.performer_mask))


class _Stopwatch:
    def __init__(self) -> None:
        self._last_s = time.perf_counter()
        self.laps_ms: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now_s = time.perf_counter()
        self.laps_ms[stage], self._last_s = (now_s - self._last_s) * 1e3, now_s
