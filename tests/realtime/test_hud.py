from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.frame import ImageU8
from realtime.guard import State
from realtime.hud import draw_hud, status_rows
from realtime.report import Progress

SIZES = [(240, 320), (480, 640), (720, 1280), (1280, 720), (1080, 1920), (2160, 3840)]
RED, GREEN, AMBER = (48, 40, 226), (104, 205, 84), (48, 190, 252)
LEGIBLE = 120
"""Levels between letters and panel."""
FACE_FROM = 0.35
"""Share of the width of a wide picture at which the face of somebody in the middle may begin."""
PANEL_MS = 2.0
"""Processor time for the panel at 720p. It takes 0.4 ms where nothing has changed and 1 ms where something has."""

STAGES = {"capture": (0.9, 1.4), "detect": (3.1, 9.2), "infer": (18.2, 24.9), "swap": (25.1, 38.4)}


def grey(height: int = 720, width: int = 1280, level: int = 128) -> ImageU8:
    image = np.full((height, width, 3), level, np.uint8)
    image.setflags(write=False)
    return image


def progress(state: str = "live", **others: Any) -> Progress:
    usual = Progress(1234, None, 29.94, state, (41.3, 58.2), STAGES, {"swap": 12, "preview": 0})
    return replace(usual, **others)


def has(image: ImageU8, colour: tuple[int, int, int]) -> int:
    """How many pixels are of this colour."""
    return int((np.abs(image.astype(int) - colour).max(axis=2) <= 2).sum())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_picture_that_was_handed_in_stays_as_it_was(height: int, width: int) -> None:
    image = grey(height, width)
    drawn = draw_hud(image, progress(), ["model demo.dfm"], help_lines=["q  quit"])
    assert drawn is not image
    assert not np.shares_memory(drawn, image)
    assert (image == 128).all()
    assert drawn.shape == image.shape


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_the_panel_is_at_the_left_and_can_be_read_on_dark_and_bright(height: int, width: int, level: int) -> None:
    image = grey(height, width, level)
    drawn = draw_hud(image, progress(), ["model demo.dfm"])
    rows, columns = np.nonzero((drawn != image).any(axis=2))
    wide = width >= 1.5 * height
    assert columns.max() < (FACE_FROM if wide else 0.5) * width
    panel = drawn[rows.min() : rows.max(), columns.min() : columns.max()]
    assert int(panel.max()) - int(np.median(panel)) > LEGIBLE
    assert has(drawn, GREEN) > 0.002 * height * width, "the light"


@pytest.mark.parametrize("state", [*State, "opening"])
def test_every_state_has_a_light_with_a_word(state: str) -> None:
    word = status_rows(progress(state), [])[0]
    assert word.light is not None
    assert word.cells == ("RAW FACE" if state == "raw" else str(state).upper(),)


def test_the_colours_of_the_lights_say_how_safe_it_is() -> None:
    lights = {str(state): status_rows(progress(str(state)), [])[0].light for state in State}
    assert lights["live"] == GREEN
    assert lights["hold"] == AMBER
    assert lights["raw"] == RED
    assert lights["blur"] == lights["slate"] == lights["armed"]
    assert len(set(lights.values())) == 5, "panic has a colour of its own"


def test_a_raw_face_has_a_red_frame_around_it_even_without_the_panel() -> None:
    for panel in (True, False):
        drawn = draw_hud(grey(), progress("raw"), [], panel=panel)
        for edge in (drawn[:3], drawn[-3:], drawn[:, :3], drawn[:, -3:]):
            assert (edge == RED).all()
    assert (draw_hud(grey(), progress("live"), [], panel=False) == 128).all()


def test_the_panel_tells_speed_latency_stages_drops_and_notes() -> None:
    rows = status_rows(progress(), ["model demo.dfm", " ", "saved the still"])
    assert [row.cells for row in rows] == [
        ("LIVE",),
        ("swapped face",),
        ("29.9 fps", "frame 1,234"),
        ("milliseconds", "p50", "p95"),
        ("end to end", "41", "58"),
        ("capture", "0.9", "1.4"),
        ("detect", "3.1", "9.2"),
        ("infer", "18", "25"),
        ("swap", "25", "38"),
        ("dropped: swap 12",),
        ("model demo.dfm",),
        ("saved the still",),
    ]


def test_before_there_are_figures_none_are_shown() -> None:
    rows = [row.cells for row in status_rows(Progress(0, 900, 0.0, "opening"), [])]
    assert rows == [("OPENING",), ("nothing is sent yet",), ("0.0 fps", "0 / 900")]


def test_where_room_is_scarce_the_quickest_stages_give_way_and_the_light_and_the_last_note_stay() -> None:
    many = {f"stage {number}": (1.0, float(number)) for number in range(40)}
    full = draw_hud(grey(240, 320), progress(stages_ms=many), ["first", "last"])
    few = {f"stage {number}": (1.0, float(number)) for number in range(40) if number >= 32}
    assert (full[40:] == draw_hud(grey(240, 320), progress(stages_ms=few), ["first", "last"])[40:]).all()
    assert has(full, GREEN) > 200


def test_what_is_drawn_follows_what_is_said() -> None:
    before = draw_hud(grey(), progress(), ["a"])
    assert (draw_hud(grey(), progress(), ["a"]) == before).all()
    assert (draw_hud(grey(), progress(), ["b"]) != before).any()
    assert (draw_hud(grey(), progress(latency_ms=(99.0, 100.0)), ["a"]) != before).any()
    assert (draw_hud(grey(720, 1280, 90), progress(), ["a"]) != before).any(), "the picture shines through"


def test_help_is_at_the_right_and_keys_stand_out() -> None:
    drawn = draw_hud(grey(), progress(), [], panel=False, help_lines=["q, Esc  end the run", "space  panic"])
    columns = np.nonzero((drawn != 128).any(axis=(0, 2)))[0]
    assert columns.min() > 0.6 * 1280
    assert has(drawn, AMBER) > 20


STRANGE = st.text(max_size=80) | st.sampled_from(["\x1b[31m", "\n" * 9, "é漢字", "W" * 900, "a " * 400])


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 700),
    st.integers(1, 900),
    st.lists(STRANGE, max_size=5),
    st.dictionaries(STRANGE, st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), max_size=30),
    st.lists(STRANGE, max_size=30),
    STRANGE,
)
def test_no_size_and_no_text_breaks_it(
    height: int, width: int, notes: list[str], stages: dict[str, tuple[float, float]], help_lines: list[str], state: str
) -> None:
    image = grey(height, width)
    what = Progress(10**9, None, 1e6, state, (1e9, 1e9), stages, {name: 10**9 for name in stages})
    assert draw_hud(image, what, notes, help_lines=help_lines).shape == image.shape
    assert (image == 128).all()


def test_a_picture_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a"):
        draw_hud(np.zeros((4, 4), np.uint8), progress(), [])


def test_the_panel_costs_little() -> None:
    image = grey()

    def cost_ms(changing: bool) -> float:
        took = []
        for number in range(12):
            began_s = time.thread_time()
            draw_hud(image, progress(latency_ms=(41.0, 58.0 + changing * number)), ["model demo.dfm"])
            took.append((time.thread_time() - began_s) * 1e3)
        return float(np.median(took))

    assert cost_ms(changing=False) < PANEL_MS
    assert cost_ms(changing=True) < 2 * PANEL_MS, "which is so ten times a second at most"
