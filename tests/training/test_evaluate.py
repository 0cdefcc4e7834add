"""The figures rank models as eyes do, stay within their bounds, and the sheet shows who is who."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from realtime.errors import FacesetError, TrainingError, UsageError
from realtime.frame import ImageU8
from tests.tiny_run import FACES, TINY, train_tiny, write_people
from training.checkpoint import load_best, read_run
from training.evaluate import (
    LOST_BELOW,
    SHEET_ROWS,
    WORTHLESS,
    HeldOut,
    draw_sheet,
    evaluate,
    hold_out,
    look,
    open_facesets,
    worth,
)
from training.faceset import Faceset
from training.model import FaceAutoencoder, Painted, Side
from training.truth import Truth

HEAD, COLUMNS = 24, 5
PERSON_LEVELS = 2
"""Grey levels by which a flat colour may differ from what was painted: rounding."""
BLUE, RED = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)
FACE_DB = 100.0
"""PSNR of equal pictures, so that reports hold finite numbers."""

People = dict[str, Path]


class Perfect(FaceAutoencoder):
    """Paints back what it is shown: held-out faces are neither bent nor tinted, so that is the right answer."""

    def forward(self, faces: Tensor, side: Side) -> tuple[Painted, Tensor]:
        mask = faces[:, :1] * 0
        return Painted(faces.clone(), mask), mask


class Inverting(FaceAutoencoder):
    """Paints the negative of what it is shown."""

    def forward(self, faces: Tensor, side: Side) -> tuple[Painted, Tensor]:
        return Painted(1 - faces, faces[:, :1]), faces[:, :1]


class BlackAround(FaceAutoencoder):
    """Paints the middle as it should be, and black around it."""

    def forward(self, faces: Tensor, side: Side) -> tuple[Painted, Tensor]:
        black = torch.zeros_like(faces)
        black[..., 6:26, 6:26] = faces[..., 6:26, 6:26]
        return Painted(black, faces[:, :1]), faces[:, :1]


class Flat(FaceAutoencoder):
    """Paints the identity blue and the performer red."""

    def forward(self, faces: Tensor, side: Side) -> tuple[Painted, Tensor]:
        colour = torch.tensor(BLUE if side == "identity" else RED).view(1, 3, 1, 1)
        return Painted(colour.expand_as(faces).clone(), faces[:, :1]), faces[:, :1]


@pytest.fixture(scope="module")
def held_out(finished_run: Path) -> dict[Side, HeldOut]:
    """The held-out faces of both people; they are few, so all faces are taken."""
    facesets = {side: Faceset.open(Path(f["path"])) for side, f in read_run(finished_run).facesets.items()}
    sides: tuple[Side, ...] = ("identity", "performer")
    return {side: HeldOut.choose(facesets[side], np.arange(FACES), TINY.geometry) for side in sides}


def test_a_perfect_model_has_perfect_figures(held_out: dict[Side, HeldOut]) -> None:
    figures = look(Perfect(TINY.model), held_out)
    assert figures["score"] == 1.0
    for side in held_out:
        assert [figures[f"{side}_{what}"] for what in ("ssim", "l1", "psnr_db")] == [1.0, 0.0, FACE_DB]


@pytest.mark.parametrize("kind", [Inverting, Flat, FaceAutoencoder])
def test_other_models_have_worse_figures_within_their_bounds(
    held_out: dict[Side, HeldOut], kind: type[FaceAutoencoder]
) -> None:
    figures = look(kind(TINY.model), held_out)
    assert all(math.isfinite(value) for value in figures.values())
    assert -1 <= figures["score"] < 0.9
    for side in held_out:
        assert -1 <= figures[f"{side}_ssim"] < 0.9
        assert 0 < figures[f"{side}_l1"] <= 1
        assert 0 <= figures[f"{side}_psnr_db"] < 30


def test_the_score_is_the_mean_of_both_people(held_out: dict[Side, HeldOut]) -> None:
    figures = look(Flat(TINY.model), held_out)
    assert figures["score"] == pytest.approx((figures["identity_ssim"] + figures["performer_ssim"]) / 2, abs=1e-5)
    assert len(figures) == 7


def test_only_the_face_counts(held_out: dict[Side, HeldOut]) -> None:
    """What is black lies further from the mask than the window of the similarity reaches."""
    masks = torch.zeros_like(held_out["identity"].crops.masks)
    masks[..., 12:20, 12:20] = 1
    small: dict[Side, HeldOut] = {side: HeldOut(f.crops._replace(masks=masks)) for side, f in held_out.items()}
    assert look(BlackAround(TINY.model), small)["score"] == 1.0
    assert look(BlackAround(TINY.model), held_out)["score"] < 0.95


def test_held_out_faces_are_spread_over_the_time_and_are_at_most_32(tmp_path: Path, people: People) -> None:
    faceset = Faceset.open(people["identity"])
    few = HeldOut.choose(faceset, np.array([3, 5]), TINY.geometry)
    many = HeldOut.choose(faceset, np.tile(np.arange(FACES), 9), TINY.geometry)
    assert (len(few.crops.inputs), len(many.crops.inputs)) == (2, 32)
    assert torch.equal(few.crops.inputs, few.crops.targets)
    assert few.crops.inputs.shape == (2, 3, 32, 32)


# ---------------------------------------------------------------- what a look is worth

GOOD = {"score": 0.9, "swap_found": 1.0, "identity_margin": 0.97, "expression_followed": 0.84}


def test_a_look_at_a_swap_is_worth_its_score() -> None:
    assert worth(GOOD) == GOOD["score"]
    assert worth({"score": 0.7}) == 0.7  # what was not measured is not held against it
    assert worth({**GOOD, "flicker": 99.0, "elapsed_s": 1.0}) == GOOD["score"]


@pytest.mark.parametrize("name", sorted(LOST_BELOW))
def test_a_look_that_lost_person_or_expression_is_worth_less_than_any_that_did_not(name: str) -> None:
    lost = {**GOOD, "score": 1.0, name: LOST_BELOW[name] - 1e-6}
    poor = {"score": -1.0} | LOST_BELOW
    assert worth(lost) < worth(poor)
    assert worth(poor) == -1.0


def test_nothing_that_becomes_better_lowers_the_worth() -> None:
    rng = np.random.default_rng(0)
    lowest = {"score": -1.0, "swap_found": 0.0, "identity_margin": -1.0, "expression_followed": -3.0}
    for _ in range(300):
        figures = {name: float(rng.uniform(low, 1.1)) for name, low in lowest.items()}
        for name in figures:
            better = {**figures, name: figures[name] + float(rng.uniform(0, 1))}
            assert worth(better) >= worth(figures)
        assert worth({**figures, "score": figures["score"] + 0.1}) > worth(figures)
        assert worth(figures) > WORTHLESS


def test_among_lost_looks_the_one_that_lost_less_is_worth_more() -> None:
    margins = [worth({**GOOD, "identity_margin": margin}) for margin in (-0.5, 0.0, 0.3, 0.49)]
    assert margins == sorted(set(margins))


def test_a_score_that_is_no_number_is_worth_nothing() -> None:
    assert worth({**GOOD, "score": math.nan}) == WORTHLESS


def test_with_the_truth_a_look_has_the_figures_of_the_swap(finished_run: Path, tmp_path: Path) -> None:
    record = read_run(finished_run)
    facesets = open_facesets(record)
    truth = Truth(facesets["performer"], np.arange(FACES), TINY.geometry, None)
    figures = look(Perfect(TINY.model), hold_out(facesets, TINY), truth)
    assert figures["score"] == 1.0
    assert figures["flicker"] == 0.0
    assert all(round(value, 5) == value for value in figures.values())
    assert figures == look(Perfect(TINY.model), hold_out(facesets, TINY), truth)


# ---------------------------------------------------------------- the sheet


def decode(png: bytes) -> ImageU8:
    assert png.startswith(b"\x89PNG")
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


def cells(sheet: ImageU8, side: int) -> list[list[ImageU8]]:
    """Rows of pictures below the captions."""
    pictures = sheet[HEAD:]
    rows, columns = pictures.shape[0] // side, pictures.shape[1] // side
    return [
        [pictures[r * side : (r + 1) * side, c * side : (c + 1) * side] for c in range(columns)] for r in range(rows)
    ]


def test_the_sheet_has_five_captioned_columns_and_a_row_for_each_face(held_out: dict[Side, HeldOut]) -> None:
    sheet = decode(draw_sheet(Flat(TINY.model), held_out))
    assert sheet.shape == (HEAD + SHEET_ROWS * 64, COLUMNS * 64, 3)  # small pictures are shown twice as large
    captions = sheet[:HEAD].reshape(HEAD, COLUMNS, 64, 3)
    assert all(int(captions[:, column].max()) > 150 for column in range(COLUMNS))
    assert all(int(captions[0, column].max()) == 32 for column in range(COLUMNS))


def test_the_sheet_shows_each_person_painted_by_the_right_decoder(held_out: dict[Side, HeldOut]) -> None:
    for row in cells(decode(draw_sheet(Flat(TINY.model), held_out)), 64):
        performer, swap, repainted, identity, identity_repainted = row
        for picture, colour in ((swap, BLUE), (repainted, RED), (identity_repainted, BLUE)):
            assert np.abs(picture - 255 * np.array(colour)).max() < PERSON_LEVELS
        assert performer[20:44, 20:44, 2].mean() > performer[20:44, 20:44, 0].mean()  # the performer is reddish
        assert identity[20:44, 20:44, 0].mean() > identity[20:44, 20:44, 2].mean()


def test_the_sheet_of_a_perfect_model_repeats_its_faces(held_out: dict[Side, HeldOut]) -> None:
    for performer, swap, repainted, identity, identity_repainted in cells(
        decode(draw_sheet(Perfect(TINY.model), held_out)), 64
    ):
        assert np.array_equal(performer, swap)
        assert np.array_equal(performer, repainted)
        assert np.array_equal(identity, identity_repainted)


def test_a_sheet_of_one_face_has_one_row(people: People) -> None:
    sides: tuple[Side, ...] = ("identity", "performer")
    one = {side: HeldOut.choose(Faceset.open(people[side]), np.array([2]), TINY.geometry) for side in sides}
    assert decode(draw_sheet(Flat(TINY.model), one)).shape == (HEAD + 64, COLUMNS * 64, 3)


# ---------------------------------------------------------------- a whole run


def test_evaluating_a_run_repeats_its_best_score_and_draws_its_sheet(finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "sheet.png").unlink()
    result = evaluate(run)
    _, _, progress = load_best(run)
    assert result.figures["score"] == pytest.approx(progress.best_score, abs=2e-5)
    assert (result.iteration, result.preset) == (progress.iteration, "tiny-test")
    assert result.faces == {"identity": 1, "performer": 1}
    assert decode((run / "sheet.png").read_bytes()).shape == (HEAD + 64, COLUMNS * 64, 3)
    assert json.loads(json.dumps(result.to_json()))["figures"] == result.figures


def test_the_held_out_faces_are_none_of_those_trained_on(finished_run: Path) -> None:
    record = read_run(finished_run)
    faces = hold_out(open_facesets(record), record.config)
    faceset = Faceset.open(Path(record.facesets["identity"]["path"]))
    seen, unseen = faceset.split_by_time(record.config.held_out)
    assert len(faces["identity"].crops.inputs) == len(unseen)
    assert not set(seen) & set(unseen)


def test_a_run_without_held_out_faces_is_looked_at_on_what_it_saw(people: People, tmp_path: Path) -> None:
    run = train_tiny(people, tmp_path / "run", held_out=0.0, iterations=1)
    assert evaluate(run).faces == {"identity": FACES, "performer": FACES}


def test_a_faceset_that_changed_since_the_run_is_one_sentence(tmp_path: Path) -> None:
    own = write_people(tmp_path / "own")
    run = train_tiny(own, tmp_path / "run", iterations=1)
    shutil.rmtree(own["performer"])
    with pytest.raises(FacesetError, match="performer does not exist; give the folder"):
        evaluate(run)
    shutil.copytree(write_people(tmp_path / "other", faces=FACES - 1)["performer"], own["performer"])
    with pytest.raises(UsageError, match="has changed since the run; restore it or train again"):
        evaluate(run)


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no run; give the folder that 'liveswap train --out' made"):
        evaluate(tmp_path)


def test_the_recipe_of_the_run_decides_and_not_the_default(finished_run: Path) -> None:
    model, record, _ = load_best(finished_run)
    assert record.config == TINY
    assert model.config == TINY.model
