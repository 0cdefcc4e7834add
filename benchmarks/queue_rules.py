"""Plays the queue rules of live face swappers in virtual time. Times of capture and service in, what is shown when out.

Note [Simulated queue rules]
    Each function below is a re-implementation of how one program hands frames on, from a reading of its source, and of
    nothing else: no network, no copy, no polling interval, no process start costs anything here. All of that favours
    the program. What remains is what its rule alone does to the delay and the order of the frames.

    newest_wins      liveswap: one slot between two rooms, a newer frame takes the place of the one that waits
    drop_oldest      Deep-Live-Cam: a queue of two before the swap and a queue of two behind it, the oldest makes room
    back_pressure    DeepFaceLive: the newest wins at the camera only; from there six stages, each of which hands its
                     result on when at most one older result lies unread before the next stage, and waits otherwise
    unbounded_pool   facefusion's webcam: every frame is given to a pool of eight threads; whenever the camera delivers,
                     whatever is finished is shown, whether or not an earlier frame is still being swapped

A frame has a time of capture and its own service time, so that every rule is given exactly the same work. Pure.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame that came out."""

    index: int
    """Of the frame at the camera."""
    captured_s: float
    shown_s: float
    service_s: float = 0.0
    """How long the slow room worked on it."""


def newest_wins(captured_s: Sequence[float], service_s: Sequence[float]) -> list[Shown]:
    """One slot before the swap."""
    return _single_server(captured_s, service_s, room=1)


def drop_oldest(captured_s: Sequence[float], service_s: Sequence[float]) -> list[Shown]:
    """A queue of two before the swap; the one behind it never fills, because showing takes no time here."""
    return _single_server(captured_s, service_s, room=2)


def back_pressure(captured_s: Sequence[float], stages_s: Sequence[Sequence[float]], unread: int = 2) -> list[Shown]:
    """Stages in a row, each with its service time for every frame; at most `unread` results wait before each."""
    last = len(stages_s) - 1
    started: list[list[float]] = []
    """Of each accepted frame, when each stage began with it."""
    before = [0.0] * len(stages_s)
    """When each stage got rid of the frame before."""
    shown: list[Shown] = []
    newest = -1
    while True:
        room_s = started[-unread][0] if len(started) >= unread else 0.0
        waiting = bisect_right(captured_s, room_s) - 1
        newest = waiting if waiting > newest else newest + 1
        if newest >= len(captured_s):
            return shown
        now_s = max(room_s, captured_s[newest])
        begins: list[float] = []
        for stage, service_s in enumerate(stages_s):
            begins.append(max(now_s, before[stage]))
            now_s = begins[-1] + service_s[newest]
            if stage < last and len(started) >= unread:
                now_s = max(now_s, started[-unread][stage + 1])
            before[stage] = now_s
        started.append(begins)
        shown.append(Shown(newest, captured_s[newest], now_s, max(service_s[newest] for service_s in stages_s)))


def unbounded_pool(
    captured_s: Sequence[float], service_s: Sequence[float], workers: int = 8, at_once: int = 8
) -> list[Shown]:
    """A pool of threads without a limit on what waits for it; `at_once`: so many may run the model at a time."""
    free_s = [0.0] * min(workers, at_once)
    finished: list[float] = []
    for captured, service in zip(captured_s, service_s, strict=True):
        begin_s = max(captured, heapq.heappop(free_s))
        heapq.heappush(free_s, begin_s + service)
        finished.append(begin_s + service)
    shown: list[Shown] = []
    waiting: list[int] = []
    for index, now_s in enumerate(captured_s):
        waiting.append(index)
        done = [each for each in waiting if finished[each] <= now_s]
        waiting = [each for each in waiting if finished[each] > now_s]
        shown += [Shown(each, captured_s[each], now_s, service_s[each]) for each in done]
    return shown


def _single_server(captured_s: Sequence[float], service_s: Sequence[float], room: int) -> list[Shown]:
    shown: list[Shown] = []
    now_s, last = 0.0, -1
    while True:
        newest = bisect_right(captured_s, now_s) - 1
        taken = max(last + 1, newest - room + 1)
        if taken >= len(captured_s):
            return shown
        now_s = max(now_s, captured_s[taken]) + service_s[taken]
        shown.append(Shown(taken, captured_s[taken], now_s, service_s[taken]))
        last = taken


def reordered(shown: Sequence[Shown]) -> int:
    """How many frames came out after a newer one."""
    newest, count = -1, 0
    for each in shown:
        count += each.index < newest
        newest = max(newest, each.index)
    return count


def figures(shown: Sequence[Shown], period_s: float) -> dict[str, float | int]:
    """Latency from capture to publication in frame periods, what of it was waiting, the order, the last latency."""
    if not shown:
        raise ValueError("nothing was shown: there is nothing to measure")
    latency = np.array([each.shown_s - each.captured_s for each in shown]) / period_s
    service = np.array([each.service_s for each in shown]) / period_s
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(latency, [50, 95, 99]))
    return {
        "shown": len(shown),
        "reordered": reordered(shown),
        "latency_periods_p50": p50,
        "latency_periods_p95": p95,
        "latency_periods_p99": p99,
        "latency_periods_last": round(float(latency[-1]), 3),
        "service_periods": round(float(np.median(service)), 3),
        "waited_periods_p99": round(float(np.percentile(latency - service, 99)), 3),
    }
