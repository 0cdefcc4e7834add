"""Films what is hard for a live swap, and knows the truth about it. A length in, shots of two actors out.

In one loop the performer talks, a hand passes before the face, a card covers it and leaves again, the head turns away
beyond 60 degrees on both sides, a second person comes in from the right, the performer leaves the picture and comes
back. The end cuts hard to the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.actors import BO, Actor, Part, Pose, Renderer, Rendering, motion, random_identity
from realtime.actors.numerics import smoothstep
from realtime.frame import ImageU8
from realtime.landmarks import LEFT_EYE, LIPS_OUTER, NOSE, RIGHT_EYE

LOOK_AWAY_DEG = 75.0
_FEATURES = (*RIGHT_EYE, *LEFT_EYE, *NOSE, *LIPS_OUTER)
_LEAST_PX = 200
"""A face of which less is to be seen is not counted: nobody could be recognised."""
_GUEST_SEED = 4711


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """The visible face of one person in one picture, pixel by pixel."""

    pixels: NDArray[np.int32]
    """(n,) places in the flattened picture."""
    colours: NDArray[np.uint8]
    """(n, 3) what the picture shows there."""
    inner: NDArray[np.bool_]
    """(n,) whether the pixel lies among eyes, nose and mouth: what a person is recognised by."""

    def kept(self, published: ImageU8, step: int = 1) -> tuple[float, float]:
        """The share of the face, and of its inner part, that `published` shows exactly as it was; every `step` px."""
        same = (published.reshape(-1, 3)[self.pixels[::step]] == self.colours[::step]).all(axis=1)
        inner = self.inner[::step]
        return float(same.mean()), float(same[inner].mean()) if inner.any() else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One picture and what is known about it."""

    image: ImageU8
    """(H, W, 3) BGR in [0, 255]."""
    performer: Face | None
    """None where less than a thumbnail of the face is to be seen."""
    guest: Face | None
    scene: str
    """What happens, in a word."""
    yaw: float
    """Of the performer's head, degrees."""


def film(count: int, width: int = 640, height: int = 480, *, fps: float = 30.0, seed: int = 900) -> Iterator[Shot]:
    """`count` shots of one loop; the same arguments give the same pixels."""
    performer, guest = (Renderer(actor, width, height) for actor in (Actor(BO), Actor(random_identity(_GUEST_SEED))))
    base = motion(count, fps, seed, yaw=30.0, hand=True)
    others = motion(count, fps, seed + 1, yaw=25.0, hand=False)
    before: Pose | None = None
    for index in range(count):
        at = index / count
        pose = _performance(base[index], at)
        away = Part.BACKGROUND
        front = performer.render(pose, before, frame=index)
        before = pose
        part, image = front.truth.part, front.image
        behind: Rendering | None = None
        if 0.55 <= at < 0.97:
            behind = guest.render(_visit(others[index], at, pose), frame=index)
            image = np.where((part == away)[..., None], behind.image, image)
        covered = np.zeros(part.shape, np.uint8)
        if 0.36 <= at < 0.48:
            image, covered = _hold_card(image, (at - 0.36) / 0.12)
        free = covered == 0
        yield Shot(
            image,
            _face(image, front, free),
            _face(image, behind, free & (part == away)) if behind else None,
            _scene(at, pose),
            pose.yaw,
        )


def _performance(pose: Pose, at: float) -> Pose:
    """The talking head, and what it does besides: look away in the first quarter, leave in the last."""
    if 0.12 <= at < 0.34:
        share = (at - 0.12) / 0.22
        yaw = LOOK_AWAY_DEG * float(np.sin(2 * np.pi * share))
        return replace(pose, yaw=yaw, hand=False, x=pose.x - 6)
    gone = float(smoothstep(0.74, 0.80, at) - smoothstep(0.88, 0.94, at))
    return replace(pose, x=pose.x - 6 - 45 * gone, hand=pose.hand and 0.48 <= at < 0.74)


def _visit(pose: Pose, at: float, host: Pose) -> Pose:
    """The guest comes from the right, nearer towards the end, under the same light."""
    come = float(smoothstep(0.55, 0.66, at) - smoothstep(0.90, 0.97, at))
    near = float(smoothstep(0.76, 0.84, at))
    light = {name: getattr(host, name) for name in ("light_azimuth", "light_elevation", "key", "ambient", "kelvin")}
    return replace(pose, x=60 - 42 * come, z=25 - 20 * near, hand=False, **light)


def _scene(at: float, pose: Pose) -> str:
    if 0.12 <= at < 0.34:
        return "look away"
    if 0.36 <= at < 0.48:
        return "card"
    if 0.74 <= at < 0.94:
        return "alone" if pose.x < -35 else "leaving"
    return "hand" if pose.hand else "guest" if at >= 0.55 else "talking"


def _hold_card(image: ImageU8, share: float) -> tuple[ImageU8, NDArray[np.uint8]]:
    """A grey card that rises before the face, stays and goes down again; the picture and where the card is, (H, W)."""
    height, width = image.shape[:2]
    up = float(smoothstep(0, 0.3, share) - smoothstep(0.7, 1, share))
    covered = np.zeros((height, width), np.uint8)
    left, right, top = round(0.2 * width), round(0.65 * width), round(height * (1.0 - 0.85 * up))
    cv2.rectangle(covered, (left, top), (right, height), 255, -1)
    card = np.full_like(image, 168)
    card[::16] = 120
    return np.where((covered > 0)[..., None], card, image), covered


def _face(image: ImageU8, rendering: Rendering, free: NDArray[np.bool_]) -> Face | None:
    """The pixels of a face that are really to be seen."""
    truth = rendering.truth
    visible = (truth.face_mask > 127) & free & (truth.part != Part.HAND) & (truth.part != Part.HAIR)
    pixels = np.flatnonzero(visible).astype(np.int32)
    if len(pixels) < _LEAST_PX:
        return None
    features = np.zeros(visible.shape, np.uint8)
    outline = cv2.convexHull(truth.landmarks[list(_FEATURES)])
    cv2.fillConvexPoly(features, np.rint(outline).astype(np.int32), 1)
    return Face(pixels, image.reshape(-1, 3)[pixels], features.reshape(-1)[pixels] > 0)
