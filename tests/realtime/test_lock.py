"""The performer is swapped and nobody else: with bystanders, posters, crossings, cuts, clicks, on rendered people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from realtime.actors import ADA, BO, random_identity
from realtime.align import canonical_mesh
from realtime.detect import FaceFinder
from realtime.frame import Face
from realtime.lock import STILL_S, FaceLock, NoChoice
from tests.company import FPS, Placed, Player, compose, frame, whose

SEEDS = [0, 3]
COUNT, FILMED = 150, 60
Scene = Callable[[int], list[tuple[str, float]]]
"""Who is in a frame and how far right of the middle, from the back to the front."""
BACK_WITHIN = 75
"""Frames until a performer who is wholly back in view is swapped again, with somebody else in view all the time; his
face must be found, be seen LOOKS times, and may have to show life."""


@cache
def room() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return player("performer", 0).room()


@cache
def player(role: str, seed: int) -> Player:
    if role == "poster":
        return Player(random_identity(300 + seed), seed + 51, 10, still=True)
    if role == "performer":
        return Player(random_identity(200 + seed) if seed else BO, seed, FILMED)
    return Player(random_identity(300 + seed) if seed else ADA, seed + 50, FILMED)


@dataclass(frozen=True, slots=True)
class Outcome:
    swapped: str | None
    miss: NoChoice | None
    in_view: frozenset[str]


def play(
    scene: Scene, seed: int, count: int = COUNT, *, click_at: int | None = None, on: str = "performer"
) -> list[Outcome]:
    """What the lock does with a scene, seen through FaceFinder; at `click_at` the user clicks on somebody."""
    lock, outcomes = FaceLock(), []
    with FaceFinder(4) as finder:
        for i in range(count):
            cast = scene(i)
            image, where = compose(room(), [Placed(player(role, seed), i, x) for role, x in cast], i)
            shown = frame(image, i)
            choice = lock.update(image, finder.find(shown), shown.pts_s)
            assert (choice.miss is None) or not choice.swap
            assert len(choice.swap) <= 1
            swapped = [cast[whose(face, where)][0] for face in choice.swap]
            outcomes.append(Outcome(swapped[0] if swapped else None, choice.miss, frozenset(role for role, _ in cast)))
            if i == click_at:
                middle = where[[role for role, _ in cast].index(on)].mean(axis=0)
                assert lock.choose_at(float(middle[0]), float(middle[1]))
    return outcomes


def wrong(outcomes: list[Outcome], right: str = "performer") -> int:
    return sum(each.swapped not in (None, right) for each in outcomes)


def hits(outcomes: list[Outcome]) -> int:
    return sum(each.swapped == "performer" for each in outcomes)


def ramp(i: int, start: int, speed: float, most: float) -> float:
    return min(max(i - start, 0) * speed, most)


# --- rendered people


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bystander_who_comes_and_goes_changes_nothing(seed: int) -> None:
    def scene(i: int) -> list[tuple[str, float]]:
        bystander = [("bystander", -400 + max(0.0, 250 - abs(i - 75) * 6))] if 30 < i < 120 else []
        return [*bystander, ("performer", 130)]

    outcomes = play(scene, seed, click_at=10)
    assert wrong(outcomes) == 0
    assert hits(outcomes) == COUNT


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bystander_who_stays_is_never_taken_for_the_performer_who_left(seed: int) -> None:
    def scene(i: int) -> list[tuple[str, float]]:
        away = ramp(i, 40, 10, 400) - ramp(i, 100, 10, 400)
        return [*([("bystander", -150.0)] if i >= 15 else []), *([("performer", 130 + away)] if away < 330 else [])]

    outcomes = play(scene, seed, 240, click_at=10)
    assert wrong(outcomes) == 0
    assert hits(outcomes[:40]) == 40
    absent = [each for each in outcomes if "performer" not in each.in_view]
    assert absent
    assert {each.miss for each in absent[5:]} == {NoChoice.WRONG_PERSON}
    assert hits(outcomes[145 + BACK_WITHIN :]) > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("in_front", ["performer", "bystander"])
def test_two_who_cross_keep_their_identities(seed: int, in_front: str) -> None:
    def scene(i: int) -> list[tuple[str, float]]:
        way = ramp(i, 30, 6, 320)
        both = [("bystander", way - 160), ("performer", 160 - way)]
        both = both if i >= 15 else both[1:]
        return both if in_front == "performer" else both[::-1]

    outcomes = play(scene, seed, 190, click_at=10)
    assert wrong(outcomes) == 0
    assert hits(outcomes[:40]) == 40, "before they meet"
    assert hits(outcomes[90 + BACK_WITHIN :]) > 0, "after they have parted"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_that_changes_places_swaps_nobody_else(seed: int) -> None:
    def scene(i: int) -> list[tuple[str, float]]:
        if i < 15:
            return [("performer", 130)]
        side = 1 if i < 50 else -1
        return [("bystander", -140 * side), ("performer", 140 * side)]

    assert wrong(play(scene, seed, 110, click_at=10)) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_performer_who_comes_back_alone_is_let_in_again(seed: int) -> None:
    def scene(i: int) -> list[tuple[str, float]]:
        away = ramp(i, 40, 10, 400) - ramp(i, 90, 10, 400)
        return [("performer", away)] if away < 330 else []

    outcomes = play(scene, seed, 210)
    assert outcomes[0].swapped == "performer", "who is alone is swapped from the first frame on"
    assert hits(outcomes[130 + BACK_WITHIN :]) > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_of_a_performer_and_a_poster_the_performer_is_taken(seed: int) -> None:
    outcomes = play(lambda i: [("poster", -150 + 20 * np.sin(i / 9)), ("performer", 130 + 20 * np.sin(i / 9))], seed)
    assert wrong(outcomes) == 0
    assert outcomes[0].miss is NoChoice.UNDECIDED
    assert hits(outcomes) > COUNT / 2


def test_a_poster_that_was_alone_gives_way_to_the_performer() -> None:
    def scene(i: int) -> list[tuple[str, float]]:
        return [("poster", -150), *([("performer", 130.0)] if i >= 40 else [])]

    outcomes = play(scene, 0, 40 + round((STILL_S + 2.5) * FPS))
    found = next(i for i in range(40, len(outcomes)) if outcomes[i].swapped != "poster")
    assert found - 40 <= 10, "the detectors look every five frames"
    assert all(each.swapped in (None, "performer") for each in outcomes[found:])
    assert outcomes[-1].swapped == "performer"


def test_a_click_makes_a_bystander_the_performer() -> None:
    outcomes = play(lambda i: [("bystander", -150), ("performer", 130)], 0, 60, click_at=30, on="bystander")
    assert {each.swapped for each in outcomes[31:]} == {"bystander"}


def test_the_same_film_gives_the_same_choices() -> None:
    scene: Scene = lambda i: [("bystander", ramp(i, 20, 6, 320) - 160), ("performer", 160 - ramp(i, 20, 6, 320))]  # noqa: E731
    assert play(scene, 0, 50) == play(scene, 0, 50)


# --- rules, on meshes without pictures


GREY = np.full((240, 640, 3), 90, np.uint8)


def face(track_id: int, x: float, width: float = 60, y: float = 120) -> Face:
    points = (canonical_mesh() - 0.5) * width + (x, y)
    depth = np.abs(points[:, 0] - x)
    return Face(np.column_stack([points, depth]).astype(np.float32), 1.0, track_id)


def chosen(lock: FaceLock, faces: list[Face], now_s: float = 0.0) -> list[int]:
    choice = lock.update(GREY, faces, now_s)
    assert [each.track_id for each in (*choice.swap, *choice.others)] != [] or not faces
    assert {id(each) for each in (*choice.swap, *choice.others)} == {id(each) for each in faces}
    return [each.track_id for each in choice.swap]


def test_the_largest_is_kept_until_another_is_clearly_larger() -> None:
    lock = FaceLock("largest")
    assert chosen(lock, [face(0, 100, 60), face(1, 300, 80)]) == [1]
    assert chosen(lock, [face(0, 100, 90), face(1, 300, 80)]) == [1]
    assert chosen(lock, [face(0, 100, 120), face(1, 300, 80)]) == [0]


def test_places_are_counted_from_the_left() -> None:
    faces = [face(0, 500), face(1, 100), face(2, 300)]
    assert chosen(FaceLock("leftmost"), faces) == [1]
    assert [chosen(FaceLock(place), faces) for place in (1, 2, 3)] == [[1], [2], [0]]
    missing = FaceLock(4).update(GREY, faces, 0.0)
    assert (missing.swap, missing.miss) == ((), NoChoice.WRONG_PERSON)


def test_all_means_all() -> None:
    assert chosen(FaceLock("all"), [face(0, 500), face(1, 100)]) == [0, 1]


@pytest.mark.parametrize("policy", ["lock", "largest", "leftmost", "all", 2])
def test_no_face_is_no_choice_and_no_fault(policy: str) -> None:
    choice = FaceLock(policy).update(GREY, [], 0.0)  # type: ignore[arg-type]  # any policy
    assert (choice.swap, choice.others, choice.miss) == ((), (), None)


@pytest.mark.parametrize("policy", ["first", 0, -1, True, 1.5])
def test_a_policy_that_does_not_exist_is_named(policy: object) -> None:
    with pytest.raises(ValueError, match="lock, largest, leftmost, all or a number"):
        FaceLock(policy)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize("policy", ["lock", "largest", "all"])
def test_the_next_face_is_the_one_to_the_right(policy: str) -> None:
    lock, faces = FaceLock(policy), [face(0, 500), face(1, 100), face(2, 300)]  # type: ignore[arg-type]  # any policy
    lock.update(GREY, faces, 0.0)
    order = []
    for i in range(4):
        assert lock.next_face()
        order += chosen(lock, faces, 0.1 * (i + 1))
    assert lock.policy == "lock"
    first = [0, 1, 2].index(order[0])
    assert order == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2]][first]


def test_nobody_is_chosen_where_nobody_is() -> None:
    lock = FaceLock()
    assert not lock.choose_at(100, 100)
    assert not lock.next_face()
    lock.update(GREY, [face(0, 500)], 0.0)
    assert not lock.choose_at(100, 120)
    assert lock.choose_at(505, 125)


def test_two_pictures_among_themselves_are_decided_after_a_while() -> None:
    lock, faces = FaceLock(), [face(0, 100, 50), face(1, 400, 80)]
    times = np.arange(0, STILL_S + 0.3, 0.1)
    choices = [chosen(lock, faces, float(now_s)) for now_s in times]
    assert choices[0] == []
    assert choices[-1] == [1]


@pytest.mark.parametrize("step_s", [5.0, -5.0])
def test_after_a_gap_or_a_step_back_nobody_is_followed_blindly(step_s: float) -> None:
    lock = FaceLock()
    lock.update(GREY, [face(0, 100)], 10.0)
    lock.choose_at(100, 120)
    assert chosen(lock, [face(0, 100)], 10.1) == [0]
    assert lock.update(GREY, [face(0, 100)], 10.1 + step_s).miss is NoChoice.WRONG_PERSON


def test_a_face_out_of_this_world_does_no_harm() -> None:
    broken = face(3, 300)
    broken.landmarks[:] = np.nan
    lock = FaceLock()
    lock.update(GREY, [face(0, 100), broken], 0.0)
    lock.choose_at(100, 120)
    assert chosen(lock, [face(0, 100), broken], 0.1) == [0]
    assert lock.update(GREY, [broken], 0.2).swap == ()
