"""The front door: command lines in; exit codes, sentences and JSON out."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import liveswap
import realtime
from liveswap import main
from realtime.pattern import PatternSource
from realtime.video_writer import VideoWriter
from tests.community_dfm import liveswap_metadata, painting_dfm, random_dfm
from tests.tolerances import FRONT_DOOR_START_S
from training.command import DEFAULT_PRESET

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    "demo",
    "extract",
    "frames",
    "coverage",
    "train",
    "evaluate",
    "export",
    "run",
    "bench",
    "provenance",
    "devices",
    "doctor",
)

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs main() and gives the exit code, what it printed, and what it complained."""

    def run(*argv: object) -> tuple[int, str, str]:
        code = main([str(each) for each in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def performance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of a rendered performer."""
    path = tmp_path_factory.mktemp("film") / "performer.mp4"
    with PatternSource(width=320, height=240, frames=8, hand=False) as source, VideoWriter(path, source.info) as writer:
        for frame in source:
            writer.send(frame)
    return path


def the_sentence(err: str) -> str:
    """The one line of a complaint, without its prefix."""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("liveswap: ")
    assert "Traceback" not in err
    return lines[0].removeprefix("liveswap: ")


def write_clip(path: Path, frames: int = 8, size: int = 96) -> Path:
    """A short video of a grey wall: nobody is in it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        picture = np.full((size, size, 3), 90, np.uint8)
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path


def spawn(*argv: object) -> subprocess.Popen[str]:
    """The real program."""
    command = [sys.executable, str(ROOT / "liveswap.py"), *(str(each) for each in argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


# what every command shares


def test_help_names_every_command_and_no_other(call: Call) -> None:
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("    ") and not line.startswith("     ")]
    assert tuple(name for name in listed if name not in ("COMMAND", "faceset")) == COMMANDS
    assert "faceset" in listed  # has commands of its own, see test_faceset_command.py


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_takes_the_common_flags(call: Call, command: str) -> None:
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    for flag in ("--json", "--verbose", "--quiet", "--debug"):
        assert flag in out


def test_version_is_told(call: Call) -> None:
    assert call("--version") == (0, f"liveswap {realtime.__version__}\n", "")


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        ((), "COMMAND"),
        (("swap",), "invalid choice"),
        (("extract", "a.mp4"), "--out"),
        (("extract", "a.mp4", "--out", "x", "--size", "many"), "'many' is not a number"),
        (("extract", "a.mp4", "--out", "x", "--size", "12.5"), "not a whole number"),
        (("extract", "a.mp4", "--out", "x", "--fps", "0"), "not above 0"),
        (("train", "a", "b"), "--out"),
        (("train", "a", "b", "--out", "r", "--minutes", "-3"), "not above 0"),
        (("train", "a", "b", "--out", "r", "--minutes", "nan"), "not a number"),
        (("train", "a", "b", "--out", "r", "--minutes", "3", "--iterations", "3"), "not allowed with"),
        (("train", "a", "b", "--out", "r", "--preset", "huge-9"), "light-128"),
        (("export", "r", "--out", "m.dfm", "--subject", "Ada"), "--consent"),
        (("export", "r", "--out", "m.dfm", "--subject", " ", "--consent", "yes"), "--subject"),
        (("run", "--source", "x.mp4", "--sink", "y.mp4"), "--model"),
        (("evaluate", "r", "--json", "no-such-folder/r.json"), "no-such-folder"),
        (("run", "--model", "m.dfm", "--on-miss", "panic"), "invalid choice"),
        (("run", "--model", "m.dfm", "--sink", "preview", "--sink", "preview"), "two sinks are the same"),
        (("run", "--model", "m.dfm", "--sink", "gopher://x"), "gopher"),
        (("run", "--model", "m.dfm", "--size", "big"), "is not a size"),
        (("run", "--model", "m.dfm", "--face", "mine"), "face must be lock"),
        (("bench", "--modes", "Z"), "mode"),
        (("run", "--model", "m.dfm", "--hold-ms", "-1"), "hold_ms"),
        (("run", "--model", "m.dfm", "--hold-ms", "10001"), "[0, 10000]"),
        (("run", "--model", "m.dfm", "--feather", "7"), "feather"),
        (("run", "--model", "m.dfm", "--sink", "a.mp4", "--sink", "./a.mp4"), "two sinks are the same"),
        (("run", "--model", "", "--sink", "null"), "--model: it is empty"),
        (("run", "--model", "m.dfm", "--source", ""), "--source: it is empty"),
        (("run", "--model", "m.dfm", "--sink", ""), "--sink: it is empty"),
        (("run", "--model", "m.dfm", "--config", ""), "--config: it is empty"),
        (("evaluate", ""), "RUN: it is empty"),
        (("evaluate", "r", "--json", ""), "--json: it is empty"),
        (("evaluate", "r", "--json", "."), "is a folder"),
        (("extract", "a.mp4", "--out", ""), "--out: it is empty"),
        (("train", "a", "b", "--out", ""), "--out: it is empty"),
        (("train", "a", "b", "--out", "r", "--threads", "1000000"), "threads lies between 1 and 256"),
        (("train", "a", "b", "--out", "r", "--batch", "5000"), "batch lies between 1 and 4096"),
        (("train", "a", "b", "--out", "r", "--seed", str(2**63)), "seed lies between 0 and 9223372036854775807"),
        (("export", "r", "--out", "no-such-folder/m.dfm", "--subject", "a", "--consent", "b"), "folder no-such-folder"),
        (("run", "--model", "m.dfm", "--config", "missing.toml"), "missing.toml"),
    ],
)
def test_a_mistake_in_the_call_is_one_sentence_and_exit_code_2(call: Call, argv: tuple[str, ...], hint: str) -> None:
    code, out, err = call(*argv)
    assert (code, out) == (2, "")
    assert hint in the_sentence(err)


def test_an_unexpected_error_is_one_line_that_asks_for_debug(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ValueError("three\nlines\nlong")

    monkeypatch.setattr("training.config.load_recipe", broken)
    code, _, err = call("train", "a", "b", "--out", "r")
    assert code == 1
    assert the_sentence(err) == (
        "unexpected ValueError: three lines long; this is a bug; run with --debug for the traceback"
    )
    code, _, err = call("train", "a", "b", "--out", "r", "--debug")
    assert code == 1
    assert "Traceback" in err


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_no_bug(call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def greedy(_: object) -> None:
        raise error

    monkeypatch.setattr("training.config.load_recipe", greedy)
    code, _, err = call("train", "a", "b", "--out", "r")
    assert code == 1
    assert "not enough memory" in the_sentence(err)


def test_an_error_of_the_disk_that_nobody_caught_is_no_bug(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run/x")

    monkeypatch.setattr("training.config.load_recipe", full)
    code, _, err = call("train", "a", "b", "--out", "r")
    assert code == 1
    assert the_sentence(err).startswith("the disk that holds run/x is full; ".replace("/", os.sep))


@pytest.mark.parametrize(
    "place", [("evaluate", "{}"), ("evaluate", "r", "--json", "{}/x"), ("extract", "{}", "--out", "x")]
)
def test_a_name_too_long_for_the_disk_is_one_sentence(call: Call, place: tuple[str, ...]) -> None:
    code, _, err = call(*(each.format("n" * 300) for each in place))
    assert code in (1, 2)
    assert "bug" not in the_sentence(err)


def test_ctrl_c_is_a_sentence_and_exit_code_130(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.config.load_recipe", interrupted)
    code, _, err = call("train", "a", "b", "--out", "r")
    assert code == 130
    assert "Ctrl-C" in the_sentence(err)


@pytest.mark.parametrize(
    ("library", "extra", "argv"),
    [
        ("torch", ".[train]", ("evaluate", "r")),
        ("onnx", ".[export]", ("export", "r", "--out", "m.dfm", "--subject", "a", "--consent", "b")),
        ("cv2", ".", ("run", "--model", "m.dfm")),
    ],
)
def test_a_missing_library_comes_with_its_install_line(library: str, extra: str, argv: tuple[str, ...]) -> None:
    # None in sys.modules is what Python itself uses for "cannot be imported".
    code = f"import sys; sys.modules[{library!r}] = None; import liveswap; sys.exit(liveswap.main({list(argv)!r}))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 1
    sentence = the_sentence(answer.stderr)
    assert sentence.startswith(f"{library} is not installed")
    assert f'pip install -e "{extra}"' in sentence


def test_a_reader_that_leaves_ends_the_program_quietly() -> None:
    program = spawn("run", "--help")
    assert program.stdout is not None
    program.stdout.close()
    _, err = program.communicate(timeout=60)
    assert err == ""
    assert program.returncode in (0, 1)


def test_the_front_door_opens_quickly() -> None:
    # Processor time, because a busy machine says nothing about the program.
    code = "import time, liveswap; liveswap.build_parser(); print(time.process_time())"
    bare = "import time; print(time.process_time())"
    times = [
        [float(subprocess.check_output([sys.executable, "-c", each], cwd=ROOT, text=True)) for each in (code, bare)]
        for _ in range(3)
    ]
    assert min(door_s - bare_s for door_s, bare_s in times) < FRONT_DOOR_START_S


def test_help_tells_the_presets_and_defaults_that_the_packages_have() -> None:
    from training.config import list_recipes
    from training.extract import ExtractConfig

    args = liveswap.build_parser().parse_args(["extract", "a.mp4", "--out", "x"])
    defaults = ExtractConfig()
    for name in ("size", "coverage_kind", "fps", "every", "max_faces"):
        assert getattr(args, name) == getattr(defaults, name)
    presets = {recipe.name for recipe in list_recipes() if recipe.style == "liveswap"}
    text = (ROOT / "training/command.py").read_text("utf-8")
    assert all(name in text for name in presets)
    assert DEFAULT_PRESET in presets


# bad inputs, command by command


def test_a_text_file_is_no_video(call: Call, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    code, _, err = call("extract", text, "--out", tmp_path / "faces")
    assert code == 1
    assert "notes.mp4" in the_sentence(err)
    model = random_dfm(tmp_path / "m.dfm", metadata=liveswap_metadata(schema=1, subject="Ada", consent="signed"))
    code, _, err = call("run", "--model", model, "--source", text, "--sink", "null")
    assert code == 1
    assert "notes.mp4" in the_sentence(err)


def test_a_video_without_a_face_gives_no_faceset(call: Call, tmp_path: Path) -> None:
    code, _, err = call("extract", "-q", write_clip(tmp_path / "wall.mp4"), "--out", tmp_path / "faces")
    assert code == 1
    assert "face" in the_sentence(err)
    assert not (tmp_path / "faces").exists()


def test_missing_things_are_named(call: Call, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    for argv in (
        ("extract", gone, "--out", tmp_path / "x"),
        ("train", gone, gone, "--out", tmp_path / "run"),
        ("evaluate", gone),
        ("export", gone, "--out", tmp_path / "m.dfm", "--subject", "Ada", "--consent", "signed"),
        ("run", "--model", gone, "--source", "pattern", "--sink", "null"),
    ):
        code, out, err = call(*argv)
        assert code in (1, 2)
        assert out == ""
        assert "gone" in the_sentence(err)


def test_an_empty_faceset_cannot_be_trained_on(call: Call, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    code, _, err = call("train", tmp_path / "faces", tmp_path / "faces", "--out", tmp_path / "run")
    assert code in (1, 2)
    assert "faces" in the_sentence(err)


def test_a_model_that_is_not_onnx_is_refused(call: Call, tmp_path: Path) -> None:
    model = tmp_path / "m.dfm"
    model.write_text("not a model")
    code, _, err = call("run", "--model", model, "--source", "pattern", "--sink", "null")
    assert code == 1
    assert "not an ONNX file" in the_sentence(err)


def test_an_output_that_cannot_be_written_is_said_before_the_work(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = random_dfm(tmp_path / "m.dfm", metadata=liveswap_metadata(schema=1, subject="Ada", consent="signed"))
    clip = write_clip(tmp_path / "wall.mp4")
    for out in (tmp_path / "file" / "x.mp4", tmp_path / "no" / "x.mp4", tmp_path / "x.txt", clip):
        code, _, err = call("run", "--model", model, "--source", clip, "--sink", out)
        assert code in (1, 2)
        assert the_sentence(err)


def test_a_model_without_a_card_fails_with_one_line_too(call: Call, tmp_path: Path) -> None:
    model = random_dfm(tmp_path / "stranger.dfm")
    for flags in (("--source", tmp_path / "gone.mp4"), ("--sink", tmp_path / "no" / "x.mp4"), ("--offset-x", "900")):
        code, _, err = call("run", "--model", model, "--source", "pattern:1", "--sink", "null", *flags)
        assert code in (1, 2)
        assert "does not say whose face" not in the_sentence(err)


# liveswap run


def test_a_community_model_runs_from_video_to_video_with_a_warning(
    call: Call, tmp_path: Path, performance: Path
) -> None:
    model, out = random_dfm(tmp_path / "stranger.dfm", morph=True), tmp_path / "out.mp4"
    sinks = ("--sink", out, "--sink", "null")
    code, text, err = call("run", "--model", model, "--source", performance, *sinks, "--json", tmp_path / "run.json")
    assert code == 0, err
    assert "does not say whose face" in err
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["frames_in"] == report["frames_out"] == report["states"]["live"] == 8
    assert report["raw_face_frames"] == 0
    assert report["badge"] is True
    assert text.startswith("8 of 8 frames")
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8


def test_a_video_without_a_face_ends_with_one_sentence(call: Call, tmp_path: Path) -> None:
    model = painting_dfm(tmp_path / "m.dfm", metadata=liveswap_metadata(schema=1, subject="Ada", consent="signed"))
    clip = write_clip(tmp_path / "wall.mp4")
    code, _, err = call("run", "-q", "--model", model, "--source", clip, "--sink", tmp_path / "out.mp4")
    assert code == 1
    assert "no face" in the_sentence(err)
    assert not (tmp_path / "out.mp4").exists()


def test_json_on_the_output_is_nothing_but_json(call: Call, tmp_path: Path, performance: Path) -> None:
    model = painting_dfm(tmp_path / "m.dfm", metadata=liveswap_metadata(schema=1, subject="Ada", consent="signed"))
    code, out, err = call("run", "--model", model, "--source", performance, "--sink", "null", "--json", "-")
    assert code == 0
    assert json.loads(out)["frames_in"] == 8
    assert "model m.dfm: Ada; consent: signed" in err


def test_quiet_says_nothing_when_all_is_well(call: Call, tmp_path: Path, performance: Path) -> None:
    model = painting_dfm(tmp_path / "m.dfm", metadata=liveswap_metadata(schema=1, subject="Ada", consent="signed"))
    code, out, err = call("run", "-q", "--model", model, "--source", performance, "--sink", "null")
    assert (code, out, err) == (0, "", "")


def test_what_a_model_says_about_itself_cannot_steer_the_terminal(
    call: Call, tmp_path: Path, performance: Path
) -> None:
    card = liveswap_metadata(schema=1, subject="\x1b[2JAda\nliveswap: done", consent="\x07signed")
    model = painting_dfm(tmp_path / "m.dfm", metadata=card)
    _, _, err = call("run", "--model", model, "--source", performance, "--sink", "null")
    assert "Ada" in err
    assert not {char for char in err if not char.isprintable()} - {"\n"}
    assert not [line for line in err.splitlines() if line.startswith("liveswap: done")]


def test_flags_win_over_the_settings_file(call: Call, tmp_path: Path, performance: Path) -> None:
    model = painting_dfm(tmp_path / "m.dfm")
    settings = tmp_path / "live.toml"
    settings.write_text(f'model = "{model.as_posix()}"\nsource = "nowhere.mp4"\nsinks = ["null"]\nbadge = false\n')
    report = tmp_path / "run.json"
    code, _, err = call("run", "--config", settings, "--source", performance, "--json", report, "--confirm-no-badge")
    assert code == 0, err
    assert json.loads(report.read_text())["badge"] is False
    assert "badge" in err.lower()


def interrupted_run(source: object, folder: Path) -> tuple[int, dict[str, Any], int]:
    """Start a run, press Ctrl-C when its output grows; exit code, report, and the pictures in the finished video."""
    model = painting_dfm(folder / "m.dfm", metadata=liveswap_metadata(schema=1, subject="Ada", consent="signed"))
    out, report = folder / "cut.mp4", folder / "run.json"
    program = spawn("run", "--model", model, "--source", source, "--sink", out, "--json", report)
    try:
        deadline_s = time.monotonic() + 120
        while not any(path.stat().st_size for path in folder.glob("*cut*")) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=60)
    finally:
        program.kill()
    assert report.is_file(), err
    with av.open(str(out)) as container:
        pictures = sum(1 for _ in container.decode(video=0))
    return program.returncode, json.loads(report.read_text()), pictures


def test_ctrl_c_in_a_file_finishes_the_video_and_says_130(tmp_path: Path) -> None:
    code, report, pictures = interrupted_run(write_clip(tmp_path / "long.mp4", frames=3000), tmp_path)
    assert code == 130
    assert report["stopped"] is True
    assert 0 < pictures == report["frames_out"] < 3000


@pytest.mark.slow
def test_ctrl_c_in_a_live_run_is_its_ordinary_end(tmp_path: Path) -> None:
    code, report, pictures = interrupted_run("pattern", tmp_path)
    assert code == 0
    assert report["stopped"] is True
    assert pictures > 0
