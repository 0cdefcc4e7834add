from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.errors import LiveswapError, SourceError
from realtime.frame import Frame
from realtime.guard import Guard, OnMiss
from realtime.mailbox import MailboxClosed
from realtime.pipeline import Pipeline, run_pipeline
from realtime.report import Progress, RunReport
from realtime.sink import Sink
from realtime.sound import SoundBlock
from realtime.source import Source, SourceInfo
from realtime.swap import SwapResult
from realtime.swapping import MAX_FAILURES, Swapper
from realtime.video_file import VideoFile
from realtime.video_writer import VideoWriter
from tests.clips import look, write_clip
from tests.fakes import RAW, SWAPPED, FakeSink, FakeSource, FakeSwapper, Fault, frame

PATIENCE_S = 20.0
"""A run that has not ended after this long hangs: the runs here take well under a second, even on a busy machine."""


class Rooms:
    """Factories that remember what they made."""

    def __init__(
        self,
        source: Callable[[], FakeSource] = FakeSource,
        swapper: Callable[[], FakeSwapper] = FakeSwapper,
        sinks: Sequence[Callable[[], FakeSink]] = (FakeSink,),
    ) -> None:
        self._source, self._swapper, self._sinks = source, swapper, sinks
        self.sources: list[FakeSource] = []
        self.swappers: list[FakeSwapper] = []
        self.sinks: list[FakeSink] = []

    def source(self) -> Source:
        self.sources.append(self._source())
        return self.sources[-1]

    def swapper(self) -> Swapper:
        self.swappers.append(self._swapper())
        return self.swappers[-1]

    def sink_factories(self) -> list[Callable[[SourceInfo], Sink]]:
        def factory(make: Callable[[], FakeSink]) -> Callable[[SourceInfo], Sink]:
            def open_sink(_: SourceInfo) -> Sink:
                self.sinks.append(make())
                return self.sinks[-1]

            return open_sink

        return [factory(make) for make in self._sinks]

    def pipeline(
        self, *, lossless: bool = True, on_miss: OnMiss = OnMiss.HOLD, badge: bool = False, grace_s: float = PATIENCE_S
    ) -> Pipeline:
        return Pipeline(
            self.source,
            self.swapper,
            self.sink_factories(),
            guard_factory=lambda info: Guard(on_miss, live=info.live),
            lossless=lossless,
            badge=badge,
            grace_s=grace_s,
        )

    def run(
        self,
        *,
        lossless: bool = True,
        on_miss: OnMiss = OnMiss.HOLD,
        badge: bool = False,
        grace_s: float = PATIENCE_S,
        stop: threading.Event | None = None,
    ) -> RunReport:
        return ended(self.pipeline(lossless=lossless, on_miss=on_miss, badge=badge, grace_s=grace_s), stop)


def ended(pipeline: Pipeline, stop: threading.Event | None = None) -> RunReport:
    """The run's report or error; a run that hangs is a failure, not a wait for ever."""
    outcome: list[RunReport | BaseException] = []

    def wait() -> None:
        try:
            pipeline.start()
            outcome.append(pipeline.wait(stop=stop))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert outcome, "the run hangs"
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("liveswap")]


def indices(sink: FakeSink) -> list[int]:
    return [frame.index for frame in sink.frames]


def test_every_frame_of_a_file_arrives_swapped_and_in_order() -> None:
    rooms = Rooms(lambda: FakeSource(50))
    report = rooms.run()
    assert indices(rooms.sinks[0]) == list(range(50))
    assert all((frame.image == SWAPPED).all() for frame in rooms.sinks[0].frames)
    assert (report.frames_in, report.frames_out, sum(report.dropped.values())) == (50, 50, 0)
    assert report.states == {"live": 50}
    assert running() == []


def test_each_room_is_opened_used_and_closed_once_on_its_own_thread() -> None:
    rooms = Rooms()
    rooms.run()
    used = [rooms.sources[0], rooms.swappers[0], rooms.sinks[0]]
    assert [room.threads for room in used] == [{"liveswap capture"}, {"liveswap swap"}, {"liveswap sink 0"}]
    assert [room.closes for room in used] == [1, 1, 1]
    assert rooms.sinks[0].ended == "closed"


