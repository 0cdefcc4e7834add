from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from realtime.errors import SinkError
from realtime.frame import ImageU8
from realtime.preview import Event, Preview, check_display
from realtime.report import Progress
from tests.fakes import frame, info
from tests.xvfb import Display, private_display, wait_for

ROOT = Path(__file__).resolve().parents[2]

WIDTH, HEIGHT = 640, 480
MARKER, MARKER_AT = (255, 0, 255), (450, 330)
"""A square of a colour that occurs nowhere else, and its centre in frame pixels."""
CARD = (46, 42, 40)
PULSE_S = 1 / 60


def picture(grey: int = 90) -> ImageU8:
    """Stripes of many colours around the marker."""
    image = np.full((HEIGHT, WIDTH, 3), grey, np.uint8)
    image[::2, :, 0] = 30
    image[:, ::3, 1] = 200
    x, y = MARKER_AT
    image[y - 15 : y + 16, x - 15 : x + 16] = MARKER
    return image


def marker_on(screen: ImageU8) -> tuple[float, float]:
    """Centre of the marker on a screenshot."""
    rows, columns = np.nonzero((screen == MARKER).all(axis=2))
    return float(columns.min() + columns.max()) / 2, float(rows.min() + rows.max()) / 2


def shows_marker(screen: ImageU8) -> bool:
    return bool((screen == MARKER).all(axis=2).any())


# --- the program that owns the window; not the one of the tests, because Qt ends a process whose display goes away ---


def run_window() -> None:
    """Pump a Preview and obey lines of JSON; say what happens in lines of JSON."""
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            orders.put(json.loads(line))
        orders.put(None)

    threading.Thread(target=listen, daemon=True).start()
    try:
        preview = Preview()
    except SinkError as error:
        say({"error": str(error)})
        return
    say({"open": threading.active_count()})
    with preview:
        end = preview.sink(info(live=True, width=WIDTH, height=HEIGHT))
        state, sent = "armed", frame(0, picture())
        settings: dict[str, Any] = {}
        pumps: list[float] = []
        while True:
            began_s = time.perf_counter()
            progress = Progress(1, None, 30.0, state, (41.0, 58.0), {"swap": (20.0, 31.0)}, {"swap": 3})
            events = preview.pump(progress, ["model demo.dfm"], **settings)
            pumps.append(time.perf_counter() - began_s)
            for event in events:
                say({type(event).__name__: fields_of(event)})
            time.sleep(PULSE_S)
            try:
                order = orders.get_nowait()
            except queue.Empty:
                continue
            if order is None:
                return
            for grey in order.pop("frames", []):
                sent = frame(0, picture(grey))
                feeder = threading.Thread(target=end.send, args=(sent,))  # as a sink's thread would
                feeder.start()
                feeder.join()
            state = order.pop("state", state)
            settings |= order
            # The answer comes when what was asked for has been drawn.
            preview.pump(Progress(1, None, 30.0, state), [], **settings)
            say({"done": bool((sent.image == picture(int(sent.image[1, 1, 0]))).all())})


def fields_of(event: Event) -> list[Any]:
    return [getattr(event, name) for name in event.__slots__]


