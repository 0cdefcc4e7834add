"""Makes what strangers wrote harmless to read. Anything in, one short line of plain text out.

Names and cards in files may hold what steers a terminal, turns the direction of writing, forges a second line, or is
no text at all; they may be a million letters long.
"""

from __future__ import annotations

MAX_LETTERS = 300


def plain(words: object, most: int = MAX_LETTERS) -> str:
    """`words` as one line of at most `most` letters; what is not printable becomes a space."""
    return "".join(char if char.isprintable() else " " for char in str(words)[:most]).strip()


def plain_lines(text: str) -> str:
    """`text` with its line ends and otherwise only what is printable."""
    return "\n".join("".join(char if char.isprintable() else " " for char in line) for line in text.split("\n"))
