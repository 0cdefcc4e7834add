"""Judges whether the performer's bare face shows where the masks leave it open. Masks, mesh and crop in, yes or no out.

Note [Exposure]
    A mask that leaves half of a face open either fails, and then the performer is published, or it does its work
    because a hand or a microphone is in front. The two look different: where the mask fails, one sees what one has
    always seen there. So the face is remembered from frames in which the masks cover it wholly: brightness at some 500
    places that are fixed to the mesh, logarithmic and less its mean around, so that neither light nor skin counts but
    only what is darker than its surroundings - lids, brows, nostrils, lips. Where the open places correlate with what
    is remembered of them the face is bare; something in front does not correlate. Several looks are remembered, for
    poses and expressions, and the most similar one counts.

    What cannot be judged counts as bare: no memory yet, nearly nothing covered, or even the covered part of the face
    does not look as remembered, because the light jumped or the mesh slipped.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import canonical_mesh
from realtime.frame import ImageU8, MaskF32
from realtime.landmarks import LEFT_BROW, LEFT_EYE, LIPS_OUTER, NOSE, OVAL, RIGHT_BROW, RIGHT_EYE

FACE_COVERED, INNER_COVERED = 0.5, 0.6
"""The masks of the model cover at least so much of the face, and of each inner part - each half of eyes, nose and
mouth, each eye with its brow, the nose, the mouth - or the performer could be recognised: the frame counts as not
swapped, unless something else hides the rest."""
SPENT = 0.1
"""The settings of the blend may bring a part below that by taking so much of it from the model's masks, not more."""
LEAST_COVERED = 0.2
"""Share of the face below which no excuse counts."""
MARGIN = 0.85
"""With an excuse, only so much of what the masks may leave open at most is allowed to be bare."""
FACE_BARE, INNER_BARE = (0.15, 0.45), (0.4, 0.8)
"""Correlation with memory, relative to that of the covered part, up to which the open part of the face, or of a half of
eyes, nose and mouth, is wholly hidden, and from which on it is wholly bare. A half is small, so chance is higher."""
WHOLE_BARE = 0.35, 0.65
"""The same for the open part of the face; each half counts as at least so bare."""
SMALL_BARE = 0.7, 1.0
"""The same for an eye with its brow, the nose, or the mouth."""
KNOWN = 0.35
"""The covered part has to correlate at least so much with memory, or nothing is concluded from the open part."""
CERTAIN = 0.7
"""From this correlation on, relative to the covered part, what is open is remembered too: it is the face."""
LOOKS = 16
"""So many looks are kept; the oldest is forgotten first. Few enough that the linear algebra stays on one thread."""
NEW_LOOK = 0.85
"""A look that correlates less than this with all others is kept."""
LEARNT = 10
"""Wholly covered frames from which on there is a memory."""

_SHIFT_BITS, _FAR = 4, 2.0**20
_MIDDLE = (168, 6, 197, 195, 5, 4, 1, 2, 0, 17)
"""Bridge of the nose to lower lip."""
_COLUMNS, _ROWS = 24, 28
"""Places on the canonical face from temple to temple and from forehead to chin, before those outside are left out."""
_NEIGHBOURS = 6
"""Points of the mesh that a place follows."""
_PICTURE_PX = 64
"""The crop is looked at with so many pixels a side."""
_AROUND = 2.5
"""Standard deviation of the surroundings whose mean is taken off, in places."""
_DARK = 8.0
"""Grey levels added before the logarithm: in the dark, noise is no structure."""
_WHOLE = 0.9
"""Share of the face that is covered in a frame whose look is kept."""
_ALIKE = 2
"""So many looks that resemble the covered part are asked about the open part, and the newest look of every place."""
_SURE = 0.5
"""The covered part correlates at least so much with memory before the open part is remembered."""
_LEAST = FACE_COVERED, *6 * (INNER_COVERED,)
_BARE = FACE_BARE, INNER_BARE, INNER_BARE
_SMALL = 3
"""Number of the first part that is small: an eye with its brow, the other one, nose, mouth."""
Values = NDArray[np.float32]
"""One value per place, (P,)."""