@pytest.mark.parametrize("slow", ["swapper", "sink"])
def test_slow_rooms_lose_nothing_of_a_file(slow: str) -> None:
    rooms = Rooms(
        lambda: FakeSource(30),
        lambda: FakeSwapper(delay_s=0.005 if slow == "swapper" else 0),
        [lambda: FakeSink(delay_s=0.005 if slow == "sink" else 0), FakeSink],
    )
    report = rooms.run()
    assert indices(rooms.sinks[0]) == indices(rooms.sinks[1]) == list(range(30))
    assert report.queue_max <= 4


def test_slow_swapper_drops_frames_and_keeps_order_and_the_newest() -> None:
    rooms = Rooms(lambda: FakeSource(60, delay_s=0.004, live=True), lambda: FakeSwapper(delay_s=0.016))
    report = rooms.run(lossless=False)
    came = indices(rooms.sinks[0])
    assert came == sorted(set(came))
    assert came[-1] == 59
    assert len(came) < 60
    assert sum(report.dropped.values()) == 60 - len(came)
    assert report.dropped["swap"] > 0
    assert report.queue_max == 1


def test_a_slow_sink_does_not_slow_the_others_when_live() -> None:
    rooms = Rooms(lambda: FakeSource(40, delay_s=0.005, live=True), sinks=[lambda: FakeSink(delay_s=0.05), FakeSink])
    report = rooms.run(lossless=False)
    slow, quick = (indices(sink) for sink in rooms.sinks)
    assert len(slow) < len(quick)
    assert slow == sorted(set(slow))
    assert report.dropped["fake"] > 0
    assert report.sinks == {"fake": len(slow), "fake 2": len(quick)}
    assert report.frames_out == len(quick)


def test_no_frame_is_taken_before_every_room_is_open() -> None:
    opened_s: list[float] = []

    def slow_to_open() -> FakeSwapper:
        time.sleep(0.1)
        opened_s.append(time.monotonic())
        return FakeSwapper()

    rooms = Rooms(swapper=slow_to_open)
    rooms.run()
    assert rooms.sinks[0].frames[0].captured_s >= opened_s[0]


ERRORS = [(room, at) for room in ("source", "sink") for at in ("open", "close", 0, 5)]
ERRORS += [("swapper", "open"), ("swapper", "close")]


@pytest.mark.parametrize(
    ("room", "fail_at", "lossless"),
    # Live, another sink goes on when one breaks on the way: see the test of that.
    [(*each, True) for each in ERRORS] + [(room, at, False) for room, at in ERRORS if room != "sink" or at == "open"],
)
def test_an_error_in_any_room_ends_everything_and_is_raised(room: str, fail_at: str | int, lossless: bool) -> None:
    rooms = Rooms(
        lambda: FakeSource(20, fail_at if room == "source" else None),
        lambda: FakeSwapper(fail_at if room == "swapper" else None),
        [FakeSink, lambda: FakeSink(fail_at if room == "sink" else None)],
    )
    with pytest.raises(Fault, match="failed at"):
        rooms.run(lossless=lossless)
    assert running() == []
    for opened in (*rooms.sources, *rooms.swappers):
        assert opened.closes >= (opened.fail_at != "open")
    assert all(sink.ended for sink in rooms.sinks)


@settings(deadline=None, max_examples=40)
@given(
    faults=st.tuples(*[st.one_of(st.none(), st.sampled_from(["open", "close"]), st.integers(0, 12))] * 4),
    lossless=st.booleans(),
    delays_ms=st.tuples(*[st.sampled_from([0, 0, 2])] * 4),
    stop_after_ms=st.one_of(st.none(), st.integers(0, 20)),
)
def test_no_combination_of_faults_hangs_or_leaves_a_room_open(
    faults: tuple[str | int | None, ...],
    lossless: bool,
    delays_ms: tuple[int, ...],
    stop_after_ms: int | None,
) -> None:
    delays = [delay / 1000 for delay in delays_ms]
    rooms = Rooms(
        lambda: FakeSource(12, faults[0], delays[0], live=not lossless),
        lambda: FakeSwapper(faults[1], delays[1]),
        [lambda: FakeSink(faults[2], delays[2]), lambda: FakeSink(faults[3], delays[3])],
    )
    pipeline = rooms.pipeline(lossless=lossless)
    if stop_after_ms is not None:
        threading.Timer(stop_after_ms / 1000, pipeline.stop).start()
    with suppress(Fault):
        report = ended(pipeline)
        assert report.frames_in <= 12
        if lossless:
            assert not any(report.dropped.values())
    for sink in rooms.sinks:
        assert indices(sink) == sorted(set(indices(sink)))
    assert running() == []
    for opened in (*rooms.sources, *rooms.swappers):
        assert opened.closes == 1
    assert all(sink.ended for sink in rooms.sinks)
    for sink in rooms.sinks:
        assert not any((frame.image == RAW).all() for frame in sink.frames)


