"""What the visible mark says in a language, and how its letters are drawn. A language in, letters and strokes out.

Note [Words of the mark]
    The common two letters of each language for artificial intelligence; in Chinese and Japanese with the two
    characters for "generated", as the Chinese rules for labelling generated content (in force since September 2025)
    ask for. The letters are strokes, so that no font has to be there.
"""

from __future__ import annotations

import locale
import os

LANGUAGES = {
    "en": "AI",
    "de": "KI",
    "nl": "AI",
    "fr": "IA",
    "es": "IA",
    "it": "IA",
    "pt": "IA",
    "ja": "AI生成",
    "ko": "AI",
    "zh": "AI生成",
}
"""The mark by language, two letters of ISO 639-1."""
_ON_WINDOWS = {"german": "de", "dutch": "nl", "spanish": "es", "portuguese": "pt", "chinese": "zh"}
"""Names of languages there that do not begin with their two letters."""
Stroke = tuple[tuple[float, float], ...]
GAP = 0.4
"""Between two letters, in their height."""
LETTERS: dict[str, tuple[float, float, tuple[Stroke, ...]]] = {
    "A": (0.9, 0.2, (((0, 1), (0.45, 0), (0.9, 1)), ((0.19, 0.67), (0.71, 0.67)))),
    "I": (0.0, 0.2, (((0, 0), (0, 1)),)),
    "K": (0.68, 0.2, (((0, 0), (0, 1)), ((0.68, 0), (0.02, 0.62)), ((0.24, 0.42), (0.72, 1)))),
    "生": (
        1.1,
        0.11,
        (
            ((0.33, -0.02), (0.25, 0.22), (0.1, 0.46)),
            ((0.26, 0.27), (1.02, 0.27)),
            ((0.2, 0.62), (0.96, 0.62)),
            ((0.58, -0.08), (0.58, 1.02)),
            ((0.02, 1.02), (1.1, 1.02)),
        ),
    ),
    "成": (
        1.1,
        0.11,
        (
            ((0.14, 0.2), (1.06, 0.2)),
            ((0.16, 0.2), (0.16, 0.52), (0.12, 0.78), (0.0, 1.06)),
            ((0.18, 0.48), (0.46, 0.48), (0.45, 0.76), (0.41, 0.84), (0.28, 0.82)),
            ((0.6, -0.1), (0.62, 0.2), (0.69, 0.58), (0.8, 0.86), (0.94, 1.04), (1.06, 0.98), (1.1, 0.78)),
            ((0.98, 0.38), (0.87, 0.62), (0.7, 0.86), (0.48, 1.06)),
            ((0.8, -0.08), (0.96, 0.06)),
        ),
    ),
}
"""By letter: width, thickness, and strokes of points (x, y); in heights of a letter, y downwards."""


def mark_text(language: str = "auto") -> str:
    """The letters of the mark in a language; `auto` is that of the system, English where nothing is known."""
    if language == "auto":
        return LANGUAGES.get(_system_language(), LANGUAGES["en"])
    return LANGUAGES[language]


def _system_language() -> str:
    """Two letters, or whatever else stands there."""
    # What the user asked for counts, also where the system has no words in that language.
    asked = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), None)
    said = (asked or locale.getlocale()[0] or "").lower()
    return _ON_WINDOWS.get(said.partition("_")[0].partition(" ")[0], said[:2])


def text_width(text: str) -> float:
    """Of the letters with the gaps between them, in heights of a letter."""
    return sum(LETTERS[letter][0] for letter in text) + GAP * (len(text) - 1)