class _Places(NamedTuple):
    """Places on the face, all in canonical positions; P of them."""

    points: NDArray[np.intp]
    """(P, _NEIGHBOURS) points of the mesh that a place follows."""
    weights: Values
    """(3, P, _NEIGHBOURS): position, and its change to the right and down on the canonical face."""
    inside: NDArray[np.bool_]
    """(_ROWS, _COLUMNS) where they lie on the grid."""
    amount: NDArray[np.float32]
    """(_ROWS, _COLUMNS) blurred `inside`."""
    parts: NDArray[np.float32]
    """(7, P) 1 in: the face, and each inner part, see FACE_COVERED."""


class Exposure:
    """What one followed face looks like. No clock; not thread-safe. `reset()` when another face is followed."""

    def __init__(self) -> None:
        count = len(_places().points)
        self._looks = np.zeros((LOOKS + 1, count), np.float32)
        self._known = np.zeros((LOOKS + 1, count), np.float32)
        self._energy = np.zeros_like(self._looks)
        self.reset()

    def reset(self) -> None:
        """Forget the face: another person, or a cut."""
        for each in (self._looks, self._known, self._energy):
            each[:] = 0
        self._kept = self._learnt = 0

    def hides(
        self,
        coverage: MaskF32,
        mesh: NDArray[np.floating],
        picture: NDArray[np.floating],
        crop: ImageU8,
        shown: MaskF32 | None = None,
    ) -> bool:
        """Whether nobody can recognise the performer: the masks cover the face, or something in front hides the rest.

        coverage: (n, n) in [0, 1], how much of each cell of the crop the identity covers. mesh: (468 or more, 2),
        picture: (4, 2) the corners of the frame, clockwise from the first pixel; both in cells. crop: (R, R, 3) BGR,
        what the model was given. shown: (n, n) in [0, 1], what is left of the coverage when the settings of the blend
        have narrowed, softened and thinned it; they may not open a part that the model covers.
        """
        face = _read(coverage, mesh, picture, crop)
        parts = _parts(coverage.shape[0], mesh, picture)
        covered = _shares(coverage, parts)
        open_parts = [number for number, least in enumerate(_LEAST) if not covered or covered[number] < least]
        halves_covered = not open_parts or open_parts[0] >= _SMALL
        if open_parts:
            judged = open_parts if halves_covered else sorted({*range(_SMALL), *open_parts})
            if self._learnt < LEARNT or not self._hidden(*face, judged):
                return False
        if halves_covered:
            self._learnt += not open_parts
            self._learn(*face)
        if shown is None:
            return True
        return all(
            there >= least or before - there <= SPENT
            for there, before, least in zip(_shares(shown, parts), covered, _LEAST, strict=True)
        )

    def _learn(self, look: Values, seen: Values, covered: Values) -> None:
        self._renew(look, covered > 0.5)
        if float(seen @ covered) < _WHOLE * float(seen.sum()):
            return
        if self._correlation(look, seen)[:LOOKS].max() < NEW_LOOK:
            slot = self._kept % LOOKS
            self._looks[slot], self._known[slot], self._energy[slot] = look, 1, look**2
            self._kept += 1

    def _renew(self, look: Values, where: NDArray[np.bool_]) -> None:
        """Let the newest look of the places `where` be that of `look`."""
        self._looks[LOOKS][where] = look[where]
        self._known[LOOKS][where] = 1
        self._energy[LOOKS] = self._looks[LOOKS] ** 2

    def _hidden(self, look: Values, seen: Values, covered: Values, judged: list[int]) -> bool:
        """Whether something in front hides what is open of the parts `judged`."""
        if float(seen @ covered) < LEAST_COVERED * float(seen.sum()):
            return False
        likeness = self._correlation(look, seen * covered)
        sure = float(likeness.max())
        if sure < KNOWN:
            return False
        for number in judged:
            if number >= _SMALL and not self._small_hidden(look, seen, covered, number, sure):
                return False
        if judged[0] >= _SMALL:
            return True
        if sure >= _SURE and float(self._correlation(look, seen * (1 - covered)).max()) >= CERTAIN * sure:
            self._renew(look, seen > 0)
        # The covered part tells pose and expression: only looks that share them say something about the rest.
        alike = np.append(np.argsort(likeness[:LOOKS])[-_ALIKE:], LOOKS)
        whole_bare: float | None = None
        for part, least, limits in zip(_places().parts[:_SMALL], _LEAST[:_SMALL], _BARE, strict=True):
            left_open = seen * part * (1 - covered)
            like_face = float(self._correlation(look, left_open)[alike].max()) / sure
            bare = max(_rise(like_face, limits), whole_bare or 0.0) * float(left_open.sum())
            if bare > MARGIN * (1 - least) * float((seen * part).sum()):
                return False
            if whole_bare is None:  # the first part is the whole face
                whole_bare = _rise(like_face, WHOLE_BARE)
        return True

    def _small_hidden(self, look: Values, seen: Values, covered: Values, number: int, sure: float) -> bool:
        """The same for an eye, nose or mouth: so small that all looks of a wholly covered face have to be asked."""
        part = _places().parts[number]
        left_open = seen * part * (1 - covered)
        like_face = float(self._correlation(look, left_open)[:LOOKS].max()) / sure
        bare = _rise(like_face, SMALL_BARE) * float(left_open.sum())
        return bare <= MARGIN * (1 - INNER_COVERED) * float((seen * part).sum())

    def _correlation(self, look: Values, weights: Values) -> Values:
        """(LOOKS + 1,) of a look with each remembered one, in [-1, 1]; 0 where nothing is remembered."""
        own = self._known @ (weights * look**2)
        theirs = self._energy @ weights
        return np.asarray((self._looks @ (weights * look)) / np.sqrt(own * theirs + 1e-9), np.float32)