def test_a_source_that_breaks_has_its_frames_delivered_and_the_sinks_abort() -> None:
    class Breaks(FakeSource):
        def step(self, at: str | int) -> None:
            if at == 7:
                raise SourceError("the fake broke; mend it")
            super().step(at)

    rooms = Rooms(Breaks)
    with pytest.raises(SourceError, match="the fake broke"):
        rooms.run()
    assert indices(rooms.sinks[0]) == list(range(7))
    assert rooms.sinks[0].ended == "aborted"


def test_a_swap_that_fails_costs_its_frame_and_shows_no_raw_face(caplog: pytest.LogCaptureFixture) -> None:
    rooms = Rooms(lambda: FakeSource(20), lambda: FakeSwapper(failing=frozenset({3, 4, 12})))
    report = rooms.run()
    assert report.failed_frames == 3
    assert report.states == {"live": 17, "hold": 3}
    assert indices(rooms.sinks[0]) == list(range(20))
    assert all((frame.image == SWAPPED).all() for frame in rooms.sinks[0].frames)
    assert caplog.text.count("a swap failed") == 1, "never one line per frame"


def test_a_swap_that_keeps_failing_ends_the_run() -> None:
    rooms = Rooms(lambda: FakeSource(100), lambda: FakeSwapper(failing=frozenset(range(5, 100))))
    with pytest.raises(LiveswapError, match=f"failed on {MAX_FAILURES} frames in a row"):
        rooms.run()
    assert rooms.sinks[0].ended == "aborted"


def test_a_raw_picture_that_is_called_swapped_is_not_believed() -> None:
    class Lies(FakeSwapper):
        def swap(self, frame: Frame) -> SwapResult:
            return super().swap(frame) if frame.index % 2 else SwapResult(frame, (), True)

    rooms = Rooms(swapper=Lies)
    assert rooms.run().failed_frames == 5
    assert not any((frame.image == RAW).all() for frame in rooms.sinks[0].frames)


def test_a_file_in_which_no_face_is_found_is_an_error_and_no_result() -> None:
    rooms = Rooms(lambda: FakeSource(40), lambda: FakeSwapper(misses=frozenset(range(40))))
    with pytest.raises(SourceError, match="no face was found in any of 40 frames; choose"):
        rooms.run()
    assert rooms.sinks[0].ended == "aborted"


def test_a_file_on_which_every_swap_fails_is_an_error() -> None:
    rooms = Rooms(lambda: FakeSource(5), lambda: FakeSwapper(failing=frozenset(range(5))))
    with pytest.raises(LiveswapError, match=r"failed on every frame, 5 in all \(frame 4 cannot be swapped\)"):
        rooms.run()


def test_a_file_that_may_pass_raw_needs_no_face() -> None:
    rooms = Rooms(swapper=lambda: FakeSwapper(misses=frozenset(range(10))))
    assert rooms.run(on_miss=OnMiss.PASS).raw_face_frames == 10


@pytest.mark.parametrize("on_miss", list(OnMiss))
def test_a_file_stays_as_long_whatever_happens_to_its_faces(on_miss: OnMiss) -> None:
    rooms = Rooms(lambda: FakeSource(40), lambda: FakeSwapper(misses=frozenset({0, 1, *range(20, 35)})))
    report = rooms.run(on_miss=on_miss)
    assert indices(rooms.sinks[0]) == list(range(40))
    assert report.raw_face_frames == (17 if on_miss is OnMiss.PASS else 0)
    raw = [frame.index for frame in rooms.sinks[0].frames if (frame.image == RAW).all()]
    # A picture of one colour looks the same however much it is blurred.
    assert raw == ([0, 1, *range(20, 35)] if on_miss in (OnMiss.PASS, OnMiss.BLUR) else [])


