from __future__ import annotations

import numpy as np
import pytest

from realtime.letterbox import even, letterbox


def test_a_picture_that_fits_stays_itself() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    assert letterbox(image, 64, 48) is image
    assert even(image) is image


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (48, 128, slice(12, 36), slice(0, 64)),
        (96, 64, slice(0, 48), slice(16, 48)),
        (12, 16, slice(0, 48), slice(0, 64)),
    ],
)
def test_all_of_a_picture_is_shown_with_its_proportions(height: int, width: int, rows: slice, columns: slice) -> None:
    seen = letterbox(np.full((height, width, 3), 200, np.uint8), 64, 48)
    wanted = np.zeros((48, 64, 3), np.uint8)
    wanted[rows, columns] = 200
    assert (seen == wanted).all()


def test_a_thread_thin_picture_still_has_a_pixel() -> None:
    assert (letterbox(np.full((1, 2000, 3), 9, np.uint8), 64, 48) > 0).any()


@pytest.mark.parametrize(("height", "width", "wanted"), [(49, 65, (50, 66)), (49, 64, (50, 64)), (48, 65, (48, 66))])
def test_odd_sides_get_their_last_line_twice(height: int, width: int, wanted: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    seen = even(image)
    assert seen.shape[:2] == wanted
    assert (seen[:height, :width] == image).all()
    assert (seen[-1, :width] == image[-1]).all()
    assert (seen[:height, -1] == image[:, -1]).all()
