"""Faces of other programs become a faceset like any other: same geometry, a mesh, a pose, a size and a place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from realtime.actors import Pose
from realtime.align import frame_to_crop, transform, whole_face
from realtime.errors import FacesetError, UsageError
from realtime.landmarks import ibug68
from tests.tiny_faceset import files_of
from tests.training.foreign_files import (
    POSES,
    Shot,
    alignments_json,
    dfl_dict,
    dfl_jpg,
    dfl_pak,
    faceswap_dict,
    faceswap_png,
    jpg,
    png,
    shot,
)
from training.faceset import Faceset
from training.import_faces import ImportConfig, ImportProgress, ImportReport, import_faces
from training.realign import INSIDE, MeshSeeker

NATIVE_PX_TOLERANCE = 0.06
"""Of the height: the mesh network reads it out of a crop."""
POSE_TOLERANCE_DEG = 6.0
"""What training.pose promises for one face, and a little more."""
MESH_TOLERANCE = 0.04
"""Mean distance to the true landmarks in eye distances, as the mesh network errs on rendered actors."""


@pytest.fixture(scope="module")
def seeker() -> Iterator[MeshSeeker]:
    with MeshSeeker() as opened:
        yield opened


def dfl_folder(folder: Path, view: str = "whole_face", frames: tuple[int, ...] = (0, 1, 2)) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        one = shot(number, view)
        data = dfl_jpg(one, dfl_dict(one, frame=frame, kind=view))
        (folder / f"{number:05d}.jpg").write_bytes(data)
    return folder


def take(source: Path, out: Path, seeker: MeshSeeker, config: ImportConfig | None = None) -> ImportReport:
    return import_faces(source, out, config, open_seeker=lambda: nullcontext(seeker))


def check_faces(faceset: Faceset, shots: list[Shot], poses: tuple[Pose, ...] = POSES) -> None:
    """Every face lies in its crop as it lay in its frame."""
    assert len(faceset) == len(shots)
    stored = faceset.geometry.widened(faceset.margin)
    for i, (one, pose) in enumerate(zip(shots, poses, strict=False)):
        record = faceset.records[i]
        true = transform(frame_to_crop(one.mesh, stored), one.mesh)
        eyes = float(np.linalg.norm(true[33] - true[263]))
        apart = np.linalg.norm(ibug68(np.asarray(faceset.landmarks[i]))[17:] - ibug68(true.astype("f4"))[17:], axis=1)
        assert apart.mean() < MESH_TOLERANCE * eyes * 2
        assert abs(record.yaw - pose.yaw) < POSE_TOLERANCE_DEG
        assert abs(record.roll - pose.roll) < POSE_TOLERANCE_DEG
        assert record.measures is not None
        assert record.sharpness > 1


def test_dfl_faces_are_cut_by_our_geometry(seeker: MeshSeeker, tmp_path: Path) -> None:
    source = dfl_folder(tmp_path / "aligned", frames=(10, 11, 12))
    report = take(source, tmp_path / "set", seeker)
    faceset = Faceset.open(tmp_path / "set")
    assert (faceset.geometry, faceset.kind) == (whole_face(256), "whole")
    check_faces(faceset, [shot(i) for i in range(3)])
    assert [record.frame_index for record in faceset.records] == [10, 11, 12]
    assert [record.pts_s for record in faceset.records] == pytest.approx([10 / 30, 11 / 30, 12 / 30], abs=1e-5)
    assert faceset.sources[0].name == "aligned"
    assert report.sha256 == faceset.sha256
    assert (report.files, report.faces, report.refused) == (3, 3, {})
    assert report.made_up < 0.1


def test_the_size_in_the_source_does_not_depend_on_the_crop(seeker: MeshSeeker, tmp_path: Path) -> None:
    sizes = []
    for view in ("full_face", "whole_face", "head"):
        take(dfl_folder(tmp_path / view, view, frames=(0,)), tmp_path / f"set-{view}", seeker)
        sizes.append(Faceset.open(tmp_path / f"set-{view}").records[0].native_px)
    assert max(sizes) / min(sizes) < 1 + NATIVE_PX_TOLERANCE


def test_close_crops_become_the_closer_kind(seeker: MeshSeeker, tmp_path: Path) -> None:
    source = dfl_folder(tmp_path / "aligned", "full_face")
    report = take(source, tmp_path / "set", seeker)
    assert report.coverage_kind == "full"
    assert report.made_up < 1 - INSIDE
    wide = take(source, tmp_path / "wide", seeker, ImportConfig(coverage_kind="whole"))
    assert wide.made_up > 1 - INSIDE
    assert not (Faceset.open(tmp_path / "wide").image(0) == 0).all(axis=2).any()  # the edge is repeated, not black


def test_a_pack_gives_the_same_faces_as_its_folder(seeker: MeshSeeker, tmp_path: Path) -> None:
    folder = dfl_folder(tmp_path / "aligned")
    pack = tmp_path / "faceset.pak"
    pack.write_bytes(dfl_pak([path.read_bytes() for path in sorted(folder.iterdir())]))
    take(folder, tmp_path / "a", seeker)
    take(pack, tmp_path / "b", seeker)
    a, b = Faceset.open(tmp_path / "a"), Faceset.open(tmp_path / "b")
    assert a.records == b.records
    np.testing.assert_array_equal(a.landmarks, b.landmarks)


def test_faceswap_pngs_with_metadata_or_with_alignments(seeker: MeshSeeker, tmp_path: Path) -> None:
    full, bare = tmp_path / "full", tmp_path / "bare"
    for folder in (full, bare):
        folder.mkdir()
    for i in range(3):
        one, frame = shot(i, "head"), f"clip_{i:06d}.png"
        (full / f"{i}.png").write_bytes(faceswap_png(one, faceswap_dict(one, frame)))
        (bare / f"clip_{i:06d}_0.png").write_bytes(png(one.crop))
    (bare / "alignments.json").write_bytes(alignments_json({f"clip_{i:06d}.png": shot(i, "head") for i in range(3)}))
    told = [take(folder, tmp_path / f"set-{folder.name}", seeker) for folder in (full, bare)]
    assert [report.sources for report in told] == [{"clip": 3}, {"clip": 3}]
    assert [report.masks_left_out for report in told] == [3, 0]
    sets = [Faceset.open(tmp_path / f"set-{name}") for name in ("full", "bare")]
    assert sets[0].records == sets[1].records
    check_faces(sets[0], [shot(i, "head") for i in range(3)])


def test_pictures_without_metadata_are_searched(seeker: MeshSeeker, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "ada.jpg").write_bytes(jpg(shot().crop))
    report = take(tmp_path / "photos", tmp_path / "set", seeker)
    assert (report.faces, report.without_metadata) == (1, 1)
    assert abs(Faceset.open(tmp_path / "set").records[0].yaw - POSES[0].yaw) < POSE_TOLERANCE_DEG


def test_a_track_goes_on_while_the_face_stays_in_its_place(seeker: MeshSeeker, tmp_path: Path) -> None:
    source = dfl_folder(tmp_path / "aligned", frames=(1, 2, 60))
    moved = dfl_dict(shot(0), frame=61)
    moved["source_landmarks"] = (shot(0).source_landmarks + 1000).tolist()
    (source / "00003.jpg").write_bytes(dfl_jpg(shot(0), moved))
    take(source, tmp_path / "set", seeker)
    assert [record.track for record in Faceset.open(tmp_path / "set").records] == [0, 0, 1, 2]


def test_a_track_without_places_goes_on_while_the_person_looks_the_same(seeker: MeshSeeker, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for frame, (number, who) in enumerate([(0, "ada"), (1, "ada"), (0, "bo"), (1, "bo")]):
        (tmp_path / "photos" / f"clip_{frame:04d}_0.jpg").write_bytes(jpg(shot(number, who=who).crop))
    take(tmp_path / "photos", tmp_path / "set", seeker)
    tracks = [record.track for record in Faceset.open(tmp_path / "set").records]
    assert tracks[0] == tracks[1] != tracks[2] == tracks[3]


def test_bad_files_are_left_out_and_told(seeker: MeshSeeker, tmp_path: Path) -> None:
    source = dfl_folder(tmp_path / "aligned")
    (source / "code.jpg").write_bytes(dfl_jpg(shot(), raw=b"\x80\x02cposix\nsystem\n."))
    (source / "empty.png").write_bytes(b"")
    (source / "grey.jpg").write_bytes(jpg(np.full((64, 64, 3), 90, np.uint8)))
    shifted = dfl_dict(shot(), landmarks=(shot().landmarks + 60).tolist())
    (source / "shifted.jpg").write_bytes(dfl_jpg(shot(), shifted))
    (source / "link.jpg").symlink_to(source / "00000.jpg")
    (source / "notes.txt").write_text("mine")
    report = take(source, tmp_path / "set", seeker)
    assert (report.files, report.faces) == (8, 3)
    assert sum(report.refused.values()) == 5
    assert report.refused["unreadable"] == 3
    assert report.refused["no face found"] >= 1
    assert any("posix.system, which is code" in sentence for sentence in report.sentences)


def test_faces_that_are_too_small_in_their_source_are_left_out(seeker: MeshSeeker, tmp_path: Path) -> None:
    source = dfl_folder(tmp_path / "aligned", frames=(0,))
    with pytest.raises(FacesetError, match="too small"):
        take(source, tmp_path / "set", seeker, ImportConfig(min_native_px=500))
    assert os.listdir(tmp_path) == ["aligned"]


def test_the_same_files_give_the_same_bytes(seeker: MeshSeeker, tmp_path: Path) -> None:
    source = dfl_folder(tmp_path / "aligned")
    for name in ("a", "b"):
        take(source, tmp_path / name, seeker)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_two_people_get_two_numbers(seeker: MeshSeeker, tmp_path: Path) -> None:
    source = dfl_folder(tmp_path / "aligned", frames=(0, 1, 2))
    for number in range(2):
        one = shot(number, who="bo")
        (source / f"1000{number}.jpg").write_bytes(dfl_jpg(one, dfl_dict(one, frame=900 + number)))
    report = take(source, tmp_path / "set", seeker)
    assert report.persons == {0: 3, 1: 2}
    assert [record.person for record in Faceset.open(tmp_path / "set").records] == [0, 0, 0, 1, 1]


def test_progress_reaches_every_file(seeker: MeshSeeker, tmp_path: Path) -> None:
    seen: list[ImportProgress] = []
    source = dfl_folder(tmp_path / "aligned")
    import_faces(source, tmp_path / "set", None, seen.append, open_seeker=lambda: nullcontext(seeker))
    assert [(now.stage, now.done) for now in seen] == [
        (stage, i) for stage in ("look through", "import") for i in range(3)
    ]


def test_nothing_to_import_is_a_mistake_in_the_call(seeker: MeshSeeker, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("mine")
    for source, words in (("empty", "holds no JPG and no PNG"), ("file.txt", "no folder"), ("gone", "does not exist")):
        with pytest.raises(UsageError, match=words):
            take(tmp_path / source, tmp_path / "set", seeker)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(UsageError, match="--size"):
        ImportConfig(size=8)
    with pytest.raises(UsageError, match="--fps"):
        ImportConfig(fps=0.0)
