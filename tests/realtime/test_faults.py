"""Every fault of a live run, in one table: it survives or ends with one sentence, and never shows the raw face.

Each row runs the real pipeline, swapper, face networks, engine, guard and badge on rendered pictures; only the fault is
made. `pytest -s` prints what happened as a table, and every row's outcome is a property in the JUnit report.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, cast

import cv2
import numpy as np
import pytest

import liveswap
from benchmarks.hard_film import Shot, film
from benchmarks.soak import Judge
from realtime import front
from realtime.detect import FaceFinder
from realtime.errors import SinkError, SourceError
from realtime.frame import Frame, ImageU8
from realtime.guard import Guard
from realtime.infer import DEFAULT_MORPH, Engine, EngineOutput, open_engine
from realtime.pipeline import Pipeline
from realtime.report import RunReport
from realtime.sink import Sink
from realtime.source import BT709, Source, SourceInfo
from realtime.standin import slate
from realtime.steady_source import SteadySource
from realtime.swap import FaceSwapper
from realtime.video_writer import VideoWriter
from tests.community_dfm import painting_dfm

WIDTH, HEIGHT, FPS = 320, 240, 100
FRAMES = 40
FAULT_AT = 15
HOLD_MS = 50.0
"""Silence and misses that last longer put up the card."""
STALL_S = BLOCK_S = AWAY_S = 0.4
"""Long against HOLD_MS, short against patience; the length changes nothing else."""
UNSEEN_S = 0.1
"""So long a source waits for a frame to be seen: before the first swap nothing is published."""
PATIENCE_S = 30.0
"""A run that has not ended after this long hangs: each takes a second or two, even on a busy machine."""


# Rooms with a fault


@dataclass(frozen=True, eq=False)
class Stage:
    """What a source of one run plays; it goes on when the judged sink has seen the frame before."""

    shots: Sequence[Shot]
    seen: threading.Event = field(default_factory=threading.Event)


class Player:
    """A live source of rendered pictures that does `act` before each: raise, sleep, or give another picture.

    However slow the machine is, its frames come one by one, so that a fault at number N is a fault after N pictures.
    """

    def __init__(
        self, stage: Stage, act: Callable[[int, ImageU8], object], count: int = FRAMES, *, live: bool = True
    ) -> None:
        self.info = SourceInfo("actors", WIDTH, HEIGHT, Fraction(FPS), count, live=live, colour=BT709)
        self._stage, self._act, self._count, self._next = stage, act, count, 0
        self._waits = False
        self._start_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        index = self._next
        if index >= self._count:
            raise StopIteration
        self._next += 1
        if self._waits:
            self._stage.seen.wait(UNSEEN_S)
        time.sleep(max(self._start_s + index / FPS - time.monotonic(), 0))
        self._waits = False
        image = cast(ImageU8, self._act(index, self._stage.shots[index % len(self._stage.shots)].image))
        frame = Frame(image, index, time.monotonic(), index / FPS)
        self._stage.seen.clear()
        self._waits = True
        return frame

    def close(self) -> None:
        """Nothing is held open between frames."""


class FaultyEngine:
    """A real engine whose answer `act` may spoil, by the number of the frame it is asked for."""

    def __init__(self, engine: Engine, act: Callable[[int, EngineOutput], EngineOutput]) -> None:
        self._engine, self._act, self._runs = engine, act, 0
        self.dfm, self.provider = engine.dfm, engine.provider

    def run(self, image: ImageU8, morph: float = DEFAULT_MORPH) -> EngineOutput:
        """Paint the identity, or not."""
        self._runs += 1
        return self._act(self._runs - 1, self._engine.run(image, morph))

    def close(self) -> None:
        """Free the model."""
        self._engine.close()


class Recorder:
    """A sink that notes what it is shown, and does `act` first."""

    def __init__(self, stage: Stage, name: str = "sink 0", act: Callable[[int], None] | None = None) -> None:
        self.name, self._act, self._stage = name, act or (lambda index: None), stage
        self._judge, self._card = Judge(stage.shots), slate(HEIGHT, WIDTH)
        self.kinds: list[str] = []
        """swap or slate, or raw, for every picture."""
        self.shapes: set[tuple[int, ...]] = set()
        self.ended = ""

    def send(self, frame: Frame) -> None:
        """Judge one picture."""
        if self.name == "sink 0":
            self._stage.seen.set()
        self._act(len(self.kinds))
        self._judge.send(frame)
        self.shapes.add(frame.image.shape)
        middle = slice(HEIGHT // 4, 3 * HEIGHT // 4)  # the badge is in a corner
        card = frame.image.shape == self._card.shape and bool((frame.image[middle] == self._card[middle]).all())
        self.kinds.append("slate" if card else "raw" if len(self._judge.raw) > self.kinds.count("raw") else "swap")

    def close(self) -> None:
        """The run ended in order."""
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        """The run ended with an error."""
        self.ended = self.ended or "aborted"


def picture(index: int, image: ImageU8) -> ImageU8:
    return image


def answer(index: int, output: EngineOutput) -> EngineOutput:
    return output


def at(index: int, act: Callable[[], Any], *, until: int | None = None) -> Callable[[int, Any], Any]:
    """`act` before number `index`, or before all from there up to `until`; everything else passes."""

    def do(number: int, passing: Any) -> Any:
        if index <= number < (index + 1 if until is None else until):
            instead = act()
            return passing if instead is None else instead
        return passing

    return do


def failing(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def garbage() -> Iterator[object]:
    """What a broken driver hands over instead of a picture."""
    return itertools.cycle(
        (np.zeros((0, 0, 3), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8), np.full((HEIGHT, WIDTH, 3), np.nan))
    )


def steady(
    stage: Stage, *acts: Callable[[int, ImageU8], object], give_up_s: float = 5.0, count: int = FRAMES
) -> Source:
    """A source that breaks as often as there are acts before the last one, and comes back each time."""
    left = iter(acts)

    def open_it() -> Source:
        act = next(left, None)
        if act is None:
            raise SourceError("the camera is not there; plug it in")
        return Player(stage, act, count)

    return SteadySource(open_it, give_up_s=give_up_s, first_wait_s=AWAY_S)


def spoilt(output: EngineOutput, *, face: float | None = None, mask: float | None = None) -> EngineOutput:
    """The answer with its face or both masks at one value."""
    if face is not None:
        output = dataclasses.replace(output, face=np.full_like(output.face, face))
    if mask is not None:
        masks = np.full_like(output.face_mask, mask)
        output = dataclasses.replace(output, face_mask=masks, performer_mask=masks.copy())
    return output


def spoil(first: int, last: int, **how: float) -> Callable[[int, EngineOutput], EngineOutput]:
    return lambda index, output: spoilt(output, **how) if first <= index < last else output


def blocked(seconds: float) -> Callable[[], None]:
    return lambda: time.sleep(seconds)


# The table


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and what has to come of it."""

    name: str
    last: str
    """What the last picture shows, if any was sent: swap, slate; "" for none at all."""
    sentence: str | None = None
    """What the run ends with; None: it survives."""
    also: tuple[str, ...] = ()
    """What had to be seen on the way."""
    source: Callable[[Stage], Source] = lambda stage: Player(stage, picture)
    engine: Callable[[int, EngineOutput], EngineOutput] = answer
    sinks: Sequence[Callable[[int], None] | None] = (None,)
    """What each sink does before it takes its picture number so and so; the first one is judged."""
    lossless: bool = False
    check: Callable[[RunReport], None] = lambda report: None
    """What the report has to say of a run that survived."""


