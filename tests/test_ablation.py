"""The ablation changes one thing at a time, and says that something is better only when every seed says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from benchmarks import ablation
from benchmarks.cells import Cell
from benchmarks.variants import VARIANTS, Variant, change, changes
from realtime.errors import UsageError
from training.config import TrainConfig, load_recipe
from training.schedule import learning_rate


@pytest.fixture
def recipe() -> TrainConfig:
    return load_recipe("light-128")


def test_every_variant_makes_a_valid_recipe_and_names_are_unique(recipe: TrainConfig) -> None:
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
    changed = [variant.name for variant in VARIANTS if changes(variant, recipe)]
    assert {"no-bf16", "no-average", "no-align", "rate-x2", "batch-4", "frequency", "ms-ssim"} <= set(changed)


def test_a_variant_changes_what_it_names_and_nothing_else(recipe: TrainConfig) -> None:
    constant = next(variant for variant in VARIANTS if variant.name == "constant-rate").apply(recipe)
    assert constant == change(recipe, {"decay_from": 1.0})
    assert learning_rate(constant, 10_000, 0.99) == pytest.approx(recipe.learning_rate)


def test_a_setting_that_does_not_exist_is_refused(recipe: TrainConfig) -> None:
    with pytest.raises(UsageError, match="magic"):
        Variant("magic", "with", {"loss.magic": 1.0}, "").apply(recipe)


def test_what_a_recipe_does_not_have_is_not_taken_away(recipe: TrainConfig) -> None:
    without = change(recipe, {"loss.edges": 0.0})
    assert "no-edges" in {variant.name for variant in ablation.choose(None, recipe)}
    assert "no-edges" not in {variant.name for variant in ablation.choose(None, without)}


def test_the_ladder_ends_with_the_recipe(recipe: TrainConfig) -> None:
    rungs = ablation.ladder(recipe)
    assert rungs[0][0] == "00 plain"
    assert rungs[0][1].precision == "fp32"
    assert rungs[1][1].precision == recipe.precision
    assert rungs[-1][1] == recipe
    assert len({json.dumps(rung.to_dict(), sort_keys=True) for _, rung in rungs}) > len(rungs) - 3


@pytest.mark.parametrize(
    ("kind", "transfer", "ssim", "verdict"),
    [
        ("without", [-0.02, -0.03], [-0.01, -0.004], "kept"),
        ("without", [0.02, 0.03], [0.0, 0.001], "to drop"),
        ("with", [0.02, 0.03], [0.01, 0.004], "to add"),
        ("with", [-0.02, -0.03], [0.0, 0.0], "left out"),
        ("with", [-0.02, -0.03], [0.01, 0.02], "mixed"),
        ("with", [-0.02, 0.08], [0.001, 0.001], "no difference"),
        ("with", [0.5], [0.5], "no difference"),
    ],
)
def test_a_difference_counts_when_every_seed_agrees(
    kind: str, transfer: list[float], ssim: list[float], verdict: str
) -> None:
    assert ablation.judge(kind, {"identity_transfer": transfer, "face_ssim": ssim}) == verdict


def cell(name: str, seed: int, transfer: float, placed: bool = True) -> dict[str, Any]:
    scores = {"identity_transfer": transfer, "face_ssim": 0.8, "face_psnr_db": 25.0}
    last = {"raw": scores | {"identity_transfer": 0.0} if placed else scores, "placed": scores if placed else None}
    return {
        "name": name,
        "seed": seed,
        "steps": 10,
        "samples_per_s": 5.0,
        "held_out": {"score": 0.7},
        "snapshots": [last],
    }


def test_finished_cells_become_a_report_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Cell] = []

    def finished(cells: list[Cell], *_: Any, **__: Any) -> list[dict[str, Any]]:
        asked.extend(cells)
        worth = {"light-128": 0.8, "no-align": 0.7, "batch-4": 0.85}
        return [cell(each.name, each.seed, worth.get(each.name, 0.5) + each.seed / 100) for each in cells]

    monkeypatch.setattr(ablation, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(ablation, "run_cells", finished)
    report_file, plot = tmp_path / "report.json", tmp_path / "plot.png"
    arguments = ["--work", str(tmp_path), "--only", "no-align", "batch-4", "--ladder", "--minutes", "0.5"]
    assert ablation.main([*arguments, "--json", str(report_file), "--plot", str(plot)]) == 0
    assert [each.seed for each in asked] == sorted(each.seed for each in asked)
    assert {each.config.minutes for each in asked} == {0.5}
    report = json.loads(report_file.read_text(encoding="utf-8"))
    assert report["rows"]["no-align"]["verdict"] == "kept"
    assert report["rows"]["batch-4"]["verdict"] == "to add"
    assert report["rows"]["batch-4"]["mean_difference"]["identity_transfer"] == pytest.approx(0.05)
    assert next(iter(report["ladder"])) == "00 plain"
    assert "kept" in capsys.readouterr().out
    assert cv2.imread(str(plot)) is not None


def test_a_model_that_could_not_be_placed_counts_as_it_paints() -> None:
    found = ablation.differences([cell("a", 0, 0.4, placed=False)], [cell("b", 0, 0.5)])
    assert found["identity_transfer"] == [-0.1]


def test_the_list_names_every_variant(capsys: pytest.CaptureFixture[str]) -> None:
    assert ablation.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert all(variant.name in shown for variant in VARIANTS)


@pytest.mark.parametrize("arguments", [["--only", "nothing", "--work", "x"], ["--only", "adam"]])
def test_a_call_that_cannot_work_gets_one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ablation.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
