"""The critic reads the person and nothing else, says when it is useless, and is made once for a run."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from realtime.align import full_face
from tests.tiny_run import TINY, write_people
from training import critic as critic_room
from training.critic import CRITIC, FEWEST, SIZE, Critic, open_critic, soft_disc, train_critic, view
from training.faceset import Faceset
from training.model import SIDES, Side

GEOMETRY = full_face(64)
MARGIN_SLACK = 0.15
"""How far the margin of other pictures of the same two people may lie from 0 and 1."""
LEVELS = 1e-5


def drawn(side: Side, count: int, seed: int, gains: tuple[float, float, float] = (1, 1, 1)) -> Tensor:
    """(count, 3, 64, 64) heads whose eyes stand closer and whose mouth is wider for the identity; light at random."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        picture = np.full((64, 64, 3), (110, 140, 180), np.float32)
        apart, wide = (8, 10) if side == "identity" else (12, 5)
        x, y = rng.normal(32, 1.5, 2)
        for eye in (-apart, apart):
            cv2.circle(picture, (round(x + eye), round(y - 6)), 3, (240, 240, 240), -1, cv2.LINE_AA)
        cv2.ellipse(picture, (round(x), round(y + 10)), (wide, 3), 0, 0, 360, (60, 50, 160), -1, cv2.LINE_AA)
        pictures.append((picture * rng.uniform(0.7, 1.2) + rng.normal(0, 4, picture.shape)) * np.array(gains))
    stack = torch.from_numpy(np.stack(pictures).clip(0, 255)).float() / 255
    return stack.permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def critic() -> Critic:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critic_room, "STEPS", 80)
        return train_critic(
            {side: drawn(side, 40, 1) for side in SIDES}, {side: drawn(side, 24, 2) for side in SIDES}, GEOMETRY, seed=0
        )


def test_two_people_are_told_apart_and_stand_at_nought_and_one(critic: Critic) -> None:
    assert critic.useful
    assert critic.accuracy > 0.95
    assert critic.margin(drawn("performer", 24, 3)) == pytest.approx(0, abs=MARGIN_SLACK)
    assert critic.margin(drawn("identity", 24, 3)) == pytest.approx(1, abs=MARGIN_SLACK)


def test_white_balance_and_light_say_nothing_about_the_person(critic: Critic) -> None:
    for gains in ((1.4, 1.0, 0.6), (0.5, 0.5, 0.5)):
        assert critic.margin(drawn("performer", 24, 4, gains)) == pytest.approx(0, abs=MARGIN_SLACK)
        assert critic.margin(drawn("identity", 24, 4, gains)) == pytest.approx(1, abs=MARGIN_SLACK)


def test_the_margin_rises_from_the_one_to_the_other(critic: Critic) -> None:
    performer, identity = drawn("performer", 24, 5), drawn("identity", 24, 5)
    margins = [critic.margin(performer + share * (identity - performer)) for share in (0, 0.5, 0.75, 1)]
    assert margins == sorted(margins)
    assert margins[-1] - margins[0] > 0.7


def test_one_person_twice_makes_a_useless_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(critic_room, "STEPS", 40)
    same: dict[Side, Tensor] = {"identity": drawn("performer", 30, 6), "performer": drawn("performer", 30, 7)}
    fresh: dict[Side, Tensor] = {"identity": drawn("performer", 40, 8), "performer": drawn("performer", 40, 9)}
    assert not train_critic(same, fresh, GEOMETRY, seed=0).useful


def test_the_same_seed_makes_the_same_critic_and_leaves_other_randomness_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(critic_room, "STEPS", 3)
    faces = {side: drawn(side, 8, 1) for side in SIDES}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = (train_critic(faces, faces, GEOMETRY, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    weights = [torch.cat([p.flatten() for p in each.net.parameters()]) for each in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_critic_sees_the_same_part_of_the_face_whatever_the_crop_shows() -> None:
    """A dot in the middle of the canonical face lies in the middle of the view, for any coverage, offset and size."""
    for geometry in (full_face(64), full_face(256), full_face(128).widened(1.5)):
        faces = torch.zeros(1, 3, geometry.size, geometry.size)
        middle = geometry.size // 2
        faces[..., middle - 2 : middle + 2, middle - 2 : middle + 2] = 1
        seen = view(faces, geometry)[0, 0]
        y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        assert seen.shape == (SIZE, SIZE)
        for axis in (x, y):
            assert float((seen * axis).sum() / seen.sum()) == pytest.approx((SIZE - 1) / 2, abs=0.5)


def test_what_is_outside_of_the_disc_is_not_seen(critic: Critic) -> None:
    faces = drawn("identity", 4, 10)
    disc = soft_disc(SIZE)
    assert float(disc[..., SIZE // 2, SIZE // 2]) == 1
    assert float(disc[..., 0, 0]) == 0
    corner = faces.clone()
    corner[..., :12, :12] = 1  # outside of the window and of the disc
    assert critic.margin(corner) == pytest.approx(critic.margin(faces), abs=LEVELS)


# ---------------------------------------------------------------- the critic of a run


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[Side, Faceset]:
    """Enough faces of both people for a critic."""
    people = write_people(tmp_path_factory.mktemp("many"), faces=48)
    return {side: Faceset.open(people[side]) for side in SIDES}


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(critic_room, "STEPS", 3)


def test_a_critic_is_made_once_and_read_from_then_on(
    many: dict[Side, Faceset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_critic(tmp_path, many, TINY)
    assert first is not None
    before = (tmp_path / CRITIC).read_bytes()
    monkeypatch.setattr(critic_room, "train_critic", lambda *_: pytest.fail("made again"))
    second = open_critic(tmp_path, many, TINY)
    assert second is not None
    assert (tmp_path / CRITIC).read_bytes() == before
    pictures = drawn("identity", 5, 3)
    assert second.margin(pictures) == first.margin(pictures)
    assert (second.accuracy, second.geometry) == (first.accuracy, first.geometry)


def test_other_facesets_need_another_critic(many: dict[Side, Faceset], tmp_path: Path) -> None:
    open_critic(tmp_path, many, TINY)
    before = (tmp_path / CRITIC).read_bytes()
    swapped: dict[Side, Faceset] = {"identity": many["performer"], "performer": many["identity"]}
    open_critic(tmp_path, swapped, TINY)
    assert (tmp_path / CRITIC).read_bytes() != before


@pytest.mark.parametrize("keep", [0, 100, -40])
def test_a_damaged_critic_is_made_again(
    many: dict[Side, Faceset], tmp_path: Path, caplog: pytest.LogCaptureFixture, keep: int
) -> None:
    open_critic(tmp_path, many, TINY)
    before = (tmp_path / CRITIC).read_bytes()
    (tmp_path / CRITIC).write_bytes(before[:keep])
    with caplog.at_level(logging.WARNING):
        assert open_critic(tmp_path, many, TINY) is not None
    assert "is damaged; it is made again" in caplog.text
    assert (tmp_path / CRITIC).read_bytes() == before


def test_too_few_faces_have_no_critic(tmp_path: Path) -> None:
    people = write_people(tmp_path / "few", faces=FEWEST)
    few: dict[Side, Faceset] = {side: Faceset.open(people[side]) for side in SIDES}
    assert open_critic(tmp_path, few, TINY) is None
    assert not (tmp_path / CRITIC).exists()


def test_a_critic_that_cannot_be_kept_works_all_the_same(
    many: dict[Side, Faceset], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.rmtree(run)  # somebody removed the folder
    with caplog.at_level(logging.WARNING):
        assert open_critic(run, many, TINY) is not None
    assert "the critic is not kept" in caplog.text