def says(**wanted: Callable[[Any], bool]) -> Callable[[RunReport], None]:
    def check(report: RunReport) -> None:
        for name, holds in wanted.items():
            assert holds(getattr(report, name)), f"{name}: {getattr(report, name)}"

    return check


def before(index: int, act: Callable[[], None]) -> Callable[[int], None]:
    return lambda number: act() if number == index else None


UNPLUGGED = SourceError("the camera was unplugged; plug it in")
GONE = OSError(errno.ENODEV, "No such device")
NEVER = 10**9

TABLE = (
    # The source
    Fault(
        "source dies mid-frame and comes back",
        last="swap",
        also=("slate",),
        source=lambda stage: steady(stage, at(FAULT_AT, failing(UNPLUGGED)), picture),
    ),
    Fault(
        "source dies mid-frame for good",
        last="slate",
        also=("swap",),
        sentence=r"actors stayed away for 0\.4 s \(.*\); check it and start again",
        source=lambda stage: steady(stage, at(FAULT_AT, failing(UNPLUGGED)), give_up_s=0.4),
    ),
    Fault(
        "source of a file dies mid-frame",
        last="swap",
        sentence=r"the file is damaged; copy it again",
        source=lambda stage: Player(
            stage, at(FAULT_AT, failing(SourceError("the file is damaged; copy it again"))), live=False
        ),
        lossless=True,
    ),
    Fault(
        "source raises what nobody expected",
        last="swap",
        sentence=r"unexpected RuntimeError: driver; .*",
        source=lambda stage: steady(stage, at(FAULT_AT, failing(RuntimeError("driver")))),
    ),
    Fault(
        "source cannot be opened",
        last="",
        sentence=r"the camera is not there; plug it in",
        source=lambda stage: steady(stage),
    ),
    Fault(
        "source returns garbage now and then",
        last="swap",
        source=lambda stage: steady(stage, at(FAULT_AT, garbage().__next__, until=FAULT_AT + 6)),
        check=says(frames_in=lambda count: count == FRAMES - 6),
    ),
    Fault(
        "source returns nothing but garbage",
        last="slate",
        also=("swap",),
        sentence=r"actors stayed away for 0\.4 s \(.*\); check it and start again",
        source=lambda stage: steady(stage, at(FAULT_AT, garbage().__next__, until=NEVER), give_up_s=0.4, count=1000),
    ),
    Fault(
        "source changes its resolution",
        last="swap",
        source=lambda stage: steady(stage, lambda index, image: resized(image) if index >= FAULT_AT else image),
    ),
    Fault(
        "source stalls",
        last="swap",
        also=("slate",),
        source=lambda stage: Player(stage, at(FAULT_AT, blocked(STALL_S))),
    ),
    # The sink
    Fault(
        "one of two sinks raises",
        last="swap",
        sinks=(None, before(FAULT_AT, failing(SinkError("the disk is full; free some space")))),
        check=says(failed_sinks=lambda lost: lost == {"sink 1": "the disk is full; free some space"}),
    ),
    Fault(
        "the only sink raises",
        last="swap",
        sentence=r"the disk is full; free some space",
        sinks=(before(FAULT_AT, failing(SinkError("the disk is full; free some space"))),),
    ),
    Fault(
        "one of two sinks blocks",
        last="swap",
        sinks=(None, before(3, blocked(BLOCK_S))),
        check=says(
            dropped=lambda dropped: dropped["sink 1"] > 0,
            sinks=lambda taken: taken["sink 0"] > taken["sink 1"],
        ),
    ),
    Fault(
        "one of two sinks disappears",
        last="swap",
        sinks=(None, before(FAULT_AT, failing(GONE))),
        check=says(failed_sinks=lambda lost: "No such device" in lost["sink 1"]),
    ),
    Fault(
        "the only sink disappears",
        last="swap",
        sentence=r".*No such device.*",
        sinks=(before(FAULT_AT, failing(GONE)),),
    ),
    # The engine
    Fault(
        "engine raises now and then",
        last="swap",
        engine=lambda index, output: at(index, failing(RuntimeError("CUDA")))(index, output) if index == 9 else output,
        check=says(failed_frames=lambda count: count == 1, states=lambda states: states["hold"] >= 1),
    ),
    Fault(
        "engine raises for ever",
        last="slate",
        also=("swap",),
        sentence=r"the swap failed on 30 frames in a row \(CUDA\); try another model, or report this",
        source=lambda stage: Player(stage, picture, 200),
        engine=at(5, failing(RuntimeError("CUDA")), until=NEVER),
    ),
    Fault(
        "engine returns NaN for a while",
        last="swap",
        also=("slate",),
        engine=spoil(8, 20, face=np.nan),
    ),
    Fault(
        "engine returns NaN for ever",
        last="slate",
        also=("swap",),
        engine=spoil(8, NEVER, face=np.nan),
    ),
    Fault(
        "engine has never returned a number",
        last="",
        source=lambda stage: Player(stage, picture, 8),
        engine=spoil(0, NEVER, face=np.nan),
        check=says(states=lambda states: set(states) == {"armed"}),
    ),
    Fault(
        "mask collapses",
        last="slate",
        also=("swap",),
        engine=spoil(8, NEVER, mask=0.0),
    ),
    Fault(
        "mask turns NaN",
        last="slate",
        also=("swap",),
        engine=spoil(8, NEVER, mask=np.nan),
    ),
    Fault(
        "engine gets stuck for a moment",
        last="swap",
        also=("slate",),
        engine=at(8, blocked(STALL_S)),
    ),
)


