"""Reads keys from the terminal. Keys pressed since the last look out; the terminal is left as it was."""

from __future__ import annotations

import codecs
import os
import re
import select
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

_MOST = 64
"""Bytes read at one look: somebody who pastes a text into the terminal does not mean all of its letters."""
_ESCAPE_S = 0.1
"""An Escape that nothing has followed for so long was the key. Arrows send it as their first byte, and over a slow line
the others may come later."""
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|[^\x1b\[O])", re.DOTALL)
_UNFINISHED = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?\Z")


class Keyboard:
    """Keys one by one, without Enter, where the standard input is a terminal; elsewhere there are none.

    Ctrl-C stays what it is. Not thread-safe: use it in a `with` block on the main thread.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """`descriptor`: the terminal, the standard input unless given."""
        self._descriptor = descriptor
        self._before: list[Any] | None = None
        self._on = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._text, self._text_s = "", 0.0

    def __enter__(self) -> Self:
        try:
            self._descriptor = sys.stdin.fileno() if self._descriptor is None else self._descriptor
            self._on = os.isatty(self._descriptor)
            if self._on and not _in_background(self._descriptor):
                self._take_keys_singly(self._descriptor)
        except (AttributeError, OSError, ValueError):  # no standard input, or none with a descriptor
            self._on = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> list[str]:
        """The keys pressed since the last call; never waits. Arrows and the like, which are sequences, are left out.

        Escape is told as soon as it is sure that no sequence follows it. In the background there are no keys.
        """
        if not self._on or self._descriptor is None:
            return []
        now_s = time.monotonic()
        data = self._waiting(self._descriptor)
        if data:
            self._text, self._text_s = self._text + self._decoder.decode(data), now_s
        text = _SEQUENCE.sub("", self._text)
        unfinished = _UNFINISHED.search(text)
        self._text = ""
        if unfinished and now_s - self._text_s < _ESCAPE_S:
            self._text = unfinished.group()
            text = text[: unfinished.start()]
        elif unfinished and len(unfinished.group()) > 1:
            text = text[: unfinished.start()]  # half a sequence is no key either
        return [char for char in text if char.isprintable() or char == "\x1b"]

    def close(self) -> None:
        """Give the terminal back as it was; safe to call twice."""
        self._on = False
        if sys.platform != "win32" and self._before is not None and self._descriptor is not None:
            import termios

            # In the background the shell has taken the terminal back already, and reaching for it would stop us.
            if not _in_background(self._descriptor):
                with suppress(termios.error):  # the terminal is gone
                    termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
        self._before = None

    def _waiting(self, descriptor: int) -> bytes:
        """What was typed since the last look."""
        if sys.platform == "win32":
            import msvcrt

            typed = ""
            while msvcrt.kbhit() and len(typed) < _MOST:
                char = msvcrt.getwch()
                if char in "\x00\xe0":  # an arrow or the like, whose second half follows
                    msvcrt.getwch()
                else:
                    typed += char
            return typed.encode("utf-8", "ignore")
        if _in_background(descriptor):
            return b""
        try:
            self._take_keys_singly(descriptor)
            if not select.select([descriptor], [], [], 0)[0]:
                return b""
            data = os.read(descriptor, _MOST)
        except OSError:
            data = b""
        self._on = bool(data)  # an end of file: the terminal is gone
        return data

    def _take_keys_singly(self, descriptor: int) -> None:
        """Leave the terminal's line mode; again, if a shell has put it back while the run was in the background."""
        if sys.platform == "win32":
            return
        import termios
        import tty

        try:
            now = termios.tcgetattr(descriptor)
            if now[3] & termios.ICANON:
                if self._before is None:
                    self._before = now
                tty.setcbreak(descriptor, termios.TCSANOW)
        except termios.error as error:
            raise OSError("the terminal is gone") from error


def _in_background(descriptor: int) -> bool:
    """Whether reaching for the terminal would stop the whole program."""
    if sys.platform == "win32":
        return False
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # a terminal, but not ours
        return False
