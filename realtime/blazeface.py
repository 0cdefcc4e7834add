"""Detects faces with MediaPipe's BlazeFace. Image in, list[Detection] out.

The networks score a fixed grid of anchors; each anchor gives a box and six points relative to its centre. Boxes that
overlap are merged by weighted non-maximum suppression (Bazarevsky et al., BlazeFace, 2019), with MediaPipe's settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.face_nets import MODELS, FaceNet
from realtime.frame import ImageU8, Points
from realtime.region import Region, box_overlap, region_around

_MERGE_OVERLAP = 0.3


@dataclass(frozen=True, slots=True)
class _Kind:
    model: str
    boxes: str
    scores: str
    grids: tuple[tuple[int, int], ...]
    """(cells on a side, anchors in a cell) of each scale."""
    min_score: float


_KINDS = {
    "short": _Kind("face_detection_short_range", "regressors", "classificators", ((16, 2), (8, 6)), 0.5),
    # MediaPipe asks 0.6 here; FaceFinder looks at each a second time, and 0.3 lets it see faces of half the size.
    "full": _Kind("face_detection_full_range_sparse", "Identity", "Identity_1", ((48, 1),), 0.3),
}


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One detected face."""

    score: float
    """[0, 1]."""
    box: NDArray[np.float32]
    """(4,) left, top, right, bottom in frame pixels: brows to chin, ear to ear."""
    points: Points
    """(6, 2) in frame pixels: the person's right eye, left eye, nose tip, mouth, right and left ear."""

    def region(self) -> Region:
        """Where the mesh network should look."""
        return region_around(self.box, self.points[0], self.points[1])


class BlazeFace:
    """Finds faces: `short` those that fill a tenth of the picture or more, `full` also smaller ones, at twice the time.

    Not thread-safe: one instance per thread.
    """

    def __init__(self, kind: Literal["short", "full"], *, threads: int = 1, folder: Path = MODELS) -> None:
        """Raises ModelError when the network cannot be used."""
        self._kind = _KINDS[kind]
        self._net = FaceNet(self._kind.model, mean=127.5, scale=1 / 127.5, threads=threads, folder=folder)
        self._anchors = _anchor_centres(self._kind.grids)
        self._min_logit = math.log(self._kind.min_score / (1 - self._kind.min_score))

    def find(self, image: ImageU8, window: Region | None = None) -> list[Detection]:
        """Every face in a (H, W, 3) BGR image, best score first; only in the upright `window` if there is one."""
        height, width = image.shape[:2]
        square = window or Region(width / 2, height / 2, max(width, height))
        outputs = self._net.run(square.sample(image, self._net.pixels, cv2.BORDER_CONSTANT))
        logits = outputs[self._kind.scores][0, :, 0]
        (hits,) = np.nonzero(logits >= self._min_logit)
        hits = hits[np.argsort(-logits[hits], kind="stable")]
        scores = 1 / (1 + np.exp(-np.clip(logits[hits], -100, 100)))
        points = self._decode(outputs[self._kind.boxes][0, hits], self._anchors[hits])
        corner = np.array([square.x, square.y]) - square.side / 2
        return [
            Detection(score, frame_points[:2].reshape(4), frame_points[2:])
            for score, merged in merge(scores, points)
            for frame_points in [(merged * square.side + corner).astype(np.float32)]
        ]

    def _decode(self, raw: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 8, 2) points in [0, 1] of the square: two corners of the box, then the six points of the face."""
        values = raw.reshape(-1, 8, 2) / self._net.pixels
        centre, half = values[:, :1] + anchors[:, None], values[:, 1:2] / 2
        return np.concatenate([centre - half, centre + half, values[:, 2:] + anchors[:, None]], axis=1)


def _anchor_centres(grids: tuple[tuple[int, int], ...]) -> NDArray[np.float32]:
    centres = []
    for cells, per_cell in grids:
        y, x = np.mgrid[:cells, :cells]
        centres.append(np.repeat(np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1) / cells, per_cell, axis=0))
    return np.concatenate(centres).astype(np.float32)


def merge(scores: NDArray[np.floating], points: NDArray[np.float32]) -> list[tuple[float, NDArray[np.floating]]]:
    """Weighted non-maximum suppression of (N,) scores, best first, and their (N, 8, 2) points."""
    merged = []
    while len(scores):
        boxes = points[:, :2].reshape(-1, 4)
        same = box_overlap(boxes[0], boxes) > _MERGE_OVERLAP
        same[0] = True
        merged.append((float(scores[0]), np.average(points[same], axis=0, weights=scores[same])))
        scores, points = scores[~same], points[~same]
    return merged
