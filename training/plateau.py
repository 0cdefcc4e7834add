"""Says what more training would bring. The looks at the held-out faces in, a forecast and a moment to finish out.

Note [When it is flat]
    Held-out scores rise like a - b * t**-c: each doubling of the time adds about `2**-c` of what the doubling before it
    added. So scores are fitted over the logarithm of time, and the question is what training as long again would add.
    The slope is Theil and Sen's, the median over all pairs of looks, which single bad looks do not move. Its upper
    bound comes from Kendall's rank statistic (Sen, J. Am. Stat. Assoc. 63, 1968), which asks nothing of the noise; what
    one look's noise shares with the next one's (they see the same averaged weights) widens it. A run is flat when even
    the upper bound is less than `LEAST_GAIN`, at `PATIENCE` looks in a row: noisy looks make the decision late, not
    early. A score that rests for longer than half of the run and rises again is beyond this rule.

    All of it is free of units: on seconds and on steps the same looks decide alike.

Note [Finish after the plateau]
    A falling rate ends every rise, and raises the score by itself. Both would fool the rule, so a run that goes on
    until its plateau keeps the rate up until it is flat, and only then lets it fall. The rest is as with a budget: the
    moment of the decision is taken as `decay_from` of a run whose length is thereby known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEAST_GAIN = 0.005
"""Score that training as long again has to add; structural similarity that differs by less looks the same."""
PATIENCE = 5
"""Looks in a row that have to be flat."""
FEWEST = 4
"""Looks for a forecast."""
FEWEST_FLAT = 10
"""Looks within the last half of the run for a decision."""
MOST_POINTS = 24
"""More looks than these are averaged in groups first."""
SURE = 2.0
"""Standard deviations of the upper bound."""
FASTEST_SLOWING = 0.25
"""A doubling is trusted to add no less than this share of what the one before it added."""
OUT_OF_SIGHT = 10.0
"""Doublings after which nobody waits for flatness any more."""
Clock = Literal["elapsed_s", "iteration"]
Look = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What more training at the present rate would bring, in units of the score."""

    score: float
    """Now, as fitted: the newest look without its noise."""
    gain_per_hour: float
    """During the hour from now; below 0 when the score is falling."""
    gain_if_doubled: float
    """By training as long again as until now."""
    at_most: float
    """Upper bound of `gain_if_doubled`."""
    flat: bool
    """Whether more training is hardly worth it; never while the rate has yet to fall."""
    eta_s: float | None
    """Training time until that; 0: now; None: not in sight, or it cannot be told yet."""

    @property
    def words(self) -> str:
        """One line for people."""
        if self.flat:
            return f"hardly rises any more: another hour would add about {max(0.0, self.gain_per_hour):.4f}"
        if self.gain_per_hour <= 0:
            return f"not rising at present, by {-self.gain_per_hour:.4f} an hour or less"
        eta = "" if self.eta_s is None else f", flat in about {_span(self.eta_s)}"
        return f"rising: another hour would add about {self.gain_per_hour:.4f}{eta}"


@dataclass(frozen=True, slots=True)
class _Fit:
    """Score over the logarithm of time."""

    now: float
    """Fitted score at the newest look."""
    doubling: float
    """What the last doubling of the time added."""
    slowing: float
    """Share of it that the next doubling will add."""
    at_most: float
    """Upper bound of what the next doubling will add."""
    looks: int
    """That the fit rests on."""


def forecast(
    history: Sequence[Look],
    *,
    clock: Clock = "elapsed_s",
    since: float = 0.0,
    least_gain: float = LEAST_GAIN,
    rate_will_fall: bool = False,
) -> Outlook | None:
    """What the looks (`elapsed_s`, `iteration`, `score`, oldest first) promise; None while there are too few.

    Looks before `since`, a time on `clock`, do not count. `rate_will_fall` says that the learning rate is still up:
    then the run is never called flat, because its fall will add more.
    """
    fit = _fit(history, clock, since)
    if fit is None:
        return None
    elapsed_s = max(history[-1]["elapsed_s"], 1e-9)
    flat = not rate_will_fall and _is_flat(fit, least_gain)
    return Outlook(
        score=fit.now,
        gain_per_hour=_gain(fit, 3600 / elapsed_s),
        gain_if_doubled=_gain(fit, 1.0),
        at_most=fit.at_most,
        flat=flat,
        eta_s=0.0 if flat else _eta(fit, least_gain, elapsed_s),
    )


def _fit(history: Sequence[Look], clock: Clock, since: float) -> _Fit | None:
    scored = [e for e in history if math.isfinite(e.get("score", math.nan))]  # a look at broken weights has none
    looks = [(e[clock], e["score"]) for e in scored if e[clock] > max(since, 0.0)]
    if len(looks) < FEWEST:
        return None
    time, score = np.array(looks, np.float64).T
    x = np.log2(time)
    recent = x > x[-1] - 1
    recent[-FEWEST:] = True
    slope, steepest = _theil_sen(x[recent], score[recent])
    now = float(np.median(score[recent] - slope * (x[recent] - x[-1])))
    before = (x > x[-1] - 2) & (x <= x[-1] - 1)
    earlier = _theil_sen(x[before], score[before])[0] if before.sum() >= FEWEST else 0.0
    at_most = steepest * _slowing(steepest, earlier)
    return _Fit(now, slope, _slowing(slope, earlier), at_most, int(recent.sum()))