def test_live_nothing_is_sent_before_the_first_swap() -> None:
    rooms = Rooms(lambda: FakeSource(20, live=True, delay_s=0.003), lambda: FakeSwapper(misses=frozenset(range(10))))
    report = rooms.run(lossless=False)
    assert min(indices(rooms.sinks[0])) >= 10
    assert report.states["armed"] >= 1


def test_the_user_can_stop_and_the_sinks_finish() -> None:
    stop = threading.Event()
    rooms = Rooms(lambda: FakeSource(100_000, delay_s=0.001), sinks=[lambda: StopsAt(5, stop)])
    report = rooms.run(stop=stop)
    assert report.stopped
    assert rooms.sinks[0].ended == "closed"
    assert report.frames_in == report.frames_out == len(rooms.sinks[0].frames)
    assert 5 < report.frames_in < 100_000


def test_leaving_the_block_stops_the_run() -> None:
    arrived = threading.Event()
    rooms = Rooms(lambda: FakeSource(100_000, delay_s=0.001), sinks=[lambda: StopsAt(5, arrived)])
    with rooms.pipeline():
        assert arrived.wait(PATIENCE_S)
    assert running() == []
    assert rooms.sinks[0].ended == "closed"


class StopsAt(FakeSink):
    """Asks for the end when a frame arrives."""

    def __init__(self, index: int, stop: threading.Event) -> None:
        self.index, self.stop = index, stop
        super().__init__()

    def send(self, frame: Frame) -> None:
        super().send(frame)
        if frame.index == self.index:
            self.stop.set()


def press_ctrl_c(times: int) -> Callable[[Progress], None]:
    left = [times]

    def on_progress(progress: Progress) -> None:
        if progress.done and left[0]:
            left[0] -= 1
            signal.raise_signal(signal.SIGINT)

    return on_progress


def test_ctrl_c_finishes_the_file() -> None:
    rooms = Rooms(lambda: FakeSource(100_000, delay_s=0.001))
    pipeline = rooms.pipeline()
    pipeline.start()
    report = pipeline.wait(press_ctrl_c(1))
    assert report.stopped
    assert rooms.sinks[0].ended == "closed"


def test_a_second_ctrl_c_gives_up() -> None:
    rooms = Rooms(lambda: FakeSource(100_000, delay_s=0.001), sinks=[lambda: FakeSink(delay_s=0.1)])
    pipeline = rooms.pipeline()
    pipeline.start()
    with pytest.raises(KeyboardInterrupt):
        pipeline.wait(press_ctrl_c(2))
    deadline_s = time.monotonic() + PATIENCE_S
    while running() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert rooms.sinks[0].ended == "aborted"


class Stuck:
    """Blocks at the sixth frame until released, and asks for the end meanwhile."""

    def __init__(self) -> None:
        self.stop, self.release = threading.Event(), threading.Event()

    def at(self, index: int) -> None:
        if index == 5:
            self.stop.set()
            self.release.wait(PATIENCE_S)


def test_a_source_that_blocks_is_left_behind_after_a_stop(caplog: pytest.LogCaptureFixture) -> None:
    stuck = Stuck()

    class Blocks(FakeSource):
        def step(self, at: str | int) -> None:
            if isinstance(at, int):
                stuck.at(at)
            super().step(at)

    rooms = Rooms(Blocks)
    report = rooms.run(stop=stuck.stop, grace_s=0.3)
    assert report.frames_out == 5
    assert rooms.sinks[0].ended == "closed"
    assert "left behind" in caplog.text
    stuck.release.set()


