"""The whole product with a window: a private display, a real window, keys from outside."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.frame import ImageU8
from realtime.pattern import PatternSource
from realtime.provenance import read_manifest
from realtime.standin import slate
from realtime.video_file import VideoFile
from tests.marks import marked
from tests.xvfb import Display, private_display

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 320, 240
DARKER = 30.0
"""Grey levels by which the panel darkens the picture under it at least; the pattern's light changes by less."""
PATIENCE_S = 90.0


def wait_for(happened: Callable[[], object]) -> None:
    """Return when it happened; a busy machine may take its time."""
    end_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def display() -> Iterator[Display]:
    with private_display(1024, 768) as screen:
        yield screen


def start(display: Display, folder: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "liveswap.py"), "run", "--model", "realtime/models/demo.dfm"]
    command += ["--source", "pattern", "--size", f"{WIDTH}x{HEIGHT}", "--sink", "preview", "--keep", str(folder)]
    command += ["--presets", str(folder / "presets.toml"), *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=display.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(run: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = run.communicate(timeout=PATIENCE_S)
    return run.returncode, out, err


def press(display: Display, key: str) -> None:
    display.xdotool("key", "--window", display.window("liveswap"), key)
    time.sleep(0.3)  # a window keeps only the last key until it is looked after


def filming(path: Path) -> bool:
    """Whether pictures are being published: before, the pattern is rendered, which takes its time on a busy machine."""
    time.sleep(0.5)
    return path.exists() and path.stat().st_size > 20_000


def corner(image: ImageU8) -> ImageU8:
    """Upper left, where the panel is and the performer is not."""
    return image[10:60, 6:60]


def test_keys_in_the_window_act_and_its_marks_stay_in_it(display: Display, tmp_path: Path) -> None:
    run = start(display, tmp_path, "--sink", str(tmp_path / "out.mp4"))
    try:
        with PatternSource(width=WIDTH, height=HEIGHT, frames=1) as pattern:
            background = next(iter(pattern)).image
        wait_for(lambda: filming(tmp_path / "out.partial.mp4"))
        press(display, "r")
        press(display, "s")
        time.sleep(1.0)
        press(display, "4")
        press(display, "o")
        press(display, "r")
        press(display, "question")
        wait_for(lambda: (tmp_path / "presets.toml").exists())
        wait_for(lambda: list(tmp_path.glob("liveswap-*.png")))
        wait_for(lambda: [path for path in tmp_path.glob("liveswap-*.mp4") if "partial" not in path.name])
        panel = display.screenshot()
        press(display, "space")
        time.sleep(0.5)
        press(display, "space")
        time.sleep(0.3)
        press(display, "q")
        code, out, err = end(run)
    finally:
        run.kill()
    assert code == 0, err
    assert "swapped" in out
    assert "Rendered demo identity" in err or "consent" in err
    recorded = [path for path in tmp_path.glob("liveswap-*.mp4")]
    assert len(recorded) == 1
    with VideoFile(recorded[0]) as video:
        first = next(iter(video)).image
    with VideoFile(tmp_path / "out.mp4") as video:
        frames = [frame.image for frame in video]
    still = cv2.imread(str(next(tmp_path.glob("liveswap-*.png"))))
    assert still is not None
    for kept in (recorded[0], tmp_path / "out.mp4", next(tmp_path.glob("liveswap-*.png"))):
        assert read_manifest(kept)["state"] == "Valid"
    shown_size = cv2.resize(panel[:720, :960], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    assert all(
        marked(image) for image in (*frames, first, np.asarray(still, np.uint8), np.asarray(shown_size, np.uint8))
    )
    wall = corner(background).mean()
    # The window shows the picture three times as large.
    shown = corner(np.asarray(shown_size, np.uint8))
    assert shown.mean() < wall - DARKER, "the panel is in the window"
    for image in (first, still, frames[0], frames[-1]):
        assert corner(np.asarray(image, np.uint8)).mean() > wall - DARKER / 2, "and in no other sink"
    card = slate(HEIGHT, WIDTH).astype(float)
    cards = [image for image in frames if np.abs(image[60:180, 40:280].astype(float) - card[60:180, 40:280]).mean() < 3]
    assert cards, "panic put up the card"


def test_closing_the_window_ends_the_run(display: Display, tmp_path: Path) -> None:
    run = start(display, tmp_path, "--sink", "null", "-q")
    try:
        window = display.window("liveswap")
        time.sleep(0.5)
        display.ask_to_close(window)
        code, _, err = end(run)
    finally:
        run.kill()
    assert code == 0, err


def test_without_a_display_one_sentence_says_so(tmp_path: Path) -> None:
    nowhere = Display(":77")
    run = start(nowhere, tmp_path)
    code, _, err = end(run)
    assert code == 1
    assert err.count("\n") == 1
    assert "display" in err
