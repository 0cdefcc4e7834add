"""Counts and times of a run. Observations in, a RunReport out: what a user reads and what --json writes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOWEST_MS = 1e-3
_STEP = math.log(1.01)
_BUCKETS = 2400
"""0.001 ms to 2e7 ms (six hours)."""
_RECENT = 128
"""So many durations are `recent`: four seconds at 30 a second."""


class Durations:
    """Percentiles of any number of durations in fixed memory: a histogram whose buckets are 1 % wide.

    One writer; `recent` may be asked from any thread, everything else when the writer has ended.
    """

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(_BUCKETS, np.int64)
        self._longest_ms = 0.0
        self._recent: NDArray[np.float64] = np.zeros(_RECENT)
        self._added = 0

    def __len__(self) -> int:
        return int(self._counts.sum())

    def add(self, duration_ms: float) -> None:
        """Count one duration in milliseconds."""
        bucket = math.log(max(duration_ms, _LOWEST_MS) / _LOWEST_MS) / _STEP
        self._counts[min(int(bucket), _BUCKETS - 1)] += 1
        self._longest_ms = max(self._longest_ms, duration_ms)
        self._recent[self._added % _RECENT] = duration_ms
        self._added += 1

    def recent(self) -> tuple[float, float]:
        """p50 and p95 of the last durations, in milliseconds; zeros when there were none."""
        latest = np.sort(self._recent[: min(self._added, _RECENT)])
        if not len(latest):
            return 0.0, 0.0
        median, high = (float(latest[math.ceil(share * len(latest)) - 1]) for share in (0.5, 0.95))
        return median, high

    def add_all(self, other: Durations) -> None:
        """Count what another one counted."""
        self._counts += other._counts
        self._longest_ms = max(self._longest_ms, other._longest_ms)

    def percentile(self, percent: float) -> float:
        """The duration in ms that `percent` of all stay within, to 0.5 %; 0 when there were none."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        rank = max(math.ceil(total * percent / 100), 1)
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(_LOWEST_MS * math.exp((bucket + 0.5) * _STEP), self._longest_ms)

    def summary(self) -> dict[str, float]:
        """p50, p95, p99 and the longest, in milliseconds."""
        values = {f"p{percent}": self.percentile(percent) for percent in (50, 95, 99)} | {"max": self._longest_ms}
        return {name: round(value, 3) for name, value in values.items()}


class StageTimes:
    """Durations by the name of the stage. One writer at a time."""

    def __init__(self) -> None:
        self._stages: dict[str, Durations] = {}

    def add(self, stage: str, duration_ms: float) -> None:
        """Count one duration of a stage in milliseconds."""
        self._stages.setdefault(stage, Durations()).add(duration_ms)

    def summary(self) -> dict[str, dict[str, float]]:
        """Percentiles in milliseconds by stage, in the order in which the stages were first seen."""
        return {stage: durations.summary() for stage, durations in self._stages.items()}

    def recent(self) -> dict[str, tuple[float, float]]:
        """p50 and p95 of the last durations of each stage, in milliseconds; may be asked from any thread."""
        return {stage: durations.recent() for stage, durations in tuple(self._stages.items())}


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands."""

    done: int
    """Frames that left the swap."""
    total: int | None
    """Frames of the source, as far as known."""
    fps: float
    """Frames per second over the last seconds."""
    state: str
    """What is being published: live, hold, slate, ... ; `opening` before the first frame."""
    latency_ms: tuple[float, float] = (0.0, 0.0)
    """p50 and p95 from capture to publication over the last seconds."""
    stages_ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The same of the time spent in each stage."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Frames that newer ones overtook, by the room that was too slow for them."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did."""

    frames_in: int
    """Frames that the source delivered."""
    frames_out: int
    """Frames that the busiest sink took."""
    dropped: dict[str, int]
    """Frames that newer ones overtook, by the room that was too slow for them."""
    queue_max: int
    """The most frames that ever waited at one hand-off."""
    seconds: float
    """From the first frame to the last."""
    fps: float
    """Frames out per second."""
    latency_ms: dict[str, float]
    """p50, p95, p99, max: from the capture of a frame until a sink had taken it."""
    stages: dict[str, dict[str, float]]
    """The same percentiles of the time spent in each stage."""
    states: dict[str, int]
    """How many frames were published in each state of the guard."""
    raw_face_frames: int
    """Frames published as they came in; above 0 only with --on-miss pass."""
    failed_frames: int
    """Frames whose swap raised an error and that the guard replaced."""
    badge: bool
    """Whether every picture carried the AI mark."""
    stopped: bool
    """Whether the user ended the run before the source did."""
    source: dict[str, Any]
    """Name, width, height, fps, live."""
    sinks: dict[str, int]
    """Frames taken by each sink."""
    provider: str
    """What the engine really ran on."""
    fruitless: str | None = None
    """Why a live run swapped nothing, a sentence; None when it did."""
    failed_sinks: dict[str, str] = field(default_factory=dict)
    """Sinks that broke while others went on, with the sentence that says why."""
    av_offset_ms: dict[str, float] = field(default_factory=dict)
    """How far sound and picture lie apart at the end of each sink that took sound: positive, the sound came late."""
    machine: dict[str, Any] = field(default_factory=dict)
    """See realtime.machine."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values that json can write."""
        return asdict(self)

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=2)
