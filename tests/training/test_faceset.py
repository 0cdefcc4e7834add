"""Facesets: what is written is read back to the byte, and what a stranger wrote is refused with one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime.align import CropGeometry
from realtime.errors import FacesetError
from tests.tiny_faceset import GEOMETRY, SHA, SIDE, files_of, mesh, picture, write_faceset
from training.faceset import Faceset
from training.faceset_index import SourceRecord, load_index
from training.faceset_writer import FacesetWriter

JPEG_LEVELS = 4.0
"""Mean error of quality 95 on a smooth picture, grey levels; subsampled chroma would cost three times as much."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_faceset(tmp_path / "ada.faces")


def test_a_written_set_is_read_back(folder: Path) -> None:
    faceset = Faceset.open(folder)
    assert len(faceset) == 3
    assert (faceset.geometry, faceset.margin, faceset.kind) == (GEOMETRY, 1.25, "whole")
    assert faceset.stored_size == SIDE == 80
    assert faceset.sources == (SourceRecord("ada.mp4", SHA, 29.97003, 300),)
    record = faceset.records[2]
    assert (record.file, record.frame_index, record.yaw, record.native_px) == ("faces/000002.jpg", 2, -12.35, 123.46)
    np.testing.assert_array_equal(faceset.landmarks[1], mesh(1))
    assert faceset.landmarks.dtype == np.float32


def test_pictures_come_back_nearly_as_they_were_in_full_colour(folder: Path) -> None:
    image = Faceset.open(folder).image(1)
    assert image.shape == (SIDE, SIDE, 3)
    assert np.abs(image.astype(int) - picture(1)).mean() < JPEG_LEVELS


def test_chroma_is_stored_at_full_resolution(folder: Path) -> None:
    data = (folder / "faces" / "000000.jpg").read_bytes()
    frame_header = data.index(b"\xff\xc0")
    assert data[frame_header + 11] == 0x11  # sampling factors of the first component: 1 x 1


def test_the_same_faces_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_faceset(tmp_path / "one"), write_faceset(tmp_path / "two")
    assert files_of(first) == files_of(second)
    assert Faceset.open(first).sha256 == Faceset.open(second).sha256


def test_the_sha256_of_the_set_is_that_of_its_index(folder: Path) -> None:
    assert Faceset.open(folder).sha256 == hashlib.sha256((folder / "faceset.json").read_bytes()).hexdigest()


def test_the_index_has_one_line_for_each_face(folder: Path) -> None:
    lines = (folder / "faceset.json").read_text().splitlines()
    assert sum("faces/00000" in line for line in lines) == 3


def test_nothing_is_left_beside_the_set(folder: Path) -> None:
    assert os.listdir(folder.parent) == ["ada.faces"]
    assert sorted(os.listdir(folder)) == ["faces", "faceset.json", "landmarks.npy", "sheet.png"]


def test_the_sheet_is_a_picture_of_all_faces(folder: Path) -> None:
    sheet = cv2.imread(str(folder / "sheet.png"))
    assert sheet is not None
    assert sheet.shape == (160, 3 * 160, 3)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((folder / "faceset.json").read_text())
    change(index)
    (folder / "faceset.json").write_text(json.dumps(index))


def test_a_set_of_schema_1_is_read_as_one_of_a_single_person(folder: Path) -> None:
    def to_schema_1(index: dict[str, Any]) -> None:
        index["schema"] = 1
        for face in index["faces"]:
            del face["person"], face["measures"]

    now = Faceset.open(folder).records
    rewrite(folder, to_schema_1)
    assert Faceset.open(folder).records == now