def _rise(value: float, limits: tuple[float, float]) -> float:
    """0 up to the lower limit, 1 from the upper one on."""
    return min(max((value - limits[0]) / (limits[1] - limits[0]), 0.0), 1.0)


def covers(coverage: MaskF32, mesh: NDArray[np.floating], picture: NDArray[np.floating]) -> bool:
    """Whether `coverage` (n, n) in [0, 1] hides the face, judged where it lies both inside the grid and the picture.

    mesh: (468 or 478, 2), picture: (4, 2) the corners of the frame; both in cells of the grid.
    """
    return _enough(_shares(coverage, _parts(coverage.shape[0], mesh, picture)))


def _enough(shares: list[float]) -> bool:
    return bool(shares) and all(share >= least for share, least in zip(shares, _LEAST, strict=True))


def _shares(coverage: MaskF32, parts: list[NDArray[np.uint8]]) -> list[float]:
    """How much of each part is covered, in [0, 1]; 1 for a part that is not in the picture."""
    return [cv2.mean(coverage, mask=part)[0] if cv2.countNonZero(part) else 1.0 for part in parts]


def _parts(cells: int, mesh: NDArray[np.floating], picture: NDArray[np.floating]) -> list[NDArray[np.uint8]]:
    """(cells, cells) 1 in what is in the picture of the face and of each inner part; empty when there is no face."""
    seen = np.zeros((cells, cells), np.uint8)
    cv2.fillConvexPoly(seen, _corners(picture), 1, shift=_SHIFT_BITS)
    face = np.zeros_like(seen)
    cv2.fillPoly(face, [_corners(mesh[_inner()[0]])], 1, shift=_SHIFT_BITS)
    if not cv2.countNonZero(face):
        return []
    parts = [face & seen]
    for points in _inner()[1:]:
        part = np.zeros_like(seen)
        outline = np.asarray(cv2.convexHull(mesh[points].astype(np.float32)), np.float32)
        cv2.fillConvexPoly(part, _corners(outline), 1, shift=_SHIFT_BITS)
        parts.append(part & seen)
    return parts


