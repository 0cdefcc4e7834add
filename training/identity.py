"""Tells people apart without a network for faces. Crops with their meshes in, vectors and persons out.

Note [Who is who]
    A face becomes a short vector: the shape of the rigid part of its mesh, turned to the front, and the colours of its
    middle on a coarse grid, minus what the direction it faces explains, projected so that the looks of one person -
    other expressions, other light - lie close together and those of different people far apart. The projection is
    Fisher's linear discriminant (Rao 1948) with a shrunken covariance, computed from rendered people who do not exist:
    nothing was downloaded. `python -m benchmarks.identity` makes identity.npy again, and measures it.

    Looks of one person scatter; the mean of several is surer. The squared distance of two means of n and m looks,
    taken LOOK_S apart, is compared with SAME + SCATTER (1/n + 1/m), fitted where as many strangers are taken for the
    person as the person is refused. On 80 rendered people whom the projection has never seen, while their heads, lips
    and light move, that happens to

        looks compared     1 with 1   3 with 3   6 with 6
        equal error rate    6.5 %      1.2 %      0.1 %

    of the pairs. Tracks of 3 looks of all 80 at once come into groups of which 91 % is one person; nobody is in two.
    Three real people, filmed once each: halves of one film lie 1.6 to 2.5 apart, two films 9 to 14. So passers-by are
    left out of one's own footage well enough; siblings are not told apart, nobody is found by a picture from other
    years, and whoever relies on it looks at the contact sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import RIGID, CropGeometry, frame_to_crop, whole_face
from realtime.detect import FaceFinder
from realtime.errors import UsageError
from realtime.frame import Frame, ImageU8, Points
from realtime.images import read_image
from realtime.likeness import SHAPE_SPREAD, rigid_shape
from training.cut import cut_face

LOOK_S = 2.0
"""Looks further apart in time count as independent of each other."""
SAME, SCATTER = 11.2, 19.1
"""See Note [Who is who]."""
_CELLS, _SAMPLES = 12, 96
_COVERAGE = 1.1
"""Brows to lips, cheek to cheek: neither hair nor what is behind the head."""
_COLOUR_SPREAD, _DARKEST = 0.25, 8.0
"""In natural logarithms, and levels that are added before it is taken."""
_REFERENCE_PX = 256
_MOST_AT_ONCE = 300
_SURELY = 0.5


def features(crop: ImageU8, mesh: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a face looks like, (888,), and the powers of where it faces, (7,), before any projection.

    `crop` is (P, P, 3) BGR, `mesh` (468, 3) in its pixels. Raises ValueError for a mesh that cannot be aligned.
    """
    side, shape = rigid_shape(mesh)
    matrix = frame_to_crop(mesh, CropGeometry(_SAMPLES, _COVERAGE))
    middle = cv2.warpAffine(crop, matrix, (_SAMPLES, _SAMPLES), borderMode=cv2.BORDER_REPLICATE)
    cells = cv2.resize(middle, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).astype(np.float64)
    colours = np.log(cells + _DARKEST) / _COLOUR_SPREAD / _CELLS
    right, down = side
    powers = np.array([1.0, right, down, right**2, down**2, right * down, right**3])
    return np.concatenate([(shape / SHAPE_SPREAD / len(RIGID) ** 0.5).ravel(), colours.ravel()]), powers


def embed(crop: ImageU8, mesh: Points) -> NDArray[np.float32]:
    """(24,) vector of a face; looks of one person are about 5 apart, means of many looks 1 to 3, Euclidean.

    `crop` is (P, P, 3) BGR of any size, `mesh` (468, 3) in its pixels; what is outside the face does not count.
    Raises ValueError for a mesh that cannot be aligned.
    """
    look, powers = features(crop, mesh)
    by_side, projection = _projection()
    return np.asarray((look - powers @ by_side) @ projection, np.float32)


@cache
def _projection() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(7, 888) what a look is on average by where it faces, and (888, 24)."""
    stored = np.load(Path(__file__).with_name("identity.npy"), allow_pickle=False).astype(np.float64)
    return stored[:7], stored[7:].T


def likeness(a: NDArray[np.floating], b: NDArray[np.floating], looks_a: float, looks_b: float) -> float:
    """How far apart two persons' mean vectors are: below 1 it is rather one person, above rather two."""
    return float(((a - b) ** 2).sum() / (SAME + SCATTER * (1 / looks_a + 1 / looks_b)))


