"""Rebuilds realtime/models/face_*.onnx. The MediaPipe wheel in, four ONNX files out.

    python -m export.face_models [--wheel FILE] [--out DIR]

The wheel is only unzipped, so its platform and Python version do not matter; without --wheel pip fetches it (36 MB).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from export.tflite_file import read_tflite
from export.tflite_to_onnx import convert
from realtime.errors import ExportError, LiveswapError
from realtime.face_nets import MODELS

WHEEL = "mediapipe==0.10.21"
"""The last release that contains the networks."""
SOURCES = {
    "face_detection/face_detection_short_range.tflite": (
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8"
    ),
    "face_detection/face_detection_full_range_sparse.tflite": (
        "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1"
    ),
    "face_landmark/face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    "face_landmark/face_landmark_with_attention.tflite": (
        "e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4"
    ),
}
"""The networks below mediapipe/modules in the wheel, and their SHA-256. The same in the wheels of all platforms."""

_log = logging.getLogger(__name__)


def download_wheel(folder: Path) -> Path:
    """Let pip download the wheel into `folder`. Raises ExportError when it cannot."""
    platform = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--only-binary=:all:", "--no-deps"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *platform, "--dest", str(folder), WHEEL]
    try:
        subprocess.run(command, check=True)
        return next(folder.glob("mediapipe-*.whl"))
    except (subprocess.CalledProcessError, StopIteration) as error:
        raise ExportError(f"pip could not download {WHEEL}; download the wheel elsewhere and pass --wheel") from error


def build(wheel: Path, out: Path) -> list[Path]:
    """Convert the four networks in `wheel` into `out` and return the files written.

    Raises ExportError when the wheel is not readable, or holds other networks than those that were tested.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for member, sha256 in SOURCES.items():
        content = _read_member(wheel, f"mediapipe/modules/{member}")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ExportError(f"{member} in {wheel} is not the network that was tested; take the wheel of {WHEEL}")
        metadata = {"source": f"{WHEEL} mediapipe/modules/{member}", "source_sha256": sha256, "license": "Apache-2.0"}
        path = out / Path(member).with_suffix(".onnx").name
        path.write_bytes(convert(read_tflite(content), metadata).SerializeToString(deterministic=True))
        _log.info("wrote %s, %d KiB", path, path.stat().st_size // 1024)
        written.append(path)
    return written


def _read_member(wheel: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(name)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise ExportError(f"{wheel} does not contain {name}; pass the wheel of {WHEEL} with --wheel") from error


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m export.face_models", description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {WHEEL}, any platform; downloaded if not given")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with tempfile.TemporaryDirectory() as folder:
            build(arguments.wheel or download_wheel(Path(folder)), arguments.out)
    except LiveswapError as error:
        _log.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
