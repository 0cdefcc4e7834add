"""Every reader reads or refuses whatever it is given: a little fuzzing, and all files that ever broke one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fuzzing.readers import READERS
from tests.fuzzing.run import GROWTH_MB, Worker, fuzz

FOUND = Path(__file__).parent / "data" / "fuzzing"
"""FOLDER/READER/WHAT-IT-WAS-NAME: a damaged file that once broke a reader; NAME is the genuine file's."""
CASES = 25
pytestmark = pytest.mark.skipif(
    "not __import__('sys').platform.startswith('linux')", reason="limits memory as Linux does"
)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    tally = fuzz(name, tmp_path, cases=CASES, seed=7)
    assert not tally.findings, "\n".join(tally.findings)
    assert sum(tally.outcomes.values()) == CASES


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: path.name)
def test_what_once_broke_a_reader_does_so_no_more(path: Path, tmp_path: Path) -> None:
    reader = READERS[path.parent.name]
    reader.make(tmp_path)
    genuine = {each.name: each for pattern in reader.damaged for each in tmp_path.glob(pattern)}
    name = next(name for name in sorted(genuine, key=len, reverse=True) if path.name.endswith(name))
    with Worker(path.parent.name) as worker:
        usual = worker.read(tmp_path, 60)
        shutil.copy(path, genuine[name])
        told = worker.read(tmp_path, 60)
    assert told["what"] in ("read", "refused"), told["said"]
    assert told["peak_mb"] < usual["peak_mb"] + GROWTH_MB


def test_a_reader_that_breaks_is_noticed(tmp_path: Path) -> None:
    with Worker("settings") as worker:
        assert worker.read(tmp_path / "nothing")["what"] == "refused"
    with Worker("faceset") as worker:  # iterating over a folder that is not there is an OSError
        assert worker.read(tmp_path / "nothing", 60)["what"] == "broken"
