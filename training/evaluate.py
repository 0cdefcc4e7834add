"""How good a model is on faces it was not trained on. Model and held-out faces in, figures and a sheet out.

Note [Best checkpoint]
    What is kept as the best is the look with the highest reconstruction score among those where the swap is one: where
    a face is seen in it, of the identity rather than of the performer, that moves with the performer. The score can
    rise while one of these is lost: a shared encoder that begins to tell the two apart repaints both better, and lets
    the performer through. So a look that falls short of any of LOST_BELOW is worth less than every one that does not,
    and among such looks the one that falls short by least, in relation to what is asked, tends to be kept.

    The bounds are where the answer changes, not where it is good: half-way between performer and identity, half of the
    faces seen, and an expression a quarter explained, where a face without any expression gets up to 0.2 (see
    Note [Held-out truth]) and a light-128 model has 0.6 after 500 steps. Scores are similarities in [-1, 1], so that
    2 puts every lost look below. Nothing that becomes better ever lowers the worth.
"""

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
from training.config import TrainConfig
from training.faceset import Faceset
from training.losses import WINDOW_TAPS, dssim_map, face_core
from training.model import SIDES, Side, SwapModel
from training.truth import Truth

FACES = 32
"""Looked at per person: spread evenly over the held-out time."""
SHEET_ROWS = 8
LOST_BELOW = {"swap_found": 0.5, "identity_margin": 0.5, "expression_followed": 0.25}
"""Figures below which the swap is none, see Note [Best checkpoint]."""
WORTHLESS = -9.0
"""Worth of a look whose score is no number, and less than that of any other."""


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
    """`score` = mean structural similarity of both people; per side ssim [0, 1], l1 [0, 1] and psnr_db in the face; and
    those of the swap, see Note [Held-out truth] in training.truth."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _reconstruct(model: SwapModel, crops: Tensor, side: Side) -> tuple[Tensor, Tensor, Tensor]:
    device = next(model.parameters()).device
    with torch.no_grad():
        painted, mask = model(crops.to(device), side)
    return painted.face.float().cpu(), painted.mask.float().cpu(), mask.float().cpu()


def look(model: SwapModel, held_out: Mapping[Side, HeldOut], truth: Truth | None = None) -> dict[str, float]:
    """Figures of one look: each person painted by their own decoder, compared inside the face.

    With `truth`, those of the swap are among them, see Note [Held-out truth] in training.truth; what cannot be measured
    is left out. All are rounded to five digits, so that they are the same in every file.
    """
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
    return figures | (truth.judge(model) if truth is not None else {})


def worth(figures: Mapping[str, float]) -> float:
    """How much a look is worth keeping, see Note [Best checkpoint]. Missing figures are not held against it."""
    score = figures.get("score", math.nan)  # which history.json cannot say
    if not math.isfinite(score):
        return WORTHLESS
    short = sum(max(0.0, least - figures.get(name, least)) / least for name, least in LOST_BELOW.items())
    return score - (2 + min(short, 6.0) if short > 0 else 0.0)


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


def open_facesets(record: checkpoint.RunRecord) -> dict[Side, Faceset]:
    """The facesets that a run was trained on. Raises FacesetError, and UsageError when they have changed."""
    facesets: dict[Side, Faceset] = {}
    for side in SIDES:
        facts = record.facesets[side]
        facesets[side] = Faceset.open(Path(facts["path"]))
        if facesets[side].sha256 != facts["sha256"]:
            raise UsageError(f"the faceset {facts['path']} has changed since the run; restore it or train again")
    return facesets


def hold_out(facesets: Mapping[Side, Faceset], config: TrainConfig) -> dict[Side, HeldOut]:
    """Held-out faces of both people; of one of whom nothing is held out, of those that are trained on."""
    held_out: dict[Side, HeldOut] = {}
    for side in SIDES:
        seen, unseen = facesets[side].split_by_time(config.held_out)
        held_out[side] = HeldOut.choose(facesets[side], unseen if len(unseen) else seen, config.geometry)
    return held_out


def evaluate(run: Path) -> Evaluation:
    """Score the best model of `run` on its held-out faces and write RUN/sheet.png.

    Raises TrainingError, FacesetError, UsageError, ModelError.
    """
    model, record, progress = checkpoint.load_best(run)
    facesets = open_facesets(record)
    held_out = hold_out(facesets, record.config)
    figures = look(model, held_out, Truth.open(run, facesets, record.config))
    checkpoint.write_file(run / "sheet.png", draw_sheet(model, held_out))
    counts = {str(side): len(faces.crops.inputs) for side, faces in held_out.items()}
    return Evaluation(str(run), record.config.name, progress.iteration, counts, figures)
