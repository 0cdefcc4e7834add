"""Runs the live loop. Factories of rooms in, a RunReport out: frames flow from a source through the swap to the sinks.

    source -> [mailbox] -> swapping -> [mailbox] -> publisher (guard, badge) -> [mailbox] -> sink
                                                                             -> [mailbox] -> sink ...

This is the only room that starts threads: one for the source, the swap, the guard, and each sink. A room is opened,
used and closed on its thread. The caller's thread waits, reports progress and owns Ctrl-C and windows.

Note [How a run ends]
    The source ends    what is under way is finished, the sinks close; a file without any swap is an error.
                       Whenever sinks abort and nothing was swapped, videos are removed: cards are nothing to keep.
    The user stops     the same, at once; a source that blocks is left behind.
    The source breaks  what it delivered is finished, the sinks abort, the error is raised.
    A sink fails       live, the others go on and the report names it; the last one, or any for a file, ends the run:
    Another room fails everything that waits is thrown away, the sinks abort, the first error is raised.
    A room is stuck    after a stop or an error it gets `grace_s`, then the run ends without it, and says so.

Note [Silence]
    The guard has a thread of its own, so that it can put up the card while a swap or a source is stuck.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, Self

from realtime.accounts import Accounts, add_up
from realtime.badge import Badge
from realtime.errors import LiveswapError
from realtime.frame import Frame
from realtime.guard import Guard
from realtime.mailbox import Mailbox, MailboxClosed
from realtime.outlet import Outlet, SinkFactory
from realtime.publisher import Publisher
from realtime.report import Progress, RunReport, StageTimes
from realtime.sink import TakesSound
from realtime.sound import SoundBlock
from realtime.source import Source, SourceInfo
from realtime.swapping import Attempt, Beginning, Swapper, Swapping

_log = logging.getLogger(__name__)

_LOSSLESS_ROOM = 4
"""Frames that wait between two rooms when nothing may be lost."""
_POLL_S = 0.1
_TICK_S = 0.02
"""How often the guard looks whether a silence got too long."""
_SOURCE_GRACE_S = 2.0


class Pipeline:
    """One run: start(), then wait(). Leaving a `with` block early stops the run."""

    def __init__(
        self,
        source_factory: Callable[[], Source],
        swapper_factory: Callable[[], Swapper],
        sink_factories: Sequence[SinkFactory],
        *,
        guard_factory: Callable[[SourceInfo], Guard],
        lossless: bool,
        badge: bool = True,
        language: str = "en",
        grace_s: float = 15.0,
        latency_cap_ms: float | None = None,
    ) -> None:
        """`lossless`: every frame is swapped and sent, in order (files); otherwise the newest wins (live).

        `language`: of the AI mark, see realtime.mark_text.
        `latency_cap_ms`: live, a frame that is older than this is dropped, before the swap or after it.
        """
        if not sink_factories:
            raise ValueError("a pipeline needs at least one sink")
        self._source_factory, self._swapper_factory = source_factory, swapper_factory
        self._guard_factory, self._lossless, self._badge, self._grace_s = guard_factory, lossless, badge, grace_s
        self._language = language
        self._cap_s = None if latency_cap_ms is None or lossless else latency_cap_ms / 1000
        self._room = _LOSSLESS_ROOM if lossless else 1
        self._to_swap: Mailbox[Frame] = Mailbox(self._room)
        self._to_guard: Mailbox[Attempt] = Mailbox(self._room)
        self._outlets = [Outlet(factory, self._room, lossless=lossless) for factory in sink_factories]
        self._guests: list[Outlet] = []
        """Sinks that were added while it ran."""
        self._lock = threading.Lock()
        self._opening = self._running = len(self._outlets) + 3
        self._info: SourceInfo | None = None
        self._info_known, self._all_open, self._over = threading.Event(), threading.Event(), threading.Event()
        self._ending_s: float | None = None
        self._stopped = self._gave_up = self._all_published = False
        self._error: BaseException | None = None
        self._frames_in = 0
        self._guard: Guard | None = None
        self._panic = False
        self._swapping: Swapping | None = None
        self._publisher: Publisher | None = None
        self._first_s = self._origin_s = 0.0
        self._provider = "unknown"
        self._capture_times = StageTimes()
        rooms: list[tuple[str, Callable[[], None]]] = [
            ("capture", self._capture),
            ("swap", self._swap),
            ("guard", self._publish),
        ]
        # Daemons, because a driver can block in a read for ever; such a thread must not keep the program alive.
        self._threads = [self._thread(name, partial(self._guarded, work)) for name, work in rooms]
        for number, outlet in enumerate(self._outlets):
            outlet.thread = self._thread(f"sink {number}", partial(self._guarded, partial(self._sink, outlet)))

    @staticmethod
    def _thread(name: str, work: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=work, name=f"liveswap {name}", daemon=True)

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
        for thread in (*self._threads, *(outlet.thread for outlet in self._outlets if outlet.thread)):
            thread.start()

    def stop(self) -> None:
        """Ask for the end: what is under way is finished. Returns at once, safe to call from any thread."""
        self._stopped = True
        self._begin_end()
        self._to_swap.close()

    def wait(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
        *,
        every_s: float = _POLL_S,
    ) -> RunReport:
        """Wait for the end; report progress each `every_s` from this thread. Raises the first error.

        `stop` or Ctrl-C end the run early and in order; a second Ctrl-C gives up what is not written yet.
        """
        accounts = Accounts()
        while True:
            try:
                if self._ended():
                    break
                self._over.wait(every_s)
                if stop is not None and stop.is_set():
                    self.stop()
                if on_progress is not None:
                    on_progress(self._progress(accounts))
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
            on_progress(self._progress(accounts))
        return self._report()

    # --- while it runs, from any thread ---

    @property
    def origin_s(self) -> float | None:
        """time.monotonic() at which pts_s was 0, of a live source; None before its first frame."""
        return self._origin_s if self._frames_in else None

    @property
    def ending(self) -> bool:
        """Whether the run is coming to its end."""
        return self._ending_s is not None

    def panic(self, on: bool) -> None:
        """Show nothing but the card, at once, until it is switched off."""
        self._panic = on
        if self._guard is not None:
            self._guard.panic = on

    def add_sink(self, factory: SinkFactory, name: str = "sink") -> Outlet:
        """Open one more sink on a thread of its own; it takes what is published from now on. Returns at once.

        It may come and go: when it breaks, the run goes on, and the report names it.
        """
        outlet = Outlet(factory, self._room, lossless=self._lossless, name=name)
        self._forget_guests()
        with self._lock:
            if self._ending_s is not None or self._all_published:
                raise MailboxClosed
            self._running += 1
            outlet.thread = self._thread(
                f"sink {len(self._outlets)}", partial(self._guarded, partial(self._sink, outlet, late=True))
            )
            self._outlets = [*self._outlets, outlet]
            self._guests = [*(each for each in self._guests if each in self._outlets), outlet]
        outlet.thread.start()
        return outlet

    def remove_sink(self, outlet: Outlet) -> None:
        """Finish one sink while the others go on. Returns at once; its thread closes it."""
        outlet.mailbox.close()

    def _forget_guests(self) -> None:
        """Let go of sinks that came and went in order, so that a thousand stills cost nothing."""
        with self._lock:
            self._outlets = [
                each
                for each in self._outlets
                if each.error or each not in self._guests or each.thread is None or each.thread.is_alive()
            ]

    def hear(self, block: SoundBlock) -> None:
        """Hand a block of sound to every sink that takes sound."""
        for outlet in self._outlets:
            sink = outlet.sink
            if sink is None or outlet.error is not None or not isinstance(sink, TakesSound):
                continue
            try:
                sink.hear(block)
            except Exception as error:
                self._lose(outlet, error)

    def aside(self, name: str, work: Callable[[], None]) -> None:
        """Do something beside the run, for example load a model; `work` keeps its errors to itself."""
        self._thread(name, work).start()

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
            self._origin_s = self._origin_s or frame.captured_s - frame.pts_s
            self._frames_in += 1

    def _swap(self) -> None:
        try:
            with closing(self._swapper_factory()) as swapper:
                info = self._known_info()
                if isinstance(swapper, Beginning):
                    swapper.begin(info)
                self._provider = str(getattr(swapper, "provider", "unknown"))
                swapping = self._swapping = Swapping(swapper)
                self._opened()
                put = self._to_guard.put_wait if self._lossless else self._to_guard.put
                with suppress(MailboxClosed):
                    while True:
                        frame = self._to_swap.get()
                        if self._is_late(frame):
                            swapping.late += 1
                        else:
                            put(swapping.attempt(frame))
        except LiveswapError as error:
            self._fail(error, finish=True)
        finally:
            self._to_guard.close()

    def _publish(self) -> None:
        try:
            info = self._known_info()
            self._guard = guard = self._guard_factory(info)
            guard.panic = self._panic
            publisher = self._publisher = Publisher(
                guard, Badge(self._language) if self._badge else None, live=info.live
            )
            self._opened()
            timeout_s = None if self._lossless else _TICK_S
            with suppress(MailboxClosed):
                while True:
                    try:
                        attempt = self._to_guard.get(timeout_s)
                    except TimeoutError:
                        frame = publisher.tick()
                    else:
                        late = self._is_late(attempt.frame)
                        frame = publisher.refuse(attempt) if late else publisher.publish(attempt)
                    if frame is not None:
                        self._hand_out(frame)
            if self._lossless and self._ending_s is None:
                publisher.check_result()
        except LiveswapError as error:
            self._fail(error, finish=True)
        finally:
            with self._lock:
                self._all_published = True
            for outlet in self._outlets:
                outlet.mailbox.close()

    def _is_late(self, frame: Frame) -> bool:
        return self._cap_s is not None and time.monotonic() - frame.captured_s > self._cap_s

    def _hand_out(self, frame: Frame) -> None:
        for outlet in self._outlets:
            with suppress(MailboxClosed):
                if self._lossless:
                    outlet.mailbox.put_wait(frame)
                else:
                    outlet.mailbox.put(frame)

    def _sink(self, outlet: Outlet, *, late: bool = False) -> None:
        try:
            opened = (lambda: None) if late else self._opened
            outlet.feed(self._known_info(), opened, self._keeps)
        except MailboxClosed:
            raise
        except Exception as error:
            if not self._lose(outlet, error):
                raise

    # --- what holds them together ---

    def _lose(self, outlet: Outlet, error: Exception) -> bool:
        """Go on without a sink that broke. False when the run cannot: for a file, or when no other sink is left.

        A live run that is ending anyway ends in order: its report names the sink.
        """
        with self._lock:
            outlet.error = outlet.error or error
            left = [each for each in self._outlets if each.error is None and not each.mailbox.closed]
            ending = self._all_published or (self._ending_s is not None and self._error is None)
            live = not self._lossless and self._all_open.is_set()
            going_on = outlet in self._guests or (live and (bool(left) or ending))
        outlet.mailbox.close(discard=True)
        if going_on:
            _log.error("the sink %s is lost, the others go on: %s", outlet.name, error)
        return going_on

    def _keeps(self, results: bool) -> bool:
        """Whether sinks may close in order; with `results`, whether one frame was swapped: nobody keeps cards."""
        return not (self._publisher is None or self._publisher.fruitless) if results else self._error is None

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
            self._to_guard.close(discard=True)
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
        _, swap, guard = (thread.is_alive() for thread in self._threads)
        sinks = [outlet for outlet in self._outlets if outlet.thread and outlet.thread.is_alive()]
        if not (swap or guard or sinks) and waited_s > min(_SOURCE_GRACE_S, self._grace_s):
            _log.warning("the source did not stop in time and is left behind")
            self._gave_up = True
        elif waited_s > self._grace_s and swap:
            self._to_guard.close()
            for outlet in self._outlets:
                outlet.mailbox.close()  # let the sinks finish what they have
            if not sinks or waited_s > 2 * self._grace_s:
                self._gave_up = True
                self._fail(
                    LiveswapError(f"the swap did not stop within {waited_s:.0f} s; check the engine and its device")
                )
        elif waited_s > 4 * self._grace_s and not any(getattr(each.sink, "signing", False) for each in sinks):
            stuck = ", ".join(outlet.name for outlet in sinks)
            self._gave_up = True
            self._fail(LiveswapError(f"{stuck} did not finish within {waited_s:.0f} s; check the disk or the device"))
        return self._gave_up

    def _progress(self, accounts: Accounts) -> Progress:
        return accounts.progress(self._info, self._swapping, self._publisher, self._boxes(), self._outlets)

    def _boxes(self) -> dict[str, Mailbox[Any]]:
        return {"swap": self._to_swap, "guard": self._to_guard}

    def _report(self) -> RunReport:
        return add_up(
            self._info,
            self._capture_times,
            self._swapping,
            self._publisher,
            self._boxes(),
            self._outlets,
            frames_in=self._frames_in,
            first_s=self._first_s,
            badge=self._badge,
            stopped=self._stopped,
            provider=self._provider,
        )


def run_pipeline(
    source_factory: Callable[[], Source],
    swapper_factory: Callable[[], Swapper],
    sink_factories: Sequence[SinkFactory],
    *,
    guard_factory: Callable[[SourceInfo], Guard],
    lossless: bool,
    badge: bool = True,
    latency_cap_ms: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> RunReport:
    """Run from the first frame to the last and report; see Pipeline. Raises the first error of any room."""
    pipeline = Pipeline(
        source_factory,
        swapper_factory,
        sink_factories,
        guard_factory=guard_factory,
        lossless=lossless,
        badge=badge,
        latency_cap_ms=latency_cap_ms,
    )
    pipeline.start()
    return pipeline.wait(on_progress, stop)
