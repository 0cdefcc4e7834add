"""Asks the MediaPipe package itself. A file of frames in, a file of landmarks out.

    python mediapipe_reference.py FRAMES.npz LANDMARKS.npz [--refine] [--tracking] [--max-faces N]

FRAMES.npz holds `frames`, (N, H, W, 3) uint8 BGR. LANDMARKS.npz gets `landmarks`, (N, faces, 468 or 478, 3) float32 in
pixels, NaN where no face was found, and `version`, that of the package. mediapipe 0.10.21 needs numpy < 2 and an old
protobuf: this script runs in an environment of its own and therefore imports nothing of liveswap.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def find_landmarks(
    frames: NDArray[np.uint8], *, refine: bool = False, tracking: bool = False, max_faces: int = 1
) -> NDArray[np.float32]:
    """(N, max_faces, 468 or 478, 3) landmarks of MediaPipe's FaceMesh in pixels."""
    face_mesh = importlib.import_module("mediapipe.python.solutions.face_mesh")
    height, width = frames.shape[1:3]
    landmarks = np.full((len(frames), max_faces, 478 if refine else 468, 3), np.nan, np.float32)
    options = {"static_image_mode": not tracking, "refine_landmarks": refine, "max_num_faces": max_faces}
    with face_mesh.FaceMesh(**options) as mesh:
        for i, frame in enumerate(frames):
            found = mesh.process(np.ascontiguousarray(frame[:, :, ::-1])).multi_face_landmarks or []
            for j, face in enumerate(found):
                landmarks[i, j] = [(point.x * width, point.y * height, point.z * width) for point in face.landmark]
    return landmarks


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("frames", type=Path)
    parser.add_argument("landmarks", type=Path)
    parser.add_argument("--refine", action="store_true", help="478 points of the attention network")
    parser.add_argument("--tracking", action="store_true", help="follow the face instead of detecting in each frame")
    parser.add_argument("--max-faces", type=int, default=1)
    arguments = parser.parse_args()
    with np.load(arguments.frames, allow_pickle=False) as file:
        frames = file["frames"]
    landmarks = find_landmarks(
        frames, refine=arguments.refine, tracking=arguments.tracking, max_faces=arguments.max_faces
    )
    version = np.array(importlib.import_module("mediapipe").__version__)
    np.savez_compressed(arguments.landmarks, landmarks=landmarks, version=version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