def say(words: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


class Window:
    """The program above, and what it said."""

    def __init__(self, display: Display, **environment: str) -> None:
        self.display = display
        self.program = subprocess.Popen(
            [sys.executable, __file__],
            env=display.environment | {"PYTHONPATH": str(ROOT)} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self.program.stdout is not None
        for line in self.program.stdout:
            self.said.put(json.loads(line))

    def hear(self) -> dict[str, Any]:
        return self.said.get(timeout=10)

    def order(self, **order: Any) -> bool:
        """Have it do something; whether the frame that it was given is still as it was."""
        assert self.program.stdin is not None
        self.program.stdin.write(json.dumps(order) + "\n")
        self.program.stdin.flush()
        while "done" not in (answer := self.hear()):
            pass
        return bool(answer["done"])

    def screenshot(self) -> ImageU8:
        time.sleep(2 * PULSE_S)
        return self.display.screenshot()

    def end(self) -> tuple[int, str]:
        """Exit code and error output."""
        with self.program as program:
            assert program.stdin is not None
            assert program.stderr is not None
            program.stdin.close()
            try:
                return program.wait(10), program.stderr.read()
            finally:
                program.kill()
                self._listener.join(10)


@pytest.fixture(scope="module")
def display() -> Iterator[Display]:
    with private_display() as display:
        yield display


@pytest.fixture(scope="module")
def shared(display: Display) -> Iterator[Window]:
    window = Window(display)
    try:
        assert "open" in window.hear()
        window.order(hud=False)
        wait_for(lambda: window.screenshot()[:720, :960].any())
        yield window
    finally:
        code, errors = window.end()
    assert code == 0
    assert errors == "", "Qt has something to say"


@pytest.fixture
def window(shared: Window) -> Window:
    """The one window, as large as at first and with the same picture, without the panel."""
    number = shared.display.window("liveswap")
    shared.display.xdotool("windowfocus", "--sync", number, "windowsize", number, 960, 720)
    shared.order(hud=False, help_lines=[], state="live", frames=[90])
    wait_for(lambda: shows(shared, 90))
    return shared


def shows(window: Window, grey: int) -> bool:
    """Whether the window shows the picture, to the pixel and nothing else."""
    return bool((window.screenshot()[:720, :960] == cv2.resize(picture(grey), (960, 720))).all())


def test_before_the_first_frame_there_is_a_card(shared: Window) -> None:
    before = shared.screenshot()[:720, :960]
    assert not shows_marker(before)
    assert (before == CARD).all(axis=2).mean() > 0.9
    assert before.max() > 200, "the card has words"


def test_then_there_is_the_frame_itself_as_large_as_the_window(window: Window) -> None:
    assert window.order(frames=[120])
    wait_for(lambda: shows(window, 120))


def test_the_newest_frame_wins(window: Window) -> None:
    window.order(frames=list(range(0, 200, 4)))
    wait_for(lambda: shows(window, 196))


def test_the_hud_is_on_the_screen_and_never_in_the_frame(window: Window) -> None:
    plain = settled(window)
    assert window.order(hud=True, state="live")
    changed = np.nonzero((plain != settled(window)).any(axis=2))
    assert changed[1].max() < 0.4 * 960, "the panel is at the left"
    assert window.order(hud=False, help_lines=["q  quit"])
    helped = np.nonzero((plain != settled(window)).any(axis=2))
    assert helped[1].min() > 0.4 * 960, "help is at the right"


def test_nobody_can_hide_that_the_raw_face_goes_out(window: Window) -> None:
    window.order(hud=False, state="raw")
    edge = settled(window)[0, :960]
    assert (edge[:, 2] > 200).all()
    assert (edge[:, 1] < 80).all()


def test_keys_arrive_and_shift_alone_is_no_key(window: Window) -> None:
    typed = {
        "q": "q",
        "space": " ",
        "Escape": "\x1b",
        "question": "?",
        "plus": "+",
        "minus": "-",
        "comma": ",",
        "0": "0",
    }
    for name, char in typed.items():
        window.display.xdotool("key", name)
        assert window.hear() == {"Key": [char]}
    window.display.xdotool("key", "Shift_L")
    window.display.xdotool("key", "Left")
    window.display.xdotool("key", "shift+p")
    assert window.hear() == {"Key": ["p"]}


@pytest.mark.parametrize("size", [None, (1400, 700), (500, 900), (331, 217)])
def test_a_click_names_the_pixel_of_the_frame(window: Window, size: tuple[int, int] | None) -> None:
    number = window.display.window("liveswap")
    if size is not None:
        window.display.xdotool("windowsize", "--sync", number, *size)
    window.display.xdotool("mousemove", "--sync", *map(round, marker_on(settled(window))), "click", 1)
    x, y = window.hear()["Click"]
    wide, high = size or (960, 720)
    step = max(1.0, WIDTH / wide, HEIGHT / high)  # frame pixels that a pixel of the screen stands for
    assert abs(x - MARKER_AT[0]) <= 1.5 * step
    assert abs(y - MARKER_AT[1]) <= 1.5 * step


def settled(window: Window) -> ImageU8:
    """A screenshot after the window has taken its new size."""
    shots = [window.screenshot()]

    def still() -> bool:
        shots.append(window.screenshot())
        return bool((shots[-2] == shots[-1]).all()) and shows_marker(shots[-1])

    wait_for(still)
    return shots[-1]


def test_after_resizing_the_picture_keeps_its_shape(window: Window) -> None:
    window.display.xdotool("windowsize", "--sync", window.display.window("liveswap"), 1400, 600)
    screen = settled(window)
    rows, columns = np.nonzero((screen == MARKER).all(axis=2))
    assert abs((columns.max() - columns.min()) - (rows.max() - rows.min())) <= 1
    left = (1400 - 800) // 2
    assert (screen[:600, left : left + 800] == cv2.resize(picture(90), (800, 600))).all(), "drawn at its size"


def test_closing_the_window_is_noticed_once() -> None:
    with private_display() as display:
        window = Window(display)
        try:
            assert "open" in window.hear()
            window.order(frames=[90])
            display.ask_to_close(display.window("liveswap"))
            assert window.hear() == {"Closed": []}
            window.order(frames=[91], hud=False)
            assert not window.screenshot().any(), "nothing is left on the screen"
            assert window.said.empty()
        finally:
            ended = window.end()
    assert ended == (0, "")


def test_without_a_display_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SinkError, match=r"no display for the preview.*ssh -X"):
        Preview()


@pytest.mark.parametrize("name", [":9999", "127.0.0.1:4999.0", "nonsense", ":", ":0x", "host:-1", ":" + "9" * 30])
def test_a_display_that_does_not_answer_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", name)
    with pytest.raises(SinkError, match="no display answers at DISPLAY="):
        check_display()


def test_what_would_make_qt_end_the_process_becomes_an_error(display: Display) -> None:
    window = Window(display, QT_QPA_PLATFORM="nonsense")
    try:
        assert "Qt cannot open a window" in window.hear()["error"]
    finally:
        ended = window.end()
    assert ended == (0, "")


def test_a_preview_belongs_to_the_main_thread() -> None:
    errors: list[BaseException] = []

    def make() -> None:
        try:
            Preview()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert len(errors) == 1


if __name__ == "__main__":
    run_window()