def _corners(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """A polygon for OpenCV: whole numbers of 1 / 2 ** _SHIFT_BITS, counted from the centre of the first cell."""
    return np.asarray(np.rint(np.clip((points - 0.5) * 2**_SHIFT_BITS, -_FAR, _FAR)), np.int32)


@cache
def _inner() -> tuple[NDArray[np.intp], ...]:
    """The outline of the face, and the points of each inner part, see FACE_COVERED."""
    middle = canonical_mesh()[_MIDDLE[0], 0]
    around = np.array(RIGHT_EYE + LEFT_EYE + NOSE + LIPS_OUTER)
    x = canonical_mesh()[around, 0]
    halves = (np.union1d(around[side], _MIDDLE) for side in (x < middle, x > middle))
    small = (RIGHT_EYE + RIGHT_BROW, LEFT_EYE + LEFT_BROW, NOSE, LIPS_OUTER)
    return (np.array(OVAL), *halves, *(np.array(part) for part in small))


def _read(
    coverage: MaskF32, mesh: NDArray[np.floating], picture: NDArray[np.floating], crop: ImageU8
) -> tuple[Values, Values, Values]:
    """Of each place: its look, how large it is seen (0: turned away, or not in the picture), how much is covered."""
    places, cells = _places(), coverage.shape[0]
    corners = np.asarray(mesh, np.float32)[places.points]
    at, right, down = np.einsum("dpk,pkj->dpj", places.weights, corners)
    origin, along, below = picture[0], picture[1] - picture[0], picture[3] - picture[0]
    inwards = np.linalg.pinv(np.column_stack([along, below])).astype(np.float32)
    where = (at - origin.astype(np.float32)) @ inwards.T
    inside = ((where >= 0) & (where <= 1)).all(axis=1) & ((at >= 0) & (at <= cells)).all(axis=1)
    size = right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0]
    seen = np.where(inside, np.maximum(size, 0), 0).astype(np.float32)

    small = cv2.resize(crop, (_PICTURE_PX, _PICTURE_PX), interpolation=cv2.INTER_AREA)
    levels = _sample(np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32), at / cells)
    grid = np.zeros(places.inside.shape, np.float32)
    grid[places.inside] = np.log(levels + np.float32(_DARK))
    around = cv2.GaussianBlur(grid, (0, 0), _AROUND, borderType=cv2.BORDER_CONSTANT) / places.amount
    look = (grid - around)[places.inside]
    return look, seen, np.clip(_sample(coverage, at / cells), 0, 1)


def _sample(picture: MaskF32, at: NDArray[np.float32]) -> Values:
    """(P,) values of a square picture at positions in its sides."""
    x, y = np.clip(at * picture.shape[0] - 0.5, -1, picture.shape[0]).astype(np.float32).T
    sampled = cv2.remap(picture, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled[0], np.float32)


@cache
def _places() -> _Places:
    canonical = canonical_mesh()
    outline = canonical[list(OVAL)].astype(np.float32)
    low, high = outline.min(axis=0), outline.max(axis=0)
    x, y = (
        low[axis] + (np.arange(count) + 0.5) / count * (high[axis] - low[axis])
        for axis, count in enumerate((_COLUMNS, _ROWS))
    )
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    inside = _within(grid, outline)
    points, weights = [], []
    for place in grid[inside]:
        # Moving least squares: follows its neighbours exactly wherever they move by one affine map.
        nearest = np.argsort(np.linalg.norm(canonical - place, axis=1))[:_NEIGHBOURS]
        away = canonical[nearest] - place
        trust = 1 / ((away**2).sum(axis=1) + 1e-4)
        basis = np.column_stack([np.ones(_NEIGHBOURS), away])
        points.append(nearest)
        weights.append(np.linalg.solve(basis.T @ (trust[:, None] * basis) + 1e-9 * np.eye(3), basis.T * trust))
    inner = [
        _within(grid, np.asarray(cv2.convexHull(canonical[part].astype(np.float32)), np.float32))[inside]
        for part in _inner()[1:]
    ]
    amount = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), _AROUND, borderType=cv2.BORDER_CONSTANT)
    return _Places(
        np.array(points),
        np.stack(weights, axis=1).astype(np.float32),
        inside,
        np.maximum(amount, np.float32(1e-6)),
        np.stack([np.ones(len(points)), *inner]).astype(np.float32),
    )


def _within(grid: NDArray[np.floating], outline: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(rows, columns) which positions (rows, columns, 2) lie inside a polygon."""
    flat = [cv2.pointPolygonTest(outline, (float(x), float(y)), False) > 0 for x, y in grid.reshape(-1, 2)]
    return np.array(flat).reshape(grid.shape[:2])
