"""Makes what tells people apart, and measures it. Rendered people in; training/identity.npy and JSON out.

    python -m benchmarks.identity --work DIR [--faceset FACESET] [--people 200] [--write] [--json FILE]

Everybody is filmed for MOMENTS moments, two seconds apart, while head, lips and light move; what was filmed before in
DIR is kept, and so is a faceset of such films that holds one source for each person. The projection is computed from
the first 60 % of the people and measured on the others. With `--write` it becomes the product's.

    equal_error      where as many strangers are taken for a person as the person is refused: the first n moments of
                     everybody against the last n
    refused, taken   shares of the two with the product's bound
    purity           faces in a group most of which is another person do not count; groups of films cut into tracks
    found            share of a person's faces that are in one group, the largest of that person
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.performers import film_performers, gather
from realtime import machine
from realtime.files import write_atomically
from training import identity
from training.faceset import Faceset

FIRST_SEED, PEOPLE, MOMENTS = 10_000, 200, 12
LEARNED = 0.6
"""Share of the people that the projection is computed from."""
DIMENSIONS = 24
SHRINKAGE = 0.03
"""So much of the mean variance within a person is added to each: there are fewer looks than pixels."""
COMPARED = 1, 3, 6
TRACK = 3
"""Moments of the tracks that are grouped."""
MODEL = Path(identity.__file__).with_name("identity.npy")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What everybody looks like."""

    person: NDArray[np.intp]
    """(N,)"""
    features: Floats
    """(N, 888)"""
    powers: Floats
    """(N, 7) of where the faces look."""

    def of(self, people: NDArray[np.intp]) -> Looks:
        """Those of some people."""
        here = np.isin(self.person, people)
        return Looks(self.person[here], self.features[here], self.powers[here])


def read_looks(faceset: Faceset) -> Looks:
    """Of every face in a set, in order of time for each source."""
    order = sorted(range(len(faceset)), key=lambda i: (faceset.records[i].source, faceset.records[i].pts_s))
    seen = [identity.features(faceset.image(i), faceset.landmarks[i]) for i in order]
    person = np.array([faceset.records[i].source for i in order])
    return Looks(person, np.stack([each for each, _ in seen]), np.stack([powers for _, powers in seen]))


def learn(looks: Looks) -> NDArray[np.float32]:
    """(7 + DIMENSIONS, 888): what a look is by where it faces, then the projection, see Note [Who is who]."""
    people = np.unique(looks.person)
    inside = _centred(looks.powers, looks.person), _centred(looks.features, looks.person)
    by_side = np.linalg.lstsq(inside[0], inside[1], rcond=None)[0]
    by_side[0] = 0
    rest = looks.features - looks.powers @ by_side
    by_side[0] = rest.mean(axis=0)
    rest -= by_side[0]
    spread = _centred(rest, looks.person)
    within = spread.T @ spread / (len(rest) - len(people))
    means = np.stack([rest[looks.person == each].mean(axis=0) for each in people])
    between = means.T @ means / len(people) - within * len(people) / len(rest)
    within += SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    variances, axes = np.linalg.eigh(within)
    whiten = axes / np.sqrt(variances)
    gains, directions = np.linalg.eigh(whiten.T @ between @ whiten)
    best = np.argsort(-gains)[:DIMENSIONS]
    gain = np.clip(gains[best], 0, None)
    # A direction in which people hardly differ is not to add as much noise as the others.
    projection = whiten @ directions[:, best] * np.sqrt(gain / (gain + 1))
    signs = np.sign(projection[np.abs(projection).argmax(axis=0), np.arange(DIMENSIONS)])
    return np.vstack([by_side, (projection * signs).T]).astype(np.float32)


def _centred(values: Floats, person: NDArray[np.intp]) -> Floats:
    """Values minus their person's mean."""
    result = values.copy()
    for each in np.unique(person):
        result[person == each] -= values[person == each].mean(axis=0)
    return result


