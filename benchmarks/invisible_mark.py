"""Asks whether a library's invisible mark is good enough for a live stream. A rendered film in, a table and JSON out.

    pip install --no-deps invisible-watermark blind-watermark PyWavelets    # they are nobody's dependency here
    python -m benchmarks.invisible_mark [--frames 12] [--bits 32] [--json FILE]

Each method hides the same bits in every picture of a performance at 1280x720 and reads them again after what a stream
does to it. A method is good when it costs at most COST_MS and is read in at least READ of the pictures after H.264 at
500 kb/s, which the visible mark survives.

    cost_ms     processor time for hiding the bits in a picture
    psnr_db     of the marked picture, against the unmarked one
    right       share of the bits that are read correctly; guessing gives one half
    whole       share of the pictures in which all bits are

Libraries whose networks have to be downloaded when they run (TrustMark, VideoSeal) cannot be a part of liveswap, which
loads nothing at run time, and are not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from realtime import machine
from realtime.actors import BO, Actor, Renderer, motion
from realtime.files import write_atomically
from realtime.frame import ImageU8
from realtime.score import psnr

SIZE = 1280, 720
FPS = 30
COST_MS, READ = 4.0, 0.95
"""A visible mark may cost 0.3 ms; an eighth of a picture's time is the most that a second one would be worth."""
BIT_RATES = {"H.264 at 2 Mb/s": 2_000_000, "H.264 at 500 kb/s": 500_000}
Bits = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to hide bits in a picture."""

    hide: Callable[[ImageU8, Bits], ImageU8]
    read: Callable[[ImageU8, int], Bits]


def invisible_watermark(name: str) -> Method:
    """One of the methods of the package invisible-watermark. Raises ImportError without it."""
    library = importlib.import_module("imwatermark")
    if name == "rivaGan":
        library.WatermarkEncoder.loadModel()

    def hide(image: ImageU8, bits: Bits) -> ImageU8:
        encoder = library.WatermarkEncoder()
        encoder.set_watermark("bits", bits.tolist())
        return np.asarray(encoder.encode(image, name), np.uint8)

    def read(image: ImageU8, count: int) -> Bits:
        return np.asarray(library.WatermarkDecoder("bits", count).decode(image, name), np.uint8)

    return Method(hide, read)


def blind_watermark() -> Method:
    """The package blind-watermark. Raises ImportError without it."""
    library = importlib.import_module("blind_watermark")

    def hide(image: ImageU8, bits: Bits) -> ImageU8:
        marker = library.WaterMark(processes=1)
        marker.read_img(img=image)
        marker.read_wm(bits.astype(bool), mode="bit")
        return np.asarray(np.clip(np.rint(marker.embed()), 0, 255), np.uint8)

    def read(image: ImageU8, count: int) -> Bits:
        found = library.WaterMark(processes=1).extract(embed_img=image, wm_shape=count, mode="bit")
        return np.asarray(np.asarray(found) > 0.5, np.uint8)

    return Method(hide, read)


METHODS: dict[str, Callable[[], Method]] = {
    "invisible-watermark dwtDct": lambda: invisible_watermark("dwtDct"),
    "invisible-watermark dwtDctSvd": lambda: invisible_watermark("dwtDctSvd"),
    "invisible-watermark rivaGan": lambda: invisible_watermark("rivaGan"),
    "blind-watermark": blind_watermark,
}


def film(frames: int) -> list[ImageU8]:
    """A rendered performance."""
    camera = Renderer(Actor(BO), *SIZE)
    return [camera.render(pose, frame=index).image for index, pose in enumerate(motion(frames, FPS, 5))]


def through_h264(pictures: Sequence[ImageU8], bit_rate: int) -> list[ImageU8]:
    """The pictures as a receiver sees them."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "stream.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(FPS), options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *SIZE, "yuv420p", bit_rate
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            container.mux(stream.encode(None))
        with av.open(str(path)) as container:
            return [np.asarray(each.to_ndarray(format="bgr24"), np.uint8) for each in container.decode(video=0)]


def in_half_size(picture: ImageU8) -> ImageU8:
    """Shown at half the width and height by a video call, and enlarged again to be read."""
    small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)


def measure(method: Method, pictures: Sequence[ImageU8], bits: Bits) -> dict[str, Any]:
    """What hiding costs, and what is read after each journey."""
    method.hide(pictures[0], bits)
    began_s = time.process_time()
    marked = [method.hide(picture, bits) for picture in pictures]
    cost_ms = 1e3 * (time.process_time() - began_s) / len(pictures)
    journeys = {"nothing": marked} | {name: through_h264(marked, rate) for name, rate in BIT_RATES.items()}
    journeys["half size"] = [in_half_size(picture) for picture in marked]
    read = {name: [method.read(picture, len(bits)) == bits for picture in seen] for name, seen in journeys.items()}
    return {
        "cost_ms": round(cost_ms, 2),
        "psnr_db": round(float(np.mean([psnr(a, b) for a, b in zip(marked, pictures, strict=True)])), 2),
        "right": {name: round(float(np.mean(found)), 4) for name, found in read.items()},
        "whole": {name: round(float(np.mean([each.all() for each in found])), 4) for name, found in read.items()},
    }


def good(row: dict[str, Any]) -> bool:
    """Whether it is cheap enough and survives."""
    return bool(row["cost_ms"] <= COST_MS and row["whole"]["H.264 at 500 kb/s"] >= READ)


def show(report: dict[str, Any], console: Console) -> None:
    """Print the table of a report."""
    rows = report["methods"]
    table = Table(title=f"{report['bits']} bits in {report['frames']} pictures: bits right, pictures read whole")
    journeys = next(iter(rows.values()))["right"] if rows else {}
    for title in ("method", "ms a picture", "PSNR dB", *(f"after {name}" for name in journeys), "good"):
        table.add_column(title)
    for name, row in rows.items():
        survived = [f"{row['right'][each]:.0%}, {row['whole'][each]:.0%}" for each in journeys]
        table.add_row(name, f"{row['cost_ms']:.1f}", f"{row['psnr_db']:.1f}", *survived, "yes" if good(row) else "no")
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is installed; 2 when nothing is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invisible_mark", description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--bits", type=int, default=32, choices=[32], help="rivaGan takes 32")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 140)
    cv2.setNumThreads(1)
    pictures = film(args.frames)
    bits = np.random.default_rng(7).integers(0, 2, args.bits).astype(np.uint8)
    rows: dict[str, Any] = {}
    for name, start in METHODS.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                method = start()
        except ImportError as error:
            console.print(f"{name} is not installed: {error}")
            continue
        rows[name] = measure(method, pictures, bits)
    if not rows:
        console.print("nothing to measure; pip install --no-deps invisible-watermark blind-watermark PyWavelets")
        return 2
    report = {"frames": args.frames, "bits": args.bits, "methods": rows, "good": [n for n in rows if good(rows[n])]}
    report |= {"wanted": {"cost_ms": COST_MS, "whole": READ}, "load_average": round(os.getloadavg()[0], 1)}
    report["machine"] = machine.describe()
    show(report, console)
    if args.json is not None:
        write_atomically(args.json, json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