def resized(image: ImageU8) -> ImageU8:
    return np.asarray(cv2.resize(image, (WIDTH * 2, HEIGHT)), np.uint8)


# The runs


@dataclass
class Outcome:
    """What became of one row."""

    report: RunReport | None = None
    error: BaseException | None = None
    sinks: list[Recorder] = field(default_factory=list)


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    """The performer, talking."""
    return list(itertools.islice(film(160, WIDTH, HEIGHT), 12))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painting_dfm(tmp_path_factory.mktemp("model") / "paint.dfm")


@pytest.fixture(scope="module")
def table() -> Iterator[list[dict[str, str]]]:
    """Gathers what happened, and prints it when all rows have run."""
    rows: list[dict[str, str]] = []
    yield rows
    lines = ["", "", "| fault | outcome | pictures | last | sinks |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row.values())} |" for row in rows]
    sys.stdout.write("\n".join([*lines, "", json.dumps(rows), ""]))


def run(fault: Fault, shots: Sequence[Shot], model: Path, *, stop: threading.Event | None = None) -> Outcome:
    outcome, stage = Outcome(), Stage(shots)

    def open_sink(number: int, act: Callable[[int], None] | None) -> Callable[[SourceInfo], Sink]:
        def open_it(_: SourceInfo) -> Sink:
            outcome.sinks.append(Recorder(stage, f"sink {number}", act))
            return outcome.sinks[-1]

        return open_it

    pipeline = Pipeline(
        lambda: fault.source(stage),
        lambda: FaceSwapper(FaceFinder(), FaultyEngine(open_engine(model, threads=1), fault.engine), live=True),
        [open_sink(number, act) for number, act in enumerate(fault.sinks)],
        guard_factory=lambda info: Guard(hold_ms=HOLD_MS, live=info.live),
        lossless=fault.lossless,
        grace_s=2.0,
    )

    def wait() -> None:
        try:
            pipeline.start()
            outcome.report = pipeline.wait(stop=stop)
        except BaseException as error:
            outcome.error = error

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "the run hangs"
    return outcome


