"""The flags of extract and frames mean what they say."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

import liveswap
from realtime.actors import ADA
from tests.acted import act, hold_still, write_film
from tests.clips import write_clip
from training.extract_command import moment
from training.faceset import Faceset


@pytest.mark.parametrize(
    ("text", "seconds"), [("75", 75), ("75.5", 75.5), ("1:15", 75), ("0:01:15", 75), ("2:00:00.25", 7200.25), ("0", 0)]
)
def test_times_may_be_written_in_several_ways(text: str, seconds: float) -> None:
    assert moment(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1:2:3:4", "1:75", "1:", "nan", "inf", "1e999"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a time"):
        moment(text)


def call(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = liveswap.main([str(each) for each in argv])
    answer = capsys.readouterr()
    return code, answer.out, answer.err


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "wall.mp4")


@pytest.fixture(scope="module")
def actor_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("clip") / "ada.mp4", act(ADA, 1, 18))


@pytest.fixture(scope="module")
def still_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("clip") / "still.mp4", hold_still(ADA, 20))


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--from", "1", "--from", "2", "--from", "3"), "--from was given 3 times for 2 videos; give it once"),
        (("--from", "5", "--to", "0:04"), "holds nothing; give --from below --to"),
        (("--from", "soon"), "'soon' is not a time; write for example 75, 1:15"),
        (("--person", "main", "--person", "a.png"), "contradict each other"),
        (("--person", "none.png"), "none.png does not exist"),
        (("--from", "1:00"), "ends at"),
        (("--detector", "haar"), "invalid choice"),
        (("--jobs", "0"), "not above 0"),
    ],
)
def test_flags_that_cannot_be_meant_are_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, wall: Path, argv: tuple[str, ...], sentence: str
) -> None:
    code, _, err = call(capsys, "extract", wall, wall, "--out", tmp_path / "set", *argv)
    assert code in (1, 2)
    assert sentence in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_each_video_has_its_own_times(capsys: pytest.CaptureFixture[str], tmp_path: Path, actor_clip: Path) -> None:
    code, out, _ = call(
        capsys, "extract", actor_clip, actor_clip, "--out", tmp_path / "set", "--size", 64, "--keep-duplicates",
        "--from", "0", "--from", "0.4", "--to", "0.2", "--to", "0.5", "--jobs", 2, "--json", tmp_path / "report.json",
    )  # fmt: skip
    assert code == 0
    assert "9 faces from 9 frames" in out
    records = Faceset.open(tmp_path / "set").records
    assert [record.frame_index for record in records] == [0, 1, 2, 3, 4, 5, 12, 13, 14]
    assert [source["frames_read"] for source in json.loads((tmp_path / "report.json").read_text())["sources"]] == [6, 3]


def test_what_was_left_out_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path, still_clip: Path) -> None:
    code, out, _ = call(capsys, "extract", still_clip, "--out", tmp_path / "set", "--size", 64, "--jobs", 1)
    assert code == 0
    assert "left out: 1" in out
    assert "near duplicate" in out


def test_frames_go_beside_the_reader_unless_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, wall: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "frames", wall, "--fps", 5, "--json", "frames.json")
    assert code == 0
    assert out.startswith("wall-frames: ")
    report = json.loads((tmp_path / "frames.json").read_text())
    assert report["frames"] == len(list((tmp_path / "wall-frames").iterdir())) > 0
    code, _, err = call(capsys, "frames", wall)
    assert code == 2
    assert "wall-frames exists and is not empty" in err
