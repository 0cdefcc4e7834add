"""Measures how well two faces are told apart. Rendered people in, error rates as JSON out.

    python -m benchmarks.likeness [--people N] [--json FILE]

Everybody is filmed twice with other movements, in one light and in a light of its own for each film, and seen through
FaceFinder. `looks` frames of the second film are compared with the whole first film of everybody.

    equal_error    where as many strangers are taken for the person as the person is refused
    refused        share of a person's own windows that are further from the first film than SAME, LIKELY and OTHER
    taken          share of the others' windows that are nearer than SAME, LIKELY and OTHER
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from realtime import machine
from realtime.actors import Actor, Renderer, motion, random_identity
from realtime.align import RIGID
from realtime.detect import FaceFinder
from realtime.files import write_atomically
from realtime.frame import Frame
from realtime.likeness import Likeness, Look, look
from realtime.lock import LIKELY, OTHER, SAME

FIRST_SEED, PEOPLE, FRAMES, FPS = 100, 24, 90, 15
WINDOWS = 8, 30
SHAPE = 3 * len(RIGID)
"""So many values of a look are shape, the rest are colours."""
CUES = {"shape": slice(0, SHAPE), "colours": slice(SHAPE, None), "both": slice(None)}


def film(camera: Renderer, person: int, take: int, *, same_light: bool) -> list[Look]:
    """What one person looks like in the frames of one film."""
    poses = motion(FRAMES, FPS, 1000 + 10 * person + take, yaw=(20, 30)[take], pitch=12, roll=9, hand=False)
    if same_light:
        poses = [
            replace(pose, light_azimuth=-35.0, light_elevation=35.0, key=1.0, ambient=0.5, kelvin=5600.0)
            for pose in poses
        ]
    looks = []
    with FaceFinder() as finder:
        for index, pose in enumerate(poses):
            image = camera.render(pose, poses[index - 1] if index else None, frame=index).image
            faces = finder.find(Frame(image, index, index / FPS, index / FPS))
            seen = look(image, faces[0]) if faces else None
            looks += [seen] if seen else []
    return looks


def only(looks: Sequence[Look], cue: str) -> list[Look]:
    """The same looks with nothing but one cue."""
    return [Look(each.side, each.values[CUES[cue]]) for each in looks]


def error_rates(same: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """From the distances of windows from their own person and from others."""
    own, strange = np.sort(same), np.sort(others)
    limits = np.concatenate([own, strange])
    refused = 1 - np.searchsorted(own, limits, "right") / len(own)
    taken = np.searchsorted(strange, limits, "right") / len(strange)
    even = int(np.abs(refused - taken).argmin())
    at = {"same": SAME, "likely": LIKELY, "other": OTHER}
    return {
        "equal_error": round(float(refused[even] + taken[even]) / 2, 3),
        "at_distance": round(float(limits[even]), 2),
        "own_median": round(float(np.median(own)), 2),
        "others_median": round(float(np.median(strange)), 2),
        "refused": {name: round(float((own > limit).mean()), 3) for name, limit in at.items()},
        "taken": {name: round(float((strange <= limit).mean()), 3) for name, limit in at.items()},
        "windows": [len(own), len(strange)],
    }


def measure(films: Sequence[tuple[list[Look], list[Look]]], looks: int) -> dict[str, Any]:
    """The error rates of each cue when `looks` frames are compared."""
    result = {}
    for cue in CUES:
        known = [Likeness(*only(first, cue)) for first, _ in films]
        same: list[float] = []
        others: list[float] = []
        for i, j in product(range(len(films)), repeat=2):
            second = only(films[j][1], cue)
            for start in range(0, len(second) - looks + 1, looks):
                distance = Likeness(*second[start : start + looks]).distance(known[i])
                if distance is not None:
                    (same if i == j else others).append(distance)
        result[cue] = error_rates(same, others)
    return result


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Measure how well two faces are told apart.")
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"how many (default {PEOPLE})")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    cameras = [Renderer(Actor(random_identity(FIRST_SEED + i)), 640, 480, 1.0) for i in range(arguments.people)]
    report: dict[str, Any] = {"people": arguments.people, "machine": machine.describe()}
    for light, same_light in (("same_light", True), ("other_light", False)):
        films = [
            (film(camera, i, 0, same_light=same_light), film(camera, i, 1, same_light=same_light))
            for i, camera in enumerate(cameras)
        ]
        report[light] = {str(looks): measure(films, looks) for looks in WINDOWS}
    text = json.dumps(report, indent=2) + "\n"
    if arguments.json:
        write_atomically(arguments.json, text.encode())
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
