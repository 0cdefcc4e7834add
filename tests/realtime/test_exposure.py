"""A hand in front is no reason to stop; a hole in the mask is, however it comes about and however the light changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.actors import BO, Actor, Identity, Part, Renderer, motion, random_identity
from realtime.align import cut, frame_to_crop, full_face, transform
from realtime.exposure import LEARNT, LEAST_COVERED, Exposure, covers
from realtime.frame import ImageU8, MaskF32
from realtime.landmarks import LEFT_BROW, LEFT_EYE, LIPS_OUTER, NOSE, RIGHT_BROW, RIGHT_EYE

CELLS, SIDE = 32, 128
FRAMES, FPS = 80, 8
"""Ten seconds, every third frame: more change from one frame to the next than a camera shows."""
HAND_PASSES = 0.8
"""Least share of frames with a hand in front that are published; 0.9 of rendered performances at 30 frames a second,
where the strict rule alone lets 0.57 through."""
LEAKS = 0.01
"""Largest share of frames with a hole onto the bare face that count as hidden; 0.0004 at 30 frames a second, all of
them with most of the face covered."""
PEOPLE: dict[str, Identity] = {"bo": BO, "somebody": random_identity(2)}


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One frame as the swapper has it, and a perfect mask."""

    crop: ImageU8
    mesh: NDArray[np.float64]
    picture: NDArray[np.float64]
    """Mesh and corners of the frame in cells."""
    face: MaskF32
    """(SIDE, SIDE) the face that is seen."""
    hand: MaskF32

    def hidden_by(self, exposure: Exposure, mask: MaskF32 | None = None, crop: ImageU8 | None = None) -> bool:
        return exposure.hides(
            coverage(self.face if mask is None else mask), self.mesh, self.picture, self.crop if crop is None else crop
        )

    def strict(self, mask: MaskF32 | None = None) -> bool:
        return covers(coverage(self.face if mask is None else mask), self.mesh, self.picture)


def coverage(mask: MaskF32) -> MaskF32:
    return np.asarray(cv2.resize(mask, (CELLS, CELLS), interpolation=cv2.INTER_AREA), np.float32)


@cache
def performance(who: str) -> list[Shot]:
    """A performance with a hand that passes from 48 to 76 % of the time."""
    camera = Renderer(Actor(PEOPLE[who]))
    shots = []
    for index, pose in enumerate(motion(FRAMES, FPS, seed=11)):
        filmed = camera.render(pose, frame=index)
        points = np.column_stack([filmed.truth.landmarks, np.zeros(468)]).astype(np.float32)
        matrix = frame_to_crop(points, full_face(SIDE))
        face, hand = (
            np.asarray(cv2.warpAffine(each, matrix, (SIDE, SIDE)), np.float32) / np.float32(255)
            for each in (filmed.truth.face_mask, np.asarray(filmed.truth.part == Part.HAND, np.uint8) * np.uint8(255))
        )
        to_cells = CELLS / SIDE
        height, width = filmed.image.shape[:2]
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
        mesh, picture = (transform(matrix, each) * to_cells for each in (points, corners))
        shots.append(Shot(cut(filmed.image, matrix, SIDE).image, mesh, picture, face, hand))
    return shots


def rehearsed(who: str, count: int = 30) -> Exposure:
    """What is remembered after the first frames of a performance."""
    exposure = Exposure()
    assert all(shot.hidden_by(exposure) for shot in performance(who)[:count])
    return exposure


def with_hand(who: str) -> list[Shot]:
    return [shot for shot in performance(who) if shot.hand.mean() > 0.02]


def bare(who: str) -> list[Shot]:
    return [shot for shot in performance(who)[30:] if shot.hand.max() == 0]