def vectors(looks: Looks, model: NDArray[np.float32]) -> Floats:
    """(N, DIMENSIONS), as training.identity computes them."""
    by_side, projection = model[:7].astype(np.float64), model[7:].astype(np.float64).T
    return np.asarray((looks.features - looks.powers @ by_side) @ projection)


def measure(looks: Looks, model: NDArray[np.float32]) -> dict[str, Any]:
    """The figures of the module's docstring."""
    points = vectors(looks, model)
    films = [points[looks.person == each] for each in np.unique(looks.person)]
    films = [film for film in films if len(film) >= 2 * max(COMPARED)]
    return {
        "people": len(films),
        "compared": {str(count): compare(films, count) for count in COMPARED},
        "groups": group(films),
    }


def compare(films: Sequence[Floats], count: int) -> dict[str, float]:
    """The first `count` moments of everybody against the last ones."""
    first, last = (
        np.stack([film[part].mean(axis=0) for film in films]) for part in (slice(count), slice(-count, None))
    )
    squares = ((first[:, None] - last[None]) ** 2).sum(axis=2)
    own = np.eye(len(films), dtype=bool)
    same, others = np.sort(squares[own]), np.sort(squares[~own])
    limits = np.concatenate([same, others])
    refused = 1 - np.searchsorted(same, limits, "right") / len(same)
    taken = np.searchsorted(others, limits, "right") / len(others)
    even = int(np.abs(refused - taken).argmin())
    bound = identity.SAME + 2 * identity.SCATTER / count
    return {
        "equal_error": round(float(refused[even] + taken[even]) / 2, 4),
        "at_square": round(float(limits[even]), 1),
        "refused": round(float((same > bound).mean()), 4),
        "taken": round(float((others <= bound).mean()), 4),
    }


def group(films: Sequence[Floats]) -> dict[str, float]:
    """Tracks of TRACK moments of everybody are put into groups."""
    tracks, owner = [], []
    for person, film in enumerate(films):
        for start in range(0, len(film) - TRACK + 1, TRACK):
            tracks.append(film[start : start + TRACK].mean(axis=0))
            owner.append(person)
    labels = identity.cluster(np.stack(tracks), np.full(len(tracks), float(TRACK)))
    members = [Counter(np.array(owner)[labels == each].tolist()) for each in np.unique(labels)]
    pure = sum(max(each.values()) for each in members)
    found = sum(max(each[person] for each in members) for person in range(len(films)))
    return {
        "tracks": len(tracks),
        "groups": len(members),
        "purity": round(pure / len(tracks), 4),
        "found": round(found / len(tracks), 4),
    }


def film_people(work: Path, people: int) -> Path:
    """A faceset of so many people."""
    films = film_performers(work / "films", range(FIRST_SEED, FIRST_SEED + people), MOMENTS)
    gather(films, work / f"{people}-faces")
    return work / f"{people}-faces"


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Make and measure what tells people apart.")
    parser.add_argument("--work", type=Path, help="where films and faces are kept")
    parser.add_argument("--faceset", type=Path, help="one source for each person, instead of filming")
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"how many (default {PEOPLE})")
    parser.add_argument("--write", action="store_true", help="make it the product's")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    if not (arguments.faceset or arguments.work):
        parser.error("give --work or --faceset")
    faceset = Faceset.open(arguments.faceset or film_people(arguments.work, arguments.people))
    looks = read_looks(faceset)
    people = np.unique(looks.person)
    known = people[: round(LEARNED * len(people))]
    model = learn(looks.of(known))
    if arguments.write:
        np.save(MODEL, model, allow_pickle=False)
    report = {
        "learned_from": len(known),
        **measure(looks.of(people[len(known) :]), model),
        "machine": machine.describe(),
    }
    text = json.dumps(report, indent=2) + "\n"
    if arguments.json:
        write_atomically(arguments.json, text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