@pytest.mark.parametrize("room", ["swap", "sink"])
def test_a_room_that_blocks_cannot_keep_the_run_from_ending(room: str) -> None:
    stuck = Stuck()

    class SwapBlocks(FakeSwapper):
        def swap(self, frame: Frame) -> SwapResult:
            if room == "swap":
                stuck.at(frame.index)
            return super().swap(frame)

    class SinkBlocks(FakeSink):
        def send(self, frame: Frame) -> None:
            if room == "sink":
                stuck.at(frame.index)
            super().send(frame)

    rooms = Rooms(swapper=SwapBlocks, sinks=[SinkBlocks])
    with pytest.raises(LiveswapError, match=r"did not (stop|finish) within"):
        rooms.run(stop=stuck.stop, grace_s=0.3)
    if room == "swap":
        assert rooms.sinks[0].ended == "closed", "what had been swapped is safe"
    stuck.release.set()


def test_progress_counts_up_on_the_callers_thread() -> None:
    seen: list[tuple[Progress, str]] = []
    rooms = Rooms(lambda: FakeSource(100, delay_s=0.004))
    run_pipeline(
        rooms.source,
        rooms.swapper,
        rooms.sink_factories(),
        guard_factory=lambda info: Guard(live=info.live),
        lossless=True,
        on_progress=lambda progress: seen.append((progress, threading.current_thread().name)),
    )
    assert {name for _, name in seen} == {threading.current_thread().name}
    done = [progress.done for progress, _ in seen]
    assert done == sorted(done)
    last = seen[-1][0]
    assert (last.done, last.total, last.state) == (100, 100, "live")
    assert len(seen) >= 3
    assert seen[-2][0].fps > 0


def test_an_error_in_the_progress_ends_the_run_and_is_raised() -> None:
    rooms = Rooms(lambda: FakeSource(100_000, delay_s=0.001))
    pipeline = rooms.pipeline()
    pipeline.start()

    def fail(progress: Progress) -> None:
        raise Fault("no terminal")

    with pytest.raises(Fault, match="no terminal"):
        pipeline.wait(fail)
    assert running() == []
    assert rooms.sinks[0].ended == "aborted"


def test_the_badge_is_on_every_picture_and_leaving_it_out_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with_badge, without = Rooms(), Rooms()
    assert with_badge.run(badge=True).badge
    assert "badge" not in caplog.text
    assert not without.run(badge=False).badge
    assert caplog.text.count("badge is switched off") == 1
    assert not any((frame.image == SWAPPED).all() for frame in with_badge.sinks[0].frames)
    assert all((frame.image == SWAPPED).all() for frame in without.sinks[0].frames)


def test_the_report_says_what_happened() -> None:
    report = Rooms(lambda: FakeSource(30, delay_s=0.001), lambda: FakeSwapper(delay_s=0.004)).run(badge=True)
    assert report.provider == "FakeProvider"
    assert report.source == {"name": "fake", "width": 64, "height": 48, "fps": 30.0, "live": False}
    assert {"capture", "wait", "detect", "infer", "swap", "guard", "badge", "send fake"} <= set(report.stages)
    assert report.stages["swap"]["p50"] >= 4
    assert report.latency_ms["p99"] >= report.latency_ms["p50"] >= 4
    assert 0 < report.fps < 250
    assert report.machine["cores"] >= 1


def test_a_pipeline_without_a_sink_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sink"):
        Pipeline(FakeSource, FakeSwapper, [], guard_factory=lambda info: Guard(), lossless=True)


def run_video(source: Path, sink: Path, swapper: Callable[[], Swapper] = FakeSwapper) -> RunReport:
    return run_pipeline(
        lambda: VideoFile(source),
        swapper,
        [lambda info: VideoWriter(sink, info)],
        guard_factory=lambda info: Guard(live=info.live),
        lossless=True,
    )


