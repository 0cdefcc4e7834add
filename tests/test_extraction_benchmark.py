"""The benchmark of extraction: its films are what they say, its clock adds up, its report can be read."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.acted_film import FPS, act, count, repeat
from benchmarks.extraction import compare, lines, main, resident_mib
from benchmarks.stage_clock import STAGES, CpuClock, timed_stages
from realtime.detect import FaceFinder
from realtime.video_file import VideoFile
from training import search

FRAMES = 8
SMALL = (320, 240)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return act(tmp_path_factory.mktemp("film"), SMALL, FRAMES)


def burn(seconds: float) -> None:
    end_s = time.process_time() + seconds
    while time.process_time() < end_s:
        pass


def test_a_stage_that_another_calls_counts_for_itself_alone() -> None:
    clock = CpuClock()
    inner = clock.wrap("mesh", lambda: burn(0.05))

    def outer() -> None:
        burn(0.02)
        inner()

    clock.wrap("detect", outer)()
    assert clock.spent_s["mesh"] == pytest.approx(0.05, abs=0.02)
    assert clock.spent_s["detect"] == pytest.approx(0.02, abs=0.02)
    assert list(clock.wrap_iterator("decode", lambda: iter([1, 2]))()) == [1, 2]


def test_the_stages_are_as_before_when_the_block_ends() -> None:
    before = dict(vars(search)), dict(vars(FaceFinder))
    with timed_stages(CpuClock()):
        assert vars(search)["read_part"] is not before[0]["read_part"]
    with pytest.raises(KeyError), timed_stages(CpuClock()):
        raise KeyError
    assert (dict(vars(search)), dict(vars(FaceFinder))) == before


def test_a_film_comes_with_its_exact_landmarks_and_is_rendered_once(video: Path) -> None:
    assert count(video) == FRAMES
    assert np.load(video.with_suffix(".npy"), allow_pickle=False).shape == (FRAMES, 468, 2)
    written = video.stat().st_mtime_ns
    assert act(video.parent, SMALL, FRAMES) == video
    assert video.stat().st_mtime_ns == written


def test_a_repeated_film_shows_the_same_pictures_again_and_again(video: Path, tmp_path: Path) -> None:
    with VideoFile(video) as once, VideoFile(repeat(video, tmp_path / "long.mp4", 3 * FRAMES / FPS / 60)) as longer:
        pictures, frames = [frame.image for frame in once], list(longer)
    assert len(frames) == 3 * FRAMES
    assert [frame.pts_s for frame in frames] == pytest.approx([i / FPS for i in range(3 * FRAMES)], abs=1e-4)
    assert all(np.array_equal(frame.image, pictures[i % FRAMES]) for i, frame in enumerate(frames))


def test_the_default_detector_finds_every_rendered_face(video: Path) -> None:
    row = compare(video, ["mediapipe"])["mediapipe"]
    assert row["found"] == 1.0
    assert 0.01 < row["mesh_error"] < 0.06


def test_memory_of_this_process_is_seen() -> None:
    assert resident_mib(os.getsid(0)) > 50


@pytest.mark.slow
def test_the_whole_report_is_written(tmp_path: Path) -> None:
    flags = ["--work", str(tmp_path), "--frames", "6", "--speed-seconds", "1", "--long-minutes", "0.02"]
    assert main([*flags, "--detectors", "mediapipe", "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    row = report["films"]["1280x720"]["mediapipe"]
    assert set(row["cpu_ms"]) == set(STAGES)
    assert sum(row["cpu_ms"].values()) == pytest.approx(row["cpu_ms_per_frame"], rel=0.02)
    assert report["memory"]["faces"] > 0
    assert any("1280x720 mediapipe" in line for line in lines(report))