Change = Callable[[dict[str, Any]], None]
HOSTILE: dict[str, tuple[Change, str]] = {
    "another schema": (lambda x: x.update(schema=3), "schema 3, this version reads 1 and 2; update liveswap"),
    "schema as text": (lambda x: x.update(schema="1"), "'schema' is '1', expected a whole number"),
    "schema as truth": (lambda x: x.update(schema=True), "'schema' is True"),
    "no schema": (lambda x: x.pop("schema"), "'schema' is missing"),
    "no geometry": (lambda x: x.pop("geometry"), "'geometry' is missing"),
    "geometry as list": (lambda x: x.update(geometry=[]), "geometry is .*, expected an object"),
    "huge crops": (lambda x: x["geometry"].update(size=1 << 30), "'size' is 1073741824"),
    "crops too large with the margin": (lambda x: x["geometry"].update(size=4000), "the geometry cannot be"),
    "infinite coverage": (lambda x: x["geometry"].update(coverage=1e999), "not valid JSON"),
    "three offsets": (lambda x: x["geometry"].update(offset=[0, 0, 0]), "expected 2 numbers"),
    "offset as text": (lambda x: x["geometry"].update(offset=["0", 0]), "expected 2 numbers from"),
    "margin": (lambda x: x.update(margin=99), "'margin' is 99"),
    "kind": (lambda x: x.update(kind="\x1b[2J"), "'kind' is"),
    "landmark set": (lambda x: x["landmarks"].update(set="dlib-68"), "expected mediapipe-468"),
    "no faces": (lambda x: x.update(faces=[]), "lists no face"),
    "faces as object": (lambda x: x.update(faces={}), "expected a list"),
    "face as number": (lambda x: x["faces"].__setitem__(1, 7), r"faces\[1\] is 7, expected an object"),
    "path that climbs": (lambda x: x["faces"][0].update(file="faces/../../000000.jpg"), r"faces\[0\]: 'file'"),
    "absolute path": (lambda x: x["faces"][0].update(file="/etc/passwd"), r"faces\[0\]: 'file'"),
    "path with a line end": (lambda x: x["faces"][0].update(file="faces/000000.jpg\n"), r"faces\[0\]: 'file'"),
    "path in other digits": (
        lambda x: x["faces"][0].update(file="faces/\u0660\u0660\u0660\u0660\u0660\u0660.jpg"),
        "'file'",
    ),
    "the same file twice": (lambda x: x["faces"][0].update(file="faces/000001.jpg"), "same file twice"),
    "unknown source": (lambda x: x["faces"][2].update(source=1), r"faces\[2\]: 'source' is 1"),
    "negative source": (lambda x: x["faces"][2].update(source=-1), "'source' is -1"),
    "yaw beyond a turn": (lambda x: x["faces"][0].update(yaw=181), "'yaw' is 181, expected a number from -180"),
    "yaw as truth": (lambda x: x["faces"][0].update(yaw=False), "'yaw' is False"),
    "no time": (lambda x: x["faces"][0].pop("pts_s"), "'pts_s' is missing"),
    "huge frame number": (lambda x: x["faces"][0].update(frame_index=10**300), "'frame_index' is 1000"),
    "person as text": (lambda x: x["faces"][0].update(person="Ada"), "'person' is 'Ada', expected a whole number"),
    "measures as list": (lambda x: x["faces"][0].update(measures=[]), r"measures is \[\], expected an object"),
    "measures without a mouth": (lambda x: x["faces"][0].update(measures={}), "measures: 'mouth' is missing"),
    "no measures": (lambda x: x["faces"][0].pop("measures"), "'measures' is missing"),
    "no person": (lambda x: x["faces"][0].pop("person"), "'person' is missing"),
    "short checksum": (lambda x: x["faces"][0].update(sha256="ab"), "'sha256' is 'ab'"),
    "checksum of another picture": (
        lambda x: x["faces"][0].update(sha256=x["faces"][1]["sha256"]),
        "000000.jpg is damaged, its checksum differs",
    ),
    "source name that clears the screen": (lambda x: x["sources"][0].update(name="\x1b[2J"), "printable characters"),
    "source name that never ends": (lambda x: x["sources"][0].update(name="x" * 300), "printable characters"),
    "one face fewer": (lambda x: x["faces"].pop(), r"landmarks.npy holds an array of \(3, 468, 3\)"),
    "a face too many": (
        lambda x: x["faces"].append({**x["faces"][0], "file": "faces/000009.jpg"}),
        r"landmarks.npy holds an array of \(3, 468, 3\)",
    ),
    "a file that is not there": (lambda x: x["faces"][0].update(file="faces/000009.jpg"), "does not exist"),
    "landmarks of another set": (lambda x: x["landmarks"].update(sha256="f" * 64), "landmarks.npy is damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_wrong_index_is_refused_with_one_sentence(folder: Path, name: str) -> None:
    change, sentence = HOSTILE[name]
    rewrite(folder, change)
    with pytest.raises(FacesetError, match=sentence) as refusal:
        Faceset.open(folder)
    message = str(refusal.value)
    assert message.isprintable()
    assert ";" in message  # the remedy
    assert len(message) < 500


def test_unknown_entries_of_a_later_version_are_passed_over(folder: Path) -> None:
    rewrite(folder, lambda x: x["faces"][0].update(mood="bright"))
    assert len(Faceset.open(folder)) == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 100_000, '{"schema": NaN}', '{"schema": 1' + "0" * 9999 + "}"]
)
def test_what_is_no_index_is_refused(folder: Path, text: str) -> None:
    (folder / "faceset.json").write_text(text)
    with pytest.raises(FacesetError, match=r"faceset.json"):
        Faceset.open(folder)


def test_an_index_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "faceset.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FacesetError, match="not valid JSON"):
        Faceset.open(folder)


