"""Measures how well one set of faces covers another. Facts of both in, distances, costs and risks out.

Note [Risk]
    For every face of the performer the identity's faces that are nearest in pose, in expression and in light are looked
    up, each in units of what a model still bridges (POSE_DEG and so on); the distance is the mean to the NEAREST of
    them. A distance d costs WEIGHTS * d^3 / (d^3 + HALF^3) of the swap: next to nothing where the identity has been,
    half the weight at HALF units, all of it far away. What the identity lacks in detail costs the same way.

    What is wrong with a set as a whole costs every frame: too few different looks (FEW of them cost half of FEW_COSTS,
    four times as many next to nothing; duplicates count once), other people among the faces, things in front of them.
    Of the performer's set this costs less, PERFORMER, because it only teaches the network to read faces; what hides a
    frame's own face costs that frame.

    Costs of different causes hit independently: risk = 1 - product of (1 - cost). But what few faces do not show is
    missing in pose, expression and light, too: it is counted once, as the larger of the two. The predicted score is one
    minus the mean risk: 1 is a swap as good as the preset allows, 0 is none.

    The weights were set by reason - a side that was never seen is worse than a missing light - and corrected once by
    the sets of one cast (900) of benchmarks/coverage_truth.py: a decoder paints poses that it never saw better than
    one would think, and what is soft is still like the person. What strangers cost was lowered after cast 901, too, had
    been seen.

Note [Two people at rest]
    Width of the mouth, opening of the eyes and height of the brows at rest belong to the person, and so does what is
    left of the skin in level and warmth. Before two sets are compared, one is shifted in each of these by what fits
    best, but by no more than people differ (PEOPLE_DIFFER); what remains is a difference that was filmed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.coverage_facts import EXPRESSION, HIDES, LIGHT, Floats, SetFacts

POSE_DEG = 8.0
"""Yaw or pitch that a model still bridges."""
EXPRESSION_UNITS = 0.15, 0.15, 0.06, 0.1
"""The same for EXPRESSION: about twice the noise of the measures."""
LIGHT_UNITS = 0.25, 0.25, 0.6, 0.35
"""The same for LIGHT."""
PEOPLE_DIFFER = {"width": 0.12, "eyes": 0.03, "brows": 0.08, "level": 1.0, "warmth": 0.3}
SKINS_DIFFER = {"level": 3.0, "warmth": 1.5}
"""Instead of these where the white of the eyes could not be read."""
HALF = 2.5
"""Units at which half of the weight is lost."""
WEIGHTS = {"pose": 0.7, "expression": 0.6, "light": 0.6, "detail": 0.15}
FILMED_AXES = "pose", "expression", "light"
HEIGHT_FREE, SHARPNESS_FREE, DETAIL_UNIT = 0.25, 0.6, 0.3
"""Octaves of height and of sharpness that the identity may lack for nothing - skins differ in sharpness, too - and
those beyond that count as a unit."""
FEW, FEW_COSTS = 25.0, 0.65
FEW_LOOKS = 30
"""Of fewer different looks nothing but their number can be judged, and not what is in front of them."""
SAME_LOOK = 0.75
"""Faces nearer than this in all units together are one look."""
MIXED, HIDDEN = 1.0, 0.6
"""What a share of strangers, or of faces with something in front, costs."""
HARMLESS = 0.03
"""Of that share, so much is misread or rare enough to be learnt away."""
PERFORMER = 0.4
"""Share of these costs that the same defect has in the performer's set."""
NEAREST = 5
SIDES = "identity", "performer"
_SHIFTS = 21
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class SetQuality:
    """How much a set holds."""

    looked_at: int
    """Faces."""
    effective: int
    """Different looks: near-equal faces count once; of a large set, those that were looked at."""
    strangers: float
    """Share of faces that show somebody else than most do."""
    hidden: float
    """Share of the person's own faces with something in front; 0 in a set of fewer than FEW_LOOKS."""


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """How the identity's N faces cover the performer's M."""

    identity: SetFacts
    """Shifted as Note [Two people at rest] says; strangers are left out."""
    performer: SetFacts
    quality: Mapping[str, SetQuality]
    """By side."""
    distances: Mapping[str, Floats]
    """(M,) by axis, in units: pose, expression, light, detail."""
    nearest: Mapping[str, NDArray[np.intp]]
    """(M,) row of the identity's nearest face, by axis, and `together`."""
    shown_px: float
    """Height of the face that the model will paint."""
    costs: Mapping[str, Floats]
    """(M,) by cause: the axes, and `few`, `mixed` and `hidden` of each side, as `identity few`."""

    @property
    def risk(self) -> Floats:
        """(M,) in [0, 1], see Note [Risk]."""
        missing = _together([self.costs[axis] for axis in FILMED_AXES])
        rest = [cost for cause, cost in self.costs.items() if cause not in (*FILMED_AXES, "identity few")]
        return _together([np.maximum(missing, self.costs["identity few"]), *rest])

    @property
    def score(self) -> float:
        """Predicted share of what a preset can give, [0, 1]."""
        return float(1 - self.risk.mean())

    def loss(self, cause: str, frames: NDArray[np.bool_] | None = None) -> float:
        """What a cause alone costs, at all or in some (M,) of the frames, as a share of all."""
        cost = self.costs[cause]
        return float((cost if frames is None else np.where(frames, cost, 0)).mean())


