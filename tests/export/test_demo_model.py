"""Making the demo model: what is there is kept, what is missing is made, and the whole way leads to a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from export.demo_model import (
    ACTORS,
    FILM_FPS,
    FROM_SCRATCH,
    SEEDS,
    SHIPPED,
    STATEMENT,
    Plan,
    film,
    make_model,
    rehearsal,
)
from realtime.dfm import Placement, read_dfm
from realtime.errors import UsageError
from tests.tiny_run import TINY, write_person
from training.checkpoint import LATEST, read_run
from training.config import load_recipe
from training.faceset import Faceset


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """TINY as a recipe file."""
    model = "\n".join(f"{key} = {json.dumps(value)}" for key, value in TINY.to_dict()["model"].items())
    settings = {key: TINY.to_dict()[key] for key in ("batch", "warmup", "save_every", "evaluate_every", "threads")}
    head = "\n".join(f"{key} = {value}" for key, value in settings.items())
    path = tmp_path / "tiny.toml"
    path.write_text(f"{head}\n[model]\n{model}\n")
    return str(path)


def already_filmed(folder: Path) -> Path:
    """A folder with two videos and the facesets taken from them: training is what comes next."""
    folder.mkdir()
    for who in ACTORS:
        (folder / f"{who}.mp4").write_bytes(b"filmed")
        write_person(folder / f"{who}-faces", who)
    return folder


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> Placement:
    """What is measured of the rehearsal: a model of four steps paints nothing in which a face could be found."""
    placement = Placement(1.02, 0.01, -0.03)
    monkeypatch.setattr("export.demo_model.measure_placement", lambda model, pairs: placement)
    return placement


def test_what_was_filmed_and_extracted_is_not_made_again(tmp_path: Path, recipe: str, placed: Placement) -> None:
    out = already_filmed(tmp_path / "out")
    steps: list[tuple[str, float]] = []
    report = make_model(out, Plan(frames=3, preset=recipe, iterations=4), lambda *step: steps.append(step))
    assert (out / "identity.mp4").read_bytes() == b"filmed"
    dfm = read_dfm(out / "demo.dfm")
    assert (dfm.card["subject"], dfm.card["consent"], dfm.card["exporter"]) == (
        STATEMENT.subject,
        STATEMENT.consent,
        "liveswap",
    )
    assert dfm.placement == placed
    assert (report.path, report.resolution) == (str(out / "demo.dfm"), TINY.model.resolution)
    assert list(dict.fromkeys(what for what, _ in steps)) == ["filming two actors", f"training {recipe}", "exporting"]
    assert all(0 <= share <= 1 for _, share in steps)
    assert steps[-1] == ("exporting", 1.0)


@pytest.mark.usefixtures("placed")
def test_an_interrupted_training_goes_on_only_when_asked(tmp_path: Path, recipe: str) -> None:
    out = already_filmed(tmp_path / "out")
    make_model(out, Plan(frames=3, preset=recipe, iterations=2))
    first = (out / "run" / LATEST).read_bytes()
    with pytest.raises(UsageError, match="holds a run already"):
        make_model(out, Plan(frames=3, preset=recipe, iterations=3))
    assert (out / "run" / LATEST).read_bytes() == first
    make_model(out, Plan(frames=3, preset=recipe, iterations=3), resume=True)
    assert read_run(out / "run").config.iterations == 3
    assert (out / "run" / LATEST).read_bytes() != first


def test_the_plans_name_recipes_and_have_a_budget() -> None:
    for plan in (FROM_SCRATCH, SHIPPED):
        assert load_recipe(plan.preset).model.resolution == 128
        assert (plan.minutes is None) != (plan.iterations is None)
        assert plan.frames > 100
    assert (FROM_SCRATCH.minutes or 0) <= 7  # the whole of it has ten


def test_the_two_actors_give_different_performances() -> None:
    assert len(set(SEEDS.values())) == len(ACTORS) == 2


def test_a_film_has_the_frames_asked_for_and_shows_somebody_moving(tmp_path: Path) -> None:
    film("identity", 3, tmp_path / "ada.mp4")
    with av.open(str(tmp_path / "ada.mp4")) as video:
        assert video.streams.video[0].average_rate == FILM_FPS
        pictures = [frame.to_ndarray(format="bgr24").astype(int) for frame in video.decode(video=0)]
    assert len(pictures) == 3
    assert np.abs(pictures[2] - pictures[0]).mean() > 0.5


def test_the_rehearsal_shows_moments_of_the_performance_with_their_exact_answers() -> None:
    moments = list(rehearsal(2))
    assert len(moments) == 2
    for performer, answer in moments:
        assert performer.shape == answer.shape == (480, 640, 3)
        different = np.abs(performer.astype(int) - answer.astype(int)).max(axis=2) > 20
        assert 0.01 < different.mean() < 0.4  # the face alone


@pytest.mark.slow
def test_a_model_is_made_from_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    facts: dict[str, Any] = make_model(out, Plan(frames=60, preset="tiny-64", iterations=250)).to_json()
    assert facts["size_bytes"] == (out / "demo.dfm").stat().st_size
    assert [len(Faceset.open(out / f"{who}-faces")) for who in ACTORS] == [60, 60]
    dfm = read_dfm(out / "demo.dfm")
    assert (dfm.resolution, dfm.card["training"]["preset"]) == (64, "tiny-64")
    assert dfm.placement != Placement()
