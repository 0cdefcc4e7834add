"""Draws what a run is doing over a picture. Image, Progress and notes in, a new image out; for the preview only.

A panel at the left edge, away from where faces usually are: a light that says what the output is sending, frames per
second, the times of the stages, what was dropped, notes. It is drawn anew only when what it says has changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.frame import ImageU8, check_image
from realtime.report import Progress

Colour = tuple[int, int, int]
"""BGR in [0, 255]."""

_WHITE, _DIM, _INK, _PLATE, _LINE = (246, 244, 242), (196, 188, 180), (24, 18, 14), (34, 27, 22), (104, 94, 86)
_GREEN, _AMBER, _QUIET, _RED, _PURPLE = (104, 205, 84), (48, 190, 252), (158, 122, 92), (48, 40, 226), (196, 64, 142)
_PINK = (136, 130, 255)
_LIGHTS: dict[str, tuple[Colour, Colour, str, str]] = {
    "live": (_GREEN, _INK, "LIVE", "swapped face"),
    "hold": (_AMBER, _INK, "HOLD", "the last swapped face"),
    "blur": (_QUIET, _WHITE, "BLUR", "nobody to recognise"),
    "slate": (_QUIET, _WHITE, "SLATE", "a card, no face"),
    "armed": (_QUIET, _WHITE, "ARMED", "waiting for a first swap"),
    "opening": (_QUIET, _WHITE, "OPENING", "nothing is sent yet"),
    "raw": (_RED, _WHITE, "RAW FACE", "not swapped"),
    "panic": (_PURPLE, _WHITE, "PANIC", "a card until you end it"),
}
"""State of the output: colour of the light and of its word, the word, what viewers see."""

_PANEL_EM, _HELP_EM, _KEYS_EM, _COLUMN_EM = 15.5, 22.0, 4.4, 3.2
_ROW_EM, _PAD_EM = 1.45, 0.8
_LEAST_EM, _LEAST_HELP_EM = 9.0, 7.0
_LIGHT_SIZE, _OPACITY = 1.2, 0.7


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a panel: a text, a text and one at the right end, or a text and two numbers in columns."""

    cells: tuple[str, ...]
    colour: Colour = _WHITE
    strong: bool = False
    light: Colour | None = None
    """The line is a light of this colour."""
    rank: float = math.inf
    """Lines of the lowest rank give way first where there is no room for all."""


def draw_hud(
    image: ImageU8,
    progress: Progress,
    notes: Sequence[str],
    *,
    panel: bool = True,
    help_lines: Sequence[str] | None = None,
) -> ImageU8:
    """A new (H, W, 3) image with the panel; `image` is not changed.

    notes: short sentences, the newest last; those about a recording (rec...) are red. panel: False leaves it out.
    help_lines: a second panel; what stands before two spaces in a line is a key. Pictures too small for a panel come
    without one.
    """
    check_image(image)
    out = image.copy()
    height, width = image.shape[:2]
    em = max(min(height / 42, width / 52), _LEAST_EM)
    gap = round(0.7 * em)
    room_x, room_y = width - 2 * gap, height - 2 * gap
    if progress.state == "raw":
        thick = max(round(0.4 * em), 3)
        for corner in ((thick, height), (width, thick)):
            cv2.rectangle(out, (0, 0), (corner[0] - 1, corner[1] - 1), _RED, -1)
            cv2.rectangle(out, (width - corner[0], height - corner[1]), (width - 1, height - 1), _RED, -1)
    if room_x < 5 * em or room_y < 4 * em:
        return out
    if panel:
        rows = tuple(status_rows(progress, notes))
        _lay(out, _status_panel(rows, min(round(_PANEL_EM * em), room_x), room_y, em), gap)
    if help_lines:
        em = max(min(em, room_y / (_ROW_EM * len(help_lines) + 2 * _PAD_EM)), _LEAST_HELP_EM)
        wide = min(round(_HELP_EM * em), room_x)
        _lay(out, _help_panel(tuple(help_lines), wide, room_y, em), gap, at_right=True)
    return out


