from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.align import CropGeometry
from realtime.blend import BlendSettings
from realtime.controls import Knobs
from realtime.detect import FaceFinder
from realtime.dfm import Dfm
from realtime.frame import Frame, ImageU8
from realtime.infer import open_engine
from realtime.live_swapper import Adjust, Change, ChooseAt, LiveSwapper, NextFace, UseModel
from realtime.pattern import PatternSource
from realtime.recorder import InputRecorder
from realtime.replay import ReplaySource
from realtime.source import SourceInfo
from realtime.swap import FaceSwapper
from tests.community_dfm import random_dfm

DEMO = Path(__file__).resolve().parents[2] / "realtime/models/demo.dfm"
COUNT, STEP_S = 16, 1 / 30
START_S = 4321.123456789
"""A time of capture with digits that a careless file format would lose."""


@pytest.fixture(scope="module")
def filmed() -> tuple[SourceInfo, list[Frame]]:
    with PatternSource(width=320, height=240, frames=COUNT, hand=False) as pattern:
        frames = list(pattern)
        return replace(pattern.info, live=True), [
            Frame(each.image, each.index, START_S + each.index * STEP_S) for each in frames
        ]


def geometry(dfm: Dfm) -> CropGeometry:
    return dfm.geometry


def open_swapper(changes: deque[Change], *, live: bool, **how: Any) -> LiveSwapper:
    finder, engine = FaceFinder(max_faces=2), open_engine(DEMO, threads=1)
    return LiveSwapper(FaceSwapper(finder, engine, live=live), geometry, changes, **how)


def run(swapper: LiveSwapper, frames: list[Frame], info: SourceInfo) -> list[ImageU8]:
    try:
        swapper.begin(info)
        return [swapper.swap(frame).frame.image for frame in frames]
    finally:
        swapper.close()


def test_a_replay_repeats_every_change_before_the_same_frame_bit_for_bit(
    filmed: tuple[SourceInfo, list[Frame]], tmp_path: Path
) -> None:
    info, frames = filmed
    other = random_dfm(tmp_path / "other.dfm", resolution=128)
    changes: deque[Change] = deque()
    planned: dict[int, Change] = {
        4: Adjust(Knobs(BlendSettings(feather=0.1, colour="none"), morph=0.5)),
        6: ChooseAt(160, 120),
        9: NextFace(),
        12: UseModel(open_engine(other, threads=1)),
    }
    swapper = open_swapper(changes, live=True, open_recorder=lambda info: InputRecorder(tmp_path / "input", info, {}))
    swapper.begin(info)
    published = []
    for frame in frames:
        if frame.index in planned:
            changes.append(planned[frame.index])
        published.append(swapper.swap(frame).frame.image)
    swapper.close()

    for _ in range(2):
        with ReplaySource(tmp_path / "input") as replay:
            again = run(
                open_swapper(deque(), live=False, script=lambda source=replay: source.events), list(replay), info
            )
        assert len(again) == len(published)
        for before, after in zip(published, again, strict=True):
            np.testing.assert_array_equal(before, after)
    plain = run(open_swapper(deque(), live=True), frames, info)
    assert not np.array_equal(plain[5], published[5]), "the changes do change the picture"
    assert not np.array_equal(plain[13], published[13])


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"adjust": 3},
        {"adjust": {"blend": {"feather": 99}, "morph": 0.5}},
        {"adjust": {"blend": {"nonsense": 1}, "morph": 0.5}},
        {"adjust": {"blend": {}, "morph": "much"}},
        {"choose_at": [1]},
        {"choose_at": "there"},
        {"model": "missing.dfm", "sha256": "0"},
        {"model": str(DEMO), "sha256": "0"},
    ],
)
def test_a_recorded_change_that_makes_no_sense_is_left_out_and_said(
    filmed: tuple[SourceInfo, list[Frame]], event: Mapping[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    frames = filmed[1][:2]
    with caplog.at_level(logging.WARNING):
        images = run(open_swapper(deque(), live=True, script=lambda: [(1, event)]), frames, filmed[0])
    assert "a recorded change was left out" in caplog.text
    for before, after in zip(run(open_swapper(deque(), live=True), frames, filmed[0]), images, strict=True):
        np.testing.assert_array_equal(before, after)


def test_another_model_takes_over_between_two_frames(filmed: tuple[SourceInfo, list[Frame]], tmp_path: Path) -> None:
    changes: deque[Change] = deque()
    swapper = open_swapper(changes, live=True)
    first = swapper.swap(filmed[1][0])
    changes.append(UseModel(open_engine(random_dfm(tmp_path / "other.dfm", resolution=64), threads=1)))
    second = swapper.swap(filmed[1][1])
    swapper.close()
    assert first.swapped
    assert second.swapped
    assert not changes
