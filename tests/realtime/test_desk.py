from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import cv2
import pytest

from realtime.blend import BlendSettings
from realtime.controls import Knobs
from realtime.desk import Desk
from realtime.errors import ModelError, SinkError
from realtime.frame import Frame
from realtime.guard import Guard
from realtime.infer import Engine
from realtime.live_swapper import Adjust, Change, ChooseAt, NextFace, UseModel
from realtime.pipeline import Pipeline
from realtime.presets import load_presets, save_preset
from realtime.sink import Sink
from realtime.source import SourceInfo
from realtime.video_file import VideoFile
from realtime.video_writer import VideoWriter
from tests.fakes import SWAPPED, FakeSink, FakeSource, FakeSwapper
from tests.seals import provenance

PATIENCE_S = 10.0
"""What a thread does within milliseconds is waited for so long on a busy machine."""


class Hands:
    """A desk in front of a run of plain pictures, and all that was asked of the swap."""

    def __init__(
        self,
        folder: Path,
        *,
        models: tuple[str, ...] = ("one.dfm",),
        open_model: Callable[[Path], Engine] | None = None,
        open_video: Callable[[Path, SourceInfo], Sink] = VideoWriter,
    ) -> None:
        self.changes: list[Change] = []
        self.sink = FakeSink()
        self.pipeline = Pipeline(
            lambda: FakeSource(100_000, delay_s=0.01, live=True),
            FakeSwapper,
            [lambda _: self.sink],
            guard_factory=lambda info: Guard(live=info.live),
            lossless=False,
            badge=False,
        )
        self.desk = Desk(
            self.pipeline,
            self.changes.append,
            Knobs(),
            models=[Path(name) for name in models],
            open_model=open_model or self.refuse,
            open_video=open_video,
            seal=provenance(),
            keep=folder,
            presets=folder / "presets.toml",
        )

    @staticmethod
    def refuse(path: Path) -> Engine:
        raise ModelError(f"{path} is no model; give a .dfm")

    def until(self, happened: Callable[[], bool]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < end_s, "it did not happen"
            self.desk.watch()
            time.sleep(0.01)

    def said(self, words: str) -> bool:
        return any(words in note for note in self.desk.notes())


@contextmanager
def running(hands: Hands) -> Iterator[Hands]:
    with hands.pipeline:
        hands.until(lambda: len(hands.sink.frames) > 3)
        yield hands


def all_swapped(frames: list[Frame]) -> bool:
    return all((each.image == SWAPPED).all() for each in frames)


def test_a_knob_is_turned_shown_and_put_back(tmp_path: Path) -> None:
    hands = Hands(tmp_path)
    hands.desk.press("4")
    assert hands.said("feather 0.06")
    assert hands.changes == [Adjust(Knobs(BlendSettings(feather=0.06)))]
    hands.desk.press("x")
    assert hands.changes[-1] == Adjust(Knobs())
    hands.desk.press("x")
    hands.desk.press("%")
    assert len(hands.changes) == 2, "what changes nothing asks for nothing"


def test_at_the_end_of_its_range_a_knob_says_so(tmp_path: Path) -> None:
    hands = Hands(tmp_path)
    hands.desk.press("6")
    assert hands.said("goes no further")


def test_presets_are_saved_and_gone_through(tmp_path: Path) -> None:
    hands = Hands(tmp_path)
    hands.desk.press("p")
    assert hands.said("no presets yet")
    save_preset(tmp_path / "presets.toml", "soft", Knobs(BlendSettings(feather=0.1)))
    hands.desk.press("2")
    hands.desk.press("o")
    assert list(load_presets(tmp_path / "presets.toml")) == ["soft", "number 1"]
    hands.desk.press("p")
    assert hands.desk.knobs.blend.feather == 0.1
    assert hands.said("preset soft")
    hands.desk.press("p")
    assert hands.desk.knobs.blend.erode == 0.015


def test_a_damaged_file_of_presets_is_told_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "presets.toml").write_text("soft = ")
    hands = Hands(tmp_path)
    hands.desk.press("p")
    assert hands.said("are not TOML")


