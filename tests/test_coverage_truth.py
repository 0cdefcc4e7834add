"""The benchmark plants what it says, ranks rightly, and goes on where it was interrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import coverage_truth
from benchmarks.coverage_score import auc, draw, make_report, show, spearman
from benchmarks.coverage_sets import CLEAN, DEFECTS, SHOT, Cast, Defect, Studio, performance
from benchmarks.coverage_truth import Job, film, main, predict_all, run_job
from tests.tiny_run import TINY
from training.coverage import cover
from training.coverage_facts import read_facts
from training.coverage_verdict import judge
from training.faceset import Faceset

BRIEF = 6
"""Moments."""
PLANTED = 240
"""Moments of sets that are large enough to be judged."""
BY_NAME = {defect.name: defect for defect in DEFECTS}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("studio"), Cast.random(7, BRIEF))


def opened(studio: Studio, defect: Defect) -> Faceset:
    return Faceset.open(studio.make(defect))


def test_ranks_that_agree_are_one_and_ties_share_their_rank() -> None:
    assert spearman([0.1, 0.2, 0.9], [1, 5, 6]) == pytest.approx(1)
    assert spearman([0.1, 0.2, 0.9], [6, 5, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9487, abs=1e-4)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0


def test_the_worst_quarter_is_told_apart_by_chance_or_wholly() -> None:
    error = [0.1, 0.2, 0.3, 0.9]
    assert auc([0, 0, 0, 1], error) == 1
    assert auc([1, 1, 1, 0], error) == 0
    assert auc([0.5] * 4, error) == 0.5
    assert auc([0.1, 0.2], [0.5, 0.5]) is None


def test_defects_are_planted_where_they_arise() -> None:
    cast = Cast.random(7, 40)
    clean, frontal = (performance(cast, "identity", each) for each in (CLEAN, BY_NAME["frontal-8"]))
    assert max(abs(pose.yaw) for pose in frontal) <= 8 < max(abs(pose.yaw) for pose in clean)
    lit = performance(cast, "identity", BY_NAME["night"])
    assert {(pose.kelvin, pose.key) for pose in lit} == {(2900.0, 0.3)}
    assert [pose.jaw for pose in lit] == [pose.jaw for pose in clean]
    assert sum(pose.hand for pose in performance(cast, "identity", BY_NAME["hand-30"])) == 12
    assert performance(cast, "performer") != clean


def test_sets_hold_what_their_defects_leave(studio: Studio) -> None:
    clean = opened(studio, CLEAN)
    assert len(clean) == BRIEF
    assert all(record.measures is not None for record in clean.records)
    assert len(opened(studio, replace(CLEAN, name="two", faces=2))) == 2
    half = opened(studio, BY_NAME["half-size"])
    assert half.records[0].native_px == pytest.approx(clean.records[0].native_px / 2, rel=0.05)
    cut = opened(studio, replace(CLEAN, name="cut", cuts=True))
    assert {record.track for record in cut.records} == set(range(BRIEF // SHOT))
    mixed = opened(studio, replace(CLEAN, name="mixed", strangers=0.5))
    assert [record.track for record in mixed.records] == [0, 0, 0, 1, 1, 1]


def test_a_set_is_made_once(studio: Studio) -> None:
    path = studio.make(CLEAN)
    before = (path / "faceset.json").stat().st_mtime_ns
    assert studio.make(CLEAN) == path
    assert (path / "faceset.json").stat().st_mtime_ns == before


def test_a_job_trains_scores_every_frame_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("FILMED", 12), ("EVERY", 4), ("RUN_UP", 1)):
        monkeypatch.setattr(coverage_truth, name, value)
    config = replace(TINY, name="light-128", iterations=3)
    job = Job(CLEAN, 7, BRIEF, config, tmp_path, 1)
    film(job)
    result = run_job(job)
    assert [frame["index"] for frame in result["frames"]] == [3, 7, 11]
    assert all(0 <= frame["score"] <= 1 for frame in result["frames"])
    monkeypatch.setattr(coverage_truth, "run_cell", None)
    assert run_job(job) == result
    console = Console(width=140)
    report = make_report({(7, "clean"): result}, predict_all([job], console))
    show(report, console)
    draw(report, tmp_path / "plot.png")
    assert json.loads(json.dumps(report))["rows"][0]["cause"] == ""
    assert "planted cause named first: 0 of 0" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def said(predicted: float, first: str, risk: list[float]) -> dict[str, Any]:
    frames = dict(enumerate(risk))
    return {"predicted": predicted, "level": "WARN", "first": first, "sentence": "", "losses": {}, "risk": frames}


def test_a_report_counts_each_cast_for_itself() -> None:
    results, predicted = {}, {}
    for cast in (1, 2):
        for number, (name, cause) in enumerate((("clean", ""), ("frontal-8", "pose"), ("faces-10", "identity few"))):
            errors = np.linspace(0.1, 0.3, 8) + 0.2 * number
            scores = [{"index": i, "score": float(1 - error)} for i, error in enumerate(errors)]
            frames = [
                {**each, "identity_transfer": 0.5, "face_ssim": each["score"], "face_psnr_db": 20.0, "swapped": 1.0}
                for each in scores
            ]
            results[cast, name] = {"frames": frames, "steps": 3}
            predicted[cast, name] = said(0.9 - 0.2 * number + 0.01 * cast, cause, (errors + cast).tolist())
    report = make_report(results, predicted)
    assert report["spearman"] == 1
    assert report["auc"] == report["auc_by_score"] == 1
    assert report["auc_by_cast"] == {"1": 1, "2": 1}
    assert report["auc_within"] == 1
    assert report["first_finding_right"] == "4 of 4"


def test_a_set_that_nobody_makes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--work", str(tmp_path), "--only", "profile"]) == 2
    assert "there is no set 'profile'; choose among clean" in capsys.readouterr().err


@pytest.mark.slow
def test_each_cause_that_is_planted_in_rendered_sets_is_named_first(tmp_path: Path) -> None:
    studio = Studio(tmp_path, Cast.random(41, PLANTED))
    performer = read_facts(Faceset.open(studio.make(CLEAN, "performer")))
    for defect in DEFECTS:
        verdict = judge(cover(read_facts(opened(studio, defect)), performer))
        if defect.cause:
            assert verdict.findings[0].cause.split(" ")[-1] == defect.cause, defect.name
        else:
            assert verdict.level == "GO", verdict