def relit(crop: ImageU8, rng: np.random.Generator) -> ImageU8:
    """As if a lamp had been switched on: another brightness, from another side, another contrast."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1) - 0.5
    level, right, down = rng.normal(0, (0.35, 0.8, 0.8))
    lit = crop / 255 * np.exp(level + right * x + down * y)[..., None]
    return np.asarray(np.clip(255 * lit ** np.exp(rng.normal(0, 0.25)), 0, 255), np.uint8)


def hole(kind: str, rng: np.random.Generator) -> MaskF32:
    """(SIDE, SIDE) 1 where a failing mask opens."""
    opened = np.zeros((SIDE, SIDE), np.float32)
    match kind:
        case "left":
            opened[:, : rng.integers(60, 90)] = 1
        case "right":
            opened[:, rng.integers(40, 70) :] = 1
        case "low":
            opened[rng.integers(40, 70) :] = 1
        case "high":
            opened[: rng.integers(65, 95)] = 1
        case "blobs":
            for _ in range(12):
                x, y = rng.integers(15, 115, 2).tolist()
                cv2.circle(opened, (x, y), int(rng.integers(8, 22)), (1.0,), cv2.FILLED)
        case "noise":
            cells = rng.random((16, 16)).astype(np.float32)
            opened[:] = cv2.resize(cells, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) < 0.6
        case "faint":
            opened[:] = 0.7
        case "all":
            opened[:] = 1
    return opened


@pytest.mark.parametrize("who", PEOPLE)
def test_a_hand_in_front_passes_where_the_strict_rule_refused(who: str) -> None:
    exposure = Exposure()
    passed = [shot.hidden_by(exposure) for shot in performance(who)]
    strict = [shot.strict() for shot in performance(who)]
    hand = [shot.hand.mean() > 0.02 for shot in performance(who)]
    assert all(p for p, h in zip(passed, hand, strict=True) if not h)
    share, strict_share = (
        float(np.mean([each for each, h in zip(verdicts, hand, strict=True) if h])) for verdicts in (passed, strict)
    )
    assert strict_share < 0.7
    assert share > max(HAND_PASSES, strict_share + 0.1)


@pytest.mark.parametrize("light", ["steady", "jumping"])
@pytest.mark.parametrize("kind", ["left", "right", "low", "high", "blobs", "noise", "faint", "all"])
def test_a_hole_onto_the_bare_face_is_refused(kind: str, light: str) -> None:
    rng = np.random.default_rng(3)
    leaks = refused = 0
    for who in PEOPLE:
        exposure = rehearsed(who)
        for shot in bare(who):
            mask = shot.face * (1 - hole(kind, rng))
            crop = relit(shot.crop, rng) if light == "jumping" else shot.crop
            if shot.strict(mask):
                continue
            leaks += shot.hidden_by(exposure, mask, crop)
            refused += 1
    assert refused > 20
    assert leaks <= LEAKS * refused


@pytest.mark.parametrize("who", PEOPLE)
def test_a_mask_that_shrinks_for_seconds_never_becomes_an_excuse(who: str) -> None:
    exposure = rehearsed(who)
    refused = 0
    for step, shot in enumerate(bare(who)):
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * step + 1, 2 * step + 1))
        mask = np.asarray(cv2.erode(shot.face, disc), np.float32)
        if not shot.strict(mask):
            assert not shot.hidden_by(exposure, mask)
            refused += 1
        else:
            assert shot.hidden_by(exposure, mask)
    assert refused > 10


PARTS = {"right eye": RIGHT_EYE + RIGHT_BROW, "left eye": LEFT_EYE + LEFT_BROW, "nose": NOSE, "mouth": LIPS_OUTER}


def without(shot: Shot, *parts: str) -> MaskF32:
    """The face that is seen, but for a hole over parts of it."""
    mask = shot.face.copy()
    for part in parts:
        points = (shot.mesh[list(PARTS[part])] * SIDE / CELLS).astype(np.float32)
        cv2.fillConvexPoly(mask, np.rint(cv2.convexHull(points)).astype(np.int32), (0.0,))
    return mask


@pytest.mark.parametrize(
    "parts", [["right eye"], ["left eye"], ["nose"], ["mouth"], ["right eye", "left eye"]], ids="+".join
)
@pytest.mark.parametrize("who", PEOPLE)
def test_a_hole_over_an_eye_the_nose_or_the_mouth_is_refused_however_long_it_lasts(who: str, parts: list[str]) -> None:
    """A hole that was there from the start is never taken for something in front."""
    exposure = Exposure()
    shots = [shot for shot in performance(who) if shot.hand.max() == 0 and shot.strict()]
    assert len(shots) > 30
    assert sum(shot.hidden_by(exposure, without(shot, *parts)) for shot in shots) <= LEAKS * len(shots)


def test_the_settings_of_the_blend_may_take_away_a_little_and_no_more() -> None:
    shot = bare("bo")[0]
    assert shot.strict()
    for share, enough in ((1.0, True), (0.8, True), (0.3, False)):
        hidden = Exposure().hides(
            coverage(shot.face), shot.mesh, shot.picture, shot.crop, coverage(shot.face * np.float32(share))
        )
        assert hidden is enough


def test_without_memory_the_strict_rule_holds() -> None:
    shots = with_hand("bo")
    exposure = Exposure()
    assert [shot.hidden_by(exposure) for shot in shots[:LEARNT]] == [shot.strict() for shot in shots[:LEARNT]]


def test_what_was_remembered_can_be_forgotten() -> None:
    exposure, covered = rehearsed("bo"), [s for s in with_hand("bo") if not s.strict()]
    before = sum(shot.hidden_by(exposure) for shot in covered)
    exposure.reset()
    after = sum(shot.hidden_by(exposure) for shot in covered)
    assert before > 0.5 * len(covered)
    assert after == 0


def test_nearly_nothing_covered_is_refused_whatever_is_in_front() -> None:
    exposure = rehearsed("bo")
    for shot in with_hand("bo"):
        left = np.zeros_like(shot.face)
        left[: SIDE // 2] = shot.face[: SIDE // 2] * np.float32(0.5 * LEAST_COVERED)
        assert not shot.hidden_by(exposure, left)


def test_the_bare_face_of_another_person_is_refused() -> None:
    """The one who follows another into the track is not in the memory, so nothing can be concluded."""
    rng = np.random.default_rng(5)
    exposure = rehearsed("bo")
    verdicts = []
    for shot in bare("somebody"):
        mask = shot.face * (1 - hole("left", rng))
        if not shot.strict(mask):
            verdicts.append(shot.hidden_by(exposure, mask))
    assert len(verdicts) > 10
    assert np.mean(verdicts) < 0.1


def test_a_hand_does_not_excuse_a_hole_beside_it() -> None:
    exposure = rehearsed("bo")
    verdicts = []
    for shot in with_hand("bo"):
        mask = shot.face * np.float32(0.25)
        verdicts.append(shot.hidden_by(exposure, mask))
    assert not any(verdicts)


def test_odd_landmarks_and_a_black_crop_are_no_error() -> None:
    exposure, shot = rehearsed("bo"), performance("bo")[40]
    empty = np.zeros_like(shot.face)
    for far in (shot.mesh * 0, shot.mesh + 1e6, shot.mesh * 1e-3):
        assert not replace(shot, mesh=far).hidden_by(exposure, empty)
    assert not shot.hidden_by(exposure, empty, np.zeros_like(shot.crop))
