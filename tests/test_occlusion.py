"""The occlusion benchmark tells a model that paints over a hand from one that leaves it in front."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from benchmarks import occlusion
from tests.community_dfm import liveswap_metadata, painting_dfm

SIDE = 64


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few frames of one performance, while the hand is in front, and a few after it has left."""
    monkeypatch.setattr(occlusion, "FRAMES", 40)
    monkeypatch.setattr(occlusion, "FPS", 4)
    monkeypatch.setattr(occlusion, "SEEDS", (11,))
    monkeypatch.setattr(occlusion, "WHEN", (0.7, 0.83))


def model(path: Path, mask: float) -> Path:
    return painting_dfm(path, resolution=SIDE, colour=(0.1, 0.9, 0.1), mask=mask, metadata=liveswap_metadata(schema=1))


def test_painting_over_a_hand_is_seen_and_leaving_it_in_front_too(tmp_path: Path) -> None:
    over, beside = model(tmp_path / "over.dfm", 1.0), model(tmp_path / "beside.dfm", 0.0)
    sheet, report_file = tmp_path / "sheet.png", tmp_path / "report.json"
    arguments = [str(over), str(beside), "--json", str(report_file), "--sheet", str(sheet)]
    assert occlusion.main(arguments) == 0
    report = json.loads(report_file.read_text(encoding="utf-8"))
    painted, left = report["models"].values()
    assert report["frames_with_hand"] > report["of_them_no_face_found"]
    assert left["in_front"] > 0.98  # moving fingers blur the face behind them into their rim
    assert left["hand_psnr_db"] > 30
    assert left["identity_transfer"] == pytest.approx(0, abs=1e-3)
    assert left["published"] == left["clean_published"] == 0.0
    assert sum(left["misses"].values()) > 0
    assert painted["in_front"] < 0.8
    assert painted["hand_psnr_db"] < left["hand_psnr_db"] - 10
    assert painted["clean_holes"] < 0.05 < left["clean_holes"]
    assert painted["clean_published"] == 1.0
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[1] == 4 * occlusion._WINDOW_PX