def _slowing(slope: float, earlier: float) -> float:
    """Share of a doubling's gain that the next one adds, given the slope of the doubling before it."""
    return min(1.0, max(FASTEST_SLOWING, slope / earlier)) if slope > 0 and earlier > 0 else 1.0


def _theil_sen(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope of (n,) points with x ascending, and its upper bound."""
    groups = min(len(x), MOST_POINTS)
    starts = np.arange(groups) * len(x) // groups
    x, y = (np.add.reduceat(values, starts) / np.diff(starts, append=len(x)) for values in (x, y))
    first, second = np.triu_indices(groups, 1)
    apart = x[second] - x[first] > 1e-9
    slopes = np.sort((y[second] - y[first])[apart] / (x[second] - x[first])[apart])
    if not len(slopes):
        return 0.0, math.inf
    slope = float(np.median(slopes))
    rest = y - slope * x
    rest = rest - rest.mean()
    # Noise that neighbours share; around a fitted line it looks smaller (Marriott and Pope, Biometrika 41, 1954).
    shared = float((rest[1:] * rest[:-1]).sum() / max(float((rest**2).sum()), 1e-30))
    shared = min(0.8, max(0.0, (groups * shared + 2) / max(groups - 4, 1)))
    kendall = math.sqrt(groups * (groups - 1) * (2 * groups + 5) / 18 * (1 + shared) / (1 - shared))
    rank = math.ceil((len(slopes) + SURE * kendall) / 2)
    return slope, float(slopes[rank]) if rank < len(slopes) else math.inf


def _gain(fit: _Fit, longer: float) -> float:
    """What training `longer` times as long as until now would add."""
    doublings = math.log2(1 + longer)
    following = fit.doubling * fit.slowing
    if fit.slowing == 1.0:
        return following * doublings
    return following * (1 - math.pow(fit.slowing, doublings)) / (1 - fit.slowing)


def _is_flat(fit: _Fit, least_gain: float) -> bool:
    return fit.looks >= FEWEST_FLAT and fit.at_most < least_gain


def _eta(fit: _Fit, least_gain: float, elapsed_s: float) -> float | None:
    following = fit.doubling * fit.slowing
    if following <= least_gain or fit.slowing == 1.0:
        return None  # small already, though not surely; or not slowing down
    doublings = math.log(least_gain / following) / math.log(fit.slowing)
    return elapsed_s * math.expm1(doublings * math.log(2)) if doublings <= OUT_OF_SIGHT else None


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


@dataclass(slots=True)
class Plateau:
    """When a run that goes on until its plateau begins to finish, see Note [Finish after the plateau].

    It keeps nothing that the looks do not tell: feeding it the history of a run again decides the same.
    """

    decay_from: float
    """Share of the run after which the rate falls, above 0."""
    horizon: float
    """Time of an ordinary run on `clock`: its first part sets how fast the schedules go at first."""
    cap: float | None = None
    """Time on `clock` at which the run ends all the same."""
    clock: Clock = "elapsed_s"
    least_gain: float = LEAST_GAIN
    flat_at: float | None = field(default=None, init=False)
    """When the looks were flat, on `clock`."""
    _looks: list[Look] = field(default_factory=list, init=False)
    _flat_in_a_row: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not 0 < self.decay_from <= 1 or not self.horizon > 0 or not (self.cap is None or self.cap > 0):
            raise ValueError(
                f"decay_from {self.decay_from}, horizon {self.horizon} and cap {self.cap} go up to a finish"
            )

    @property
    def steady_from(self) -> float:
        """From here on no schedule changes any more until the decision."""
        return self.decay_from * min(self.horizon, self.cap or math.inf)

    @property
    def decided_at(self) -> float | None:
        """When the rate began to fall, or will at the latest, on `clock`; None: open."""
        latest = math.inf if self.cap is None else self.decay_from * self.cap
        at = min(latest, math.inf if self.flat_at is None else self.flat_at)
        return at if math.isfinite(at) else None

    def add(self, look: Look) -> None:
        """Hear of a look. A change of its `rollbacks` starts the count of looks anew."""
        if self.flat_at is not None:
            return
        if self._looks and look.get("rollbacks", 0.0) != self._looks[-1].get("rollbacks", 0.0):
            self._looks, self._flat_in_a_row = [], 0
        self._looks.append(look)
        fit = _fit(self._looks, self.clock, self.steady_from)
        self._flat_in_a_row = self._flat_in_a_row + 1 if fit is not None and _is_flat(fit, self.least_gain) else 0
        if self._flat_in_a_row >= PATIENCE:
            self.flat_at = look[self.clock]

    def replay(self, history: Iterable[Look]) -> None:
        """Hear of all looks of a run that is resumed."""
        for look in history:
            self.add(look)

    def used(self, now: float) -> float:
        """0 at the start of the run, `decay_from` while it waits for the plateau, 1 at its end; `now` on `clock`."""
        decided = self.decided_at
        if decided is not None and now >= decided:
            return min(1.0, now * self.decay_from / decided)
        return self.decay_from * min(1.0, now / self.steady_from)