def cover(identity: SetFacts, performer: SetFacts, shown_px: float | None = None) -> Coverage:
    """Compare two sets, each of at least one face.

    `shown_px` is the height of the face that the model will paint: what the identity has beyond that is not needed.
    Without it, it is the height of the performer's face, so that the swap is as fine as its surroundings.
    """
    quality = {"identity": judge_set(identity), "performer": judge_set(performer)}
    shown_px = shown_px or float(np.median(performer.native_px))
    usable = _shifted(take(identity, identity.person == 0), performer)
    have, want = scaled(usable), scaled(performer)
    distances, nearest = {}, {}
    for axis in have:
        distances[axis], nearest[axis] = nearest_faces(want[axis], have[axis])
    del distances["together"]
    distances["detail"] = _detail(usable, performer, shown_px)
    costs = {axis: WEIGHTS[axis] * falling_short(distance) for axis, distance in distances.items()}
    for side, found in quality.items():
        part = 1.0 if side == "identity" else PERFORMER
        mixed = min(MIXED * max(found.strangers - HARMLESS, 0), 0.95)
        causes = {"few": FEW_COSTS / (1 + (found.effective / FEW) ** 3), "mixed": mixed}
        if side == "identity":
            causes["hidden"] = HIDDEN * max(found.hidden - HARMLESS, 0)
        for cause, cost in causes.items():
            costs[f"{side} {cause}"] = np.full(len(performer), part * cost)
    hides = performer.covered > (HIDES if quality["performer"].hidden else 1.0)
    costs["performer hidden"] = np.where(hides, performer.covered, 0) * HIDDEN
    return Coverage(usable, performer, quality, distances, nearest, shown_px, costs)


def _together(costs: Sequence[Floats]) -> Floats:
    """What (M,) costs of different causes cost together."""
    return np.asarray(1 - np.prod([1 - cost for cost in costs], axis=0))


def judge_set(facts: SetFacts) -> SetQuality:
    """What can be said about one set alone."""
    own = facts.person == 0
    effective = count_looks(scaled(take(facts, own))["together"])
    return SetQuality(
        looked_at=len(facts),
        effective=effective,
        strangers=float(1 - own.mean()),
        hidden=float((facts.covered[own] > HIDES).mean()) if effective >= FEW_LOOKS else 0.0,
    )