def cluster(
    embeddings: NDArray[np.floating],
    looks: NDArray[np.floating] | None = None,
    faces: NDArray[np.floating] | None = None,
) -> NDArray[np.intp]:
    """(N,) number of the person of each of the (N, 24) `embeddings`: 0 has most faces, then 1 and so on.

    Each is the vector of a face, or the mean of a track: then `looks` (N,) says how many independent looks it has, and
    `faces` how many faces; both are 1 otherwise. The nearest two are joined as long as they are rather one person.
    """
    count = len(embeddings)
    if not count:
        return np.empty(0, np.intp)
    points = np.asarray(embeddings, np.float64)
    weights = np.ones(count) if looks is None else np.maximum(np.asarray(looks, np.float64), 1.0)
    sizes = np.ones(count) if faces is None else np.asarray(faces, np.float64)
    groups = _lead(points, weights) if count > _MOST_AT_ONCE else np.arange(count)
    groups = _join(points, weights, groups)
    totals = np.bincount(groups, sizes)
    rank = np.empty(len(totals), np.intp)
    rank[np.argsort(-totals, kind="stable")] = np.arange(len(totals))
    return rank[groups]


def _lead(points: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Groups of points that are surely one person, in one pass: joining pair by pair takes cubic time."""
    centres, masses = np.empty_like(points), np.empty(len(points))
    groups, used = np.empty(len(points), np.intp), 0
    for i, (point, weight) in enumerate(zip(points, weights, strict=True)):
        bound = SAME + SCATTER * (1 / masses[:used] + 1 / weight)
        ratio = ((centres[:used] - point) ** 2).sum(axis=1) / bound
        best = int(ratio.argmin()) if used else 0
        if not used or ratio[best] > _SURELY:
            best, used = used, used + 1
            centres[best], masses[best] = point, 0.0
        masses[best] += weight
        centres[best] += (point - centres[best]) * weight / masses[best]
        groups[i] = best
    return groups


def _join(points: NDArray[np.float64], weights: NDArray[np.float64], groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """The groups after the nearest two have been joined again and again; numbered from 0 without gaps."""
    masses = np.asarray(np.bincount(groups, weights), np.float64)
    centres = np.stack([np.bincount(groups, weights * axis) for axis in points.T], axis=1) / masses[:, None]
    owner = np.arange(len(masses))
    alive = np.ones(len(masses), bool)
    ratios = np.full((len(masses), len(masses)), np.inf)
    for i in range(1, len(masses)):
        ratios[i, :i] = _ratios(centres, masses, i)[:i]
    while True:
        a, b = np.unravel_index(int(ratios.argmin()), ratios.shape)
        if not ratios[a, b] < 1:
            break
        total = masses[a] + masses[b]
        centres[b] += (centres[a] - centres[b]) * masses[a] / total
        masses[b], alive[a] = total, False
        owner[owner == a] = b
        ratios[a], ratios[:, a] = np.inf, np.inf
        fresh = np.where(alive, _ratios(centres, masses, int(b)), np.inf)
        ratios[b, :b], ratios[b + 1 :, b] = fresh[:b], fresh[b + 1 :]
    return np.unique(owner[groups], return_inverse=True)[1].astype(np.intp)


def _ratios(centres: NDArray[np.float64], masses: NDArray[np.float64], i: int) -> NDArray[np.float64]:
    bounds = SAME + SCATTER * (1 / masses + 1 / masses[i])
    return np.asarray(((centres - centres[i]) ** 2).sum(axis=1) / bounds)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The person on one or more pictures."""

    mean: NDArray[np.float32]
    """(24,)"""
    looks: int
    """Pictures."""

    @classmethod
    def of_pictures(cls, pictures: Sequence[Path]) -> Self:
        """The largest face on each picture. Raises SourceError for what is no picture, UsageError for one of nobody."""
        vectors = []
        with FaceFinder(static=True) as finder:
            for path in pictures:
                image = read_image(path)
                faces = finder.find(Frame(image, 0, 0.0))
                if not faces:
                    raise UsageError(f"{path} shows no face; give --person a picture with the face large and in front")
                crop, mesh = cut_face(image, faces[0], whole_face(_REFERENCE_PX))
                vectors.append(embed(crop.image, mesh))
        return cls(np.mean(vectors, axis=0), len(vectors))

    def shows(self, mean: NDArray[np.floating], looks: float) -> bool:
        """Whether a track with that mean of so many looks is rather this person."""
        return likeness(self.mean, mean, self.looks, looks) < 1
