from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.stream_time import HOPELESS_S, SETTLED_S, SHOWN_EVERY_S, Pacer, Punctuality, StreamTime

STEP_S = 0.04


class Line:
    """A connection in which pictures wait: what was due before the reader comes is there at once."""

    def __init__(self, delays_s: list[float], decode_s: float = 0.001) -> None:
        """`delays_s`: how long after its moment each picture arrives; never before the one ahead of it."""
        self.decode_s = decode_s
        moments = (number * STEP_S + delay_s for number, delay_s in enumerate(delays_s))
        self.arrivals_s = list(itertools.accumulate(moments, max))

    def shown(self, judge: Punctuality, away: dict[int, float] | None = None) -> list[tuple[int, float]]:
        """Number and lateness of each picture that is shown. `away`: after which picture the reader rests how long."""
        now_s, shown = 0.0, []
        for number, arrives_s in enumerate(self.arrivals_s):
            waited_s = max(arrives_s - now_s, 0.0)
            now_s = max(now_s, arrives_s) + self.decode_s
            if judge.judge(number * STEP_S, now_s, waited_s).show:
                shown.append((number, now_s - number * STEP_S))
                now_s += (away or {}).get(number, 0.0)
        return shown


def numbers(shown: list[tuple[int, float]]) -> list[int]:
    return [number for number, _ in shown]


def test_a_stream_in_time_is_shown_whole() -> None:
    assert numbers(Line([0.1] * 100).shown(Punctuality(STEP_S))) == list(range(100))


def test_pictures_that_come_in_pairs_are_all_shown() -> None:
    delays = [STEP_S if number % 2 == 0 else 0.0 for number in range(100)]
    shown = numbers(Line(delays).shown(Punctuality(STEP_S)))
    missing = set(range(100)) - set(shown)
    assert max(missing, default=0) <= 1 + SETTLED_S / STEP_S, "only until it is known what is usual"


def test_what_a_server_kept_is_skipped_until_the_live_edge() -> None:
    delays = [max(2.0 - number * STEP_S, 0.05) for number in range(100)]
    shown = Line(delays).shown(Punctuality(STEP_S))
    old = [number for number, late_s in shown if late_s > 0.1]
    assert old == [0], "only the one that was waited for"
    assert numbers(shown)[-40:] == list(range(60, 100))


def test_after_a_halt_of_the_network_the_newest_is_shown() -> None:
    delays = [0.05] * 50 + [max(1.0 - number * STEP_S, 0.05) for number in range(50)]
    shown = Line(delays).shown(Punctuality(STEP_S))
    old = [number for number, late_s in shown if late_s > 0.15]
    assert old == [50], "only the one that was waited for"
    assert numbers(shown)[-20:] == list(range(80, 100))


def test_a_reader_who_was_away_comes_back_to_the_newest() -> None:
    shown = Line([0.05] * 100).shown(Punctuality(STEP_S), away={49: 1.0})
    after = [(number, late_s) for number, late_s in shown if number > 49]
    assert after[0][0] >= 49 + 1.0 / STEP_S - 3
    assert all(late_s < 0.2 for _, late_s in after)


def test_a_longer_way_becomes_usual() -> None:
    shown = numbers(Line([0.05] * 50 + [0.8] * 100).shown(Punctuality(STEP_S)))
    assert shown[-60:] == list(range(90, 150))


def test_who_decodes_too_slowly_still_shows_something() -> None:
    judge, now_s, shown = Punctuality(STEP_S), 0.0, []
    hopeless = 0
    for number in range(200):
        waited_s = max(number * STEP_S - now_s, 0.0)
        now_s = max(now_s, number * STEP_S) + 2 * STEP_S
        verdict = judge.judge(number * STEP_S, now_s, waited_s)
        hopeless += verdict.hopeless
        if verdict.show:
            shown.append(now_s)
    assert max(later - earlier for earlier, later in itertools.pairwise(shown)) <= SHOWN_EVERY_S + 4 * STEP_S
    assert hopeless == pytest.approx(200 - HOPELESS_S / STEP_S, abs=5)


def test_a_stream_in_pieces_is_spread() -> None:
    pacer, now_s = Pacer(), 10.0
    shown: list[float] = []
    for number in range(200):
        waited_s = max(0.0, 10.0 + number // 50 * 2.0 - now_s)  # 2 s of pictures at once
        now_s += waited_s
        verdict = pacer.judge(number * STEP_S, now_s, waited_s)
        now_s += verdict.wait_s
        shown.append(now_s)
    assert [later - earlier for earlier, later in itertools.pairwise(shown)] == pytest.approx([STEP_S] * 199)


def test_a_piece_that_comes_too_late_is_shown_later_from_then_on() -> None:
    pacer = Pacer()
    assert pacer.judge(0.0, 10.0, 1.0).wait_s == 0
    assert pacer.judge(1.0, 14.0, 3.0).show
    assert pacer.judge(1.04, 14.0, 0.0).wait_s == pytest.approx(0.04)
    assert not pacer.judge(1.08, 15.0, 0.0).show, "0.9 s late without having been waited for"


def test_times_count_from_the_first_picture() -> None:
    time = StreamTime(STEP_S)
    assert [time.place(1000 + STEP_S * number, STEP_S * number) for number in range(3)] == pytest.approx(
        [0, 0.04, 0.08]
    )
    assert time.place_sound(1000.05) == pytest.approx(0.05)


def test_pictures_without_times_follow_each_other() -> None:
    time = StreamTime(STEP_S)
    assert time.place(None, 0.0) == 0
    assert time.place_sound(5.0) is None
    assert time.place(7.0, 0.04) == pytest.approx(0.04)
    assert time.place(None, 0.08) == pytest.approx(0.08)
    assert time.place(7.08, 0.12) == pytest.approx(0.12)


@pytest.mark.parametrize("raw_s", [0.0, 50_000.0, 92.0])
def test_a_sender_that_starts_anew_does_not_move_the_time(raw_s: float) -> None:
    time = StreamTime(STEP_S)
    for number in range(3):
        time.place(100 + STEP_S * number, STEP_S * number)
    assert time.place(raw_s, 2.08) == pytest.approx(2.08)
    assert time.place(raw_s + STEP_S, 2.12) == pytest.approx(2.12)
    assert time.place_sound(102.0) is None or raw_s == 92.0
    assert time.place_sound(raw_s) == pytest.approx(2.08)


@given(st.lists(st.tuples(st.none() | st.floats(-1e6, 1e6), st.floats(0, 100)), min_size=2))
def test_times_always_grow(steps: list[tuple[float | None, float]]) -> None:
    time, now_s, last_s = StreamTime(STEP_S), 0.0, -1.0
    for raw_s, passed_s in steps:
        now_s += passed_s
        pts_s = time.place(raw_s, now_s)
        assert pts_s > last_s
        last_s = pts_s
