"""Says what keys mean. A key in, an Action or other Knobs out. No state of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from realtime.blend import RANGES, BlendSettings
from realtime.infer import DEFAULT_MORPH


@dataclass(frozen=True, slots=True)
class Knobs:
    """What can be turned while a run goes on."""

    blend: BlendSettings = field(default_factory=BlendSettings)
    morph: float = DEFAULT_MORPH
    """[0, 1]: how much of the identity, for models that take it."""

    def __post_init__(self) -> None:
        if isinstance(self.morph, bool) or not isinstance(self.morph, int | float) or not 0 <= self.morph <= 1:
            raise ValueError(f"morph must be a number in [0, 1], got {self.morph!r}")


class Action(Enum):
    """What a key can ask for."""

    QUIT = auto()
    PANIC = auto()
    HELP = auto()
    HUD = auto()
    RECORD = auto()
    STILL = auto()
    NEXT_MODEL = auto()
    PREVIOUS_MODEL = auto()
    NEXT_PRESET = auto()
    SAVE_PRESET = auto()
    NEXT_FACE = auto()
    RESET = auto()
    TURN = auto()
    """Turn a knob, see `turn`."""


ACTIONS: dict[str, tuple[Action, str]] = {
    " ": (Action.PANIC, "panic: only the card, until again"),
    "q": (Action.QUIT, "end the run"),
    "?": (Action.HELP, "these lines"),
    "h": (Action.HUD, "figures on and off"),
    "r": (Action.RECORD, "begin and end a recording"),
    "s": (Action.STILL, "keep a still"),
    "m": (Action.NEXT_MODEL, "next model"),
    "n": (Action.PREVIOUS_MODEL, "previous model"),
    "p": (Action.NEXT_PRESET, "next preset"),
    "o": (Action.SAVE_PRESET, "save a preset"),
    "f": (Action.NEXT_FACE, "swap the next face; or click on one"),
    "x": (Action.RESET, "all knobs as at the start"),
}
"""Letters mean the same with Shift: in a call nobody looks for the Caps Lock light."""

KNOBS: dict[str, tuple[str, str, float]] = {
    "erode": ("1", "2", 0.01),
    "feather": ("3", "4", 0.02),
    "colour_strength": ("5", "6", 0.1),
    "sharpen": ("7", "8", 0.2),
    "opacity": ("9", "0", 0.05),
    "scale": ("-", "=", 0.01),
    "shift_x": (",", ".", 0.005),
    "shift_y": ("[", "]", 0.005),
    "morph": (";", "'", 0.05),
}
"""Knob -> the keys for less and more, and the step: just large enough to be seen with a model of 128 pixels."""

_OTHER_NAMES = {"\x1b": "q", "/": "?", "+": "=", "_": "-", "<": ",", ">": ".", "{": "[", "}": "]", ":": ";", '"': "'"}
"""The same keys with Shift, and Escape."""
_TURNS = {less: (name, -step) for name, (less, _, step) in KNOBS.items()}
_TURNS |= {more: (name, step) for name, (_, more, step) in KNOBS.items()}
_RANGES = {name: (low, high) for name, low, high in RANGES} | {"morph": (0.0, 1.0)}


def action_for(key: str) -> Action | None:
    """What a key asks for, None if it means nothing."""
    key = _plain(key)
    if key in ACTIONS:
        return ACTIONS[key][0]
    return Action.TURN if key in _TURNS else None


def turn(knobs: Knobs, key: str) -> Knobs:
    """The knobs after a key: one a step further, within its range; unchanged for keys that turn nothing."""
    if _plain(key) not in _TURNS:
        return knobs
    name, step = _TURNS[_plain(key)]
    owner = knobs if name == "morph" else knobs.blend
    low, high = _RANGES[name]
    # Rounded, so that ten steps up and ten down end where they began.
    value = round(min(max(getattr(owner, name) + step, low), high), 6)
    if name == "morph":
        return replace(knobs, morph=value)
    return replace(knobs, blend=replace(knobs.blend, **{name: value}))


def help_lines() -> list[str]:
    """What each key does, a line each."""
    names = {" ": "space", "q": "q, Esc"}
    lines = [f"{names.get(key, key):8} {what}" for key, (_, what) in ACTIONS.items()]
    return lines + [
        f"{less} {more}      {name.replace('_', ' ')} less, more" for name, (less, more, _) in KNOBS.items()
    ]


def _plain(key: str) -> str:
    key = key.lower()
    return _OTHER_NAMES.get(key, key)
