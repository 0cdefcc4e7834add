"""Describes the machine that a figure was measured on. Nothing in; processor, cores, system and versions out.

No host name, no user name, no paths: the description travels in reports.
"""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

_LIBRARIES = {
    "numpy": ("numpy",),
    "opencv": ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
    "av": ("av",),
}


def describe() -> dict[str, Any]:
    """cpu: model name; cores: usable logical processors; os; python; versions: library -> version (absent: None)."""
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "os": _system(),
        "python": platform.python_version(),
        "versions": {name: _version(distributions) for name, distributions in _LIBRARIES.items()},
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(("model name", "Model")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}".strip()


def _version(distributions: tuple[str, ...]) -> str | None:
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None
