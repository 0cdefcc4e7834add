"""Measures the live loop's processor time on real clips, beside DeepFaceLive's own. Two clips in, JSON out.

    python -m benchmarks.live_cpu --json FILE

Note [What is compared]
    DeepFaceLive's figures were measured once, with its own modules run headless in one process on ONNX Runtime's CPU
    engine with one thread, a model of 128 px and about 1 GMAC, and face rectangles that were computed before: it paid
    nothing for detection. That was another machine. The face mesh network with its crop and decoding is the same in
    both programs and took 3.9 ms there; what it takes here is the `machine_factor` by which its figures are scaled.
    A network of convolutions and a merge in memory do not scale alike, so this is an estimate, and it says so.

    Ours pays for detection, mesh, guard and badge, with one thread for OpenCV. The model has the same size as theirs,
    random weights, and masks that cover everything, since a frame whose mask covers nothing is refused and would cost
    nothing.

    bound_fps         what DeepFaceLive's processes could reach at best on two cores, there
    ratio             our threaded loop's frames per second against that bound, scaled by the machine factor
    ratio_same_model  the same, had it our model's time: only what lies around the model is compared
    cpu_ratio         processor time of a frame, its against ours, scaled
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import cv2

from benchmarks.community_model import write_light_model
from realtime import machine
from realtime.bench import run_bench
from realtime.bench_clip import Clip, Player, load_clip
from realtime.detect import FACES_IN_VIEW, FaceFinder
from realtime.errors import LiveswapError, SourceError
from realtime.face_mesh import FaceMesh
from realtime.files import write_atomically
from realtime.frame import Face, Frame, ImageU8
from realtime.infer import DEFAULT_MORPH, EngineOutput, OnnxEngine, open_engine
from realtime.region import region_of_mesh
from realtime.screen import Screen
from realtime.swap import FaceSwapper

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
PEER_MESH_MS = 3.9
"""The mesh network, its crop and its decoding, where DeepFaceLive was measured."""
CLIP_FRAMES, STAGE_FRAMES, WARMUP = 120, 300, 60
ENGINE_THREADS = 1, 2
"""Its bound uses two cores, so ours may, too: the better of both counts."""


@dataclass(frozen=True, slots=True)
class Peer:
    """DeepFaceLive's median processor milliseconds a frame, see Note [What is compared]."""

    detector: float
    marker: float
    aligner: float
    swap: float
    adjuster: float
    merger: float
    copies: float
    bound_fps: float
    """What its process for each stage could reach at best on two cores."""
    serial_fps: float
    """By processor time, all stages in one process."""
    wanted_ratio: float
    """How much faster than the bound ours is meant to be."""

    @property
    def around_ms(self) -> float:
        """Everything but the model."""
        return self.detector + self.marker + self.aligner + self.adjuster + self.merger + self.copies


@dataclass(frozen=True, slots=True)
class Case:
    """A clip, and what DeepFaceLive took on it."""

    size: str
    file: str
    peer: Peer


CASES = (
    Case(
        "480x480",
        "performer_talking_480x480.mp4",
        Peer(0.5, 9.4, 3.4, 42, 1.1, 40, 1.4, bound_fps=20, serial_fps=10, wanted_ratio=2),
    ),
    Case(
        "1280x720",
        "walking_small_face_1280x720.mp4",
        Peer(1.3, 10.6, 4.4, 42, 2.4, 109, 5.1, bound_fps=11, serial_fps=5.7, wanted_ratio=3),
    ),
)


class _CpuClock:
    """Processor time of the process by stage, milliseconds."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def time(self, stage: str, work: Callable[[], T]) -> T:
        """Do `work` and note what it took."""
        began_s = time.process_time()
        result = work()
        self.spent.setdefault(stage, []).append((time.process_time() - began_s) * 1e3)
        return result

    def middle(self, stage: str) -> float:
        """The median of a stage."""
        return median(self.spent[stage])


class _TimedFinder:
    def __init__(self, clock: _CpuClock) -> None:
        self._finder, self._clock = FaceFinder(max_faces=FACES_IN_VIEW), clock

    def find(self, frame: Frame) -> list[Face]:
        """The faces in a frame."""
        return self._clock.time("find", lambda: self._finder.find(frame))

    def close(self) -> None:
        """Free the networks."""
        self._finder.close()


class _TimedEngine:
    def __init__(self, engine: OnnxEngine, clock: _CpuClock) -> None:
        self._engine, self._clock = engine, clock
        self.dfm, self.provider = engine.dfm, engine.provider

    def run(self, image: ImageU8, morph: float = DEFAULT_MORPH) -> EngineOutput:
        """Paint the identity."""
        return self._clock.time("model", lambda: self._engine.run(image, morph))

    def close(self) -> None:
        """Free the model."""
        self._engine.close()


def stages_ms(model: Path, clip: Clip) -> dict[str, float]:
    """Median processor milliseconds of one frame: finding, the model, the rest of the swap, all of the swap."""
    clock = _CpuClock()
    with FaceSwapper(_TimedFinder(clock), _TimedEngine(open_engine(model, threads=1), clock)) as swapper:
        for frame in Player(clip, range(WARMUP)):
            swapper.swap(frame)
        clock.spent.clear()
        for frame in Player(clip, range(STAGE_FRAMES)):
            clock.time("swap", partial(swapper.swap, frame))
    found, ran, whole = clock.middle("find"), clock.middle("model"), clock.middle("swap")
    return {
        "find": round(found, 3),
        "model": round(ran, 3),
        "align, mask, colour, merge": round(whole - found - ran, 3),
        "whole swap": round(whole, 3),
    }


def mesh_ms(clip: Clip) -> float:
    """Median processor milliseconds of the face mesh network in a clip, crop and decoding included."""
    mesh, finder, clock = FaceMesh(threads=1), FaceFinder(), _CpuClock()
    for frame in Player(clip, range(STAGE_FRAMES)):
        for face in finder.find(frame):
            clock.time("mesh", partial(mesh.fit, frame.image, region_of_mesh(face.landmarks)))
    if "mesh" not in clock.spent:
        raise SourceError("no face was found in the clip; choose a video that shows a face")
    return clock.middle("mesh")


def measure(case: Case, clip_path: Path, model: Path, seconds: float, rounds: int, factor: float) -> dict[str, Any]:
    """All figures of one clip; `factor`: how much faster than the peer's this machine is."""
    benches = {
        threads: run_bench(
            model, source=str(clip_path), seconds=seconds, rounds=rounds, clip_frames=CLIP_FRAMES, threads=threads
        )
        for threads in ENGINE_THREADS
    }
    stages = stages_ms(model, load_clip(str(clip_path), 0, 0, CLIP_FRAMES))
    serial = benches[1]["modes"]["A"]
    threaded_fps = {threads: bench["modes"]["B"]["throughput"]["fps"] for threads, bench in benches.items()}
    peer, fps = case.peer, max(threaded_fps.values())
    same_model_ms = max((peer.around_ms / factor + stages["model"]) / 2, peer.merger / factor, stages["model"])
    return {
        "cpu_ms_per_frame": serial["cpu_ms_per_frame"],
        "serial_fps": serial["fps"],
        "threaded_fps": fps,
        "threaded_fps_by_engine_threads": threaded_fps,
        "live_latency_ms": benches[1]["latency_ms"],
        "swapped": serial["swapped"],
        "stages_cpu_ms": stages,
        "deepfacelive": asdict(peer),
        "ratio": round(fps / (peer.bound_fps * factor), 2),
        "ratio_unscaled": round(fps / peer.bound_fps, 2),
        "ratio_same_model": round(fps * same_model_ms / 1e3, 2),
        "cpu_ratio": round((peer.around_ms + peer.swap) / factor / serial["cpu_ms_per_frame"], 2),
        "wanted_ratio": peer.wanted_ratio,
    }


