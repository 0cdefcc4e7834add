"""Adds up a run. What its rooms counted in; Progress while it goes on, RunReport at its end, out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from realtime import machine
from realtime.errors import LiveswapError
from realtime.mailbox import Mailbox
from realtime.outlet import Outlet
from realtime.publisher import Publisher
from realtime.report import Durations, Progress, RunReport, StageTimes
from realtime.source import SourceInfo
from realtime.swapping import Swapping

_FIGURES_S = 0.25
"""How often the recent times in a Progress are worked out anew."""
_SPEED_S = 2.0
"""Speed is measured over so many seconds."""


class Accounts:
    """Progress of one run. Not thread-safe; what it reads may belong to other threads."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, int]] = deque()
        self._figures_s = 0.0
        self._figures = Progress(0, None, 0.0, "opening")

    def progress(
        self,
        info: SourceInfo | None,
        swapping: Swapping | None,
        publisher: Publisher | None,
        boxes: Mapping[str, Mailbox[Any]],
        outlets: Sequence[Outlet],
    ) -> Progress:
        """Where the run stands; times and drops are at most a quarter of a second old."""
        now_s = time.monotonic()
        done, state = (publisher.frames, publisher.state) if publisher else (0, "opening")
        if publisher and now_s - self._figures_s >= _FIGURES_S:
            stages = swapping.times.recent() if swapping else {}
            stages |= publisher.times.recent()
            stages |= {f"send {name}": each.send.recent() for name, each in named(outlets) if each.error is None}
            self._figures = replace(
                self._figures,
                latency_ms=publisher.latency.recent(),
                stages_ms=stages,
                dropped=_dropped(swapping, publisher, boxes, outlets),
            )
            self._figures_s = now_s
        total = info.frames if info is not None else None
        return replace(self._figures, done=done, total=total, fps=self._speed(now_s, done), state=state)

    def _speed(self, now_s: float, count: int) -> float:
        self._past.append((now_s, count))
        while len(self._past) > 2 and now_s - self._past[1][0] >= _SPEED_S:
            self._past.popleft()
        then_s, then = self._past[0]
        return (count - then) / (now_s - then_s) if now_s > then_s else 0.0


def named(outlets: Sequence[Outlet]) -> list[tuple[str, Outlet]]:
    """The sinks by name, numbered where a name comes twice."""
    by_name: dict[str, Outlet] = {}
    for number, outlet in enumerate(outlets, 1):
        by_name[outlet.name if outlet.name not in by_name else f"{outlet.name} {number}"] = outlet
    return list(by_name.items())


def _dropped(
    swapping: Swapping | None,
    publisher: Publisher | None,
    boxes: Mapping[str, Mailbox[Any]],
    outlets: Sequence[Outlet],
) -> dict[str, int]:
    """Frames that newer ones overtook, by the room that was too slow for them; `late`: beyond the latency cap."""
    dropped = {name: box.dropped for name, box in boxes.items()}
    dropped["late"] = (swapping.late if swapping else 0) + (publisher.late if publisher else 0)
    return dropped | {name: outlet.mailbox.dropped for name, outlet in named(outlets)}


def _why_nothing(publisher: Publisher | None) -> str | None:
    if publisher is None:
        return None
    try:
        publisher.check_result()
    except LiveswapError as error:
        return str(error)
    return None


def add_up(
    info: SourceInfo | None,
    capture_times: StageTimes,
    swapping: Swapping | None,
    publisher: Publisher | None,
    boxes: Mapping[str, Mailbox[Any]],
    outlets: Sequence[Outlet],
    *,
    frames_in: int,
    first_s: float,
    badge: bool,
    stopped: bool,
    provider: str,
) -> RunReport:
    """The report of a run that has ended; `first_s`: when its first frame was captured, time.monotonic()."""
    latency = Durations()
    stages = capture_times.summary()
    stages |= swapping.times.summary() if swapping else {}
    stages |= publisher.times.summary() if publisher else {}
    sinks = named(outlets)
    for name, outlet in sinks:
        latency.add_all(outlet.latency)
        stages[f"send {name}"] = outlet.send.summary()
    taken = {name: outlet.frames for name, outlet in sinks}
    frames_out, seconds = max(taken.values()), max(max(outlet.last_s for outlet in outlets) - first_s, 0.0)
    source: dict[str, Any] = {}
    if info is not None:
        source = {"name": info.name, "width": info.width, "height": info.height}
        source |= {"fps": round(float(info.fps), 3), "live": info.live}
    return RunReport(
        frames_in=frames_in,
        frames_out=frames_out,
        dropped=_dropped(swapping, publisher, boxes, outlets),
        queue_max=max(box.most for box in (*boxes.values(), *(outlet.mailbox for outlet in outlets))),
        seconds=round(seconds, 3),
        fps=round(frames_out / seconds, 2) if seconds else 0.0,
        latency_ms=latency.summary(),
        stages=stages,
        states=dict(publisher.states) if publisher else {},
        raw_face_frames=publisher.raw if publisher else 0,
        failed_frames=publisher.failed if publisher else 0,
        badge=badge,
        stopped=stopped,
        source=source,
        sinks=taken,
        provider=provider,
        fruitless=_why_nothing(publisher),
        failed_sinks={name: " ".join(str(outlet.error).split()) for name, outlet in sinks if outlet.error},
        av_offset_ms={name: outlet.av_offset_ms for name, outlet in sinks if outlet.av_offset_ms is not None},
        machine=machine.describe(),
    )
