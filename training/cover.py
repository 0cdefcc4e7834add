"""Estimates how much of a face something hides. Crop and mesh in, a share out.

Note [Cover]
    Every face is darker than its surroundings in the same places: brows, lids, nostrils, lips. The crop is read at
    ROWS x COLUMNS places that are fixed to the mesh, as logarithms of brightness less their mean around, so that light
    and skin do not count, and compared with what such places look like in general, piece by piece. Where a piece does
    not correlate with a face, something else is in front. What is turned away has no say.

    What faces look like in general is the median over 439 rendered faces of 10 people with nothing in front, made
    symmetric. A face with faint brows or a fringe resembles it less: of 4 other people one is at 0.24 with nothing in
    front, three are below 0.04. So whoever has a whole set compares each face with the median look of its own set.

    Measured on the faces of these 4, 156 through FaceFinder, half of them turned by more than 20 degrees: a hand hides
    more than 3 % of a face, or nothing does. Chance that the hidden one is higher (AUC), and correlation with the share
    that is hidden:     against faces in general 0.68 and 0.50     against the person's own median 0.79 and 0.67
    On the 10 people themselves these are 0.84 and 0.73, 0.87 and 0.78; for drawn boxes, arms and blobs 0.83 and 0.77.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.actors.mesh import TRIANGLES
from realtime.align import canonical_mesh
from realtime.frame import ImageU8, Points
from realtime.landmarks import LEFT_EYE, LIPS_INNER, OVAL, RIGHT_EYE

ROWS, COLUMNS = 28, 24
"""Places on the canonical face from forehead to chin and from temple to temple; those outside its outline are empty."""
_FACE_PX = 64
"""Height of the face at which it is read."""
_AROUND, _PIECE = 2.5, 3.0
"""Standard deviations of the surroundings whose mean is taken off, and of the pieces that are compared, in places."""
_FACE_LIKE = 0.35
"""A piece that correlates less than this with faces in general is none."""
_DARK = 8.0
"""Grey levels added before the logarithm: in the dark, noise is no structure."""
_FAINT = 1e-3
_LOOK = (
    "0,0,0,0,0,0,0,0,7,7,7,6 0,0,0,0,0,0,7,9,10,9,9,8 0,0,0,0,3,6,9,13,13,12,11,11 0,0,0,0,4,9,12,15,15,15,15,14 "
    "0,0,0,0,4,7,8,0,-9,-6,13,16 0,0,0,0,4,5,-10,-38,-37,-38,-14,16 0,-3,0,0,2,-1,-20,5,5,-6,-6,14 "
    "0,-2,0,0,2,4,4,6,2,-8,-12,10 0,-1,0,0,5,6,-12,-42,-49,-32,-11,11 -3,0,-2,0,10,15,16,-10,-34,-7,2,13 "
    "0,0,-2,0,10,16,15,12,11,10,2,16 0,0,-2,0,6,9,11,9,8,11,0,13 0,0,-3,0,2,7,11,12,12,10,0,13 "
    "0,0,-4,0,0,4,8,11,11,5,0,11 0,0,-4,0,-1,2,6,9,9,-1,-4,-19 0,0,0,0,-1,1,5,8,7,5,-22,-16 "
    "0,0,0,0,0,0,4,7,6,13,8,-5 0,0,0,0,0,2,5,6,8,14,15,15 0,0,0,0,0,1,4,5,4,-6,-20,-16 "
    "0,0,0,-2,0,0,2,3,2,-24,-28,-32 0,0,0,0,-1,0,1,6,11,11,4,5 0,0,0,0,-2,-1,0,5,11,11,4,-5 "
    "0,0,0,-1,-3,-2,0,3,8,10,6,-5 0,0,0,0,-3,-3,-1,1,5,9,9,7 0,0,0,0,0,-7,-4,-1,2,8,11,11 "
    "0,0,0,0,0,0,0,-4,0,3,8,8 0,0,0,0,0,0,0,0,-6,-2,0,0 0,0,0,0,0,0,0,0,0,0,-7,-7 "
)
"""Half of the median look, the side of the person's right, row by row from the forehead, in hundredths."""


class _Places(NamedTuple):
    """Places on the face, P of them."""

    corners: NDArray[np.intp]
    """(P, 3) points of the mesh round each place."""
    weights: NDArray[np.float32]
    """(P, 3) of these points."""
    area: NDArray[np.float32]
    """(P,) of their triangle on the canonical face."""
    inside: NDArray[np.bool_]
    """(ROWS, COLUMNS) where they lie on the grid."""


class FaceLook(NamedTuple):
    """What one face looks like at its places, see Note [Cover]."""

    values: NDArray[np.float32]
    """(ROWS, COLUMNS) log of brightness less its mean around; 0 outside the face."""
    seen: NDArray[np.float32]
    """(ROWS, COLUMNS) how large a place is seen, [0, 1]."""


