from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.keyboard import Keyboard

if sys.platform == "win32":
    pytest.skip("Windows has no pseudo terminals", allow_module_level=True)

import termios

ROOT = Path(__file__).resolve().parents[2]
ESCAPE_S = 0.15
"""Longer than what Escape is waited for."""


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


def test_escape_alone_is_a_key_as_soon_as_nothing_follows_it(terminal: tuple[int, int]) -> None:
    hands, screen = terminal
    with Keyboard(screen) as keyboard:
        assert pressed(keyboard, hands, b"r\x1b") == ["r"]
        time.sleep(ESCAPE_S)
        assert keyboard.read() == ["\x1b"]
        assert keyboard.read() == []


@pytest.mark.parametrize("sequence", [b"\x1b[A", b"\x1bOP", b"\x1b[1;5C", b"\x1b[15~", b"\x1bq", b"\x1b[<0;1;1M"])
@pytest.mark.parametrize("split", [0, 1, 2])
def test_arrows_and_the_like_are_no_keys_even_in_pieces(terminal: tuple[int, int], sequence: bytes, split: int) -> None:
    hands, screen = terminal
    with Keyboard(screen) as keyboard:
        keys = pressed(keyboard, hands, b"r" + sequence[:split]) + pressed(keyboard, hands, sequence[split:] + b"s")
        time.sleep(ESCAPE_S)
        assert keys + keyboard.read() == ["r", "s"]


def test_half_a_sequence_does_not_end_the_run(terminal: tuple[int, int]) -> None:
    hands, screen = terminal
    with Keyboard(screen) as keyboard:
        assert pressed(keyboard, hands, b"\x1b[1;") == []
        time.sleep(ESCAPE_S)
        assert keyboard.read() == []
        assert pressed(keyboard, hands, b"r") == ["r"]


def test_what_is_no_text_is_passed_over_and_letters_may_come_in_pieces(terminal: tuple[int, int]) -> None:
    hands, screen = terminal
    with Keyboard(screen) as keyboard:
        assert pressed(keyboard, hands, b"\xff\x01r\t\xc3") == ["r"]
        assert pressed(keyboard, hands, b"\xa9") == ["é"]


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


IN_THE_BACKGROUND = """
import os, time
from realtime.keyboard import Keyboard

with Keyboard() as keyboard:
    on_start = keyboard.read()
    os.write(1, b"ready ")
    time.sleep(0.3)
    keys = keyboard.read()
os.write(1, repr((on_start, keys)).encode())
"""


A_SHELL = """
import os, pty, subprocess, sys

leader, hands = pty.fork()
if leader == 0:  # has the terminal, and starts the program as a job in the background
    program = subprocess.Popen([sys.executable, "-c", sys.argv[1]], process_group=0)
    # A job that reaches for the terminal is stopped, and would never be done.
    stopped = os.WIFSTOPPED(os.waitpid(program.pid, os.WUNTRACED)[1])
    program.kill()
    os.write(1, b" stopped" if stopped else b" done")
    os._exit(0)
said, typed = b"", False
while not said.endswith((b"done", b"stopped")):
    said += os.read(hands, 1000)
    if b"ready" in said and not typed:
        typed = os.write(hands, b"q")
print(said.decode())
os.waitpid(leader, 0)
"""


def test_in_the_background_nothing_is_read_and_nothing_stops_the_program() -> None:
    command = [sys.executable, "-c", A_SHELL, IN_THE_BACKGROUND]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert said.stderr == ""
    assert "([], [])" in said.stdout
    assert said.stdout.strip().endswith("done")


def test_after_a_shell_has_put_the_lines_back_keys_come_singly_again(terminal: tuple[int, int]) -> None:
    hands, screen = terminal
    before = termios.tcgetattr(screen)
    with Keyboard(screen) as keyboard:
        termios.tcsetattr(screen, termios.TCSANOW, before)  # as after Ctrl-Z and fg
        assert keyboard.read() == []
        assert pressed(keyboard, hands, b"q") == ["q"]
    assert termios.tcgetattr(screen) == before
