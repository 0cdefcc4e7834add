"""ScreenRegion: a picture drawn on a real display in, the same pixels out."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.errors import SourceError, UsageError
from realtime.frame import ImageU8
from realtime.screen_region import Region, ScreenRegion, parse_region
from tests.fake_capture import FakeClock
from tests.xvfb import private_display

WIDTH, HEIGHT = 320, 240


def paint(display: str, picture: ImageU8) -> None:
    """Cover the display with `picture`."""
    painter = shutil.which("display")
    if painter is None:
        pytest.skip("ImageMagick's display is not installed; run: apt install imagemagick")
    png = cv2.imencode(".png", picture)[1].tobytes()
    # Its exit code is 1 even when it has painted.
    subprocess.run([painter, "-display", display, "-window", "root", "png:-"], input=png, check=False, timeout=60)


@pytest.fixture(scope="module")
def drawn() -> Iterator[tuple[str, ImageU8]]:
    """A display, and what is drawn on the whole of it: (240, 320, 3) BGR in blocks of random colours."""
    blocks = np.random.default_rng(3).integers(0, 256, (24, 32, 3), np.uint8)
    picture = np.kron(blocks, np.ones((10, 10, 1), np.uint8))
    with private_display(WIDTH, HEIGHT, needed=("Xvfb",)) as display:
        paint(display.name, picture)
        yield display.name, picture


@pytest.fixture
def screen(drawn: tuple[str, ImageU8], monkeypatch: pytest.MonkeyPatch) -> ImageU8:
    """What is on the display that DISPLAY names."""
    name, picture = drawn
    monkeypatch.setenv("DISPLAY", name)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return picture


@pytest.mark.parametrize("rest", ["", "0", "1", "0,0,320x240"])
def test_the_whole_screen_comes_out_pixel_for_pixel(screen: ImageU8, rest: str) -> None:
    with ScreenRegion(rest) as source:
        frame = next(iter(source))
        assert (source.info.width, source.info.height, source.info.fps) == (WIDTH, HEIGHT, Fraction(30))
        assert source.info.live
    assert np.array_equal(frame.image, screen)


def test_a_region_is_cut_where_it_was_asked_for(screen: ImageU8) -> None:
    with ScreenRegion("17,33,101x55") as source:
        frame = next(iter(source))
    assert source.info.name == "screen:17,33,101x55"
    assert np.array_equal(frame.image, screen[33:88, 17:118])


def test_pictures_come_at_the_wanted_rate(screen: ImageU8) -> None:
    clock = FakeClock()
    with ScreenRegion("0,0,64x64", fps=20, clock=clock, sleep=clock.sleep) as source:
        frames = list(itertools.islice(source, 5))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert np.diff([frame.captured_s for frame in frames]) == pytest.approx(0.05)
    assert [frame.pts_s for frame in frames] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_a_slow_reader_skips_pictures_and_keeps_the_rate(screen: ImageU8) -> None:
    clock = FakeClock()
    seen = []
    with ScreenRegion("0,0,64x64", fps=10, clock=clock, sleep=clock.sleep) as source:
        for frame in itertools.islice(source, 4):
            seen.append((frame.index, round(frame.pts_s, 6)))
            clock.sleep(0.25)
    assert seen == [(0, 0.0), (2, 0.25), (5, 0.5), (7, 0.75)]


def test_what_changes_on_the_screen_changes_in_the_frames(screen: ImageU8, drawn: tuple[str, ImageU8]) -> None:
    with ScreenRegion("0,0,40x40") as source:
        frames = iter(source)
        before = next(frames)
        paint(drawn[0], 255 - screen)
        try:
            after = next(frames)
        finally:
            paint(drawn[0], screen)
    assert np.array_equal(before.image, screen[:40, :40])
    assert np.array_equal(after.image, 255 - screen[:40, :40])


def test_closing_twice_and_from_another_thread_ends_the_frames(screen: ImageU8) -> None:
    source = ScreenRegion(fps=200)
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.extend(frame.index for frame in source))
    reader.start()
    source.close()
    source.close()
    reader.join(10)
    assert not reader.is_alive()
    assert list(source) == []


def test_a_place_outside_the_screen_is_told_with_what_there_is(screen: ImageU8) -> None:
    with pytest.raises(UsageError, match=r"300,200,64x64 reaches outside the screen; .*monitor 1 at 0,0,320x240"):
        ScreenRegion("300,200,64x64")
    with pytest.raises(UsageError, match="reaches outside"):
        ScreenRegion("-1,0,64x64")
    with pytest.raises(UsageError, match="there is no monitor 2; choose from monitor 1 at 0,0,320x240"):
        ScreenRegion("2")


def test_without_a_display_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SourceError, match="there is no display to film; run it on a desktop, or set DISPLAY"):
        ScreenRegion()


def test_a_display_that_goes_away_ends_with_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with private_display(64, 64, needed=("Xvfb",)) as display:
        monkeypatch.setenv("DISPLAY", display.name)
        source = ScreenRegion(fps=100)
        frames = iter(source)
        next(frames)
    with pytest.raises(SourceError, match="the screen cannot be filmed any more"):
        list(frames)
    source.close()


@pytest.mark.parametrize(
    ("rest", "meant"),
    [
        ("", None),
        ("2", 2),
        ("10,20,300x200", Region(10, 20, 300, 200)),
        ("-1920, 0, 640 x 480", Region(-1920, 0, 640, 480)),
    ],
)
def test_what_is_typed_is_understood(rest: str, meant: int | Region | None) -> None:
    assert parse_region(rest) == meant


@pytest.mark.parametrize("rest", ["left", "1,2", "0,0,0x10", "0,0,10x0", "1,2,3x", "0,0,10x10x10", "9999999,0,1x1"])
def test_what_makes_no_sense_is_a_mistake_in_the_call(rest: str) -> None:
    with pytest.raises(UsageError, match=r"write for example screen:1 or screen:0,0,1280x720"):
        parse_region(rest)


@pytest.mark.parametrize("fps", [0, -1, 5000, float("nan")])
def test_a_rate_that_cannot_be_is_a_mistake_in_the_call(fps: float) -> None:
    with pytest.raises(UsageError, match="fps; give a rate"):
        ScreenRegion(fps=fps)