def running() -> list[str]:
    """Threads of the loop that are still there; those that are ending are given a moment."""
    deadline_s = time.monotonic() + 2 * STALL_S
    while True:
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("liveswap")]
        if not left or time.monotonic() > deadline_s:
            return left
        time.sleep(0.01)


def told(error: BaseException) -> tuple[str, int]:
    """The sentence and the exit code that the front door makes of an error."""
    sentence, code = front.explain(error)
    return " ".join(sentence.split()), code


@pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault.name.replace(" ", "_"))
def test_fault(
    fault: Fault,
    shots: list[Shot],
    model: Path,
    table: list[dict[str, str]],
    record_property: Callable[[str, object], None],
) -> None:
    outcome = run(fault, shots, model)
    judged = next((sink for sink in outcome.sinks if sink.name == "sink 0"), None)
    kinds = judged.kinds if judged else []
    sentence, code = told(outcome.error) if outcome.error else ("", 0)
    seen = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    row = {
        "fault": fault.name,
        "outcome": f"exit {code}: {sentence}" if sentence else "survives",
        "pictures": ", ".join(f"{count} {kind}" for kind, count in seen.items()) or "none",
        "last": kinds[-1] if kinds else "none",
        "sinks": ", ".join(sink.ended for sink in outcome.sinks) or "none opened",
    }
    table.append(row)
    for name, value in row.items():
        record_property(name, value)

    if fault.sentence is None:
        assert not sentence, sentence
    else:
        assert re.fullmatch(fault.sentence, sentence), sentence or "it survived"
        assert code == 1
    assert "raw" not in kinds
    assert (kinds[-1] if kinds else "") == fault.last
    assert set(fault.also) <= set(kinds)
    assert all(sink.ended for sink in outcome.sinks)
    if judged is not None:
        assert judged.ended == ("aborted" if sentence else "closed")
        assert judged.shapes <= {(HEIGHT, WIDTH, 3)}
    assert running() == []
    if outcome.report is not None:
        fault.check(outcome.report)
        assert outcome.report.raw_face_frames == 0


