"""What goes out says what it is: the visible mark, the manifest, the run log, the model's card."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from liveswap import main
from realtime.badge import Badge
from realtime.frame import ImageU8
from realtime.pattern import PatternSource
from realtime.places import records_folder
from realtime.provenance import read_manifest
from realtime.run_log import NAME as RUN_LOG
from realtime.video_writer import VideoWriter
from tests.community_dfm import liveswap_metadata, painting_dfm
from tests.fakes import frame, info
from tests.marks import SURE, likeness, marked
from tests.receivers import RtmpServer, UdpReceiver

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 12
CARD = {"schema": 1, "subject": "Ada", "consent": "signed"}
Call = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "performer.mp4"
    pattern = PatternSource(width=320, height=240, frames=FRAMES, hand=False)
    with pattern, VideoWriter(path, pattern.info) as out:
        for each in pattern:
            out.send(each)
    return path


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, performance: Path, monkeypatch: pytest.MonkeyPatch
) -> Call:
    """`liveswap run` with a model of Ada on the performance, and records of its own; exit code and what it said."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*flags: object, card: dict[str, Any] | None = None) -> tuple[int, str]:
        model = painting_dfm(tmp_path / "ada.dfm", metadata=liveswap_metadata(**(card or CARD)))
        words = ["run", "--model", model, "--source", performance, "--threads", 1, *flags]
        code = main([str(each) for each in words])
        return code, capsys.readouterr().err

    return run


def pictures(path: Path) -> list[ImageU8]:
    with av.open(path) as container:
        return [np.asarray(each.to_ndarray(format="bgr24"), np.uint8) for each in container.decode(video=0)]


def logged(path: Path | None = None) -> list[dict[str, Any]]:
    lines = (path or records_folder() / RUN_LOG).read_text().splitlines()
    return [json.loads(line) for line in lines]


# ---------------------------------------------------------------- every sink


