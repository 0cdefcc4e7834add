"""What a part has given comes back to the bit, or not at all."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realtime.errors import FacesetError, UsageError
from tests.tiny_faceset import SHA, mesh
from training.extract_config import ExtractConfig
from training.film import Clip, Film, Part
from training.measures import Measures
from training.near_duplicates import SMALL_PX
from training.part_store import PartStore, key_of
from training.search import FoundFace, Search

SEEN = Measures(0.25, 0.3, 0.4, 1 / 3, 0.2, (-1.5, 0.1, 0.0, -0.25), 0.7, 0.01)


def found(number: int) -> FoundFace:
    rng = np.random.default_rng(number)
    return FoundFace(
        frame=number,
        pts_s=number / 30,
        track=number % 2,
        score=0.9,
        sharpness=12.3456789,
        native_px=100.1,
        yaw=-3.0,
        pitch=1e-9,
        roll=2.0,
        box=(1.5, 2.5, 3.5, 4.5),
        measures=SEEN,
        jpeg=bytes([number] * (10 + number)),
        mesh=mesh(number),
        small=rng.integers(0, 255, (SMALL_PX, SMALL_PX), np.uint8),
        identity=rng.normal(size=24).astype(np.float32),
    )


def searched(faces: int) -> Search:
    picture = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    return Search(
        frames=300,
        searched=150,
        with_face=faces,
        cuts=1,
        left_out={"too small": 3},
        first_s=0.0,
        last_s=9.9667,
        first_picture=picture,
        last_picture=picture[::-1],
        usual_change=1.25,
        faces=tuple(found(number) for number in range(faces)),
    )


@pytest.mark.parametrize("faces", [0, 1, 5])
def test_what_was_saved_comes_back(tmp_path: Path, faces: int) -> None:
    store = PartStore.beside(tmp_path / "set")
    assert not store.holds("0" * 32)
    store.save("0" * 32, searched(faces))
    assert (len(store), store.holds("0" * 32), store.folder.name) == (1, True, "set.unfinished")
    before, after = searched(faces), store.load("0" * 32)
    for name in ("frames", "searched", "with_face", "cuts", "left_out", "first_s", "last_s", "usual_change"):
        assert getattr(after, name) == getattr(before, name)
    assert after.first_picture is not None
    np.testing.assert_array_equal(after.first_picture, before.first_picture)
    assert len(after.faces) == faces
    for one, other in zip(before.faces, after.faces, strict=True):
        for field in ("frame", "pts_s", "track", "sharpness", "pitch", "box", "measures", "jpeg"):
            assert getattr(one, field) == getattr(other, field)
        for field in ("mesh", "small", "identity"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
            assert getattr(one, field).dtype == getattr(other, field).dtype
    assert all(face.jpeg == b"" for face in store.load("0" * 32, faces=False).faces)


def test_a_part_without_a_frame_comes_back(tmp_path: Path) -> None:
    store = PartStore(tmp_path / "x.unfinished")
    store.save("0" * 32, replace(searched(0), first_s=None, last_s=None, first_picture=None, last_picture=None))
    after = store.load("0" * 32)
    assert (after.first_s, after.first_picture, after.last_picture) == (None, None, None)


@pytest.mark.parametrize("keep", [0, 10, 1000, -30])
def test_a_damaged_part_is_removed_and_searched_again(tmp_path: Path, keep: int) -> None:
    store = PartStore(tmp_path / "x.unfinished")
    store.save("0" * 32, searched(3))
    (path,) = store.folder.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FacesetError, match="go on with --resume"):
        store.load("0" * 32)
    assert not store.holds("0" * 32)


def test_the_same_part_has_the_same_bytes(tmp_path: Path) -> None:
    one, two = PartStore(tmp_path / "a"), PartStore(tmp_path / "b")
    for store in (one, two):
        store.save("0" * 32, searched(3))
    assert next(one.folder.iterdir()).read_bytes() == next(two.folder.iterdir()).read_bytes()


FILM = Film(Clip(Path("ada.mp4")), "ada.mp4", SHA, 30.0, 600, 0, 0.0, ())
PART = Part(10.0, 20.0)


def test_a_key_stands_for_everything_that_the_faces_depend_on() -> None:
    config = ExtractConfig()
    key = key_of(FILM, PART, config)
    assert len(key) == 32
    same = [
        key_of(replace(FILM, clip=Clip(Path("elsewhere/ada.mp4")), name="other.mp4"), PART, config),
        key_of(FILM, PART, replace(config, keep_duplicates=True)),
        key_of(FILM, PART, replace(config, main_person=True)),
    ]
    assert set(same) == {key}
    others = [
        key_of(replace(FILM, sha256="1" * 64), PART, config),
        key_of(replace(FILM, clip=Clip(Path("ada.mp4"), 1.0)), PART, config),
        key_of(FILM, Part(10.0, 21.0), config),
        key_of(FILM, PART, replace(config, size=128)),
        key_of(FILM, PART, replace(config, fps=5.0)),
        key_of(FILM, PART, replace(config, max_faces=2)),
        key_of(FILM, PART, replace(config, detector="dlib")),
        key_of(FILM, PART, replace(config, min_native_px=30.0)),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_files_of_the_user_are_never_touched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = PartStore.beside(tmp_path / "set")
    store.save("0" * 32, searched(1))
    (store.folder / "diary.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds more than an unfinished extraction; move it away"):
        store.check()
    with caplog.at_level(logging.WARNING):
        store.clear()
    assert os.listdir(store.folder) == ["diary.txt"]
    assert "could not be removed" in caplog.text


def test_a_file_or_a_link_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.unfinished").write_text("mine")
    with pytest.raises(UsageError, match="move it away"):
        PartStore.beside(tmp_path / "set").check()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "other.unfinished").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="move it away"):
        PartStore.beside(tmp_path / "other").check()


def test_clearing_removes_what_a_crash_left_half_written(tmp_path: Path) -> None:
    store = PartStore.beside(tmp_path / "set")
    store.save("0" * 32, searched(1))
    (store.folder / f".{'1' * 32}.0123abcd.part.npz").write_bytes(b"half")
    assert len(store) == 1
    store.check()
    store.clear()
    store.clear()
    assert os.listdir(tmp_path) == []
