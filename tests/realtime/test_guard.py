from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.frame import Face, Frame, ImageU8
from realtime.guard import Guard, OnMiss, State
from realtime.standin import hide, slate
from realtime.swap import SwapResult
from tests.fakes import SWAPPED, face, plain

RECOGNISABLE = 0.15
"""Of the raw picture's fine contrast, which is what a face is recognised by; pixelated ones keep less than a tenth."""

HEIGHT, WIDTH = 96, 128
FACE_BOX = (44.0, 30.0, 84.0, 70.0)


def portrait(seed: int = 0) -> ImageU8:
    """A raw picture: detail everywhere, in red and blue only; a swap is green."""
    image = np.random.default_rng(seed).integers(0, 2, (HEIGHT, WIDTH, 3), np.uint8) * 255
    image[..., 1] = 0
    return image.astype(np.uint8)


def raw(index: int = 0, seed: int = 0) -> Frame:
    return Frame(portrait(seed), index, float(index), index / 30)


def miss(frame: Frame, faces: tuple[Face, ...] = ()) -> SwapResult:
    return SwapResult(frame, faces, False, "no face")


def hit(frame: Frame, faces: tuple[Face, ...] = ()) -> SwapResult:
    return SwapResult(frame.with_image(plain(SWAPPED, HEIGHT, WIDTH)), faces, True)


def detail(image: ImageU8) -> float:
    """Fine contrast of a picture: what a face is recognised by."""
    return float(np.abs(np.diff(image.astype(np.float64), axis=1)).mean())


def test_live_nothing_is_published_before_the_first_swap() -> None:
    guard = Guard(live=True)
    for index in range(3):
        publication = guard.publish(miss(raw(index)), index / 30)
        assert publication.image is None
        assert publication.state is State.ARMED
    assert guard.publish(hit(raw(3)), 0.1).state is State.LIVE


@pytest.mark.parametrize("on_miss", [OnMiss.HOLD, OnMiss.SLATE])
def test_a_file_shows_the_slate_before_the_first_swap(on_miss: OnMiss) -> None:
    publication = Guard(on_miss, live=False).publish(miss(raw()), 0.0)
    assert publication.state is State.ARMED
    assert publication.image is not None
    np.testing.assert_array_equal(publication.image, slate(HEIGHT, WIDTH))


def test_a_swapped_frame_goes_out_as_it_is() -> None:
    result = hit(raw(), (face(*FACE_BOX),))
    publication = Guard().publish(result, 0.0)
    assert publication.image is result.frame.image
    assert (publication.state, publication.raw, publication.faces) == (State.LIVE, False, (FACE_BOX,))


def test_the_last_swap_is_held_for_hold_ms_and_not_longer() -> None:
    guard = Guard(OnMiss.HOLD, hold_ms=250, live=True)
    swapped = guard.publish(hit(raw()), 10.0).image
    assert guard.publish(miss(raw(1)), 10.2).image is swapped
    assert guard.publish(miss(raw(2)), 10.25).state is State.HOLD
    assert guard.publish(miss(raw(3)), 10.251).state is State.SLATE
    assert guard.publish(hit(raw(4)), 10.4).state is State.LIVE


def test_time_that_runs_backwards_ends_the_hold() -> None:
    guard = Guard(OnMiss.HOLD, live=False)
    guard.publish(hit(raw()), 10.0)
    assert guard.publish(miss(raw(1)), 9.9).state is State.SLATE


def test_a_picture_of_another_size_ends_the_hold() -> None:
    guard = Guard(OnMiss.HOLD, live=False)
    guard.publish(hit(raw()), 0.0)
    small = Frame(plain(height=20, width=20), 1, 0.0, 0.03)
    publication = guard.publish(miss(small), 0.03)
    assert publication.state is State.SLATE
    assert publication.image is not None
    assert publication.image.shape == small.image.shape


def test_a_crash_is_treated_like_a_miss_whose_faces_are_unknown() -> None:
    guard = Guard(OnMiss.BLUR, live=False)
    publication = guard.fail(raw(), 0.0)
    assert publication.state is State.BLUR
    assert publication.image is not None
    assert detail(publication.image) < RECOGNISABLE * detail(portrait())


def test_only_pass_lets_the_raw_picture_out_and_says_so() -> None:
    for on_miss, live in itertools.product(OnMiss, (True, False)):
        frame = raw()
        publication = Guard(on_miss, live=live).publish(miss(frame), 0.0)
        assert publication.raw is (on_miss is OnMiss.PASS)
        assert (publication.image is frame.image) is (on_miss is OnMiss.PASS)


