"""Takes faces and frames out of videos from a command line. Flags in; progress, a summary and an exit code out.

`liveswap extract` and `liveswap frames` are these commands. They load OpenCV and the networks only when they run.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from realtime import front
from realtime.errors import UsageError
from realtime.screen import Screen

if TYPE_CHECKING:
    from training.extract_config import ExtractProgress, ExtractReport
    from training.film import Clip

_MAIN = "main"
_MOST_JOBS = 8


def add_extract_flags(parser: argparse.ArgumentParser) -> None:
    """What there is to say about an extraction."""
    parser.add_argument(
        "videos",
        nargs="+",
        type=front.path,
        metavar="VIDEO",
        help="any video that FFmpeg reads, or a folder of pictures",
    )
    parser.add_argument("--out", type=front.path, required=True, metavar="FACESET", help="folder to make")
    _add_times(parser)
    parser.add_argument("--fps", type=front.positive, metavar="N", help="frames per second to look at; default: all")
    parser.add_argument(
        "--every", type=front.count, default=1, metavar="N", help="of these, look at every N-th; default: 1"
    )
    parser.add_argument("--size", type=front.count, default=256, metavar="PX", help="side of a face crop; default: 256")
    parser.add_argument(
        "--coverage-kind", choices=("whole", "full"), default="whole", help="how much of a head; default: whole"
    )
    parser.add_argument(
        "--max-faces", type=front.count, default=1, metavar="N", help="faces to take from one frame; default: 1"
    )
    parser.add_argument(
        "--person",
        type=front.text,
        action="append",
        default=[],
        metavar="PICTURE",
        help="take only the person on this picture, repeatable; main: only whom the videos show most. There is no "
        "network for faces in it: of rendered strangers, in changing light, 1 in 15 passes for the person at a single "
        "look and 1 in 80 at three, 2 s apart; look at the sheet",
    )
    parser.add_argument(
        "--detector",
        choices=("mediapipe", "dlib"),
        default="mediapipe",
        help="what finds faces; dlib (an extra) is slower and finds fewer; default: mediapipe",
    )
    parser.add_argument("--keep-duplicates", action="store_true", help="store faces that show nothing new, too")
    parser.add_argument(
        "--jobs",
        type=front.count,
        metavar="N",
        help="processes that search; the result is the same; default: all cores",
    )
    parser.add_argument("--resume", action="store_true", help="go on where FACESET was interrupted")


def add_frames_flags(parser: argparse.ArgumentParser) -> None:
    """What there is to say about frames."""
    parser.add_argument("video", type=front.path, metavar="VIDEO", help="any video that FFmpeg reads")
    parser.add_argument("--fps", type=front.positive, metavar="N", help="frames per second to write; default: all")
    parser.add_argument("--out", type=front.path, metavar="DIR", help="folder to make; default: VIDEO-frames here")
    _add_times(parser)


def extract(args: argparse.Namespace, screen: Screen) -> int:
    """Take the faces out; what was searched before an interruption is kept."""
    from training.extract import ExtractConfig
    from training.extract import extract as extract_faces

    pictures = [Path(each) for each in args.person if each != _MAIN]
    if pictures and len(pictures) < len(args.person):
        raise UsageError("--person main and a picture contradict each other; give one of them")
    config = ExtractConfig(
        size=args.size,
        coverage_kind=args.coverage_kind,
        fps=args.fps,
        every=args.every,
        max_faces=args.max_faces,
        detector=args.detector,
        keep_duplicates=args.keep_duplicates,
        main_person=_MAIN in args.person,
    )
    clips = _clips(args.videos, args.start, args.end)
    began_s = time.monotonic()
    with _ended_like_ctrl_c(), screen.progress("extract") as meter:

        def show(now: ExtractProgress) -> None:
            fresh, left_s = now.frames_done - now.frames_before, None
            if now.frames_total and fresh:
                left_s = (time.monotonic() - began_s) * max(now.frames_total - now.frames_done, 0) / fresh
            meter.update(now.frames_done, now.frames_total, f"{now.source}, {now.faces} faces", left_s=left_s)

        report = extract_faces(
            clips, args.out, config, show, person=pictures, jobs=args.jobs or _cores(), resume=args.resume
        )
    screen.say(f"{args.out}: {report.faces} faces from {report.frames} frames in {report.seconds:.0f} s")
    for line in _details(report):
        screen.say(line)
    front.write_json(args.json, report.to_json())
    return 0


def frames(args: argparse.Namespace, screen: Screen) -> int:
    """Write the frames of a video as pictures."""
    from training.frames import write_frames

    (clip,) = _clips([args.video], args.start, args.end)
    out = args.out or Path(f"{args.video.stem or args.video.resolve().name}-frames")
    with _ended_like_ctrl_c(), screen.progress("frames") as meter:
        report = write_frames(clip, out, args.fps, lambda done, total: meter.update(done, total, f"{done} frames read"))
    screen.say(f"{out}: {report.frames} of {report.frames_read} frames in {report.seconds:.0f} s")
    front.write_json(args.json, report.to_json())
    return 0


def _details(report: ExtractReport) -> Iterator[str]:
    left_out: dict[str, int] = {}
    for source in report.sources:
        for reason, count in source.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    if left_out:
        yield "left out: " + ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    if len(report.persons) > 1:
        counts = ", ".join(str(count) for count in report.persons.values())
        yield f"{len(report.persons)} people seem to be in it, with {counts} faces; look at {report.faceset}/sheet.png"
        yield "to take one of them only: --person main, or --person PICTURE"


def _add_times(parser: argparse.ArgumentParser) -> None:
    for flag, dest, what in (("--from", "start", "where to begin"), ("--to", "end", "where to end")):
        parser.add_argument(
            flag,
            dest=dest,
            type=moment,
            action="append",
            default=[],
            metavar="TIME",
            help=f"{what}, seconds or H:MM:SS; once for all videos, or once for each in their order",
        )


def moment(given: str) -> float:
    """A time inside a video: 75, 75.5, 1:15 or 0:01:15, in seconds."""
    parts = given.split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or not all(0 <= value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"{given!r} is not a time; write for example 75, 1:15 or 0:01:15")
    if any(value >= 60 for value in values[1:]):
        raise argparse.ArgumentTypeError(f"{given!r} is not a time; a minute has 60 seconds")
    return sum(value * float(60**power) for power, value in enumerate(reversed(values)))


def _clips(videos: Sequence[Path], starts: Sequence[float], ends: Sequence[float]) -> list[Clip]:
    from training.film import Clip

    for flag, given in (("--from", starts), ("--to", ends)):
        if len(given) not in (0, 1, len(videos)):
            raise UsageError(
                f"{flag} was given {len(given)} times for {len(videos)} videos; give it once, or once for each video"
            )
    each_start = list(starts) * (1 if len(starts) == len(videos) else len(videos)) or [0.0] * len(videos)
    each_end = list(ends) * (1 if len(ends) == len(videos) else len(videos)) or [math.inf] * len(videos)
    return [Clip(*each) for each in zip(videos, each_start, each_end, strict=True)]


def _cores() -> int:
    from realtime import machine

    return min(int(machine.describe()["cores"]), _MOST_JOBS)


@contextlib.contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """A service manager that ends us, or a terminal that is closed, is a Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
