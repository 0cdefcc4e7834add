"""Runs the whole product on two rendered actors. A model in; a video, a picture and exact scores out.

Note [Two passes]
    The first pass swaps every frame of a performance that no model was trained on, and scores each against the exact
    answer; nothing is lost, so its pace is that of the slowest room. The second pass is live: frames come at 30 fps
    whether or not anybody is ready, and `fps`, `latency_ms` and `live` say how the loop keeps up.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime import __version__, machine
from realtime.actors import Scene, SwapFrame, render_clip
from realtime.badge import badge_box
from realtime.credential import open_credential
from realtime.detect import FaceFinder
from realtime.dfm import read_dfm
from realtime.errors import LiveswapError, SinkError, UsageError
from realtime.files import explain, write_atomically
from realtime.frame import Frame, ImageU8, Points
from realtime.guard import Guard
from realtime.infer import open_engine
from realtime.pattern import PatternSource
from realtime.pipeline import run_pipeline
from realtime.provenance import Provenance, Seal, Statement
from realtime.report import Progress, RunReport
from realtime.score import Example, FrameScores, outside_psnr, score_frame, summarise
from realtime.sinks import NullSink
from realtime.source import BT709, SourceInfo
from realtime.still import Still
from realtime.swap import FaceSwapper
from realtime.video_writer import VideoWriter

OnProgress = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, [0, 1]."""

MODEL = Path(__file__).parents[1] / "realtime" / "models" / "demo.dfm"
SECONDS = 10.0
FPS = 30
SEED = 303
"""Of the performance that is scored; the models were trained on others, see Note [Demo model]."""
RAW_TRANSFER = 0.2
"""A published frame that has taken on less of the identity than this counts as a raw face."""
_SHEET_FRAMES = 6
_WINDOW_PX = 320
_CAPTIONS = ("performer", "swap", "truth")
_LIVE_SECONDS = 8.0


class _Stage:
    """Source of a scene's performer; keeps the exact answers until the sink asks for them."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._answers: dict[int, SwapFrame] = {}
        width, height = scene.size
        fps = Fraction(scene.fps).limit_denominator(1000)
        self.info = SourceInfo("actors", width, height, fps, scene.frames, live=False, colour=BT709)

    def __enter__(self) -> _Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        for moment in render_clip(self._scene, workers=max(1, min(2, os.cpu_count() or 1))):
            self._answers[moment.index] = moment
            pts_s = moment.index / self._scene.fps
            yield Frame(moment.performer.image, moment.index, time.monotonic(), pts_s)

    def answer(self, index: int) -> SwapFrame:
        """The moment number `index`; it can be asked for once."""
        return self._answers.pop(index)

    def close(self) -> None:
        """Nothing is held open between frames."""


class _Judge:
    """Sink that scores each swapped frame, films it beside performer and truth, and keeps some for the sheet."""

    name = "judge"

    def __init__(self, stage: _Stage, video: Path, seal: Seal) -> None:
        self._stage = stage
        wide = replace(stage.info, width=3 * stage.info.width)
        self._writer = VideoWriter(video, wide, crf=18, seal=seal)
        self._finder = FaceFinder(static=True)
        self._last: tuple[Example, Example] | None = None
        self.swaps: list[FrameScores] = []
        self.performers: list[FrameScores] = []
        self.rows: dict[int, ImageU8] = {}
        count = stage.info.frames or 1
        self._wanted = {round((i + 0.5) * count / _SHEET_FRAMES) for i in range(_SHEET_FRAMES)}

    def send(self, frame: Frame) -> None:
        """Score and film one frame."""
        moment = self._stage.answer(frame.index)
        performer, truth = moment.performer.image, moment.ideal.image
        mask = moment.ideal.truth.face_mask
        panel = np.hstack([performer, frame.image, truth])
        self._writer.send(frame.with_image(_captioned(panel)))
        if frame.index in self._wanted:
            self.rows[frame.index] = _close_up((performer, frame.image, truth), mask)
        true_points = self._points(truth, frame)
        swap, still = (
            Example(image, performer, truth, mask, self._points(image, frame), true_points)
            for image in (frame.image, performer)
        )
        before_swap, before_still = self._last or (None, None)
        outside = outside_psnr(frame.image, truth, _with_badge(mask))
        self.swaps.append(replace(score_frame(swap, before_swap), outside_psnr_db=outside))
        self.performers.append(score_frame(still, before_still))
        self._last = swap, still

    def close(self) -> None:
        """Finish the video."""
        self._writer.close()
        self._finder.close()

    def abort(self) -> None:
        """Leave the unfinished video under its partial name."""
        self._writer.abort()

    def _points(self, image: ImageU8, like: Frame) -> Points | None:
        faces = self._finder.find(like.with_image(image))
        return faces[0].landmarks if faces else None


def _with_badge(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask of what may differ: the face and the corners that the visible mark may stand in."""
    covered = mask.copy()
    height, width = mask.shape[:2]
    for avoid in ((), ((width / 2, height / 2, width, height),)):
        x0, y0, x1, y1 = badge_box(height, width, avoid)
        covered[y0:y1, x0:x1] = 255
    return covered


