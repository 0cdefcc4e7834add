"""The soak: a judge that sees raw faces, a source that breaks, and runs of the real loop on what is hard for it."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.hard_film import LOOK_AWAY_DEG, Face, Shot, film
from benchmarks.soak import FPS, MODEL, BreakingSource, InStep, Judge, RollingRecording, Soak, broken_limits, rss_mb
from realtime.errors import SourceError
from realtime.frame import Frame, ImageU8
from realtime.standin import hide, slate

SHOTS = 60
WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    return list(film(SHOTS, WIDTH, HEIGHT))


def frame(image: ImageU8, index: int) -> Frame:
    return Frame(image, index, captured_s=0.0)


def judged(shots: list[Shot], image: ImageU8, index: int) -> int:
    judge = Judge(shots)
    judge.send(frame(image, index))
    return len(judge.raw)


def with_face(shots: list[Shot]) -> int:
    """A shot well inside the talking scene."""
    return next(index for index, shot in enumerate(shots) if index > 2 and shot.scene == "talking")


def painted(shot: Shot, share: float) -> ImageU8:
    """The picture with the upper `share` of the performer's face painted over."""
    image = shot.image.copy()
    assert shot.performer is not None
    pixels = shot.performer.pixels[: round(share * len(shot.performer.pixels))]
    image.reshape(-1, 3)[pixels] ^= 255
    return image


# The film


def test_the_film_has_every_difficulty_and_knows_where_the_faces_are(shots: list[Shot]) -> None:
    assert {shot.scene for shot in shots} == {"talking", "look away", "card", "hand", "guest", "leaving", "alone"}
    yaws = [shot.yaw for shot in shots]
    assert min(yaws) < -60
    assert max(yaws) > 60
    assert max(map(abs, yaws)) <= LOOK_AWAY_DEG
    assert any(shot.performer is None for shot in shots), "the card hides the whole face"
    assert any(shot.guest is not None and shot.performer is not None for shot in shots)
    for shot in shots:
        for face in (shot.performer, shot.guest):
            if face is not None:
                np.testing.assert_array_equal(shot.image.reshape(-1, 3)[face.pixels], face.colours)
                assert face.kept(shot.image) in ((1.0, 1.0), (1.0, 0.0))  # a hand may hide the whole inner part


def test_two_faces_never_claim_one_pixel(shots: list[Shot]) -> None:
    for shot in shots:
        if shot.performer is not None and shot.guest is not None:
            assert not np.intersect1d(shot.performer.pixels, shot.guest.pixels).size


# The judge


def test_the_judge_sees_a_raw_face(shots: list[Shot]) -> None:
    index = with_face(shots)
    assert judged(shots, shots[index].image, index) == 1


def test_the_judge_sees_a_raw_face_that_comes_late(shots: list[Shot]) -> None:
    index = with_face(shots)
    assert judged(shots, shots[index].image, index + 6) == 1


@pytest.mark.parametrize(("share", "raw"), [(0.2, 1), (0.95, 0)])
def test_the_judge_wants_half_of_the_face(shots: list[Shot], share: float, raw: int) -> None:
    index = with_face(shots)
    assert judged(shots, painted(shots[index], share), index) == raw


def test_a_raw_inner_face_is_a_raw_face(shots: list[Shot]) -> None:
    """Chin, cheeks and forehead painted, eyes, nose and mouth left."""
    index = with_face(shots)
    face = shots[index].performer
    assert face is not None
    image = shots[index].image.copy()
    image.reshape(-1, 3)[face.pixels[~face.inner]] ^= 255
    assert face.kept(image)[0] < 0.5, "otherwise the whole face would be judged"
    assert judged(shots, image, index) == 1


def test_stand_ins_are_no_raw_faces(shots: list[Shot]) -> None:
    index = with_face(shots)
    image = shots[index].image
    for stand_in in (slate(HEIGHT, WIDTH), hide(image, ()), np.full_like(image, 127)):
        assert judged(shots, stand_in, index) == 0


def test_the_judge_tells_the_scene_whether_it_is_the_moment_and_who_was_swapped(shots: list[Shot]) -> None:
    index = next(i for i, shot in enumerate(shots) if shot.guest is not None and shot.performer is not None)
    shot = shots[index]
    assert shot.guest is not None
    stolen = shot.image.copy()
    stolen.reshape(-1, 3)[shot.guest.pixels] ^= 255
    judge = Judge(shots)
    judge.send(frame(stolen, index))
    judge.send(frame(slate(HEIGHT, WIDTH), index))
    verdict = judge.scenes[shot.scene]
    assert (verdict.shown, verdict.current, verdict.stolen, verdict.raw) == (2, 1, 1, 1)
    assert judge.raw == [(index, shot.scene, round(shot.yaw, 1))]


