"""dlib's detector finds rendered faces where the default does; without dlib there is one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from realtime.actors import BO, Actor, Renderer, motion
from realtime.detect import FaceFinder
from realtime.errors import UsageError
from realtime.frame import Frame, ImageU8
from training.extract_config import ExtractConfig
from training.search import open_detector

ROOT = Path(__file__).resolve().parents[2]
SAME_MESH = 0.02
"""Mean distance of two meshes of one face, in sides of its box: the network saw it from two regions."""


@pytest.fixture(scope="module")
def images() -> list[ImageU8]:
    camera = Renderer(Actor(BO), 320, 240, supersample=1.0)
    return [camera.render(pose, frame=i).image for i, pose in enumerate(motion(6, 10, 3, yaw=10, hand=False))]


def test_without_dlib_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UsageError, match=r'pip install -e "\.\[dlib\]"'):
        open_detector(ExtractConfig(detector="dlib"))


def test_the_default_needs_no_dlib() -> None:
    code = "import sys, training.extract, training.search; sys.exit('dlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


def test_both_detectors_find_the_same_face_and_follow_it(images: list[ImageU8]) -> None:
    pytest.importorskip("dlib")
    finder = open_detector(ExtractConfig(detector="dlib", max_faces=2))
    with FaceFinder() as other:
        for index, image in enumerate(images):
            (face,) = finder.find(Frame(image, index, 0.0))
            (expected,) = other.find(Frame(image, index, 0.0))
            side = np.ptp(expected.landmarks[:, :2], axis=0).max()
            assert np.linalg.norm(face.landmarks - expected.landmarks, axis=1).mean() < SAME_MESH * side
            assert face.track_id == 0
    finder.reset()
    (again,) = finder.find(Frame(images[0], 0, 0.0))
    assert again.track_id == 1
    finder.close()
    finder.close()
    with pytest.raises(ValueError, match="closed"):
        finder.find(Frame(images[0], 0, 0.0))


def test_two_faces_have_two_numbers_and_a_wall_has_none(images: list[ImageU8]) -> None:
    pytest.importorskip("dlib")
    finder = open_detector(ExtractConfig(detector="dlib", max_faces=2))
    both = np.concatenate([images[0], images[3]], axis=1)
    assert [face.track_id for face in finder.find(Frame(both, 0, 0.0))] == [0, 1]
    assert finder.find(Frame(np.full((240, 320, 3), 90, np.uint8), 1, 0.0)) == []
    finder.close()
    single = open_detector(ExtractConfig(detector="dlib", max_faces=1))
    assert len(single.find(Frame(both, 0, 0.0))) == 1
    single.close()
