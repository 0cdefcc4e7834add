"""What DeepFaceLab's and faceswap's files say is found; what contradicts itself is refused in a sentence."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.align import invert
from realtime.errors import FacesetError
from tests.training.foreign_files import (
    alignments_fsa,
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
from training.dfl_jpeg import dfl_facts
from training.dfl_pak import list_pak
from training.foreign import SourcePlace, place_of
from training.import_faceswap import faceswap_facts, read_alignments


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("00012.png", SourcePlace("", 12)),
        ("clip_000123.png", SourcePlace("clip", 123)),
        ("a b-7.jpg", SourcePlace("a b", 7)),
        ("portrait.png", SourcePlace()),
        ("20230101123456789.png", SourcePlace()),
        ("../../x/clip_1.png", SourcePlace("clip", 1)),
        ("C:" + "\\x\\clip_1.png", SourcePlace("clip", 1)),
        ("a\0\n_1.png", SourcePlace("a??", 1)),
        ("", SourcePlace()),
    ],
)
def test_the_name_of_a_frame_tells_its_place(name: str, place: SourcePlace) -> None:
    assert place_of(name) == place


def test_the_name_of_a_crop_numbers_its_face() -> None:
    assert place_of("00012_1.jpg", own_name=True) == SourcePlace("", 12, 1)
    assert place_of("clip_000123_0.png", own_name=True) == SourcePlace("clip", 123, 0)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_dfl_jpg_tells_its_facts(protocol: int) -> None:
    facts = dfl_facts(dfl_jpg(shot(), protocol=protocol), "00012_1.jpg")
    assert facts.place == SourcePlace("", 12, 1)
    assert facts.landmarks is not None
    assert facts.to_source is not None
    np.testing.assert_allclose(facts.landmarks, shot().landmarks, atol=1e-4)
    np.testing.assert_allclose(facts.to_source, invert(shot().matrix), atol=1e-9)
    between = facts.crop_to_source()
    assert between is not None
    np.testing.assert_allclose(between, invert(shot().matrix), atol=1e-3)
    assert facts.metadata
    assert not facts.masked


def test_landmarks_may_be_an_array_and_masks_are_noticed() -> None:
    values = dfl_dict(shot(), landmarks=shot().landmarks, xseg_mask=np.zeros(100, np.uint8))
    facts = dfl_facts(dfl_jpg(shot(), values), "x.jpg")
    assert facts.landmarks is not None
    assert facts.masked


def test_a_plain_jpg_has_no_metadata() -> None:
    facts = dfl_facts(jpg(shot().crop), "clip_00005_0.jpg")
    assert not facts.metadata
    assert facts.place == SourcePlace("clip", 5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("landmarks", [[1.0, 2.0]] * 67),
        ("landmarks", [[1.0, float("nan")]] * 68),
        ("landmarks", np.zeros((68, 3))),
        ("landmarks", "text"),
        ("source_landmarks", [[True, 1.0]] * 68),
        ("image_to_face_mat", np.zeros((3, 3))),
        ("image_to_face_mat", np.full((2, 3), np.inf)),
        ("face_type", "cat"),
        ("face_type", np.zeros(0)),
    ],
)
def test_facts_of_the_wrong_kind_are_refused(key: str, value: Any) -> None:
    with pytest.raises(FacesetError, match=f"'{key}'"):
        dfl_facts(dfl_jpg(shot(), dfl_dict(shot(), **{key: value})), "x.jpg")


def test_a_pack_gives_its_jpgs(tmp_path: Path) -> None:
    jpgs = [dfl_jpg(shot(i)) for i in range(3)]
    (tmp_path / "faceset.pak").write_bytes(dfl_pak(jpgs))
    files = list_pak(tmp_path / "faceset.pak")
    assert [file.name for file in files] == ["faceset.pak[0]", "faceset.pak[1]", "faceset.pak[2]"]
    assert [file.read() for file in files] == jpgs


@pytest.mark.parametrize("end", [0, 8, 23, 40, 200, -1])
def test_a_pack_that_is_cut_off_is_refused(end: int, tmp_path: Path) -> None:
    (tmp_path / "faceset.pak").write_bytes(dfl_pak([dfl_jpg(shot())])[:end])
    with pytest.raises(FacesetError, match=r"faceset\.pak (is|holds)"):
        list_pak(tmp_path / "faceset.pak")


def test_a_pack_of_another_version_or_with_a_false_table_is_refused(tmp_path: Path) -> None:
    path, jpgs = tmp_path / "faceset.pak", [dfl_jpg(shot(i)) for i in range(2)]
    path.write_bytes(dfl_pak(jpgs, version=2))
    with pytest.raises(FacesetError, match="of version 1"):
        list_pak(path)
    data = dfl_pak(jpgs)
    table = 16 + int.from_bytes(data[8:16], "little")
    for offset in (0, len(jpgs[0]) + (1 << 40)):
        path.write_bytes(data[: table + 8] + struct.pack("<Q", offset) + data[table + 16 :])
        with pytest.raises(FacesetError, match="contradicts itself"):
            list_pak(path)


def test_a_faceswap_png_tells_its_facts() -> None:
    facts = faceswap_facts(faceswap_png(shot(), faceswap_dict(shot(), face=2)), "x.png")
    assert facts.place == SourcePlace("clip", 12, 2)
    assert facts.source_landmarks is not None
    np.testing.assert_allclose(facts.source_landmarks, shot().source_landmarks, atol=1e-3)
    assert facts.masked


@pytest.mark.parametrize("name", ["alignments.json", "alignments.fsa"])
def test_alignments_tell_what_a_png_leaves_out(name: str, tmp_path: Path) -> None:
    shots = {"clip_000012.png": shot(), "clip_000013.png": shot(1)}
    (tmp_path / name).write_bytes(alignments_json(shots) if name.endswith("json") else alignments_fsa(shots))
    known = read_alignments(tmp_path / name)
    facts = faceswap_facts(png(shot(1).crop), "clip_000013_0.png", known)
    assert facts.place == SourcePlace("clip", 13, 0)
    assert facts.source_landmarks is not None
    np.testing.assert_allclose(facts.source_landmarks, shot(1).source_landmarks, atol=1e-3)
    assert not faceswap_facts(png(shot(1).crop), "clip_000014_0.png", known).metadata


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"[" * 500_000, b'{"a": {"faces": {}}}', b'{"a": {"faces": [{"landmarks_xy": [[NaN]]}]}}'],
)
def test_broken_alignments_are_refused(data: bytes, tmp_path: Path) -> None:
    for name, content in (("a.json", data), ("a.fsa", data), ("b.fsa", zlib.compress(data))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FacesetError, match=r"(a\.json|[ab]\.fsa)"):
            read_alignments(tmp_path / name)


def test_alignments_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.fsa").write_bytes(zlib.compress(b"\0" * 100_000_000))
    with pytest.raises(FacesetError, match="unpacks to too much"):
        read_alignments(tmp_path / "a.fsa")
    (tmp_path / "a.json").write_text(json.dumps([[]] * 2_100_000))
    with pytest.raises(FacesetError, match="too many values; split it"):
        read_alignments(tmp_path / "a.json")