def scaled(facts: SetFacts) -> dict[str, Floats]:
    """Pose, expression, light and all of them `together`, (N, D) each, in units of what a model bridges."""
    parts = {
        "pose": facts.pose / POSE_DEG,
        "expression": facts.expression / EXPRESSION_UNITS,
        "light": facts.light / LIGHT_UNITS,
    }
    return {**parts, "together": np.hstack(list(parts.values()))}


def falling_short(distance: Floats) -> Floats:
    """Share of a weight that distances cost, see Note [Risk]."""
    cube = distance**3
    return np.asarray(cube / (cube + HALF**3))


def nearest_faces(wanted: Floats, there: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """(M,) mean distance of each of (M, D) points to its NEAREST of (N, D), and which one of them is nearest."""
    count = min(NEAREST, len(there))
    distances, first = np.empty(len(wanted)), np.empty(len(wanted), np.intp)
    for start in range(0, len(wanted), _BLOCK):
        block = slice(start, start + _BLOCK)
        apart = np.sqrt(((wanted[block, None] - there[None]) ** 2).sum(axis=2))
        distances[block] = np.partition(apart, count - 1, axis=1)[:, :count].mean(axis=1)
        first[block] = apart.argmin(axis=1)
    return distances, first


def count_looks(points: Floats) -> int:
    """How many of (N, D) points are left when those within SAME_LOOK of one that is kept are dropped."""
    kept = np.empty_like(points)
    count = 0
    for point in points:
        if not count or ((kept[:count] - point) ** 2).sum(axis=1).min() > SAME_LOOK**2:
            kept[count] = point
            count += 1
    return count


def take(facts: SetFacts, rows: NDArray[np.bool_] | NDArray[np.intp]) -> SetFacts:
    """Some of the faces of a set."""
    chosen: dict[str, Any] = {}
    for each in fields(facts):
        value = getattr(facts, each.name)
        if isinstance(value, np.ndarray):
            chosen[each.name] = value[rows]
    return replace(facts, **chosen)


def _shifted(identity: SetFacts, performer: SetFacts) -> SetFacts:
    """See Note [Two people at rest]."""
    differ = dict(PEOPLE_DIFFER)
    expression, light = identity.expression.copy(), identity.light.copy()
    if identity.skin is None or performer.skin is None:
        differ |= SKINS_DIFFER
    else:
        light[:, 2:] += np.subtract(performer.skin, identity.skin)
    for names, own, other in ((EXPRESSION, expression, performer.expression), (LIGHT, light, performer.light)):
        for column, name in enumerate(names):
            if name in differ:
                own[:, column] += best_shift(own[:, column], other[:, column], differ[name])
    return replace(identity, expression=expression, light=light)


def best_shift(there: Floats, wanted: Floats, most: float) -> float:
    """What to add to the values (N,) `there`, at most `most`, so that the values (M,) `wanted` lie nearest to them."""
    there = np.sort(there)
    best, shift = np.inf, 0.0
    for candidate in sorted(np.linspace(-most, most, _SHIFTS).tolist(), key=abs):
        moved = there + candidate
        above = np.clip(np.searchsorted(moved, wanted), 0, len(moved) - 1)
        below = np.maximum(above - 1, 0)
        apart = float(np.minimum(np.abs(moved[above] - wanted), np.abs(moved[below] - wanted)).mean())
        if apart < 0.98 * best:  # a smaller shift wins unless a larger one is really better
            best, shift = apart, candidate
    return shift


def _detail(identity: SetFacts, performer: SetFacts, shown_px: float) -> Floats:
    """(M,) units by which the identity lacks height or sharpness beside what will be shown of each frame."""
    pairs = (
        (identity.native_px, np.minimum(performer.native_px, shown_px), HEIGHT_FREE),
        (identity.sharpness, performer.sharpness, SHARPNESS_FREE),
    )
    gaps = [np.log2(np.maximum(want, 1e-3) / max(float(np.median(have)), 1e-3)) - free for have, want, free in pairs]
    return np.asarray(np.maximum(np.maximum(*gaps), 0) / DETAIL_UNIT)
