"""A private screen for tests that need windows. Nothing in, a Display that can be typed at and photographed out."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import pytest

from realtime.frame import ImageU8

NEEDED = ("Xvfb", "xdotool", "import")
"""Programs: the server, the fingers, and the camera (of ImageMagick)."""
PATIENCE_S = 10.0

T = TypeVar("T")


class _ClientMessage(ctypes.Structure):
    """XClientMessageEvent, padded to the size of XEvent."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 24),
    )


@dataclass(frozen=True, slots=True)
class Display:
    """An X server that nobody else sees."""

    name: str
    """What DISPLAY must say."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment of this process, on this display."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(("QT_", "WAYLAND_"))}
        return others | {"DISPLAY": self.name}

    def xdotool(self, *arguments: object) -> str:
        """Press, click, move, resize; what it answers."""
        return self._ask("xdotool", *map(str, arguments)).decode().strip()

    def window(self, title: str) -> str:
        """The number of the window of this title, once it is there."""
        found = wait_for(lambda: self._ask("xdotool", "search", "--name", f"^{title}$", may_fail=True).split())
        return found[-1].decode()

    def ask_to_close(self, window: str) -> None:
        """What a window manager does when somebody clicks on the X of a window."""
        x11 = ctypes.CDLL("libX11.so.6")  # xdotool needs it, too
        x11.XOpenDisplay.restype = ctypes.c_void_p
        display = ctypes.c_void_p(x11.XOpenDisplay(self.name.encode()))
        x11.XInternAtom.restype = ctypes.c_ulong
        protocols, delete = (x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
        event = _ClientMessage(type=33, send_event=1, window=int(window), message_type=protocols, format=32)
        event.data[0] = delete
        x11.XSendEvent(display, ctypes.c_ulong(int(window)), 0, ctypes.c_long(0), ctypes.byref(event))
        x11.XCloseDisplay(display)  # which also waits until everything is sent

    def screenshot(self) -> ImageU8:
        """(H, W, 3) BGR: the whole screen."""
        png = np.frombuffer(self._ask("import", "-window", "root", "png:-"), np.uint8)
        return np.asarray(cv2.imdecode(png, cv2.IMREAD_COLOR), np.uint8)

    def _ask(self, *command: str, may_fail: bool = False) -> bytes:
        done = subprocess.run(command, env=self.environment, capture_output=True, timeout=PATIENCE_S)
        assert may_fail or done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout


@contextmanager
def private_display(width: int = 1600, height: int = 1000, needed: Sequence[str] = NEEDED) -> Iterator[Display]:
    """An X server of its own on a free number. Skips the test where a `needed` program is missing."""
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: apt-get install xvfb xdotool imagemagick")
    read_end, write_end = os.pipe()
    arguments = ["-displayfd", str(write_end), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp", "-noreset"]
    with open(read_end, encoding="ascii") as answer:
        server = subprocess.Popen(
            ["Xvfb", *arguments], pass_fds=[write_end], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            os.close(write_end)
            number = answer.readline().strip()
            assert number, "Xvfb did not start"
            yield Display(f":{number}")
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


def wait_for(ask: Callable[[], T]) -> T:
    """What `ask` answers as soon as that is true, or something else than empty."""
    ends_s = time.monotonic() + PATIENCE_S
    while not (answer := ask()):
        assert time.monotonic() < ends_s, "it did not happen in time"
        time.sleep(0.02)
    return answer
