"""Judged by rendered actors whose exact swap is known: each figure ranks good and bad swaps, and measures one thing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from realtime.actors import ADA, BO, Actor, Renderer, motion
from realtime.actors.pose import Pose
from realtime.align import CropGeometry, cut, frame_to_crop, full_face, transform, whole_face
from realtime.detect import FaceFinder
from realtime.frame import Frame, ImageU8, Points
from tests.tiny_run import TINY, write_people
from training.batches import crop_between
from training.faceset import Faceset
from training.faceset_index import SourceRecord
from training.faceset_writer import FacesetWriter
from training.model import SIDES, FaceAutoencoder, Painted, Side
from training.truth import FEWEST, Truth, expression_figures, pose_error_deg

GEOMETRY = full_face(64)
MOMENTS, FPS = 10, 30.0
"""Moments that are filmed, each with the frame after it."""
FACE_ITSELF = 0.05
"""Of 1: the performer blended into his own picture was sampled twice, and is a little softer."""
FLOW_LEVELS = 6.0
"""Flicker of an exact swap of moving faces that the flow does not explain, at most."""


@dataclass(frozen=True)
class Film:
    """A performer's faceset, and in its order what a perfect swap and a swap without expression would show."""

    faceset: Faceset
    exact: list[ImageU8]
    still: list[ImageU8]


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """Pairs of neighbouring frames of BO, spread over a performance; ADA is the identity."""
    poses = motion(1200, FPS, 7, yaw=25.0, pitch=12.0, roll=8.0, light=0.5, hand=False)
    frames = [index for start in np.linspace(5, 1190, MOMENTS).astype(int) for index in (int(start), int(start) + 1)]
    performer, ideal = (Renderer(actor, 320, 240) for actor in (Actor(BO), Actor(ADA, body=BO, tone=1.0)))
    finder = FaceFinder(static=True)
    path = tmp_path_factory.mktemp("film") / "performer"
    exact: list[ImageU8] = []
    still: list[ImageU8] = []
    with FacesetWriter(path, whole_face(128), kind="whole") as writer:
        writer.add_source(SourceRecord("performer.mp4", "0" * 64, FPS, 1200))
        geometry = writer.stored_geometry
        for index in frames:
            pose, last = poses[index], poses[index - 1]
            picture = performer.render(pose, last, frame=index).image
            face = finder.find(Frame(picture, index, 0.0, 0.0))[0]
            matrix = frame_to_crop(face.landmarks, geometry)
            depth = face.landmarks[:468, 2] * math.hypot(matrix[0, 0], matrix[1, 0])
            mesh = np.column_stack([transform(matrix, face.landmarks[:468]), depth]).astype(np.float32)
            add(writer, cut(picture, matrix, geometry.size).image, mesh, index)
            for pictures, played in ((exact, pose), (still, expressionless(pose))):
                swap = ideal.render(played, last, frame=index).image
                pictures.append(cut(swap, matrix, geometry.size).image)
    finder.close()
    return Film(Faceset.open(path), exact, still)


def expressionless(pose: Pose) -> Pose:
    return replace(pose, jaw=0, smile=0, brow=0, frown=0, blink_left=0, blink_right=0, pucker=0, gaze_x=0, gaze_y=0)


def add(writer: FacesetWriter, image: ImageU8, mesh: Points, index: int) -> None:
    writer.add(
        image,
        mesh,
        source=0,
        frame_index=index,
        pts_s=index / FPS,
        track=0,
        score=0.9,
        sharpness=5.0,
        native_px=100.0,
        yaw=0.0,
        pitch=0.0,
        roll=0.0,
    )


@pytest.fixture(scope="session")
def truth(film: Film) -> Truth:
    return Truth(film.faceset, np.arange(len(film.faceset)), GEOMETRY, None)


def crops(film: Film, pictures: Sequence[ImageU8]) -> Tensor:
    """(N, 3, 64, 64): stored pictures as the model would have to paint them; all are looked at, in their order."""
    matrix = crop_between(film.faceset.geometry.widened(film.faceset.margin), GEOMETRY)
    small = [cut(picture, matrix, GEOMETRY.size).image for picture in pictures]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255


def test_the_performer_himself_follows_himself(truth: Truth) -> None:
    figures = truth.judge_pictures(truth.inputs)
    assert figures["swap_found"] == 1
    assert figures["expression_followed"] > 1 - FACE_ITSELF
    assert figures["expression_error_iod"] < 0.006
    assert figures["pose_error_deg"] < 1
    assert figures["flicker"] == 0


def test_an_exact_swap_ranks_above_one_without_expression_and_that_above_somebody_elses(
    film: Film, truth: Truth
) -> None:
    exact, still = crops(film, film.exact), crops(film, film.still)
    good, frozen, other = (truth.judge_pictures(each) for each in (exact, still, exact.roll(7, dims=0)))
    assert all(figures["swap_found"] == 1 for figures in (good, frozen, other))
    assert good["expression_followed"] > 0.6 > 0.35 > frozen["expression_followed"] > other["expression_followed"]
    assert good["expression_error_iod"] < 0.75 * frozen["expression_error_iod"] < other["expression_error_iod"]
    assert good["pose_error_deg"] < 4 < other["pose_error_deg"]


def test_one_face_for_all_moments_follows_nothing(film: Film, truth: Truth) -> None:
    figures = truth.judge_pictures(crops(film, film.exact).mean(0, keepdim=True).expand_as(truth.inputs))
    assert figures["expression_followed"] < 0.25