def test_a_source_that_stalls_for_ever_shows_the_card_and_can_be_stopped(shots: list[Shot], model: Path) -> None:
    release, stop = threading.Event(), threading.Event()
    fault = Fault("", "", source=lambda stage: Player(stage, at(FAULT_AT, lambda: release.wait(PATIENCE_S) and None)))
    stopper = threading.Timer(1.0, stop.set)
    stopper.start()
    outcome = run(fault, shots, model, stop=stop)
    assert outcome.error is None
    assert outcome.sinks[0].kinds[-1] == "slate"
    assert "raw" not in outcome.sinks[0].kinds
    assert outcome.sinks[0].ended == "closed"
    release.set()
    assert running() == [], "the source was left behind, and ended as soon as it could"


def test_a_recording_whose_folder_disappears_ends_in_one_sentence(
    shots: list[Shot], model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "away"
    folder.mkdir()

    def remove(index: int) -> None:
        if index == FAULT_AT:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    outcome, stage = Outcome(), Stage(shots)
    recorder = Recorder(stage, act=remove)
    try:
        with Pipeline(
            lambda: Player(stage, picture),
            lambda: FaceSwapper(FaceFinder(), open_engine(model, threads=1), live=True),
            [lambda _: recorder, lambda info: VideoWriter(folder / "out.mp4", info)],
            guard_factory=lambda info: Guard(hold_ms=HOLD_MS, live=info.live),
            lossless=False,
        ) as pipeline:
            outcome.report = pipeline.wait()
    except Exception as error:
        outcome.error = error
    assert outcome.error is None, "the other sink had everything"
    assert outcome.report is not None
    assert "away" in outcome.report.failed_sinks["out.mp4"], "a recording that is lost has to be told"
    assert recorder.ended
    assert running() == []


@pytest.mark.parametrize("broken", ["missing", "empty", "no model"])
def test_a_model_that_cannot_be_used_ends_in_one_sentence_before_anything_is_shown(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.dfm"
    if broken != "missing":
        path.write_bytes(b"" if broken == "empty" else b"no model")
    out = tmp_path / "out.mp4"
    code = liveswap.main(["run", "--model", str(path), "--source", "pattern:1", "--sink", str(out)])
    said = capsys.readouterr().err.strip()
    assert code == 1
    assert len(said.splitlines()) == 1
    assert said.startswith("liveswap: the model")
    assert not out.exists()
    assert running() == []
