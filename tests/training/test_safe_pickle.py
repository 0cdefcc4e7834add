"""Plain data comes out of a pickle as it went in; anything else is refused before it can do anything."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.errors import FacesetError
from tests.training.foreign_files import dfl_dict, shot
from tests.training.hostile import Bomb, pickles
from training.safe_pickle import MAX_DEPTH, read_plain

PROTOCOLS = (2, 3, 4, 5)
NAME = "face.jpg"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [None, True, 0, 255, 65_535, -1, 1 << 40, -(1 << 60), 0.1, "", "ü\n\0", "x" * 300, b"", b"\0\xff" * 300, [[1], {}]],
)
def test_plain_values_come_out_as_they_went_in(value: Any, protocol: int) -> None:
    assert read_plain(pickle.dumps({"value": value}, protocol), NAME) == {"value": value}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", ["u1", "i1", "<i2", ">i4", "i8", "u2", ">u4", "u8", "f2", ">f4", "f8"])
def test_arrays_come_out_as_they_went_in(code: str, protocol: int) -> None:
    for array in (
        np.arange(6, dtype=code).reshape(2, 3),
        np.arange(6, dtype=code).reshape(3, 2).T,
        np.zeros((0, 2), code),
    ):
        read = read_plain(pickle.dumps(array, protocol), NAME)
        assert isinstance(read, np.ndarray)
        assert read.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_deepfacelabs_dictionary_is_read(protocol: int) -> None:
    polys = {"polys": [{"type": 1, "pts": np.ones((5, 2), np.float32)}]}
    values = dfl_dict(shot(), seg_ie_polys=polys, xseg_mask=np.zeros(40_000, np.uint8))
    read = read_plain(pickle.dumps(values, protocol), NAME)
    assert isinstance(read, dict)
    assert read.keys() == values.keys()
    assert read["landmarks"] == values["landmarks"]
    np.testing.assert_array_equal(np.asarray(read["image_to_face_mat"]), values["image_to_face_mat"])


def test_a_tuple_becomes_a_list_and_a_numpy_number_a_number() -> None:
    assert read_plain(pickle.dumps((1, (2.5, np.float32(3.5), np.int64(-4)))), NAME) == [1, [2.5, 3.5, -4]]


def test_what_stands_twice_is_not_shared() -> None:
    twice = [1]
    read = read_plain(pickle.dumps([twice, twice]), NAME)
    assert isinstance(read, list)
    assert read == [[1], [1]]
    assert read[0] is not read[1]


def refusal(data: bytes) -> str:
    with pytest.raises(FacesetError) as caught:
        read_plain(data, NAME)
    message = str(caught.value)
    assert message.startswith(f"{NAME} holds no plain metadata (")
    assert message.isprintable()
    return message


def test_every_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = {b"\x80\x05}.", b"\x80\x02Nr\xff\xff\xff\x7f."}  # an empty dictionary; None with a huge label
    for data in pickles("canary"):
        if data not in plain:
            refusal(data)
    assert os.listdir(tmp_path) == []


def test_the_bombs_are_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb(eval, "open('canary', 'w').close()")))
    assert os.listdir(tmp_path) == ["canary"]


def test_code_is_named_in_the_refusal() -> None:
    assert "it wants to load posix.system, which is code" in refusal(b"\x80\x02cposix\nsystem\n.")


def test_objects_in_an_array_are_refused() -> None:
    refusal(pickle.dumps(np.array([{}], object)))


def test_nesting_and_endless_structures_are_refused() -> None:
    value: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    assert "nested too deeply" in refusal(pickle.dumps(value))
    endless: list[Any] = []
    endless.append(endless)
    assert "nested too deeply" in refusal(pickle.dumps(endless))


def test_a_few_bytes_cannot_stand_for_many_values() -> None:
    mask = np.zeros(60_000, np.uint8)
    assert "too many values" in refusal(pickle.dumps([mask] * 100))
    assert "too many values" in refusal(b"\x80\x04](" + b"N" * 60_000 + b"e\x85\x94(" + b"h\0" * 100 + b"t\x86.")


def test_an_array_is_as_large_as_its_bytes() -> None:
    good = pickle.dumps(np.zeros((4, 4)), 3)
    shape = good.index(b"K\x04K\x04\x86")
    assert "larger or smaller" in refusal(good[:shape] + b"K\x04K\x05\x86" + good[shape + 5 :])
    assert "larger or smaller" in refusal(
        good[:shape] + b"K\x04J" + struct.pack("<i", -4) + b"\x86" + good[shape + 5 :]
    )


def test_every_truncation_is_refused() -> None:
    data = pickle.dumps({"landmarks": [[1.5, 2.5]], "mat": np.zeros((2, 3))}, 4)
    for end in range(len(data)):
        refusal(data[:end])
    refusal(data + b"x")
