from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.frame import Face, Frame, ImageU8
from realtime.guard import Guard, OnMiss, State
from realtime.standin import hide, slate
from realtime.swap import Miss, SwapResult
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


@pytest.mark.parametrize("reason", [Miss.NO_SHAPE, Miss.WRONG_PERSON, Miss.UNDECIDED])
def test_marks_know_of_every_face_in_a_raw_picture(reason: Miss) -> None:
    seen = face(40, 30, 60, 48)
    publication = Guard(OnMiss.PASS).publish(SwapResult(raw(), (seen,), False, reason, {}), 0.0)
    assert publication.faces == (seen.box,)


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


def test_live_silence_ends_in_the_card_and_only_a_new_frame_takes_it_down() -> None:
    guard = Guard(OnMiss.HOLD, hold_ms=250, live=True)
    for index in range(20):
        guard.publish(hit(raw(index)), index / 30)
    assert guard.tick(0.24) is None
    publication = guard.tick(0.26)
    assert publication is not None
    assert publication.state is State.SLATE
    assert guard.tick(5.0) is None
    assert guard.publish(miss(raw(20)), 0.7).state is State.SLATE, "what was held before the card does not come back"
    assert guard.publish(hit(raw(21)), 0.8).state is State.LIVE


def test_silence_ends_a_hold_when_the_hold_would_have_ended() -> None:
    guard = Guard(OnMiss.HOLD, hold_ms=250, live=True)
    guard.publish(hit(raw()), 10.0)
    assert guard.publish(miss(raw(1)), 10.2).state is State.HOLD
    assert guard.tick(0.04) is None
    publication = guard.tick(0.06)
    assert publication is not None
    assert publication.state is State.SLATE


def test_a_slow_model_does_not_blink_between_its_frames() -> None:
    guard = Guard(OnMiss.HOLD, hold_ms=100, live=True)
    for index in range(8):
        guard.publish(hit(raw(index)), index / 2)
        assert guard.tick(0.5) is None


def test_silence_before_the_first_swap_shows_nothing() -> None:
    guard = Guard(live=True)
    assert guard.tick(9.0) is None
    guard.publish(miss(raw()), 0.0)
    assert guard.tick(9.0) is None


def test_panic_shows_the_card_at_once_and_until_it_ends() -> None:
    guard = Guard(OnMiss.PASS, live=True)
    guard.publish(hit(raw()), 0.0)
    guard.panic = True
    publication = guard.tick(0.0)
    assert publication is not None
    assert (publication.state, publication.raw) == (State.PANIC, False)
    for each in (guard.publish(hit(raw(1)), 0.1), guard.publish(miss(raw(2)), 0.2), guard.fail(raw(3), 0.3)):
        assert each.state is State.PANIC
        assert each.image is not None
        np.testing.assert_array_equal(each.image, slate(HEIGHT, WIDTH))
    guard.panic = False
    assert guard.publish(hit(raw(4)), 0.4).state is State.LIVE


def test_after_a_panic_the_picture_from_before_it_is_not_held() -> None:
    guard = Guard(OnMiss.HOLD, hold_ms=5000, live=True)
    guard.publish(hit(raw()), 0.0)
    guard.panic = True
    guard.publish(miss(raw(1)), 0.1)
    guard.panic = False
    assert guard.publish(miss(raw(2)), 0.2).state is State.SLATE


@pytest.mark.parametrize("reason", [Miss.NO_FACE, Miss.WRONG_PERSON])
def test_when_the_performer_is_not_in_view_all_of_the_picture_is_blurred(reason: Miss) -> None:
    bystander = face(8, 8, 24, 24)
    publication = Guard(OnMiss.BLUR, live=False).publish(SwapResult(raw(), (bystander,), False, reason), 0.0)
    assert publication.image is not None
    assert detail(publication.image[40:, 60:]) < RECOGNISABLE * detail(portrait()[40:, 60:])


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["hit", "miss", "miss with face", "crash", "odd face", "wrong person", "silence", "panic", "calm", "resize"]
        ),
        st.floats(-0.2, 0.6),  # seconds since the event before
        st.integers(0, 3),  # which raw picture
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([each for each in OnMiss if each is not OnMiss.PASS]), st.booleans(), st.floats(0, 2000), EVENTS)
def test_whatever_happens_no_raw_picture_gets_out(
    on_miss: OnMiss, live: bool, hold_ms: float, events: list[tuple[str, float, int]]
) -> None:
    """Raw pictures are fine red and blue detail without green; swaps are green: each can be told from the other."""
    guard = Guard(on_miss, hold_ms, live=live)
    now_s, last_hit_s, height = 100.0, None, HEIGHT
    for index, (event, step_s, seed) in enumerate(events):
        now_s += step_s
        image = portrait(seed)[:height]
        frame = Frame(image, index, now_s, now_s)
        if event == "resize":
            height = HEIGHT + 10 - height + 70  # 96 and 80 in turn
            continue
        if event in ("panic", "calm"):
            guard.panic = event == "panic"
            continue
        if event == "silence":
            silent = guard.tick(max(step_s, 0.0) * 4)
            if silent is not None:
                assert not silent.raw
                assert silent.image is not None
                np.testing.assert_array_equal(silent.image, slate(*silent.image.shape[:2]))
            continue
        if event == "hit":
            swapped = frame.with_image(plain(SWAPPED, height, WIDTH))
            publication = guard.publish(SwapResult(swapped, (face(*FACE_BOX),), True), now_s)
            last_hit_s = last_hit_s if guard.panic else now_s
        elif event == "crash":
            publication = guard.fail(frame, now_s)
        else:
            boxes = {"miss": (), "odd face": (face(500, 500, 501, 700),)}.get(event, (face(*FACE_BOX),))
            reason = Miss.WRONG_PERSON if event == "wrong person" else Miss.UNCOVERED
            publication = guard.publish(SwapResult(frame, boxes, False, reason), now_s)
        assert not publication.raw
        assert guard.state is publication.state
        assert (publication.state is State.PANIC) is guard.panic
        if publication.image is None:
            assert live
            assert last_hit_s is None
            continue
        assert publication.image.shape == frame.image.shape
        if publication.state is State.BLUR:
            left, top, right, bottom = map(int, FACE_BOX)
            seen, original = publication.image[top:bottom, left:right], frame.image[top:bottom, left:right]
            assert detail(seen) < RECOGNISABLE * detail(original)
        elif publication.state in (State.LIVE, State.HOLD):
            assert (publication.image == SWAPPED).all()
        else:
            np.testing.assert_array_equal(publication.image, slate(*publication.image.shape[:2]))
        if publication.state is State.HOLD:
            assert last_hit_s is not None
            assert 0 <= now_s - last_hit_s <= hold_ms / 1000
