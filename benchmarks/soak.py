"""Runs the live loop for a long time on what is hard for it, and judges every picture. Frames in, JSON out.

    python -m benchmarks.soak --frames 20000 --json FILE [--paced]

Two rendered actors with hands, a card and turned heads, see benchmarks.hard_film; the source breaks every 500 frames:
by turns it raises, ends, or delivers garbage before it raises. Everything else is the real thing: SteadySource, the
shipped model, guard, badge, the pipeline with its threads, and a recording that begins anew all the time.

Note [What counts as a raw face]
    The judge is a sink that trusts no counter of the loop. It knows which pixels of each source picture show the
    performer's face. A published picture that shows at least half of them, or half of those among eyes, nose and mouth,
    exactly as they were, is a raw face; so is one that shows the face of one of the last pictures.

Limits: no raw face, no thread left behind, and less than 30 MB more memory than after the warm-up. A broken limit is a
sentence and exit code 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any, Self

import cv2
import numpy as np

from benchmarks.hard_film import Shot, film
from realtime import machine
from realtime.detect import FACES_IN_VIEW, FaceFinder
from realtime.errors import SourceError
from realtime.files import write_atomically
from realtime.frame import Frame, ImageU8
from realtime.guard import Guard
from realtime.infer import open_engine
from realtime.pipeline import run_pipeline
from realtime.report import Progress, RunReport
from realtime.screen import Screen
from realtime.sink import Sink
from realtime.source import BT709, SourceInfo
from realtime.steady_source import SteadySource
from realtime.swap import FaceSwapper, SwapResult
from realtime.video_writer import VideoWriter

MODEL = Path(__file__).parents[1] / "realtime" / "models" / "demo.dfm"
FPS = 30
LOOP_FRAMES = 360
MOST_GROWTH_MB = 30.0
RAW_SHARE = 0.5
"""See Note [What counts as a raw face]."""
_PAST = 10
"""Pictures back for which the judge looks for a stale raw face; it looks at every fourth pixel of those."""
_STRIP_PX = 8
"""Rows at the top, where there is neither a face nor the badge: they tell which moment a picture shows."""
_GRACE_S = 5.0
_RECORDING_FRAMES = 1000


class InStep:
    """Lets the source run as fast as the judge, with two frames under way: so every picture is judged."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(2)

    def wait(self) -> None:
        """Until there is room for one more frame; not for long, because before the first swap nothing is published."""
        self._free.acquire(timeout=0.5)

    def done(self) -> None:
        """One picture has been judged."""
        with suppress(ValueError):  # a stand-in for silence, which is no frame of the source
            self._free.release()


class BreakingSource:
    """Plays the shots from where the one before it broke off, and breaks after `every` frames itself.

    Its frames count from 0, as those of a camera that was opened anew. Endless: the run is stopped from outside.
    """

    def __init__(
        self, shots: Sequence[Shot], first: int, every: int, pace: InStep | None, count: Callable[[], None]
    ) -> None:
        height, width = shots[0].image.shape[:2]
        self.info = SourceInfo("actors", width, height, Fraction(FPS), None, live=True, colour=BT709)
        self._shots, self._first, self._every, self._pace, self._count = shots, first, every, pace, count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        start_s = time.monotonic()
        for index in range(self._every):
            if self._pace is None:
                time.sleep(max(start_s + index / FPS - time.monotonic(), 0))
            else:
                self._pace.wait()
            self._count()
            image = self._shots[(self._first + index) % len(self._shots)].image
            yield Frame(image, index, time.monotonic(), time.monotonic() - start_s)
        kind = self._first // self._every % 3
        if kind == 1:
            return
        if kind == 2:
            yield from _garbage(self._shots[0].image)
        raise SourceError("the camera was unplugged; plug it in")

    def close(self) -> None:
        """Nothing is held open between frames."""


def _garbage(image: ImageU8) -> Iterator[Any]:
    """What a broken driver hands over instead of frames."""
    yield None
    yield image[:0]
    yield "\0"


