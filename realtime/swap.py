"""Swaps the faces in a frame: detect, choose, align, infer, blend. Frame in, SwapResult out. No thread, no clock.

Note [All or nothing]
    A frame counts as swapped only when nothing of a performer is to be seen in it. When several faces are to be swapped
    and one of them cannot be, or was lost a moment ago, its head is pixelated and the others are swapped; when none can
    be, the frame is a miss.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import CropGeometry, SteadySimilarity, cut, frame_to_crop, invert, transform
from realtime.blend import Blender, BlendSettings
from realtime.exposure import Exposure
from realtime.frame import Crop, Face, Frame, ImageU8, MaskF32
from realtime.infer import DEFAULT_MORPH, Engine, EngineOutput
from realtime.landmarks import OVAL, face_hull
from realtime.lock import Choice, FaceLock, NoChoice, Policy
from realtime.people import middle
from realtime.standin import Box, hide

HIDDEN_S, BYSTANDER_S, GONE_S = 2.0, 1.0, 0.5
"""So long the place of a face that had to be swapped, or of a bystander that had to be pixelated, stays hidden after it
went out of sight; GONE_S when it reached over the border of the picture before."""
MEMORY_S = 0.5
"""After a longer gap, or a step back in time, the smoothing of crop, masks and colour starts anew."""
SMALLEST_SWAP = 0.1
"""A mask that covers less of the face than this does not hide the performer: the frame counts as not swapped."""
SMALLEST_CROP_PX, LARGEST_CROP = 8, 8
"""A crop narrower than this, or than so many frames, comes from landmarks that make no face."""

SAME_DETAIL = 0.94
"""Correlation of the details of crop and painted face from which on the model gave back its input. A swap of the
identity herself reaches 0.92, of other people 0.84; her input with a blur of one pixel or another colour 0.95 to 1."""
SHARP, SAME_BLUR = 0.09, 0.99
"""Mean size of details, in the logarithm of light, from which on a picture is sharp; in one that is not, all people
look alike: there her swap reaches 0.986, that of another person 0.96."""

_MARGIN, _GROWTH = 0.15, 0.5
"""A hidden place is larger than the face was by so many of its widths on each side, and grows by so many a second."""
_GRID = 32
"""Coverage is measured on a grid of so many cells a side."""
_DETAIL_PX, _DETAIL_SIGMA, _DARK = 64, 2.0, 8.0
"""Details are compared with so many pixels a side, less their surroundings, in the logarithm of so much more light."""
_LEAST_DETAIL = 100
"""In fewer of these pixels anything may look alike."""


class Miss(StrEnum):
    """Why a frame was not swapped."""

    NO_FACE = "no face"
    WRONG_PERSON = NoChoice.WRONG_PERSON
    UNDECIDED = NoChoice.UNDECIDED
    NO_SHAPE = "the landmarks make no face"
    NOT_FINITE = "the model's answer is not finite"
    UNCOVERED = "the mask does not cover the face"
    UNPAINTED = "the model paints its input back"
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
    """All faces in view; those that are to be swapped come first."""
    swapped: bool
    miss: str | None = None
    """Why nothing was swapped, in a few words, see Miss; None when `swapped`."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds in detect, align, infer and blend, as far as the frame came."""
    chosen: tuple[int, ...] = ()
    """The track_id of every face that was swapped."""
    hidden: tuple[Box, ...] = ()
    """Where further heads may be that must not be seen, though no face was found there."""


