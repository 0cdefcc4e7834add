"""Puts what a cause does into plain sentences. Coverage and a cause in, findings out.

Left and right are those of the image unless a sentence says that they are the person's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.coverage import EXPRESSION_UNITS, HIDES, LIGHT_UNITS, Coverage
from training.coverage_facts import EXPRESSION, LIGHT, Floats, SetFacts, Shots

NOTED = 0.04
"""A cause that costs less of the swap than this is not worth a sentence."""
CUTS = 0.045
"""What jump cuts count as, see Note [Order of findings]."""
_EXTREME = 3
"""The identity's limit is its third most extreme face: one face that was misread does not move it."""
_RARE = 0.03
"""A smaller share of frames is not worth filming for."""
_FAR = 2.5
"""Units at which a frame counts as not covered."""
_POSE_STEP = 4.0
"""Degrees beyond the limit from which on a frame is beyond it: about twice the error of the pose."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    cause: str
    """An axis (pose, expression, light, detail), or few, mixed, hidden or cuts with the side in front."""
    loss: float
    """Share of the swap that this costs; the cause as a whole may cost more."""
    share: float
    """Of the performer's frames, or of the faces of the set that it is about."""
    fact: str
    """What is, with numbers; without a full stop."""
    remedy: str
    """What to do; without a full stop."""
    frames: tuple[int, ...] = ()
    """Rows of the performer's frames that it is about, the worst first; none when it is about all of them."""

    @property
    def sentence(self) -> str:
        return f"{self.fact}: {self.remedy}."


def findings_of(found: Coverage, cause: str) -> list[Finding]:
    makers: dict[str, Callable[[Coverage], Iterator[Finding]]] = {
        "pose": _pose,
        "expression": _expression,
        "light": _light,
        "detail": _detail,
    }
    if cause in makers:
        whole = found.loss(cause)
        made = sorted(makers[cause](found), key=lambda finding: -finding.loss)
        named = [finding for finding in made if finding.loss >= max(NOTED / 4, 0.1 * whole)]
        return named or list(_in_general(found, cause))
    side, _, kind = cause.partition(" ")
    return [{"few": _few, "mixed": _mixed, "hidden": _hidden, "cuts": _cuts}[kind](found, side)]


@dataclass(frozen=True, slots=True)
class _Side:
    """One end of one measure: who goes beyond the identity's limit there."""

    column: int
    sign: int
    step: float
    """Beyond the limit by this counts."""
    does: str
    """What the performer's frames do."""
    remedy: str


def _beyond(found: Coverage, cause: str, have: Floats, want: Floats, side: _Side, limit_text: str = "") -> Finding:
    there, wanted = side.sign * have[:, side.column], side.sign * want[:, side.column]
    limit = float(np.sort(there)[-min(_EXTREME, len(there))])
    frames = wanted > limit + side.step
    most = float(np.percentile(wanted[frames], 95)) if frames.any() else limit
    fact = f"{percent(frames.mean())} of the performer's frames {side.does}"
    if limit_text:
        fact += limit_text.format(limit=max(limit, 0))
    remedy = side.remedy.format(range=_range(limit, most))
    return Finding(cause, found.loss(cause, frames), float(frames.mean()), fact, remedy, _worst(found, frames))


def _pose(found: Coverage) -> Iterator[Finding]:
    turned = " ({limit:.0f} degrees at most)"
    sides = (
        _Side(0, 1, _POSE_STEP, "look further left in the image (the person's own right) than any identity frame",
              "film the identity turning to their own right, {range}"),
        _Side(0, -1, _POSE_STEP, "look further right in the image (the person's own left) than any identity frame",
              "film the identity turning to their own left, {range}"),
        _Side(1, 1, _POSE_STEP, "look further down than any identity frame",
              "film the identity looking down, {range}"),
        _Side(1, -1, _POSE_STEP, "look further up than any identity frame",
              "film the identity looking up, {range}"),
    )  # fmt: skip
    for side in sides:
        yield _beyond(found, "pose", found.identity.pose, found.performer.pose, side, turned)
    yaw, pitch = found.identity.pose.T
    inside = np.ones(len(found.performer), bool)
    for have, want in ((yaw, found.performer.pose[:, 0]), (pitch, found.performer.pose[:, 1])):
        inside &= (want >= have.min() - _POSE_STEP) & (want <= have.max() + _POSE_STEP)
    frames = inside & (found.distances["pose"] > _FAR)
    if frames.any():
        turn, nod = np.median(found.performer.pose[frames], axis=0).tolist()
        where = f"{abs(turn):.0f} degrees to the {'left' if turn > 0 else 'right'} and {abs(nod):.0f} {_nod(nod)}"
        yield Finding(
            "pose",
            found.loss("pose", frames),
            float(frames.mean()),
            f"{percent(frames.mean())} of the performer's frames look where few of the identity's do, around {where}",
            "film the identity moving the head slowly through all directions, also up and down while turned",
            _worst(found, frames),
        )


