"""Shows what is published in a window. Frames in at a sink's end, pictures with the HUD on the screen, Events out.

Windows belong to the main thread: it makes, pumps and closes a Preview. The end that takes frames works on any other
thread and never waits: the newest frame wins. Every picture is drawn at the size that it has on the screen, so that
letters stay sharp and a large frame costs no more than its window.

Note [Whose events]
    OpenCV's wheels bring a libX11-xcb that is older than most systems' libX11 and writes `these events are for xcb`
    where newer ones do not look. Then Xlib takes some of Qt's events and drops them: keys and clicks get lost, and
    where the news that the window is on the screen is among them, it stays black (7 of 30 windows on Debian 12; none
    of 30 with the system's libX11-xcb). So the system's own is loaded first, and its names are found before the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from realtime.errors import SinkError
from realtime.frame import Frame, ImageU8
from realtime.hud import draw_hud
from realtime.report import Progress
from realtime.source import SourceInfo

_log = logging.getLogger(__name__)

_FLAGS = cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL
_FIRST_SIZE = 1280, 720
"""A window is at first as large as fits, pixels."""
_AROUND = (24, 22, 20)
_MOST_KEYS = 8
"""So many keys are taken in one call of pump."""
_ANSWER_S, _PROBE_S = 3.0, 20.0
_REMEDY = "run liveswap in a desktop session, connect with ssh -X, or leave out --sink preview"


@dataclass(frozen=True, slots=True)
class Key:
    """A key was pressed in the window. Letters come small: Qt does not tell whether Shift was held."""

    char: str
    """One character, "\\x1b" for Esc."""


@dataclass(frozen=True, slots=True)
class Click:
    """The left mouse button was pressed on the picture."""

    x: float
    y: float
    """In pixels of the frame, however large the window is."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The user closed the window. It comes once, and nothing after it."""


Event = Key | Click | Closed


class Preview:
    """A window: make it, pump it and close it on the main thread. Only one at a time."""

    def __init__(self, title: str = "liveswap") -> None:
        """Open the window with a card in it. Raises SinkError where no window can be opened."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a preview belongs to the main thread")
        check_display()
        _settle_whose_events()
        self._title = title
        self._info: SourceInfo | None = None
        self._frame: Frame | None = None
        self._clicks: list[Click] = []
        self._open = True
        self._picture = _card(*_FIRST_SIZE)
        self._drawn: tuple[object, ...] = ()
        self._placed = _Place(*_FIRST_SIZE, 0, 0, *_FIRST_SIZE)
        self._fitted: SourceInfo | None = None
        try:
            with _quiet_qt():
                cv2.namedWindow(title, _FLAGS)
        except cv2.error as error:
            raise SinkError(
                "this build of OpenCV opens no windows; replace opencv-python-headless by opencv-python"
            ) from error
        cv2.resizeWindow(title, *_FIRST_SIZE)
        cv2.setMouseCallback(title, self._on_mouse)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sink(self, info: SourceInfo) -> PreviewEnd:
        """The end that takes frames, for any thread."""
        self._info = info
        return PreviewEnd(self)

    def show(self, frame: Frame) -> None:
        """At the next pump show this frame instead of the one before. From any thread; never waits."""
        self._frame = frame

    def pump(
        self,
        progress: Progress,
        notes: Sequence[str] = (),
        *,
        hud: bool = True,
        help_lines: Sequence[str] | None = None,
    ) -> list[Event]:
        """Draw what is new and return what the user did since the last call. Main thread, 20 to 60 times a second.

        hud: whether the panel is drawn; while the raw face goes out it always is. help_lines: see draw_hud.
        """
        if not self._open:
            return []
        self._fit_window()
        self._draw(progress, tuple(notes), hud or progress.state == "raw", tuple(help_lines or ()))
        events: list[Event] = []
        for _ in range(_MOST_KEYS):
            code = cv2.waitKeyEx(1)
            if code == -1:
                break
            if 0 < code < 128:  # beyond are Shift, arrows and the like
                events.append(Key(chr(code).lower()))
        events += self._clicks
        self._clicks.clear()
        if not self._visible():
            self.close()
            events.append(Closed())
        return events

    def close(self) -> None:
        """Close the window; safe to call twice."""
        if self._open:
            self._open = False
            self._frame = None
            with contextlib.suppress(cv2.error):  # the user may have closed it already
                cv2.destroyWindow(self._title)
                cv2.waitKey(1)

    def _fit_window(self) -> None:
        """Give the window the shape of the frames as soon as it is known."""
        info = self._info
        if info is None or info is self._fitted:
            return
        self._fitted = info
        scale = min(_FIRST_SIZE[0] / info.width, _FIRST_SIZE[1] / info.height)
        size = max(round(info.width * scale), 1), max(round(info.height * scale), 1)
        self._picture = _card(*size)
        cv2.resizeWindow(self._title, *size)

    def _draw(self, progress: Progress, notes: tuple[str, ...], hud: bool, help_lines: tuple[str, ...]) -> None:
        if self._frame is not None:
            self._picture = self._frame.image
        place = self._place()
        wanted = (id(self._picture), place, help_lines, (progress, notes) if hud else None)
        if wanted == self._drawn:
            return
        self._drawn, self._placed = wanted, place
        shown = place.lay(self._picture)
        if hud or help_lines:
            shown = draw_hud(shown, progress, notes, panel=hud, help_lines=help_lines)
        cv2.imshow(self._title, shown)

    def _place(self) -> _Place:
        height, width = self._picture.shape[:2]
        _, _, wide, high = cv2.getWindowImageRect(self._title)
        if wide <= 0 or high <= 0:
            wide, high = width, height
        scale = min(wide / width, high / height)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        return _Place(wide, high, (wide - size[0]) // 2, (high - size[1]) // 2, *size)

    def _on_mouse(self, event: int, x: int, y: int, flags: int, data: object) -> None:
        if event == cv2.EVENT_LBUTTONDOWN and self._frame is not None:
            height, width = self._picture.shape[:2]
            # The centre of a pixel is where its coordinates are whole.
            click = Click(
                (x - self._placed.left + 0.5) * width / self._placed.width - 0.5,
                (y - self._placed.top + 0.5) * height / self._placed.height - 0.5,
            )
            if -0.5 <= click.x < width - 0.5 and -0.5 <= click.y < height - 0.5:
                self._clicks.append(click)

    def _visible(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a picture is in the window, in pixels of the screen."""

    window_width: int
    window_height: int
    left: int
    top: int
    width: int
    height: int

    def lay(self, picture: ImageU8) -> ImageU8:
        """(window_height, window_width, 3): the picture at its place, dark around it."""
        if (self.width, self.height) != (picture.shape[1], picture.shape[0]):
            way = cv2.INTER_AREA if self.width < picture.shape[1] else cv2.INTER_LINEAR
            picture = np.asarray(cv2.resize(picture, (self.width, self.height), interpolation=way), np.uint8)
        right, bottom = self.window_width - self.left - self.width, self.window_height - self.top - self.height
        if self.left or self.top or right or bottom:
            sides = (self.top, bottom, self.left, right)
            picture = np.asarray(cv2.copyMakeBorder(picture, *sides, cv2.BORDER_CONSTANT, value=_AROUND), np.uint8)
        return picture


