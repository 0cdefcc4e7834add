"""Reads keys from the terminal. Keys pressed since the last look out; the terminal is left as it was."""

from __future__ import annotations

import os
import select
import sys
from types import TracebackType
from typing import Any, Self

_MOST = 64
"""Bytes read at one look: somebody who pastes a text into the terminal does not mean all of its letters."""


class Keyboard:
    """Keys one by one, without Enter, where the standard input is a terminal; elsewhere there are none.

    Ctrl-C stays what it is. Not thread-safe: use it in a `with` block on the main thread.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """`descriptor`: the terminal, the standard input unless given."""
        self._descriptor = descriptor
        self._before: list[Any] | None = None
        self._on = False

    def __enter__(self) -> Self:
        try:
            self._descriptor = sys.stdin.fileno() if self._descriptor is None else self._descriptor
            self._on = os.isatty(self._descriptor)
        except (AttributeError, OSError, ValueError):  # no standard input, or none with a descriptor
            return self
        if self._on and sys.platform != "win32":
            self._enter_cbreak()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> list[str]:
        """The keys pressed since the last call; never waits. Arrows and the like, which are sequences, are left out."""
        if not self._on or self._descriptor is None:
            return []
        return _keys(self._waiting(self._descriptor))

    def close(self) -> None:
        """Give the terminal back as it was; safe to call twice."""
        self._on = False
        if sys.platform != "win32" and self._before is not None and self._descriptor is not None:
            import termios

            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        self._before = None

    def _enter_cbreak(self) -> None:
        if sys.platform == "win32" or self._descriptor is None:
            return
        import termios
        import tty

        if _in_background(self._descriptor):
            self._on = False
            return
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)

    def _waiting(self, descriptor: int) -> bytes:
        if sys.platform == "win32":
            import msvcrt

            data = b""
            while msvcrt.kbhit() and len(data) < _MOST:
                data += msvcrt.getch()
            return data
        if _in_background(descriptor) or not select.select([descriptor], [], [], 0)[0]:
            return b""
        try:
            data = os.read(descriptor, _MOST)
        except OSError:
            data = b""
        self._on = bool(data)  # an end of file: the terminal is gone
        return data


def _in_background(descriptor: int) -> bool:
    """Whether reaching for the terminal would stop the whole program."""
    if sys.platform == "win32":
        return False
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # a terminal, but not ours
        return False


def _keys(data: bytes) -> list[str]:
    """Single keys of what a terminal sent: printable characters, and Escape where nothing follows it."""
    text = data.decode("utf-8", "replace")
    if len(text) > 1 and "\x1b" in text:
        text = text[: text.index("\x1b")]  # the rest is one sequence, or several
    return [char for char in text if char.isprintable() or char == "\x1b"]
