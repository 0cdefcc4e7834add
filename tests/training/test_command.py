"""`python -m training` trains as `liveswap train` does, and among several processes only number 0 speaks."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from realtime import front
from realtime.errors import UsageError
from tests.tiny_run import TINY
from training.__main__ import main
from training.checkpoint import read_run
from training.command import add_train_flags

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """TINY as a file."""
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps({k: v for k, v in TINY.to_dict().items() if v is not None}), "utf-8")
    return path


def test_a_run_from_the_command_line_obeys_its_flags(
    people: dict[str, Path], recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    flags = f"--out {run} --preset {recipe} --iterations 3 --batch 6 --accumulate 3 --seed 4 --threads 1 --json -"
    assert main([str(people["identity"]), str(people["performer"]), *flags.split()]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["iterations"] == 3
    assert json.loads(out)["outlook"] is json.loads(out)["gain_per_hour"] is None  # one look promises nothing
    assert "best_score" in err  # the words leave the output to the JSON
    config = read_run(run).config
    assert (config.batch, config.accumulate, config.seed, config.iterations) == (6, 3, 4, 3)


@pytest.mark.parametrize("flag", ["--batch 4", "--seed 7", "--accumulate 2", "--until-plateau", "--many-performers"])
def test_what_a_run_keeps_is_not_asked_for_in_vain(
    flag: str, people: dict[str, Path], finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [str(people["identity"]), str(people["performer"]), "--out", str(finished_run), "--resume", *flag.split()]
    assert main(call) == 2
    assert f"leave {flag.split()[0]} out, or give another --out" in capsys.readouterr().err


def test_a_run_does_not_go_on_as_another_recipe(
    people: dict[str, Path], recipe: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [str(people["identity"]), str(people["performer"]), "--out", str(finished_run), "--resume", "--quiet"]
    recipe.write_text(recipe.read_text("utf-8").replace("warmup = 2", "warmup = 3"), "utf-8")
    assert main([*call, "--preset", str(recipe)]) == 2
    assert f"was begun with warmup = 2, unlike {recipe}; leave --preset out" in capsys.readouterr().err
    assert main([*call, "--preset", "tiny-64"]) == 2
    assert "was begun with" in capsys.readouterr().err


def test_the_same_command_goes_on_without_measuring_again(
    people: dict[str, Path], recipe: Path, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("training.batch_finder.find_batch", never)
    run = shutil.copytree(finished_run, tmp_path / "run")
    call = [str(people["identity"]), str(people["performer"]), "--out", str(run), "--resume", "--batch", "auto"]
    assert main([*call, "--preset", str(recipe), "--quiet"]) == 0
    assert read_run(run).config.batch == TINY.batch


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False), (None, True)])
def test_a_mistake_is_one_sentence_of_the_process_that_speaks(
    rank: str | None, speaks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert main(["one", "other", "--out", "run", "--minutes", "-1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    said = "liveswap: argument --minutes: -1 is not above 0; see python -m training --help\n"
    assert err == (said if speaks else "")


def test_help_and_wrong_flags_load_no_torch() -> None:
    """Importing torch takes seconds; a command line that only asks for help is answered at once."""
    code = (
        "import sys; from training.__main__ import main; "
        "codes = main(['--help']), main(['--unknown']); sys.exit('torch' in sys.modules or codes != (0, 2))"
    )
    asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    assert "--accumulate" in asked.stdout


def test_json_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["one", "other", "--out", str(tmp_path / "run"), "--json", str(tmp_path)]) == 2
    assert "is a folder; give --json the name of a file" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_minutes_and_steps_exclude_each_other() -> None:
    parser = front.Parser(prog="train")
    add_train_flags(parser)
    assert isinstance(parser.parse_args(["a", "b", "--out", "r"]), argparse.Namespace)
    with pytest.raises(UsageError, match="not allowed with"):
        parser.parse_args(["a", "b", "--out", "r", "--minutes", "1", "--iterations", "1"])


def test_an_automatic_batch_is_measured_and_said(
    people: dict[str, Path], recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    flags = f"--out {run} --preset {recipe} --iterations 1 --batch auto --threads 1"
    assert main([str(people["identity"]), str(people["performer"]), *flags.split()]) == 0
    said = capsys.readouterr().err
    assert f"batch {read_run(run).config.batch}: " in said


def test_an_automatic_batch_is_not_for_torchrun(
    people: dict[str, Path],
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", "0")
    flags = f"--out {tmp_path / 'run'} --preset {recipe} --batch auto"
    assert main([str(people["identity"]), str(people["performer"]), *flags.split()]) == 2
    assert "measure without torchrun" in capsys.readouterr().err
