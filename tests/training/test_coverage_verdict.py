"""What is wrong is named first, in words that are true, and what is well is not complained of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.covered import facts
from training.coverage import cover
from training.coverage_facts import SetFacts, Shots
from training.coverage_verdict import Verdict, judge

PERFORMER = facts("performer", seed=1)


def verdict(identity: SetFacts, performer: SetFacts = PERFORMER) -> Verdict:
    return judge(cover(identity, performer))


def first(identity: SetFacts, performer: SetFacts = PERFORMER) -> str:
    return verdict(identity, performer).findings[0].sentence


def strangers(own: SetFacts) -> SetFacts:
    return replace(own, person=(np.arange(len(own)) % 3 == 0).astype(np.intp))


def at_night(own: SetFacts) -> SetFacts:
    return replace(own, light=own.light * (0.2, 0.2, 1, 1) + np.array([-0.6, 0, -2.5, 1.2]))


PLANTED: dict[str, Callable[[SetFacts], SetFacts]] = {
    "pose": lambda own: facts(own.name, yaw=8, pitch=5),
    "few": lambda own: facts(own.name, faces=10),
    "detail": lambda own: replace(own, native_px=own.native_px * 480 / 1080, sharpness=own.sharpness * 0.6),
    "light": at_night,
    "cuts": lambda own: replace(own, shots=Shots(40, 0.8, 0.9)),
    "hidden": lambda own: replace(own, covered=np.where(np.arange(len(own)) % 3 == 0, 0.5, own.covered)),
    "mixed": strangers,
}


def test_a_clean_pair_gets_go_and_no_warning() -> None:
    found = verdict(facts())
    assert found.level == "GO"
    assert found.findings == ()
    assert found.notes == ()


@pytest.mark.parametrize("cause", PLANTED)
def test_each_cause_that_is_planted_alone_is_named_first(cause: str) -> None:
    found = verdict(PLANTED[cause](facts()))
    assert found.level in ("WARN", "STOP")
    assert found.findings[0].cause.split(" ")[-1] == cause


@pytest.mark.parametrize("cause", ["few", "hidden", "mixed", "cuts"])
def test_the_same_is_said_of_the_performers_set(cause: str) -> None:
    found = verdict(facts(), PLANTED[cause](facts("performer", seed=1)))
    assert found.findings[0].cause == f"performer {cause}"
    assert "performer's" in found.findings[0].fact


def test_profile_against_frontal_is_told_with_numbers_and_both_lefts() -> None:
    frontal = facts(yaw=20)
    left = replace(PERFORMER, pose=np.column_stack([np.abs(PERFORMER.pose[:, 0]), PERFORMER.pose[:, 1]]))
    share = np.mean(left.pose[:, 0] > np.sort(frontal.pose[:, 0])[-3] + 4)
    assert first(frontal, left) == (
        f"{100 * share:.0f} % of the performer's frames look further left in the image (the person's own right) than "
        "any identity frame (19 degrees at most): film the identity turning to their own right, 15 to 40 degrees."
    )


def test_looking_the_other_way_is_told_as_the_other_way() -> None:
    right = replace(PERFORMER, pose=np.column_stack([-np.abs(PERFORMER.pose[:, 0]), PERFORMER.pose[:, 1]]))
    assert "further right in the image (the person's own left)" in first(facts(yaw=20), right)


@pytest.mark.parametrize(("sign", "word"), [(1, "down"), (-1, "up")])
def test_nodding_is_told_as_up_or_down(sign: int, word: str) -> None:
    pitch = sign * np.abs(PERFORMER.pose[:, 1]) * 2
    nods = replace(PERFORMER, pose=np.column_stack([PERFORMER.pose[:, 0], pitch]))
    assert f"look further {word} than any identity frame" in first(facts(), nods)


def test_a_hole_in_the_middle_is_told_where_it_is() -> None:
    own = facts(yaw=70)
    kept = np.abs(own.pose[:, 0] - 30) > 28
    holed = replace(own, pose=np.where(kept[:, None], own.pose, np.array([-30.0, 0])))
    finding = verdict(holed, facts("performer", seed=1, yaw=70)).findings[0]
    assert "look where few of the identity's do, around" in finding.fact
    assert "degrees to the left and" in finding.fact


@pytest.mark.parametrize(("side", "sign"), [("right", 1), ("left", -1)])
def test_light_from_one_side_is_told_as_the_side_that_lacks(side: str, sign: int) -> None:
    own = facts()
    light = own.light.copy()
    light[:, 0] = -sign * np.abs(light[:, 0]) - sign * 0.2
    assert f"lit more from the {side} of the image" in first(replace(own, light=light))
    assert f"a lamp or window at the {side} of the image" in first(replace(own, light=light))


def test_night_against_day_is_told_as_dark_and_warm() -> None:
    sentences = " ".join(finding.sentence for finding in verdict(at_night(facts())).findings)
    assert "brighter than any identity frame" in sentences
    assert "lit colder (bluer)" in sentences


def test_a_mouth_that_never_opens_is_missed() -> None:
    own = facts()
    silent = own.expression * (0.1, 1, 1, 1)
    assert "open the mouth wider" in first(replace(own, expression=silent))


def test_a_film_with_few_pixels_is_told_in_pixels() -> None:
    sentence = first(replace(facts(), native_px=np.full(400, 90.0)))
    assert "90 pixels high in their film, 181 will be shown" in sentence
    assert "twice the resolution" in sentence


def test_a_blurred_film_is_told_apart_from_a_small_one() -> None:
    assert "less sharp" in first(replace(facts(), sharpness=facts().sharpness * 0.3))


def test_many_equal_faces_are_told_as_such() -> None:
    own = facts()
    still = replace(own, pose=own.pose * 0.01, expression=own.expression * 0 + 1, light=own.light * 0 + 1)
    few = [finding for finding in verdict(still).findings if finding.cause == "identity few"]
    assert "400 faces, but only 1 different look among" in few[0].fact


def test_a_set_that_is_too_small_to_judge_says_so() -> None:
    notes = verdict(facts(faces=12)).notes
    assert any("too small to judge more than its size: 12 different looks" in note for note in notes)


def test_what_could_not_be_read_is_told() -> None:
    notes = " ".join(verdict(replace(facts(total=9000), skin=None, shots=None)).notes)
    assert "too far apart to tell how often the film cuts" in notes
    assert "to tell skin from light" in notes
    assert "Of the identity's 9000 faces 400 were looked at" in notes


def test_ten_faces_stop_and_forty_shots_only_warn() -> None:
    assert verdict(PLANTED["few"](facts())).level == "STOP"
    assert verdict(PLANTED["cuts"](facts())).level == "WARN"


def test_the_worst_frames_of_a_finding_come_first() -> None:
    found = cover(facts(yaw=15), PERFORMER)
    frames = judge(found).findings[0].frames
    risks = found.risk[list(frames)]
    assert len(frames) > 20
    assert (np.diff(risks) <= 0).all()


def test_losses_are_told_largest_first_and_the_verdict_as_plain_values() -> None:
    found = verdict(at_night(facts()))
    losses = list(found.losses.values())
    assert losses == sorted(losses, reverse=True)
    assert found.to_json()["level"] == found.level


def test_next_to_nothing_is_not_called_about_less() -> None:
    found = cover(facts(faces=3, yaw=2.0, pitch=1.0), facts("performer", seed=1))
    found = replace(found, costs={**found.costs, "identity mixed": np.full(len(found.performer), 0.99)})
    assert found.score < 0.01
    assert "expect less than 1 % of what" in judge(found).summary
