"""Feeds one sink. A mailbox of frames in, what the sink makes of them stays outside; counts and times come out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from realtime.frame import Frame
from realtime.mailbox import Mailbox, MailboxClosed
from realtime.report import Durations
from realtime.sink import Discarding, Repeating, Sink
from realtime.source import SourceInfo

SinkFactory = Callable[[SourceInfo], Sink]


class Outlet:
    """One sink and the way to it. `feed` runs on the sink's own thread; the mailbox may be used from any."""

    def __init__(self, factory: SinkFactory, capacity: int, *, lossless: bool, name: str = "sink") -> None:
        """`name`: for people, until the sink is open and has one of its own."""
        self._factory, self._lossless = factory, lossless
        self.mailbox: Mailbox[Frame] = Mailbox(capacity)
        self.name = name
        self.frames = 0
        self.latency, self.send = Durations(), Durations()
        self.last_s = 0.0
        """When the sink had taken its last frame, time.monotonic()."""
        self.sink: Sink | None = None
        """As soon as it is open."""
        self.error: Exception | None = None
        """Why the sink was lost."""
        self.thread: threading.Thread | None = None
        self.av_offset_ms: float | None = None
        """Known at the end, for sinks that take sound."""

    def feed(self, info: SourceInfo, opened: Callable[[], None], keep: Callable[[bool], bool]) -> None:
        """Open the sink, call `opened`, send what comes until the mailbox closes, close the sink.

        `keep(False)`: whether the sink may be closed in order; `keep(True)`: whether what it holds is worth keeping.
        Raises what the sink raises.
        """
        sink = self.sink = self._factory(info)
        self.name = sink.name
        try:
            opened()
            while True:
                frame = self._next(sink)
                began_s = time.monotonic()
                sink.send(frame)
                self.last_s = now_s = time.monotonic()
                self.send.add((now_s - began_s) * 1e3)
                self.latency.add((now_s - frame.captured_s) * 1e3)
                self.frames += 1
        except MailboxClosed:
            if self.error is None and keep(False):
                sink.close()
        finally:
            offset_ms = getattr(sink, "av_offset_ms", None)
            self.av_offset_ms = float(offset_ms) if isinstance(offset_ms, int | float) else None
            # Neither does anything after close().
            if isinstance(sink, Discarding) and self.frames and not keep(True):
                sink.discard()
            else:
                sink.abort()

    def _next(self, sink: Sink) -> Frame:
        """The next frame for a sink; what it shows is repeated as long as none comes, where it wants that."""
        if self._lossless or not isinstance(sink, Repeating):
            return self.mailbox.get()
        while True:
            try:
                return self.mailbox.get(sink.repeat_s)
            except TimeoutError:
                sink.repeat()
