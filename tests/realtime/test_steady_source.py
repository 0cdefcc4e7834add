from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self, cast

import numpy as np
import pytest

from realtime.errors import SourceError, UsageError
from realtime.frame import Frame
from realtime.sound import SoundBlock
from realtime.source import Source, SourceInfo
from realtime.steady_source import GARBAGE_IN_A_ROW, SteadySource
from tests import fakes

PROMPT_S = 0.3
"""Ending a wait of ten seconds takes well under a millisecond; this leaves room for a busy machine."""


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


class Moody:
    """Delivers what it was given: frames, sound, garbage; an exception is raised. Every frame takes 40 ms."""

    def __init__(self, clock: Clock, *items: object, width: int = 64, height: int = 48, frames: int | None = None):
        self._clock, self._items = clock, items
        self.info: SourceInfo = replace(fakes.info(True, frames, width, height), name="moody")
        self.closes = 0
        self.has_sound = any(isinstance(item, SoundBlock) for item in items)
        self._hearers: list[Callable[[SoundBlock], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return _Delivery(iter(self._items), self._clock, self._hearers)

    def listen(self, hear: Callable[[SoundBlock], None]) -> None:
        self._hearers.append(hear)

    def close(self) -> None:
        self.closes += 1


class _Delivery:
    """Not a generator: it goes on after an exception, as drivers do."""

    def __init__(self, items: Iterator[object], clock: Clock, hearers: list[Callable[[SoundBlock], None]]) -> None:
        self._items, self._clock, self._hearers = items, clock, hearers

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        item = next(self._items)
        while isinstance(item, SoundBlock):
            for hear in self._hearers:
                hear(item)
            item = next(self._items)
        if isinstance(item, BaseException):
            raise item
        self._clock.now_s += 0.04
        return cast("Frame", item)  # garbage is what some of them are


def frames(count: int, width: int = 64, height: int = 48, start_s: float = 0.0) -> list[Frame]:
    return [Frame(fakes.plain(fakes.RAW, height, width), index, 0.0, start_s + 0.04 * index) for index in range(count)]


def steady(clock: Clock, *sources: object, give_up_s: float | None = 60) -> SteadySource:
    """A steady source over these, in turn; an exception instead of one fails to open, and so does the end of them."""
    left = iter(sources)

    def opener() -> Source:
        source = next(left, SourceError("nobody is there; look for it"))
        if isinstance(source, BaseException):
            raise source
        assert isinstance(source, Moody)
        return source

    return SteadySource(opener, give_up_s=give_up_s, clock=clock, sleep=clock.sleep)


GONE = SourceError("the cable is out; plug it in")


def test_the_first_opening_fails_at_once() -> None:
    clock = Clock()
    with pytest.raises(SourceError, match="the cable is out"):
        steady(clock, GONE)
    with pytest.raises(UsageError):
        steady(clock, UsageError("no such camera; choose another"))
    assert not clock.slept


def test_index_and_time_grow_over_a_cut_by_as_long_as_it_lasted() -> None:
    clock = Clock()
    source = steady(clock, Moody(clock, *frames(5), GONE), GONE, GONE, Moody(clock, *frames(5, start_s=7.0)))
    came = list(itertools.islice(source, 10))
    assert [frame.index for frame in came] == list(range(10))
    times = [frame.pts_s for frame in came]
    assert times[:5] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert times[5:] == pytest.approx([0.16 + 3.5 + 0.04 * number for number in range(1, 6)])
    assert clock.slept == [0.5, 1, 2]
    assert source.cuts == 1


def test_waits_double_up_to_eight_seconds_and_start_anew_after_a_picture() -> None:
    clock = Clock()
    back, again = Moody(clock, *frames(1), GONE), Moody(clock, *frames(1))
    source = steady(clock, Moody(clock, *frames(1), GONE), *[GONE] * 6, back, again)
    assert len(list(itertools.islice(source, 3))) == 3
    assert clock.slept == [0.5, 1, 2, 4, 8, 8, 8, 0.5]


def test_an_end_in_order_is_a_cut_unless_the_length_was_known() -> None:
    clock = Clock()
    assert len(list(itertools.islice(steady(clock, Moody(clock, *frames(2)), Moody(clock, *frames(2))), 4))) == 4
    assert len(list(steady(clock, Moody(clock, *frames(2), frames=2), Moody(clock, *frames(2))))) == 2


def test_who_stays_away_is_given_up_in_one_sentence() -> None:
    clock = Clock()
    source = steady(clock, Moody(clock, *frames(2), GONE), give_up_s=20)
    came: list[Frame] = []
    began_s = clock()
    with pytest.raises(SourceError, match=r"moody stayed away for 20 s \(nobody is there\); check it") as error:
        came.extend(source)
    assert "\n" not in str(error.value)
    assert clock() - began_s == pytest.approx(20.08)
    assert sum(clock.slept) == pytest.approx(20)


def test_a_source_that_opens_but_shows_nothing_is_given_up_too() -> None:
    clock = Clock()
    source = steady(clock, Moody(clock, *frames(1)), *[Moody(clock) for _ in range(100)], give_up_s=30)
    with pytest.raises(SourceError, match="stayed away for 30 s"):
        list(source)
    assert clock.slept[:6] == [0.5, 1, 2, 4, 8, 8]


def test_without_an_end_it_is_tried_for_ever() -> None:
    clock = Clock()
    source = steady(clock, Moody(clock, *frames(1), GONE), *[GONE] * 500, Moody(clock, *frames(1)), give_up_s=None)
    assert len(list(itertools.islice(source, 2))) == 2
    assert sum(clock.slept) > 3600


def test_pictures_of_another_size_are_fitted_into_the_first() -> None:
    clock = Clock()
    mixed = [*frames(1), *frames(1, 32, 48), *frames(1, 640, 480)]
    source = steady(clock, Moody(clock, *mixed, GONE), Moody(clock, *frames(1, 100, 10), width=100, height=10))
    came = list(itertools.islice(source, 4))
    assert {frame.image.shape for frame in came} == {(48, 64, 3)}
    assert (source.info.width, source.info.height) == (64, 48)
    assert not came[1].image[:, :16].any()
    assert (came[1].image[:, 16:48] == fakes.RAW).all()


def test_garbage_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    good = frames(4)
    empty = replace(good[0])
    object.__setattr__(empty, "image", np.zeros((0, 0, 3), np.uint8))
    floats = replace(good[0])
    object.__setattr__(floats, "image", np.zeros((4, 4, 3), np.float32))
    moody = Moody(clock, good[0], None, good[1], empty, floats, ValueError("torn"), good[2], "text", good[3])
    with caplog.at_level(logging.WARNING):
        came = list(itertools.islice(steady(clock, moody), 4))
    assert [frame.index for frame in came] == [0, 1, 2, 3]
    assert len([line for line in caplog.messages if "broken picture" in line]) == 3
    source = steady(clock, Moody(clock, *frames(1), *[None] * GARBAGE_IN_A_ROW), Moody(clock, *frames(1)))
    assert len(list(itertools.islice(source, 2))) == 2
    assert (source.garbage, source.cuts) == (GARBAGE_IN_A_ROW, 1)


def test_a_mistake_in_the_program_is_not_hidden() -> None:
    clock = Clock()
    with pytest.raises(ZeroDivisionError):
        list(steady(clock, Moody(clock, *frames(1), ZeroDivisionError())))


def test_one_line_tells_of_each_cut_and_one_of_each_return(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    other = Moody(clock, *frames(3, 320, 240), GONE, width=320, height=240)
    source = steady(clock, Moody(clock, *frames(3), GONE), GONE, other, GONE, Moody(clock, *frames(1)))
    with caplog.at_level(logging.INFO):
        list(itertools.islice(source, 7))
    assert caplog.messages == [
        "moody is lost (the cable is out); trying to get it back for 60 s",
        "moody is back after 1.5 s, as 320x240 now",
        "moody is lost (the cable is out); trying to get it back for 60 s",
        "moody is back after 1.5 s",
    ]


def block(pts_s: float) -> SoundBlock:
    return SoundBlock(np.zeros((480, 1), np.float32), 48_000, pts_s)


def test_sound_stays_with_the_pictures_over_a_cut() -> None:
    clock = Clock()
    first, second = frames(2), frames(2, start_s=50.0)
    source = steady(
        clock,
        Moody(clock, first[0], block(0.02), first[1], GONE),
        Moody(clock, block(49.99), second[0], block(50.02), second[1]),
    )
    heard: list[float] = []
    assert source.has_sound
    source.listen(lambda each: heard.append(each.pts_s))
    came = list(itertools.islice(source, 4))
    assert heard[0] == pytest.approx(0.02)
    assert heard[1] - came[2].pts_s == pytest.approx(-0.01)
    assert heard[2] - came[2].pts_s == pytest.approx(0.02)
    assert came[2].pts_s > came[1].pts_s


def test_what_was_opened_is_closed() -> None:
    clock = Clock()
    first, second = Moody(clock, *frames(1), GONE), Moody(clock, *frames(1))
    with steady(clock, first, second) as source:
        list(itertools.islice(source, 2))
        assert first.closes == 1
    assert second.closes == 1
    source.close()


def closed_while(source: SteadySource) -> float:
    """How long the reader goes on after another thread closes the source. Seconds."""
    ended: list[float] = []

    def read() -> None:
        for _ in source:
            pass
        ended.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.1)
    closed_s = time.monotonic()
    source.close()
    reader.join(5)
    assert not reader.is_alive()
    return ended[0] - closed_s


def test_closing_ends_the_waiting_at_once() -> None:
    clock = Clock()
    opened = iter([Moody(clock, *frames(1), GONE)])

    def opener() -> Source:
        source = next(opened, None)
        if source is None:
            raise GONE
        return source

    assert closed_while(SteadySource(opener, first_wait_s=10.0)) < PROMPT_S


def test_a_source_that_opens_after_the_end_is_closed_again() -> None:
    clock = Clock()
    late = Moody(clock, *frames(1))
    opened = iter([Moody(clock, *frames(1), GONE), late])

    def opener() -> Source:
        source = next(opened)
        if source is late:
            time.sleep(0.4)
        return source

    closed_while(SteadySource(opener, first_wait_s=0.01))
    assert late.closes >= 1
