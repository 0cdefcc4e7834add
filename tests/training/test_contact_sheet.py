"""Contact sheets from pictures of one colour."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny_faceset import picture
from training.contact_sheet import draw_contact_sheet, pick_evenly


def test_sheet_tiles_stand_in_rows_in_order() -> None:
    colours = [np.full((20, 20, 3), level, np.uint8) for level in (40, 120, 200)]
    sheet = draw_contact_sheet(colours, ["", "", ""], columns=2, tile_px=50)
    assert sheet.shape == (100, 100, 3)
    assert [int(sheet[y, x, 0]) for y, x in ((10, 10), (10, 60), (60, 10), (60, 60))] == [40, 120, 200, 32]


def test_a_sheet_needs_pictures_and_a_caption_for_each() -> None:
    with pytest.raises(ValueError, match="captions"):
        draw_contact_sheet([], [])
    with pytest.raises(ValueError, match="captions"):
        draw_contact_sheet([picture(0)], [])


def test_faces_for_the_sheet_are_spread_over_time() -> None:
    assert pick_evenly(3, 64) == [0, 1, 2]
    assert pick_evenly(101, 5) == [0, 25, 50, 75, 100]
    assert pick_evenly(9, 1) == [0]
    assert pick_evenly(0, 5) == []
