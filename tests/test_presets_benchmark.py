"""The benchmark of the recipes trains for real, and puts its figures where the list of recipes finds them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.presets import main, merge, scores_of
from training.config import load_recipe
from training.presets import preset_rows


def test_a_measured_recipe_gets_its_memory_and_time(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    assert main(["--recipes", "tiny-64", "--steps", "3", "--json", str(path)]) == 0
    row = next(row for row in preset_rows(path) if row.name == "tiny-64")
    (seen,) = row.measured
    assert 0 < seen.step_s < 60
    assert 200 < seen.memory_mib < 8000
    assert seen.machine
    assert seen.threads == 1
    assert row.scored == ()


def test_scores_come_from_reports_of_quality_and_only_for_recipes_as_they_stand(tmp_path: Path) -> None:
    score = {
        name: {"mean": value, "min": value, "max": value}
        for name, value in (("identity_transfer", 0.5), ("face_ssim", 0.7))
    }
    rows = {
        name: {"raw": score, "seeds": [0, 1], "config": load_recipe("tiny-64").to_dict()}
        for name in ("tiny-64", "tiny-64/3")
    }
    report = {"rows": rows, "minutes": 2.0, "machine": {"cpu": "one", "cores": 2}}
    (entry,) = scores_of(report)
    assert (entry["recipe"], entry["machine"], entry["minutes"], entry["seeds"]) == ("tiny-64", "one, 2 cores", 2.0, 2)
    quality, path = tmp_path / "quality.json", tmp_path / "measured.json"
    quality.write_text(json.dumps(report))
    for _ in range(2):  # the same report again says nothing new
        assert main(["--recipes", "--scores", str(quality), "--json", str(path)]) == 0
    row = next(row for row in preset_rows(path) if row.name == "tiny-64")
    assert [(each.identity_transfer, each.face_ssim, each.minutes) for each in row.scored] == [(0.5, 0.7, 2.0)]


def test_new_figures_replace_those_of_the_same_machine_alone() -> None:
    old = [{"recipe": "df-256", "machine": m, "step_s": 1} for m in ("here", "there")]
    new = [{"recipe": name, "machine": "here", "step_s": 2} for name in ("tiny-64", "df-256")]
    merged = merge(old, new, ("machine",))
    assert [(each["recipe"], each["machine"], each["step_s"]) for each in merged] == [
        ("tiny-64", "here", 2),
        ("df-256", "there", 1),
        ("df-256", "here", 2),
    ]


def test_a_report_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "quality.json").write_text("{")
    assert main(["--recipes", "--scores", str(tmp_path / "quality.json")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
