"""How good a model is on faces it was not trained on. Model and held-out faces in, figures and a sheet out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realtime.align import CropGeometry
from realtime.errors import TrainingError, UsageError
from realtime.frame import ImageU8
from training import checkpoint
from training.augment import Pair, straight_crops
from training.batches import stack_faces
from training.faceset import Faceset
from training.losses import WINDOW_TAPS, dssim_map, face_core
from training.model import Side, SwapModel

FACES = 32
"""Looked at per person: spread evenly over the held-out time."""
SHEET_ROWS = 8


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Faces that are never trained on, as the live loop would cut them."""

    crops: Pair

    @classmethod
    def choose(cls, faceset: Faceset, indices: NDArray[np.intp], geometry: CropGeometry) -> Self:
        """Up to FACES faces, evenly spread over `indices`."""
        picked = indices[np.unique(np.linspace(0, len(indices) - 1, min(FACES, len(indices))).round().astype(int))]
        stack = stack_faces(faceset, picked, geometry)
        return cls(straight_crops(stack.pixels, geometry.size, stack.margin))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out figures of the best model of a run; the pictures are in sheet.png."""

    run: str
    preset: str
    iteration: int
    faces: dict[str, int]
    figures: dict[str, float]
    """`score` = mean structural similarity of both people; per side ssim [0, 1], l1 [0, 1] and psnr_db in the face."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _reconstruct(model: SwapModel, crops: Tensor, side: Side) -> tuple[Tensor, Tensor, Tensor]:
    device = next(model.parameters()).device
    with torch.no_grad():
        painted, mask = model(crops.to(device), side)
    return painted.face.float().cpu(), painted.mask.float().cpu(), mask.float().cpu()


def look(model: SwapModel, held_out: Mapping[Side, HeldOut]) -> dict[str, float]:
    """Figures of one look: each person painted by their own decoder, compared inside the face."""
    figures: dict[str, float] = {}
    border = WINDOW_TAPS // 2
    for side, faces in held_out.items():
        pair = faces.crops
        painted, _, _ = _reconstruct(model, pair.inputs, side)
        error, mask = painted - pair.targets, face_core(pair.masks)
        weight = mask.sum() * 3 + 1e-6
        inner = mask[..., border:-border, border:-border]
        dssim = (dssim_map(painted, pair.targets) * inner).sum() / (inner.sum() * 3 + 1e-6)
        figures[f"{side}_ssim"] = round(1 - 2 * float(dssim), 5)
        figures[f"{side}_l1"] = round(float((error.abs() * mask).sum() / weight), 5)
        mse = float((error**2 * mask).sum() / weight)
        figures[f"{side}_psnr_db"] = round(-10 * math.log10(max(mse, 1e-10)), 3)
    figures["score"] = round(sum(figures[f"{side}_ssim"] for side in held_out) / len(held_out), 5)
    return figures


def draw_sheet(model: SwapModel, held_out: Mapping[Side, HeldOut]) -> bytes:
    """PNG bytes: per row a performer, the swap, the performer repainted; an identity face and that repainted."""
    crops = {side: faces.crops.inputs for side, faces in held_out.items()}
    rows = min(SHEET_ROWS, *(len(c) for c in crops.values()))
    picked = {side: c[torch.linspace(0, len(c) - 1, rows).round().long()] for side, c in crops.items()}
    columns = [
        ("performer", picked["performer"]),
        ("swap", _reconstruct(model, picked["performer"], "identity")[0]),
        ("performer repainted", _reconstruct(model, picked["performer"], "performer")[0]),
        ("identity", picked["identity"]),
        ("identity repainted", _reconstruct(model, picked["identity"], "identity")[0]),
    ]
    strips = [_strip(title, pictures) for title, pictures in columns]
    done, png = cv2.imencode(".png", np.hstack(strips))
    if not done:
        raise TrainingError("OpenCV cannot write PNG; install opencv-python again")
    return png.tobytes()


def _strip(title: str, pictures: Tensor) -> ImageU8:
    pixels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    column: ImageU8 = np.vstack(list(pixels))
    if pixels.shape[1] < 128:
        column = np.asarray(cv2.resize(column, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST), np.uint8)
    head = np.full((24, column.shape[1], 3), 32, np.uint8)
    cv2.putText(head, title, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([head, column])


def open_held_out(record: checkpoint.RunRecord) -> tuple[dict[Side, HeldOut], dict[str, int]]:
    """The held-out faces of a run, from the facesets it was trained on. Raises UsageError when they have changed."""
    held_out: dict[Side, HeldOut] = {}
    counts: dict[str, int] = {}
    sides: tuple[Side, ...] = ("identity", "performer")
    for side in sides:
        facts = record.facesets[side]
        faceset = Faceset.open(Path(facts["path"]))
        if faceset.sha256 != facts["sha256"]:
            raise UsageError(f"the faceset {facts['path']} has changed since the run; restore it or train again")
        seen, unseen = faceset.split_by_time(record.config.held_out)
        held_out[side] = HeldOut.choose(faceset, unseen if len(unseen) else seen, record.config.geometry)
        counts[side] = len(held_out[side].crops.inputs)
    return held_out, counts


def evaluate(run: Path) -> Evaluation:
    """Score the best model of `run` on its held-out faces and write RUN/sheet.png.

    Raises TrainingError, FacesetError, UsageError.
    """
    model, record, progress = checkpoint.load_best(run)
    held_out, counts = open_held_out(record)
    figures = look(model, held_out)
    checkpoint.write_file(run / "sheet.png", draw_sheet(model, held_out))
    return Evaluation(str(run), record.config.name, progress.iteration, counts, figures)
