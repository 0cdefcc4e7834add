"""A faceset appears whole or not at all, and nothing of the user's is ever touched."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.errors import FacesetError, UsageError
from tests.tiny_faceset import GEOMETRY, SHA, add, files_of, mesh, picture, write_faceset
from training.faceset import Faceset
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter, encode_crop
from training.measures import Measures


def test_an_empty_folder_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert len(Faceset.open(write_faceset(tmp_path / "set"))) == 3


def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    assert len(Faceset.open(write_faceset(tmp_path / "a" / "b" / "set"))) == 3


def test_a_folder_that_holds_something_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not empty; give a new name"):
        FacesetWriter(tmp_path, GEOMETRY)
    assert files_of(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_file_in_the_way_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("mine")
    with pytest.raises(UsageError, match="is a file; give the name of a new folder"):
        FacesetWriter(tmp_path / "set", GEOMETRY)
    assert files_of(tmp_path) == {"set": b"mine"}


def test_a_link_that_goes_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError):
        FacesetWriter(tmp_path / "loop", GEOMETRY)


def broken_write(path: Path) -> None:
    with FacesetWriter(path, GEOMETRY) as writer:
        add(writer, 0)
        raise KeyboardInterrupt


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        broken_write(tmp_path / "set")
    assert os.listdir(tmp_path) == []


def test_nothing_has_the_final_name_before_the_end(tmp_path: Path) -> None:
    writer = FacesetWriter(tmp_path / "set", GEOMETRY)
    add(writer, 0)
    assert os.listdir(tmp_path) == ["set.partial"]
    writer.abort()


def test_what_a_crash_left_is_replaced_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crashed = FacesetWriter(tmp_path / "set", GEOMETRY)
    for seed in range(5):
        add(crashed, seed)
    with caplog.at_level(logging.WARNING):
        write_faceset(tmp_path / "set")
    assert "an earlier extraction left unfinished" in caplog.text
    assert os.listdir(tmp_path) == ["set"]
    assert len(os.listdir(tmp_path / "set" / "faces")) == 3


def test_a_partial_folder_with_other_files_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "set.partial" / "faces").mkdir(parents=True)
    (tmp_path / "set.partial" / "faces" / "000000.jpg").write_text("mine")
    (tmp_path / "set.partial" / "diary.txt").write_text("mine")
    with pytest.raises(UsageError, match="move it away"):
        FacesetWriter(tmp_path / "set", GEOMETRY)
    assert set(files_of(tmp_path)) == {"set.partial/diary.txt", "set.partial/faces/000000.jpg"}


def test_a_set_without_faces_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(FacesetError, match="no face; use a video"):
        write_faceset(tmp_path / "set", faces=0)
    assert os.listdir(tmp_path) == []


def test_a_face_of_an_unknown_source_is_not_written(tmp_path: Path) -> None:
    writer = FacesetWriter(tmp_path / "set", GEOMETRY)
    add(writer, 0, source=1)
    writer.add_source(SourceRecord("ada.mp4", SHA, 30.0, 1))
    with pytest.raises(FacesetError, match="source"):
        writer.close()
    assert os.listdir(tmp_path) == []


def test_a_writer_may_be_closed_twice(tmp_path: Path) -> None:
    writer = FacesetWriter(tmp_path / "set", GEOMETRY)
    add(writer, 0)
    writer.add_source(SourceRecord("ada.mp4", SHA, 30.0, 1))
    assert writer.close() == writer.close()
    writer.abort()
    assert len(Faceset.open(tmp_path / "set")) == 1


def test_a_crop_of_the_wrong_size_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with FacesetWriter(tmp_path / "set", GEOMETRY) as writer:
        writer.add_source(SourceRecord("ada.mp4", SHA, 30.0, 1))
        add(writer, 0)
        with pytest.raises(ValueError, match="80 px crop"):
            writer.add(picture(0)[:64, :64], mesh(0), **facts())


def facts() -> dict[str, Any]:
    numbers = dict.fromkeys(("pts_s", "score", "sharpness", "native_px", "yaw", "pitch", "roll"), 0.0)
    return dict.fromkeys(("source", "frame_index", "track"), 0) | numbers


def test_a_jpeg_is_stored_as_it_is(tmp_path: Path) -> None:
    other = Faceset.open(write_faceset(tmp_path / "other"))
    data = (other.path / other.records[1].file).read_bytes()
    with FacesetWriter(tmp_path / "set", GEOMETRY) as writer:
        writer.add_source(SourceRecord("ada.mp4", SHA, 30.0, 1))
        writer.add(data, mesh(1), **facts(), person=3)
    (record,) = Faceset.open(tmp_path / "set").records
    assert (tmp_path / "set" / record.file).read_bytes() == data
    assert record.person == 3


def test_what_a_face_shows_is_stored_with_it(tmp_path: Path) -> None:
    seen = Measures(0.25, 0.3, 0.4, 0.41, 0.2, (-1.5, 0.123456, 0.0, -0.25), 0.7, 1 / 3)
    with FacesetWriter(tmp_path / "set", GEOMETRY) as writer:
        writer.add_source(SourceRecord("ada.mp4", SHA, 30.0, 1))
        writer.add(picture(0), mesh(0), **facts(), measures=seen)
        writer.add(picture(1), mesh(1), **facts())
    first, second = Faceset.open(tmp_path / "set").records
    assert first.measures == Measures(0.25, 0.3, 0.4, 0.41, 0.2, (-1.5, 0.1235, 0.0, -0.25), 0.7, 0.3333)
    assert second.measures is None


@pytest.mark.parametrize("data", [b"", b"GIF89a", encode_crop(np.zeros((64, 64, 3), np.uint8), 64)])
def test_a_jpeg_of_another_kind_or_size_is_not_stored(tmp_path: Path, data: bytes) -> None:
    with FacesetWriter(tmp_path / "set", GEOMETRY) as writer:
        writer.add_source(SourceRecord("ada.mp4", SHA, 30.0, 1))
        add(writer, 0)
        with pytest.raises(FacesetError, match="face 1 is"):
            writer.add(data, mesh(0), **facts())


def test_a_folder_that_vanishes_while_it_is_written_gives_one_sentence(tmp_path: Path) -> None:
    writer = FacesetWriter(tmp_path / "set", GEOMETRY)
    (tmp_path / "set.partial" / "faces").rmdir()
    with pytest.raises(FacesetError, match="check the spelling"):
        add(writer, 0)
    writer.abort()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_read_only_place_gives_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FacesetError, match="choose another place"):
            FacesetWriter(tmp_path / "set", GEOMETRY)
    finally:
        tmp_path.chmod(0o700)
