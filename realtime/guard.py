"""Decides what is published. SwapResult in, Publication out: a swapped face or a stand-in, never the raw face.

Note [Fail closed]
    A picture counts as raw until a swap has succeeded on it. Raw pictures leave this room only when the user asked
    for it (`OnMiss.PASS`), and then they are marked `raw`. For everything else there is a stand-in that shows nobody:

        armed   before the first swap: nothing when live, the slate in a file (which needs a picture for every frame)
        live    the swapped picture
        hold    the last swapped picture, for at most hold_ms
        blur    the picture with the heads pixelated - or all of it, when it is not known where they are
        slate   a neutral card
        raw     the picture as it came in; only with OnMiss.PASS

    A time that runs backwards, a picture of another size, a crash: whatever is unexpected leads to a stand-in.

No thread and no clock of its own: the caller says what time it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import cv2
import numpy as np

from realtime.frame import Frame, ImageU8

if TYPE_CHECKING:
    from realtime.swap import SwapResult

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

HEAD_MARGIN = (0.45, 0.75, 0.45, 0.35)
"""How much further a head reaches than the mesh of its face: left, top, right, bottom in face sizes."""
CELLS_ACROSS_FACE = 3
CELLS_ACROSS_PICTURE = 8
"""So few cells that nobody can be recognised in them; a close-up fills the picture with its face."""

MAX_HOLD_MS = 10_000
"""A picture that stands still for longer helps nobody."""


class OnMiss(StrEnum):
    """What to publish when a frame could not be swapped."""

    HOLD = "hold"
    BLUR = "blur"
    SLATE = "slate"
    PASS = "pass"


class State(StrEnum):
    """What is being published, see Note [Fail closed]."""

    ARMED = "armed"
    LIVE = "live"
    HOLD = "hold"
    BLUR = "blur"
    SLATE = "slate"
    RAW = "raw"


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """What may be shown for one frame."""

    image: ImageU8 | None
    """(H, W, 3) BGR in [0, 255]; None: publish nothing."""
    state: State
    raw: bool
    """Whether `image` is the picture as it came in."""
    faces: tuple[Box, ...] = ()
    """Where faces are in `image`, for marks that must not cover them."""


class Guard:
    """Keeps raw pictures in. Not thread-safe: one per run."""

    def __init__(self, on_miss: OnMiss = OnMiss.HOLD, hold_ms: float = 250.0, *, live: bool = True) -> None:
        if not (math.isfinite(hold_ms) and 0 <= hold_ms <= MAX_HOLD_MS):
            raise ValueError(f"hold_ms lies between 0 and {MAX_HOLD_MS}, got {hold_ms}")
        self._on_miss, self._hold_s, self._live = OnMiss(on_miss), hold_ms / 1000, live
        self._state = State.ARMED
        self._swapped: ImageU8 | None = None
        self._swapped_faces: tuple[Box, ...] = ()
        self._swapped_s = 0.0
        self._slate: ImageU8 | None = None

    @property
    def state(self) -> State:
        """What was published last."""
        return self._state

    def publish(self, result: SwapResult, now_s: float) -> Publication:
        """What to show for a frame that went through the swap at time `now_s` (seconds, any origin)."""
        boxes = tuple(face.box for face in result.faces)
        if result.swapped:
            self._swapped, self._swapped_faces, self._swapped_s = result.frame.image, boxes, now_s
            return self._done(Publication(result.frame.image, State.LIVE, raw=False, faces=boxes))
        return self._stand_in(result.frame, boxes, now_s)

    def fail(self, frame: Frame, now_s: float) -> Publication:
        """What to show for a frame whose swap crashed: nothing is known about where its faces are."""
        return self._stand_in(frame, (), now_s)

    def _stand_in(self, frame: Frame, faces: tuple[Box, ...], now_s: float) -> Publication:
        if self._on_miss is OnMiss.PASS:
            return self._done(Publication(frame.image, State.RAW, raw=True, faces=faces))
        if self._swapped is None and self._live:
            return self._done(Publication(None, State.ARMED, raw=False))
        if self._on_miss is OnMiss.BLUR:
            return self._done(Publication(hide(frame.image, faces), State.BLUR, raw=False, faces=faces))
        if self._swapped is None:
            return self._done(Publication(self._card(frame.image), State.ARMED, raw=False))
        held = self._on_miss is OnMiss.HOLD and 0 <= now_s - self._swapped_s <= self._hold_s
        if held and self._swapped.shape == frame.image.shape:
            return self._done(Publication(self._swapped, State.HOLD, raw=False, faces=self._swapped_faces))
        return self._done(Publication(self._card(frame.image), State.SLATE, raw=False))

    def _done(self, publication: Publication) -> Publication:
        self._state = publication.state
        return publication

    def _card(self, like: ImageU8) -> ImageU8:
        if self._slate is None or self._slate.shape != like.shape:
            self._slate = slate(like.shape[0], like.shape[1])
        return self._slate


def slate(height: int, width: int) -> ImageU8:
    """(height, width, 3) neutral card with a sentence, as large as fits; it shows nothing of any frame."""
    card = np.full((height, width, 3), (46, 42, 40), np.uint8)
    lines = (("One moment, please", 1.0, (228, 226, 224)), ("no swapped face to show", 0.55, (160, 156, 152)))
    widest_px = cv2.getTextSize(lines[0][0], cv2.FONT_HERSHEY_DUPLEX, 1.0, 1)[0][0]
    scale = min(0.6 * width / widest_px, height / 160)
    y = height * 0.5
    for text, size, colour in lines:
        font = (cv2.FONT_HERSHEY_DUPLEX, scale * size)
        thickness = max(round(scale * size), 1)
        (text_width, text_height), _ = cv2.getTextSize(text, *font, thickness)
        origin = (round((width - text_width) / 2), round(y))
        cv2.putText(card, text, origin, *font, colour, thickness, cv2.LINE_AA)
        y += 2.2 * text_height
    return card


def hide(image: ImageU8, faces: Sequence[Box]) -> ImageU8:
    """A copy with the head around each face pixelated beyond recognition.

    The whole picture is pixelated when `faces` is empty or one of them is not a place in the picture.
    """
    height, width = image.shape[:2]
    hidden = image.copy()
    for face in faces:
        head = _head(face, height, width)
        if head is None:
            faces = ()
            break
        x0, y0, x1, y1 = head
        hidden[y0:y1, x0:x1] = _pixelated(image[y0:y1, x0:x1], (face[2] - face[0]) / CELLS_ACROSS_FACE)
    return hidden if faces else _pixelated(image, min(height, width) / CELLS_ACROSS_PICTURE)


def _head(face: Box, height: int, width: int) -> tuple[int, int, int, int] | None:
    left, top, right, bottom = face
    face_w, face_h = right - left, bottom - top
    if not all(map(math.isfinite, face)) or face_w < 1 or face_h < 1:
        return None
    x0 = max(math.floor(left - HEAD_MARGIN[0] * face_w), 0)
    y0 = max(math.floor(top - HEAD_MARGIN[1] * face_h), 0)
    x1 = min(math.ceil(right + HEAD_MARGIN[2] * face_w), width)
    y1 = min(math.ceil(bottom + HEAD_MARGIN[3] * face_h), height)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _pixelated(image: ImageU8, cell_px: float) -> ImageU8:
    height, width = image.shape[:2]
    cells = (max(round(width / cell_px), 1), max(round(height / cell_px), 1))
    coarse = cv2.resize(image, cells, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