class FaceSwapper:
    """Swaps the face of a performer, frame by frame. Owns the finder and the engine; not thread-safe.

    `face` says whom to swap among several, see FaceLock; by default the first performer is kept, or, without `smooth`,
    the largest face is swapped. `bystanders`: whether everybody else is shown, or pixelated. `geometry` overrides what
    the model says about its crop; the size stays the model's. `live` tells which time of a frame counts: when it was
    captured, or its place in the file. Without `smooth` every frame stands alone.
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
        face: Policy | None = None,
        bystanders: Literal["show", "blur"] = "show",
    ) -> None:
        if bystanders not in ("show", "blur"):
            raise ValueError(f"bystanders is show or blur, got {bystanders!r}")
        self._finder, self._engine = finder, engine
        self._smooth, self._live, self._bystanders = smooth, live, bystanders
        self._lock = FaceLock(face or ("lock" if smooth else "largest"))
        self._geometry = _fitting(geometry, engine)
        self._followed: dict[int, _Followed] = {}
        """By track_id."""
        self._seen: dict[int, _Seen] = {}
        """Who must not be seen, by track_id."""
        self._held: _Seen | None = None
        """Who was chosen by his place."""
        self.adjust(blend or BlendSettings(), morph)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def provider(self) -> str:
        """What runs the model, as the engine says."""
        return self._engine.provider

    @property
    def policy(self) -> Policy:
        """Whom it swaps; `lock` once the user has chosen a face."""
        return self._lock.policy

    def close(self) -> None:
        """Close the finder and the engine; safe to call twice."""
        try:
            self._finder.close()
        finally:
            self._engine.close()

    def adjust(self, blend: BlendSettings, morph: float) -> None:
        """Swap with other settings from the next frame on; what was smoothed goes on. ValueError: out of range."""
        if not 0 <= morph <= 1:
            raise ValueError(f"morph must lie in [0, 1], got {morph}")
        self._morph = morph
        self._blend = blend if self._smooth else replace(blend, colour_smoothing_s=0, mask_smoothing_s=0)
        for followed in self._followed.values():
            followed.blender.adjust(self._blend)

    def choose_at(self, x: float, y: float) -> bool:
        """Make the face at (x, y) of the last frame the performer; False when none is there."""
        return self._lock.choose_at(x, y)

    def next_face(self) -> bool:
        """Make the next face to the right in the last frame the performer; False when there is none."""
        return self._lock.next_face()

    def change_engine(self, engine: Engine, geometry: CropGeometry | None = None) -> Engine:
        """Swap with another model from the next frame on; the one that is given back is the caller's to close."""
        old, self._engine = self._engine, engine
        self._geometry = _fitting(geometry, engine)
        self._followed = {}
        return old

    def swap(self, frame: Frame) -> SwapResult:
        """Swap the faces in one frame. What fails in a room is raised; what is wrong with the picture is a miss."""
        clock = _Stopwatch()
        now_s = frame.captured_s if self._live else frame.pts_s
        faces = self._finder.find(frame)
        self._forget(now_s)
        choice = self._keep_place(self._lock.update(frame.image, faces, now_s), frame.image.shape[:2], now_s)
        clock.lap("detect")
        in_view = choice.swap + choice.others
        lost = self._lost(choice, frame.image.shape[:2], now_s)
        paintings: list[_Painting] = []
        failed: list[tuple[Face, Miss]] = []
        for face in choice.swap:
            painting = self._paint(frame.image, face, now_s, clock)
            if isinstance(painting, Miss):
                failed.append((face, painting))
            else:
                paintings.append(painting)
        if not paintings:
            miss = failed[0][1] if failed else Miss(choice.miss or Miss.NO_FACE)
            return SwapResult(frame, in_view, False, miss, clock.laps_ms, hidden=lost)
        hidden = [face.box for face, _ in failed] + list(lost)
        hidden += [face.box for face in choice.others if self._bystanders == "blur"]
        image = hide(frame.image, hidden) if hidden else frame.image
        for painting in paintings:
            image = painting.followed.blender.blend(
                image, painting.output, painting.crop.crop_to_frame, now_s, mask=painting.mask, crop=painting.crop.image
            )
        clock.lap("blend")
        chosen = tuple(painting.followed.track_id for painting in paintings)
        return SwapResult(frame.with_image(image), in_view, True, None, clock.laps_ms, chosen, lost)

    def _forget(self, now_s: float) -> None:
        """Drop whoever was not swapped for longer than MEMORY_S, and everybody when time goes back."""
        recent = {key: each for key, each in self._followed.items() if 0 <= now_s - each.last_s <= MEMORY_S}
        self._followed = recent
        self._seen = {key: each for key, each in self._seen.items() if each.last_s <= now_s}
        if self._held is not None and self._held.last_s > now_s:
            self._held = None

    def _keep_place(self, choice: Choice, shape: tuple[int, int], now_s: float) -> Choice:
        """The choice by place; nobody slides into the place of a face that is out of sight for a moment."""
        policy = self._lock.policy
        if not self._smooth or policy in ("lock", "largest", "all"):
            self._held = None
            return choice
        faces, held = choice.swap + choice.others, self._held
        chosen = choice.swap[0] if choice.swap else None
        if held is not None:
            again = [face for face in faces if face.track_id == held.track_id]
            again = again or [face for face in faces if _over(face, held.box)]
            if not again and not held.over(shape, now_s):
                return Choice((), faces, NoChoice.WRONG_PERSON if faces else None)
            chosen = again[0] if again else chosen
        self._held = None if chosen is None else _Seen(chosen.track_id, chosen.box, now_s, HIDDEN_S)
        if chosen is None:
            return choice
        return Choice((chosen,), tuple(face for face in faces if face is not chosen))

    def _lost(self, choice: Choice, shape: tuple[int, int], now_s: float) -> tuple[Box, ...]:
        """Where faces were that must not be seen and went out of sight a moment ago, see Note [All or nothing].

        The performer is not among them with the policy `lock`: there is only one, and without him nothing is shown.
        """
        if not self._smooth:
            return ()
        unseen = [(face, HIDDEN_S) for face in choice.swap if self._lock.policy != "lock"]
        unseen += [(face, BYSTANDER_S) for face in choice.others if self._bystanders == "blur"]
        in_view = {face.track_id for face in choice.swap + choice.others}
        kept = [each for key, each in self._seen.items() if key not in in_view and not each.over(shape, now_s)]
        kept = [each for each in kept if not any(_over(face, each.box) for face, _ in unseen)]
        self._seen = {each.track_id: each for each in kept}
        lost = tuple(each.hidden(now_s) for each in kept)
        self._seen |= {face.track_id: _Seen(face.track_id, face.box, now_s, for_s) for face, for_s in unseen}
        return lost

    def _paint(self, image: ImageU8, face: Face, now_s: float, clock: _Stopwatch) -> _Painting | Miss:
        """The identity's face for one face, ready to be blended."""
        followed = self._followed.get(face.track_id)
        if followed is None:
            followed = _Followed(face.track_id, self._geometry, Blender(self._blend, self._engine.dfm.placement))
            self._followed[face.track_id] = followed
        followed.last_s = now_s
        crop = followed.align(image, face, now_s, self._smooth)
        clock.lap("align")
        if crop is None:
            return Miss.NO_SHAPE
        output = self._engine.run(crop.image, self._morph)
        clock.lap("infer")
        if not _finite(output):
            return Miss.NOT_FINITE
        output = followed.blender.steady(output, now_s)
        mask = followed.mask(face, crop, output, image.shape[:2])
        if mask is None:
            return Miss.UNCOVERED
        if not _shows(mask, crop, image.shape[:2]):
            return Miss.OUTSIDE
        if _gives_back(output, crop.image, mask):
            return Miss.UNPAINTED
        clock.lap("blend")
        return _Painting(followed, crop, output, mask)


