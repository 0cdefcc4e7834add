"""The demo films, scores and reports; a model with a known answer gets exactly that answer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import pytest

from export import demo
from export.demo import FPS, RAW_TRANSFER, run_demo
from realtime.actors import perform
from realtime.errors import LiveswapError, SinkError, UsageError
from tests.community_dfm import liveswap_metadata, painting_dfm

SECONDS = 0.2
FRAMES = round(SECONDS * FPS)
SCORES = (
    "identity_transfer",
    "face_psnr_db",
    "face_ssim",
    "outside_psnr_db",
    "landmark_error_iod",
    "flicker",
)
NOTHING_HAPPENED = 0.05
"""Largest identity_transfer of a model that paints the performer back: sampling softens the face a little."""


class Demo(NamedTuple):
    out: Path
    report: dict[str, Any]
    steps: list[tuple[str, float]]


@pytest.fixture(scope="module")
def doing_nothing(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A short demo with a model that paints back what it is shown: a swap that is none."""
    folder = tmp_path_factory.mktemp("demo")
    metadata = liveswap_metadata(schema=1, training={"preset": "none"})
    model = painting_dfm(folder / "nothing.dfm", keep=1.0, metadata=metadata)
    steps: list[tuple[str, float]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "MODEL", model)
        patch.setattr(demo, "_LIVE_SECONDS", 0.3)
        # The swapper refuses such a model; here the demo's own judge is to find it out.
        patch.setattr("realtime.swap._gives_back", lambda *_: False)
        # The same frames, rendered on this thread: starting processes would take longer than all the rest.
        patch.setattr(demo, "render_clip", lambda scene, workers: perform(scene))
        report = run_demo(folder / "out", seconds=SECONDS, on_progress=lambda what, share: steps.append((what, share)))
    return Demo(folder / "out", report, steps)


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from numbers_in(each)
    elif isinstance(value, int | float):
        yield float(value)


def test_the_demo_leaves_a_video_a_sheet_and_a_report(doing_nothing: Demo) -> None:
    assert {path.name for path in doing_nothing.out.iterdir()} == {"demo.mp4", "sheet.png", "report.json"}
    assert json.loads((doing_nothing.out / "report.json").read_text()) == doing_nothing.report


def test_the_report_has_every_figure_and_each_is_a_number(doing_nothing: Demo) -> None:
    report = doing_nothing.report
    for scores in (report, report["baseline"]):
        assert all(math.isfinite(scores[name]) for name in SCORES)
    assert {"p50", "p95", "p99"} <= set(report["latency_ms"])
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p95"] <= report["latency_ms"]["p99"]
    assert report["fps"] > 0
    assert report["lossless_fps"] > 0
    assert report["machine"]["cpu"]
    assert all(math.isfinite(value) for value in numbers_in(report))
    json.dumps(report, allow_nan=False)


def test_every_frame_goes_in_and_comes_out(doing_nothing: Demo) -> None:
    report = doing_nothing.report
    assert (report["frames_in"], report["frames_out"]) == (FRAMES, FRAMES)
    assert sum(report["states"].values()) == FRAMES
    assert report["badge"] is True
    assert report["scene"]["frames"] == FRAMES
    live = report["live"]
    assert live["frames_in"] >= live["frames_out"] > 0


def test_a_swap_that_is_none_scores_nothing_and_counts_as_raw_faces(doing_nothing: Demo) -> None:
    report = doing_nothing.report
    assert abs(report["identity_transfer"]) < NOTHING_HAPPENED < RAW_TRANSFER
    assert report["raw_face_frames"] == FRAMES
    assert report["face_psnr_db"] == pytest.approx(report["baseline"]["face_psnr_db"], abs=1.5)


def test_the_baseline_is_the_performer_himself(doing_nothing: Demo) -> None:
    baseline = doing_nothing.report["baseline"]
    assert baseline["identity_transfer"] == 0
    assert 15 < baseline["face_psnr_db"] < 27
    assert 0.4 < baseline["face_ssim"] < 0.9
    assert baseline["outside_psnr_db"] > 30


def test_outside_the_face_and_the_badge_little_may_change(doing_nothing: Demo) -> None:
    assert doing_nothing.report["outside_psnr_db"] > 30


def test_the_report_says_which_model_it_judged(doing_nothing: Demo) -> None:
    model = doing_nothing.report["model"]
    assert (model["name"], model["resolution"], model["training"]) == ("nothing.dfm", 64, {"preset": "none"})
    assert len(model["sha256"]) == 64
    assert model["bytes"] > 0
    assert doing_nothing.report["from_scratch"] is None


def test_the_video_shows_performer_swap_and_truth_side_by_side(doing_nothing: Demo) -> None:
    with av.open(str(doing_nothing.out / "demo.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height) == (3 * 640, 480)
        assert stream.average_rate == FPS
        pictures = [frame.to_ndarray(format="bgr24").astype(int) for frame in video.decode(stream)]
    assert len(pictures) == FRAMES
    performer, swap, truth = np.split(pictures[-1], 3, axis=1)
    middle = np.s_[120:360, 200:440]
    assert np.abs(performer[middle] - swap[middle]).mean() < 4  # this model changes nothing
    assert np.abs(performer[middle] - truth[middle]).mean() > 4  # the other actor


def test_the_sheet_holds_frames_of_the_video_below_their_captions(doing_nothing: Demo) -> None:
    sheet = cv2.imread(str(doing_nothing.out / "sheet.png"))
    assert sheet is not None
    rows, rest = divmod(sheet.shape[0] - 40, 320)
    assert (rest, sheet.shape[1]) == (0, 3 * 320)
    assert 1 <= rows <= 6
    captions = np.split(sheet[:40], 3, axis=1)
    assert all(int(caption.max()) > 200 for caption in captions)


def test_progress_tells_what_is_being_done_and_how_far_it_is(doing_nothing: Demo) -> None:
    names = [what for what, _ in doing_nothing.steps]
    assert list(dict.fromkeys(names)) == ["swapping", "running live"]
    assert all(0 <= share <= 1 for _, share in doing_nothing.steps)


# ---------------------------------------------------------------- what cannot be


def refused(out: Path, kind: type[LiveswapError], **settings: Any) -> str:
    with pytest.raises(kind) as error:
        run_demo(out, **settings)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("seconds", [0, 0.1, -1, 601, math.nan, math.inf])
def test_a_demo_has_a_sensible_length(tmp_path: Path, seconds: float) -> None:
    assert "lasts 0.2 to 600 seconds" in refused(tmp_path / "out", UsageError, seconds=seconds)
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "lies below a file" in refused(tmp_path / "file" / "out", SinkError)
    assert "file" in refused(tmp_path / "file", SinkError)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_missing_model_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MODEL", tmp_path / "gone.dfm")
    assert "install liveswap again" in refused(tmp_path / "out", LiveswapError)


def test_an_earlier_scratch_folder_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "out" / "scratch").mkdir(parents=True)
    assert "exists already; remove it, or give another --out" in refused(
        tmp_path / "out", UsageError, from_scratch=True
    )
    assert not any((tmp_path / "out" / "scratch").iterdir())
