"""`liveswap train --preset list` says what every recipe costs, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from liveswap import main
from training.config import list_recipes


def test_the_list_has_a_line_and_a_sentence_for_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--preset", "list"]) == 0
    said = capsys.readouterr().out
    for recipe in list_recipes():
        assert f" {recipe.name} " in said
        assert f"{recipe.name}: {recipe.about}" in said
    assert max(map(len, said.splitlines())) <= 160


def test_the_list_as_json_has_the_figures(tmp_path: Path) -> None:
    assert main(["train", "--preset", "list", "--quiet", "--json", str(tmp_path / "list.json")]) == 0
    rows = json.loads((tmp_path / "list.json").read_text())["presets"]
    assert [row["name"] for row in rows] == [recipe.name for recipe in list_recipes()]
    light = next(row for row in rows if row["name"] == "light-128")
    assert light["resolution"] == 128
    assert 0.4 < light["gmac"] <= 0.6


def test_training_needs_facesets_and_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "here"]) == 2
    assert "IDENTITY_FACESET" in capsys.readouterr().err
