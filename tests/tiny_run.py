"""Facesets and training runs that take a second. A folder in; two people, a recipe and a finished run out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors import safe_open
from torch import Tensor

from realtime.align import CropGeometry, canonical_mesh, whole_face
from realtime.frame import ImageU8, Points
from training.config import TrainConfig
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter
from training.model import ModelConfig
from training.train import train

FACES = 12
SKIN = {"identity": (150, 120, 60), "performer": (70, 90, 190)}
"""BGR: a bluish and a reddish person."""
TINY = TrainConfig(
    name="tiny-test",
    model=ModelConfig(resolution=32, encoder=(8, 16), code_channels=8, code=16, decoder=(16, 8)),
    batch=2,
    warmup=2,
    ema=0.9,
    iterations=5,
    evaluate_every=2,
    save_every=3,
    precision="fp32",
    threads=1,
)


def mesh_in(geometry: CropGeometry, seed: int = 0) -> Points:
    """(468, 3) float32: the canonical face in the pixels of a crop, a little different for each seed."""
    offset = (geometry.offset_x, geometry.offset_y)
    points = geometry.size * ((canonical_mesh() - 0.5 - offset) / geometry.coverage + 0.5)
    points = points + np.random.default_rng(seed).normal(0, geometry.size / 200, points.shape)
    return np.column_stack([points, np.zeros(len(points))]).astype(np.float32)


def face_like(geometry: CropGeometry, skin: tuple[int, int, int], seed: int) -> tuple[ImageU8, Points]:
    """A skin-coloured oval with two eyes and a mouth before a smooth background, and its mesh."""
    rng = np.random.default_rng(seed)
    side, points = geometry.size, mesh_in(geometry, seed)
    coarse = rng.integers(0, 255, (4, 4, 3), np.uint8)
    image = np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)
    light = rng.uniform(0.85, 1.15)
    outlines = ((slice(0, 468), np.array(skin) * light), ([33, 133, 159, 145], (240, 240, 240)))
    for which, colour in (*outlines, ([263, 362, 386, 374], (240, 240, 240)), ([61, 291, 0, 17], (60, 40, 160))):
        hull = cv2.convexHull(np.round(points[which, :2]).astype(np.int32))
        cv2.fillConvexPoly(image, hull, [float(c) for c in colour], cv2.LINE_AA)
    return image, points


def write_person(path: Path, who: str, faces: int = FACES) -> Path:
    """A faceset of one person at `path`."""
    with FacesetWriter(path, whole_face(64), kind="whole") as writer:
        writer.add_source(SourceRecord(f"{who}.mp4", "0" * 64, 30.0, faces))
        for index in range(faces):
            image, points = face_like(writer.stored_geometry, SKIN[who], 1000 * len(who) + index)
            writer.add(
                image,
                points,
                source=0,
                frame_index=index,
                pts_s=index / 3,
                track=0,
                score=0.9,
                sharpness=5.0,
                native_px=100.0,
                yaw=0.0,
                pitch=0.0,
                roll=0.0,
            )
    return path


def write_people(folder: Path, faces: int = FACES) -> dict[str, Path]:
    """Two facesets: `identity` and `performer`."""
    return {who: write_person(folder / who, who, faces) for who in SKIN}


def train_tiny(people: dict[str, Path], run: Path, *, resume: bool = False, **changes: Any) -> Path:
    """Train TINY, with `changes` to the recipe, in the folder `run`."""
    train(people["identity"], people["performer"], run, replace(TINY, **changes), resume=resume)
    return run


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Everything that a safetensors file holds, read whole."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118


def facts_of(path: Path) -> dict[str, Any]:
    """What a checkpoint says about itself, without the times of day."""
    with safe_open(path, framework="pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["liveswap.checkpoint"])
    told: dict[str, Any] = without_times(facts)
    return told


def without_times(facts: Any) -> Any:
    """The same values without every `elapsed_s`, which no two runs share."""
    if isinstance(facts, list):
        return [without_times(entry) for entry in facts]
    if isinstance(facts, dict):
        return {key: without_times(value) for key, value in facts.items() if key != "elapsed_s"}
    return facts
