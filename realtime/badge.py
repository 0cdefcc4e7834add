"""Marks a picture as made with AI. Image and faces in, a new image with a small visible mark out.

The mark sits in a corner where it covers no face. It is drawn once per picture size and then only copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.frame import Face, ImageU8
from realtime.mark_text import GAP, LETTERS, mark_text, text_width

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

_HEIGHT = 0.065
"""Of the picture's shorter side."""
_LEAST_HEIGHT_PX = 20
"""Below this the two letters cannot be read."""
_LETTER, _MARGIN = 0.56, 0.42
"""Height of the letters, and room beside them, in heights of the mark."""
_CLEARANCE = 0.35
"""Room kept between mark and face, in heights of the mark."""
_DRAWN_LARGER = 8


class Badge:
    """Stamps pictures and keeps to one corner until a face gets there. Not thread-safe: one per output."""

    def __init__(self, language: str = "en") -> None:
        """`language`: two letters, one of LANGUAGES, or `auto` for that of the system."""
        self._text = mark_text(language)
        self._corner = 0
        self._size = (0, 0)
        self._mark: NDArray[np.uint16] = np.zeros((0, 0, 3), np.uint16)
        self._background: NDArray[np.uint16] = np.zeros((0, 0, 1), np.uint16)

    def stamp(self, image: ImageU8, faces: Sequence[Face | Box] = ()) -> ImageU8:
        """A new (H, W, 3) image with the mark; `faces` is what must stay visible."""
        height, width = image.shape[:2]
        corners = _corners(height, width, self._text)
        self._corner = _free_corner(corners, faces, first=self._corner)
        x0, y0, x1, y1 = corners[self._corner]
        if self._size != (y1 - y0, x1 - x0):
            self._draw(y1 - y0, x1 - x0)
        stamped = image.copy()
        under = stamped[y0:y1, x0:x1]
        under[...] = (under * self._background + self._mark) >> 8
        return stamped

    def _draw(self, height: int, width: int) -> None:
        """Prepare out = (image * background + mark) / 256."""
        plate, letters = _shapes(height, width, self._text)
        opacity = 0.72 * plate * (1 - letters) + letters
        grey = 24 * 0.72 * plate * (1 - letters) + 255 * letters
        self._background = np.round(256 * (1 - opacity)).astype(np.uint16)[..., None]
        self._mark = np.round(256 * grey).astype(np.uint16)[..., None]
        self._size = (height, width)


def stamp(image: ImageU8, faces: Sequence[Face | Box] = (), language: str = "en") -> ImageU8:
    """A new (H, W, 3) image with the mark in the first corner where it covers none of `faces`."""
    return Badge(language).stamp(image, faces)


def badge_box(
    height: int, width: int, avoid: Sequence[Face | Box] = (), language: str = "en"
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the mark in pixels, in the first corner where it covers none of `avoid`."""
    corners = _corners(height, width, mark_text(language))
    return corners[_free_corner(corners, avoid, first=0)]


def all_boxes(height: int, width: int, language: str = "en") -> list[tuple[int, int, int, int]]:
    """Where the mark may stand, in the order in which places are tried; left, top, right, bottom in pixels."""
    return _corners(height, width, mark_text(language))


def _corners(height: int, width: int, text: str) -> list[tuple[int, int, int, int]]:
    """The mark's box at the lower right, lower left, upper right and upper left."""
    tall = min(max(round(_HEIGHT * min(height, width)), _LEAST_HEIGHT_PX), height)
    wide = min(round((_LETTER * text_width(text) + _MARGIN) * tall), width)
    gap_x, gap_y = min(tall // 2, (width - wide) // 2), min(tall // 2, (height - tall) // 2)
    left, right = gap_x, width - gap_x - wide
    top, bottom = gap_y, height - gap_y - tall
    return [(x, y, x + wide, y + tall) for x, y in ((right, bottom), (left, bottom), (right, top), (left, top))]


def _free_corner(corners: Sequence[tuple[int, int, int, int]], faces: Sequence[Face | Box], first: int) -> int:
    """The corner that covers least of the faces; `first` and then the lower ones where several cover nothing."""
    boxes = [face.box if isinstance(face, Face) else face for face in faces]
    order = [first, *(corner for corner in range(4) if corner != first)]
    return min(order, key=lambda corner: sum(_covered(corners[corner], box) for box in boxes))


def _covered(mark: tuple[int, int, int, int], face: Box) -> float:
    room = _CLEARANCE * (mark[3] - mark[1])
    wide = min(mark[2] + room, face[2]) - max(mark[0] - room, face[0])
    tall = min(mark[3] + room, face[3]) - max(mark[1] - room, face[1])
    return max(wide, 0.0) * max(tall, 0.0)


def _shapes(height: int, width: int, text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(height, width) coverage in [0, 1] of the rounded plate and of the letters on it."""
    tall, wide = height * _DRAWN_LARGER, width * _DRAWN_LARGER
    plate, letters = np.zeros((tall, wide), np.uint8), np.zeros((tall, wide), np.uint8)
    radius = tall // 4
    cv2.rectangle(plate, (radius, 0), (wide - 1 - radius, tall - 1), 255, -1)
    cv2.rectangle(plate, (0, radius), (wide - 1, tall - 1 - radius), 255, -1)
    for x in (radius, wide - 1 - radius):
        for y in (radius, tall - 1 - radius):
            cv2.circle(plate, (x, y), radius, 255, -1)
    size = min(_LETTER * tall, 0.8 * wide / text_width(text))
    left, top = (wide - size * text_width(text)) / 2, (tall - size) / 2
    for letter in text:
        broad, thick, strokes = LETTERS[letter]
        stroke = max(round(thick * size), 1)
        for line in strokes:
            points = np.array([(left + x * size, top + y * size) for x, y in line])
            cv2.polylines(letters, [np.round(points).astype(np.int32)], False, 255, stroke)
        left += (broad + GAP) * size
    return _reduced(plate, height, width), _reduced(letters, height, width)


def _reduced(shape: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    return cv2.resize(shape, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64) / 255
