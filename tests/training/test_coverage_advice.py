"""Which preset is advised, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realtime.errors import UsageError
from tests.covered import facts
from training.config import DEFAULT_MINUTES, list_recipes
from training.coverage import cover
from training.coverage_advice import advise, choose, find_offer, read_offers

PERFORMER = facts("performer", seed=1)
RECIPE = 'about = "x"\n[model]\nresolution = 128\n'


def high(pixels: float) -> np.ndarray:
    return np.full(400, pixels)


def test_the_offers_are_our_own_presets_as_the_trainer_reads_them() -> None:
    offers = {offer.name: offer for offer in read_offers()}
    own = {recipe.name: recipe for recipe in list_recipes() if recipe.style == "liveswap"}
    assert offers.keys() == own.keys()
    for name, recipe in own.items():
        assert offers[name].resolution == recipe.model.resolution
        assert offers[name].crop == recipe.crop
        budget = DEFAULT_MINUTES if recipe.minutes is None else recipe.minutes
        assert offers[name].minutes == budget


@pytest.mark.parametrize(
    ("pixels", "preset"),
    [(40, "tiny-64"), (75, "tiny-64"), (95, "light-128"), (150, "light-128"), (190, "base-192"), (400, "large-320")],
)
def test_the_preset_fits_what_both_films_hold(pixels: float, preset: str) -> None:
    offers = read_offers()
    small, large = (replace(facts(), native_px=high(pixels)), replace(PERFORMER, native_px=high(900)))
    assert choose(offers, small, large).name == preset
    assert (
        choose(offers, replace(facts(), native_px=high(900)), replace(PERFORMER, native_px=high(pixels))).name == preset
    )


def test_what_was_measured_is_expected_less_what_is_not_covered(tmp_path: Path) -> None:
    (tmp_path / "light-128.toml").write_text(RECIPE)
    score = {"recipe": "light-128", "identity_transfer": 0.8, "minutes": 60, "machine": "two cores"}
    (tmp_path / "measured.json").write_text(json.dumps({"measured": [], "scored": [score]}))
    found = cover(facts(yaw=15), PERFORMER)
    advice = advise(found, read_offers(tmp_path)[0], chosen=False)
    assert advice.expected_transfer == pytest.approx(0.8 * found.score, abs=1e-3)
    assert "gave 0.80 in 60 minutes on two cores" in advice.sentence


def test_without_a_measurement_only_the_share_is_promised() -> None:
    found = cover(facts(), PERFORMER)
    advice = advise(found, find_offer(read_offers(), "light-128"), chosen=True)
    assert (
        f"about {100 * found.score:.0f} % of what it gives" in advice.sentence or advice.expected_transfer is not None
    )
    assert "as you chose" in advice.sentence


def test_crops_that_hold_less_than_film_and_preset_are_to_be_made_again() -> None:
    large = replace(facts(), native_px=high(260)), replace(PERFORMER, native_px=high(260))
    advice = advise(cover(*large), find_offer(read_offers(), "large-320"), chosen=False)
    assert advice.size == 320
    assert "with --size 320 first" in advice.sentence
    small = advise(cover(facts(), PERFORMER), find_offer(read_offers(), "light-128"), chosen=False)
    assert small.size is None


@pytest.mark.parametrize("text", ["resolution = [", "[model]\nresolution = 'x'\n", "[model]\n"])
def test_a_damaged_recipe_is_told_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UsageError, match="not a readable recipe"):
        read_offers(tmp_path)


def test_damaged_measurements_are_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(RECIPE)
    (tmp_path / "measured.json").write_text("[]")
    with pytest.raises(UsageError, match="is damaged"):
        read_offers(tmp_path)