@pytest.mark.parametrize("what", ["grey", "noise", "not a number"])
def test_where_no_face_was_painted_none_is_found(truth: Truth, what: str) -> None:
    fill = {"grey": 0.5, "not a number": math.nan}.get(what)
    noise = torch.rand(truth.inputs.shape, generator=torch.Generator().manual_seed(0))

    class Painter(FaceAutoencoder):
        def forward(self, faces: Tensor, side: Side) -> tuple[Painted, Tensor]:
            assert side == "identity"
            return Painted(noise if fill is None else torch.full_like(faces, fill), faces[:, :1]), faces[:, :1]

    figures = truth.judge(Painter(TINY.model))
    assert figures["swap_found"] < 0.2
    assert "expression_error_iod" not in figures
    assert all(math.isfinite(value) for value in figures.values())


def test_flicker_counts_what_changes_and_not_what_stays_wrong(film: Film, truth: Truth) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(truth.inputs.shape, generator=generator) * 12 / 255
    exact = crops(film, film.exact)
    offset = truth.judge_pictures((truth.inputs * 0.5 + 0.25).clamp(0, 1))["flicker"]
    steady, noisy = (truth.judge_pictures(each.clamp(0, 1))["flicker"] for each in (exact, exact + noise))
    assert offset < 2
    assert steady < FLOW_LEVELS
    # Noise of one pixel is averaged where a 64 px picture is enlarged and moved.
    assert 3 < math.sqrt(noisy**2 - steady**2) < 12


def test_frames_far_apart_say_nothing_about_flicker(film: Film) -> None:
    apart = Truth(film.faceset, np.arange(0, len(film.faceset), 2), GEOMETRY, None)
    figures = apart.judge_pictures(apart.inputs)
    assert "flicker" not in figures
    assert "expression_error_iod" in figures


def test_a_few_faces_have_no_mean_expression(film: Film) -> None:
    few = Truth(film.faceset, np.arange(FEWEST - 1), GEOMETRY, None)
    assert set(few.judge_pictures(few.inputs)) == {"flicker"}
    with pytest.raises(ValueError, match="swaps, got"):
        few.judge_pictures(few.inputs[:1])


def test_models_of_all_sizes_are_looked_at(film: Film) -> None:
    for size in (32, 192):
        large = Truth(film.faceset, np.arange(8), CropGeometry(size, 1.5966), None)
        figures = large.judge_pictures(large.inputs)
        assert figures["expression_followed"] > 0.8  # 32 pixels are few for a mouth
        assert figures["flicker"] == 0


def test_tiny_facesets_and_an_untrained_model_do_no_harm(tmp_path: Path) -> None:
    people = write_people(tmp_path)
    facesets: dict[Side, Faceset] = {side: Faceset.open(people[side]) for side in SIDES}
    truth = Truth.open(tmp_path, facesets, TINY)
    figures = truth.judge(FaceAutoencoder(TINY.model))
    assert all(math.isfinite(value) for value in figures.values())
    assert "identity_margin" not in figures


# ---------------------------------------------------------------- meshes


@pytest.fixture(scope="session")
def meshes(film: Film) -> list[Points]:
    return [film.faceset.landmarks[i].astype(np.float32) for i in range(0, len(film.faceset), 2)]


def moved(mesh: Points, angle_deg: float, scale: float, shift: float) -> Points:
    turn = cv2.getRotationMatrix2D((0.0, 0.0), angle_deg, scale)[:, :2]
    return np.column_stack([mesh[:, :2] @ turn.T + shift, mesh[:, 2] * scale]).astype(np.float32)


def test_where_a_face_lies_how_large_it_is_and_how_it_leans_is_no_expression(meshes: list[Points]) -> None:
    elsewhere = [moved(mesh, angle_deg=5.0 * i - 20, scale=1 + 0.1 * i, shift=9.0 * i) for i, mesh in enumerate(meshes)]
    figures = expression_figures(elsewhere, meshes)
    assert figures["expression_error_iod"] < 1e-4
    assert figures["expression_followed"] > 0.9999


def test_the_shape_of_a_face_is_no_expression(meshes: list[Points]) -> None:
    """Lips that are always thicker, in faces that look ahead: each face's own mean takes it away."""
    ahead = [meshes[0] * np.array([1, 1, 0], np.float32) for _ in range(6)]
    opened = []
    for i, mesh in enumerate(ahead):
        mesh[14, 1] += i  # the lower lip moves
        thick = mesh.copy()
        thick[17, 1] += 3
        opened.append(thick)
    figures = expression_figures(opened, ahead)
    assert figures["expression_error_iod"] < 1e-6


def test_a_performer_who_keeps_still_has_nothing_to_follow(meshes: list[Points]) -> None:
    assert set(expression_figures([meshes[0]] * 5, [meshes[0]] * 5)) == {"expression_error_iod"}


def test_a_constant_turn_is_the_identity_and_a_changing_one_is_an_error(meshes: list[Points]) -> None:
    leaning = [moved(mesh, angle_deg=-6, scale=1, shift=0) for mesh in meshes]
    assert pose_error_deg(leaning, meshes) < 0.5
    swaying = [moved(mesh, angle_deg=6 if i % 2 else -6, scale=1, shift=0) for i, mesh in enumerate(meshes)]
    assert pose_error_deg(swaying, meshes) == pytest.approx(6, abs=0.5)