def test_a_video_goes_through_with_equal_length_rate_and_sound(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", count=60, audio="aac")
    report = run_video(source, tmp_path / "out.mp4")
    before, after = look(source), look(tmp_path / "out.mp4")
    assert report.frames_in == report.frames_out == 60
    assert after.times_s == pytest.approx(before.times_s)
    assert (after.fps, after.seconds, after.sound) == (before.fps, before.seconds, before.sound)


@pytest.mark.parametrize(("name", "options"), [("in.mp4", {"movflags": "faststart"}), ("in.mkv", {})])
def test_a_damaged_video_leaves_a_partial_one_and_no_half_file(
    tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    source = write_clip(tmp_path / name, count=90, options=options)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(SourceError, match="is damaged after") as error:
        run_video(source, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    kept = len(look(tmp_path / "out.partial.mp4").times_s)
    assert f"after {kept} frames" in str(error.value)


def test_a_source_that_cannot_be_opened_creates_no_file(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_text("not a video")
    with pytest.raises(SourceError, match="no video"):
        run_video(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("trouble", ["misses", "failing", "damaged"])
def test_where_nothing_was_swapped_no_video_of_cards_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    source = write_clip(tmp_path / "in.mp4", count=60, audio="aac", options={"movflags": "faststart"})
    if trouble == "damaged":
        source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    every = frozenset(range(60))
    with pytest.raises(LiveswapError):
        run_video(
            source,
            tmp_path / "out.mp4",
            lambda: FakeSwapper(failing=every) if trouble == "failing" else FakeSwapper(misses=every),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    assert "kept" not in caplog.text


def test_a_single_swap_is_worth_keeping(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", count=90, options={"movflags": "faststart"})
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(SourceError, match="is damaged after"):
        run_video(source, tmp_path / "out.mp4", lambda: FakeSwapper(misses=frozenset(range(1, 90))))
    assert (tmp_path / "out.partial.mp4").exists()


def test_live_a_sink_that_breaks_is_named_in_the_report_while_the_other_gets_every_picture() -> None:
    rooms = Rooms(
        lambda: FakeSource(30, delay_s=0.005, live=True), FakeSwapper, [FakeSink, lambda: FakeSink(fail_at=5)]
    )
    report = rooms.run(lossless=False)
    good, broken = sorted(rooms.sinks, key=lambda sink: sink.fail_at is not None)
    assert good.ended == "closed"
    assert broken.ended == "aborted"
    assert good.frames[-1].index > broken.frames[-1].index
    assert report.failed_sinks == {"fake 2": "FakeSink failed at 5"}


def test_live_the_last_sink_that_breaks_ends_the_run() -> None:
    rooms = Rooms(
        lambda: FakeSource(200, delay_s=0.005, live=True),
        FakeSwapper,
        [lambda: FakeSink(fail_at=3), lambda: FakeSink(fail_at=9)],
    )
    with pytest.raises(Fault, match="FakeSink failed at 9"):
        rooms.run(lossless=False)
    assert [sink.ended for sink in rooms.sinks] == ["aborted", "aborted"]


class Watched(FakeSink):
    """Wants its last picture again every 10 ms, and listens."""

    repeat_s = 0.01
    av_offset_ms = 3.0

    def __init__(self) -> None:
        super().__init__()
        self.repeats = 0
        self.heard: list[SoundBlock] = []

    def repeat(self) -> None:
        self.repeats += 1

    def hear(self, block: SoundBlock) -> None:
        self.heard.append(block)


class Stalling(FakeSource):
    """Delivers five frames, blocks for a while, delivers five more."""

    stall_s = 0.9

    def __iter__(self) -> Iterator[Frame]:
        for index in range(10):
            time.sleep(self.stall_s if index == 5 else 0.01)
            yield frame(index)


def states_seen(sink: FakeSink) -> list[bool]:
    """Whether each picture that a sink got is a swap."""
    return [bool((each.image == SWAPPED).all()) for each in sink.frames]


def test_live_a_source_that_stalls_leaves_the_card_on_the_screen_and_comes_back() -> None:
    rooms = Rooms(lambda: Stalling(10, live=True), FakeSwapper, [Watched])
    report = rooms.run(lossless=False)
    (sink,) = rooms.sinks
    assert isinstance(sink, Watched)
    seen = states_seen(sink)
    card = seen.index(False)
    assert all(seen[:card])
    assert sum(not each for each in seen) == 1
    assert seen[-1]
    assert report.states["slate"] == 1
    assert sink.repeats > 20


def test_live_a_swap_that_is_stuck_does_not_keep_the_last_face_on_the_screen() -> None:
    class Stuck(FakeSwapper):
        def swap(self, frame: Frame) -> SwapResult:
            if frame.index == 8:
                time.sleep(0.9)
            return super().swap(frame)

    rooms = Rooms(lambda: FakeSource(40, delay_s=0.03, live=True), Stuck, [FakeSink])
    report = rooms.run(lossless=False)
    seen = states_seen(rooms.sinks[0])
    assert report.states["slate"] == 1
    assert not all(seen)
    assert seen[-1]
    indices = [each.index for each in rooms.sinks[0].frames]
    assert indices == sorted(indices)


def test_live_frames_beyond_the_latency_cap_are_dropped_not_shown_late() -> None:
    rooms = Rooms(lambda: FakeSource(12, delay_s=0.01, live=True), lambda: FakeSwapper(delay_s=0.06), [FakeSink])
    pipeline = Pipeline(
        rooms.source,
        rooms.swapper,
        rooms.sink_factories(),
        guard_factory=lambda info: Guard(live=info.live),
        lossless=False,
        latency_cap_ms=40,
    )
    pipeline.start()
    report = pipeline.wait()
    assert report.dropped["late"] > 0
    assert rooms.sinks[0].frames == []


def test_panic_puts_up_the_card_until_it_ends() -> None:
    rooms = Rooms(lambda: FakeSource(60, delay_s=0.01, live=True), FakeSwapper, [FakeSink])
    pipeline = rooms.pipeline(lossless=False)
    pipeline.start()
    time.sleep(0.15)
    pipeline.panic(True)
    time.sleep(0.15)
    pipeline.panic(False)
    report = pipeline.wait()
    seen = states_seen(rooms.sinks[0])
    first, last = seen.index(False), len(seen) - 1 - seen[::-1].index(False)
    assert not any(seen[first : last + 1])
    assert seen[0]
    assert seen[-1]
    assert report.states["panic"] >= last - first + 1, "newest wins: a sink may miss some"


def test_sinks_come_and_go_while_it_runs_and_hear_what_is_said() -> None:
    rooms = Rooms(lambda: FakeSource(100, delay_s=0.005, live=True), FakeSwapper, [FakeSink])
    pipeline = rooms.pipeline(lossless=False)
    pipeline.start()
    time.sleep(0.1)
    guest = Watched()
    outlet = pipeline.add_sink(lambda _: guest)
    time.sleep(0.1)
    block = SoundBlock(np.zeros((480, 1), np.float32), 48_000, 0.0)
    pipeline.hear(block)
    pipeline.remove_sink(outlet)
    report = pipeline.wait()
    assert guest.ended == "closed"
    assert guest.heard == [block]
    assert 0 < len(guest.frames) < len(rooms.sinks[0].frames)
    assert guest.frames[-1].index < rooms.sinks[0].frames[-1].index
    assert report.av_offset_ms == {"fake 2": 3.0}
    with pytest.raises(MailboxClosed):
        pipeline.add_sink(lambda _: Watched())


def test_live_a_sink_that_cannot_close_is_named_in_the_report() -> None:
    rooms = Rooms(lambda: FakeSource(20, delay_s=0.005, live=True), FakeSwapper, [lambda: FakeSink(fail_at="close")])
    report = rooms.run(lossless=False)
    assert report.failed_sinks == {"fake": "FakeSink failed at close"}


def test_a_thousand_stills_leave_nothing_behind() -> None:
    rooms = Rooms(lambda: FakeSource(2000, delay_s=0.002, live=True), FakeSwapper, [FakeSink])
    pipeline = rooms.pipeline(lossless=False)
    pipeline.start()
    time.sleep(0.1)
    for _ in range(30):
        outlet = pipeline.add_sink(lambda _: FakeSink())
        pipeline.remove_sink(outlet)
        assert outlet.thread is not None
        outlet.thread.join(PATIENCE_S)
    last = pipeline.add_sink(lambda _: FakeSink())
    pipeline.stop()
    report = pipeline.wait()
    assert len(report.sinks) == 2
    assert last.error is None


def test_a_guest_that_breaks_leaves_even_a_file_run_alone() -> None:
    rooms = Rooms(lambda: FakeSource(60, delay_s=0.005), FakeSwapper, [FakeSink])
    pipeline = rooms.pipeline(lossless=True)
    pipeline.start()
    time.sleep(0.05)
    pipeline.add_sink(lambda _: FakeSink(fail_at=30), "guest")
    report = pipeline.wait()
    assert report.sinks["fake"] == 60
    (why,) = report.failed_sinks.values()
    assert "FakeSink failed" in why
