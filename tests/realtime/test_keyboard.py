from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import pytest

from realtime.keyboard import Keyboard

if sys.platform == "win32":
    pytest.skip("Windows has no pseudo terminals", allow_module_level=True)

import termios


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal: the hands of a person, and what a program sees."""
    hands, screen = os.openpty()
    yield hands, screen
    os.close(hands)
    os.close(screen)


def pressed(keyboard: Keyboard, hands: int, keys: bytes) -> list[str]:
    os.write(hands, keys)
    time.sleep(0.05)
    return keyboard.read()


def test_keys_come_without_enter_and_only_once(terminal: tuple[int, int]) -> None:
    hands, screen = terminal
    with Keyboard(screen) as keyboard:
        assert keyboard.read() == []
        assert pressed(keyboard, hands, b"q ?") == ["q", " ", "?"]
        assert keyboard.read() == []


def test_escape_alone_is_a_key_and_an_arrow_is_none(terminal: tuple[int, int]) -> None:
    hands, screen = terminal
    with Keyboard(screen) as keyboard:
        assert pressed(keyboard, hands, b"\x1b") == ["\x1b"]
        assert pressed(keyboard, hands, b"\x1b[A") == []
        assert pressed(keyboard, hands, b"r\x1b[B") == ["r"]


def test_what_is_no_text_is_passed_over(terminal: tuple[int, int]) -> None:
    hands, screen = terminal
    with Keyboard(screen) as keyboard:
        assert pressed(keyboard, hands, b"\xff\x01r\t") == ["\ufffd", "r"]


def test_the_terminal_is_left_as_it_was_even_after_an_error(terminal: tuple[int, int]) -> None:
    _, screen = terminal
    before = termios.tcgetattr(screen)
    keyboard = Keyboard(screen)
    keyboard.__enter__()
    assert termios.tcgetattr(screen) != before
    keyboard.__exit__(RuntimeError, RuntimeError("the run broke"), None)
    assert termios.tcgetattr(screen) == before


def test_a_terminal_that_goes_away_gives_no_keys() -> None:
    hands, screen = os.openpty()
    with Keyboard(screen) as keyboard:
        os.close(hands)
        assert keyboard.read() == []
        assert keyboard.read() == []
        keyboard._before = None  # there is nothing left to restore
    os.close(screen)


def test_a_pipe_is_no_terminal() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"q")
    with Keyboard(reader) as keyboard:
        assert keyboard.read() == []
    assert os.read(reader, 1) == b"q", "what is in the pipe is not ours"
    os.close(reader)
    os.close(writer)


def test_a_closed_keyboard_reads_nothing(terminal: tuple[int, int]) -> None:
    hands, screen = terminal
    keyboard = Keyboard(screen)
    with keyboard:
        pass
    assert pressed(keyboard, hands, b"q") == []
    keyboard.close()
