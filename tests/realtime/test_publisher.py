from __future__ import annotations

import time

import numpy as np
import pytest

from realtime.badge import Badge
from realtime.errors import LiveswapError, ModelError, SourceError
from realtime.frame import Frame
from realtime.guard import Guard, OnMiss
from realtime.publisher import Publisher
from realtime.standin import slate
from realtime.swap import Miss, SwapResult
from realtime.swapping import MAX_FAILURES, Attempt, Swapper, Swapping
from tests.fakes import RAW, SWAPPED, FakeSwapper, frame, plain


class Chain:
    """Swapping and Publisher in a row, as a plain loop has them."""

    def __init__(self, swapper: Swapper, guard: Guard, badge: Badge | None, *, live: bool) -> None:
        self.swapping, self.publisher = Swapping(swapper), Publisher(guard, badge, live=live)

    def publish(self, frame: Frame) -> Frame | None:
        return self.publisher.publish(self.swapping.attempt(frame))


def test_it_works_in_a_plain_loop_without_any_thread() -> None:
    swapper = FakeSwapper(misses=frozenset({2}), failing=frozenset({3}))
    chain = Chain(swapper, Guard(live=False), None, live=False)
    shown = [chain.publish(frame(index)) for index in range(6)]
    assert [each.index for each in shown if each is not None] == list(range(6))
    assert all((each.image == SWAPPED).all() for each in shown if each is not None)
    assert chain.publisher.states == {"live": 4, "hold": 2}
    assert (chain.publisher.frames, chain.publisher.failed, chain.publisher.raw) == (6, 1, 0)


def test_live_there_is_nothing_to_show_before_the_first_swap() -> None:
    chain = Chain(FakeSwapper(misses=frozenset({0})), Guard(live=True), Badge(), live=True)
    assert chain.publish(frame(0)) is None
    assert chain.publish(frame(1)) is not None


def test_the_guard_is_told_the_time_of_capture_when_live_and_of_the_film_otherwise() -> None:
    swapper = FakeSwapper(misses=frozenset({1}))
    for live, state in ((True, "slate"), (False, "hold")):
        chain = Chain(swapper, Guard(OnMiss.HOLD, hold_ms=100, live=live), None, live=live)
        chain.publish(Frame(frame().image, 0, captured_s=10.0, pts_s=0.0))
        chain.publish(Frame(frame().image, 1, captured_s=10.2, pts_s=0.03))
        assert chain.publisher.state == state


def test_the_picture_keeps_the_index_and_the_times_of_its_frame() -> None:
    chain = Chain(FakeSwapper(), Guard(live=False), Badge(), live=False)
    before = frame(7)
    after = chain.publish(before)
    assert after is not None
    assert (after.index, after.captured_s, after.pts_s) == (before.index, before.captured_s, before.pts_s)
    assert not (after.image == SWAPPED).all(), "it carries the badge"
    assert (before.image == RAW).all(), "what came in is untouched"


def test_failures_in_a_row_end_in_the_first_cause() -> None:
    class Broken(FakeSwapper):
        def swap(self, frame: Frame) -> SwapResult:
            raise ModelError("the engine is gone; start again")

    chain = Chain(Broken(), Guard(live=False), None, live=False)
    for index in range(MAX_FAILURES - 1):
        chain.publish(frame(index))
    with pytest.raises(ModelError, match="the engine is gone"):
        chain.publish(frame(MAX_FAILURES))


def test_failures_now_and_then_never_end_the_run() -> None:
    swapper = FakeSwapper(failing=frozenset(index for index in range(300) if index % MAX_FAILURES))
    chain = Chain(swapper, Guard(live=False), None, live=False)
    for index in range(300):
        chain.publish(frame(index))
    assert chain.publisher.failed == 290


def test_nothing_swapped_is_no_result_but_no_frames_are_no_error() -> None:
    chain = Chain(FakeSwapper(misses=frozenset({0})), Guard(live=False), None, live=False)
    chain.publisher.check_result()
    chain.publish(frame(0))
    with pytest.raises(SourceError, match="no face was found"):
        chain.publisher.check_result()
    chain.publish(frame(1))
    chain.publisher.check_result()


class Missing(FakeSwapper):
    """Swaps nothing, for the reasons it was told, one for each frame."""

    def __init__(self, *reasons: str) -> None:
        super().__init__()
        self.reasons = reasons

    def swap(self, frame: Frame) -> SwapResult:
        return SwapResult(frame, (), False, self.reasons[frame.index])


@pytest.mark.parametrize(
    ("reasons", "kind", "sentence"),
    [
        ([Miss.NO_FACE] * 3, SourceError, "no face was found in any of 3 frames; choose a video that shows a face"),
        ([Miss.NO_FACE] * 2 + [Miss.OUTSIDE], SourceError, "no face was found in 2 of 3 frames; choose"),
        ([Miss.NOT_FINITE] * 3, ModelError, "the model's answer was not finite in 3 of 3 frames; try another model"),
        ([Miss.NO_FACE] + [Miss.UNCOVERED] * 2, ModelError, "the mask did not cover the face in 2 of 3 frames; try"),
        ([Miss.NO_SHAPE] * 3, SourceError, "the landmarks made no face in 3 of 3 frames; choose"),
        ([Miss.OUTSIDE] * 3, SourceError, "the face lay outside the picture in 3 of 3 frames; choose"),
    ],
)
def test_when_nothing_was_swapped_the_error_names_the_most_frequent_reason(
    reasons: list[Miss], kind: type[LiveswapError], sentence: str
) -> None:
    chain = Chain(Missing(*reasons), Guard(live=False), None, live=False)
    for index in range(len(reasons)):
        chain.publish(frame(index))
    with pytest.raises(kind) as error:
        chain.publisher.check_result()
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("failing", "sentence"), [(3, "the swap failed on 3 of 4 frames"), (1, "no face was found in 3")]
)
def test_failures_count_among_the_reasons(failing: int, sentence: str) -> None:
    swapper = FakeSwapper(misses=frozenset(range(4)), failing=frozenset(range(failing)))
    chain = Chain(swapper, Guard(live=False), None, live=False)
    for index in range(4):
        chain.publish(frame(index))
    with pytest.raises(LiveswapError, match=sentence):
        chain.publisher.check_result()


def test_silence_puts_the_card_up_once_and_a_swap_takes_it_down() -> None:
    publisher = Publisher(Guard(OnMiss.HOLD, hold_ms=0, live=True), None, live=True)
    assert publisher.tick() is None, "nothing is shown before the first swap"
    before = frame(0)
    swapped = before.with_image(plain(SWAPPED))
    publisher.publish(Attempt(before, SwapResult(swapped, (), True)))
    time.sleep(0.55)
    card = publisher.tick()
    assert card is not None
    np.testing.assert_array_equal(card.image, slate(*before.image.shape[:2]))
    assert card.captured_s > before.captured_s
    assert publisher.tick() is None, "the card is up already"
    after = frame(1)
    shown = publisher.publish(Attempt(after, SwapResult(after.with_image(plain(SWAPPED)), (), True)))
    assert shown is not None
    assert publisher.states == {"live": 2, "slate": 1}


def test_a_frame_that_is_too_old_is_counted_and_never_shown() -> None:
    publisher = Publisher(Guard(live=True), None, live=True)
    old = frame(0)
    assert publisher.refuse(Attempt(old, SwapResult(old.with_image(plain(SWAPPED)), (), True))) is None
    assert (publisher.late, publisher.frames) == (1, 0)
