"""Paints with soft masks. Points in, a float image of colour and gloss out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import ArrayLike

from realtime.actors.numerics import F32, Floats, fixed_point, spline

Window = tuple[slice, slice]


def _support(mask: F32) -> Window:
    """Rows and columns outside of which the mask is zero: painting there would change nothing."""
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


class Canvas:
    """A picture under the brush. Masks are (H, W) in about [0, 1]; points are (x, y) in pixels."""

    def __init__(self, height: int, width: int, colour: ArrayLike, gloss: float) -> None:
        self.colour: F32 = np.ones((height, width, 3), np.float32) * np.asarray(colour, np.float32)
        """(H, W, 3) BGR in [0, 1]."""
        self.gloss: F32 = np.full((height, width), gloss, np.float32)
        """(H, W), 0 is dull."""
        self.y: F32
        self.x: F32
        self.y, self.x = np.mgrid[:height, :width].astype(np.float32)
        """(H, W) coordinates of each pixel."""

    def mix(self, mask: Floats, colour: ArrayLike, amount: float = 1.0) -> None:
        """Cover with an opaque colour where the mask is 1."""
        weight = (mask * amount).astype(np.float32)
        window = _support(weight)
        area = self.colour[window]
        area += (np.asarray(colour, np.float32) - area) * weight[window][..., None]

    def multiply(self, mask: Floats, gain: ArrayLike) -> None:
        """Glaze with a transparent colour where the mask is 1."""
        weight = np.asarray(mask, np.float32)
        window = _support(weight)
        self.colour[window] *= 1 + (np.asarray(gain, np.float32) - 1) * weight[window][..., None]

    def blob(self, centre: Sequence[float] | Floats, radius_x: float, radius_y: float | None = None) -> Floats:
        """A soft ellipse, cut off at 5 radii: there it no longer changes a float32 colour."""
        radius_y = radius_y or radius_x
        mask = np.zeros(self.gloss.shape)
        rows, columns = (
            slice(max(0, int(middle - 5 * radius)), max(0, int(middle + 5 * radius) + 2))
            for middle, radius in ((centre[1], radius_y), (centre[0], radius_x))
        )
        x, y = self.x[0, columns], self.y[rows, :1]
        mask[rows, columns] = np.exp(-(((x - centre[0]) / radius_x) ** 2) - ((y - centre[1]) / radius_y) ** 2)
        return mask

    def fill(self, outline: Floats, blur_px: float) -> F32:
        """The inside of a smooth closed curve."""
        mask = np.zeros_like(self.gloss)
        cv2.fillPoly(mask, [fixed_point(spline(outline, 10, True))], (1.0,), cv2.LINE_AA, 4)
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), blur_px), np.float32)

    def line(self, points: Floats, width_px: float, blur_px: float) -> F32:
        """A smooth curve that is thickest in its middle."""
        mask = np.zeros(self.gloss.shape, np.uint8)
        curve = fixed_point(spline(points)).tolist()
        for index, (start, end) in enumerate(pairwise(curve)):
            swell = np.sin(np.pi * (index + 0.5) / len(curve)) ** 0.5
            cv2.line(mask, start, end, (255,), max(1, round(width_px * swell)), cv2.LINE_AA, 4)
        return np.asarray(cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), blur_px), np.float32)

    def strokes(self, starts: Floats, steps: Floats, rng: np.random.Generator) -> F32:
        """Single hairs from `starts` to `starts + steps`, (N, 2) each; half a pixel wide."""
        height, width = self.gloss.shape
        mask = np.zeros((height * 2, width * 2), np.uint8)
        for start, end in zip(fixed_point(starts, 32).tolist(), fixed_point(starts + steps, 32).tolist(), strict=True):
            cv2.line(mask, start, end, (int(rng.integers(120, 255)),), 1, cv2.LINE_AA, 4)
        return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)

    def pixels(self) -> F32:
        """(H, W, 4): colour and gloss."""
        return np.dstack([self.colour, self.gloss])
