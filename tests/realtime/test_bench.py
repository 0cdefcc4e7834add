"""The bench: every mode is measured on the same pictures, agrees with the others, and can be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from realtime import bench
from realtime.bench import run_bench
from realtime.bench_clip import Clip, Player, load_clip
from realtime.bench_report import compare, comparison_lines, differences, lines, middle, read_result
from realtime.errors import LiveswapError, ModelError, SourceError, UsageError
from realtime.frame import Frame
from realtime.swap import FaceSwapper, SwapResult
from tests.clips import ramp, write_clip
from tests.community_dfm import painting_dfm

FRAMES, ROUNDS, WARMUP = 12, 2, 4
PERCENTILES = {"p50", "p95", "p99", "max"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painting_dfm(tmp_path_factory.mktemp("model") / "paint.dfm")


@pytest.fixture(scope="module")
def small(model: Path) -> dict[str, Any]:
    """A whole bench, but short: real networks, real threads, a rendered performer."""
    return run_bench(
        model, frames=FRAMES, rounds=ROUNDS, warmup=WARMUP, rate=100, width=320, height=240, clip_frames=6, threads=1
    )


def test_the_report_has_what_a_reader_asks_for_and_json_takes_it(small: dict[str, Any]) -> None:
    assert json.loads(json.dumps(small)) == small
    assert small["fps"] == small["modes"]["B"]["throughput"]["fps"] > 0
    assert set(small["latency_ms"]) == PERCENTILES
    assert {"detect", "align", "infer", "blend", "swap", "guard", "badge", "send null"} <= set(small["stages"])
    assert all(set(times) == PERCENTILES for times in small["stages"].values())
    assert set(small["drops"]) >= {"swap", "null"}
    assert small["machine"]["cores"] >= 1
    assert small["engine"] == {"provider": "CPUExecutionProvider", "threads": 1}
    assert small["source"] == {"name": "pattern", "width": 320, "height": 240, "pictures": 6}
    assert small["model"]["resolution"] == 64
    assert len(small["model"]["sha256"]) == 64


def test_every_mode_counts_the_frames_after_the_warm_up_and_swaps_them(small: dict[str, Any]) -> None:
    serial, threaded = small["modes"]["A"], small["modes"]["B"]
    assert serial["frames"] == threaded["throughput"]["frames"] == FRAMES * ROUNDS
    assert sum(threaded["throughput"]["drops"].values()) == 0
    live = threaded["live"]
    # On a machine that stands still for a moment the card is one picture more.
    assert live["frames"] + sum(live["drops"].values()) >= FRAMES * ROUNDS
    for figures in (serial, threaded["throughput"], live):
        assert figures["swapped"] == 1.0
        assert figures["fps_range"][0] <= figures["fps"] <= figures["fps_range"][1]
        assert figures["cpu_ms_per_frame"] > 0
    assert live["fps_range"][1] <= 130, "live, frames come at the rate that was asked for, 100 a second"


def test_the_modes_were_found_equal_before_they_were_timed(small: dict[str, Any]) -> None:
    assert small["parity"] == {"frames": 12, "equal": True}


def test_a_threaded_loop_that_publishes_other_pictures_has_no_figures(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(FaceSwapper):
        """Shows each frame differently every time it is asked."""

        swaps = 0

        def swap(self, frame: Frame) -> SwapResult:
            Forgetful.swaps += 1
            image = frame.image.copy()
            image[0, 0] = Forgetful.swaps
            return super().swap(frame.with_image(image))

    monkeypatch.setattr(bench, "FaceSwapper", Forgetful)
    with pytest.raises(LiveswapError, match="another picture than the plain loop at frame 0"):
        run_bench(model, frames=2, rounds=1, warmup=0, width=320, height=240, clip_frames=2, threads=1)


def test_only_the_mode_that_was_asked_for_is_measured(model: Path) -> None:
    told: list[tuple[float, float, str]] = []
    report = run_bench(
        model,
        modes=("A",),
        frames=3,
        rounds=1,
        warmup=0,
        width=320,
        height=240,
        clip_frames=2,
        threads=1,
        on_progress=lambda *now: told.append(now),
    )
    assert list(report["modes"]) == ["A"]
    assert report["fps"] == report["modes"]["A"]["fps"]
    assert report["overlap"] == 1.0
    assert [note for _, _, note in told] == ["pictures", "parity", "mode A, round 1 of 1", "done"]
    shares = [done / total for done, total, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    "settings",
    [
        {"modes": ()},
        {"modes": ("C",)},
        {"rounds": 0},
        {"seconds": 0},
        {"seconds": math.nan},
        {"warmup": -1},
        {"rate": 0},
        {"frames": 0},
        {"clip_frames": 0},
        {"threads": 0},
    ],
)
def test_settings_out_of_range_are_refused_before_the_work(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="; choose"):
        run_bench(Path("absent.dfm"), **settings)


def test_a_model_that_is_missing_and_a_clip_without_a_face_end_in_one_sentence(model: Path, tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "ramps.mp4", count=4))
    with pytest.raises(ModelError, match="absent"):
        run_bench(tmp_path / "absent.dfm", source=clip)
    with pytest.raises(SourceError, match=r"no face was found in any of \d+ frames"):
        run_bench(model, source=clip, threads=1)


def test_a_clip_of_a_file_is_decoded_once_and_played_back_and_forth(tmp_path: Path) -> None:
    clip = load_clip(str(write_clip(tmp_path / "ramps.mp4", count=9)), 640, 480, count=4)
    assert clip.facts == {"name": "ramps.mp4", "width": 64, "height": 48, "pictures": 4}
    numbers = [next(i for i in range(4) if clip.image(index) is clip.images[i]) for index in range(8)]
    assert numbers == [0, 1, 2, 3, 2, 1, 0, 1]


def test_one_picture_makes_a_clip_too() -> None:
    clip = Clip([ramp()], load_clip(None, 64, 64, 1).fps, {})
    assert [frame.image is clip.images[0] for frame in Player(clip, range(3))] == [True] * 3


def test_a_player_keeps_its_rate_when_live_and_the_clips_time_otherwise() -> None:
    clip = Clip([ramp()], load_clip(None, 64, 64, 1).fps, {})
    live = list(Player(clip, range(6), live_fps=50))
    assert live[-1].captured_s - live[0].captured_s >= 5 / 50 - 0.005
    assert [round(frame.pts_s, 3) for frame in Player(clip, range(3))] == [0, 0.033, 0.067]


def test_the_middle_of_rounds_is_the_median_and_counts_add_up() -> None:
    rounds = [
        {"frames": 10, "fps": 30.0, "drops": {"swap": 1}, "latency_ms": {"p50": 5.0}},
        {"frames": 12, "fps": 10.0, "drops": {"swap": 0, "null": 2}, "latency_ms": {"p50": 90.0}},
        {"frames": 11, "fps": 32.0, "drops": {}, "latency_ms": {"p50": 6.0}},
    ]
    assert middle(rounds) == {
        "frames": 33,
        "fps": 30.0,
        "fps_range": [10.0, 32.0],
        "drops": {"swap": 1, "null": 2},
        "latency_ms": {"p50": 6.0},
    }


def test_two_reports_are_compared_figure_by_figure(small: dict[str, Any]) -> None:
    after = json.loads(json.dumps(small))
    after["modes"]["A"]["fps"] *= 2
    after["modes"]["B"]["live"]["latency_ms"]["p95"] *= 3
    after["machine"]["cpu"] = "another"
    rows = {row["name"]: row for row in compare(small, after)}
    assert (rows["A fps"]["ratio"], rows["A fps"]["better"]) == (2.0, True)
    assert rows["B live latency p95 ms"]["ratio"] == pytest.approx(3.0, rel=1e-3)
    assert not rows["B live latency p95 ms"]["better"]
    assert rows["B throughput fps"]["ratio"] == 1.0
    assert differences(small, after) == [f"machine cpu: {small['machine']['cpu']} -> another"]
    assert differences(small, small) == []


def test_a_comparison_marks_what_got_worse_and_divides_by_nothing() -> None:
    def report(fps: float, p95: float) -> dict[str, Any]:
        latency = {"p50": 0.0, "p95": p95, "p99": 2.0}
        return {"modes": {"A": {"fps": fps, "cpu_ms_per_frame": 5.0, "latency_ms": latency, "stages": {}}}}

    rows = compare(report(30, 1.0), report(20, 0.5))
    text = comparison_lines(rows)
    assert [line.split()[:2] for line in text if line.endswith("worse")] == [["A", "fps"]]
    assert next(row for row in rows if row["name"] == "A latency p50 ms")["ratio"] is None
    assert json.loads(json.dumps(rows)) == rows


def test_a_written_report_is_read_back(small: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(small), encoding="utf-8")
    assert read_result(path) == small


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "{}", '{"modes": 3}', '{"modes": {"A": 3}}', '{"modes": {"A": {"fps": 1}}}']
)
def test_what_is_no_report_ends_in_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="; give a file that liveswap bench --json wrote"):
        read_result(path)
    with pytest.raises(UsageError, match="does not exist"):
        read_result(tmp_path / "absent.json")


def test_the_table_names_the_machine_every_mode_and_every_stage(small: dict[str, Any]) -> None:
    text = "\n".join(lines(small))
    assert small["machine"]["cpu"] in text
    for name in ("A ", "B throughput", "B live", *small["stages"]):
        assert f"\n{name}" in text