class WatchedSwapper:
    """The real swapper; it notes frames that the judge would misplace."""

    def __init__(self, swapper: FaceSwapper, shots: Sequence[Shot]) -> None:
        self._swapper, self._shots = swapper, shots
        self.provider = swapper.provider
        self.strays = 0

    def swap(self, frame: Frame) -> SwapResult:
        """Swap one frame."""
        self.strays += frame.image is not self._shots[frame.index % len(self._shots)].image
        return self._swapper.swap(frame)

    def close(self) -> None:
        """Free the networks."""
        self._swapper.close()


@dataclass
class Verdict:
    """What the judge saw in the pictures of one scene."""

    shown: int = 0
    current: int = 0
    """Pictures of the moment itself, no stand-ins."""
    raw: int = 0
    stolen: int = 0
    """Pictures of the moment in which somebody else's face was swapped."""
    kept: list[float] = field(default_factory=list)
    """Share of the performer's inner face that a picture of the moment shows as it was."""


class Judge:
    """A sink that counts raw faces, see Note [What counts as a raw face]."""

    name = "judge"

    def __init__(self, shots: Sequence[Shot], pace: InStep | None = None) -> None:
        self._shots, self._pace = shots, pace
        self.scenes: dict[str, Verdict] = {}
        self.raw: list[tuple[int, str, float]] = []
        """Index, scene and yaw of every raw face."""

    def send(self, frame: Frame) -> None:
        """Judge one picture."""
        shot = self._shot(frame.index)
        verdict = self.scenes.setdefault(shot.scene, Verdict())
        verdict.shown += 1
        current = bool((frame.image[:_STRIP_PX] == shot.image[:_STRIP_PX]).all())
        verdict.current += current
        if current and shot.performer is not None:
            verdict.kept.append(shot.performer.kept(frame.image)[1])
        if current and shot.guest is not None:
            verdict.stolen += shot.guest.kept(frame.image)[1] < RAW_SHARE
        if self._is_raw(frame):
            verdict.raw += 1
            self.raw.append((frame.index, shot.scene, round(shot.yaw, 1)))
        if self._pace is not None:
            self._pace.done()

    def close(self) -> None:
        """Nothing happens."""

    def abort(self) -> None:
        """Nothing happens."""

    def _shot(self, index: int) -> Shot:
        return self._shots[index % len(self._shots)]

    def _is_raw(self, frame: Frame) -> bool:
        for back in range(min(_PAST, frame.index) + 1):
            face = self._shot(frame.index - back).performer
            if face is not None and max(face.kept(frame.image, step=4 if back else 1)) >= RAW_SHARE:
                return True
        return False


class RollingRecording:
    """A sink that records, begins a new file every so often and deletes the one before."""

    name = "recording"

    def __init__(self, folder: Path, info: SourceInfo, every: int = _RECORDING_FRAMES) -> None:
        self._folder, self._info, self._every = folder, info, every
        self._names = (folder / f"soak_{number}.mp4" for number in itertools.count())
        self._path = next(self._names)
        self._writer = VideoWriter(self._path, info, crf=28)
        self._count = 0
        self.files = 0

    def send(self, frame: Frame) -> None:
        """Record one frame."""
        if self._count == self._every:
            self._finish()
            self._path = next(self._names)
            self._writer = VideoWriter(self._path, self._info, crf=28)
            self._count = 0
        self._writer.send(frame)
        self._count += 1

    def close(self) -> None:
        """Finish the last file."""
        self._finish()

    def abort(self) -> None:
        """Leave the last file unfinished."""
        self._writer.abort()

    def _finish(self) -> None:
        self._writer.close()
        self.files += self._path.exists()
        self._path.unlink(missing_ok=True)