def test_a_huge_index_is_not_read(folder: Path) -> None:
    with (folder / "faceset.json").open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file: it takes no room
    with pytest.raises(FacesetError, match=r"1099511627776 bytes, at most"):
        Faceset.open(folder)


def test_a_missing_folder_a_file_and_a_folder_that_is_no_set_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name, sentence in {"none": "does not exist", "file": "is not a folder", ".": r"holds no faceset\.json"}.items():
        with pytest.raises(FacesetError, match=f"{sentence}.*liveswap extract"):
            Faceset.open(tmp_path / name)


def test_a_picture_that_is_cut_off_is_refused(folder: Path) -> None:
    path = folder / "faces" / "000001.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FacesetError, match=r"000001\.jpg is cut off"):
        Faceset.open(folder)
    with pytest.raises(FacesetError, match=r"000001\.jpg is cut off"):
        Faceset.open(folder, verify=False).image(1)


def with_checksum(folder: Path, number: int, data: bytes) -> None:
    (folder / "faces" / f"{number:06d}.jpg").write_bytes(data)
    rewrite(folder, lambda x: x["faces"][number].update(sha256=hashlib.sha256(data).hexdigest()))


def encoded(side: int, suffix: str = ".jpg", options: tuple[int, ...] = ()) -> bytes:
    return cv2.imencode(suffix, np.zeros((side, side, 3), np.uint8), options)[1].tobytes()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no plain JPEG"),
        (b"hello", "no plain JPEG"),
        (b"\xff\xd8\xff\xe0\x00\x00", "no plain JPEG"),
        (encoded(SIDE, ".png"), "no plain JPEG"),
        (encoded(SIDE, ".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)), "no plain JPEG"),
        (encoded(SIDE + 1), "81x81, expected 80x80"),
        (encoded(SIDE)[:40] + b"\xff\xd9", "no plain JPEG"),
        (b"x" * (1 << 20), "bytes, at most"),
    ],
)
def test_a_picture_that_is_none_is_refused_before_it_is_decoded(folder: Path, data: bytes, sentence: str) -> None:
    with_checksum(folder, 0, data)
    with pytest.raises(FacesetError, match=sentence):
        Faceset.open(folder)


def test_a_picture_that_claims_a_billion_pixels_is_not_decoded(folder: Path) -> None:
    data = bytearray(encoded(SIDE))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65535, 65535)
    with_checksum(folder, 0, bytes(data))
    with pytest.raises(FacesetError, match="65535x65535"):
        Faceset.open(folder)


@pytest.mark.parametrize("name", ["faces/000001.jpg", "landmarks.npy", "faceset.json"])
def test_links_out_of_the_folder_are_not_followed(folder: Path, name: str) -> None:
    elsewhere = folder.parent / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(FacesetError, match="is a link or no ordinary file"):
        Faceset.open(folder)


def test_a_folder_of_faces_that_is_a_link_is_refused(folder: Path) -> None:
    (folder / "faces").rename(folder.parent / "elsewhere")
    (folder / "faces").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(FacesetError, match="is a link; copy"):
        Faceset.open(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_does_not_hang_the_reader(folder: Path) -> None:
    (folder / "faces" / "000001.jpg").unlink()
    os.mkfifo(folder / "faces" / "000001.jpg")
    with pytest.raises(FacesetError, match="no ordinary file"):
        Faceset.open(folder)


def save_array(folder: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(folder / "landmarks.npy", array, allow_pickle=True)
    digest = hashlib.sha256((folder / "landmarks.npy").read_bytes()).hexdigest()
    rewrite(folder, lambda x: x["landmarks"].update(sha256=digest))


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((3, 468, 3), np.float64), "has .* bytes, at most|no float32 array"),
        (np.zeros((3, 468, 3), np.int32), "no float32 array"),
        (np.zeros((3, 468, 3), ">f4"), "no float32 array"),
        (np.zeros((3, 468, 2), np.float32), r"\(3, 468, 2\), expected \(3, 468, 3\)"),
        (np.asfortranarray(np.zeros((3, 468, 3), np.float32)), "no float32 array"),
        (np.array([{"a": print}], object), "no float32 array"),
        (np.full((3, 468, 3), np.nan, np.float32), "far outside the crops"),
        (np.full((3, 468, 3), 1e30, np.float32), "far outside the crops"),
    ],
)
def test_landmarks_of_another_kind_are_refused(folder: Path, array: np.ndarray[Any, Any], sentence: str) -> None:
    save_array(folder, array)
    with pytest.raises(FacesetError, match=sentence):
        Faceset.open(folder)


def test_landmarks_that_are_cut_off_are_refused(folder: Path) -> None:
    path = folder / "landmarks.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(FacesetError, match="cut off"):
        Faceset.open(folder)


