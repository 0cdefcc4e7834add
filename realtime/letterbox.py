"""Fits a picture into a size that is fixed. A picture in, the whole of it between black bars out."""

from __future__ import annotations

import cv2
import numpy as np

from realtime.frame import ImageU8


def letterbox(image: ImageU8, width: int, height: int) -> ImageU8:
    """(height, width, 3) with all of `image`, its proportions kept; `image` itself when it has that size."""
    rows, columns = image.shape[:2]
    if (columns, rows) == (width, height):
        return image
    scale = min(width / columns, height / rows)
    inner_width, inner_height = max(round(columns * scale), 1), max(round(rows * scale), 1)
    fitted = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    fitted[top : top + inner_height, left : left + inner_width] = cv2.resize(
        image, (inner_width, inner_height), interpolation=interpolation
    )
    return fitted


def even(image: ImageU8) -> ImageU8:
    """`image` with its last column and row repeated where its sides are odd: half-size colour needs even ones."""
    rows, columns = image.shape[:2]
    if rows % 2 == columns % 2 == 0:
        return image
    return np.asarray(cv2.copyMakeBorder(image, 0, rows % 2, 0, columns % 2, cv2.BORDER_REPLICATE), np.uint8)