class PreviewEnd:
    """The sink's end of a Preview: frames in, nothing waits."""

    name = "preview"

    def __init__(self, preview: Preview) -> None:
        self._preview = preview

    def send(self, frame: Frame) -> None:
        """Show this frame next."""
        self._preview.show(frame)

    def close(self) -> None:
        """Nothing happens: the window belongs to the main thread and keeps the last picture."""

    def abort(self) -> None:
        """Nothing happens."""


def check_display() -> None:
    """Raise SinkError unless a window can be opened.

    Qt, which draws OpenCV's windows on Linux, ends the whole process when it cannot. So the display is asked first, and
    then a child process tries in our place.
    """
    if sys.platform in ("win32", "darwin"):
        return
    display = os.environ.get("DISPLAY", "")
    if not (display or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("QT_QPA_PLATFORM")):
        raise SinkError(f"there is no display for the preview: DISPLAY is not set; {_REMEDY}")
    if display and not _answers(display):
        raise SinkError(f"no display answers at DISPLAY={display}; {_REMEDY}")
    attempt = "import resource, cv2; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); cv2.namedWindow('display?')"
    try:
        with _quiet_qt():
            child = subprocess.run(
                [sys.executable, "-P", "-c", attempt], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_S
            )
    except subprocess.TimeoutExpired as error:
        raise SinkError(f"the display {display} did not open a window within {_PROBE_S:.0f} s; {_REMEDY}") from error
    if child.returncode < 0:
        said = child.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise SinkError(f"Qt cannot open a window ({said}); install what it lacks, unset QT_QPA_PLATFORM, or {_REMEDY}")


def _answers(display: str) -> bool:
    """Whether something listens where an X client would connect to: `:0`, `host:10.0` or the path of a socket."""
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdecimal() or len(number) > 4:
        return False
    local = f"/tmp/.X11-unix/X{number}"
    paths = [display, local, "\0" + local] if host in ("", "unix") or host.startswith("/") else []
    with contextlib.suppress(OSError):
        if not paths:
            socket.create_connection((host, 6000 + int(number)), timeout=_ANSWER_S).close()
            return True
    for path in paths:
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(_ANSWER_S)
            client.connect(path)
            return True
    return False


def _settle_whose_events() -> None:
    """See Note [Whose events]."""
    if sys.platform in ("win32", "darwin"):
        return
    try:
        ctypes.CDLL("libX11-xcb.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        _log.warning("libX11-xcb is not installed, so keys may get lost; on Debian, run: apt install libx11-xcb1")


@contextlib.contextmanager
def _quiet_qt() -> Iterator[None]:
    """Keep Qt from writing about fonts, of which it needs none here, unless the user has rules of his own for it."""
    name = "QT_LOGGING_RULES"
    if name in os.environ:
        yield
        return
    os.environ[name] = "default.warning=false;default.info=false"
    try:
        yield
    finally:
        del os.environ[name]


def _card(width: int, height: int) -> ImageU8:
    """(height, width, 3): what is shown before the first frame."""
    card = np.full((height, width, 3), (46, 42, 40), np.uint8)
    text = "Waiting for the first swapped face"
    scale = 0.5 * width / cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.0, 1)[0][0]
    thickness = max(round(scale), 1)
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, thickness)
    origin = (round((width - wide) / 2), round((height + high) / 2))
    cv2.putText(card, text, origin, cv2.FONT_HERSHEY_DUPLEX, scale, (228, 226, 224), thickness, cv2.LINE_AA)
    return card