def test_faces_are_chosen_by_click_and_by_key(tmp_path: Path) -> None:
    hands = Hands(tmp_path)
    hands.desk.click(10, 20)
    hands.desk.press("f")
    assert hands.changes == [ChooseAt(10, 20), NextFace()]


def test_panic_shows_the_card_until_the_key_comes_again(tmp_path: Path) -> None:
    with running(Hands(tmp_path)) as hands:
        hands.desk.press(" ")
        assert hands.said("panic")
        hands.until(lambda: not all_swapped(hands.sink.frames[-1:]))
        hands.desk.press(" ")
        hands.until(lambda: all_swapped(hands.sink.frames[-1:]))


def test_a_recording_begins_and_ends_while_the_run_goes_on(tmp_path: Path) -> None:
    with running(Hands(tmp_path)) as hands:
        hands.desk.press("r")
        assert hands.said("recording 0:0")
        time.sleep(0.4)
        hands.desk.press("r")
        hands.until(lambda: bool(list(tmp_path.glob("liveswap-*.mp4"))) and not list(tmp_path.glob("*.partial*")))
        count = len(hands.sink.frames)
        hands.until(lambda: len(hands.sink.frames) > count)
    (path,) = tmp_path.glob("*.mp4")
    with VideoFile(path) as video:
        assert 5 < len(list(video)) < 100


def test_a_recording_that_breaks_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    def broken(path: Path, info: SourceInfo) -> Sink:
        raise SinkError(f"{path.name} cannot be written: the disk is full; free some space")

    with running(Hands(tmp_path, open_video=broken)) as hands:
        hands.desk.press("r")
        hands.until(lambda: hands.said("the disk is full"))
        assert not hands.said("recording 0")
        count = len(hands.sink.frames)
        hands.until(lambda: len(hands.sink.frames) > count)


def test_a_still_keeps_what_is_published(tmp_path: Path) -> None:
    with running(Hands(tmp_path)) as hands:
        hands.desk.press("s")
        hands.until(lambda: hands.said("kept liveswap-"))
        hands.desk.press("s")
        hands.until(lambda: len(list(tmp_path.glob("*.png"))) == 2)
    for path in tmp_path.glob("*.png"):
        image = cv2.imread(str(path))
        assert image is not None
        assert (image == SWAPPED).all()


def test_q_ends_the_run_and_afterwards_keys_are_told_so(tmp_path: Path) -> None:
    with running(Hands(tmp_path)) as hands:
        hands.desk.press("q")
        assert hands.pipeline.wait().stopped
        hands.desk.press("r")
        assert hands.said("the run is ending")


def test_a_model_that_does_not_load_leaves_the_one_that_runs(tmp_path: Path) -> None:
    hands = Hands(tmp_path, models=("one.dfm", "two.dfm"))
    hands.desk.press("m")
    hands.until(lambda: hands.said("the model before it stays"))
    assert hands.said("model one.dfm")
    assert hands.changes == []


def test_models_are_gone_through_in_both_directions(tmp_path: Path) -> None:
    opened: list[str] = []

    class Model:
        """An engine as far as the desk looks at it."""

    def open_model(path: Path) -> Engine:
        opened.append(path.name)
        return cast("Engine", Model())

    hands = Hands(tmp_path, models=("one.dfm", "two.dfm", "three.dfm"), open_model=open_model)
    for key, name in (("m", "two"), ("n", "one"), ("n", "three")):
        hands.desk.press(key)
        hands.until(lambda: not hands.said("loading"))
        assert hands.said(f"model {name}.dfm")
    assert opened == ["two.dfm", "one.dfm", "three.dfm"]
    assert all(isinstance(change, UseModel) for change in hands.changes)


def test_one_model_alone_cannot_be_changed(tmp_path: Path) -> None:
    hands = Hands(tmp_path)
    hands.desk.press("m")
    assert hands.said("there is one model only")
    assert not hands.said("loading")


@pytest.mark.parametrize(("key", "name"), [("?", "help"), ("h", "hud")])
def test_help_and_figures_come_and_go(tmp_path: Path, key: str, name: str) -> None:
    desk = Hands(tmp_path).desk
    before = getattr(desk, name)
    desk.press(key)
    assert getattr(desk, name) is not before
    desk.press(key)
    assert getattr(desk, name) is before