class _Seen(NamedTuple):
    """Where a face was last that must not be seen, and how long its place stays hidden."""

    track_id: int
    box: Box
    last_s: float
    for_s: float

    def over(self, shape: tuple[int, int], now_s: float) -> bool:
        """Whether it is gone for so long that nobody is expected there, in a picture of `shape` (H, W)."""
        left, _, right, bottom = self.box
        gone = left < 0 or right > shape[1] or bottom > shape[0]
        return now_s - self.last_s > (GONE_S if gone else self.for_s)

    def hidden(self, now_s: float) -> Box:
        left, top, right, bottom = self.box
        more = (right - left) * (_MARGIN + _GROWTH * (now_s - self.last_s))
        return left - more, top - more, right + more, bottom + more


class _Followed:
    """What is remembered of one face that is being swapped."""

    def __init__(self, track_id: int, geometry: CropGeometry, blender: Blender) -> None:
        self.track_id, self.blender = track_id, blender
        self.last_s = 0.0
        self._geometry = geometry
        self._steady = SteadySimilarity(geometry.size)
        self._exposure = Exposure()

    def align(self, image: ImageU8, face: Face, now_s: float, smooth: bool) -> Crop | None:
        """The crop of `face`, kept still over time; None for landmarks that make no face."""
        if not np.isfinite(face.landmarks).all():
            return None
        try:
            matrix = frame_to_crop(face.landmarks, self._geometry)
        except ValueError:
            return None
        side_px = self._geometry.size / math.hypot(matrix[0, 0], matrix[1, 0])
        if not SMALLEST_CROP_PX <= side_px <= LARGEST_CROP * max(image.shape):
            return None
        if smooth:
            matrix = self._steady(matrix, now_s)
        return cut(image, matrix, self._geometry.size)

    def mask(self, face: Face, crop: Crop, output: EngineOutput, shape: tuple[int, int]) -> MaskF32 | None:
        """Where the identity will be seen, (R, R); None when that leaves the performer's face uncovered."""
        size = self._geometry.size
        mesh = transform(invert(crop.crop_to_frame), face.landmarks).astype(np.float32)
        hull = face_hull(mesh, size, size) * np.float32(1 / 255) if self.blender.settings.hull else None
        mask = self.blender.mask(output, hull)
        if not self._hides(crop, output, mask, mesh, shape):
            return None
        outline_px = min(cv2.contourArea(mesh[list(OVAL)]), mask.size)
        return mask if float(mask.sum()) >= SMALLEST_SWAP * outline_px else None

    def _hides(
        self, crop: Crop, output: EngineOutput, mask: MaskF32, mesh: NDArray[np.float32], shape: tuple[int, int]
    ) -> bool:
        """Whether nobody can recognise the performer. mesh: (468 or 478, 2) in crop pixels."""
        coverage = self.blender.coverage(output, _GRID)
        opacity = np.float32(self.blender.settings.opacity)
        shown = np.asarray(cv2.resize(mask, (_GRID, _GRID), interpolation=cv2.INTER_AREA) * opacity, np.float32)
        cells = _GRID / self._geometry.size
        return self._exposure.hides(coverage, mesh * cells, _picture(crop, shape) * cells, crop.image, shown)