def _nod(pitch: float) -> str:
    return "down" if pitch > 0 else "up"


def _expression(found: Coverage) -> Iterator[Finding]:
    mouth, width, eyes, brows = EXPRESSION_UNITS
    column = EXPRESSION.index
    sides = (
        _Side(column("mouth"), 1, mouth, "open the mouth wider than any identity frame",
              "film the identity talking, laughing and with the mouth wide open"),
        _Side(column("mouth"), -1, mouth, "have the mouth further shut than any identity frame",
              "film the identity silent with the lips closed"),
        _Side(column("width"), 1, width, "have a wider mouth than any identity frame",
              "film the identity smiling broadly"),
        _Side(column("width"), -1, width, "have rounder lips than any identity frame",
              "film the identity saying o and u, and whistling"),
        _Side(column("eyes"), 1, eyes, "have the eyes wider open than any identity frame",
              "film the identity opening the eyes wide"),
        _Side(column("eyes"), -1, eyes, "have the eyes further shut than any identity frame",
              "film the identity blinking slowly and with closed eyes"),
        _Side(column("brows"), 1, brows, "raise the brows higher than any identity frame",
              "film the identity raising the brows"),
        _Side(column("brows"), -1, brows, "have lower brows than any identity frame", "film the identity frowning"),
    )  # fmt: skip
    for side in sides:
        yield _beyond(found, "expression", found.identity.expression, found.performer.expression, side)


def _light(found: Coverage) -> Iterator[Finding]:
    right, down, level, warmth = LIGHT_UNITS
    column = LIGHT.index
    sides = (
        _Side(column("right"), 1, right, "are lit more from the right of the image than any identity frame",
              "film the identity with a lamp or window at the right of the image"),
        _Side(column("right"), -1, right, "are lit more from the left of the image than any identity frame",
              "film the identity with a lamp or window at the left of the image"),
        _Side(column("down"), 1, down, "are lit more from below than any identity frame",
              "film the identity with a low lamp, or a screen as the light"),
        _Side(column("down"), -1, down, "are lit more from above than any identity frame",
              "film the identity under a high lamp"),
        _Side(column("level"), 1, level, "are brighter than any identity frame",
              "film the identity in daylight, or as bright as the performer will be"),
        _Side(column("level"), -1, level, "are darker than any identity frame",
              "film the identity in the evening, too, or as dark as the performer will be"),
        _Side(column("warmth"), 1, warmth, "are lit warmer (more yellow) than any identity frame",
              "film the identity under warm lamps, too"),
        _Side(column("warmth"), -1, warmth, "are lit colder (bluer) than any identity frame",
              "film the identity in daylight, too"),
    )  # fmt: skip
    for side in sides:
        yield _beyond(found, "light", found.identity.light, found.performer.light, side)


def _in_general(found: Coverage, cause: str) -> Iterator[Finding]:
    """When no single measure goes beyond its limit, but they do together."""
    frames = found.distances[cause] > _FAR
    if frames.mean() < _RARE:
        return
    what = {
        "pose": ("turn the head otherwise than the identity does", "film the identity looking in all directions"),
        "expression": (
            "make a face that the identity does not make",
            "film the identity talking, laughing, frowning and blinking",
        ),
        "light": (
            "are lit otherwise than the identity",
            "film the identity in the performer's light, turning round in it",
        ),
        "detail": ("are finer than the identity's", "film the identity closer and sharper"),
    }[cause]
    share = float(frames.mean())
    fact = f"{percent(share)} of the performer's frames {what[0]}"
    yield Finding(cause, found.loss(cause), share, fact, what[1], _worst(found, frames))