@pytest.mark.parametrize("ending", ["mp4", "m4v", "mov", "mkv"])
def test_every_picture_of_a_file_is_marked_and_the_file_says_what_it_is(
    call: Call, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"out.{ending}"
    code, err = call("--sink", path)
    assert code == 0, err
    seen = pictures(path)
    assert len(seen) == FRAMES
    assert all(marked(each) for each in seen)
    told = read_manifest(path)
    assert told["state"] == "Valid"
    assert told["facts"]["badge"] is True
    assert told["facts"]["source"] == "video"
    assert [each["subject"] for each in told["facts"]["models"]] == ["Ada"]


def test_every_picture_of_a_stream_is_marked(call: Call) -> None:
    with UdpReceiver() as receiver:
        code, err = call("--sink", receiver.url)
        assert code == 0, err
        seen = receiver.programme().images
    assert seen
    assert all(marked(each) for each in seen)


def test_every_picture_of_a_broadcast_is_marked(call: Call, tmp_path: Path) -> None:
    with RtmpServer(tmp_path) as server:
        code, err = call("--sink", server.url)
        assert code == 0, err
        seen = server.programme().images
    assert seen
    assert all(marked(each) for each in seen)


@pytest.mark.parametrize("language", ["en", "de", "fr", "zh"])
def test_the_mark_survives_a_thin_stream(tmp_path: Path, language: str) -> None:
    path, size = tmp_path / "thin.mp4", (720, 1280)
    rng = np.random.default_rng(1)
    noise = cv2.resize(rng.integers(0, 255, (90, 160, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    badge = Badge(language)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = size[1], size[0], "yuv420p", 500_000
        for index in range(45):
            moved = np.roll(noise, 5 * index, axis=1)
            picture = av.VideoFrame.from_ndarray(badge.stamp(np.asarray(moved, np.uint8)), format="bgr24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    assert path.stat().st_size < 500_000 * 1.5 / 8 * 1.5
    seen = [likeness(each, language) for each in pictures(path)]
    assert min(seen) > SURE


def test_a_picture_without_the_mark_is_not_taken_for_one_with_it(performance: Path) -> None:
    assert not any(marked(each) for each in pictures(performance))


# ---------------------------------------------------------------- without the mark


def test_leaving_the_mark_out_has_to_be_confirmed_once_and_everything_says_so(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    code, err = call("--sink", path, "--no-badge")
    assert code == 2
    assert "--no-badge is not confirmed for ada.dfm" in err
    assert not path.exists()
    code, err = call("--sink", path, "--no-badge", "--confirm-no-badge")
    assert code == 0, err
    assert "the AI badge is switched off" in err
    assert not any(marked(each) for each in pictures(path))
    assert read_manifest(path)["facts"]["badge"] is False
    assert [each["badge"] for each in logged()] == [False, False]
    assert call("--sink", "null", "--no-badge")[0] == 0  # it was confirmed


def test_what_was_confirmed_is_for_the_owner_alone(call: Call) -> None:
    records_folder().mkdir(parents=True, mode=0o755)
    assert call("--sink", "null", "--no-badge", "--confirm-no-badge")[0] == 0
    assert {stat.S_IMODE(each.stat().st_mode) for each in records_folder().iterdir()} == {0o600}


def test_settings_do_not_confirm_anything(call: Call, tmp_path: Path) -> None:
    settings = tmp_path / "live.toml"
    settings.write_text("badge = false\n")
    assert call("--sink", "null", "--config", settings)[0] == 2
    settings.write_text("badge = false\nconfirm_no_badge = true\n")
    code, err = call("--sink", "null", "--config", settings)
    assert code == 2
    assert "unknown setting 'confirm_no_badge'" in err


def test_a_key_that_was_typed_in_the_wrong_place_is_not_repeated(call: Call) -> None:
    code, err = call("--sink", "null", "rtmp://host/app/Zq9")
    assert code == 2
    assert "rtmp://host/app/***" in err


def test_another_model_has_to_be_confirmed_for_itself(call: Call) -> None:
    assert call("--sink", "null", "--no-badge", "--confirm-no-badge")[0] == 0
    assert call("--sink", "null", "--no-badge", card=CARD | {"subject": "Eve"})[0] == 2


@pytest.mark.parametrize("flags", [("--no-badge",), ("--no-badge", "--confirm-no-badge")])
def test_a_model_that_requires_the_mark_is_never_shown_without(call: Call, flags: tuple[str, ...]) -> None:
    code, err = call("--sink", "null", *flags, card=CARD | {"badge": "required"})
    assert code == 1
    assert "may be shown only with the AI mark" in err


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are a Unix thing")
@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("no\n", 2), ("\n", 2)])
def test_on_a_terminal_the_person_is_asked(tmp_path: Path, performance: Path, answer: str, code: int) -> None:
    model = painting_dfm(tmp_path / "ada.dfm", metadata=liveswap_metadata(**CARD))
    command = [sys.executable, ROOT / "liveswap.py", "run", "--model", model, "--source", performance, "--sink", "null"]
    master, slave = pty.openpty()
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(
        [*map(str, command), "--no-badge"], stdin=slave, stderr=subprocess.PIPE, cwd=ROOT, env=environment
    ) as process:
        os.write(master, answer.encode())
        _, err = process.communicate(timeout=120)
    os.close(master)
    os.close(slave)
    assert b"nobody can see that ada.dfm is at work" in err
    assert process.returncode == code, err


# ---------------------------------------------------------------- the run log


def test_a_run_is_written_down_and_names_nobody_and_no_place(call: Call, tmp_path: Path) -> None:
    code, err = call("--sink", tmp_path / "out.mp4", "--sink", "null")
    assert code == 0, err
    begin, end = logged()
    assert (begin["event"], end["event"]) == ("begin", "end")
    assert begin["run"] == end["run"]
    assert (begin["source"], begin["sinks"], begin["badge"]) == ("video", ["file", "null"], True)
    assert len(begin["models"][0]["sha256"]) == 64
    assert (end["frames_in"], end["frames_out"], end["swapped"], end["raw"], end["failure"]) == (
        FRAMES,
        FRAMES,
        FRAMES,
        0,
        None,
    )
    text = (records_folder() / RUN_LOG).read_text()
    assert "performer" not in text
    assert str(tmp_path) not in text
    assert stat.S_IMODE((records_folder() / RUN_LOG).stat().st_mode) == 0o600


def test_a_run_that_fails_is_written_down_too(call: Call, tmp_path: Path) -> None:
    wall = tmp_path / "wall.mp4"
    with VideoWriter(wall, info(width=96, height=96)) as writer:
        for index in range(4):
            writer.send(frame(index, np.full((96, 96, 3), 90, np.uint8)))
    assert call("--source", wall, "--sink", "null")[0] == 1
    begin, end = logged()
    assert end["failure"] == "SourceError"
    assert end["seconds"] > 0
    assert end["frames_in"] >= 0
    assert end["run"] == begin["run"]


def test_the_log_can_lie_elsewhere(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    assert call("--sink", "null", "--run-log", path)[0] == 0
    assert len(logged(path)) == 2
    assert not (records_folder() / RUN_LOG).exists()


def test_a_log_that_cannot_be_written_stops_the_run_before_it_begins(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, err = call("--sink", tmp_path / "out.mp4", "--run-log", tmp_path / "file" / "runs.jsonl")
    assert code == 1
    assert "the run log cannot be written" in err
    assert not (tmp_path / "out.mp4").exists()


# ---------------------------------------------------------------- who signs, what a file says


def test_provenance_is_shown_and_a_changed_file_is_found_out(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.mp4"
    assert call("--sink", path)[0] == 0
    assert main(["provenance", str(path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "Valid"
    assert main(["provenance", str(path)]) == 0
    said = capsys.readouterr().out
    for words in ("unchanged since", "on no list of trusted signers", "ada.dfm", "Ada; consent: signed", "AI mark"):
        assert words in said
    data = bytearray(path.read_bytes())
    data[data.rindex(b"mdat") + 40] ^= 0x40
    path.write_bytes(data)
    assert main(["provenance", str(path)]) == 1
    assert "was changed after it was signed" in capsys.readouterr().err


def test_a_certificate_that_cannot_sign_is_known_before_the_run(call: Call, tmp_path: Path) -> None:
    pem = tmp_path / "no.pem"
    pem.write_text("no certificate")
    code, err = call("--sink", tmp_path / "out.mp4", "--signing-certificate", pem, "--signing-key", pem)
    assert code == 2
    assert "hold no certificate that can sign" in err
    assert not (tmp_path / "out.mp4").exists()


def test_the_card_is_shown_when_a_run_begins(call: Call) -> None:
    card = CARD | {"licence": "CC-BY-4.0", "allowed_uses": ["a film", "tests"]}
    _, err = call("--sink", "null", card=card)
    assert "ada.dfm: Ada; consent: signed" in err
    assert "licence: CC-BY-4.0" in err
    assert "may be used for: a film; tests" in err
    assert "make sure before you use it" not in err


def test_the_card_says_who_exported_the_model_and_which_document_was_signed(call: Call) -> None:
    document = {"name": "agreement.pdf", "bytes": 9, "sha256": "ab" * 32}
    card = CARD | {"exporter": "Eve", "created": "2026-01-31", "consent_document": document, "badge": "required"}
    _, err = call("--sink", "null", card=card)
    assert "exported by Eve, 2026-01-31" in err
    assert f"signed document: agreement.pdf, {'ab' * 32}" in err
    assert "AI mark: required" in err


HOSTILE = {
    "half a letter": "\ud800 Ada",
    "a terminal's commands": "\x1b]0;pwn\x07\x1b[2J\x9b31m\u202e\nliveswap: all is well",
    "a book": "A" * 900_000,
    "a list of everything": ["A" * 1000, 3, None, ["\x1b"]] * 50,
    "no text": {"a": {"b": [1]}},
    "no number": float("nan"),
    "a deep place": json.loads("[" * 150 + "]" * 150),
}


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_a_card_may_say_anything_and_the_recording_is_signed(call: Call, tmp_path: Path, words: object) -> None:
    path = tmp_path / "out.mp4"
    card = dict.fromkeys(("subject", "consent", "licence"), words) | {"\x1b[2J": "A" * 2**20}
    code, err = call("--sink", path, card={"schema": 1} | card)
    assert code == 0, err
    assert read_manifest(path)["state"] == "Valid"
    assert len(err) < 3000
    assert all(char.isprintable() or char == "\n" for char in err)
    assert not any(line.startswith("liveswap: all is well") for line in err.splitlines())
    assert len((records_folder() / RUN_LOG).read_text()) < 10_000


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_costs_no_manifest(call: Call, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/out\xff.mp4"))
    code, err = call("--sink", path)
    assert code == 0, err
    assert read_manifest(path)["state"] == "Valid"


def test_a_card_on_which_nobody_stated_anything_is_a_warning(call: Call) -> None:
    _, err = call("--sink", "null", card=CARD | {"consent": "not stated"})
    assert "make sure before you use it" in err
