"""The rendered frames whose landmarks the MediaPipe package has given once. Nothing in, frames and reference out.

    python -m tests.parity.reference_frames --python PYTHON_WITH_MEDIAPIPE

makes tests/data/mediapipe_landmarks.npz anew. The file holds what was rendered (`scenes`, JSON), not the pictures:
the actors are deterministic.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realtime.actors import ADA, BO, Actor, Pose, Renderer, motion

REFERENCE = Path(__file__).parents[1] / "data" / "mediapipe_landmarks.npz"
SCRIPT = Path(__file__).with_name("mediapipe_reference.py")
ACTORS = {"ADA": ADA, "BO": BO}
_FRAMES_PER_ACTOR = 10
_REFINED_FRAMES = 6


def scenes() -> list[str]:
    """What is rendered, as JSON: the actors in turn, each through a whole performance of turns, faces and light."""
    chosen: dict[str, list[Pose]] = {}
    for seed, name in enumerate(ACTORS, start=7):
        poses = motion(300, seed=seed, hand=False)
        step = len(poses) // _FRAMES_PER_ACTOR
        chosen[name] = poses[step // 2 :: step]
    return [
        json.dumps({"actor": name, "pose": asdict(chosen[name][index])})
        for index in range(_FRAMES_PER_ACTOR)
        for name in chosen
    ]


def open_renderers() -> dict[str, Renderer]:
    """A camera for each actor that scenes() names."""
    return {name: Renderer(Actor(identity)) for name, identity in ACTORS.items()}


def render(described: Sequence[str], renderers: Mapping[str, Renderer]) -> NDArray[np.uint8]:
    """(N, 480, 640, 3) BGR frames of scenes as scenes() describes them."""
    frames = []
    for index, scene in enumerate(described):
        values = json.loads(scene)
        frames.append(renderers[values["actor"]].render(Pose(**values["pose"]), frame=index).image)
    return np.stack(frames)


def error_iod(landmarks: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Mean distance of two meshes, in distances of the outer corners of the eyes."""
    eyes = np.linalg.norm(expected[33, :2] - expected[263, :2])
    return float(np.linalg.norm(landmarks[: len(expected)] - expected, axis=1).mean() / eyes)


def ask_mediapipe(python: Path, frames: NDArray[np.uint8], folder: Path, *options: str) -> NDArray[np.float32]:
    """The landmarks that MediaPipe, installed for the interpreter `python`, finds: see mediapipe_reference.py."""
    source, target = folder / "frames.npz", folder / "landmarks.npz"
    np.savez(source, frames=frames)
    subprocess.run([python, SCRIPT, source, target, *options], check=True, capture_output=True, text=True)
    with np.load(target, allow_pickle=False) as file:
        landmarks: NDArray[np.float32] = file["landmarks"]
    return landmarks


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Make the stored MediaPipe landmarks anew.")
    parser.add_argument("--python", type=Path, required=True, help="an interpreter with mediapipe==0.10.21")
    arguments = parser.parse_args()
    described = scenes()
    frames = render(described, open_renderers())
    with tempfile.TemporaryDirectory() as folder:
        plain = ask_mediapipe(arguments.python, frames, Path(folder))[:, 0]
        refined = ask_mediapipe(arguments.python, frames[:_REFINED_FRAMES], Path(folder), "--refine")[:, 0]
    np.savez_compressed(REFERENCE, scenes=np.array(described), landmarks_468=plain, landmarks_478=refined)
    return 0


if __name__ == "__main__":
    sys.exit(main())
