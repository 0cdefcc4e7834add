"""Two small facesets and a finished run, made once for all tests of the export rooms."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Facesets of 12 face-like crops each, by side; not to be changed."""
    from tests.tiny_run import write_people

    return write_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="session")
def finished_run(people: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of five steps; not to be changed."""
    from tests.tiny_run import train_tiny

    return train_tiny(people, tmp_path_factory.mktemp("run") / "run")
