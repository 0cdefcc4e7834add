"""Extraction from small rendered videos: what is found, what is left out, and what is left behind when it fails."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.actors import ADA, BO, motion
from realtime.align import canonical_mesh, frame_to_crop, transform
from realtime.detect import FaceFinder
from realtime.errors import FacesetError, LiveswapError, SourceError, UsageError
from realtime.frame import Face, Frame, ImageU8
from realtime.video_file import VideoFile
from tests.acted import act, hold_still, write_film
from tests.tiny_faceset import files_of
from training.extract import Clip, ExtractConfig, ExtractProgress, extract
from training.faceset import Faceset

FRAMES = 24
SMALL = ExtractConfig(size=64, keep_duplicates=True)
JPEG_LEVELS = 4.0
"""Mean error of quality 95 on rendered faces, grey levels."""
LANDMARK_PX = 0.05
"""The mesh is carried into the crop by the same matrix: only float32 stands between."""
FOUND_SHARE = 0.98
"""Frames of the real clips, in all of which the face is in view."""


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[ImageU8]]:
    return {"ada": act(ADA, 1, FRAMES), "bo": act(BO, 2, FRAMES), "still": hold_still(ADA, 20)}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, list[ImageU8]]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    empty = [np.full((240, 320, 3), 90, np.uint8)] * FRAMES
    ada, bo = pictures["ada"], pictures["bo"]
    side_by_side = [np.concatenate(pair, axis=1) for pair in zip(ada, bo, strict=True)]
    scenes = {
        "still": pictures["still"],
        "both": side_by_side,
        "ada": ada,
        "bo": bo,
        "empty": empty,
        "cut": ada[:12] + bo[:12],
        "sometimes": ada[:12] + empty[:6],
    }
    return {name: write_film(folder / f"{name}.mp4", images) for name, images in scenes.items()}


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory, clips: dict[str, Path]) -> Faceset:
    out = tmp_path_factory.mktemp("facesets") / "ada"
    extract([clips["ada"]], out, SMALL)
    return Faceset.open(out)


def test_every_rendered_face_is_found(ada: Faceset) -> None:
    assert len(ada) == FRAMES
    assert [record.frame_index for record in ada.records] == list(range(FRAMES))
    assert [record.pts_s for record in ada.records] == pytest.approx([i / 30 for i in range(FRAMES)], abs=1e-4)
    assert ada.sources[0].name == "ada.mp4"
    assert (ada.sources[0].fps, ada.sources[0].frames) == (30.0, FRAMES)


def test_stored_crops_are_what_the_live_loop_would_see(ada: Faceset, clips: dict[str, Path]) -> None:
    from realtime.align import align

    with VideoFile(clips["ada"]) as video, FaceFinder(detect_every=1) as finder:
        for i, frame in enumerate(video):
            (face,) = finder.find(frame)
            live = align(frame.image, face, SMALL.geometry.widened(1.25))
            assert np.abs(ada.image(i).astype(int) - live.image).mean() < JPEG_LEVELS
            mesh = transform(frame_to_crop(face.landmarks, SMALL.geometry.widened(1.25)), face.landmarks)
            np.testing.assert_allclose(ada.landmarks[i, :, :2], mesh, atol=LANDMARK_PX)


def test_stored_landmarks_lie_where_the_canonical_face_is(ada: Faceset) -> None:
    stored = SMALL.geometry.widened(1.25)
    corner = 0.5 + np.array([stored.offset_x, stored.offset_y]) - stored.coverage / 2
    expected = (canonical_mesh()[4] - corner) * stored.size / stored.coverage  # the tip of the nose
    assert np.abs(ada.landmarks[:, 4, :2].mean(axis=0) - expected).max() < 0.05 * stored.size


def test_records_say_how_each_face_looks(ada: Faceset) -> None:
    assert {record.track for record in ada.records} == {0}
    assert all(record.score > 0.9 for record in ada.records)
    assert all(60 < record.native_px < 180 for record in ada.records)
    assert all(record.sharpness > 1 for record in ada.records)
    yaws = [pose.yaw for pose in motion(FRAMES, seed=1, yaw=15, hand=False)]
    assert np.corrcoef([record.yaw for record in ada.records], yaws)[0, 1] > 0.9


def test_several_videos_become_one_set(tmp_path: Path, clips: dict[str, Path]) -> None:
    report = extract([clips["ada"], clips["bo"]], tmp_path / "set", SMALL)
    faceset = Faceset.open(tmp_path / "set")
    assert [source.name for source in faceset.sources] == ["ada.mp4", "bo.mp4"]
    assert [record.source for record in faceset.records] == [0] * FRAMES + [1] * FRAMES
    assert {record.track for record in faceset.records[:FRAMES]} == {0}
    assert {record.track for record in faceset.records[FRAMES:]} == {1}
    assert (report.frames, report.faces, report.sha256) == (2 * FRAMES, 2 * FRAMES, faceset.sha256)
    assert [source.faces for source in report.sources] == [FRAMES, FRAMES]


def test_the_same_video_gives_the_same_bytes(ada: Faceset, tmp_path: Path, clips: dict[str, Path]) -> None:
    extract([clips["ada"]], tmp_path / "again", SMALL)
    assert files_of(tmp_path / "again") == files_of(ada.path)


def test_the_report_can_be_written_as_json(tmp_path: Path, clips: dict[str, Path]) -> None:
    report = extract([clips["sometimes"]], tmp_path / "set", SMALL)
    values = json.loads(json.dumps(report.to_json()))
    (source,) = values["sources"]
    assert (source["frames_read"], source["frames_searched"], source["frames_with_face"]) == (18, 18, 12)
    assert (values["frames"], values["faces"]) == (18, 12)


def test_tracks_do_not_cross_a_cut(tmp_path: Path, clips: dict[str, Path]) -> None:
    report = extract([clips["cut"]], tmp_path / "set", SMALL)
    records = Faceset.open(tmp_path / "set").records
    assert report.sources[0].cuts == 1
    assert [record.track for record in records] == [0] * 12 + [1] * 12


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (replace(SMALL, every=5), [0, 5, 10, 15, 20]),
        (replace(SMALL, fps=10), [0, 3, 6, 9, 12, 15, 18, 21]),
        (replace(SMALL, fps=12), [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]),
        (replace(SMALL, fps=10, every=2), [0, 6, 12, 18]),
        (replace(SMALL, fps=500), list(range(FRAMES))),
    ],
)
def test_fewer_frames_are_looked_at_when_asked(
    tmp_path: Path, clips: dict[str, Path], config: ExtractConfig, expected: list[int]
) -> None:
    report = extract([clips["ada"]], tmp_path / "set", config)
    assert [record.frame_index for record in Faceset.open(tmp_path / "set").records] == expected
    assert report.sources[0].frames_read == FRAMES
    assert report.frames == len(expected)


def test_full_coverage_shows_less_of_the_head(tmp_path: Path, clips: dict[str, Path], ada: Faceset) -> None:
    extract([clips["ada"]], tmp_path / "set", replace(SMALL, coverage_kind="full", every=8))
    full = Faceset.open(tmp_path / "set")
    assert (full.kind, ada.kind) == ("full", "whole")
    assert full.geometry.coverage < ada.geometry.coverage
    assert np.ptp(full.landmarks[0, :, 1]) > 1.3 * np.ptp(ada.landmarks[0, :, 1])


def test_progress_counts_frames_and_faces(tmp_path: Path, clips: dict[str, Path]) -> None:
    seen: list[ExtractProgress] = []
    extract([clips["sometimes"]], tmp_path / "set", SMALL, seen.append)
    assert [step.frames_done for step in seen] == list(range(1, 19))
    assert (seen[-1].source, seen[-1].frames_total, seen[-1].faces) == ("sometimes.mp4", 18, 12)


def test_faces_that_show_nothing_new_are_dropped_and_counted(tmp_path: Path, clips: dict[str, Path]) -> None:
    report = extract([clips["still"]], tmp_path / "set", ExtractConfig(size=64))
    assert report.faces + report.sources[0].left_out["near duplicate"] == 20
    assert report.faces <= 2
    every = extract([clips["still"]], tmp_path / "every", SMALL)
    assert (every.faces, every.sources[0].left_out) == (20, {})


def test_every_face_is_measured(ada: Faceset) -> None:
    measured = [record.measures for record in ada.records]
    assert all(each is not None and each.covered < 0.5 for each in measured)
    assert len({each.mouth for each in measured if each}) > FRAMES / 2


def test_two_people_in_one_picture_are_told_apart(tmp_path: Path, clips: dict[str, Path]) -> None:
    report = extract([clips["both"]], tmp_path / "set", replace(SMALL, max_faces=2))
    records = Faceset.open(tmp_path / "set").records
    assert report.persons == {0: FRAMES, 1: FRAMES}
    assert len({(record.track, record.person) for record in records}) == 2


def test_one_person_is_chosen_by_a_picture(tmp_path: Path, clips: dict[str, Path]) -> None:
    others = act(BO, 5, 3)
    for number, image in enumerate(others):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    wanted = [tmp_path / f"{number}.png" for number in range(len(others))]
    report = extract([clips["both"]], tmp_path / "set", replace(SMALL, max_faces=2), person=wanted)
    assert report.sources[0].left_out == {"another person": FRAMES}
    assert report.persons == {0: FRAMES}
    alone = extract([clips["bo"]], tmp_path / "bo", SMALL, person=wanted)
    assert alone.faces == FRAMES


def test_nobody_on_the_picture_is_in_the_video(tmp_path: Path, clips: dict[str, Path]) -> None:
    cv2.imwrite(str(tmp_path / "bo.png"), act(BO, 5, 1)[0])
    with pytest.raises(FacesetError, match="use a video that shows the person of --person"):
        extract([clips["ada"]], tmp_path / "set", SMALL, person=[tmp_path / "bo.png"])
    assert os.listdir(tmp_path) == ["bo.png"]


def test_only_whom_the_videos_show_most_is_taken_when_asked(tmp_path: Path, clips: dict[str, Path]) -> None:
    config = replace(SMALL, main_person=True)
    report = extract([clips["ada"], clips["sometimes"], clips["bo"]], tmp_path / "set", config)
    assert [source.faces for source in report.sources] == [FRAMES, 12, 0]
    assert report.sources[2].left_out == {"another person": FRAMES}


def test_a_stretch_of_a_film_is_taken(tmp_path: Path, clips: dict[str, Path]) -> None:
    report = extract([Clip(clips["ada"], 0.2, 0.4), clips["bo"]], tmp_path / "set", SMALL)
    records = Faceset.open(tmp_path / "set").records
    assert [record.frame_index for record in records if record.source == 0] == list(range(6, 12))
    assert next(record.pts_s for record in records) == pytest.approx(0.2, abs=1e-4)
    assert [source.frames_read for source in report.sources] == [6, FRAMES]


def test_the_same_film_may_be_named_twice(tmp_path: Path, clips: dict[str, Path]) -> None:
    report = extract([clips["ada"], clips["ada"]], tmp_path / "set", SMALL)
    assert [source.faces for source in report.sources] == [FRAMES, FRAMES]
    assert {record.source for record in Faceset.open(tmp_path / "set").records} == {0, 1}


def test_a_folder_of_pictures_is_a_film(tmp_path: Path, pictures: dict[str, list[ImageU8]]) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    for number, image in enumerate(pictures["ada"][:4]):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    cv2.imwrite(str(folder / "4.png"), np.concatenate([pictures["bo"][0], np.zeros_like(pictures["bo"][0])]))
    report = extract([folder], tmp_path / "set", SMALL)
    faceset = Faceset.open(tmp_path / "set")
    assert (faceset.sources[0].name, faceset.sources[0].frames, report.faces) == ("stills", 5, 5)
    assert faceset.records[4].track != faceset.records[3].track
    assert report.persons == {0: 4, 1: 1}


class ScriptedFinder:
    """Says what it was told, frame after frame, and counts."""

    def __init__(self, script: Iterator[list[Face]]) -> None:
        self._script = script
        self.resets = self.closes = 0

    def find(self, frame: Frame) -> list[Face]:
        return next(self._script, [])

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closes += 1


def test_faces_that_are_no_use_are_left_out_and_counted(tmp_path: Path, clips: dict[str, Path]) -> None:
    with VideoFile(clips["ada"]) as video, FaceFinder() as finder:
        (good,) = finder.find(next(iter(video)))
    centre = good.landmarks.mean(axis=0)
    tiny = Face((good.landmarks - centre) * np.float32(0.1) + centre, 0.9)
    outside = Face(good.landmarks + np.array([290, 0, 0], np.float32), 0.9)
    noise = np.random.default_rng(0).uniform(50, 200, (468, 3)).astype(np.float32)
    broken = Face(np.full((468, 3), np.nan, np.float32), 0.9)
    script = [[good], [tiny], [outside], [Face(noise, 0.9)], [broken], [], [good, good]]
    finder_of_the_day = ScriptedFinder(iter(script))
    report = extract([clips["ada"]], tmp_path / "set", SMALL, open_finder=lambda: finder_of_the_day)
    assert report.sources[0].left_out == {"implausible": 2, "outside the frame": 1, "too small": 1}
    assert report.sources[0].frames_with_face == 6
    assert report.faces == 2  # of two faces in one frame, the first
    assert finder_of_the_day.closes == 1


def test_all_faces_of_a_frame_are_taken_when_asked(tmp_path: Path, clips: dict[str, Path]) -> None:
    with VideoFile(clips["ada"]) as video, FaceFinder() as finder:
        (face,) = finder.find(next(iter(video)))
    other = Face(face.landmarks + np.float32(5), 0.9, track_id=face.track_id + 1)
    pairs = ScriptedFinder(iter([[face, other], [other, face]]))
    extract([clips["ada"]], tmp_path / "set", replace(SMALL, max_faces=2), open_finder=lambda: pairs)
    records = Faceset.open(tmp_path / "set").records
    assert [(record.frame_index, record.track) for record in records] == [(0, 0), (0, 1), (1, 1), (1, 0)]


def test_frames_far_apart_are_searched_anew(tmp_path: Path, clips: dict[str, Path]) -> None:
    finder = ScriptedFinder(iter([]))
    with pytest.raises(FacesetError):
        extract([clips["ada"]], tmp_path / "set", ExtractConfig(fps=5), open_finder=lambda: finder)
    assert finder.resets == 3  # before each of the four frames but the first


@pytest.mark.parametrize(("seconds_apart", "tracks"), [(0.3, [0, 0, 0, 1, 1, 1]), (2.0, [0, 1, 2, 3, 4, 5])])
def test_a_face_keeps_its_track_between_frames_far_apart_but_not_across_a_cut(
    tmp_path: Path, pictures: dict[str, list[ImageU8]], seconds_apart: float, tracks: list[int]
) -> None:
    step = round(30 * seconds_apart)
    moments = range(0, FRAMES, FRAMES // 3)
    images = [who[i] for who in (pictures["ada"], pictures["bo"]) for i in moments for _ in range(step)]
    film = write_film(tmp_path / "film.mp4", images)
    extract([film], tmp_path / "set", replace(SMALL, fps=1 / seconds_apart))
    assert [record.track for record in Faceset.open(tmp_path / "set").records] == tracks


# ------------------------------------------------------------------ what goes wrong


def refused(videos: Sequence[Path], out: Path, kind: type[LiveswapError], config: ExtractConfig = SMALL) -> str:
    """The one sentence of a failed extraction, after which nothing new lies beside `out`."""
    before = sorted(os.listdir(out.parent))
    with pytest.raises(kind) as refusal:
        extract(videos, out, config)
    assert sorted(os.listdir(out.parent)) == before
    message = str(refusal.value)
    assert message.isprintable()
    assert ";" in message  # the remedy
    return message


def test_a_video_without_a_face_gives_one_sentence(tmp_path: Path, clips: dict[str, Path]) -> None:
    message = refused([clips["empty"]], tmp_path / "set", FacesetError)
    assert "empty.mp4; use a video that shows the person larger" in message


def test_only_faces_that_are_too_small_give_the_same_sentence(tmp_path: Path, clips: dict[str, Path]) -> None:
    message = refused([clips["ada"]], tmp_path / "set", FacesetError, replace(SMALL, min_native_px=500))
    assert "no usable face" in message


def test_one_video_without_a_face_among_others_is_passed_over_and_logged(
    tmp_path: Path, clips: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        report = extract([clips["empty"], clips["ada"]], tmp_path / "set", replace(SMALL, every=6))
    assert "empty.mp4 gives no face" in caplog.text
    assert [source.faces for source in report.sources] == [0, 4]
    assert {record.source for record in Faceset.open(tmp_path / "set").records} == {1}


def test_a_text_file_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video at all\n" * 100)
    assert "notes.mp4" in refused([tmp_path / "notes.mp4"], tmp_path / "set", SourceError)


def test_a_damaged_video_gives_one_sentence(tmp_path: Path, clips: dict[str, Path]) -> None:
    data = bytearray(clips["ada"].read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    (tmp_path / "torn.mp4").write_bytes(data[: len(data) * 2 // 3])
    assert "torn.mp4" in refused([tmp_path / "torn.mp4"], tmp_path / "set", SourceError)


def test_a_missing_video_is_noticed_before_anything_is_done(tmp_path: Path, clips: dict[str, Path]) -> None:
    message = refused([clips["ada"], tmp_path / "none.mp4"], tmp_path / "set", UsageError)
    assert "none.mp4 does not exist; check the spelling" in message


def test_no_video_at_all_is_a_mistake(tmp_path: Path) -> None:
    assert "name at least one" in refused([], tmp_path / "set", UsageError)


def test_a_file_called_like_another_source_is_a_file(tmp_path: Path, clips: dict[str, Path]) -> None:
    for name in ("pattern", "0"):
        (tmp_path / name).write_bytes(clips["ada"].read_bytes())
        report = extract([tmp_path / name], tmp_path / f"{name}-set", replace(SMALL, every=12))
        assert report.sources[0].frames_read == FRAMES


def test_an_output_that_is_taken_is_refused_before_the_video_is_read(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    message = refused([tmp_path / "none.mp4"], tmp_path, UsageError)
    assert "not empty; give a new name or remove it first" in message
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_an_interrupted_extraction_leaves_nothing_behind(tmp_path: Path, clips: dict[str, Path]) -> None:
    def interrupt(step: ExtractProgress) -> None:
        if step.faces == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract([clips["ada"]], tmp_path / "set", SMALL, interrupt)
    assert os.listdir(tmp_path) == []


def test_a_killed_extraction_can_simply_be_repeated(tmp_path: Path, clips: dict[str, Path], ada: Faceset) -> None:
    code = (
        "import os, sys; from pathlib import Path; from training.extract import ExtractConfig, extract\n"
        "stop = lambda step: os._exit(9) if step.faces == 7 else None\n"
        "extract([Path(sys.argv[1])], Path(sys.argv[2]), ExtractConfig(size=64, keep_duplicates=True), stop)"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, str(clips["ada"]), str(tmp_path / "set")]
    assert subprocess.run(command, cwd=root, timeout=120, check=False).returncode == 9
    assert os.listdir(tmp_path) == []
    extract([clips["ada"]], tmp_path / "set", SMALL)
    assert os.listdir(tmp_path) == ["set"]
    assert files_of(tmp_path / "set") == files_of(ada.path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 8}, "give --size 256"),
        ({"size": 4000}, "give --size 256"),
        ({"coverage_kind": "head"}, "give whole or full"),
        ({"fps": 0}, "above 0"),
        ({"fps": float("nan")}, "above 0"),
        ({"every": 0}, "count from 1"),
        ({"max_faces": 0}, "count from 1"),
        ({"detector": "haar"}, "give mediapipe or dlib"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ExtractConfig(**settings)  # type: ignore[arg-type]  # wrong on purpose


def test_facesets_and_extraction_need_no_torch() -> None:
    code = "import sys, training.extract, training.faceset, realtime.score; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    "name", ["performer_talking_480x480.mp4", "identity_glasses_512x480.mp4", "walking_small_face_1280x720.mp4"]
)
def test_faces_of_real_people_are_found(real_clips: Path, tmp_path: Path, name: str) -> None:
    report = extract([real_clips / name], tmp_path / "set", replace(SMALL, every=10))
    assert report.sources[0].frames_with_face >= FOUND_SHARE * report.frames
    assert report.faces >= FOUND_SHARE * report.frames
