"""Where each material lies in the texture. Part coordinates in, texture pixels out."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from realtime.actors.numerics import Floats
from realtime.actors.topology import REFERENCE, SKULL_CENTRE

ATLAS_SHAPE: Final = (1024, 1280, 4)


class Region(NamedTuple):
    """A rectangle of the atlas, in pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of its rows and columns."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def uv(self, u: ArrayLike, v: ArrayLike) -> Floats:
        """(N, 2) atlas pixels for u (to the right) and v (down) in [0, 1]; a margin keeps neighbours out."""
        u, v = np.broadcast_arrays(u, v)
        x = self.x + 2 + np.clip(u, 0, 1) * (self.width - 5)
        y = self.y + 2 + np.clip(v, 0, 1) * (self.height - 5)
        return np.stack([x, y], -1).reshape(-1, 2)


SKIN = Region(0, 0, 768, 640)
EYE = Region(768, 0, 256, 256)
TEETH = Region(768, 256, 256, 128)
FLESH = Region(768, 384, 256, 64)
HAND = Region(768, 448, 256, 192)
BODY = Region(0, 640, 640, 384)
HAIR = Region(640, 640, 640, 384)
FRAME = Region(1024, 0, 64, 64)

SKIN_TOP_CM, SKIN_HEIGHT_CM = -11, 29
SKIN_ANGLE = 4.4
"""Radians round the head that the width of SKIN spans."""


def _unwrap() -> Floats:
    behind = np.maximum(SKULL_CENTRE[2] - REFERENCE[:, 2], -6)
    x = SKIN.width // 2 + np.arctan2(REFERENCE[:, 0], behind) * SKIN.width / SKIN_ANGLE
    y = (REFERENCE[:, 1] - SKIN_TOP_CM) / SKIN_HEIGHT_CM * SKIN.height
    return np.stack([x, y], 1)


SKIN_UV = _unwrap()
"""(736, 2) texture pixels of the control vertices: a cylinder round the generic head, the same for everybody."""