def _close_up(pictures: Sequence[ImageU8], mask: NDArray[np.uint8]) -> ImageU8:
    """The same window of all pictures side by side, pixel for pixel, around the face."""
    height, width = mask.shape
    side = min(_WINDOW_PX, height, width)
    y, x = (int(np.median(where)) if len(where) else side for where in np.nonzero(mask > 127))
    top, left = min(max(y - side // 2, 0), height - side), min(max(x - side // 2, 0), width - side)
    return np.hstack([picture[top : top + side, left : left + side] for picture in pictures])


def _captioned(panel: ImageU8) -> ImageU8:
    out = panel.copy()
    width = panel.shape[1] // len(_CAPTIONS)
    for number, text in enumerate(_CAPTIONS):
        (wide, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 1)
        left, base = number * width + 12, 28
        cv2.rectangle(out, (left - 6, base - tall - 6), (left + wide + 6, base + below), (32, 32, 32), cv2.FILLED)
        cv2.putText(out, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1, cv2.LINE_AA)
    return out


def run_demo(
    out: Path,
    *,
    from_scratch: bool = False,
    seconds: float | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Write demo.mp4, sheet.png and report.json into the folder `out`, and return the report.

    With `from_scratch`, the model is made first: rendered, extracted, trained and exported in OUT/scratch.
    Raises LiveswapError: one sentence.
    """
    say = on_progress or (lambda what, share: None)
    seconds = SECONDS if seconds is None else seconds
    if not 0.2 <= seconds <= 600:
        raise UsageError(f"a demo lasts 0.2 to 600 seconds, got {seconds:g}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(explain(error, out)) from error
    model, made = MODEL, None
    if from_scratch:
        model, made = _make(out / "scratch", say)
    if not model.is_file():
        raise LiveswapError("the demo model is missing from this installation; install liveswap again")

    seal = _seal(model)
    scene = Scene(frames=max(2, round(seconds * FPS)), fps=FPS, seed=SEED, hand=False)
    stage = _Stage(scene)
    judges: list[_Judge] = []

    def judge(_: SourceInfo) -> _Judge:
        judges.append(_Judge(stage, out / "demo.mp4", seal))
        return judges[0]

    def swapping(progress: Progress) -> None:
        say("swapping", progress.done / scene.frames)

    run = run_pipeline(
        lambda: stage,
        lambda: FaceSwapper(FaceFinder(), open_engine(model)),
        [judge],
        guard_factory=lambda info: Guard(live=info.live),
        lossless=True,
        on_progress=swapping,
    )
    say("running live", 0.0)
    live = _run_live(model)
    report = _report(model, made, run, live, judges[0])
    Still(out / "sheet.png", seal).send(_sheet(judges[0].rows))
    _write(out / "report.json", json.dumps(report, indent=2) + "\n")
    return report


def _make(folder: Path, say: OnProgress) -> tuple[Path, dict[str, Any]]:
    from export.demo_model import FROM_SCRATCH, make_model

    if folder.exists():
        raise UsageError(f"{folder} exists already; remove it, or give another --out")
    exported = make_model(folder, FROM_SCRATCH, say)
    return folder / "demo.dfm", {"preset": FROM_SCRATCH.preset, "export": exported.to_json()}


def _run_live(model: Path) -> RunReport:
    return run_pipeline(
        lambda: PatternSource(seconds=_LIVE_SECONDS, live=True, seed=SEED, hand=False),
        lambda: FaceSwapper(FaceFinder(), open_engine(model), live=True),
        [lambda info: NullSink()],
        guard_factory=lambda info: Guard(live=info.live),
        lossless=False,
    )


def _rounded(scores: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in scores.items()}


def _report(model: Path, made: dict[str, Any] | None, run: RunReport, live: RunReport, judge: _Judge) -> dict[str, Any]:
    dfm = read_dfm(model)
    unswapped = sum(score.identity_transfer < RAW_TRANSFER for score in judge.swaps)
    return {
        **_rounded(summarise(judge.swaps)),
        "baseline": _rounded(summarise(judge.performers)),
        "fps": live.fps,
        "latency_ms": live.latency_ms,
        "stages_ms": live.stages,
        "live": {"frames_in": live.frames_in, "frames_out": live.frames_out, "dropped": live.dropped},
        "frames_in": run.frames_in,
        "frames_out": run.frames_out,
        "lossless_fps": run.fps,
        "states": run.states,
        "raw_face_frames": max(unswapped, run.raw_face_frames + live.raw_face_frames),
        "badge": run.badge,
        "model": {
            "name": model.name,
            "sha256": dfm.sha256,
            "bytes": model.stat().st_size,
            "resolution": dfm.resolution,
            "training": dfm.card.get("training"),
        },
        "from_scratch": made,
        "scene": {"seed": SEED, "frames": run.frames_in, "size": [640, 480], "performer": "BO", "identity": "ADA"},
        "machine": machine.describe(),
    }


def _sheet(rows: dict[int, ImageU8]) -> Frame:
    picture = np.vstack([rows[index] for index in sorted(rows)])
    head = np.full((40, picture.shape[1], 3), 32, np.uint8)
    return Frame(np.vstack([_captioned(head), picture]), 0, time.monotonic(), 0.0)


def _seal(model: Path) -> Provenance:
    """What signs the film and the sheet."""
    dfm = read_dfm(model)
    shown = {"name": model.name, "sha256": dfm.sha256} | {name: dfm.says(name) for name in ("subject", "consent")}
    return Provenance(open_credential, lambda: Statement(__version__, (shown,), "pattern", badge=True))


def _write(path: Path, data: bytes | str) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise SinkError(explain(error, path)) from error
