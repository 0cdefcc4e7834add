"""The swap score tells a good model from none, trains what it is told to, and goes on where it was interrupted."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from benchmarks import cells, ground, quality, swap_score
from benchmarks.cells import Cell, run_cell, run_cells
from benchmarks.ground import Ground, prepare
from benchmarks.rendered_scene import RenderedScene
from export.demo import MODEL
from export.placement import Remembering
from realtime.actors import Scene
from realtime.dfm import Placement
from realtime.errors import UsageError
from realtime.infer import open_engine
from tests.community_dfm import liveswap_metadata, painting_dfm
from tests.tiny_run import TINY, write_person
from training.checkpoint import Progress
from training.config import TrainConfig

BRIEF = Scene(frames=8, fps=30, seed=303, hand=False, size=(320, 240), supersample=1)
SECONDS = 1.2
"""Of a training that is long enough for two marks."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two facesets under the names that the benchmark looks for."""
    folder = tmp_path_factory.mktemp("quality")
    for who in ("identity", "performer"):
        write_person(folder / f"{who}-faces", who)
    return folder


@pytest.fixture(scope="module")
def scene(folder: Path) -> RenderedScene:
    return RenderedScene.open(folder / "scenes", BRIEF, every=4, run_up=1)


@pytest.fixture
def stage(folder: Path, scene: RenderedScene) -> Ground:
    return Ground(folder / "identity-faces", folder / "performer-faces", scene, None)


def painted(path: Path, **how: Any) -> Path:
    return painting_dfm(path, resolution=64, metadata=liveswap_metadata(schema=1), **how)


def test_a_scene_is_rendered_once_and_read_back_as_it_was(scene: RenderedScene, folder: Path) -> None:
    assert scene.indices == [2, 3, 6, 7]
    before = [path.stat().st_mtime_ns for path in sorted(scene.folder.iterdir())]
    again = RenderedScene.open(folder / "scenes", BRIEF, every=4, run_up=1)
    assert [path.stat().st_mtime_ns for path in sorted(again.folder.iterdir())] == before
    moments = list(again.moments())
    assert [moment.scored for moment in moments] == [False, True, False, True]
    assert all(moment.true_points is not None for moment in moments if moment.scored)
    assert moments[0].performer.shape == (240, 320, 3)
    assert RenderedScene.open(folder / "scenes", BRIEF, every=8, run_up=0).folder != scene.folder


def test_a_scene_that_cannot_be_cut_so_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run_up"):
        RenderedScene.open(tmp_path, BRIEF, every=4, run_up=4)


def test_the_demo_model_scores_far_above_no_swap(scene: RenderedScene) -> None:
    nothing, scores = swap_score.score_nothing(scene), swap_score.score_model(MODEL, scene)
    assert nothing["identity_transfer"] == pytest.approx(0, abs=1e-3)
    raw = scores["raw"]
    assert raw["swapped"] == 1.0
    for metric, least in (("identity_transfer", 0.5), ("face_ssim", 0.03), ("face_psnr_db", 1.0)):
        score, zero = raw[metric], nothing[metric]
        assert score is not None
        assert zero is not None
        assert score > zero + least, metric
    assert scores["placed"] is None, "it carries a placement already"


def test_a_model_that_the_product_refuses_scores_as_no_swap(scene: RenderedScene, tmp_path: Path) -> None:
    raw = swap_score.score_model(painted(tmp_path / "same.dfm", keep=1.0), scene)["raw"]
    assert raw["swapped"] == 0.0
    assert raw["identity_transfer"] == pytest.approx(0, abs=1e-3)


def test_what_was_painted_once_is_laid_elsewhere_without_painting_again(scene: RenderedScene, tmp_path: Path) -> None:
    engine = Remembering(open_engine(painted(tmp_path / "blue.dfm", colour=(0.9, 0.3, 0.2))))
    here = swap_score.score_engine(engine, scene)  # closes it: whatever is painted from now on is remembered
    engine.place(Placement(scale=0.8))
    smaller = swap_score.score_engine(engine, scene)
    assert here["swapped"] == smaller["swapped"] == 1.0
    assert smaller["face_psnr_db"] != here["face_psnr_db"]


def test_a_cell_is_scored_at_its_marks_and_its_clock_counts_training_alone(stage: Ground, tmp_path: Path) -> None:
    cell = Cell("tiny", replace(TINY, iterations=None, minutes=SECONDS / 60, seed=3), (0.5, 1.0))
    result = run_cell(cell, stage, tmp_path)
    half, end = result["snapshots"]
    assert half["elapsed_s"] == pytest.approx(SECONDS / 2, rel=0.5)
    assert end["elapsed_s"] == pytest.approx(SECONDS, rel=0.3)
    assert 0 < half["iteration"] < end["iteration"] == result["steps"]
    assert result["samples"] == result["steps"] * TINY.batch
    assert result["held_out"]["iteration"] == result["steps"]
    assert half["placed"] is end["placed"] is None
    assert set(swap_score.METRICS) <= set(end["raw"])
    assert (tmp_path / "models" / "tiny-3.dfm").is_file()
    assert not list((tmp_path / "running").iterdir())


