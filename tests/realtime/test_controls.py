from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.blend import RANGES, BlendSettings
from realtime.controls import ACTIONS, KNOBS, Action, Knobs, action_for, help_lines, turn
from realtime.detect import FaceFinder
from realtime.frame import Frame, ImageU8
from realtime.infer import open_engine
from realtime.pattern import PatternSource
from realtime.swap import FaceSwapper

DEMO = Path(__file__).resolve().parents[2] / "realtime" / "models" / "demo.dfm"
SEEN_LEVELS, SEEN_PIXELS, JUMP_SHARE = 4, 200, 0.1
"""A press is seen when so many pixels of 640x480 change by more than so many levels, and is no jump as long as it does
not change more than this share of the picture. Measured: 440 (sharpen) to 16200 (colour strength) pixels."""


def test_no_key_means_two_things() -> None:
    keys = [*ACTIONS, *(key for less, more, _ in KNOBS.values() for key in (less, more))]
    assert len(keys) == len(set(keys))


def test_letters_mean_the_same_with_shift_and_escape_ends() -> None:
    assert action_for("R") is action_for("r") is Action.RECORD
    assert action_for("\x1b") is Action.QUIT
    assert action_for("/") is action_for("?") is Action.HELP
    assert action_for("+") is Action.TURN
    assert action_for("%") is None


@pytest.mark.parametrize("name", KNOBS)
def test_a_knob_turns_up_and_down_and_back_to_where_it_was(name: str) -> None:
    less, more, step = KNOBS[name]
    before = Knobs(BlendSettings(erode=0.05, feather=0.1, colour_strength=0.5, opacity=0.9), morph=0.5)
    before = turn(before, "8")  # a little sharpening, so that this knob has room on both sides

    def value(knobs: Knobs) -> float:
        return float(getattr(knobs if name == "morph" else knobs.blend, name))

    up = turn(before, more)
    assert value(up) == pytest.approx(value(before) + step)
    assert turn(up, less) == before
    assert value(turn(before, less)) == pytest.approx(value(before) - step)


@given(st.text(alphabet="1234567890-=,.[];'%", max_size=300))
def test_no_keys_leave_the_ranges(keys: str) -> None:
    knobs = Knobs()
    for key in keys:
        knobs = turn(knobs, key)
    for name, low, high in RANGES:
        assert low <= getattr(knobs.blend, name) <= high
    assert 0 <= knobs.morph <= 1


def test_the_help_has_a_line_for_every_action_and_every_knob() -> None:
    assert len(help_lines()) == len(ACTIONS) + len(KNOBS)
    assert any("panic" in line for line in help_lines())


@pytest.mark.parametrize("morph", [-0.1, 1.1, float("nan"), True])
def test_a_senseless_morph_is_refused(morph: float) -> None:
    with pytest.raises(ValueError, match="morph"):
        Knobs(morph=morph)


@cache
def frame() -> Frame:
    with PatternSource(width=640, height=480, frames=1) as pattern:
        return next(iter(pattern))


@cache
def swapped(knobs: Knobs) -> ImageU8:
    """The frame as a run with these knobs begins with."""
    swapper = FaceSwapper(FaceFinder(max_faces=1), open_engine(DEMO), blend=knobs.blend, smooth=False)
    try:
        result = swapper.swap(frame())
        assert result.swapped
        return result.frame.image
    finally:
        swapper.close()


@pytest.mark.parametrize("name", [name for name in KNOBS if name != "morph"])  # the demo model does not morph
@pytest.mark.parametrize("up", [True, False])
def test_every_press_that_has_room_is_seen_and_does_not_jump(name: str, up: bool) -> None:
    before = turn(Knobs(), "8")  # a little sharpening, so that this knob has room on both sides
    after = turn(before, KNOBS[name][1] if up else KNOBS[name][0])
    if after == before:
        assert name in ("colour_strength", "opacity"), "at its end from the start"
        return
    change = np.abs(swapped(before).astype(int) - swapped(after)).max(axis=2) > SEEN_LEVELS
    assert change.sum() >= SEEN_PIXELS
    assert change.mean() < JUMP_SHARE
