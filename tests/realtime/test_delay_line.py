from __future__ import annotations

import numpy as np
import pytest

from realtime.delay_line import FRAME, LEAD_S, WAIT_S, DelayLine
from realtime.sound import SoundBlock

RATE = 48_000
ONE_FRAME_S = FRAME / RATE
FADED_S = 0.02
"""Where sound begins or ends it is faded, and a little of it is held back until what follows is known."""


def block(at_s: float, seconds: float = 0.1, level: float = 0.5, rate: int = RATE) -> SoundBlock:
    return SoundBlock(np.full((round(seconds * rate), 1), level, np.float32), rate, at_s)


def taken(line: DelayLine, picture_s: float, origin_s: float = 0.0) -> int:
    frames = line.take(picture_s, origin_s)
    assert all(frame.shape == (2, FRAME) and frame.dtype == np.float32 for frame in frames)
    return len(frames)


def test_sound_that_is_there_goes_out_with_its_picture_and_a_little_ahead() -> None:
    line = DelayLine()
    for step in range(30):
        line.hear(block(step / 10))
    frames = 0
    for index in range(60):
        frames += taken(line, index / 30)
        assert 0 <= index / 30 + LEAD_S - frames * ONE_FRAME_S < ONE_FRAME_S


def test_sound_that_is_late_is_waited_for_and_not_for_ever() -> None:
    line = DelayLine()
    for step in range(10):
        line.hear(block(step / 10))
    frames = taken(line, 0.9)
    waiting = frames * ONE_FRAME_S
    assert waiting == pytest.approx(0.9 + LEAD_S, abs=ONE_FRAME_S + FADED_S)
    assert taken(line, 1.1) <= 1
    frames += taken(line, 1.1) + taken(line, 1.6)
    assert frames * ONE_FRAME_S >= 1.6 - WAIT_S - 2 * ONE_FRAME_S


def test_without_any_sound_silence_keeps_up_with_the_picture() -> None:
    line, frames = DelayLine(), 0
    for index in range(40):
        frames += taken(line, index / 10)
        assert frames * ONE_FRAME_S > index / 10


def test_sound_lies_where_it_was_heard_counted_from_the_first_picture() -> None:
    line = DelayLine()
    line.hear(block(1000.0 - 0.3, seconds=0.2, level=-0.5))  # before the first picture
    line.hear(block(1000.5, seconds=0.5))
    sound = np.concatenate(line.take(2.0, 1000.0), axis=1)[0]
    assert np.abs(sound[: round(0.49 * RATE)]).max() == 0
    middle = sound[round((0.5 + FADED_S) * RATE) : round((1.0 - FADED_S) * RATE)]
    assert np.abs(middle - 0.5).max() < 0.01
    assert np.abs(sound[round(1.01 * RATE) : round(1.7 * RATE)]).max() == 0


def test_what_nobody_fetches_does_not_pile_up() -> None:
    line = DelayLine()
    for step in range(1000):
        line.hear(block(step / 10))
    assert sum(each.seconds for each in line._waiting) <= 10.01
    assert line._waiting[-1].pts_s == pytest.approx(99.9)
