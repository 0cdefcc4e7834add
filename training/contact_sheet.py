"""Draws many small pictures as one. Pictures and captions in, one picture out."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from realtime.frame import ImageU8


def pick_evenly(count: int, most: int) -> list[int]:
    """Up to `most` indices below `count`, in order, spread evenly from the first to the last."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)] if most > 1 else [0]


def draw_contact_sheet(
    pictures: Sequence[ImageU8], captions: Sequence[str], *, columns: int = 8, tile_px: int = 160
) -> ImageU8:
    """One picture with all `pictures` as square tiles in rows, each with its caption along the lower edge.

    Pictures are (S, S, 3) BGR of any size S; the result is (rows * tile_px, columns * tile_px, 3), dark grey where
    there are fewer pictures than places. Raises ValueError when there is none, or not one caption for each.
    """
    if not pictures or len(pictures) != len(captions):
        raise ValueError(f"expected as many captions as pictures, got {len(captions)} for {len(pictures)}")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * tile_px, columns * tile_px, 3), 32, np.uint8)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        top, left = i // columns * tile_px, i % columns * tile_px
        tile = sheet[top : top + tile_px, left : left + tile_px]
        smaller = picture.shape[0] > tile_px
        tile[:] = cv2.resize(picture, (tile_px, tile_px), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        _caption(tile, caption)
    return sheet


def _caption(tile: ImageU8, text: str) -> None:
    band = max(10, tile.shape[0] // 10)
    tile[-band:] //= 3  # dark enough for white letters on any skin
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(band / 26, (tile.shape[1] - 6) / max(width, 1))
    place = (3, tile.shape[0] - band // 4)
    cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
