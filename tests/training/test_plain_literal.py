"""What Python writes of plain data is read back; anything else in such a text is refused, and nothing is evaluated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from realtime.errors import FacesetError
from tests.training.foreign_files import faceswap_dict, shot
from tests.training.hostile import texts
from training.plain_literal import read_literal


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        12,
        -3,
        0.1,
        1e-07,
        -2.5e300,
        "",
        "it's",
        'a "b"',
        "\\ \n \t \x07 ü € \U0001f600",
        [],
        {},
        [1, [2, []]],
    ],
)
def test_plain_values_come_out_as_they_went_in(value: Any) -> None:
    assert read_literal(str({"value": value}), "x") == {"value": value}


def test_tuples_become_lists_and_bytes_are_left_out() -> None:
    assert read_literal("{'a': (1, 2), 'b': (3,), 'c': (), 'd': b'\\x00\\'(', 'e': b\"'\"}", "x") == {
        "a": [1, 2],
        "b": [3],
        "c": [],
        "d": b"",
        "e": b"",
    }


def test_faceswaps_dictionary_is_read() -> None:
    values = faceswap_dict(shot())
    read: Any = read_literal(str(values), "x")
    assert read["alignments"]["landmarks_xy"] == values["alignments"]["landmarks_xy"]


@pytest.mark.parametrize(
    "text", ["", "{", "[1", "[1 2]", "{1: 2}", "{'a'}", "{'a': }", "1 2", "]", "[,]", "x", "1+1", "'a", "[1)"]
)
def test_what_is_no_plain_data_is_refused(text: str) -> None:
    with pytest.raises(FacesetError, match=r"^x holds no plain metadata \("):
        read_literal(text, "x")


def test_hostile_texts_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = [text for text in texts("canary") if not is_plain(text.decode("latin1"))]
    assert len(refused) > 10
    assert os.listdir(tmp_path) == []


def is_plain(text: str) -> bool:
    try:
        read_literal(text, "x")
    except FacesetError:
        return False
    return True
