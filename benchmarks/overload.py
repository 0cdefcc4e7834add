"""Measures what too slow a room does to order and delay. The real pipeline with its real threads in, JSON out.

    python -m benchmarks.overload --json FILE [--plot FILE.png]

Frames of a rendered performer come at 30 a second through the real swapper with the shipped model; then one room is
made three frame periods long. Limits, for every case: frames come out in the order of their capture, at most one frame
waits at any hand-off, and 99 % of the frames wait for at most two periods beyond the time that the slow room takes.
A broken limit is a sentence and exit code 1.

Beside it the queue rules of other programs get the same frames with the same service times: simulations of the rule,
not of the program, see Note [Simulated queue rules].
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from benchmarks import queue_rules
from benchmarks.queue_rules import Shown
from realtime import machine
from realtime.detect import FaceFinder
from realtime.files import write_atomically
from realtime.frame import Frame, ImageU8
from realtime.guard import Guard
from realtime.infer import open_engine
from realtime.pattern import PatternSource
from realtime.pipeline import run_pipeline
from realtime.report import RunReport
from realtime.screen import Screen
from realtime.sink import Sink
from realtime.source import BT709, SourceInfo
from realtime.swap import FaceSwapper, SwapResult
from realtime.swapping import Swapper

MODEL = Path(__file__).parents[1] / "realtime" / "models" / "demo.dfm"
FPS = 30
SLOW_PERIODS = 3.0
UNEVEN = 0.4, 1.6
"""Range of an uneven service time, relative to its mean."""
JITTER_PERIODS, STEADY_PERIODS = 0.9, 0.05
"""Range in which a capture lies around its place in the row: gaps of 0.1 to 1.9 periods when uneven."""
MOST_WAITING_PERIODS = 2.0
_WARM_UP_PERIODS = 30
_TAIL_PERIODS = 12
"""The camera goes on for so long after the last frame that is measured: the end of a run is no overload."""


@dataclass(frozen=True, slots=True)
class Case:
    """Which room is slow, and how the frames come."""

    name: str
    slow: Literal["swap", "sink"] = "swap"
    uneven_capture: bool = False
    uneven_service: bool = False

    def captures_s(self, seconds: float, period_s: float) -> list[float]:
        """When the camera has each picture, seconds from its start."""
        count = _WARM_UP_PERIODS + round(seconds / period_s) + _TAIL_PERIODS
        spread = JITTER_PERIODS if self.uneven_capture else STEADY_PERIODS
        jitter = np.random.default_rng(1).uniform(-0.5, 0.5, count) * spread
        return [float(each) for each in (np.arange(1, count + 1) + jitter) * period_s]

    def services_s(self, count: int, period_s: float) -> list[float]:
        """How long the slow room takes for each frame."""
        share = np.random.default_rng(2).uniform(*UNEVEN, count) if self.uneven_service else np.ones(count)
        return [float(each) for each in SLOW_PERIODS * period_s * share]


CASES = (
    Case("slow swap"),
    Case("slow swap, uneven capture", uneven_capture=True),
    Case("uneven swap", uneven_service=True),
    Case("slow sink", slow="sink"),
)


class Camera:
    """Delivers pictures at given times, in a loop, whether or not anybody is ready for them."""

    def __init__(self, images: Sequence[ImageU8], captures_s: Sequence[float], period_s: float) -> None:
        height, width = images[0].shape[:2]
        fps = Fraction(1 / period_s).limit_denominator(1000)
        self.info = SourceInfo("camera", width, height, fps, len(captures_s), live=True, colour=BT709)
        self._images, self._captures_s = images, captures_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        start_s = time.monotonic()
        for index, capture_s in enumerate(self._captures_s):
            time.sleep(max(start_s + capture_s - time.monotonic(), 0))
            yield Frame(self._images[index % len(self._images)], index, time.monotonic(), capture_s)

    def close(self) -> None:
        """Nothing is held open between frames."""


class SlowSwapper:
    """Swaps, and then goes on being busy: frame i takes services_s[i] in all, as with a heavier model."""

    def __init__(self, swapper: Swapper, services_s: Sequence[float]) -> None:
        self._swapper, self._services_s = swapper, services_s
        self.provider = str(getattr(swapper, "provider", "unknown"))
        self.took_s: dict[int, float] = {}

    def swap(self, frame: Frame) -> SwapResult:
        """Swap one frame."""
        began_s = time.monotonic()
        result = self._swapper.swap(frame)
        time.sleep(max(began_s + self._services_s[frame.index] - time.monotonic(), 0))
        self.took_s[frame.index] = time.monotonic() - began_s
        return result

    def close(self) -> None:
        """Close the swapper."""
        self._swapper.close()


class Watch:
    """A sink that notes what came when; it may take its time."""

    name = "watch"

    def __init__(self, services_s: Sequence[float] | None = None) -> None:
        self._services_s = services_s
        self.seen: list[tuple[int, float, float]] = []
        """Index, captured_s, time when it was taken."""
        self.took_s: dict[int, float] = {}

    def send(self, frame: Frame) -> None:
        """Note one frame."""
        began_s = time.monotonic()
        if self._services_s is not None:
            time.sleep(self._services_s[frame.index])
        now_s = time.monotonic()
        self.took_s[frame.index] = now_s - began_s
        self.seen.append((frame.index, frame.captured_s, now_s))

    def close(self) -> None:
        """Nothing happens."""

    def abort(self) -> None:
        """Nothing happens."""


def run_case(
    case: Case, images: Sequence[ImageU8], swapper_factory: Callable[[], Swapper], seconds: float, period_s: float
) -> tuple[list[Shown], RunReport]:
    """What came out of the real pipeline during `seconds`, and its own report."""
    captures_s = case.captures_s(seconds, period_s)
    services_s = case.services_s(len(captures_s), period_s)
    watch = Watch(services_s if case.slow == "sink" else None)
    swappers: list[SlowSwapper] = []

    def slow_swapper() -> Swapper:
        swappers.append(SlowSwapper(swapper_factory(), services_s if case.slow == "swap" else [0.0] * len(services_s)))
        return swappers[-1]

    def open_watch(_: SourceInfo) -> Sink:
        return watch

    report = run_pipeline(
        lambda: Camera(images, captures_s, period_s),
        slow_swapper,
        [open_watch],
        guard_factory=lambda info: Guard(live=info.live),
        lossless=False,
    )
    took_s = (swappers[0] if case.slow == "swap" else watch).took_s
    measured = range(_WARM_UP_PERIODS, len(captures_s) - _TAIL_PERIODS)
    shown = [Shown(index, captured, now, took_s.get(index, 0.0)) for index, captured, now in watch.seen]
    return [each for each in shown if each.index in measured], report


def simulations(case: Case, seconds: float, period_s: float) -> dict[str, list[Shown]]:
    """The same frames and service times under each queue rule, by name; only for a slow swap."""
    captures_s = case.captures_s(seconds, period_s)
    services_s = case.services_s(len(captures_s), period_s)
    idle = [0.0] * len(captures_s)
    stages = [idle, idle, idle, services_s, idle, idle]  # detector, marker, aligner, swap, adjuster, merger
    rules = {
        "liveswap": queue_rules.newest_wins(captures_s, services_s),
        "Deep-Live-Cam": queue_rules.drop_oldest(captures_s, services_s),
        "DeepFaceLive": queue_rules.back_pressure(captures_s, stages),
        "facefusion, one model run at a time": queue_rules.unbounded_pool(captures_s, services_s, at_once=1),
        "facefusion, eight at a time": queue_rules.unbounded_pool(captures_s, services_s),
    }
    measured = range(_WARM_UP_PERIODS, len(captures_s) - _TAIL_PERIODS)
    return {name: [each for each in shown if each.index in measured] for name, shown in rules.items()}


def broken_limits(case: Case, figures: dict[str, Any]) -> list[str]:
    """A sentence for every limit that the figures of a case break."""
    name = f"{case.name}: "
    broken = []
    if figures["reordered"]:
        broken.append(f"{name}{figures['reordered']} frames came out after a newer one")
    if figures["queue_max"] > 1:
        broken.append(f"{name}{figures['queue_max']} frames waited at one hand-off where one may")
    if figures["waited_periods_p99"] > MOST_WAITING_PERIODS:
        broken.append(
            f"{name}99 % of the frames waited up to {figures['waited_periods_p99']:.2f} periods beyond the service "
            f"time, {MOST_WAITING_PERIODS:g} are allowed"
        )
    limit = figures["service_periods"] + MOST_WAITING_PERIODS
    if not case.uneven_service and figures["latency_periods_p99"] > limit:
        broken.append(f"{name}the latency p99 is {figures['latency_periods_p99']:.2f} periods, the limit {limit:.2f}")
    return broken


def overload(
    images: Sequence[ImageU8],
    swapper_factory: Callable[[], Swapper],
    *,
    seconds: float,
    period_s: float = 1 / FPS,
    cases: Sequence[Case] = CASES,
) -> tuple[dict[str, Any], dict[str, list[Shown]]]:
    """All cases: what --json writes, and the frames of the first case by rule for the plot."""
    results: dict[str, Any] = {}
    broken: list[str] = []
    curves: dict[str, list[Shown]] = {}
    for case in cases:
        shown, report = run_case(case, images, swapper_factory, seconds, period_s)
        figures: dict[str, Any] = queue_rules.figures(shown, period_s)
        figures |= {"queue_max": report.queue_max, "dropped": report.dropped, "states": report.states}
        broken += broken_limits(case, figures)
        simulated = simulations(case, seconds, period_s) if case.slow == "swap" else {}
        results[case.name] = figures | {
            "simulated_rules": {name: queue_rules.figures(each, period_s) for name, each in simulated.items()}
        }
        if not curves:
            curves = {"liveswap, measured": shown, **simulated}
    first = results[cases[0].name]
    headline = {
        "reordered": sum(each["reordered"] for each in results.values()),
        "latency_periods_p99": first["latency_periods_p99"],
        "service_periods": first["service_periods"],
        "queue_max": max(each["queue_max"] for each in results.values()),
    }
    return (
        headline
        | {"broken": broken, "period_ms": round(period_s * 1e3, 3), "seconds_per_case": seconds, "cases": results}
        | {"simulated_rules": "the queue rule of each program alone, with free stages, copies and starts"}
        | {"machine": machine.describe()},
        curves,
    )


def plot(curves: dict[str, list[Shown]], period_s: float, path: Path) -> None:
    """Draw latency over time for every rule."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5))
    for name, shown in curves.items():
        start_s = shown[0].captured_s
        latency = [(each.shown_s - each.captured_s) / period_s for each in shown]
        measured = "measured" in name
        axes.plot(
            [each.captured_s - start_s for each in shown],
            latency,
            label=name if measured else f"{name} (queue rule, simulated)",
            linewidth=2.5 if measured else 1.2,
            linestyle="-" if measured else "--",
        )
    axes.axhline(SLOW_PERIODS + MOST_WAITING_PERIODS, color="grey", linewidth=0.8)
    axes.text(0, (SLOW_PERIODS + MOST_WAITING_PERIODS) * 1.04, "limit", color="grey")
    axes.set_yscale("log")
    axes.set_xlabel("time of capture, s")
    axes.set_ylabel("capture to publication, frame periods")
    axes.set_title("A swap that takes three frame periods")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _real_swapper(model: Path) -> Swapper:
    return FaceSwapper(FaceFinder(), open_engine(model, threads=1), live=True)


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    text = [f"{'':44}{'p50':>7}{'p99':>8}{'waited':>8}{'disorder':>10}   (frame periods)"]
    for case, figures in report["cases"].items():
        rows = [(case, figures), *((f"  {name}, rule", each) for name, each in figures["simulated_rules"].items())]
        for name, each in rows:
            text.append(
                f"{name:44}{each['latency_periods_p50']:7.2f}{each['latency_periods_p99']:8.2f}"
                f"{each['waited_periods_p99']:8.2f}{each['reordered']:6} of {each['shown']}"
            )
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description="Measure order and delay while one room is too slow.")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="needs matplotlib")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="NAME.dfm")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="for each case; default: 10")
    args = parser.parse_args(argv)
    if not 3 <= args.seconds <= 3600:
        parser.error("--seconds lies between 3 and 3600: shorter, a rule that lets frames pile up shows none at all")
    screen = Screen(quiet=False, json_on_stdout=False)
    images = [frame.image for frame in PatternSource(frames=30)]
    report, curves = overload(images, functools.partial(_real_swapper, args.model), seconds=args.seconds)
    screen.say("\n".join(lines(report)))
    if args.json:
        write_atomically(args.json, json.dumps(report, indent=2) + "\n")
    if args.plot:
        plot(curves, 1 / FPS, args.plot)
    for sentence in report["broken"]:
        screen.warn(f"{sentence}.")
    return 1 if report["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
