"""A stranger's files can be refused, never obeyed: no code runs, nothing is written elsewhere, memory stays bounded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.training.hostile import KINDS

SHARE = {"jpg": 12, "png": 12, "pak": 8, "json": 8, "set": 10}
"""Cases that every run of the tests opens: 50."""
ALL = {"jpg": 140, "png": 120, "pak": 80, "json": 80, "set": 80}
"""500."""
MEMORY_MB = 700
"""More than the largest allowed files take when they are opened: 64 MB of packed alignments become lists."""
SECONDS = 60
"""Of the processor; the largest file of alignments that is allowed takes half of it."""
LONGEST = 700
"""Characters of a sentence, with the path of a folder of the tests in it."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_the_hostile_files_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    check(run_cases([(kind, seed) for seed in range(SHARE[kind])], tmp_path))


@pytest.mark.slow
def test_five_hundred_hostile_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    cases = [(kind, seed) for kind in KINDS for seed in range(1000, 1000 + ALL[kind])]
    assert len(cases) == 500
    check(run_cases(cases, tmp_path))


def run_cases(cases: list[tuple[str, int]], work: Path) -> list[dict[str, Any]]:
    """What became of each case in a process of its own, which must not crash."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.training.hostile_run", str(work)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        input=json.dumps(cases),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert "Traceback" not in answer.stderr
    results: list[dict[str, Any]] = json.loads(answer.stdout)
    assert len(results) == len(cases) + 1
    return results


def check(results: list[dict[str, Any]]) -> None:
    *cases, whole = results
    for each in cases:
        assert not each["canary"], each
        assert not each["forbidden"], each
        assert not each["said"].startswith("!"), each
        assert "\n" not in each["said"], each
        assert each["said"].isprintable(), each
        assert len(each["said"]) <= LONGEST, each
        assert each["seconds"] < SECONDS, each
    assert whole["grown_mb"] < MEMORY_MB, max(cases, key=lambda each: float(each["grown_mb"]))
    refused = [each for each in cases if not each["said"].endswith(" faces")]
    assert len(refused) > len(cases) / 3
