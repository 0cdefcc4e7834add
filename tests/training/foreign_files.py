"""Genuine files of other programs, made of rendered actors. A pose in; DeepFaceLab's and faceswap's bytes out.

Only here is anything pickled: the files have to be what those programs write.
"""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.actors import ADA, BO, Actor, Pose, Renderer
from realtime.align import CropGeometry, cut, frame_to_crop, transform
from realtime.frame import ImageU8, Matrix
from realtime.landmarks import ibug68

VIEWS = {
    "full_face": CropGeometry(256, coverage=1.5966),
    "whole_face": CropGeometry(256, coverage=2.1314, offset_y=-0.07),
    "head": CropGeometry(256, coverage=2.9799, offset_y=-0.5),
}
"""What other programs' crops show: see training.export_dfl."""
POSES = (Pose(yaw=5), Pose(yaw=-25, pitch=8, jaw=0.5), Pose(yaw=30, roll=12, smile=0.8))


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One rendered face, cut out as another program would."""

    crop: ImageU8
    landmarks: NDArray[np.float32]
    """(68, 2) in the crop."""
    source_landmarks: NDArray[np.float32]
    matrix: Matrix
    """(2, 3) frame pixels -> crop pixels."""
    mesh: NDArray[np.float32]
    """(468, 2) in the frame."""


@cache
def _camera(who: str) -> Renderer:
    return Renderer(Actor({"ada": ADA, "bo": BO}[who]), 480, 360, supersample=1.0)


@cache
def shot(number: int = 0, view: str = "whole_face", who: str = "ada") -> Shot:
    """Pose `number` of POSES in one view."""
    rendering = _camera(who).render(POSES[number % len(POSES)], frame=number)
    mesh, geometry = rendering.truth.landmarks, VIEWS[view]
    matrix = frame_to_crop(mesh, geometry)
    points = ibug68(mesh)
    inside = transform(matrix, points).astype(np.float32)
    return Shot(cut(rendering.image, matrix, geometry.size).image, inside, points, matrix, mesh)


def dfl_dict(shot: Shot, frame: int = 12, kind: str = "whole_face", **changes: Any) -> dict[str, Any]:
    """What DeepFaceLab keeps about a face."""
    low, high = shot.source_landmarks.min(axis=0), shot.source_landmarks.max(axis=0)
    return {
        "face_type": kind,
        "landmarks": shot.landmarks.tolist(),
        "source_filename": f"{frame:05d}.png",
        "source_rect": np.array([*low, *high], int),
        "source_landmarks": shot.source_landmarks.tolist(),
        "image_to_face_mat": shot.matrix,
        "eyebrows_expand_mod": 1.0,
    } | changes


def dfl_jpg(shot: Shot, values: Any = None, *, protocol: int = 4, quality: int = 95, raw: bytes | None = None) -> bytes:
    """A JPG with `values`, by default `dfl_dict`, pickled into APP15; `raw` takes the place of the pickle."""
    payload = pickle.dumps(dfl_dict(shot) if values is None else values, protocol) if raw is None else raw
    return with_app15(jpg(shot.crop, quality), payload)


def jpg(image: ImageU8, quality: int = 95) -> bytes:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


def with_app15(data: bytes, payload: bytes) -> bytes:
    """Put a segment after JFIF's, where DeepFaceLab puts it."""
    after = 4 + int.from_bytes(data[4:6], "big")
    return data[:after] + b"\xff\xef" + struct.pack(">H", len(payload) + 2) + payload + data[after:]


class DflSample:
    """Stands for the class of DeepFaceLab's whose objects a pack begins with."""


def dfl_pak(jpgs: Sequence[bytes], *, version: int = 1) -> bytes:
    """A faceset.pak as DeepFaceLab packs it: offsets from the first JPG, and the size of the file behind them."""
    described = pickle.dumps([{"filename": f"{i:05d}.jpg", "person_name": None} for i in range(len(jpgs))], 4)
    head = struct.pack("<QQ", version, len(described)) + described
    offsets = np.cumsum([0, *map(len, jpgs)])[:-1]
    size = len(head) + 8 * (len(jpgs) + 1) + sum(map(len, jpgs))
    return head + struct.pack(f"<{len(jpgs) + 1}Q", *offsets, size) + b"".join(jpgs)


def faceswap_dict(shot: Shot, frame: str = "clip_000012.png", face: int = 0) -> dict[str, Any]:
    """What faceswap keeps in a PNG."""
    low, high = shot.source_landmarks.min(axis=0), shot.source_landmarks.max(axis=0)
    mask = {"mask": zlib.compress(b"\0" * 128 * 128), "affine_matrix": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]}
    return {
        "alignments": {
            "x": int(low[0]),
            "y": int(low[1]),
            "w": int(high[0] - low[0]),
            "h": int(high[1] - low[1]),
            "landmarks_xy": shot.source_landmarks.astype(float).tolist(),
            "mask": {"components": mask | {"interpolator": 2, "stored_size": 128, "stored_centering": "face"}},
            "identity": {"vggface2": [0.25, -1e-05]},
        },
        "source": {
            "alignments_version": 2.3,
            "original_filename": f"{frame.rpartition('.')[0]}_{face}.png",
            "face_index": face,
            "source_filename": frame,
            "source_is_video": True,
            "source_frame_dims": (360, 480),
        },
    }


def png(image: ImageU8) -> bytes:
    done, data = cv2.imencode(".png", image)
    assert done
    return data.tobytes()


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def faceswap_png(shot: Shot, values: Any = None, *, raw: bytes | None = None) -> bytes:
    """A PNG with `values`, by default `faceswap_dict`, as text in an iTXt chunk; `raw` takes the place of the text."""
    text = str(faceswap_dict(shot) if values is None else values).encode() if raw is None else raw
    data = png(shot.crop)
    at = data.index(b"IDAT") - 4
    return data[:at] + png_chunk(b"iTXt", b"faceswap" + b"\0" * 5 + text) + data[at:]


def alignments(shots: dict[str, Shot]) -> dict[str, Any]:
    """What faceswap's file of alignments holds, by frame."""
    entries = {
        frame: {"faces": [faceswap_dict(each)["alignments"] | {"mask": {}, "thumb": [255, 216]}], "video_meta": {}}
        for frame, each in shots.items()
    }
    return {"__meta__": {"version": 2.3}, "__data__": entries}


def alignments_json(shots: dict[str, Shot]) -> bytes:
    return json.dumps(alignments(shots)["__data__"]).encode()


def alignments_fsa(shots: dict[str, Shot]) -> bytes:
    return zlib.compress(pickle.dumps(alignments(shots)))
