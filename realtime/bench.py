"""Measures how fast the live loop is on this machine. A model and perhaps a clip in, one report of plain values out.

Note [Modes]
    A             one plain loop: swap, guard, badge, sink, one after the other on one thread
    B throughput  the pipeline with its threads, nothing lost, as fast as it goes: how many frames it could sustain
    B live        the pipeline as it runs live: a frame every 1/rate s whether or not anybody is ready, the newest wins

    All modes get the same pictures, which lie decoded in memory before any clock runs, through the same rooms. Before
    a time counts, A and B have to publish the same pictures, byte for byte. Frames before `warmup` are not counted.
    Modes take turns over several rounds, so that a slow minute of the machine does not fall upon one of them; every
    figure is the median of the rounds, and `fps_range` says how far they lie apart.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realtime import machine
from realtime.badge import Badge
from realtime.bench_clip import Clip, Player, load_clip
from realtime.bench_report import compare, comparison_lines, differences, lines, middle, read_result
from realtime.detect import FACES_IN_VIEW, FaceFinder
from realtime.dfm import Dfm, read_dfm
from realtime.errors import LiveswapError, UsageError
from realtime.frame import Frame
from realtime.guard import Guard, State
from realtime.infer import default_threads, open_engine
from realtime.pipeline import run_pipeline
from realtime.publisher import Publisher
from realtime.report import Durations, RunReport
from realtime.sink import Sink
from realtime.sinks import NullSink
from realtime.swap import FaceSwapper, SwapResult
from realtime.swapping import Swapping

__all__ = ["compare", "comparison_lines", "differences", "lines", "read_result", "run_bench"]

MODEL = Path(__file__).with_name("models") / "demo.dfm"
OnProgress = Callable[[float, float, str], None]
"""Called with how much is done, of how much, and what is being done."""

CLIP_FRAMES = 120
"""Pictures in the loop; it is played forwards and backwards."""
"""Faces that are looked for, as in a live run: a second person must not steal the swap."""
_PARITY_FRAMES = 60


def run_bench(
    model: Path | None = None,
    *,
    source: Path | str | None = None,
    modes: Sequence[str] = ("A", "B"),
    seconds: float = 20.0,
    frames: int | None = None,
    rounds: int = 3,
    warmup: int = 100,
    rate: float = 30.0,
    width: int = 640,
    height: int = 480,
    clip_frames: int = CLIP_FRAMES,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Measure `model`, by default the demo model, on this machine; see Note [Modes].

    source: what `liveswap run --source` takes, of which the first pictures are used; None or `pattern`: a rendered
    performer of `width` x `height`. `seconds` for each mode, shared by the rounds; `frames` ends a round earlier.
    rate: of mode B live, frames per second. threads: of the engine.
    Raises UsageError for settings out of range, ModelError, SourceError - also when no face could be swapped - and
    LiveswapError when the modes do not agree.
    """
    if not modes or set(modes) - {"A", "B"}:
        raise UsageError(f"a bench has the modes A and B, got {', '.join(modes) or 'none'}; choose from these")
    if (
        min(rounds, clip_frames, *(each for each in (frames, threads) if each is not None)) < 1
        or warmup < 0
        or not (0 < seconds < 1e5 and 0 < rate <= 1000)
    ):
        raise UsageError("a bench needs at least one round, one frame and some seconds; choose other numbers")
    tell = on_progress or (lambda done, total, note: None)
    dfm = read_dfm(MODEL if model is None else model)
    tell(0.0, 1.0, "pictures")
    clip = load_clip(None if source is None else str(source), width, height, clip_frames)
    bench = _Bench(dfm, clip, threads, rate)
    tell(0.1, 1.0, "parity")
    parity = bench.check_parity(min(_PARITY_FRAMES, 2 * len(clip.images)))
    length = _Length(seconds / rounds, frames)
    plan = [(mode, number) for number in range(rounds) for mode in modes]
    results: dict[str, list[dict[str, Any]]] = {mode: [] for mode in modes}
    for step, (mode, number) in enumerate(plan):
        tell(0.2 + 0.8 * step / len(plan), 1.0, f"mode {mode}, round {number + 1} of {rounds}")
        run = bench.serial if mode == "A" else bench.threaded
        results[mode].append(run(length, warmup))
    tell(1.0, 1.0, "done")
    return _report(bench, {mode: middle(each) for mode, each in results.items()}) | {
        "parity": {"frames": parity, "equal": True},
        "rounds": rounds,
        "warmup": warmup,
        "seconds": seconds,
        "machine": machine.describe(),
    }


