"""New sets are made of old ones to the bit; the old ones stay as they were."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realtime.align import CropGeometry, whole_face
from realtime.errors import FacesetError, UsageError
from tests.tiny_faceset import GEOMETRY, SHA, files_of, mesh, picture
from training.faceset import Faceset
from training.faceset_edit import (
    merge,
    pick,
    sort_by,
    split_by,
    split_by_count,
    split_by_time,
    write_parts,
    write_picks,
)
from training.faceset_figures import COVERED, FIGURES, describe, draw_sheet, figure, lines
from training.faceset_index import SourceRecord
from training.faceset_prune import PruneRules, prune, spread
from training.faceset_writer import FacesetWriter
from training.measures import Measures

FACES = 12


def measures(seed: int) -> Measures:
    return Measures(
        mouth=seed / 100,
        width=1.0,
        eye_right=0.3,
        eye_left=0.3,
        brows=0.2,
        light=(-1.0 - seed / 10, 0.1, 0.2, 0.3),
        warmth=0.5,
        covered=0.5 if seed % 4 == 3 else 0.0,
    )


def write_set(
    path: Path, names: tuple[str, ...] = ("ada.mp4", "bo.mp4"), geometry: CropGeometry = GEOMETRY, start: int = 0
) -> Faceset:
    """FACES faces with all kinds of figures, from as many sources as there are names."""
    with FacesetWriter(path, geometry, kind="whole") as writer:
        for i, name in enumerate(names):
            writer.add_source(SourceRecord(name, SHA[:-1] + str(i), 30.0, 300))
        for i in range(FACES):
            seed, source = start + i, i * len(names) // FACES
            writer.add(
                picture(seed),
                mesh(seed),
                source=source,
                frame_index=seed,
                pts_s=seed / 30,
                track=source,
                score=0.9,
                sharpness=float(seed * 7 % 12),
                native_px=100.0 + seed,
                yaw=float(seed * 5 % 60 - 30),
                pitch=float(seed % 3 * 10 - 10),
                roll=0.0,
                person=int(i % 6 == 5),
                measures=measures(seed),
            )
    return Faceset.open(path)


@pytest.fixture
def faceset(tmp_path: Path) -> Faceset:
    return write_set(tmp_path / "set")


def jpegs(faceset: Faceset) -> list[bytes]:
    return [(faceset.path / record.file).read_bytes() for record in faceset.records]


def test_a_copy_of_everything_is_the_same_set(faceset: Faceset, tmp_path: Path) -> None:
    before = files_of(faceset.path)
    assert write_picks(pick(faceset, range(FACES)), tmp_path / "copy") == faceset.sha256
    assert files_of(tmp_path / "copy") == before == files_of(faceset.path)


def test_picked_faces_keep_their_pixels_points_and_figures(faceset: Faceset, tmp_path: Path) -> None:
    write_picks(pick(faceset, [7, 2]), tmp_path / "new")
    new = Faceset.open(tmp_path / "new")
    assert jpegs(new) == [jpegs(faceset)[7], jpegs(faceset)[2]]
    np.testing.assert_array_equal(new.landmarks, np.asarray(faceset.landmarks)[[7, 2]])
    assert [source.name for source in new.sources] == ["ada.mp4", "bo.mp4"]
    for record, old in zip(new.records, (faceset.records[7], faceset.records[2]), strict=True):
        assert replace(record, file=old.file) == old


def test_sources_without_faces_are_left_out(faceset: Faceset, tmp_path: Path) -> None:
    write_picks(pick(faceset, [FACES - 1]), tmp_path / "new")
    new = Faceset.open(tmp_path / "new")
    assert [source.name for source in new.sources] == ["bo.mp4"]
    assert new.records[0].source == 0


def test_merging_keeps_tracks_and_other_people_apart(faceset: Faceset, tmp_path: Path) -> None:
    other = write_set(tmp_path / "other", ("cy.mp4",), start=100)
    picks, twice = merge([faceset, other])
    write_picks(picks, tmp_path / "both")
    both = Faceset.open(tmp_path / "both")
    assert (len(both), twice) == (2 * FACES, 0)
    assert [source.name for source in both.sources] == ["ada.mp4", "bo.mp4", "cy.mp4"]
    assert {record.track for record in both.records} == {0, 1, 2}
    assert {record.person for record in both.records} == {0, 1, 2}
    apart, _ = merge([faceset, other], different_people=True)
    assert [{each.person for each in apart if each.faceset is one} for one in (faceset, other)] == [{0, 1}, {2, 3}]


def test_what_was_split_merges_back_without_doubles(faceset: Faceset, tmp_path: Path) -> None:
    hashes = write_parts(faceset, split_by(faceset, "source"), tmp_path / "parts")
    assert sorted(os.listdir(tmp_path / "parts")) == ["source-1", "source-2"] == sorted(hashes)
    parts = [Faceset.open(tmp_path / "parts" / name) for name in hashes]
    picks, twice = merge([*parts, faceset])
    assert twice == FACES
    write_picks(picks, tmp_path / "again")
    assert jpegs(Faceset.open(tmp_path / "again")) == jpegs(faceset)


def test_sets_of_two_geometries_do_not_merge(faceset: Faceset, tmp_path: Path) -> None:
    other = write_set(tmp_path / "other", geometry=replace(whole_face(64), coverage=2.0))
    with pytest.raises(UsageError, match="different parts of a head"):
        merge([faceset, other])


def test_a_file_that_changes_while_it_is_copied_is_noticed(faceset: Faceset, tmp_path: Path) -> None:
    (faceset.path / "faces" / "000003.jpg").write_bytes(jpegs(faceset)[4])
    with pytest.raises(FacesetError, match=r"000003\.jpg changed"):
        write_picks(pick(faceset, range(FACES)), tmp_path / "copy")
    assert os.listdir(tmp_path) == ["set"]


def test_time_splits_every_source(faceset: Faceset) -> None:
    parts = split_by_time(faceset, 0.5)
    assert parts == {"early": [0, 1, 2, 6, 7, 8], "late": [3, 4, 5, 9, 10, 11]}
    with pytest.raises(UsageError, match="--share"):
        split_by_time(faceset, 1.0)


def test_a_seed_draws_the_same_faces_again(faceset: Faceset) -> None:
    parts = split_by_count(faceset, 5, seed=3)
    assert parts == split_by_count(faceset, 5, seed=3)
    assert len(parts["picked"]) == 5
    assert sorted(parts["picked"] + parts["rest"]) == list(range(FACES))
    assert parts != split_by_count(faceset, 5, seed=4)
    with pytest.raises(UsageError, match="--count"):
        split_by_count(faceset, FACES, seed=3)


def test_parts_appear_all_or_none(faceset: Faceset, tmp_path: Path) -> None:
    (faceset.path / "faces" / "000011.jpg").unlink()
    with pytest.raises(FacesetError):
        write_parts(faceset, split_by(faceset, "source"), tmp_path / "parts")
    assert os.listdir(tmp_path) == ["set"]


def test_people_and_tracks_split(faceset: Faceset) -> None:
    assert split_by(faceset, "person")["person-1"] == [5, 11]
    assert set(split_by(faceset, "track")) == {"track-1", "track-2"}


@pytest.mark.parametrize(
    ("rules", "stays"),
    [
        (PruneRules(min_sharpness=6), lambda r: r.sharpness >= 6),
        (PruneRules(min_native_px=105), lambda r: r.native_px >= 105),
        (PruneRules(yaw=(-10, 20)), lambda r: -10 <= r.yaw <= 20),
        (PruneRules(pitch=(-5, 5)), lambda r: -5 <= r.pitch <= 5),
        (PruneRules(person=1), lambda r: r.person == 1),
        (PruneRules(max_covered=COVERED), lambda r: r.measures.covered <= COVERED),
        (PruneRules(min_sharpness=3, person=0), lambda r: r.sharpness >= 3 and r.person == 0),
    ],
)
def test_a_rule_keeps_exactly_what_it_says(faceset: Faceset, rules: PruneRules, stays: object) -> None:
    assert callable(stays)
    kept, left_out = prune(faceset, rules)
    assert kept == [i for i, record in enumerate(faceset.records) if stays(record)]
    assert sum(left_out.values()) == FACES - len(kept) > 0


def test_near_duplicates_go(faceset: Faceset, tmp_path: Path) -> None:
    assert prune(faceset, PruneRules(duplicates=True)) == (list(range(FACES)), {})
    again = pick(faceset, [0, *range(FACES), 5])
    write_picks(again, tmp_path / "doubled")
    kept, left_out = prune(Faceset.open(tmp_path / "doubled"), PruneRules(duplicates=True))
    assert len(kept) == FACES
    assert left_out == {"near duplicate": 2}


def test_a_count_is_spread_over_poses_and_prefers_sharp_faces(faceset: Faceset) -> None:
    kept = spread(faceset, range(FACES), 6)
    cells = {(round(faceset.records[i].yaw / 6), round(faceset.records[i].pitch / 6)) for i in kept}
    assert len(cells) == 6
    assert prune(faceset, PruneRules(count=6)) == (kept, {"more than asked for": 6})


def test_rules_that_say_nothing_or_contradict_themselves_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing says"):
        PruneRules()
    with pytest.raises(UsageError, match="--yaw"):
        PruneRules(yaw=(20, -20))


@pytest.mark.parametrize("name", FIGURES)
def test_faces_can_be_sorted_by_every_figure(faceset: Faceset, name: str) -> None:
    values = figure(faceset, name)
    assert values.shape == (FACES,)
    order = sort_by(faceset, values)
    assert sorted(order) == list(range(FACES))
    assert (np.diff(values[order]) >= 0).all()
    assert (np.diff(values[sort_by(faceset, values, descending=True)]) <= 0).all()


def test_light_and_pose_give_the_order_that_was_written(faceset: Faceset) -> None:
    assert sort_by(faceset, figure(faceset, "light")) == list(range(FACES))[::-1]
    assert sort_by(faceset, figure(faceset, "person"))[-2:] == [5, 11]


def test_info_counts_what_is_there(faceset: Faceset) -> None:
    info = describe(faceset)
    assert (info.faces, info.tracks, info.people, info.damage) == (FACES, 2, {"0": 10, "1": 2}, "")
    assert [source["faces"] for source in info.sources] == [6, 6]
    assert info.covered_share == pytest.approx(0.25)
    assert info.figures["native_px"] == {"least": 100, "p5": 100.55, "median": 105.5, "p95": 110.45, "greatest": 111}
    assert sum(count for _, _, count in info.poses) == FACES
    assert "every checksum fits" in lines(info)[0]


def test_info_of_a_damaged_set_reads_no_picture(faceset: Faceset) -> None:
    (faceset.path / "faces" / "000003.jpg").unlink()
    info = describe(Faceset.open(faceset.path, verify=False), damage="000003.jpg is gone; get a copy")
    assert "damaged" in lines(info)[0]
    assert "mouth" in info.figures


def test_a_sheet_goes_from_profile_to_profile(faceset: Faceset) -> None:
    assert draw_sheet(faceset, most=8).shape == (160, 8 * 160, 3)
