"""Distances, different looks and risks, on sets made of numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.covered import facts
from training.coverage import (
    FEW,
    FEW_COSTS,
    HALF,
    POSE_DEG,
    SAME_LOOK,
    WEIGHTS,
    best_shift,
    count_looks,
    cover,
    falling_short,
    judge_set,
    nearest_faces,
    take,
)
from training.coverage_facts import Floats
from training.coverage_findings import NOTED

PERFORMER = facts("performer", seed=1)


def test_the_distance_is_the_mean_to_the_five_nearest() -> None:
    there = np.array([[0.0], [1], [2], [3], [4], [100]])
    distances, first = nearest_faces(np.array([[0.0], [100]]), there)
    assert distances.tolist() == [2.0, (0 + 96 + 97 + 98 + 99) / 5]
    assert first.tolist() == [0, 5]


def test_a_set_of_two_has_only_two_neighbours() -> None:
    distances, _ = nearest_faces(np.array([[0.0, 0]]), np.array([[3.0, 4], [0, 1]]))
    assert distances.tolist() == [3.0]


def test_costs_rise_from_nothing_over_half_to_all() -> None:
    assert falling_short(np.array([0.0, HALF, 100 * HALF])) == pytest.approx([0, 0.5, 1], abs=1e-5)


def test_equal_faces_count_once() -> None:
    assert count_looks(np.zeros((50, 3))) == 1
    apart: Floats = np.arange(50.0)[:, None] * (SAME_LOOK * 1.01)
    assert count_looks(apart) == 50
    assert count_looks(np.concatenate([apart, apart + 0.1 * SAME_LOOK])) == 50


def test_a_resting_face_is_shifted_by_what_fits_and_no_more_than_people_differ() -> None:
    there, wanted = np.linspace(0, 1, 50), np.linspace(0.1, 1.1, 50)
    assert best_shift(there, wanted, 0.2) == pytest.approx(0.1, abs=0.03)
    assert best_shift(there, wanted + 5, 0.2) == pytest.approx(0.2)
    assert best_shift(there, there[10:40], 0.2) == 0


def test_two_well_filmed_sets_cover_each_other() -> None:
    found = cover(facts(), PERFORMER)
    assert found.score > 0.85
    assert max(found.loss(cause) for cause in found.costs) < 0.05


def test_a_person_with_other_brows_and_darker_skin_is_covered_as_well() -> None:
    own = facts()
    other = replace(
        own,
        expression=own.expression + np.array([0, 0, 0, 0.06]),
        light=own.light + np.array([0, 0, -2.0, 0.7]),
        skin=(-3.0, 1.5),
    )
    assert cover(other, PERFORMER).score == pytest.approx(cover(own, PERFORMER).score, abs=0.02)


def test_without_the_white_of_the_eyes_skin_is_told_from_light_roughly() -> None:
    own = facts()
    darker = replace(own, light=own.light + np.array([0, 0, -1.5, 0]), skin=None)
    assert cover(darker, PERFORMER).loss("light") < 0.05
    night = replace(own, light=own.light + np.array([0, 0, -4.5, 2.5]), skin=None)
    assert cover(night, PERFORMER).loss("light") > 0.1


@pytest.mark.parametrize("axis", ["pose", "expression", "light"])
def test_what_is_far_away_in_one_axis_costs_there_and_nowhere_else(axis: str) -> None:
    far = np.array(getattr(facts(), axis)) + 200.0
    changed: dict[str, Any] = {axis: far}
    before, after = cover(facts(), PERFORMER), cover(facts(**changed), PERFORMER)
    assert after.loss(axis) == pytest.approx(WEIGHTS[axis], abs=0.01)
    for other in {"pose", "expression", "light", "detail"} - {axis}:
        assert after.loss(other) == pytest.approx(before.loss(other), abs=0.01)


def test_only_the_frames_that_are_not_covered_are_at_risk() -> None:
    found = cover(facts(yaw=10), PERFORMER)
    turned = np.abs(PERFORMER.pose[:, 0]) > 10 + 3 * POSE_DEG
    assert found.risk[turned].min() > 0.4
    assert found.risk[np.abs(PERFORMER.pose[:, 0]) < 8].max() < 0.3


def test_half_the_pixels_cost_and_twice_as_many_do_not() -> None:
    half, twice = (replace(facts(), native_px=facts().native_px * factor) for factor in (0.5, 2.0))
    assert cover(half, PERFORMER).loss("detail") > WEIGHTS["detail"] / 3
    assert cover(twice, PERFORMER).loss("detail") < 0.01


def test_pixels_that_the_model_will_not_show_are_not_missed() -> None:
    half = replace(facts(), native_px=facts().native_px * 0.5)
    assert cover(half, PERFORMER, shown_px=90).loss("detail") < 0.01


def test_few_looks_cost_and_many_cost_nothing() -> None:
    few = cover(facts(faces=round(FEW)), PERFORMER)
    assert few.costs["identity few"][0] == pytest.approx(FEW_COSTS / 2, abs=0.05)
    assert cover(facts(), PERFORMER).costs["identity few"][0] < 0.02


def test_a_hundred_different_looks_are_enough() -> None:
    enough = cover(facts(faces=100), facts("performer", faces=100))
    assert max(enough.costs["identity few"][0], enough.costs["performer few"][0]) < NOTED
    assert cover(facts(faces=40), PERFORMER).costs["identity few"][0] > 3 * NOTED


def test_a_thousand_equal_faces_are_few() -> None:
    still = take(facts(), np.zeros(1000, np.intp))
    assert judge_set(still).effective == 1


def test_strangers_cost_and_are_left_out_of_what_covers() -> None:
    own = facts()
    person = (np.arange(len(own)) % 4 == 0).astype(np.intp)
    turned = np.where(person[:, None] > 0, np.array([80.0, 0]), own.pose)
    found = cover(replace(own, person=person, pose=turned), PERFORMER)
    assert found.quality["identity"].strangers == 0.25
    assert found.loss("identity mixed") > 0.2
    assert found.identity.pose[:, 0].max() < 45


def test_the_same_defect_costs_less_in_the_performers_set() -> None:
    person = (np.arange(400) % 4 == 0).astype(np.intp)
    found = cover(facts(), replace(PERFORMER, person=person))
    assert 0 < found.loss("performer mixed") < cover(replace(facts(), person=person), PERFORMER).loss("identity mixed")


def test_strangers_do_not_count_as_faces_with_something_in_front() -> None:
    stranger = (np.arange(400) < 100).astype(np.intp)
    quality = judge_set(facts(person=stranger, covered=np.where(stranger == 1, 0.5, 0.0)))
    assert (quality.strangers, quality.hidden) == (0.25, 0.0)


def test_what_is_in_front_of_a_handful_of_faces_cannot_be_judged() -> None:
    hidden = np.full(10, 0.5)
    few = cover(facts(faces=10, covered=hidden), facts("performer", faces=10, covered=hidden))
    assert few.quality["identity"].hidden == few.quality["performer"].hidden == 0
    assert few.loss("identity hidden") == few.loss("performer hidden") == 0


def test_hidden_frames_of_the_performer_are_at_risk_themselves() -> None:
    covered = np.where(np.arange(400) < 40, 0.8, 0.0)
    found = cover(facts(), replace(PERFORMER, covered=covered))
    assert found.risk[:40].mean() > found.risk[40:].mean() + 0.3


def test_a_pair_of_single_faces_can_be_compared() -> None:
    found = cover(facts(faces=1), facts("performer", faces=1))
    assert np.isfinite(found.risk).all()
    assert found.score < 0.4


def test_what_few_faces_do_not_show_is_counted_once() -> None:
    found = cover(facts(faces=3, yaw=2), PERFORMER)
    pose = np.asarray(found.costs["pose"])
    few = found.costs["identity few"][0]
    assert few > 0.5
    assert pose.max() > few  # a side that was never seen
    assert found.risk[pose.argmax()] < 1 - (1 - pose.max()) * (1 - few)
    assert found.risk.min() >= few