class _Painting(NamedTuple):
    """The identity's face for one face of a frame."""

    followed: _Followed
    crop: Crop
    output: EngineOutput
    mask: MaskF32


def _over(face: Face, box: Box) -> bool:
    """Whether the middle of a face lies in a box."""
    x, y = middle(face)
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _fitting(geometry: CropGeometry | None, engine: Engine) -> CropGeometry:
    return (geometry or engine.dfm.geometry).resized(engine.dfm.resolution)


def _picture(crop: Crop, shape: tuple[int, int]) -> NDArray[np.float64]:
    """(4, 2) corners of a picture of `shape` (H, W) in crop pixels."""
    height, width = shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    return transform(invert(crop.crop_to_frame), corners)


def _shows(mask: MaskF32, crop: Crop, shape: tuple[int, int]) -> bool:
    """Whether any of the mask lies in a picture of `shape` (H, W)."""
    left, top, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
    corners = [[x, y] for x in (left, left + width) for y in (top, top + height)]
    low, high = (f(transform(crop.crop_to_frame, np.array(corners)), axis=0) for f in (np.min, np.max))
    return bool((high > 0).all() and (low < (shape[1], shape[0])).all())


def _gives_back(output: EngineOutput, crop: ImageU8, mask: MaskF32) -> bool:
    """Whether the model paints what it was shown, judged by the details where `mask` shows its face.

    Each is taken less its surroundings, so that another colour or light hides nothing.
    """
    side = _DETAIL_PX, _DETAIL_PX
    painted = np.clip(cv2.resize(output.face, side, interpolation=cv2.INTER_AREA), 0, 1) * np.float32(255)
    given = cv2.resize(crop, side, interpolation=cv2.INTER_AREA).astype(np.float32)
    shown = (cv2.resize(mask, side, interpolation=cv2.INTER_AREA) > 0.5).astype(np.float32)
    grey = [cv2.log(cv2.cvtColor(each, cv2.COLOR_BGR2GRAY) + np.float32(_DARK)) * shown for each in (given, painted)]
    around = np.maximum(cv2.GaussianBlur(shown, (0, 0), _DETAIL_SIGMA), np.float32(1e-3))
    first, second = (((each - cv2.GaussianBlur(each, (0, 0), _DETAIL_SIGMA) / around) * shown).ravel() for each in grey)
    energy, theirs = float(first @ first), float(second @ second)
    alike = float(first @ second) / math.sqrt(energy * theirs + 1e-9)
    sharp = energy >= SHARP**2 * float(shown.sum())
    enough = float(shown.sum()) >= _LEAST_DETAIL
    return enough and alike >= (SAME_DETAIL if sharp else SAME_BLUR)


def _finite(output: EngineOutput) -> bool:
    return all(bool(np.isfinite(each).all()) for each in (output.face, output.face_mask, output.performer_mask))


class _Stopwatch:
    def __init__(self) -> None:
        self._last_s = time.perf_counter()
        self.laps_ms: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now_s = time.perf_counter()
        self.laps_ms[stage] = self.laps_ms.get(stage, 0.0) + (now_s - self._last_s) * 1e3
        self._last_s = now_s
