"""What coverage reads from a set on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.errors import FacesetError
from tests.covered import GEOMETRY, posed_face, write_set
from training import coverage_facts
from training.cover import FaceLook, general_look
from training.coverage_facts import EXPRESSION, LIGHT, count_shots, read_facts
from training.eye_white import read_eye_white
from training.faceset import Faceset
from training.faceset_index import FaceRecord, SourceRecord
from training.faceset_writer import FacesetWriter


@pytest.fixture(scope="module")
def faceset(tmp_path_factory: pytest.TempPathFactory) -> Faceset:
    return Faceset.open(write_set(tmp_path_factory.mktemp("sets") / "ada"))


AHEAD = np.zeros((21, 2))
"""Pose and light of 21 faces that all look into the camera."""


def records(faceset: Faceset, *, tracks: list[int], step_s: float = 0.1) -> list[FaceRecord]:
    """As many faces as tracks are named, `step_s` apart."""
    face = faceset.records[0]
    return [replace(face, track=track, pts_s=number * step_s) for number, track in enumerate(tracks)]


def test_every_face_gives_a_row(faceset: Faceset) -> None:
    seen: list[tuple[int, int]] = []
    found = read_facts(faceset, lambda done, total: seen.append((done, total)))
    assert len(found) == found.total == 12
    assert found.name == "ada"
    assert found.expression.shape == (12, len(EXPRESSION))
    assert found.light.shape == (12, len(LIGHT))
    assert found.pose[:, 0] == pytest.approx(np.linspace(-30, 30, 12), abs=4)
    assert np.isfinite(found.expression).all()
    assert np.isfinite(found.light).all()
    assert found.person.tolist() == [0] * 12
    assert seen[-1] == (12, 12)


def test_of_a_large_set_some_faces_are_looked_at_from_the_first_to_the_last(
    faceset: Faceset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage_facts, "MOST_FACES", 4)
    found = read_facts(faceset)
    assert found.index.tolist() == [0, 4, 7, 11]
    assert found.total == 12


def test_a_mesh_that_is_no_head_is_told_in_a_sentence(tmp_path: Path) -> None:
    with FacesetWriter(tmp_path / "flat", GEOMETRY, kind="whole") as writer:
        writer.add_source(SourceRecord("a.mp4", "0" * 64, 30.0, 1))
        image, mesh = posed_face(0, 0, (90, 120, 190), writer.stored_geometry)
        writer.add(
            image,
            np.full_like(mesh, 20.0),
            source=0,
            frame_index=0,
            pts_s=0.0,
            track=0,
            score=1.0,
            sharpness=9.0,
            native_px=90.0,
            yaw=0.0,
            pitch=0.0,
            roll=0.0,
        )
    with pytest.raises(FacesetError, match="face 0 has a mesh that is no head; extract it again"):
        read_facts(Faceset.open(tmp_path / "flat"))


def test_one_long_shot_is_one_and_short_ones_are_counted(faceset: Faceset) -> None:
    long = count_shots(records(faceset, tracks=[0] * 100))
    assert long is not None
    assert (long.count, long.short) == (1, 0.0)
    assert long.median_s == pytest.approx(10.0)
    cut = count_shots(records(faceset, tracks=[number // 5 for number in range(100)]))
    assert cut is not None
    assert (cut.count, cut.short) == (20, 1.0)
    assert cut.median_s == pytest.approx(0.5)


def test_frames_that_nobody_followed_tell_nothing_about_cuts(faceset: Faceset) -> None:
    assert count_shots(records(faceset, tracks=list(range(40)), step_s=0.5)) is None


def test_white_between_the_lids_tells_the_light_and_not_the_skin() -> None:
    levels = []
    for skin in ((200, 215, 235), (40, 60, 90)):
        image, mesh = posed_face(0, 0, skin, GEOMETRY.resized(256))
        white = read_eye_white(image, mesh)
        assert white is not None
        levels.append(white[0])
        assert white[1] == pytest.approx(0, abs=0.05)
    assert levels[0] == pytest.approx(levels[1], abs=0.05)
    assert levels[0] == pytest.approx(2.2 * np.log2(230 / 255), abs=0.05)


def test_a_yellow_lamp_makes_the_white_of_the_eyes_warm() -> None:
    image, mesh = posed_face(0, 0, (90, 120, 190), GEOMETRY.resized(256))
    white = read_eye_white(np.asarray(image * np.array([0.5, 0.8, 1.0]), np.uint8), mesh)
    assert white is not None
    assert white[1] == pytest.approx(2.2, abs=0.1)


def test_eyes_of_a_few_pixels_tell_nothing() -> None:
    image, mesh = posed_face(0, 0, (90, 120, 190), GEOMETRY)
    shrunk = np.asarray(cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA), np.uint8)
    assert read_eye_white(shrunk, mesh / np.float32(4)) is None


def test_light_that_is_rare_in_a_set_does_not_count_as_something_in_front() -> None:
    general = general_look()
    seen = (general != 0).astype(np.float32)
    usual, rare = FaceLook(-general, seen), FaceLook(general, seen)  # the rare one looks like any other face
    covered, _ = coverage_facts._covered([usual] * 20 + [rare], AHEAD, AHEAD)
    assert covered.max() == 0
    hand = FaceLook(np.roll(general, 9, axis=0) * seen, seen)
    covered, _ = coverage_facts._covered([rare] * 20 + [hand], AHEAD, AHEAD)
    assert covered[:20].max() == 0
    assert covered[20] > 0.25


def test_a_face_behind_a_hand_is_nobody_else() -> None:
    vectors = [np.full(24, 0.0 if number < 20 else 9.0, np.float32) for number in range(30)]
    known = np.array([0] * 20 + [1] * 10)
    times, behind = np.arange(30) / 5, np.where(known == 1, 0.6, 0.0)
    assert coverage_facts._persons(vectors, known, known, times, 0 * behind).tolist() == known.tolist()
    assert coverage_facts._persons(vectors, known, known, times, behind).max() == 0


def test_what_recurs_in_the_same_pose_and_light_is_nothing_in_front() -> None:
    general = general_look()
    seen = (general != 0).astype(np.float32)
    flat = FaceLook(np.roll(general, 9, axis=0) * seen, seen)  # glasses on dark skin, lit from the side
    places = np.concatenate([np.zeros((21, 2)), np.full((10, 2), 40.0)])
    looks = [FaceLook(general, seen)] * 21 + [flat] * 10
    covered, _ = coverage_facts._covered(looks, places, np.zeros((31, 2)))
    assert covered.max() < coverage_facts.HIDES
    once = [*looks[:21], flat]
    covered, _ = coverage_facts._covered(once, places[:22], np.zeros((22, 2)))
    assert covered[21] > coverage_facts.HIDES
