"""Strangers are filmed, pooled, trained on and scored; what was filmed before is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from benchmarks import ground, many_performers
from benchmarks.cells import Cell, run_cell
from benchmarks.ground import Ground
from benchmarks.performers import film_performers, gather
from realtime.actors import Scene
from tests.tiny_run import TINY, write_person
from training.faceset import Faceset

BRIEF = Scene(frames=4, fps=30, seed=303, hand=False, size=(320, 240), supersample=1)


def test_performers_are_filmed_once_and_pooled_with_a_source_each(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    films = film_performers(tmp_path, [3, 4], 3, processes=1, on_progress=lambda *share: done.append(share))
    assert done == [(1, 2), (2, 2)]
    films[0].unlink()
    kept = films[1].stat().st_mtime_ns
    assert film_performers(tmp_path, [3, 4], 3, processes=1) == films
    assert films[1].stat().st_mtime_ns == kept
    gather(films, tmp_path / "faces", size=64)
    gather(films, tmp_path / "faces", size=64)
    faceset = Faceset.open(tmp_path / "faces")
    assert [record.source for record in faceset.records] == [0, 0, 0, 1, 1, 1]
    assert len({round(record.yaw) for record in faceset.records}) > 3  # moments far apart do not look alike


def test_the_command_scores_both_kinds_of_models_on_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(cells: list[Cell], stage: Ground, work: Path, **_: Any) -> list[dict[str, Any]]:
        return [run_cell(cell, stage, work) for cell in cells]

    monkeypatch.setattr(many_performers, "run_cells", here)
    monkeypatch.setattr(many_performers, "load_recipe", lambda name: replace(TINY, name=name))
    monkeypatch.setattr(many_performers, "STRANGERS", replace(BRIEF, seed=0))
    monkeypatch.setattr(many_performers, "EVERY", 4)
    monkeypatch.setattr(many_performers, "RUN_UP", 1)
    monkeypatch.setattr(ground, "SCENE", BRIEF)
    monkeypatch.setattr(many_performers, "prepare", lambda *a, **k: ground.prepare(*a, **k, every=4, run_up=1))
    for who in ("identity", "performer"):
        write_person(tmp_path / f"{who}-faces", who)
    report_file, plot = tmp_path / "report.json", tmp_path / "plot.png"
    arguments = ["--work", str(tmp_path / "work"), "--facesets", str(tmp_path), "--performers", "2", "--frames", "2"]
    arguments += ["--unseen", "1", "--told-apart", "--minutes", "0.01", "--processes", "1"]
    assert many_performers.main([*arguments, "--json", str(report_file), "--plot", str(plot)]) == 0
    report = json.loads(report_file.read_text(encoding="utf-8"))
    assert list(report["rows"]) == ["1 performer", "2 performers", "2 performers, told apart"]
    assert report["no_swap"]["identity_transfer"]["mean"] == pytest.approx(0, abs=1e-3)
    for row in report["rows"].values():
        assert len(row["by_stranger"]) == 1
        assert row["steps"]["mean"] >= 1
        assert row["unseen"]["face_ssim"]["mean"] == pytest.approx(row["by_stranger"][0]["face_ssim"])
    assert "2 performers" in capsys.readouterr().out
    assert cv2.imread(str(plot)) is not None
