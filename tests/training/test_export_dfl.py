"""What is written for DeepFaceLab is what DeepFaceLab reads: its own way of reading is repeated here."""

from __future__ import annotations

import os
import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from realtime.align import transform
from realtime.errors import FacesetError, UsageError
from realtime.landmarks import ibug68
from tests.tiny_faceset import files_of, write_faceset
from tests.tiny_run import write_person
from tests.training.foreign_files import dfl_dict, dfl_jpg, shot
from training.export_dfl import dfl_matrix, export_dfl, pack_metadata
from training.faceset import Faceset
from training.import_faces import import_faces
from training.realign import MeshSeeker
from training.safe_pickle import read_plain

CUT_TOLERANCE = 0.035
"""Of the crop's side: actors are rendered, cut with their true landmarks, and cut again with the network's."""


def read_as_dfl(data: bytes) -> tuple[dict[str, Any], list[int]]:
    """The dictionary and the markers, walking the segments as DeepFaceLab does and unpickling as it does."""
    at, markers, values = 0, [], {}
    while at < len(data):
        assert data[at] == 0xFF
        marker = data[at + 1]
        markers.append(marker)
        at += 2
        if marker in (0xD8, 0xD9):
            continue
        assert marker != 0xDD, "DeepFaceLab steps wrongly over a restart interval"
        length = int.from_bytes(data[at : at + 2], "big")
        if marker == 0xE0:
            assert data[at + 2 : at + 6] == b"JFIF"
        if marker == 0xEF:
            values = pickle.loads(data[at + 2 : at + length])
        at += length
        if marker == 0xDA:
            at = data.index(b"\xff\xd9", at)
    return values, markers


def test_python_unpickles_what_was_written_by_hand() -> None:
    points = np.random.default_rng(0).normal(100, 50, (68, 2))
    data = pack_metadata("whole_face", "clip ü_000012.png", points)
    expected = {
        "face_type": "whole_face",
        "landmarks": points.tolist(),
        "source_filename": "clip ü_000012.png",
        "eyebrows_expand_mod": 1.0,
    }
    assert pickle.loads(data) == expected
    assert read_plain(data, "x") == expected
    assert data == pack_metadata("whole_face", "clip ü_000012.png", points)


def test_the_jpgs_read_as_deepfacelab_reads_them(tmp_path: Path) -> None:
    faceset = Faceset.open(write_person(tmp_path / "ada", "identity", faces=3))
    assert export_dfl(faceset, tmp_path / "out", size=96) == 3
    assert sorted(os.listdir(tmp_path / "out")) == ["000000_0.jpg", "000001_0.jpg", "000002_0.jpg"]
    for i in range(3):
        data = (tmp_path / "out" / f"{i:06d}_0.jpg").read_bytes()
        values, markers = read_as_dfl(data)
        assert markers[:3] == [0xD8, 0xE0, 0xEF]
        assert values["face_type"] == "whole_face"
        assert values["source_filename"] == f"identity_{i:06d}.png"
        assert np.array(values["landmarks"]).shape == (68, 2)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (96, 96, 3)


def test_a_face_comes_back_where_deepfacelab_had_cut_it(tmp_path: Path) -> None:
    (tmp_path / "aligned").mkdir()
    (tmp_path / "aligned" / "00000.jpg").write_bytes(dfl_jpg(shot(), dfl_dict(shot(), frame=0)))
    with MeshSeeker() as seeker:
        import_faces(tmp_path / "aligned", tmp_path / "set", open_seeker=lambda: nullcontext(seeker))
    export_dfl(Faceset.open(tmp_path / "set"), tmp_path / "out")
    values, _ = read_as_dfl((tmp_path / "out" / "000000_0.jpg").read_bytes())
    apart = np.linalg.norm(np.array(values["landmarks"])[17:] - shot().landmarks[17:], axis=1)
    assert apart.mean() < CUT_TOLERANCE * 256
    assert values["source_filename"] == "aligned_000000.png"


def test_landmarks_lie_where_the_picture_was_cut() -> None:
    mesh = np.column_stack([shot().mesh, np.zeros(468)]).astype(np.float32)
    matrix = dfl_matrix(mesh, "whole", 256)
    inside = transform(matrix, ibug68(mesh))
    eyes, mouth = inside[36:48].mean(axis=0), inside[48:68].mean(axis=0)
    assert eyes == pytest.approx([128, 112], abs=12)  # where a whole_face of DeepFaceLab has them
    assert mouth[1] - eyes[1] == pytest.approx(70, abs=14)
    assert abs(mouth[0] - eyes[0]) < 12


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    faceset = Faceset.open(write_person(tmp_path / "ada", "identity", faces=2))
    for name in ("a", "b"):
        export_dfl(faceset, tmp_path / name)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_name_that_is_taken_and_a_size_that_cannot_be_are_refused(tmp_path: Path) -> None:
    faceset = Faceset.open(write_person(tmp_path / "ada", "identity", faces=2))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not empty"):
        export_dfl(faceset, tmp_path / "mine")
    with pytest.raises(UsageError, match="--size"):
        export_dfl(faceset, tmp_path / "out", size=5)
    assert files_of(tmp_path / "mine") == {"thesis.txt": b"years of work"}


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    faceset = Faceset.open(write_faceset(tmp_path / "set"))
    (faceset.path / "faces" / "000002.jpg").unlink()
    with pytest.raises(FacesetError, match=r"000002\.jpg"):
        export_dfl(faceset, tmp_path / "out")
    assert os.listdir(tmp_path) == ["set"]
