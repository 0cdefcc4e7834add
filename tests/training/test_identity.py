"""Rendered people are told apart by their faces, and the figures that the module claims still hold."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.actors import ADA, Actor, Identity, Renderer, motion, random_identity
from realtime.align import whole_face
from realtime.detect import FaceFinder
from realtime.errors import SourceError, UsageError
from realtime.frame import Frame, ImageU8, Points
from training import identity
from training.cut import cut_face
from training.identity import SAME, SCATTER, Reference, cluster, embed, likeness

PEOPLE = (ADA, random_identity(90_001), random_identity(90_002))
"""Nobody of them has taught the projection anything."""
MOMENTS = 8
EMBEDDING_DRIFT = 1.5
"""Of a face cut at half the size; two looks of one person are about 5 apart, of two people 9."""


def faces_of(who: Identity, seed: int) -> list[tuple[ImageU8, ImageU8, Points]]:
    """Frames of a short film, two seconds apart, each with the crop and the mesh in it."""
    camera, seen = Renderer(Actor(who), 320, 240, 1.0), []
    with FaceFinder(static=True) as finder:
        for i, pose in enumerate(motion(MOMENTS, 0.5, seed, yaw=20, pitch=10, hand=False)):
            image = camera.render(pose, frame=i).image
            face = finder.find(Frame(image, i, 0.0))[0]
            crop, mesh = cut_face(image, face, whole_face(160))
            seen.append((image, crop.image, mesh))
    return seen


@pytest.fixture(scope="module")
def films() -> list[list[tuple[ImageU8, ImageU8, Points]]]:
    return [faces_of(who, 7 + number) for number, who in enumerate(PEOPLE)]


@pytest.fixture(scope="module")
def vectors(films: list[list[tuple[ImageU8, ImageU8, Points]]]) -> NDArray[np.float32]:
    """(people, MOMENTS, 24)"""
    return np.array([[embed(crop, mesh) for _, crop, mesh in film] for film in films])


def test_halves_of_a_film_are_one_person_and_two_films_are_two(vectors: NDArray[np.float32]) -> None:
    half = MOMENTS // 2
    first, last = vectors[:, :half].mean(axis=1), vectors[:, half:].mean(axis=1)
    for i in range(len(PEOPLE)):
        for j in range(len(PEOPLE)):
            assert (likeness(first[i], last[j], half, half) < 1) == (i == j)


def test_tracks_come_into_groups_by_person_and_the_most_shown_is_0(vectors: NDArray[np.float32]) -> None:
    tracks = vectors.reshape(len(PEOPLE) * 2, MOMENTS // 2, -1).mean(axis=1)
    labels = cluster(tracks, np.full(len(tracks), 4), np.array([1, 1, 9, 9, 3, 3]))
    assert labels.tolist() == [2, 2, 0, 0, 1, 1]


def test_many_faces_are_grouped_as_few_are() -> None:
    rng = np.random.default_rng(0)
    centres = 6 * np.eye(4, 24)
    owner = rng.integers(0, 4, 1000)
    labels = cluster(centres[owner] + rng.normal(0, 0.5, (1000, 24)))
    assert len(np.unique(labels)) == 4
    assert all(len(np.unique(labels[owner == person])) == 1 for person in range(4))
    sizes = np.bincount(labels)
    assert sizes.tolist() == sorted(sizes, reverse=True)


def test_two_means_are_one_person_up_to_the_bound() -> None:
    far = np.zeros(24)
    far[0] = (SAME + 2 * SCATTER / 3) ** 0.5
    assert likeness(np.zeros(24), far, 3, 3) == pytest.approx(1)
    assert cluster(np.array([np.zeros(24), 0.99 * far]), np.array([3, 3])).tolist() == [0, 0]
    assert cluster(np.array([np.zeros(24), 1.01 * far]), np.array([3, 3])).tolist() == [0, 1]


def test_nobody_is_no_group_and_one_is_one() -> None:
    assert cluster(np.empty((0, 24))).tolist() == []
    assert cluster(np.zeros((1, 24))).tolist() == [0]


def test_a_vector_hardly_depends_on_the_size_of_the_crop(
    films: list[list[tuple[ImageU8, ImageU8, Points]]],
) -> None:
    _, crop, mesh = films[0][0]
    small = cv2.resize(crop, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    apart = np.linalg.norm(embed(crop, mesh) - embed(np.asarray(small, np.uint8), mesh * np.float32(0.5)))
    assert apart < EMBEDDING_DRIFT


def test_pictures_name_the_person_that_is_wanted(
    tmp_path: Path, films: list[list[tuple[ImageU8, ImageU8, Points]]], vectors: NDArray[np.float32]
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), films[1][number][0])
    reference = Reference.of_pictures(paths)
    assert reference.looks == 3
    shown = [reference.shows(film[4:].mean(axis=0), 4) for film in vectors]
    assert shown == [False, True, False]


def test_a_picture_of_nobody_and_one_that_is_none_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    with pytest.raises(UsageError, match=r"wall\.png shows no face; give --person"):
        Reference.of_pictures([tmp_path / "wall.png"])
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(SourceError, match=r"text\.png is no picture"):
        Reference.of_pictures([tmp_path / "text.png"])


def test_the_projection_is_the_one_that_was_measured() -> None:
    by_side, projection = identity._projection()
    assert (by_side.shape, projection.shape) == ((7, 888), (888, 24))
    assert np.isfinite(by_side).all()
    assert np.isfinite(projection).all()