def test_one_changed_byte_anywhere_is_noticed(folder: Path) -> None:
    for name in ("landmarks.npy", "faces/000002.jpg"):
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        with pytest.raises(FacesetError, match="damaged"):
            Faceset.open(folder)
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
    assert len(Faceset.open(folder)) == 3


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_of(write_faceset(tmp_path_factory.mktemp("pristine") / "set"))


FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
MUTATION = st.tuples(st.integers(0, 1 << 20), st.integers(0, 40), st.binary(max_size=40))


def mutated(data: bytes, mutations: list[tuple[int, int, bytes]]) -> bytes:
    for at, removed, put in mutations:
        at %= len(data) + 1
        data = data[:at] + put + data[at + removed :]
    return data


@FUZZ
@given(st.lists(MUTATION, min_size=1, max_size=4))
def test_a_mutated_index_is_read_or_refused(
    pristine: dict[str, bytes], mutations: list[tuple[int, int, bytes]]
) -> None:
    data = mutated(pristine["faceset.json"], mutations)
    with suppress(FacesetError):
        index = load_index(data, "faceset.json")
        assert all(face.file.startswith("faces/") and ".." not in face.file for face in index.faces)


@FUZZ
@given(st.sampled_from(["landmarks.npy", "faces/000000.jpg"]), st.lists(MUTATION, min_size=1, max_size=3))
def test_a_mutated_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    pristine: dict[str, bytes],
    name: str,
    mutations: list[tuple[int, int, bytes]],
) -> None:
    folder = tmp_path_factory.getbasetemp() / "mutated"
    (folder / "faces").mkdir(parents=True, exist_ok=True)
    for path, data in pristine.items():
        (folder / path).write_bytes(mutated(data, mutations) if path == name else data)
    with suppress(FacesetError):
        assert Faceset.open(folder, verify=False).image(0).shape == (SIDE, SIDE, 3)


def timed_faceset(tmp_path: Path, *times_s: list[float]) -> Faceset:
    with FacesetWriter(tmp_path / "set", CropGeometry(16, 2.0), kind="custom") as writer:
        tiny = np.zeros((20, 20, 3), np.uint8)
        facts: dict[str, Any] = {"track": 0, "score": 1.0, "sharpness": 1.0, "native_px": 99.0}
        for source, times in enumerate(times_s):
            writer.add_source(SourceRecord(f"{source}.mp4", SHA, 30.0, len(times)))
            for i, pts_s in enumerate(times):
                facts |= {"source": source, "frame_index": i, "pts_s": pts_s, "yaw": 0.0, "pitch": 0.0, "roll": 0.0}
                writer.add(tiny, np.zeros((468, 3), np.float32), **facts)
    return Faceset.open(tmp_path / "set")


def test_the_end_of_every_source_is_held_out_behind_a_gap(tmp_path: Path) -> None:
    faceset = timed_faceset(tmp_path, [i / 10 for i in range(100)], [i / 10 for i in range(50)])
    train, held_out = faceset.split_by_time(0.1)
    assert held_out.tolist() == [*range(90, 100), *range(145, 150)]
    # 5 % of 9.9 s is 0.495 s: the four pictures at 8.6 to 8.9 s; 5 % of 4.9 s: two pictures
    assert train.tolist() == [*range(86), *range(100, 143)]


def test_the_gap_is_at_most_what_was_asked_for(tmp_path: Path) -> None:
    faceset = timed_faceset(tmp_path, [float(i) for i in range(100)])
    train, held_out = faceset.split_by_time(0.1, gap_s=2.0)
    assert (train[-1], held_out[0]) == (87, 90)


def test_faces_of_one_moment_are_never_parted(tmp_path: Path) -> None:
    faceset = timed_faceset(tmp_path, [i // 3 / 10 for i in range(60)])
    train, held_out = faceset.split_by_time(0.1)
    moments = [record.pts_s for record in faceset.records]
    assert not {moments[i] for i in train} & {moments[i] for i in held_out}


def test_a_short_source_is_trained_on_whole(tmp_path: Path) -> None:
    train, held_out = timed_faceset(tmp_path, [i / 30 for i in range(9)]).split_by_time()
    assert (len(train), len(held_out)) == (9, 0)


def test_nothing_is_held_out_when_nothing_is_asked_for(tmp_path: Path) -> None:
    train, held_out = timed_faceset(tmp_path, [i / 30 for i in range(20)]).split_by_time(0)
    assert (len(train), len(held_out)) == (20, 0)


@pytest.mark.parametrize("fraction", [-0.1, 0.6])
def test_more_than_half_cannot_be_held_out(folder: Path, fraction: float) -> None:
    with pytest.raises(ValueError, match=r"0 to 0\.5"):
        Faceset.open(folder).split_by_time(fraction)
