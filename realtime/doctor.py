"""Tells what works on this machine. Nothing in, a Report out: what was found, and what to install.

Everything that can be tried is tried: the demo model runs, a test picture goes through each output and comes back.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from realtime import devices, machine, round_trip
from realtime.errors import LiveswapError, SinkError, SourceError

Status = Literal["ok", "warn", "missing", "failed"]

DEMO_MODEL = Path(__file__).with_name("models") / "demo.dfm"
ENCODERS = ("libx264", "aac")
_RUNS = 20
_LEAST_FREE, _SCARCE_FREE = 100 * 2**20, 2 * 2**30
"""Bytes: without the first no recording begins, below the second a long one may not end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test found."""

    status: Status
    sentence: str
    remedy: str = ""
    """What to do about it; empty where there is nothing to do."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What was measured or listed, for machines."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing to try. What it raises becomes its finding."""

    name: str
    run: Callable[[], Finding]
    essential: bool = False
    """Whether nothing can be swapped when it fails."""
    absent: Status = "failed"
    """What an error of ours means."""


@dataclass(frozen=True, slots=True)
class Check:
    """A test that was run."""

    name: str
    essential: bool
    finding: Finding


@dataclass(frozen=True, slots=True)
class Report:
    """All checks, in order."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether everything essential works."""
        return not any(each.essential and each.finding.status == "failed" for each in self.checks)

    def lines(self) -> list[str]:
        """A table for people, the remedy below what needs one."""
        width = max((len(each.name) for each in self.checks), default=0)
        rows = []
        for each in self.checks:
            rows.append(f"{each.finding.status:<8} {each.name:<{width}}  {each.finding.sentence}")
            if each.finding.remedy:
                rows.append(f"{'':<{width + 11}}-> {each.finding.remedy}")
        return rows

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `ok`, `machine`, and `checks` with name, essential, status, sentence, remedy, figures."""
        checks = [{"name": each.name, "essential": each.essential, **asdict(each.finding)} for each in self.checks]
        return {"ok": self.ok, "machine": machine.describe(), "checks": checks}


def examine(*, tests: Sequence[Trial] | None = None) -> Report:
    """Run `tests`, by default all there are; main thread, some seconds. Never raises: what breaks is a finding."""
    return Report(tuple(_run(each) for each in (TRIALS if tests is None else tests)))


def _run(test: Trial) -> Check:
    try:
        finding = test.run()
    except LiveswapError as error:
        sentence, _, remedy = str(error).partition("; ")
        finding = Finding(test.absent, sentence, remedy)
    except Exception as error:  # a machine that is to be examined may break anything
        said = " ".join(str(error).split())
        finding = Finding("failed", f"the test itself broke: {type(error).__name__}: {said}", "install liveswap again")
    return Check(test.name, test.essential, finding)


def _system() -> Finding:
    facts = machine.describe()
    versions: dict[str, str | None] = facts["versions"]
    absent = sorted(name for name, version in versions.items() if version is None)
    row = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    sentence = f"{facts['os']}, {facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {row}"
    if absent:
        return Finding("failed", f"{', '.join(absent)} is not installed", "install liveswap again", facts)
    return Finding("ok", sentence, figures=facts)


def _engine() -> Finding:
    """The demo model really runs: on which provider, and how fast."""
    import onnxruntime

    from realtime.infer import open_engine

    with open_engine(DEMO_MODEL) as engine:
        size = engine.dfm.resolution
        image = np.full((size, size, 3), 127, np.uint8)
        took_ms = []
        for _ in range(_RUNS):
            began_s = time.perf_counter()
            painted = engine.run(image).face
            took_ms.append(1000 * (time.perf_counter() - began_s))
        provider = engine.provider
    if not np.isfinite(painted).all():
        return Finding("failed", f"the demo model paints nothing on {provider}", "install onnxruntime again")
    available = [str(each) for each in onnxruntime.get_available_providers()]
    ms = statistics.median(took_ms)
    sentence = f"the demo model ({size} px) ran on {provider} in {ms:.1f} ms; available: {', '.join(available)}"
    return Finding("ok", sentence, figures={"provider": provider, "ms": ms, "available": available})


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("missing", "no NVIDIA driver was found: models run on the processor")
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return Finding(
            "warn", "nvidia-smi is there but does not answer", "install the NVIDIA driver again, and restart"
        )
    return Finding("ok", "; ".join(told.splitlines()), figures={"gpus": told.splitlines()})


def _encoders() -> Finding:
    import av

    lacking = []
    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except (ValueError, av.FFmpegError):
            lacking.append(name)
    if lacking:
        remedy = "install PyAV as a wheel: pip install --force-reinstall --only-binary av av"
        return Finding("failed", f"FFmpeg in PyAV {av.__version__} has no {' and no '.join(lacking)}", remedy)
    return Finding("ok", f"FFmpeg in PyAV {av.__version__} encodes with {' and '.join(ENCODERS)}")


def _cameras() -> Finding:
    found = devices.list_cameras()
    row = devices.describe_cameras(found)
    if not found:
        sentence, _, remedy = row.partition("; ")
        return Finding("missing", sentence, remedy)
    trouble = next((f"{each.title}: {each.trouble}" for each in found if each.trouble), "")
    listed = {"cameras": [asdict(each) for each in found]}
    return Finding("warn" if trouble else "ok", row, trouble, listed)


def _microphones() -> Finding:
    found = devices.list_microphones()
    if not found:
        return Finding("missing", "no microphone was found", "plug one in, or record without --microphone")
    listed = {"microphones": [asdict(each) for each in found]}
    return Finding("ok", ", ".join(each.name for each in found), figures=listed)


def _display() -> Finding:
    from realtime.screen_region import ScreenRegion

    with ScreenRegion() as screen:
        return Finding("ok", f"a screen of {screen.info.width}x{screen.info.height} pixels can be filmed")


def _virtual_camera() -> Finding:
    figures: dict[str, Any] = {"backends": [], "devices": _virtual_devices()}
    if importlib.util.find_spec("pyvirtualcam") is not None:
        import pyvirtualcam.camera

        figures["backends"] = sorted(pyvirtualcam.camera.BACKENDS)
    try:
        sentence = round_trip.through_virtual_camera()
    except SinkError as error:
        sentence, _, remedy = str(error).partition("; ")
        return Finding("missing", sentence, remedy, figures)
    return Finding("ok", sentence, figures=figures)


def _virtual_devices() -> list[str]:
    """Those of the cameras whose pictures a program draws."""
    try:
        return [each.path for each in devices.list_cameras() if each.virtual]
    except SourceError:
        return []


def _disk() -> Finding:
    free = shutil.disk_usage(os.getcwd()).free
    sentence, figures = f"{free / 2**30:.1f} GiB are free in this folder", {"free_bytes": free}
    if free < _SCARCE_FREE:
        return Finding(
            "failed" if free < _LEAST_FREE else "warn", sentence, "make room before recording: an hour takes 1 to 5 GiB"
        )
    return Finding("ok", sentence, figures=figures)


def _video_file() -> Finding:
    sentence, levels = round_trip.through_video_file()
    return Finding("ok", sentence, figures={"levels": levels})


def _stream() -> Finding:
    sentence, levels = round_trip.through_udp()
    return Finding("ok", sentence, figures={"levels": levels})


TRIALS = (
    Trial("system", _system, essential=True),
    Trial("engine", _engine, essential=True),
    Trial("GPU", _gpu),
    Trial("encoders", _encoders, essential=True),
    Trial("cameras", _cameras, absent="warn"),
    Trial("microphones", _microphones, absent="warn"),
    Trial("screen", _display, absent="missing"),
    Trial("disk", _disk),
    Trial("sink null", lambda: Finding("ok", round_trip.through_nothing()), essential=True),
    Trial("sink video", _video_file, essential=True),
    Trial("sink udp://", _stream),
    Trial("sink preview", lambda: Finding("ok", round_trip.through_window()), absent="missing"),
    Trial("sink camera", _virtual_camera, absent="missing"),
)