def test_blurring_hides_the_head_and_spares_the_rest() -> None:
    image = portrait()
    hidden = hide(image, [FACE_BOX])
    head = (slice(12, 84), slice(30, 98))
    assert detail(hidden[head]) < RECOGNISABLE * detail(image[head])
    np.testing.assert_array_equal(hidden[:, :20], image[:, :20])
    np.testing.assert_array_equal(hidden[:, 110:], image[:, 110:])


def stripes(period_px: int, size: int = 240) -> ImageU8:
    """Black and white, as wide as the parts of a face."""
    bright = np.arange(size) // (period_px // 2) % 2
    return np.repeat((255 * bright)[None, :, None], size, axis=0).repeat(3, axis=2).astype(np.uint8)


def test_parts_of_a_face_vanish_however_large_it_is() -> None:
    face_px = 120
    box = (60.0, 60.0, 60.0 + face_px, 60.0 + face_px)
    inside = hide(stripes(face_px // 6), [box])[60:180, 60:180].astype(int)
    assert inside.max() - inside.min() < RECOGNISABLE * 255
    close_up = hide(stripes(240 // 15), []).astype(int)
    assert close_up.max() - close_up.min() < 2 * RECOGNISABLE * 255


@pytest.mark.parametrize(
    "box",
    [
        (float("nan"), 0.0, 10.0, 10.0),
        (10.0, 10.0, 10.0, 40.0),
        (10.0, 10.0, 10.5, 40.0),
        (-900.0, -900.0, -800.0, -800.0),
        (0.0, 0.0, float("inf"), 9.0),
    ],
)
def test_a_face_that_is_nowhere_in_the_picture_hides_all_of_it(box: tuple[float, float, float, float]) -> None:
    assert detail(hide(portrait(), [FACE_BOX, box])) < RECOGNISABLE * detail(portrait())


def test_the_slate_fits_any_size() -> None:
    for height, width in ((1, 1), (16, 16), (240, 320), (1920, 1080)):
        assert slate(height, width).shape == (height, width, 3)


@pytest.mark.parametrize("hold_ms", [-1.0, float("nan"), float("inf"), 10_001.0])
def test_a_senseless_hold_time_is_refused(hold_ms: float) -> None:
    with pytest.raises(ValueError, match="hold_ms"):
        Guard(hold_ms=hold_ms)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["hit", "miss", "miss with face", "crash", "odd face"]),
        st.floats(-0.2, 0.6),  # seconds since the event before
        st.integers(0, 3),  # which raw picture
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from([each for each in OnMiss if each is not OnMiss.PASS]), st.booleans(), st.floats(0, 2000), EVENTS)
def test_whatever_happens_no_raw_picture_gets_out(
    on_miss: OnMiss, live: bool, hold_ms: float, events: list[tuple[str, float, int]]
) -> None:
    """Raw pictures are fine red and blue detail without green; swaps are green: each can be told from the other."""
    guard = Guard(on_miss, hold_ms, live=live)
    now_s, last_hit_s = 100.0, None
    for index, (event, step_s, seed) in enumerate(events):
        now_s += step_s
        frame = raw(index, seed)
        if event == "hit":
            publication, last_hit_s = guard.publish(hit(frame, (face(*FACE_BOX),)), now_s), now_s
        elif event == "crash":
            publication = guard.fail(frame, now_s)
        else:
            boxes = {"miss": (), "miss with face": (face(*FACE_BOX),), "odd face": (face(500, 500, 501, 700),)}
            publication = guard.publish(miss(frame, boxes[event]), now_s)
        assert not publication.raw
        assert guard.state is publication.state
        image = publication.image
        if image is None:
            assert live
            assert last_hit_s is None
            continue
        assert image.shape == frame.image.shape
        if publication.state is State.BLUR:
            left, top, right, bottom = map(int, FACE_BOX)
            seen, original = image[top:bottom, left:right], frame.image[top:bottom, left:right]
            assert detail(seen) < RECOGNISABLE * detail(original)
        elif publication.state in (State.LIVE, State.HOLD):
            assert (image == SWAPPED).all()
        else:
            np.testing.assert_array_equal(image, slate(HEIGHT, WIDTH))
        if publication.state is State.HOLD:
            assert last_hit_s is not None
            assert 0 <= now_s - last_hit_s <= hold_ms / 1000
