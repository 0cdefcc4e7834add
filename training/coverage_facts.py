"""Reads what the coverage report compares. An open faceset in, arrays with a row for each face out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime.errors import FacesetError
from training.contact_sheet import pick_evenly
from training.cover import FaceLook, general_look, read_look, unlike
from training.eye_white import read_eye_white
from training.faceset import Faceset
from training.faceset_index import FaceRecord
from training.identity import LOOK_S, cluster, embed, likeness
from training.measures import measure

MOST_FACES = 1500
"""Of a larger set, so many faces are looked at, spread evenly: more change no figure by a percent."""
EXPRESSION = "mouth", "width", "eyes", "brows"
LIGHT = "right", "down", "level", "warmth"
_SMALL_EYES_PX = 90.0
"""Of a face less high than this in its source the white of the eyes cannot be read."""
SHORT_S = 2.0
"""Shots shorter than this are short."""
SURELY_ANOTHER = 3.0
"""Likeness from which on a group of faces is somebody else: groups of one person, rendered or real, were found 1 to 2
apart, a few faces with a hand before them 3, and other rendered people 5 to 10."""
HIDES = 0.13
"""A face of which more is unlike has something in front, and does not tell who it is."""
_ALIKE, _ALIKE_DEG, _ALIKE_LIGHT = 9, 8.0, 0.25
"""Faces that a face is compared with, and what counts as one step away from it in pose and light."""
PALEST = -0.5
"""Skin reflects at least so many stops less than the white of the eyes; eyes that say otherwise lie in the shade."""
_WHITES = 5
"""So many faces whose eyes could be read tell the skin."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shots:
    """The stretches in which a face was followed without a cut, and without losing it."""

    count: int
    median_s: float
    """Length of a shot."""
    short: float
    """Share of all faces that come from shots shorter than SHORT_S."""


@dataclass(frozen=True, slots=True, eq=False)
class SetFacts:
    """What the N faces of a set that were looked at show."""

    name: str
    """Of its folder."""
    total: int
    """Faces in the set; of a larger one than MOST_FACES only some were looked at."""
    index: NDArray[np.intp]
    """(N,) number in the set."""
    pts_s: Floats
    """(N,) time inside its film, seconds."""
    shots: Shots | None
    """Of the whole set; None where frames lie too far apart to tell."""
    pose: Floats
    """(N, 2) yaw and pitch in degrees, signs as in Note [Head pose]."""
    expression: Floats
    """(N, 4) in the order of EXPRESSION, see Note [Expression]."""
    light: Floats
    """(N, 4) in the order of LIGHT, see Note [Light of a face]; level and warmth hold the skin's own."""
    skin: tuple[float, float] | None
    """Level and warmth that are the skin's own, see Note [White of the eyes]; None where the eyes do not tell."""
    sharpness: Floats
    native_px: Floats
    covered: Floats
    """(N,) share of the face that looks unlike the rest of the set, and unlike faces in general, [0, 1]."""
    covered_always: float
    """Share of the set's own median look that is unlike faces in general: hair, a beard, or something that stays."""
    person: NDArray[np.intp]
    """(N,) 0 for whom the set shows most, 1 for somebody else."""
    stored_px: float
    """Height of a face in the stored crops, pixels."""

    def __len__(self) -> int:
        return len(self.index)


