"""Measures extraction: speed, what is found, memory. Rendered films in, a table and JSON out.

    python -m benchmarks.extraction --work DIR [--frames 240] [--speed-seconds 120] [--long-minutes 10]
        [--detectors mediapipe dlib] [--json FILE]

An actor talks, turns by 40 degrees and passes a hand before his face, filmed at 640x480 and at 1280x720; what was
rendered before in DIR is kept. His film is repeated, without being encoded again: for SPEED seconds to measure speed
on one core and on two, and for so many minutes to watch the memory of two processes.

    cpu_ms        processor time of a frame by stage: decode, detect, mesh, align, measure, write; join: near duplicates
                  and persons; rest: what is around them, and loading the networks once
    fps           frames per second of one process that may use one core only (where the system can hold it to that),
                  and of two processes, starting them included; dlib is measured on one core, on the film itself
    found         share of the frames in which a face was found; one is there in each of them
    mesh_error    mean distance of the mesh from the exact one, in outer eye distances, on the frames in which both
                  detectors have found the face
    memory        MiB resident in all processes together: at the most in the first fifth of the film, and in the last
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.acted_film import act, count, repeat
from benchmarks.stage_clock import STAGES, CpuClock, timed_stages
from realtime import machine
from realtime.errors import LiveswapError
from realtime.files import write_atomically
from realtime.frame import Face
from realtime.screen import Screen
from realtime.video_file import VideoFile
from training import extract as extraction
from training import search
from training.extract_config import ExtractConfig

Detector = Literal["mediapipe", "dlib"]

ROOT = Path(__file__).parents[1]
SIZES = (640, 480), (1280, 720)
_RIGHT_EYE_OUTER, _LEFT_EYE_OUTER = 33, 263
_SAMPLE_S = 0.2


def speed(video: Path, detector: Detector, frames: int, *, two: bool) -> dict[str, Any]:
    """Stages, and frames per second on one core and, if wanted, of two processes on all."""
    config, clock = ExtractConfig(detector=detector), CpuClock()
    with tempfile.TemporaryDirectory(dir=video.parent) as place:
        began_s, cpu_s = time.monotonic(), time.process_time()
        with one_core(), timed_stages(clock):
            report = extraction.extract([video], Path(place) / "set", config)
        wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        clock.spent_s["rest"] = cpu_s - sum(clock.spent_s.values())
        began_s = time.monotonic()
        both = extraction.extract([video], Path(place) / "both", config, jobs=2) if two else None
        both_s = time.monotonic() - began_s
    if both and both.sha256 != report.sha256:
        raise LiveswapError("two processes gave other faces than one; this is a bug")
    return {
        "frames": frames,
        "cpu_ms": {stage: round(1e3 * spent / frames, 3) for stage, spent in clock.spent_s.items()},
        "cpu_ms_per_frame": round(1e3 * cpu_s / frames, 2),
        "fps": {"one core": round(frames / wall_s, 1), "two cores": round(frames / both_s, 1) if both else None},
        "faces": report.faces,
        "left_out": report.sources[0].left_out,
    }


@contextmanager
def one_core() -> Iterator[None]:
    """Hold the threads that this one starts meanwhile to one processor core, where the system can; Linux can."""
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def find_all(video: Path, detector: Detector) -> list[Face | None]:
    """The face of each frame, or none."""
    finder = search.open_detector(ExtractConfig(detector=detector))
    with VideoFile(video) as source:
        found = [next(iter(finder.find(frame)), None) for frame in source]
    finder.close()
    return found


def compare(video: Path, detectors: Sequence[Detector]) -> dict[str, dict[str, float]]:
    """What each detector has found, and how near its mesh is to the exact one."""
    exact = np.load(video.with_suffix(".npy"), allow_pickle=False)
    seen = {detector: find_all(video, detector) for detector in detectors}
    common = [i for i in range(len(exact)) if all(faces[i] for faces in seen.values())]
    rows: dict[str, dict[str, float]] = {}
    for detector, faces in seen.items():
        errors = [mesh_error(face, exact[i]) for i in common if (face := faces[i])]
        share = sum(face is not None for face in faces) / len(faces)
        rows[detector] = {"found": round(share, 4), "mesh_error": round(float(np.mean(errors)), 4) if errors else 0.0}
    return rows


def mesh_error(face: Face, exact: NDArray[np.float32]) -> float:
    """Mean distance of the points, in outer eye distances."""
    apart = np.linalg.norm(face.landmarks[:468, :2] - exact, axis=1).mean()
    return float(apart / np.linalg.norm(exact[_RIGHT_EYE_OUTER] - exact[_LEFT_EYE_OUTER]))


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    mib: float


def memory(video: Path, jobs: int) -> dict[str, Any]:
    """What an extraction of the whole video holds in memory, in all its processes."""
    samples: list[_Sample] = []
    with tempfile.TemporaryDirectory(dir=video.parent) as place:
        command = [sys.executable, str(ROOT / "liveswap.py"), "extract", str(video), "--out", f"{place}/set", "-q"]
        command += ["--jobs", str(jobs), "--json", f"{place}/report.json"]
        began_s = time.monotonic()
        process = subprocess.Popen(command, start_new_session=True, env=dict(os.environ, PYTHONPATH=str(ROOT)))
        while process.poll() is None:
            samples.append(_Sample(time.monotonic() - began_s, resident_mib(process.pid)))
            time.sleep(_SAMPLE_S)
        if process.returncode:
            raise LiveswapError("the long extraction failed; its sentence is above")
        report = json.loads(Path(f"{place}/report.json").read_text())
    end_s = samples[-1].at_s
    return {
        "frames": report["frames"],
        "faces": report["faces"],
        "seconds": report["seconds"],
        "first_fifth_mib": round(max(each.mib for each in samples if each.at_s <= end_s / 5), 1),
        "last_fifth_mib": round(max(each.mib for each in samples if each.at_s >= end_s * 4 / 5), 1),
        "peak_mib": round(max(each.mib for each in samples), 1),
    }


def resident_mib(session: int) -> float:
    """Memory of all processes of a session; pages that several share count for each."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[3]) == session:
            pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(
    work: Path, frames: int, speed_s: float, long_minutes: float, detectors: Sequence[Detector], screen: Screen
) -> dict[str, Any]:
    """The whole report."""
    cv2.setNumThreads(1)
    work.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"films": {}}
    for size in SIZES:
        name = f"{size[0]}x{size[1]}"
        screen.note(f"{name}: filming")
        video = act(work, size, frames)
        found = compare(video, detectors)
        report["films"][name] = {}
        longer = repeat(video, work / f"speed-{name}.mp4", speed_s / 60)
        for detector in detectors:
            screen.note(f"{name}: extracting with {detector}")
            default = detector == "mediapipe"
            timed = (
                speed(longer, detector, count(longer), two=True)
                if default
                else speed(video, detector, frames, two=False)
            )
            report["films"][name][detector] = {**found[detector], **timed}
    if long_minutes:
        screen.note(f"extracting {long_minutes:g} minutes")
        video = act(work, SIZES[0], frames)
        long = repeat(video, work / "long.mp4", long_minutes)
        report["memory"] = {"minutes": long_minutes, "jobs": 2, **memory(long, 2)}
    load = round(os.getloadavg()[0], 1)
    return {**report, "load_average": load, "machine": machine.describe()}


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    text = [f"{'processor ms a frame':24}" + "".join(f"{stage:>9}" for stage in STAGES) + f"{'all':>9}"]
    for name, detectors in report["films"].items():
        for detector, row in detectors.items():
            stages = "".join(f"{row['cpu_ms'][stage]:9.2f}" for stage in STAGES)
            text.append(f"{name + ' ' + detector:24}{stages}{row['cpu_ms_per_frame']:9.2f}")
    text.append(f"{'':24}{'fps, 1 core':>12}{'2 cores':>12}{'found':>9}{'mesh error':>12}")
    for name, detectors in report["films"].items():
        for detector, row in detectors.items():
            one, two = row["fps"].values()
            found, error = 100 * row["found"], 100 * row["mesh_error"]
            text.append(
                f"{name + ' ' + detector:24}{one:12.1f}{'-' if two is None else format(two, '.1f'):>12}"
                f"{found:8.1f}%{error:11.1f}%"
            )
    if held := report.get("memory"):
        text.append(
            f"{held['minutes']:g} minutes, {held['faces']} faces: {held['first_fifth_mib']:.0f} MiB in the first fifth "
            f"of the time, {held['last_fifth_mib']:.0f} in the last"
        )
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; 1 when something cannot be measured."""
    parser = argparse.ArgumentParser(description="Measure the extraction of faces.")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--frames", type=int, default=240, metavar="N", help="of each film; default: 240")
    parser.add_argument("--speed-seconds", type=float, default=120.0, metavar="S", help="of film; default: 120")
    parser.add_argument("--long-minutes", type=float, default=10.0, metavar="M", help="0: leave it out; default: 10")
    parser.add_argument("--detectors", nargs="+", default=["mediapipe", "dlib"], choices=("mediapipe", "dlib"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    screen = Screen(quiet=False, json_on_stdout=False)
    try:
        report = measure(args.work, args.frames, args.speed_seconds, args.long_minutes, args.detectors, screen)
    except LiveswapError as error:
        screen.warn(str(error))
        return error.exit_code
    screen.say("\n".join(lines(report)))
    if args.json:
        write_atomically(args.json, json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