def status_rows(progress: Progress, notes: Sequence[str]) -> list[Row]:
    """What the panel says, from top to bottom."""
    word = _clean(progress.state).upper()
    colour, ink, word, meaning = _LIGHTS.get(progress.state, (_QUIET, _WHITE, word, ""))
    done = f"frame {progress.done:,}" if progress.total is None else f"{progress.done:,} / {progress.total:,}"
    rows = [
        Row((word,), ink, strong=True, light=colour),
        Row((meaning,), _DIM),
        Row((f"{progress.fps:.1f} fps", done), strong=True),
    ]
    if any(progress.latency_ms) or progress.stages_ms:
        rows.append(Row(("milliseconds", "p50", "p95"), _DIM))
        rows.append(Row(("end to end", *map(_number, progress.latency_ms)), strong=True))
    rows += [Row((_clean(stage), *map(_number, ms)), rank=ms[1]) for stage, ms in progress.stages_ms.items()]
    dropped = ", ".join(f"{_clean(place)} {count:,}" for place, count in progress.dropped.items() if count)
    if dropped:
        rows.append(Row((f"dropped: {dropped}",), _AMBER))
    for age, note in enumerate(filter(None, map(_clean, notes))):
        rows.append(Row((note,), _PINK if note.lower().startswith("rec") else _WHITE, rank=1e9 + age))
    return rows


class _Pen:
    """Draws on a rounded plate. Letters and lights cover what is below, the plate lets some of it through."""

    def __init__(self, width: int, height: int, em: float) -> None:
        self.em, self.width, self.pad = em, width, round(_PAD_EM * em)
        self._colours: ImageU8 = np.zeros((height, width, 3), np.uint8)
        cv2.rectangle(self._colours, (0, 0), (width, height), _PLATE, -1)
        self._cover: NDArray[np.uint8] = np.zeros((height, width), np.uint8)
        _fill(self._cover, (0, 0, width, height), 0.6 * em, (round(255 * _OPACITY),))

    def write(
        self, text: str, x: float, y: float, row: Row, *, until: float | None = None, right: bool = False
    ) -> None:
        """One line of text around the height `y` from `x` on, or up to `x`; cut short before `until`."""
        em = self.em if row.light is None else _LIGHT_SIZE * self.em
        if until is not None:
            text = _cut(text, until - x, em, row.strong)
        face, scale, cap_px = _font(row.strong, em)
        origin = (round(x - _wide(text, em, row.strong) if right else x), round(y + cap_px / 2))
        thickness = max(round(scale), 1)
        cv2.putText(self._colours, text, origin, face, scale, row.colour, thickness, cv2.LINE_AA)
        cv2.putText(self._cover, text, origin, face, scale, (255,), thickness, cv2.LINE_AA)

    def light(self, y: float, colour: Colour) -> None:
        """A filled box across the plate around the height `y`."""
        box = (self.pad, round(y - 0.95 * self.em), self.width - self.pad, round(y + 0.95 * self.em))
        _fill(self._colours, box, 0.35 * self.em, colour)
        _fill(self._cover, box, 0.35 * self.em, (255,))

    def line(self, y: float) -> None:
        """A thin line across the plate."""
        cv2.line(self._colours, (self.pad, round(y)), (self.width - self.pad, round(y)), _LINE)

    def finish(self, fine: int) -> tuple[ImageU8, ImageU8]:
        """Two (h, w, 3) pictures, `fine` times smaller: what part of what is below stays, in 255ths; what is added."""
        size = (self.width // fine, self._cover.shape[0] // fine)
        small = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (self._colours, self._cover)]
        cover = cv2.merge([small[1]] * 3)
        return np.asarray(255 - cover, np.uint8), np.asarray(cv2.multiply(small[0], cover, scale=1 / 255), np.uint8)


@lru_cache(maxsize=4)
def _status_panel(rows: tuple[Row, ...], width: int, most_height: int, em: float) -> tuple[ImageU8, ImageU8]:
    fine = _fineness(em)
    width, most_height, em = width * fine, most_height * fine, em * fine
    step, pad = _ROW_EM * em, round(_PAD_EM * em)
    lines = _fitting(
        [line for row in rows for line in _broken(row, width - 2 * pad, em)], (most_height - 2 * pad) / step
    )
    pen = _Pen(width, round(len(lines) * step) + 2 * pad, em)
    right = width - pad
    for number, row in enumerate(lines):
        y = pad + (number + 0.5) * step
        first, *others = row.cells
        if row.light is not None:
            pen.light(y, row.light)
            pen.write(first, pad + 0.6 * em, y, row, until=right)
            continue
        if number and (len(row.cells) == 3) != (len(lines[number - 1].cells) == 3):
            pen.line(y - 0.5 * step)
        ends = (right - _COLUMN_EM * em, right)[-len(others) :] if others else ()
        for text, end in zip(others, ends, strict=True):
            pen.write(text, end, y, row, right=True)
        until = ends[0] - _wide(others[0], em, row.strong) - 0.5 * em if ends else right
        pen.write(first, pad, y, row, until=until)
    return pen.finish(fine)


