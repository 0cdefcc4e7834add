"""Follows those in view. A face from frame to frame in; who it is, where heads are and whether they touch, out."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from realtime.alive import Life
from realtime.frame import Face
from realtime.likeness import Likeness, Look
from realtime.standin import Box

JUMP, JUMP_IN_PLACE, JUMP_OVERLAP, IN_PLACE = 3.0, 6.0, 0.3, 0.9
"""A face jumped when its looks changed by more than JUMP from frame to frame at 30 a second, or when its boxes hardly
overlap. People who talk reach 2.5 in 99 of 100 frames and 3.6 at most, with a hand in front 5. Who is alone may change
by JUMP_IN_PLACE where his box overlaps by IN_PLACE: a mistake would show nobody."""
LOOKS = 8
"""So many of a face's last looks say what it looks like."""
TOUCH = 0.02
"""Share of the smaller of two heads' boxes that overlaps when they touch."""
_HEAD = 0.1
"""How much further than its mesh a head reaches on each side, in widths of the mesh."""


@dataclass(slots=True, eq=False)
class Person:
    """One face for as long as it was followed without a jump."""

    face: Face
    first_s: float
    last_s: float
    look: Look | None = None
    likeness: Likeness = field(default_factory=Likeness)
    """What it looks like when it is clear who it is."""
    recent: deque[Look] = field(default_factory=lambda: deque(maxlen=LOOKS))
    """Its last looks without a touch."""
    life: Life = field(default_factory=Life)
    jumped: bool = False
    """Whether it began where another face was followed."""
    heir: bool = False
    """Whether it began where the performer was followed: a cut, or a lamp that went out."""
    seen_with: bool = False
    """Whether it was in view at the same time as the performer: then it is not him."""
    alone_s: float = 0.0
    """How long it has been the only face."""
    touched_s: float | None = None
    """When it last touched another face, as long as it is not clear who came out of it."""

    def lately(self) -> Likeness | None:
        """What it looked like in its last frames without a touch; None when they are too few."""
        if len(self.recent) < LOOKS:
            return None
        return Likeness(*self.recent)


def jumped_away(person: Person, face: Face, seen: Look | None, step_s: float, alone: bool) -> bool:
    """Whether `face`, which looks like `seen`, cannot be `person` of `step_s` ago; `alone`: nobody else is in view."""
    if person.look is None or seen is None:
        return False
    longer = min(max(step_s * 30, 1.0), 4.0) ** 0.5
    same_place = overlap(person.face.box, face.box)
    if same_place < JUMP_OVERLAP / longer:
        return True
    most = float(np.interp(same_place, (IN_PLACE - 0.15, IN_PLACE), (JUMP, JUMP_IN_PLACE))) if alone else JUMP
    return bool(np.linalg.norm(seen.values - person.look.values) > most * longer)


def middle(face: Face) -> tuple[float, float]:
    """x and y of the middle of a face's box."""
    left, top, right, bottom = face.box
    return (left + right) / 2, (top + bottom) / 2


def touching(one: Box, other: Box) -> bool:
    """Whether the heads around two faces touch, so that one may be taken for the other."""
    one, other = _head(one), _head(other)
    return _shared(one, other) > TOUCH * max(min(_area(one), _area(other)), 1e-9)


def on_head(face: Box, x: float, y: float) -> bool:
    """Whether (x, y) lies on the head around a face."""
    left, top, right, bottom = _head(face)
    return left <= x <= right and top <= y <= bottom


def overlap(one: Box, other: Box) -> float:
    """Intersection over union; 0 for boxes that are no places."""
    both = _shared(one, other)
    return both / max(_area(one) + _area(other) - both, 1e-9) if both else 0.0


def _head(box: Box) -> Box:
    left, top, right, bottom = box
    margin = _HEAD * (right - left)
    return left - margin, top - margin, right + margin, bottom + margin


def _shared(one: Box, other: Box) -> float:
    """Area of the intersection."""
    if not all(map(math.isfinite, (*one, *other))):
        return 0.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
