from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.badge import Badge, badge_box, stamp
from realtime.mark_text import mark_text
from tests.fakes import face, plain

Box = tuple[float, float, float, float]

LEGIBLE = 90
"""Levels between letters and plate: far above what compression does to a picture."""

SIZES = [(240, 320), (480, 640), (720, 1280), (1080, 1920), (1920, 1080)]


def changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what differs."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("grey", [0, 12, 128, 250, 255])
def test_the_mark_is_visible_on_dark_and_bright(height: int, width: int, grey: int) -> None:
    image = plain((grey,) * 3, height, width)
    left, top, right, bottom = badge_box(height, width)
    mark = stamp(image)[top:bottom, left:right].astype(int)
    assert mark.max() - mark.min() >= LEGIBLE
    assert mark.max() > 250
    assert 20 <= bottom - top <= 0.1 * min(height, width)


def test_the_mark_changes_nothing_outside_its_box_and_not_the_picture_it_was_given() -> None:
    image = plain((90, 120, 150), 480, 640)
    stamped = stamp(image)
    assert (image == (90, 120, 150)).all()
    left, top, right, bottom = badge_box(480, 640)
    box = changed(image, stamped)
    assert box[0] >= left
    assert box[1] >= top
    assert box[2] <= right
    assert box[3] <= bottom


def test_a_face_in_the_corner_sends_the_mark_to_another_one_where_it_stays() -> None:
    badge = Badge()
    image = plain((0, 0, 0), 480, 640)
    in_the_corner = (500.0, 330.0, 640.0, 480.0)
    first = changed(image, badge.stamp(image))
    moved = changed(image, badge.stamp(image, [in_the_corner]))
    stayed = changed(image, badge.stamp(image))
    assert first != moved
    assert moved == stayed


def test_faces_may_be_given_as_faces() -> None:
    assert badge_box(480, 640, [face(500, 330, 640, 480)]) == badge_box(480, 640, [(500.0, 330.0, 640.0, 480.0)])


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(SIZES),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4).filter(lambda box: box[0] < box[2] and box[1] < box[3]), max_size=3),
)
def test_the_mark_covers_no_face_as_long_as_a_corner_is_free(size: tuple[int, int], shares: list[Box]) -> None:
    height, width = size
    faces = [(x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in shares]
    corners = {badge_box(height, width, [(0, 0, width, height / 2), (0, 0, width / 2, height)])}
    corners |= {badge_box(height, width, [(0, 0, width, height / 2), (width / 2, 0, width, height)])}
    corners |= {badge_box(height, width, [(0, height / 2, width, height), (0, 0, width / 2, height)])}
    corners |= {badge_box(height, width, [(0, height / 2, width, height), (width / 2, 0, width, height)])}
    assert len(corners) == 4

    def room(mark: tuple[int, int, int, int], one: Box) -> bool:
        gap = mark[3] - mark[1]
        return one[2] < mark[0] - gap or one[0] > mark[2] + gap or one[3] < mark[1] - gap or one[1] > mark[3] + gap

    mark = badge_box(height, width, faces)
    if any(all(room(corner, one) for one in faces) for corner in corners):
        assert all(one[2] <= mark[0] or one[0] >= mark[2] or one[3] <= mark[1] or one[1] >= mark[3] for one in faces)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 200), (200, 8), (20, 30)])
def test_even_the_smallest_picture_can_be_stamped(height: int, width: int) -> None:
    assert stamp(plain((50, 50, 50), height, width), [(0, 0, width, height)]).shape == (height, width, 3)


def test_the_size_may_change_between_pictures() -> None:
    badge = Badge()
    for height, width in (*SIZES, SIZES[0]):
        image = plain((0, 0, 0), height, width)
        assert (badge.stamp(image) == stamp(image)).all()


@pytest.mark.parametrize(
    ("system", "text"),
    [
        ("de_DE.UTF-8", "KI"),
        ("fr", "IA"),
        ("zh_TW.UTF-8", "AI生成"),
        ("German_Germany.1252", "KI"),
        ("Chinese (Simplified)_China.936", "AI生成"),
        ("Portuguese_Brazil.1252", "IA"),
        ("C.UTF-8", "AI"),
        ("sv_SE", "AI"),
    ],
)
def test_the_mark_speaks_the_language_of_the_system(monkeypatch: pytest.MonkeyPatch, system: str, text: str) -> None:
    monkeypatch.setenv("LC_ALL", system)
    assert mark_text("auto") == text
