"""The benchmark that makes and measures what tells people apart, on people made of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.identity import DIMENSIONS, MODEL, Looks, compare, group, learn, measure, vectors

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "identity.json"
PEOPLE, MOMENTS, FEATURES = 60, 12, 40


@pytest.fixture(scope="module")
def looks() -> Looks:
    """People differ in the last half of the features; noise, direction and light are much stronger in the first."""
    rng = np.random.default_rng(5)
    person = np.repeat(np.arange(PEOPLE), MOMENTS)
    side = rng.normal(0, 0.3, (len(person), 2))
    powers = np.column_stack([np.ones(len(person)), side, side**2, side.prod(axis=1), side[:, 0] ** 3])
    noise = np.concatenate([np.full(FEATURES // 2, 5.0), np.full(FEATURES // 2, 0.3)])
    values = rng.normal(0, noise, (len(person), FEATURES)) + powers @ rng.normal(0, 3, (7, FEATURES))
    values[:, FEATURES // 2 :] += rng.normal(0, 1, (PEOPLE, FEATURES // 2))[person]
    return Looks(person, values, powers)


def test_what_is_learned_tells_strangers_apart_and_the_raw_features_do_not(looks: Looks) -> None:
    known, strange = looks.of(np.arange(30)), looks.of(np.arange(30, PEOPLE))
    model = learn(known)
    assert model.shape == (7 + DIMENSIONS, FEATURES)
    report = measure(strange, model)
    assert report["compared"]["3"]["equal_error"] < 0.02
    raw = [strange.features[strange.person == each] for each in range(30, PEOPLE)]
    assert compare(raw, 3)["equal_error"] > 0.3


def test_the_direction_of_a_face_does_not_move_its_vector(looks: Looks) -> None:
    model = learn(looks)
    explained = vectors(Looks(looks.person, looks.powers @ model[:7].astype(np.float64), looks.powers), model)
    assert np.abs(explained).max() < 1e-6


def test_tracks_are_counted_in_the_groups_of_their_people() -> None:
    here, there = np.zeros((12, 24)), np.zeros((12, 24))
    there[:, 0] = 50
    assert group([here, there]) == {"tracks": 8, "groups": 2, "purity": 1.0, "found": 1.0}
    assert group([here, here]) == {"tracks": 8, "groups": 1, "purity": 0.5, "found": 1.0}


def test_the_product_has_the_projection_and_the_figures_that_were_measured() -> None:
    assert np.load(MODEL, allow_pickle=False).shape == (7 + DIMENSIONS, 888)
    report = json.loads(RESULTS.read_text("utf-8"))
    text = (MODEL.parent / "identity.py").read_text("utf-8")
    errors = [report["compared"][count]["equal_error"] for count in ("1", "3", "6")]
    assert "      ".join(f"{100 * error:.1f} %" for error in errors) in text
    assert f"{100 * report['groups']['purity']:.0f} % is one person" in text
