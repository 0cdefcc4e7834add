"""Finds the visible mark in a picture that went through an encoder. Pictures in, how sure out."""

from __future__ import annotations

import cv2
import numpy as np

from realtime.badge import Badge, all_boxes
from realtime.frame import ImageU8

SURE = 0.75
"""Correlation with the mark from which on it is there; pictures without it stay below 0.5."""


def likeness(image: ImageU8, language: str = "en") -> float:
    """Correlation of the most similar corner with the mark, [-1, 1]."""
    height, width = image.shape[:2]
    best = -1.0
    grey = np.full((height, width, 3), 110, np.uint8)
    for box in all_boxes(height, width, language):
        others = [each for each in all_boxes(height, width, language) if each != box]
        faces = [(float(a), float(b), float(c), float(d)) for a, b, c, d in others]
        left, top, right, bottom = box
        drawn = Badge(language).stamp(grey, faces)[top:bottom, left:right]
        seen = image[top:bottom, left:right]
        match = cv2.matchTemplate(seen, drawn, cv2.TM_CCOEFF_NORMED)
        best = max(best, float(match.max()))
    return best


def marked(image: ImageU8, language: str = "en") -> bool:
    """Whether the mark is in one of the corners."""
    return likeness(image, language) >= SURE