def _report(bench: _Bench, modes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is asked first comes first: throughput, the latency of the live run and its stages, then every mode."""
    dfm = bench.dfm
    if "B" in modes:
        fps, live = modes["B"]["throughput"]["fps"], modes["B"]["live"]
    else:
        fps, live = modes["A"]["fps"], modes["A"]
    return {
        "fps": fps,
        "latency_ms": live["latency_ms"],
        "stages": live["stages"],
        "drops": live.get("drops", {}),
        "overlap": round(fps / modes["A"]["fps"], 3) if "A" in modes else None,
        "modes": dict(modes),
        "model": {"name": dfm.path.name, "sha256": dfm.sha256, "bytes": dfm.size_bytes, "resolution": dfm.resolution},
        "engine": {"provider": bench.provider, "threads": bench.threads},
        "source": bench.clip.facts,
    }


@dataclass(frozen=True, slots=True)
class _Length:
    """When a round ends: whichever comes first."""

    seconds: float
    frames: int | None

    def indices(self) -> Iterator[int]:
        end_s = time.monotonic() + self.seconds
        for index in itertools.count() if self.frames is None else range(self.frames):
            if time.monotonic() >= end_s and index:
                return
            yield index


class _Kept:
    """A swapper that stays open from the warm-up to the measured run."""

    def __init__(self, swapper: FaceSwapper) -> None:
        self._swapper, self.provider = swapper, swapper.provider

    def swap(self, frame: Frame) -> SwapResult:
        """Swap one frame."""
        return self._swapper.swap(frame)

    def close(self) -> None:
        """It is closed by who opened it."""


class _Digests:
    """A sink that keeps what identifies each picture."""

    name = "digests"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def send(self, frame: Frame) -> None:
        """Note one picture."""
        self.seen.append(hashlib.sha256(frame.image.tobytes()).hexdigest())

    def close(self) -> None:
        """Nothing happens."""

    def abort(self) -> None:
        """Nothing happens."""


class _Bench:
    """One model and one clip, measured in every mode."""

    def __init__(self, dfm: Dfm, clip: Clip, threads: int | None, rate: float) -> None:
        self.dfm, self.clip, self._rate = dfm, clip, rate
        self.threads = threads or default_threads()
        with self._open() as swapper:
            self.provider = swapper.provider

    def _open(self, *, live: bool = False) -> FaceSwapper:
        finder = FaceFinder(max_faces=FACES_IN_VIEW)
        return FaceSwapper(finder, open_engine(self.dfm.path, threads=self.threads), live=live)

    def check_parity(self, count: int) -> int:
        """Raise unless the plain loop and the pipeline publish the same `count` pictures."""
        alone, together = _Digests(), _Digests()
        with self._open() as swapper:
            swapping, publisher = Swapping(swapper), Publisher(Guard(live=False), Badge(), live=False)
            for frame in Player(self.clip, range(count)):
                shown = publisher.publish(swapping.attempt(frame))
                if shown is not None:
                    alone.send(shown)
        publisher.check_result()
        with self._open() as swapper:
            self._run(swapper, range(count), together)
        for index, (ours, theirs) in enumerate(itertools.zip_longest(alone.seen, together.seen)):
            if ours != theirs:
                raise LiveswapError(
                    f"the threaded loop publishes another picture than the plain loop at frame {index}, so no time of "
                    "it counts; report this"
                )
        return len(alone.seen)

    def serial(self, length: _Length, warmup: int) -> dict[str, Any]:
        """Mode A: one round."""
        with self._open() as swapper:
            guard, badge, sink, latency = Guard(live=False), Badge(), NullSink(), Durations()
            swapping, publisher = Swapping(swapper), Publisher(guard, badge, live=False)
            for frame in Player(self.clip, range(warmup)):
                publisher.publish(swapping.attempt(frame))
            swapping, publisher = Swapping(swapper), Publisher(guard, badge, live=False)
            began_s, cpu_s = time.monotonic(), time.process_time()
            for frame in Player(self.clip, length.indices()):
                shown = publisher.publish(swapping.attempt(frame))
                if shown is not None:
                    sink.send(shown)
                latency.add((time.monotonic() - frame.captured_s) * 1e3)
            took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
            count = publisher.frames
            return {
                "frames": count,
                "fps": round(count / took_s, 2),
                "cpu_ms_per_frame": round(cpu_s / count * 1e3, 3),
                "latency_ms": latency.summary(),
                "stages": swapping.times.summary() | publisher.times.summary(),
                "swapped": round(publisher.states[State.LIVE] / count, 4),
            }

    def threaded(self, length: _Length, warmup: int) -> dict[str, Any]:
        """Mode B: one round of each kind."""
        result = {}
        for name, live_fps in (("throughput", None), ("live", self._rate)):
            with self._open(live=live_fps is not None) as swapper:
                if warmup:
                    self._run(swapper, range(warmup), NullSink())
                cpu_s = time.process_time()
                report = self._run(swapper, length.indices(), NullSink(), live_fps)
                cpu_s = time.process_time() - cpu_s
            result[name] = {
                "frames": report.frames_out,
                "fps": report.fps,
                "cpu_ms_per_frame": round(cpu_s / max(report.frames_out, 1) * 1e3, 3),
                "latency_ms": report.latency_ms,
                "stages": report.stages,
                "drops": report.dropped,
                "swapped": round(report.states.get(State.LIVE, 0) / max(sum(report.states.values()), 1), 4),
            }
        return result

    def _run(
        self, swapper: FaceSwapper, indices: Iterable[int], sink: Sink, live_fps: float | None = None
    ) -> RunReport:
        return run_pipeline(
            lambda: Player(self.clip, indices, live_fps=live_fps),
            lambda: _Kept(swapper),
            [lambda _: sink],
            guard_factory=lambda info: Guard(live=info.live),
            lossless=live_fps is None,
        )
