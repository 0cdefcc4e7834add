"""Makes the actors' generic face. Nothing in, realtime/actors/face_{vertices,triangles,mirror}.npy out.

    pip install mediapipe==0.10.21
    python -m benchmarks.derive_mesh --out realtime/actors

No person is in the chain. A cartoon face of ellipses and polygons is drawn 120 times with other colours, sizes and
angles; MediaPipe's Face Mesh fits its 468 points to each; the fits are aligned and averaged, made symmetric, turned
upright, scaled to centimetres and the mouth is closed. What makes the result look like a face is what the network
learned about faces in general. The same versions give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

Points = NDArray[np.float64]
"""(468, 3)."""
Colour = tuple[float, float, float]
"""BGR in [0, 255]."""

SIDE = 800
"""Width and height of a cartoon, pixels."""
CENTRE = np.array([SIDE // 2, SIDE // 2 - 20])
COUNT = 120
FACE_HEIGHT_CM = 17.67
"""From the hairline to the chin."""
FOREHEAD, CHIN, BETWEEN_EYES = 10, 152, 168
RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 33, 263
UPPER_LIP_INNER = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_LIP_INNER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
SPURIOUS_TRIANGLES = {(49, 64, 129), (279, 294, 358)}
"""Cycles of three edges inside a nostril's wing that are no faces of the mesh."""


class Cartoon:
    """A face drawn with OpenCV's primitives; coordinates are pixels relative to its centre."""

    def __init__(self, skin: Colour, iris: Colour, lips: Colour, hair: Colour) -> None:
        self.image = np.full((SIDE, SIDE, 3), (120, 110, 100), np.uint8)
        self._skin, self._iris, self._lips, self._hair = skin, iris, lips, hair
        self._draw_head()
        for side in (-1, 1):
            self._draw_eye(70 * side)
        self._draw_nose()
        self._draw_mouth()
        self.image = np.asarray(cv2.GaussianBlur(self.image, (0, 0), 2.2), np.uint8)

    def _ellipse(
        self,
        x: int,
        y: int,
        half_width: int,
        half_height: int,
        colour: Sequence[float],
        arc: tuple[int, int] = (0, 360),
        thickness: int = -1,
    ) -> None:
        middle = (int(CENTRE[0]) + x, int(CENTRE[1]) + y)
        cv2.ellipse(self.image, middle, (half_width, half_height), 0, *arc, colour, thickness, cv2.LINE_AA)

    def _shade(self, gain: float) -> Colour:
        blue, green, red = (min(255, int(level * gain)) for level in self._skin)
        return blue, green, red

    def _draw_head(self) -> None:
        self._ellipse(0, -60, 205, 260, self._hair)
        left, top = int(CENTRE[0]) - 75, int(CENTRE[1]) + 180
        cv2.rectangle(self.image, (left, top), (left + 150, SIDE), self._shade(0.75), -1)
        self._ellipse(0, 0, 175, 240, self._skin)

    def _draw_eye(self, x: int) -> None:
        self._ellipse(175 if x > 0 else -175, 20, 25, 50, self._shade(0.75))  # ear
        self._ellipse(x, -25, 42, 24, self._shade(0.85))
        self._ellipse(x, -22, 34, 15, (240, 240, 240))
        self._ellipse(x, -22, 15, 15, self._iris)
        self._ellipse(x, -22, 7, 7, (15, 15, 15))
        self._ellipse(x, -22, 36, 17, (40, 40, 50), (190, 350), 4)
        self._ellipse(x, -62, 46, 16, self._hair, (195, 345), 9)

    def _draw_nose(self) -> None:
        shadow = np.zeros((SIDE, SIDE), np.float32)
        outline = np.array([[-12, -30], [-30, 52], [-20, 68], [0, 74], [20, 68], [30, 52], [12, -30]])
        cv2.fillPoly(shadow, [outline + CENTRE], (1.0,))
        soft = np.asarray(cv2.GaussianBlur(shadow, (0, 0), 6), np.float32)
        self.image[:] = self.image * (1 - 0.13 * soft[..., None])
        self._ellipse(0, 60, 30, 16, self._shade(0.9))
        self._ellipse(0, 54, 22, 14, self._shade(1.06))
        self._ellipse(-16, 64, 8, 4, self._shade(0.45))
        self._ellipse(16, 64, 8, 4, self._shade(0.45))

    def _draw_mouth(self) -> None:
        upper = [[-58, 122], [-30, 112], [-12, 108], [0, 112], [12, 108], [30, 112], [58, 122]]
        outline = np.array([*upper, [30, 140], [0, 147], [-30, 140]])
        cv2.fillPoly(self.image, [outline + CENTRE], self._lips, cv2.LINE_AA)
        seam = np.array([[-58, 122], [-25, 124], [0, 126], [25, 124], [58, 122]])
        cv2.polylines(self.image, [seam + CENTRE], False, (50, 40, 90), 3, cv2.LINE_AA)


