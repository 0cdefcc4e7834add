"""Sets of faces to be compared, made of numbers. Seeds and ranges in; facts, or a faceset on disk, out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from realtime.actors.mesh import VERTICES
from realtime.actors.pose import rotation
from realtime.align import CropGeometry, frame_to_crop, transform, whole_face
from realtime.frame import ImageU8, Points
from training.coverage_facts import SetFacts, Shots
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter
from training.pose import head_pose

GEOMETRY = whole_face(64)
PEOPLE = {"identity": (150, 160, 200), "performer": (90, 120, 190)}
"""BGR of their skin."""


def facts(
    name: str = "identity", faces: int = 400, seed: int = 0, *, yaw: float = 40.0, pitch: float = 20.0, **changes: Any
) -> SetFacts:
    """A well filmed set: heads turn to `yaw` and `pitch`, lips, brows and light move, nothing is amiss."""
    rng = np.random.default_rng([seed, len(name)])
    uniform = rng.uniform
    values: dict[str, Any] = {
        "name": name,
        "total": faces,
        "index": np.arange(faces),
        "pts_s": np.arange(faces) / 5,
        "shots": Shots(1, faces / 5, 0.0),
        "pose": np.column_stack([uniform(-yaw, yaw, faces), uniform(-pitch, pitch, faces)]),
        "expression": np.column_stack(
            [uniform(0, 0.6, faces), uniform(1.3, 1.6, faces), uniform(0.2, 0.33, faces), uniform(0.6, 0.8, faces)]
        ),
        "light": np.column_stack(
            [uniform(-0.6, 0.6, faces), uniform(-0.5, -0.2, faces), uniform(-2.4, -1.6, faces), uniform(1, 1.6, faces)]
        ),
        "skin": (-1.0, 0.8),
        "sharpness": uniform(9, 12, faces),
        "native_px": uniform(170, 190, faces),
        "covered": uniform(0, 0.1, faces),
        "covered_always": 0.02,
        "person": np.zeros(faces, np.intp),
        "stored_px": 175.0,
    }
    return SetFacts(**(values | changes))


def posed_face(yaw: float, pitch: float, skin: tuple[int, int, int], geometry: CropGeometry) -> tuple[ImageU8, Points]:
    """A crop with a flat face in it that is turned so far, and its mesh."""
    points = 100 * VERTICES @ rotation(yaw, pitch, 0).T
    matrix = frame_to_crop(points.astype(np.float32), geometry)
    depth = points[:, 2] * float(np.hypot(matrix[0, 0], matrix[1, 0]))
    mesh = np.column_stack([transform(matrix, points), depth]).astype(np.float32)
    image = np.full((geometry.size, geometry.size, 3), 110, np.uint8)
    for which, colour in (
        (range(468), skin),
        ((33, 133, 159, 145), (230, 230, 230)),
        ((61, 291, 0, 17), (70, 70, 150)),
    ):
        hull = cv2.convexHull(np.round(mesh[list(which), :2]).astype(np.int32))
        cv2.fillConvexPoly(image, hull, [float(level) for level in colour], cv2.LINE_AA)
    return image, mesh


def write_set(path: Path, who: str = "identity", faces: int = 12, yaw: float = 30.0) -> Path:
    """A faceset of `faces` faces that turn from -`yaw` to `yaw` in one shot."""
    with FacesetWriter(path, GEOMETRY, kind="whole") as writer:
        writer.add_source(SourceRecord(f"{who}.mp4", "0" * 64, 30.0, faces))
        for number, turn in enumerate(np.linspace(-yaw, yaw, faces).tolist()):
            image, mesh = posed_face(turn, turn / 4, PEOPLE[who], writer.stored_geometry)
            pose = head_pose(mesh)
            writer.add(
                image,
                mesh,
                source=0,
                frame_index=number,
                pts_s=number / 10,
                track=0,
                score=1.0,
                sharpness=10.0,
                native_px=120.0,
                yaw=pose.yaw,
                pitch=pose.pitch,
                roll=pose.roll,
            )
    return path
