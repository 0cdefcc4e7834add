"""A forecast says what comes; the plateau rule stops seldom too early and not for ever too late."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from training.plateau import FEWEST, LEAST_GAIN, PATIENCE, Clock, Look, Outlook, Plateau, forecast

SEEDS = 20
LOOKS, EVERY_S = 160, 60.0
HORIZON_S = 600.0
NOISE = 0.002
"""Standard deviation of a look around its curve; on rendered people looks scatter by 0.002 to 0.003."""
SHARED = 0.6
"""Correlation of the noise of two looks in a row: averaged weights with decay 0.999, a look every 500 steps."""
FALSE_STOPS = 2
"""Of SEEDS runs that still gain twice `LEAST_GAIN` a doubling, so many may be stopped; 1 was."""
LATE_STOPS = 4
"""Of SEEDS runs that gain nothing any more, so many may still be running after 160 looks; none was."""
CLOSE = 1.35
"""A forecast from noiseless looks on a power law may be off by this factor."""

Curve = Callable[[float], float]


def looks(curve: Curve, noise: float = 0.0, seed: int = 0, count: int = LOOKS) -> list[Look]:
    """A history whose scores follow `curve` of the time in seconds, with noise that neighbours share."""
    rng, error, history = np.random.default_rng(seed), 0.0, list[Look]()
    for number in range(1, count + 1):
        error = SHARED * error + math.sqrt(1 - SHARED**2) * float(rng.normal())
        time_s = number * EVERY_S
        history.append({"elapsed_s": time_s, "iteration": number * 500.0, "score": curve(time_s) + noise * error})
    return history


def rising(gain: float) -> Curve:
    """The same gain for every doubling of the time, for ever."""
    return lambda time_s: 0.6 + gain * math.log2(time_s)


def power(time_s: float) -> float:
    return 0.95 - 0.35 * math.pow(time_s / 60, -0.5)


def quick(time_s: float) -> float:
    return 0.95 - 0.7 * math.pow(time_s / 60, -0.8)


def saturating(time_s: float) -> float:
    return 0.9 - 0.3 * math.exp(-time_s / 900)


def steps(time_s: float) -> float:
    """Rests, then rises by 0.02, about twice in every doubling."""
    return 0.7 + 0.02 * math.floor(1.7 * math.log2(time_s))


def stop(history: Sequence[Look], clock: Clock = "elapsed_s", horizon: float = HORIZON_S) -> float | None:
    plateau = Plateau(decay_from=0.5, horizon=horizon, clock=clock)
    plateau.replay(history)
    return plateau.flat_at


def outlook(history: Sequence[Look], rate_will_fall: bool = False) -> Outlook:
    told = forecast(history, rate_will_fall=rate_will_fall)
    assert told is not None
    return told


# ---------------------------------------------------------------- what comes


def test_too_few_looks_promise_nothing() -> None:
    assert forecast([]) is None
    assert forecast(looks(power, count=FEWEST - 1)) is None
    assert forecast(looks(power, count=FEWEST)) is not None


def test_the_gain_of_the_next_hour_and_of_training_as_long_again_come_true() -> None:
    history = looks(power, count=60)
    told = outlook(history)
    assert told.gain_per_hour == pytest.approx(power(7200) - power(3600), rel=CLOSE - 1)
    assert told.gain_if_doubled == pytest.approx(power(7200) - power(3600), rel=CLOSE - 1)
    assert told.at_most >= told.gain_if_doubled
    assert told.score == pytest.approx(power(3600), abs=0.002)


def test_the_forecast_of_noisy_looks_scatters_around_what_comes() -> None:
    wanted = power(9600) - power(6000)
    told = [outlook(looks(power, NOISE, seed, count=100)).gain_per_hour for seed in range(SEEDS)]
    assert np.median(told) == pytest.approx(wanted, rel=CLOSE - 1)
    assert np.std(told) < wanted


def test_one_look_that_went_wrong_hardly_moves_the_forecast() -> None:
    history = looks(power, count=60)
    wrong = [*history[:50], {**history[50], "score": 0.1}, *history[51:]]
    assert outlook(wrong).gain_per_hour == pytest.approx(outlook(history).gain_per_hour, rel=0.1)


def test_a_look_without_a_number_is_left_out() -> None:
    history = looks(power, count=60)
    assert outlook([*history[:50], {**history[50], "score": math.nan}, *history[51:]]).gain_per_hour > 0


def test_a_look_whose_score_could_not_be_kept_is_left_out_when_a_run_is_resumed() -> None:
    history = looks(power, count=60)
    lost = {name: value for name, value in history[50].items() if name != "score"}  # JSON has no word for NaN
    plateau = Plateau(decay_from=0.5, horizon=600)
    plateau.replay([*history[:50], lost, *history[51:]])
    assert outlook([*history[:50], lost, *history[51:]]).gain_per_hour > 0


def test_the_time_to_flatness_comes_true_and_is_unknown_where_nothing_slows_down() -> None:
    told = outlook(looks(quick, count=40))
    assert told.eta_s is not None
    true_s = next(s for s in range(2400, 10**6, 60) if quick(2 * s) - quick(s) < LEAST_GAIN)
    assert told.eta_s == pytest.approx(true_s - 2400, rel=CLOSE - 1)
    assert outlook(looks(rising(0.02))).eta_s is None
    assert outlook(looks(lambda _: 0.9)).eta_s == 0


def test_a_run_whose_rate_has_yet_to_fall_is_never_called_flat() -> None:
    history = looks(lambda _: 0.9)
    assert outlook(history).flat
    assert not outlook(history, rate_will_fall=True).flat


def test_the_words_say_whether_it_rises_rests_or_falls() -> None:
    assert "another hour would add about 0.0" in outlook(looks(power, count=60)).words
    assert outlook(looks(lambda _: 0.9)).words.startswith("hardly rises any more")
    assert "not rising" in outlook(looks(rising(-0.02)), rate_will_fall=True).words
    assert "flat in about" in outlook(looks(quick, count=40)).words


# ---------------------------------------------------------------- when to stop


def test_noiseless_curves_stop_when_they_are_flat_and_not_before() -> None:
    assert stop(looks(power)) is None
    assert stop(looks(rising(0.01))) is None
    assert stop(looks(steps)) is None
    flat_s = next(s for s in range(60, 10**5, 60) if saturating(2 * s) - saturating(s) < LEAST_GAIN)
    stopped_s = stop(looks(saturating))
    assert stopped_s is not None
    assert flat_s <= stopped_s < 1.8 * flat_s


def test_runs_that_still_rise_are_seldom_stopped_whatever_the_noise() -> None:
    for curve in (rising(2 * LEAST_GAIN), power, steps):
        stopped = [stop(looks(curve, NOISE, seed)) for seed in range(SEEDS)]
        assert sum(at is not None for at in stopped) <= FALSE_STOPS


def test_runs_that_are_flat_are_stopped_in_time_in_spite_of_the_noise() -> None:
    for curve in (saturating, lambda _: 0.9):
        stopped = [stop(looks(curve, NOISE, seed)) for seed in range(SEEDS)]
        assert sum(at is None for at in stopped) <= LATE_STOPS


def test_a_falling_score_stops_too() -> None:
    assert stop(looks(rising(-0.01), NOISE)) is not None


def test_one_flat_look_does_not_stop_but_several_in_a_row() -> None:
    history, flat = looks(lambda _: 0.9), list[int]()
    for count in range(1, len(history)):
        told = forecast(history[:count], since=HORIZON_S / 2)
        if told is not None and told.flat:
            flat.append(count)
    stopped = stop(history)
    assert stopped == history[flat[PATIENCE - 1] - 1]["elapsed_s"]


def test_steps_and_seconds_decide_alike() -> None:
    for seed in range(3):
        history = looks(saturating, NOISE, seed)
        in_seconds, in_steps = stop(history), stop(history, "iteration", HORIZON_S / EVERY_S * 500)
        assert in_seconds is not None
        assert in_steps == in_seconds / EVERY_S * 500


def test_a_rollback_starts_the_count_of_looks_anew() -> None:
    history = looks(lambda _: 0.9)
    first = stop(history)
    assert first is not None
    count = int(first / EVERY_S)
    rolled = [{**look, "rollbacks": float(number >= count - 2)} for number, look in enumerate(history)]
    later = stop(rolled)
    assert later is not None
    assert later > first


# ---------------------------------------------------------------- the finish


def test_the_decision_is_the_same_heard_in_one_piece_or_in_two() -> None:
    history = looks(saturating, NOISE, seed=3)
    whole = Plateau(0.5, HORIZON_S)
    whole.replay(history)
    for cut in (1, 20, 90, len(history)):
        parts = Plateau(0.5, HORIZON_S)
        parts.replay(history[:cut])
        resumed = Plateau(0.5, HORIZON_S)
        resumed.replay(history[:cut])
        assert resumed.decided_at == parts.decided_at
        resumed.replay(history[cut:])
        assert resumed.decided_at == whole.decided_at


def test_the_run_waits_with_its_rate_up_then_finishes_like_a_run_of_known_length() -> None:
    plateau = Plateau(decay_from=0.5, horizon=HORIZON_S)
    assert [plateau.used(s) for s in (0, 150, 300, 600, 10_000)] == [0, 0.25, 0.5, 0.5, 0.5]
    plateau.replay(looks(lambda _: 0.9))
    decided = plateau.decided_at
    assert decided is not None
    assert [plateau.used(s * decided) for s in (0.9, 1, 1.5, 2, 3)] == [0.5, 0.5, 0.75, 1, 1]
    shares = [plateau.used(s) for s in range(0, int(3 * decided), 10)]
    assert all(a <= b < a + 0.05 for a, b in pairwise(shares))


def test_a_cap_is_kept_with_time_for_the_finish() -> None:
    plateau = Plateau(decay_from=0.5, horizon=HORIZON_S, cap=2000.0)
    assert plateau.decided_at == 1000.0
    assert [plateau.used(s) for s in (900, 1000, 1500, 2000)] == [0.5, 0.5, 0.75, 1]
    plateau.replay(looks(power))
    assert plateau.decided_at == 1000.0
    short = Plateau(decay_from=0.5, horizon=HORIZON_S, cap=100.0)
    assert [short.used(s) for s in (0, 50, 100)] == [0, 0.5, 1]


def test_without_a_decay_the_run_ends_with_the_decision() -> None:
    plateau = Plateau(decay_from=1.0, horizon=HORIZON_S)
    plateau.replay(looks(lambda _: 0.9))
    assert plateau.decided_at is not None
    assert plateau.used(plateau.decided_at) == 1
    assert Plateau(decay_from=1.0, horizon=HORIZON_S).used(HORIZON_S - 1) < 1


@pytest.mark.parametrize(
    ("decay_from", "horizon", "cap"), [(0.0, 1.0, None), (1.5, 1.0, None), (0.5, 0.0, None), (0.5, 1.0, 0.0)]
)
def test_a_plateau_without_a_finish_is_refused(decay_from: float, horizon: float, cap: float | None) -> None:
    with pytest.raises(ValueError, match="go up to a finish"):
        Plateau(decay_from, horizon, cap)