def rss_mb() -> float:
    """Memory that this process holds, megabytes; on systems without /proc its highest value so far."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


class Soak:
    """One run over all its frames."""

    def __init__(
        self, shots: Sequence[Shot], model: Path, *, frames: int, every: int, paced: bool, first_wait_s: float = 0.5
    ) -> None:
        self._shots, self._model, self._frames, self._every = shots, model, frames, every
        self._pace = None if paced else InStep()
        self._first_wait_s = first_wait_s
        self._delivered = 0
        self._stop = threading.Event()
        self._memory: list[tuple[int, float]] = []
        self._judge = Judge(shots, self._pace)
        self._steady: SteadySource | None = None
        self._swapper: WatchedSwapper | None = None
        self._recording: RollingRecording | None = None

    def run(self, folder: Path, on_progress: Callable[[int], None] | None = None) -> dict[str, Any]:
        """Run to the end; recordings lie in `folder` meanwhile."""
        before = set(threading.enumerate())
        began_s = time.monotonic()

        def watch(progress: Progress) -> None:
            self._memory.append((self._delivered, rss_mb()))
            if on_progress is not None:
                on_progress(self._delivered)

        report = run_pipeline(
            self._open_source,
            self._open_swapper,
            [lambda _: self._judge, lambda info: self._open_recording(folder, info)],
            guard_factory=lambda info: Guard(live=info.live),
            lossless=False,
            on_progress=watch,
            stop=self._stop,
        )
        deadline_s = time.monotonic() + _GRACE_S
        while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return self._figures(report, sorted(thread.name for thread in left), time.monotonic() - began_s)

    def _open_source(self) -> SteadySource:
        self._steady = SteadySource(self._open_actors, give_up_s=30.0, first_wait_s=self._first_wait_s)
        return self._steady

    def _open_actors(self) -> BreakingSource:
        return BreakingSource(self._shots, self._delivered, self._every, self._pace, self._count)

    def _open_swapper(self) -> WatchedSwapper:
        swapper = FaceSwapper(FaceFinder(max_faces=FACES_IN_VIEW), open_engine(self._model, threads=1), live=True)
        self._swapper = WatchedSwapper(swapper, self._shots)
        return self._swapper

    def _open_recording(self, folder: Path, info: SourceInfo) -> Sink:
        self._recording = RollingRecording(folder, info)
        return self._recording

    def _count(self) -> None:
        self._delivered += 1
        if self._delivered >= self._frames:
            self._stop.set()

    def _figures(self, report: RunReport, stuck: list[str], seconds: float) -> dict[str, Any]:
        scenes, steady, swapper = self._judge.scenes, self._steady, self._swapper
        assert steady is not None
        assert swapper is not None
        memory = self._growth()
        return {
            "frames": self._delivered,
            "rss_growth_mb": memory["growth"],
            "raw_face_frames": len(self._judge.raw),
            "stuck_threads": len(stuck),
            "reconnects": steady.cuts,
            "states": report.states,
            "judged": sum(each.shown for each in scenes.values()),
            "raw_faces": self._judge.raw[:50],
            "raw_face_frames_by_the_pipeline": report.raw_face_frames,
            "failed_frames": report.failed_frames,
            "strays": swapper.strays,
            "garbage": steady.garbage,
            "stuck": stuck,
            "recordings": self._recording.files if self._recording else 0,
            "dropped": report.dropped,
            "scenes": {name: _summary(each) for name, each in scenes.items()},
            "rss_mb": memory,
            "seconds": round(seconds, 1),
            "fps": report.fps,
            "latency_ms": report.latency_ms,
            "queue_max": report.queue_max,
        }

    def _growth(self) -> dict[str, Any]:
        """Memory, megabytes: the median of every tenth of the run, and how much it grew from the second to the last."""
        tenths: dict[int, list[float]] = {}
        for delivered, mb in self._memory:
            tenths.setdefault(min(10 * delivered // self._frames, 9), []).append(mb)
        medians = [round(median(tenths[tenth]), 2) for tenth in sorted(tenths)]
        growth = medians[-1] - medians[1] if len(medians) > 1 else 0.0
        return {"growth": round(growth, 2), "tenths": medians, "peak": round(max(mb for _, mb in self._memory), 2)}


def _summary(verdict: Verdict) -> dict[str, Any]:
    shares = np.array(verdict.kept or [0.0])
    return {
        "shown": verdict.shown,
        "of the moment": verdict.current,
        "raw": verdict.raw,
        "guest swapped": verdict.stolen,
        "face kept p50": round(float(np.median(shares)), 4),
        "face kept p99": round(float(np.percentile(shares, 99)), 4),
        "face kept max": round(float(shares.max()), 4),
    }


def broken_limits(report: dict[str, Any], *, reconnects: int) -> list[str]:
    """A sentence for every limit that a report breaks; `reconnects`: how many there must have been."""
    broken = []
    if report["raw_face_frames"]:
        scenes = Counter(scene for _, scene, _ in report["raw_faces"])
        broken.append(
            f"{report['raw_face_frames']} raw faces were published, most of them in: {scenes.most_common(1)[0][0]}"
        )
    if report["strays"]:
        broken.append(f"the judge lost its place in {report['strays']} frames, so its count means nothing")
    if report["rss_growth_mb"] >= MOST_GROWTH_MB:
        broken.append(
            f"memory grew by {report['rss_growth_mb']:.1f} MB after the warm-up, {MOST_GROWTH_MB:g} are allowed"
        )
    if report["stuck_threads"]:
        broken.append(f"{report['stuck_threads']} threads were left behind: {', '.join(report['stuck'])}")
    if report["reconnects"] < reconnects:
        broken.append(f"the source was lost {report['reconnects']} times, {reconnects} were meant")
    if not report["states"].get("live"):
        broken.append("nothing was swapped, so the run proves nothing")
    return broken


def main(argv: Sequence[str] | None = None) -> int:
    """Run, judge, write; 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description="Run the live loop for a long time and judge every picture.")
    parser.add_argument("--frames", type=int, default=20_000, metavar="N")
    parser.add_argument("--every", type=int, default=500, metavar="N", help="frames from one disconnection to the next")
    parser.add_argument("--loop", type=int, default=LOOP_FRAMES, metavar="N", help="rendered before; default: 360")
    parser.add_argument("--paced", action="store_true", help="30 frames a second; otherwise as fast as the swap")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="NAME.dfm")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    if args.frames < 10 or args.every < 2 or args.loop < 10:
        parser.error("a soak has at least 10 frames, a loop of 10, and 2 frames between disconnections")
    cv2.setNumThreads(1)
    screen = Screen(quiet=False, json_on_stdout=False)
    with screen.progress("film") as meter:
        shots = []
        for shot in film(args.loop):
            shots.append(shot)
            meter.update(len(shots), args.loop, f"{len(shots)} of {args.loop} pictures")
    soak = Soak(shots, args.model, frames=args.frames, every=args.every, paced=args.paced)
    with tempfile.TemporaryDirectory() as folder, screen.progress("soak") as meter:
        report = soak.run(
            Path(folder), lambda done: meter.update(done, args.frames, f"{done} frames, {rss_mb():.0f} MB")
        )
    report |= {"every": args.every, "loop": args.loop, "paced": args.paced, "machine": machine.describe()}
    screen.say(
        f"{report['frames']} frames, {report['judged']} judged, {report['raw_face_frames']} raw faces, "
        f"{report['reconnects']} reconnections, memory {report['rss_growth_mb']:+.1f} MB, "
        f"{report['stuck_threads']} stuck threads, {report['fps']:.0f} fps"
    )
    for name, scene in report["scenes"].items():
        screen.say(f"  {name:12}" + "  ".join(f"{key} {value}" for key, value in scene.items()))
    if args.json:
        write_atomically(args.json, json.dumps(report, indent=2) + "\n")
    broken = broken_limits(report, reconnects=(args.frames - 1) // args.every)
    for sentence in broken:
        screen.warn(f"{sentence}.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
