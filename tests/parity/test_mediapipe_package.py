"""FaceFinder beside the MediaPipe package itself, on fresh frames. Slow: it installs the package, a gigabyte, first.

LIVESWAP_MEDIAPIPE_PYTHON may name an interpreter that has mediapipe==0.10.21 already.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from export.face_models import WHEEL
from realtime.actors import ADA, BO, Actor, Renderer, motion
from realtime.detect import FaceFinder
from realtime.frame import Frame
from tests.parity.reference_frames import ask_mediapipe, error_iod

pytestmark = pytest.mark.slow

STATIC_IOD = 1e-3
"""One picture at a time, mean over points and frames, in eye distances. Both run the same networks on the same pixels;
2.5e-4 come from OpenCV 5 here and OpenCV 4.11 there."""
FOLLOWING_IOD = 3e-3
"""Frame after frame each looks where it was a frame ago, so that small differences feed on themselves."""


@pytest.fixture(scope="module")
def mediapipe_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("LIVESWAP_MEDIAPIPE_PYTHON")
    if given:
        return Path(given)
    if sys.version_info >= (3, 13):
        pytest.skip(f"{WHEEL} has no wheel for Python 3.13; set LIVESWAP_MEDIAPIPE_PYTHON to an older one that has it")
    folder = tmp_path_factory.mktemp("mediapipe")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    installed = subprocess.run([python, "-m", "pip", "install", "--quiet", WHEEL], check=False)
    if installed.returncode:
        pytest.skip(f"pip could not install {WHEEL}; set LIVESWAP_MEDIAPIPE_PYTHON to an interpreter that has it")
    return python


@pytest.fixture(scope="module")
def performance() -> NDArray[np.uint8]:
    """(60, 480, 640, 3): two seconds of Ada with a hand in front of her."""
    renderer = Renderer(Actor(ADA))
    return np.stack([renderer.render(pose, frame=i).image for i, pose in enumerate(motion(60, seed=21))])


def find(frames: NDArray[np.uint8], **settings: bool | int) -> list[list[NDArray[np.float32]]]:
    """The landmarks of all faces in each frame."""
    with FaceFinder(**settings) as finder:  # type: ignore[arg-type]  # a plain dictionary of settings
        return [[face.landmarks for face in finder.find(Frame(frame, i, 0.0))] for i, frame in enumerate(frames)]


def compare(found: list[list[NDArray[np.float32]]], expected: NDArray[np.float32]) -> float:
    """Mean error over the frames in which both found a face; at most one frame in a hundred may differ in that."""
    both = [(faces[0], one[0]) for faces, one in zip(found, expected, strict=True) if faces and np.isfinite(one).all()]
    seen = [bool(faces) for faces in found]
    assert np.mean(np.array(seen) != np.isfinite(expected[:, 0, 0, 0])) <= 0.01
    return float(np.mean([error_iod(ours, theirs) for ours, theirs in both]))


@pytest.mark.parametrize("refine", [False, True])
def test_single_pictures(mediapipe_python: Path, performance: NDArray[np.uint8], tmp_path: Path, refine: bool) -> None:
    expected = ask_mediapipe(mediapipe_python, performance[::3], tmp_path, *(["--refine"] if refine else []))
    assert compare(find(performance[::3], static=True, refine=refine), expected) < STATIC_IOD


@pytest.mark.parametrize("refine", [False, True])
def test_a_film(mediapipe_python: Path, performance: NDArray[np.uint8], tmp_path: Path, refine: bool) -> None:
    options = ["--tracking", *(["--refine"] if refine else [])]
    expected = ask_mediapipe(mediapipe_python, performance, tmp_path, *options)
    assert compare(find(performance, refine=refine), expected) < FOLLOWING_IOD


def test_two_faces(mediapipe_python: Path, performance: NDArray[np.uint8], tmp_path: Path) -> None:
    bo = Renderer(Actor(BO)).render(motion(1)[0]).image
    frames = np.stack([np.hstack([frame, bo]) for frame in performance[:20:4]])
    expected = ask_mediapipe(mediapipe_python, frames, tmp_path, "--max-faces", "2")
    for ours, theirs in zip(find(frames, static=True, max_faces=2), expected, strict=True):
        assert len(ours) == 2
        assert np.isfinite(theirs).all()
        ours.sort(key=lambda points: float(points[:, 0].mean()))
        for one, other in zip(ours, sorted(theirs, key=lambda points: float(points[:, 0].mean())), strict=True):
            assert error_iod(one, other) < 2 * STATIC_IOD


def sampled(clip: Path, every: int) -> Iterator[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(clip))
    index = 0
    while capture.grab():
        if index % every == 0:
            yield np.asarray(capture.retrieve()[1], np.uint8)
        index += 1
    capture.release()


@pytest.mark.parametrize(
    "clip", ["performer_talking_480x480", "identity_glasses_512x480", "walking_small_face_1280x720"]
)
@pytest.mark.parametrize("refine", [False, True])
def test_real_clips(mediapipe_python: Path, real_clips: Path, tmp_path: Path, clip: str, refine: bool) -> None:
    frames = np.stack(list(sampled(real_clips / f"{clip}.mp4", every=15)))
    expected = ask_mediapipe(mediapipe_python, frames, tmp_path, *(["--refine"] if refine else []))
    assert compare(find(frames, static=True, refine=refine), expected) < STATIC_IOD
