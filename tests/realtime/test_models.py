"""The shipped demo model: what lies beside it says what it is."""

from __future__ import annotations

import json
from pathlib import Path

from realtime.dfm import read_dfm

MODELS = Path(__file__).resolve().parents[2] / "realtime" / "models"
MOST_BYTES = 12_000_000


def test_the_record_beside_the_demo_model_is_about_this_model() -> None:
    model, record = read_dfm(MODELS / "demo.dfm"), json.loads((MODELS / "demo.json").read_text("utf-8"))
    assert record["sha256"] == model.sha256
    assert record["placement"] == model.card["placement"]
    assert record["recipe"]["model"]["resolution"] == model.resolution


def test_the_demo_model_is_small_and_names_its_subject() -> None:
    model = read_dfm(MODELS / "demo.dfm")
    assert model.size_bytes <= MOST_BYTES
    assert "rendered" in model.card["subject"]
    assert model.card["consent"]


def test_the_recorded_figures_clear_the_bar_that_was_set_for_the_first_model() -> None:
    figures = json.loads((MODELS / "demo.json").read_text("utf-8"))["figures"]
    assert figures["identity_transfer"] >= 0.75
    assert figures["face_psnr_db"] >= 24
    assert figures["face_ssim"] >= 0.75
    assert figures["raw_face_frames"] == 0
