"""`liveswap faceset` says what it did, and what is wrong in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

import liveswap
from tests.tiny_faceset import files_of
from tests.training.foreign_files import dfl_dict, dfl_jpg, shot
from tests.training.test_faceset_edit import FACES, write_set
from training.faceset import Faceset


def run(capsys: pytest.CaptureFixture[str], *flags: str | Path) -> tuple[int, str, str]:
    code = liveswap.main(["faceset", *map(str, flags)])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def result_of(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text())
    return values


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set").path


def test_info_describes_and_draws(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "info", made, "--sheet", tmp_path / "sheet.png", "--json", tmp_path / "info.json")
    assert code == 0
    assert f"{FACES} faces, whole, 64 px" in out
    assert result_of(tmp_path / "info.json")["faces"] == FACES
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None


def test_info_tells_damage_and_fails(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "faces" / "000003.jpg").write_bytes((made / "faces" / "000004.jpg").read_bytes())
    code, out, err = run(capsys, "info", made, "--json", tmp_path / "info.json")
    assert code == 1
    assert "damaged" in out
    assert "000003.jpg is damaged, its checksum differs" in err
    assert result_of(tmp_path / "info.json")["damage"]


def test_every_action_makes_a_new_set(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_of(made)
    actions: dict[str, list[str | Path]] = {
        "merge": ["merge", made, made],
        "sort": ["sort", made, "--by", "yaw"],
        "prune": ["prune", made, "--min-sharpness", "3", "--count", "5"],
    }
    for name, flags in actions.items():
        code, out, _ = run(capsys, *flags, "--out", tmp_path / name, "--json", tmp_path / f"{name}.json")
        assert code == 0
        told = result_of(tmp_path / f"{name}.json")
        assert told["sha256"] == Faceset.open(tmp_path / name).sha256
        assert f"{told['faces']} faces" in out
    assert files_of(made) == before


def test_split_tells_its_parts(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--by", "source"], ["--by", "time", "--share", "0.5"], ["--by", "count", "--count", "6"]):
        out = tmp_path / flags[1]
        code, _, _ = run(capsys, "split", made, *flags, "--out", out, "--json", tmp_path / "parts.json")
        assert code == 0
        rows = result_of(tmp_path / "parts.json")["parts"]
        assert [row["faces"] for row in rows] == [6, 6]
        assert {row["sha256"] for row in rows} == {Faceset.open(out / row["name"]).sha256 for row in rows}


def test_faces_go_to_deepfacelab_and_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "aligned").mkdir()
    (tmp_path / "aligned" / "00000_0.jpg").write_bytes(dfl_jpg(shot(), dfl_dict(shot(), frame=0)))
    (tmp_path / "aligned" / "00001_0.jpg").write_bytes(b"no picture")
    code, out, err = run(capsys, "import", tmp_path / "aligned", "--out", tmp_path / "set", "--size", "128")
    assert (code, out) == (0, f"{tmp_path / 'set'}: 1 faces (whole) of 2 files\n")
    assert "left out: 1 unreadable; the first: 00001_0.jpg is no JPEG file" in err
    code, out, _ = run(capsys, "export", tmp_path / "set", "--out", tmp_path / "jpgs")
    assert code == 0
    assert "1 JPGs of type whole_face" in out
    code, _, _ = run(capsys, "import", tmp_path / "jpgs", "--out", tmp_path / "again")
    assert code == 0
    first, again = Faceset.open(tmp_path / "set").records[0], Faceset.open(tmp_path / "again").records[0]
    assert again.yaw == pytest.approx(first.yaw, abs=3)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["info", "gone"], "does not exist"),
        (["info", "set", "--sheet", "gone/sheet.png"], "--sheet"),
        (["merge", "set", "--out", "set"], "not empty"),
        (["split", "set", "--by", "count", "--out", "x"], "--by count needs --count"),
        (["split", "set", "--by", "count", "--count", "99", "--out", "x"], "smaller number"),
        (["prune", "set", "--out", "x"], "nothing says which faces"),
        (["prune", "set", "--min-sharpness", "1000", "--out", "x"], "no face of"),
        (["sort", "set", "--by", "beauty", "--out", "x"], "cannot be sorted by 'beauty'"),
        (["import", "set", "--out", "x"], "is a faceset already"),
        (["export", "set", "--out", "x", "--size", "9"], "--size"),
        ([], "ACTION"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    flags: list[str],
    sentence: str,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(made.parent)
    code, out, err = run(capsys, *flags)
    assert code in (1, 2)
    assert out == ""
    assert sentence in err
    assert err.startswith("liveswap: ")
    assert err.count("\n") == 1
    assert sorted(path.name for path in made.parent.iterdir()) == ["set"]
