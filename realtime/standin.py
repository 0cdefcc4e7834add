"""Draws what is shown instead of a face. A size, or a picture and its faces in; a picture that shows nobody out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from realtime.frame import ImageU8

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

HEAD_MARGIN = (0.45, 0.75, 0.45, 0.35)
"""How much further a head reaches than the mesh of its face: left, top, right, bottom in face sizes."""
CELLS_ACROSS_FACE = 3
CELLS_ACROSS_PICTURE = 8
"""So few cells that nobody can be recognised in them; a close-up fills the picture with its face."""


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
