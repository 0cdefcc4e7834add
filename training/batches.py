"""Keeps the faces of one person ready for training. A faceset in, a stack of uint8 tensors out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realtime.align import CropGeometry, transform
from realtime.errors import FacesetError
from realtime.frame import Matrix, Points
from realtime.landmarks import LEFT_EYE, LIPS_OUTER, RIGHT_EYE, face_hull
from training.faceset import Faceset

STACK_BYTES = 6 << 30
"""Above this the stack keeps one stored pixel for a training pixel instead of four."""
MASK_RIM = 0.012
"""How far the mask reaches beyond the hull of the mesh, of the stacked side. The hull covers 94 % of the true masks of
rendered faces, with the rim it is 98 %."""
MARGIN = 1.25
"""How much wider than the training crop the stacked faces are."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceStack:
    """All faces of one person, decoded."""

    pixels: Tensor
    """(N, 5, P, P) uint8: B, G, R, face mask, eyes and mouth."""
    margin: float
    """Width of what is stacked, relative to the training crop."""
    poses: Tensor
    """(N, 2) float32: yaw and pitch in degrees, see training.pose."""
    sources: Tensor
    """(N,) int64: number of the source that each face was taken from."""

    def __len__(self) -> int:
        return len(self.pixels)


def draw_channels(image: NDArray[np.uint8], landmarks: Points) -> NDArray[np.uint8]:
    """(5, P, P) planes of one face: its colours, the hull of the mesh, and a soft spot on eyes and mouth."""
    side = image.shape[0]
    spots = np.zeros((side, side), np.uint8)
    for group in (LEFT_EYE, RIGHT_EYE, LIPS_OUTER):
        polygon = np.round(landmarks[list(group), :2] * 16).astype(np.int32)
        cv2.fillPoly(spots, [polygon], 255, cv2.LINE_AA, 4)
    reach = max(1, side // 40)
    wide = cv2.dilate(spots, np.ones((reach, reach), np.uint8))
    soft = cv2.GaussianBlur(wide, (0, 0), side / 80)
    # The mesh ends a little inside the face that one sees, and blending feathers inwards: both are made up for here.
    rim = max(1, round(MASK_RIM * side))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1))
    mask = cv2.dilate(face_hull(landmarks, side, side), kernel)
    return np.stack([*cv2.split(image), mask, soft]).astype(np.uint8)


def crop_between(stored: CropGeometry, wanted: CropGeometry) -> Matrix:
    """(2, 3) from the pixels of a stored crop to those of another crop of the same face."""
    scale = wanted.size / wanted.coverage / (stored.size / stored.coverage)
    shift = [
        wanted.size * ((own - other) / wanted.coverage + 0.5) - scale * stored.size / 2
        for own, other in ((stored.offset_x, wanted.offset_x), (stored.offset_y, wanted.offset_y))
    ]
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def stack_bytes(faces: int, resolution: int) -> int:
    """Memory of a stack of `faces` with four stored pixels for a training pixel, more than which it never takes."""
    return round(faces * (2 * MARGIN * resolution) ** 2 * 5)


def stack_faces(
    faceset: Faceset,
    indices: Sequence[int] | NDArray[np.intp],
    geometry: CropGeometry,
    on_progress: Callable[[int, int], None] | None = None,
) -> FaceStack:
    """Decode the faces `indices` as a model with `geometry` wants to see them.

    Raises FacesetError when there is none, or when the stored crops do not show what the model needs.
    """
    if len(indices) == 0:
        raise FacesetError(f"{faceset.path} holds no face to train on; extract more video")
    stored = faceset.geometry.widened(faceset.margin)
    fits = 2 if stack_bytes(len(indices), geometry.size) <= STACK_BYTES else 1
    density = stored.size / stored.coverage
    size = round(min(fits * geometry.size, density * geometry.coverage) * MARGIN)
    wide = CropGeometry(size, geometry.coverage * MARGIN, geometry.offset_x, geometry.offset_y)
    edge = geometry.coverage / 2 + max(
        abs(geometry.offset_x - stored.offset_x), abs(geometry.offset_y - stored.offset_y)
    )
    if edge > stored.coverage / 2 + 1e-6:
        raise FacesetError(
            f"{faceset.path} shows less of the face than this preset needs; "
            "extract it again with --coverage-kind whole, or choose a preset with full faces"
        )
    matrix = crop_between(stored, wide)
    # As realtime.align.cut does: what shrinks a lot is cut finer and averaged down, around the same pixel centres.
    finer = max(1, round(1 / matrix[0, 0]))
    fine = matrix * finer + np.array([[0, 0, (finer - 1) / 2]] * 2)
    pixels = torch.empty((len(indices), 5, size, size), dtype=torch.uint8)

    def load(slot: int) -> None:
        index = int(indices[slot])
        image, landmarks = faceset.image(index), faceset.landmarks[index]
        if wide != stored:
            side = size * finer
            cut = cv2.warpAffine(image, fine, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            if finer > 1:
                cut = cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA)
            image = np.asarray(cut, np.uint8)
            landmarks = transform(matrix, landmarks).astype(np.float32)
        pixels[slot] = torch.from_numpy(draw_channels(image, landmarks))

    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="decode") as pool:
        for done, _ in enumerate(pool.map(load, range(len(indices))), start=1):
            if on_progress is not None:
                on_progress(done, len(indices))
    records = [faceset.records[int(index)] for index in indices]
    poses = torch.tensor([[record.yaw, record.pitch] for record in records], dtype=torch.float32)
    sources = torch.tensor([record.source for record in records])
    return FaceStack(pixels, MARGIN, poses, sources)