def cartoons() -> Iterator[NDArray[np.uint8]]:
    """COUNT pictures; the first one stands upright."""
    rng = np.random.default_rng(0)
    uniform = rng.uniform
    for number in range(COUNT):
        skin = (uniform(90, 190), uniform(120, 210), uniform(170, 240))
        iris = (uniform(40, 120), uniform(60, 120), uniform(30, 120))
        lips = (uniform(70, 120), uniform(70, 120), uniform(150, 210))
        dark = uniform(10, 60)
        image = Cartoon(skin, iris, lips, (dark, dark, dark)).image
        angle_deg, scale = uniform(-12, 12) * (number > 0), uniform(0.7, 1.05)
        jitter = np.asarray(cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), angle_deg, scale), np.float64)
        jitter[:, :2] *= np.array([[uniform(0.92, 1.06)], [1.0]])
        warped = cv2.warpAffine(image, jitter, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        yield np.asarray(warped, np.uint8)


def fit_similarity(points: Points, targets: Points) -> Points:
    """`points`, moved onto `targets` by the best similarity (Procrustes)."""
    source, target = points - points.mean(0), targets - targets.mean(0)
    left, singular, right = np.linalg.svd(source.T @ target)
    proper = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
    scale = (singular * proper).sum() / (source**2).sum()
    moved: Points = scale * source @ (left * proper @ right) + targets.mean(0)
    return moved


def observe(face_mesh: Any) -> Points:
    """The mean of what MediaPipe's FaceMesh sees in the cartoons, in pixels."""
    fits: list[Points] = []
    for image in cartoons():
        found = face_mesh.process(image[..., ::-1].copy()).multi_face_landmarks
        if found:
            points = SIDE * np.array([(point.x, point.y, point.z) for point in found[0].landmark])[:468]
            fits.append(fit_similarity(points, fits[0]) if fits else points)
    _log.info("%d of %d cartoons detected", len(fits), COUNT)
    mean: Points = np.mean(fits, 0)
    return mean


def triangulate(edges: Sequence[tuple[int, int]], points: Points) -> NDArray[np.int64]:
    """(852, 3) every cycle of three edges, wound the same way, facing the camera."""
    neighbours: dict[int, set[int]] = {index: set() for index in range(468)}
    for first, second in edges:
        neighbours[first].add(second)
        neighbours[second].add(first)
    cycles = {
        tuple(sorted((first, second, third)))
        for first in neighbours
        for second in neighbours[first]
        for third in neighbours[first] & neighbours[second]
    }
    triangles = [list(cycle) for cycle in sorted(cycles - SPURIOUS_TRIANGLES)]
    _wind_alike(triangles)
    wound = np.array(triangles)
    corners = points[wound]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return wound[:, ::-1] if normals[:, 2].sum() > 0 else wound


def _sides(triangle: list[int]) -> list[tuple[int, int]]:
    return [(triangle[0], triangle[1]), (triangle[1], triangle[2]), (triangle[2], triangle[0])]


def _wind_alike(triangles: list[list[int]]) -> None:
    """Walks from neighbour to neighbour and turns round those that disagree; in place."""
    touching: dict[frozenset[int], list[int]] = {}
    for index, triangle in enumerate(triangles):
        for side in _sides(triangle):
            touching.setdefault(frozenset(side), []).append(index)
    done, waiting = {0}, [0]
    while waiting:
        current = waiting.pop()
        for side in _sides(triangles[current]):
            for other in set(touching[frozenset(side)]) - done:
                if side in _sides(triangles[other]):
                    triangles[other].reverse()
                done.add(other)
                waiting.append(other)


def mirror_map(points: Points) -> NDArray[np.int64]:
    """(468,) the vertex on the other side: greedy matching with the reflected mesh, which is re-aligned ten times."""
    reflected = (points - points.mean(0)) * [-1, 1, 1] + points.mean(0)
    for _ in range(10):
        distances = np.linalg.norm(reflected[:, None] - points[None], axis=2)
        distances += distances.T
        partner = np.full(468, -1)
        for pair in np.argsort(distances, axis=None):
            first, second = divmod(int(pair), 468)
            if partner[first] < 0 and partner[second] < 0:
                partner[first], partner[second] = second, first
        reflected = fit_similarity(points * [-1, 1, 1], points[partner])
    partner[[62, 292, 78, 308]] = 292, 62, 308, 78  # the corners of the mouth coincide
    return partner


def to_head_space(points: Points, partner: NDArray[np.int64]) -> Points:
    """Symmetric, upright, in centimetres, origin between the eyes, mouth closed; see Note [Head space]."""
    points = (points + fit_similarity(points * [-1, 1, 1], points[partner])[partner]) / 2
    across = points[partner] - points
    towards_left = np.sign(across @ (points[LEFT_EYE_CORNER] - points[RIGHT_EYE_CORNER]))
    x = (across * towards_left[:, None]).sum(0)
    x /= np.linalg.norm(x)
    y = points[CHIN] - points[FOREHEAD]
    y -= x * (x @ y)
    y /= np.linalg.norm(y)
    points = points @ np.stack([x, y, np.cross(x, y)]).T
    points *= FACE_HEIGHT_CM / np.linalg.norm(points[FOREHEAD] - points[CHIN])
    on_axis = partner == np.arange(468)
    points -= [points[on_axis, 0].mean(), points[BETWEEN_EYES, 1], points[FOREHEAD, 2]]
    points = (points + points[partner] * [-1, 1, 1]) / 2
    for upper, lower in zip(UPPER_LIP_INNER, LOWER_LIP_INNER, strict=True):
        points[upper] = points[lower] = (points[upper] + points[lower]) / 2
    return points


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Make the actors' generic face from cartoons.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the three .npy files")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    solutions = importlib.import_module("mediapipe").solutions  # has no types, and is not in the project's environment
    with solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1) as face_mesh:
        seen = observe(face_mesh)
    triangles = triangulate(sorted(solutions.face_mesh_connections.FACEMESH_TESSELATION), seen)
    partner = mirror_map(seen)
    vertices = to_head_space(seen, partner)
    np.save(arguments.out / "face_vertices.npy", np.round(vertices * 1000).astype(np.int16))  # 10 micrometres
    np.save(arguments.out / "face_triangles.npy", triangles.astype(np.uint16))
    np.save(arguments.out / "face_mirror.npy", partner.astype(np.uint16))
    return 0


if __name__ == "__main__":
    sys.exit(main())