def read_cover(crop: ImageU8, mesh: Points) -> float:
    """Share of the seen face that does not look like one, [0, 1]; `mesh` (468 or more, 3) in pixels of `crop`."""
    return unlike(read_look(crop, mesh), general_look())


def read_look(crop: ImageU8, mesh: Points) -> FaceLook:
    """The look of one face; `mesh` (468 or more, 3) in pixels of the (P, P, 3) BGR `crop`."""
    places = _places()
    levels, seen = _grid(), _grid()
    brightness, seen[places.inside] = _read(crop, mesh)
    levels[places.inside] = np.log(brightness + np.float32(_DARK))
    around = _blurred(levels * seen, _AROUND) / (_blurred(seen, _AROUND) + _FAINT)
    return FaceLook((levels - around) * (seen > 0), seen)


def unlike(look: FaceLook, usual: NDArray[np.float32]) -> float:
    """Share of the seen face, [0, 1], that does not correlate with the look `usual`, (ROWS, COLUMNS)."""
    common = _blurred(look.values * usual * look.seen, _PIECE)
    energy = _blurred(look.values**2 * look.seen, _PIECE) * _blurred(usual**2 * look.seen, _PIECE)
    strange = common < _FACE_LIKE * np.sqrt(energy + 1e-12)
    return float((strange * look.seen).sum() / max(float(look.seen.sum()), 1e-6))


def _read(crop: ImageU8, mesh: Points) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(P,) grey levels at the places, and how large each is seen: 1 from the front, 0 turned away or cut off."""
    places = _places()
    points = mesh[:468, :2].astype(np.float32)
    corners = points[places.corners]
    side = int(np.clip(round(crop.shape[0] * _FACE_PX / max(float(np.ptp(points[:, 1])), 1.0)), 16, crop.shape[0]))
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)
    at = (np.einsum("pk,pkj->pj", places.weights, corners) + 0.5) * (side / crop.shape[0]) - 0.5
    inside = ((at >= 0) & (at <= side - 1)).all(axis=1)
    where = np.clip(at, -1, side).astype(np.float32)[None]
    sampled = cv2.remap(grey, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    size = _area(corners) / places.area
    largest = max(float(np.percentile(size, 95)), 1e-6)
    return np.asarray(sampled[0], np.float32), np.where(inside, np.clip(size / largest, 0, 1), 0).astype(np.float32)


def _area(corners: NDArray[np.floating]) -> NDArray[np.float32]:
    """(P,) twice the signed area of triangles (P, 3, 2)."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0], np.float32)


def _grid() -> NDArray[np.float32]:
    return np.zeros((ROWS, COLUMNS), np.float32)


def _blurred(grid: NDArray[np.float32], spread: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(grid, (0, 0), spread, borderType=cv2.BORDER_CONSTANT), np.float32)


@cache
def general_look() -> NDArray[np.float32]:
    """(ROWS, COLUMNS) what faces look like in general."""
    half = np.array([[int(value) for value in row.split(",")] for row in "".join(_LOOK).split()], np.float32) / 100
    return np.concatenate([half, half[:, ::-1]], axis=1)


@cache
def _places() -> _Places:
    canonical = canonical_mesh()
    outline = canonical[list(OVAL)].astype(np.float32)
    low, high = outline.min(axis=0), outline.max(axis=0)
    x, y = (low[i] + (np.arange(n) + 0.5) / n * (high[i] - low[i]) for i, n in ((0, COLUMNS), (1, ROWS)))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    inside = np.array([cv2.pointPolygonTest(outline, (float(u), float(v)), False) > 0 for u, v in grid])
    holes = [
        (ring[0], ring[i], ring[i + 1]) for ring in (RIGHT_EYE, LEFT_EYE, LIPS_INNER) for i in range(1, len(ring) - 1)
    ]
    triangles = np.concatenate([TRIANGLES, np.array(holes)])
    corners, full = canonical[triangles], _area(canonical[triangles])
    full = np.where(np.abs(full) < 1e-9, 1e-9, full)
    # Barycentric coordinates of every place in every triangle; it lies in the one where the least is greatest.
    shares = np.stack([_shares(grid[inside], corners, corner) / full for corner in range(3)], axis=-1)
    best = shares.min(axis=-1).argmax(axis=1)
    weights = np.clip(shares[np.arange(len(best)), best], 0, 1)
    weights /= weights.sum(axis=1, keepdims=True)
    return _Places(triangles[best], weights.astype(np.float32), full[best], inside.reshape(ROWS, COLUMNS))


def _shares(places: NDArray[np.float64], corners: NDArray[np.float64], corner: int) -> NDArray[np.float64]:
    """(P, T) twice the area between each place and the two other corners of each triangle."""
    b, c = (corners[None, :, corner - 2] - places[:, None], corners[None, :, corner - 1] - places[:, None])
    return np.asarray(b[..., 0] * c[..., 1] - b[..., 1] * c[..., 0])