def test_a_face_of_few_pixels_is_compared_too() -> None:
    face = Face(np.array([3], np.int32), np.array([[9, 9, 9]], np.uint8), np.array([False]))
    image = np.zeros((2, 4, 3), np.uint8)
    assert face.kept(image) == (0.0, 0.0)
    image[0, 3] = 9
    assert face.kept(image) == (1.0, 0.0)


# The source and the recording


def test_the_source_breaks_in_three_ways(shots: list[Shot]) -> None:
    count = [0]

    def source(first: int) -> BreakingSource:
        return BreakingSource(shots, first, 2, InStep(), lambda: count.__setitem__(0, count[0] + 1))

    with pytest.raises(SourceError, match="unplugged"):
        list(source(0))
    ended = list(source(2))
    assert [each.index for each in ended] == [0, 1]
    assert ended[0].image is shots[2].image
    delivered: list[object] = []
    with pytest.raises(SourceError, match="unplugged"):
        delivered.extend(source(4))
    assert count[0] == 6


def test_a_paced_source_keeps_its_rate(shots: list[Shot]) -> None:
    times = [each.captured_s for each in BreakingSource(shots, 5, 5, None, lambda: None)]
    assert times[-1] - times[0] >= 4 / FPS - 0.005


def test_the_recording_begins_anew_and_leaves_nothing(shots: list[Shot], tmp_path: Path) -> None:
    info = BreakingSource(shots, 0, 2, None, lambda: None).info
    recording = RollingRecording(tmp_path, info, every=3)
    for index in range(8):
        recording.send(Frame(shots[index].image, index, captured_s=index / FPS, pts_s=index / FPS))
    recording.close()
    assert recording.files == 3
    assert list(tmp_path.iterdir()) == []


# The runs


def run(shots: list[Shot], folder: Path, **settings: Any) -> dict[str, Any]:
    settings = {"frames": 140, "every": 50, "paced": False, "first_wait_s": 0.05} | settings
    return Soak(shots, MODEL, **settings).run(folder)


def test_a_short_soak_publishes_no_raw_face_and_leaves_no_thread(shots: list[Shot], tmp_path: Path) -> None:
    report = run(shots, tmp_path)
    # Memory is for the long run: what a run of seconds needs is its warm-up.
    assert broken_limits(report | {"rss_growth_mb": 0.0}, reconnects=2) == []
    assert report["frames"] >= 140
    assert report["judged"] > 60
    assert report["states"]["live"] > 5, "in films of a second and with two people, doubt is usual"
    assert report["garbage"] in (0, 3), "the third break, if it is reached, begins with three bad pictures"
    assert report["queue_max"] == 1
    assert report["failed_frames"] == 0
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("liveswap")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_long_soak_keeps_every_limit(tmp_path: Path) -> None:
    report = run(list(film(360)), tmp_path, frames=20_000, every=500, first_wait_s=0.5)
    assert broken_limits(report, reconnects=39) == []


def test_every_broken_limit_is_a_sentence() -> None:
    kept: dict[str, Any] = {
        "raw_face_frames": 0,
        "raw_faces": [],
        "strays": 0,
        "rss_growth_mb": 1.0,
        "stuck_threads": 0,
        "stuck": [],
        "reconnects": 3,
        "states": {"live": 5},
    }
    assert broken_limits(kept, reconnects=3) == []
    for broken in (
        {"raw_face_frames": 1, "raw_faces": [(7, "card", 0.0)]},
        {"strays": 1},
        {"rss_growth_mb": 30.0},
        {"stuck_threads": 1, "stuck": ["liveswap swap"]},
        {"reconnects": 2},
        {"states": {"slate": 5}},
    ):
        assert len(broken_limits(kept | broken, reconnects=3)) == 1


def test_memory_is_measured_in_megabytes() -> None:
    before = rss_mb()
    # From the system itself: what the C library hands out may be memory that this process has kept.
    with mmap.mmap(-1, 64 * 2**20) as block:
        block.write(bytes([1]) * len(block))
        assert 32 < rss_mb() - before < 160