def _detail(found: Coverage) -> Iterator[Finding]:
    frames = found.distances["detail"] > 0
    height, wanted = (float(np.median(facts.native_px)) for facts in (found.identity, found.performer))
    wanted = min(wanted, found.shown_px)
    sharp, wanted_sharp = (float(np.median(facts.sharpness)) for facts in (found.identity, found.performer))
    loss, share, worst = found.loss("detail"), float(frames.mean()), _worst(found, frames)
    if np.log2(wanted / max(height, 1e-3)) > 0.25:
        fact = (
            f"The identity's faces are {height:.0f} pixels high in their film, {wanted:.0f} will be shown, so that "
            "the swap is softer than its surroundings"
        )
        remedy = f"film the identity closer or with {_times(wanted / height)} the resolution"
    else:
        fact = (
            f"The identity's faces are less sharp than the performer's (sharpness {sharp:.1f} against "
            f"{wanted_sharp:.1f}), though they are as large"
        )
        remedy = "film the identity in focus, with more light and less compression"
    yield Finding("detail", loss, share, fact, remedy, worst)


def _few(found: Coverage, side: str) -> Finding:
    quality, total = found.quality[side], facts_of(found, side).total
    same = (
        ""
        if quality.effective > 0.7 * quality.looked_at
        else f", but only {quality.effective} different {'look' if quality.effective == 1 else 'looks'} among them"
    )
    fact = f"The {side}'s set has {total} faces{same}"
    remedy = (
        "film some minutes in which the head turns, the mouth talks and the light changes; a few hundred "
        "different looks make a good set"
    )
    return Finding(f"{side} few", found.loss(f"{side} few"), quality.effective / quality.looked_at, fact, remedy)


def _mixed(found: Coverage, side: str) -> Finding:
    share = found.quality[side].strangers
    fact = f"{percent(share)} of the {side}'s faces seem to show somebody else than the others do"
    remedy = "look at the contact sheet, and extract again with --person main, or with a picture of the right person"
    return Finding(f"{side} mixed", found.loss(f"{side} mixed"), share, fact, remedy)


def _hidden(found: Coverage, side: str) -> Finding:
    share = found.quality[side].hidden
    fact = f"In {percent(share)} of the {side}'s frames something hides part of the face - a hand, hair, a microphone"
    remedy = (
        "film the identity again with a free face, or drop these frames: liveswap faceset prune --max-covered 0.2"
        if side == "identity"
        else "keep the performer's face free, or expect these frames to be swapped poorly"
    )
    frames = found.performer.covered > HIDES if side == "performer" else np.zeros(len(found.performer), bool)
    return Finding(f"{side} hidden", found.loss(f"{side} hidden"), share, fact, remedy, _worst(found, frames))


def _cuts(found: Coverage, side: str) -> Finding:
    shots = facts_of(found, side).shots or Shots(0, 0.0, 0.0)
    fact = f"The {side}'s film cuts often: {shots.count} shots, half of them shorter than {shots.median_s:.1f} s"
    remedy = (
        "use longer shots; at every cut the face is searched anew, and short shots repeat few poses in many lights"
        if side == "identity"
        else "use longer shots; at every cut the face is lost for a moment, and a swap flickers there"
    )
    return Finding(f"{side} cuts", CUTS, shots.short, fact, remedy)


def facts_of(found: Coverage, side: str) -> SetFacts:
    return found.identity if side == "identity" else found.performer


def _worst(found: Coverage, frames: NDArray[np.bool_]) -> tuple[int, ...]:
    rows = np.flatnonzero(frames)
    return tuple(int(row) for row in rows[np.argsort(-found.risk[rows], kind="stable")])


def percent(share: float) -> str:
    """A share as words."""
    return "less than 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _times(ratio: float) -> str:
    return "twice" if 1.8 <= ratio <= 2.2 else f"{ratio:.1f} times"


def _range(low: float, high: float) -> str:
    """From what is there to what is needed, in steps of five degrees."""
    start, end = max(0, int(low // 5) * 5), int(-(-high // 5) * 5)
    return f"{start} to {end} degrees" if start else f"up to {max(end, 5)} degrees"