def test_exporting_at_marks_leaves_the_training_alone(stage: Ground, tmp_path: Path) -> None:
    config = replace(TINY, iterations=8)
    for name, marks in (("whole", (1.0,)), ("marked", (0.25, 0.75, 1.0))):
        run_cell(Cell(name, config, marks), stage, tmp_path)
    whole, marked = (tmp_path / "models" / f"{name}-0.dfm" for name in ("whole", "marked"))
    assert whole.read_bytes() == marked.read_bytes()


def test_a_finished_cell_is_read_and_never_trained_again(stage: Ground, tmp_path: Path) -> None:
    cell = Cell("tiny", TINY)
    cell.result_in(tmp_path).parent.mkdir()
    cell.result_in(tmp_path).write_text(json.dumps({"name": "tiny", "steps": 7}), encoding="utf-8")
    assert run_cells([cell], stage, tmp_path) == [{"name": "tiny", "steps": 7}]


def test_an_interrupted_cell_is_not_finished(stage: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def terminated(config: TrainConfig, progress: Progress) -> float:
        signal.raise_signal(signal.SIGTERM)
        return 0.0

    monkeypatch.setattr(cells, "_share", terminated)
    with pytest.raises(KeyboardInterrupt):
        run_cell(Cell("tiny", replace(TINY, iterations=50), (0.5, 1.0)), stage, tmp_path)
    assert not (tmp_path / "cells").exists()


def test_rows_say_precision_share_of_the_minutes_and_samples() -> None:
    rows = quality.read_rows(["light-128", "light-128/3", "light-128+fp32", "tiny-64@light-128"], 6)
    assert [row.config.minutes for row in rows[:3]] == [6, 2, 6]
    assert rows[2].config.precision == "fp32"
    cell = rows[3].cell(1, {("light-128", 1): 801})
    assert (cell.config.iterations, cell.config.minutes, cell.seed) == (100, None, 1)


@pytest.mark.parametrize("texts", [["light-128", "light-128"], ["light-128@df"], ["nothing-7"], ["light-128/0"]])
def test_rows_that_cannot_be_run_are_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError):
        quality.read_rows(texts, 5)


def points(*values: float, refused: int = 0) -> list[dict[str, Any]]:
    return [
        {"elapsed_s": {"mean": 10.0 * (i + 1)}, "flicker": {"mean": v}, "swapped": {"mean": float(i >= refused)}}
        for i, v in enumerate(values)
    ]


def test_reaching_is_interpolated_and_knows_which_way_is_better() -> None:
    assert quality.reach("flicker", points(9, 7, 3), 5) == (25.0, False)
    assert quality.reach("flicker", points(4, 3), 5) == (10.0, True)
    assert quality.reach("flicker", points(9, 8), 5) is None


def test_frames_that_were_not_swapped_reach_nothing() -> None:
    assert quality.reach("flicker", points(4, 4, 9, 3, refused=2), 6) == (35.0, False)


def test_the_command_trains_rows_and_reports_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quality, "load_recipe", lambda name: replace(TINY, name=name))
    monkeypatch.setattr(quality, "MARKS", (0.5, 1.0))
    monkeypatch.setattr(ground, "SCENE", BRIEF)
    report_file, plot = tmp_path / "report.json", tmp_path / "plot.png"
    arguments = ["--recipes", "ours", "theirs", "--minutes", str(SECONDS / 60), "--seeds", "1", "--jobs", "2"]
    arguments += ["--work", str(tmp_path / "work"), "--facesets", str(folder), "--frames", "5", "--every", "4"]
    arguments += ["--run-up", "1", "--json", str(report_file), "--plot", str(plot)]
    assert quality.main(arguments) == 0
    report = json.loads(report_file.read_text(encoding="utf-8"))
    ours, theirs = report["rows"]["ours"], report["rows"]["theirs"]
    assert min(row["samples"]["mean"] for row in (ours, theirs)) >= TINY.batch
    assert [point["mark"] for point in ours["curve"]] == [0.5, 1.0]
    assert set(report["reaches"]["theirs"]) == set(swap_score.METRICS)
    assert "transfer" in capsys.readouterr().out
    assert cv2.imread(str(plot)) is not None


def test_the_command_says_in_one_sentence_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality.main(["--recipes", "nothing-7", "--work", str(tmp_path)]) == 2
    assert "nothing-7" in capsys.readouterr().err


def test_what_was_prepared_is_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground, "SCENE", BRIEF)
    first = prepare(tmp_path, frames=6, every=4, run_up=0)  # films and extracts, too
    said: list[str] = []
    again = prepare(tmp_path, frames=6, every=4, run_up=0, say=said.append)
    assert said == ["rendering the scene"]
    assert first.identity == again.identity == tmp_path / "identity-faces"
    assert (first.performer / "faceset.json").is_file()
