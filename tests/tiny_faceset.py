"""Facesets small enough to be made in every test. Numbers in, a folder out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from realtime.align import whole_face
from realtime.frame import ImageU8, Points
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter

GEOMETRY = whole_face(64)
SIDE = GEOMETRY.widened(1.25).size
SHA = "0" * 64


def picture(seed: int) -> ImageU8:
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)


def mesh(seed: int) -> Points:
    return np.random.default_rng(seed).uniform(0, SIDE, (468, 3)).astype(np.float32)


def add(writer: FacesetWriter, seed: int, *, source: int = 0, pts_s: float | None = None) -> None:
    writer.add(
        picture(seed),
        mesh(seed),
        source=source,
        frame_index=seed,
        pts_s=seed / 30 if pts_s is None else pts_s,
        track=source,
        score=0.987654,
        sharpness=10.12345,
        native_px=123.4567,
        yaw=-12.3456,
        pitch=1.0,
        roll=0.5,
    )


def write_faceset(path: Path, faces: int = 3) -> Path:
    with FacesetWriter(path, GEOMETRY, kind="whole") as writer:
        writer.add_source(SourceRecord("ada.mp4", SHA, 29.97003, 300))
        for seed in range(faces):
            add(writer, seed)
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
