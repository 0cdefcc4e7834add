from __future__ import annotations

import time

import pytest

from realtime.pace import AHEAD_S, Pace, PacedSource
from tests.fakes import FakeSource


class Clock:
    """Time that passes only when somebody waits or works."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def read(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def test_pictures_come_at_their_times() -> None:
    clock = Clock()
    pace, moments = Pace(clock.read, clock.sleep), list[float]()
    for pts_s in (5.0, 5.1, 5.3, 5.35):
        pace.wait(pts_s)
        moments.append(clock.now_s)
        clock.now_s += 0.02  # work
    assert moments == pytest.approx([100, 100.1, 100.3, 100.35])


def test_a_little_delay_is_made_up_for_and_a_long_one_is_not() -> None:
    clock = Clock()
    pace = Pace(clock.read, clock.sleep)
    pace.wait(0.0)
    clock.now_s += 0.2
    pace.wait(0.1)
    pace.wait(0.3)
    assert clock.now_s == pytest.approx(100.3)
    clock.now_s += 10
    pace.wait(0.4)
    pace.wait(0.5)
    assert clock.now_s == pytest.approx(110.4)


def test_a_jump_backwards_or_far_ahead_starts_anew() -> None:
    clock = Clock()
    pace = Pace(clock.read, clock.sleep)
    for pts_s in (50.0, 0.0, 0.1, 500.0, 500.1):
        pace.wait(pts_s)
    assert clock.slept == pytest.approx([0.1, AHEAD_S, 0.1])


def test_a_paced_file_runs_like_a_camera() -> None:
    source = FakeSource(count=4)
    clock = Clock()
    with PacedSource(source, Pace(clock.read, clock.sleep)) as paced:
        assert paced.info.live
        assert not source.info.live
        before_s = time.monotonic()
        frames = list(paced)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.pts_s for frame in frames] == pytest.approx([index / 30 for index in range(4)])
    assert clock.slept == pytest.approx([1 / 30] * 3)
    assert all(before_s <= frame.captured_s <= time.monotonic() for frame in frames)
    assert source.closes == 1