@lru_cache(maxsize=4)
def _help_panel(lines: tuple[str, ...], width: int, most_height: int, em: float) -> tuple[ImageU8, ImageU8]:
    fine = _fineness(em)
    width, most_height, em = width * fine, most_height * fine, em * fine
    step, pad = _ROW_EM * em, round(_PAD_EM * em)
    pen = _Pen(width, min(round(len(lines) * step) + 2 * pad, most_height), em)
    for number, line in enumerate(lines):
        y = pad + (number + 0.5) * step
        keys, _, text = line.strip().partition("  ")
        pen.write(keys, pad, y, Row((), _AMBER, strong=True), until=pad + (_KEYS_EM - 0.4) * em)
        pen.write(_clean(text), pad + _KEYS_EM * em, y, Row(()), until=width - pad)
    return pen.finish(fine)


def _fineness(em: float) -> int:
    """How many times larger letters of the size `em` are drawn: the fonts put small ones too close together."""
    return 2 if em < 16 else 1


def _lay(out: ImageU8, panel: tuple[ImageU8, ImageU8], gap: int, *, at_right: bool = False) -> None:
    keep, added = panel
    height, width = keep.shape[:2]
    left = out.shape[1] - gap - width if at_right else gap
    under = out[gap : gap + height, left : left + width]
    under[...] = cv2.add(cv2.multiply(under, keep, scale=1 / 255), added)


def _fitting(rows: list[Row], most: float) -> list[Row]:
    """The rows that there is room for: the quickest stages give way first, then the oldest notes."""
    rows = list(rows)
    while len(rows) > max(most, 1):
        rows.pop(min(reversed(range(len(rows))), key=lambda index: rows[index].rank))
    return rows


def _broken(row: Row, width: float, em: float) -> Iterator[Row]:
    """A row of one text as as many rows as it needs; the others as they are."""
    rest = row.cells[0] if len(row.cells) == 1 else ""
    while _wide(rest, em, row.strong) > width and " " in rest:
        words = rest.split(" ")
        count = len(words) - 1
        while count > 1 and _wide(" ".join(words[:count]), em, row.strong) > width:
            count -= 1
        yield replace(row, cells=(" ".join(words[:count]),))
        rest = " ".join(words[count:])
    yield replace(row, cells=(rest,)) if len(row.cells) == 1 else row


def _cut(text: str, width: float, em: float, strong: bool) -> str:
    if _wide(text, em, strong) <= width:
        return text
    while text and _wide(text + "...", em, strong) > width:
        text = text[:-1]
    return text.rstrip() + "..."


@cache
def _font(strong: bool, em: float) -> tuple[int, float, float]:
    """Face, scale and height of capitals in pixels for letters of the size `em`."""
    face = cv2.FONT_HERSHEY_DUPLEX if strong else cv2.FONT_HERSHEY_SIMPLEX
    cap_at_1 = cv2.getTextSize("H", face, 1.0, 1)[0][1]
    return face, 0.72 * em / cap_at_1, 0.72 * em


def _wide(text: str, em: float, strong: bool) -> float:
    face, scale, _ = _font(strong, em)
    return float(cv2.getTextSize(text, face, scale, max(round(scale), 1))[0][0])


def _fill(canvas: NDArray[np.uint8], box: tuple[int, int, int, int], radius: float, colour: Sequence[int]) -> None:
    """Fill a rectangle with round corners."""
    left, top, right, bottom = box
    r = max(min(round(radius), (right - left) // 2 - 1, (bottom - top) // 2 - 1), 0)
    cv2.rectangle(canvas, (left + r, top), (right - 1 - r, bottom - 1), colour, -1)
    cv2.rectangle(canvas, (left, top + r), (right - 1, bottom - 1 - r), colour, -1)
    for x in (left + r, right - 1 - r):
        for y in (top + r, bottom - 1 - r):
            cv2.circle(canvas, (x, y), r, colour, -1, cv2.LINE_AA)


def _number(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds < 9.95 else f"{milliseconds:,.0f}"


def _clean(text: str) -> str:
    """One line that can be drawn, however strange the name of a file or a camera is."""
    return "".join(each if each.isprintable() else " " for each in text).strip()[:400]
