"""The processor-time benchmark: its model is what it says, its sums are right, its limits bite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.community_model import RESOLUTION, write_light_model
from benchmarks.live_cpu import CASES, lines, main, mesh_ms, stages_ms, too_slow
from realtime.bench_clip import Clip, Player, load_clip
from realtime.detect import FaceFinder
from realtime.errors import SourceError
from realtime.infer import open_engine
from realtime.swap import FaceSwapper
from tests.community_dfm import painting_dfm


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip(None, 320, 240, 4)


def test_the_model_is_a_community_dfm_of_about_a_thousand_million_multiplications(tmp_path: Path) -> None:
    macs = write_light_model(tmp_path / "light.dfm")
    assert 0.9e9 < macs < 1.2e9
    with open_engine(tmp_path / "light.dfm", threads=1) as engine:
        assert (engine.dfm.resolution, engine.dfm.takes_morph, dict(engine.dfm.card)) == (RESOLUTION, False, {})
        noise = np.random.default_rng(0).integers(0, 255, (RESOLUTION, RESOLUTION, 3), np.uint8)
        output = engine.run(noise)
    assert min(output.face_mask.min(), output.performer_mask.min()) > 0.99, "or frames would be refused"
    assert output.face.std() > 0.05, "a face that is one colour would mean dead layers"


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    write_light_model(tmp_path / "a.dfm")
    write_light_model(tmp_path / "b.dfm")
    assert (tmp_path / "a.dfm").read_bytes() == (tmp_path / "b.dfm").read_bytes()


def test_the_stages_add_up_to_the_swap(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.live_cpu.STAGE_FRAMES", 20)
    monkeypatch.setattr("benchmarks.live_cpu.WARMUP", 2)
    stages = stages_ms(painting_dfm(tmp_path / "paint.dfm"), clip)
    parts = [stages[name] for name in ("find", "model", "align, mask, colour, merge")]
    assert sum(parts) == pytest.approx(stages["whole swap"], abs=0.01)
    assert min(parts) > 0
    assert mesh_ms(clip) < stages["find"] * 3, "the mesh is the larger part of finding"


def test_a_clip_without_a_face_gives_no_machine_factor() -> None:
    with pytest.raises(SourceError, match="no face was found"):
        mesh_ms(Clip([np.zeros((64, 64, 3), np.uint8)], load_clip(None, 64, 64, 1).fps, {}))


def test_the_recorded_figures_are_those_of_the_reference() -> None:
    """CPU milliseconds a frame: 98 and 175 in all, 42 of them the model."""
    assert [round(case.peer.around_ms + case.peer.swap) for case in CASES] == [98, 175]
    assert [case.peer.swap for case in CASES] == [42, 42]


def test_a_ratio_that_is_missed_is_a_sentence_and_the_table_shows_both() -> None:
    def clip_report(ratio: float) -> dict[str, Any]:
        peer = CASES[0].peer
        return {
            "stages_cpu_ms": {"find": 2.0, "model": 14.0, "align, mask, colour, merge": 4.0},
            "deepfacelive": {
                name: getattr(peer, name)
                for name in ("detector", "marker", "aligner", "swap", "adjuster", "merger", "copies", "bound_fps")
            },
            "threaded_fps": 48.0,
            "ratio": ratio,
            "ratio_same_model": 1.0,
            "cpu_ratio": 2.0,
            "wanted_ratio": 2.0,
        }

    report = {"machine_factor": 2.0, "clips": {"480x480": clip_report(1.5), "1280x720": clip_report(2.0)}}
    assert too_slow(report) == ["480x480: 1.50 times DeepFaceLive's bound, 2 times is wanted"]
    text = "\n".join(lines(report))
    assert "another machine" in text
    assert "21.00" in text, "its model took 42 ms there, which is 21 ms here"


def test_missing_clips_end_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--clips", str(tmp_path)]) == 1
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert "say with --clips where it is" in said


@pytest.mark.slow
def test_real_clips_are_swapped_in_every_frame_that_shows_a_face(real_clips: Path, tmp_path: Path) -> None:
    write_light_model(tmp_path / "light.dfm")
    for case in CASES:
        with FaceSwapper(FaceFinder(max_faces=4), open_engine(tmp_path / "light.dfm", threads=1)) as swapper:
            frames = Player(load_clip(str(real_clips / case.file), 0, 0, 60), range(60))
            assert sum(swapper.swap(frame).swapped for frame in frames) >= 57