def read_facts(faceset: Faceset, on_progress: Callable[[int, int], None] | None = None) -> SetFacts:
    """Look at up to MOST_FACES faces of a set; what was measured at extraction is taken from its index.

    Raises FacesetError for a crop that cannot be read or a mesh that is no head.
    """
    chosen = pick_evenly(len(faceset), MOST_FACES)
    geometry = faceset.geometry.widened(faceset.margin)
    measures, whites, looks, vectors = [], [], [], []
    for done, i in enumerate(chosen, start=1):
        record, crop, mesh = faceset.records[i], faceset.image(i), faceset.landmarks[i]
        try:
            measures.append(record.measures or measure(crop, mesh, geometry))
            vectors.append(embed(crop, mesh))
        except ValueError as error:
            raise FacesetError(f"{faceset.path}: face {i} has a mesh that is no head; extract it again") from error
        large = record.native_px >= _SMALL_EYES_PX
        whites.append(read_eye_white(crop, mesh) if large else None)
        looks.append(read_look(crop, mesh))
        if on_progress:
            on_progress(done, len(chosen))
    records = [faceset.records[i] for i in chosen]
    track = np.array([record.track for record in records], np.intp)
    pts_s = np.array([record.pts_s for record in records])
    light = np.array([[*each.light[1:3], each.light[0], each.warmth] for each in measures])
    pose = np.array([[record.yaw, record.pitch] for record in records])
    covered, always = _covered(looks, pose, light[:, :2])
    return SetFacts(
        name=faceset.path.name,
        total=len(faceset),
        index=np.array(chosen, np.intp),
        pts_s=pts_s,
        shots=count_shots(faceset.records),
        pose=pose,
        expression=np.array([[each.mouth, each.width, each.eyes, each.brows] for each in measures]),
        light=light,
        skin=_skin(light[:, 2:], whites),
        sharpness=np.array([record.sharpness for record in records]),
        native_px=np.array([record.native_px for record in records]),
        covered=covered,
        covered_always=always,
        person=_persons(vectors, np.array([record.person for record in records], np.intp), track, pts_s, covered),
        stored_px=float(np.median([np.ptp(faceset.landmarks[i][:, 1]) for i in chosen[:: max(1, len(chosen) // 50)]])),
    )


def count_shots(records: Sequence[FaceRecord]) -> Shots | None:
    """How long faces were followed; None where hardly any face follows another, as of a film sampled sparsely."""
    order = sorted(records, key=lambda record: (record.source, record.pts_s))
    follows = [b.pts_s - a.pts_s for a, b in itertools.pairwise(order) if (a.source, a.track) == (b.source, b.track)]
    if len(follows) < len(order) / 4:
        return None
    step_s = float(np.median(follows))
    times: dict[int, list[float]] = {}
    for record in order:
        times.setdefault(record.track, []).append(record.pts_s)
    lengths = {track: max(pts_s) - min(pts_s) + step_s for track, pts_s in times.items()}
    short = sum(len(times[track]) for track, length in lengths.items() if length < SHORT_S)
    return Shots(len(lengths), float(np.median(list(lengths.values()))), short / len(order))


def _skin(seen: Floats, whites: list[tuple[float, float] | None]) -> tuple[float, float] | None:
    """Level and warmth of the skin itself, `seen` being (N, 2) of skin in its light; None: the eyes are too small."""
    pairs = [(own, white) for own, white in zip(seen, whites, strict=True) if white is not None]
    if len(pairs) < _WHITES:
        return None
    level, warmth = np.median([own - np.array(white) for own, white in pairs], axis=0).tolist()
    return min(level, PALEST), warmth


def _covered(looks: list[FaceLook], pose: Floats, light: Floats) -> tuple[Floats, float]:
    """Of each face how unlike it is, and how unlike faces in general the set is; (N, 2) `pose` and `light`.

    Light from a side that is rare makes a face unlike its set, a beard makes it unlike faces in general, a dark skin
    with glasses in side light makes it unlike both, but not unlike the faces nearest to it in pose and light; what
    something hides is unlike all three. Of the 1872 free faces in 10 rendered sets of 4 people at most 2 % of any set
    are called hidden, and 45 to 54 % of those with a hand in front; with two comparisons, and 0.25 as the limit, it was
    up to 18 % of a set, and 38 to 53 %. The limit was chosen on these sets.
    """
    seen = np.array([look.seen for look in looks])
    values = np.where(seen > 0.1, np.array([look.values for look in looks]), np.nan)
    usual = _median_look(values, general_look())
    always = unlike(FaceLook(usual, seen.mean(axis=0)), general_look())
    places = np.hstack([pose / _ALIKE_DEG, light / _ALIKE_LIGHT])
    covered = np.empty(len(looks))
    for i, look in enumerate(looks):
        apart = ((places - places[i]) ** 2).sum(axis=1)
        apart[i] = np.inf
        near = _median_look(values[np.argsort(apart, kind="stable")[:_ALIKE]], usual)
        covered[i] = min(unlike(look, other) for other in (usual, general_look(), near))
    return covered, always


def _median_look(values: NDArray[np.float32], otherwise: NDArray[np.float32]) -> NDArray[np.float32]:
    """(ROWS, COLUMNS) median of looks, (N, ROWS, COLUMNS) with NaN where nothing is seen; `otherwise` where few are."""
    enough = np.isfinite(values).sum(axis=0) >= 3
    return np.where(enough, np.nanmedian(np.where(enough, values, 0), axis=0), otherwise).astype(np.float32)


def _persons(
    vectors: list[NDArray[np.float32]], known: NDArray[np.intp], track: NDArray[np.intp], pts_s: Floats, covered: Floats
) -> NDArray[np.intp]:
    """(N,) who each face is: 0 for whom the set shows most, 1 for whoever is surely somebody else.

    `known` is what extraction said; a set of which it said nothing is clustered here, a track being one person. Of
    (N,) `covered` faces nobody can tell who they are: a group of which most are is not called somebody else.
    """
    points = np.array(vectors, np.float64)
    groups = known if known.any() else _cluster_tracks(points, track, pts_s)
    person = np.zeros(len(points), np.intp)
    free = covered <= HIDES
    main = (groups == 0) & free if ((groups == 0) & free).any() else groups == 0
    for group in np.unique(groups[groups > 0]):
        own = (groups == group) & free
        if own.sum() * 2 < (groups == group).sum():
            continue
        apart = likeness(points[own].mean(axis=0), points[main].mean(axis=0), float(own.sum()), float(main.sum()))
        person[groups == group] = apart > SURELY_ANOTHER
    return person


def _cluster_tracks(points: Floats, track: NDArray[np.intp], pts_s: Floats) -> NDArray[np.intp]:
    _, place, faces = np.unique(track, return_inverse=True, return_counts=True)
    means = np.zeros((len(faces), points.shape[1]))
    np.add.at(means, place, points)
    means /= faces[:, None]
    spans = [np.ptp(pts_s[place == i]) for i in range(len(faces))]
    looks = np.maximum(np.minimum(np.array(spans) / LOOK_S, faces), 1.0)
    return cluster(means, looks, faces.astype(np.float64))[place]
