"""Runs the live loop. Factories of rooms in, a RunReport out: frames flow from a source through the swap to the sinks.

    source -> [mailbox] -> publisher (swap, guard, badge) -> [mailbox] -> sink
                                                          -> [mailbox] -> sink ...

This is the only room that starts threads: one for the source, one for the swap, one for each sink. A room is opened,
used and closed on its thread. The caller's thread waits, reports progress and owns Ctrl-C.

Note [How a run ends]
    The source ends    what is under way is finished, the sinks close; a file without any swap is an error.
                       Whenever sinks abort and nothing was swapped, videos are removed: cards are nothing to keep.
    The user stops     the same, at once; a source that blocks is left behind.
    The source breaks  what it delivered is finished, the sinks abort, the error is raised.
    Another room fails everything that waits is thrown away, the sinks abort, the first error is raised.
    A room is stuck    after a stop or an error it gets `grace_s`, then the run ends without it, and says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Self

from realtime import machine
from realtime.badge import Badge
from realtime.errors import LiveswapError
from realtime.frame import Frame
from realtime.guard import Guard
from realtime.mailbox import Mailbox, MailboxClosed
from realtime.publisher import Publisher, Swapper
from realtime.report import Durations, Progress, RunReport, StageTimes
from realtime.sink import Discarding, Sink
from realtime.source import Source, SourceInfo

_log = logging.getLogger(__name__)

_LOSSLESS_ROOM = 4
"""Frames that wait between two rooms when nothing may be lost."""
_POLL_S = 0.1
_SOURCE_GRACE_S = 2.0


class _Outlet:
    """One sink and the way to it."""

    def __init__(self, factory: Callable[[SourceInfo], Sink], capacity: int) -> None:
        self.factory = factory
        self.mailbox: Mailbox[Frame] = Mailbox(capacity)
        self.name = "sink"
        self.frames = 0
        self.latency = Durations()
        self.send = Durations()


class Pipeline:
    """One run: start(), then wait(). Leaving a `with` block early stops the run."""

    def __init__(
        self,
        source_factory: Callable[[], Source],
        swapper_factory: Callable[[], Swapper],
        sink_factories: Sequence[Callable[[SourceInfo], Sink]],
        *,
        guard_factory: Callable[[SourceInfo], Guard],
        lossless: bool,
        badge: bool = True,
        grace_s: float = 15.0,
    ) -> None:
        """`lossless`: every frame is swapped and sent, in order (files); otherwise the newest wins (live)."""
        if not sink_factories:
            raise ValueError("a pipeline needs at least one sink")
        self._source_factory, self._swapper_factory = source_factory, swapper_factory
        self._guard_factory, self._lossless, self._badge, self._grace_s = guard_factory, lossless, badge, grace_s
        room = _LOSSLESS_ROOM if lossless else 1
        self._to_swap: Mailbox[Frame] = Mailbox(room)
        self._outlets = [_Outlet(factory, room) for factory in sink_factories]
        self._lock = threading.Lock()
        self._opening = self._running = len(self._outlets) + 2
        self._info: SourceInfo | None = None
        self._info_known, self._all_open, self._over = threading.Event(), threading.Event(), threading.Event()
        self._ending_s: float | None = None
        self._stopped = self._gave_up = False
        self._error: BaseException | None = None
        self._frames_in = 0
        self._publisher: Publisher | None = None
        self._first_s = self._last_s = 0.0
        self._provider = "unknown"
        self._capture_times = StageTimes()
        rooms: list[tuple[str, Callable[[], None]]] = [("capture", self._capture), ("swap", self._swap)]
        rooms += [(f"sink {number}", partial(self._sink, outlet)) for number, outlet in enumerate(self._outlets)]
        # Daemons, because a driver can block in a read for ever; such a thread must not keep the program alive.
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=f"liveswap {name}", daemon=True)
            for name, work in rooms
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop()
        if kind is None:
            self.wait()
        else:
            with suppress(Exception):
                self.wait()

    def start(self) -> None:
        """Start the threads; the rooms open on them. Returns at once."""
        if not self._badge:
            _log.warning("the AI badge is switched off: nothing in the picture says that it is made with AI")
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask for the end: what is under way is finished. Returns at once, safe to call from any thread."""
        self._stopped = True
        self._begin_end()
        self._to_swap.close()

    def wait(
        self, on_progress: Callable[[Progress], None] | None = None, stop: threading.Event | None = None
    ) -> RunReport:
        """Wait for the end; report progress about ten times a second from this thread. Raises the first error.

        `stop` or Ctrl-C end the run early and in order; a second Ctrl-C gives up what is not written yet.
        """
        speed = _Speed()
        while True:
            try:
                if self._ended():
                    break
                self._over.wait(_POLL_S)
                if stop is not None and stop.is_set():
                    self.stop()
                if on_progress is not None:
                    on_progress(self._progress(speed))
            except KeyboardInterrupt as interrupt:
                if self._ending_s is None:
                    self.stop()
                else:
                    self._fail(interrupt)
            except Exception as error:
                on_progress = None
                self._fail(error)
        if self._error is not None:
            raise self._error
        if on_progress is not None:
            on_progress(self._progress(speed))
        return self._report()

    # --- rooms, each on its own thread ---

    def _capture(self) -> None:
        delivering = False
        try:
            with closing(self._source_factory()) as source:
                self._info = source.info
                self._info_known.set()
                self._opened()
                delivering = True
                self._deliver(source)
        except MailboxClosed:
            pass
        except LiveswapError as error:
            self._fail(error, finish=delivering)
        finally:
            self._to_swap.close()

    def _deliver(self, source: Source) -> None:
        put = self._to_swap.put_wait if self._lossless else self._to_swap.put
        frames = iter(source)
        while self._ending_s is None:
            began_s = time.monotonic()
            frame = next(frames, None)
            if frame is None:
                return
            if not source.info.live:
                self._capture_times.add("capture", (time.monotonic() - began_s) * 1e3)
            put(frame)
            self._first_s = self._first_s or frame.captured_s
            self._frames_in += 1

    def _swap(self) -> None:
        try:
            with closing(self._swapper_factory()) as swapper:
                info = self._known_info()
                self._provider = str(getattr(swapper, "provider", "unknown"))
                badge = Badge() if self._badge else None
                publisher = Publisher(swapper, self._guard_factory(info), badge, live=info.live)
                self._publisher = publisher
                self._opened()
                with suppress(MailboxClosed):
                    while True:
                        frame = publisher.publish(self._to_swap.get())
                        if frame is not None:
                            self._hand_out(frame)
                if self._lossless and self._ending_s is None:
                    publisher.check_result()
        except LiveswapError as error:
            self._fail(error, finish=True)
        finally:
            for outlet in self._outlets:
                outlet.mailbox.close()

    def _hand_out(self, frame: Frame) -> None:
        for outlet in self._outlets:
            if self._lossless:
                outlet.mailbox.put_wait(frame)
            else:
                outlet.mailbox.put(frame)

    def _sink(self, outlet: _Outlet) -> None:
        sink = outlet.factory(self._known_info())
        outlet.name = sink.name
        try:
            self._opened()
            while True:
                frame = outlet.mailbox.get()
                began_s = time.monotonic()
                sink.send(frame)
                self._last_s = now_s = time.monotonic()
                outlet.send.add((now_s - began_s) * 1e3)
                outlet.latency.add((now_s - frame.captured_s) * 1e3)
                outlet.frames += 1
        except MailboxClosed:
            if self._error is None:
                sink.close()
        finally:
            # Neither does anything after close().
            if isinstance(sink, Discarding) and outlet.frames and self._fruitless():
                sink.discard()
            else:
                sink.abort()

    # --- what holds them together ---

    def _fruitless(self) -> bool:
        """Whether not one frame was swapped: what the sinks hold are cards, and nothing to keep."""
        return self._publisher is None or self._publisher.fruitless

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except MailboxClosed:
            pass
        except BaseException as error:
            self._fail(error)
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._over.set()

    def _fail(self, error: BaseException, *, finish: bool = False) -> None:
        """Remember the first error; unless what is under way shall be finished, throw away what waits."""
        with self._lock:
            if self._error is None:
                self._error = error
            elif error is not self._error:
                _log.debug("after the first error another one followed: %s", error)
        self._begin_end()
        self._to_swap.close(discard=not finish)
        if not finish:
            for outlet in self._outlets:
                outlet.mailbox.close(discard=True)

    def _begin_end(self) -> None:
        """From now on rooms have `grace_s` to end; those that wait for others to open wait no longer."""
        with self._lock:
            self._ending_s = self._ending_s or time.monotonic()
        self._info_known.set()
        self._all_open.set()

    def _known_info(self) -> SourceInfo:
        """What the source says about itself, as soon as it is open."""
        self._info_known.wait()
        if self._info is None:
            raise MailboxClosed
        return self._info

    def _opened(self) -> None:
        """Tell that this room is open, and wait for the others: no frame is taken before somebody can use it."""
        with self._lock:
            self._opening -= 1
            if not self._opening:
                self._all_open.set()
        self._all_open.wait()
        if self._opening:
            raise MailboxClosed

    def _ended(self) -> bool:
        """Whether wait() may return: all threads have ended, or those that have not are given up."""
        if self._over.is_set() or self._gave_up:
            return True
        if self._ending_s is None:
            return False
        waited_s = time.monotonic() - self._ending_s
        _, swap, *sinks = (thread.is_alive() for thread in self._threads)
        if not swap and not any(sinks) and waited_s > min(_SOURCE_GRACE_S, self._grace_s):
            _log.warning("the source did not stop in time and is left behind")
            self._gave_up = True
        elif waited_s > self._grace_s and swap:
            for outlet in self._outlets:
                outlet.mailbox.close()  # let the sinks finish what they have
            if not any(sinks) or waited_s > 2 * self._grace_s:
                self._gave_up = True
                self._fail(
                    LiveswapError(f"the swap did not stop within {waited_s:.0f} s; check the engine and its device")
                )
        elif waited_s > 4 * self._grace_s:
            stuck = ", ".join(outlet.name for outlet, alive in zip(self._outlets, sinks, strict=True) if alive)
            self._gave_up = True
            self._fail(LiveswapError(f"{stuck} did not finish within {waited_s:.0f} s; check the disk or the device"))
        return self._gave_up

    def _progress(self, speed: _Speed) -> Progress:
        total = self._info.frames if self._info is not None else None
        done, state = (self._publisher.frames, self._publisher.state) if self._publisher else (0, "opening")
        return Progress(done, total, speed.update(done), state)

    def _report(self) -> RunReport:
        outlets, info = self._outlets, self._info
        latency = Durations()
        published = self._publisher
        stages = self._capture_times.summary() | (published.times.summary() if published else {})
        sinks: dict[str, int] = {}
        dropped = {"swap": self._to_swap.dropped}
        for number, outlet in enumerate(outlets, 1):
            name = outlet.name if outlet.name not in sinks else f"{outlet.name} {number}"
            latency.add_all(outlet.latency)
            stages[f"send {name}"] = outlet.send.summary()
            sinks[name], dropped[name] = outlet.frames, outlet.mailbox.dropped
        frames_out, seconds = max(sinks.values()), max(self._last_s - self._first_s, 0.0)
        source = {"name": info.name, "width": info.width, "height": info.height} if info else {}
        return RunReport(
            frames_in=self._frames_in,
            frames_out=frames_out,
            dropped=dropped,
            queue_max=max(box.most for box in (self._to_swap, *(outlet.mailbox for outlet in outlets))),
            seconds=round(seconds, 3),
            fps=round(frames_out / seconds, 2) if seconds else 0.0,
            latency_ms=latency.summary(),
            stages=stages,
            states=dict(published.states) if published else {},
            raw_face_frames=published.raw if published else 0,
            failed_frames=published.failed if published else 0,
            badge=self._badge,
            stopped=self._stopped,
            source=source | ({"fps": round(float(info.fps), 3), "live": info.live} if info else {}),
            sinks=sinks,
            provider=self._provider,
            machine=machine.describe(),
        )


def run_pipeline(
    source_factory: Callable[[], Source],
    swapper_factory: Callable[[], Swapper],
    sink_factories: Sequence[Callable[[SourceInfo], Sink]],
    *,
    guard_factory: Callable[[SourceInfo], Guard],
    lossless: bool,
    badge: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> RunReport:
    """Run from the first frame to the last and report; see Pipeline. Raises the first error of any room."""
    pipeline = Pipeline(
        source_factory, swapper_factory, sink_factories, guard_factory=guard_factory, lossless=lossless, badge=badge
    )
    pipeline.start()
    return pipeline.wait(on_progress, stop)


class _Speed:
    """Frames per second over the last two seconds."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, int]] = deque()

    def update(self, count: int) -> float:
        now_s = time.monotonic()
        self._past.append((now_s, count))
        while len(self._past) > 2 and now_s - self._past[1][0] >= 2:
            self._past.popleft()
        then_s, then = self._past[0]
        return (count - then) / (now_s - then_s) if now_s > then_s else 0.0
