"""Where on the head each expression acts. A few pinned vertices in, one smooth weight per control vertex out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from realtime.actors.mesh import (
    BROW,
    BROW_LOWER,
    EYE_LOWER,
    EYE_UPPER,
    LIPS,
    LOWER_LIP_INNER,
    LOWER_LIP_OUTER,
    OVAL,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
    mirrored,
)
from realtime.actors.numerics import F32
from realtime.actors.topology import (
    CONTROL_COUNT,
    EDGES,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LEFT_LID_RIM,
    REFERENCE,
    RIGHT_LID_RIM,
    RING_VERTICES,
)

Pins = dict[int, float]
"""Control vertex -> weight."""


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """(736, 1) float32 weights, mostly in [0, 1]: how much a control vertex follows each expression."""

    jaw: F32
    smile: F32
    cheek: F32
    brow: F32
    lid: F32
    lips: F32


@cache
def _laplacian() -> F32:
    stiffness = 1 / (0.05 + np.linalg.norm(REFERENCE[EDGES[:, 0]] - REFERENCE[EDGES[:, 1]], axis=1))
    adjacency = np.zeros((CONTROL_COUNT, CONTROL_COUNT), np.float32)
    adjacency[EDGES[:, 0], EDGES[:, 1]] = stiffness
    adjacency[EDGES[:, 1], EDGES[:, 0]] = stiffness
    return np.diag(adjacency.sum(1)) - adjacency


def harmonic(pins: Mapping[int, float]) -> NDArray[np.float64]:
    """(736,) the smoothest field with the pinned values: Laplace's equation on the edges of the control mesh."""
    laplacian = _laplacian()
    known = np.array(list(pins))
    unknown = np.setdiff1d(np.arange(CONTROL_COUNT), known)
    field = np.zeros(CONTROL_COUNT)
    field[known] = list(pins.values())
    pull = -laplacian[np.ix_(unknown, known)] @ field[known]
    field[unknown] = np.linalg.solve(laplacian[np.ix_(unknown, unknown)], pull)
    return field


def _pin(indices: Iterable[int], weight: float = 0.0) -> Pins:
    """The same weight on both sides of the face."""
    indices = list(indices)
    return {**dict.fromkeys(indices, weight), **dict.fromkeys(mirrored(indices), weight)}


_SKULL = dict.fromkeys(RING_VERTICES[36:], 0.0)
# The resting face: forehead, nose, cheeks, lower lids, and the oval down to the ears.
_UPPER_FACE = [10, 338, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 98, 33, 133, 234, 127, 93, 50, 101, 205]
_STILL = {**_SKULL, **_pin(_UPPER_FACE + EYE_LOWER + OVAL[:9])}

_UPPER_LIP_ROWS = [UPPER_LIP_OUTER, UPPER_LIP_INNER, list(INNER_UPPER_LIP)]
_LOWER_LIP_ROWS = [
    LOWER_LIP_OUTER,
    LOWER_LIP_INNER,
    [INNER_UPPER_LIP[0], *INNER_LOWER_LIP, INNER_UPPER_LIP[-1]],
]


def _jaw_pins() -> Pins:
    pins = {**_STILL, **_pin([152, 148, 199, 200, 18], 1.0), 176: 0.98, 400: 0.98}
    for index, weight in ((149, 0.93), (150, 0.85), (136, 0.72), (172, 0.52), (58, 0.3), (132, 0.12)):
        pins.update(_pin([index], weight))
    # The first skull ring is the skin under the jaw.
    pins.update({ring: 0.75 * pins.get(oval, 0) for ring, oval in zip(RING_VERTICES[:36], OVAL, strict=True)})
    for row in _UPPER_LIP_ROWS:
        pins.update(dict.fromkeys(row, 0.0))
    for row in _LOWER_LIP_ROWS:
        pins.update(zip(row, (0.38, 0.62, 0.82, 0.94, 1.0, 1.0, 1.0, 0.94, 0.82, 0.62, 0.38), strict=True))
    return pins


def _smile_pins() -> Pins:
    return {**_STILL, **_pin([0, 17, 13, 14, 152, 175, 172, 150]), **_pin([205, 50], 0.25), **_pin([61, 78], 1.0)}


def _cheek_pins() -> Pins:
    still = OVAL + LIPS + BROW_LOWER + [4, 1, 168, 6, 197, 195, 5, 98, 129]
    return {**_SKULL, **_pin([50, 205, 101, 118], 1.0), **_pin(still), **_pin(EYE_LOWER, 0.35)}


def _brow_pins() -> Pins:
    still = [*OVAL, 168, 6, 4, 50, 101, *EYE_LOWER]
    return {**_SKULL, **_pin(still), **_pin(EYE_UPPER, 0.12), **_pin(BROW, 1.0), 9: 0.8, 107: 0.8, 336: 0.8}


def _lid_pins() -> Pins:
    still = OVAL + BROW_LOWER + EYE_LOWER + [168, 6, 8, 193, 50]
    rims = [*RIGHT_LID_RIM[1:8], *LEFT_LID_RIM[1:8]]
    return {
        **_SKULL,
        **_pin(still),
        **_pin(EYE_UPPER[1:-1], 1.0),
        **_pin([30, 29, 27, 28, 56, 247], 0.55),
        **dict.fromkeys(rims, 1.0),
    }


def _lip_pins() -> Pins:
    lips = [index for row in _UPPER_LIP_ROWS + _LOWER_LIP_ROWS for index in row]
    return {**_STILL, **_pin([152, 199, 175, 172]), **dict.fromkeys(lips, 1.0)}


@cache
def expression_fields() -> Fields:
    """The weights of all expressions; solved once per process, about 50 ms."""
    jaw, smile, cheek, brow, lid, lips = (
        harmonic(pins()).astype(np.float32)[:, None]
        for pins in (_jaw_pins, _smile_pins, _cheek_pins, _brow_pins, _lid_pins, _lip_pins)
    )
    return Fields(jaw=jaw, smile=smile, cheek=cheek, brow=brow, lid=lid, lips=lips)
