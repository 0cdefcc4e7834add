"""What is said of the recipes is true: computed where it can be, measured where it has to be, and else not said."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from realtime.errors import UsageError
from training.config import TrainConfig, list_recipes, load_recipe
from training.model import ModelConfig
from training.models import count_macs
from training.presets import (
    Measured,
    PresetRow,
    Scored,
    count_stored_and_needed,
    fingerprint,
    preset_rows,
    read_measured,
)

SAID = 0.02
"""How far a rounded figure in a recipe's text may be from the computed one."""
SEEN = Measured("a processor, 2 cores", "cpu", 1, "bf16", 900, 0.5)
GIVEN = Scored("a processor, 2 cores", 5.0, 3, 0.6, 0.8)


@pytest.fixture(name="rows", scope="module")
def _rows() -> dict[str, PresetRow]:
    return {row.name: row for row in preset_rows()}


def write_measured(path: Path, config: TrainConfig) -> Path:
    key = {"recipe": config.name, "fingerprint": fingerprint(config)}
    path.write_text(json.dumps({"measured": [key | asdict(SEEN)], "scored": [key | asdict(GIVEN)]}))
    return path


def test_there_is_a_row_for_every_recipe_and_the_family_grows(rows: dict[str, PresetRow]) -> None:
    assert list(rows) == [recipe.name for recipe in list_recipes()]
    family = [rows[name] for name in ("tiny-64", "light-128", "base-192", "df-256", "large-320")]
    assert [row.resolution for row in family] == [64, 128, 192, 256, 320]
    for less, more in pairwise(family):
        assert less.gmac < more.gmac
        assert less.swap_parameters < more.swap_parameters < more.parameters


@pytest.mark.parametrize("name", ["tiny-64", "light-128", "base-192", "df-256", "large-320"])
def test_what_a_recipe_says_about_itself_is_true(name: str, rows: dict[str, PresetRow]) -> None:
    row = rows[name]
    claims = {
        r"([\d.]+) px": row.resolution,
        r"([\d.]+) GMAC": row.gmac,
        r"([\d.]+) M parameters": row.parameters / 1e6,
    }
    for pattern, true in claims.items():
        for said in re.findall(pattern, row.about):
            assert float(said) == pytest.approx(true, rel=SAID), pattern
    assert re.search(r"\d px", row.about)


def test_df_256_takes_two_thirds_of_what_deepfacelabs_takes(rows: dict[str, PresetRow]) -> None:
    assert rows["df-256"].gmac / rows["df-ud-256"].gmac == pytest.approx(2 / 3, abs=0.07)
    assert rows["df-256"].gmac == pytest.approx(19, abs=1)


def test_arithmetic_is_that_of_the_model(rows: dict[str, PresetRow]) -> None:
    with torch.device("meta"):
        assert rows["base-192"].gmac * 1e9 == count_macs(load_recipe("base-192").model)


def test_a_swap_needs_no_decoder_of_the_performer() -> None:
    config = ModelConfig(resolution=32, encoder=(2,), code_channels=1, code=3, decoder=(4,), residuals=0)
    decoder = (1 * 4 * 9 + 4) + (4 * 16 * 9 + 16)  # entry and Up, by hand
    stored, needed = count_stored_and_needed(config)
    assert stored - needed == decoder
    assert count_stored_and_needed(replace(config, people=5)) == (stored + 5 * 3, needed)


def test_measured_figures_count_for_the_recipe_that_was_measured_and_no_other(tmp_path: Path) -> None:
    config = load_recipe("tiny-64")
    rows = {row.name: row for row in preset_rows(write_measured(tmp_path / "measured.json", config))}
    assert rows["tiny-64"].measured == (SEEN,)
    assert rows["tiny-64"].scored == (GIVEN,)
    assert rows["tiny-64"].steps_in_its_time(SEEN) == 60 * 60 / 0.5
    assert not rows["light-128"].measured
    assert not rows["light-128"].scored
    changed = replace(config, model=replace(config.model, code=193))
    rows = {row.name: row for row in preset_rows(write_measured(tmp_path / "measured.json", changed))}
    assert not rows["tiny-64"].measured
    assert not rows["tiny-64"].scored


def test_budget_and_text_do_not_change_what_a_recipe_is() -> None:
    config = load_recipe("tiny-64")
    same = replace(config, about="other words", minutes=3.0, seed=5, threads=1, evaluate_every=7, name="mine")
    assert fingerprint(same) == fingerprint(config)
    for other in (replace(config, batch=4), replace(config, loss=replace(config.loss, frequency=1.0))):
        assert fingerprint(other) != fingerprint(config)


def test_without_a_file_nothing_is_said(tmp_path: Path) -> None:
    assert not any(row.measured or row.scored for row in preset_rows(tmp_path / "absent.json"))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"measured": [], "scored": [{"recipe": "tiny-64"}]}',
        '{"measured": [{"recipe": 1, "fingerprint": "x"}], "scored": []}',
    ],
)
def test_a_damaged_file_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is damaged; write it anew with"):
        read_measured(path)


def test_the_shipped_figures_name_their_machine_and_a_recipe_that_exists() -> None:
    facts = read_measured()
    known = {recipe.name for recipe in list_recipes()}
    for entry in [*facts["measured"], *facts["scored"]]:
        assert entry["recipe"] in known
        assert entry["machine"]
    assert all(entry["memory_mib"] > 100 and entry["step_s"] > 0 for entry in facts["measured"])


def test_rows_are_plain_values_for_json(rows: dict[str, PresetRow]) -> None:
    again = json.loads(json.dumps([row.to_json() for row in rows.values()]))
    assert [each["name"] for each in again] == list(rows)
    assert set(again[0]) >= {"resolution", "gmac", "parameters", "swap_parameters", "minutes", "measured", "scored"}