def live_cpu(folder: Path, *, seconds: float, rounds: int) -> dict[str, Any]:
    """The whole report. Raises LiveswapError where a clip is missing."""
    cv2.setNumThreads(1)
    for case in CASES:
        if not (folder / case.file).is_file():
            raise SourceError(f"there is no {case.file} in {folder}; say with --clips where it is")
    here_ms = mesh_ms(load_clip(str(folder / CASES[0].file), 0, 0, CLIP_FRAMES))
    factor = PEER_MESH_MS / here_ms
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "light.dfm"
        macs = write_light_model(model)
        clips = {case.size: measure(case, folder / case.file, model, seconds, rounds, factor) for case in CASES}
    return {
        "clips": clips,
        "model": {"resolution": 128, "gmac": round(macs / 1e9, 3), "weights": "random, masks that cover everything"},
        "machine_factor": round(factor, 3),
        "mesh_ms": {"here": round(here_ms, 3), "where the peer was measured": PEER_MESH_MS},
        "machine": machine.describe(),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    text = [
        f"DeepFaceLive was measured on another machine; by the face mesh network this one is "
        f"{report['machine_factor']:.2f} times as fast, and its figures below are scaled by that."
    ]
    for size, each in report["clips"].items():
        peer, factor, stages = each["deepfacelive"], report["machine_factor"], each["stages_cpu_ms"]
        find = peer["detector"] + peer["marker"]
        merge = sum(peer[name] for name in ("aligner", "adjuster", "merger", "copies"))
        text += [
            "",
            f"{size:32}{'liveswap':>10}{'DeepFaceLive':>14}   CPU ms a frame",
            f"{'find the face and its mesh':32}{stages['find']:10.2f}{find / factor:14.2f}",
            f"{'model':32}{stages['model']:10.2f}{peer['swap'] / factor:14.2f}",
            f"{'align, mask, colour, merge':32}{stages['align, mask, colour, merge']:10.2f}{merge / factor:14.2f}",
            f"{'frames per second, two cores':32}{each['threaded_fps']:10.1f}{peer['bound_fps'] * factor:14.1f}   "
            "(its bound)",
            f"{each['ratio']:.1f} times its bound, {each['ratio_same_model']:.1f} times if it had our model time; "
            f"{each['cpu_ratio']:.1f} times by processor time; wanted: {each['wanted_ratio']:g}",
        ]
    return text


def too_slow(report: dict[str, Any]) -> list[str]:
    """A sentence for each clip on which ours is not as much faster as it is meant to be."""
    return [
        f"{size}: {each['ratio']:.2f} times DeepFaceLive's bound, {each['wanted_ratio']:g} times is wanted"
        for size, each in report["clips"].items()
        if each["ratio"] < each["wanted_ratio"]
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; 1 when a clip is missing or the wanted ratio is not reached."""
    data = Path(os.environ.get("LIVESWAP_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description="Measure the live loop's processor time on real clips.")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--clips", type=Path, default=data / "clips", metavar="DIR")
    parser.add_argument("--seconds", type=float, default=15.0, metavar="S", help="for each mode and clip; default: 15")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    args = parser.parse_args(argv)
    screen = Screen(quiet=False, json_on_stdout=False)
    try:
        report = live_cpu(args.clips, seconds=args.seconds, rounds=args.rounds)
    except LiveswapError as error:
        screen.warn(str(error))
        return error.exit_code
    screen.say("\n".join(lines(report)))
    if args.json:
        write_atomically(args.json, json.dumps(report, indent=2) + "\n")
    slow = too_slow(report)
    for sentence in slow:
        screen.warn(f"{sentence}.")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
