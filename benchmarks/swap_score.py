"""Scores a model against the exact answer, as the product would show it. A .dfm and a rendered scene in, numbers out.

Every frame goes through FaceSwapper and ONNX Runtime. What FaceSwapper refuses to swap is scored as it would be seen,
as the performer: a model whose mask cannot be trusted does not look better for it.

    identity_transfer, face_psnr_db, face_ssim, landmark_error_iod, flicker, outside_psnr_db
                        see Note [What a score means] in realtime/score.py
    swapped             share of the scored frames that were swapped

Note [Placed and raw]
    How two people's heads lie over each other costs a fixed similarity that no training can know, see export.placement.
    So every model is scored twice: raw, as it paints, and placed, with the similarity that was measured for this very
    model on frames of the performance it was trained on. Both are done to all models alike.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from benchmarks.rendered_scene import RenderedScene
from export.placement import Remembering, measure_placement
from export.to_onnx import to_onnx
from realtime.blend import BlendSettings
from realtime.detect import FaceFinder
from realtime.dfm import Placement
from realtime.errors import ExportError
from realtime.files import write_atomically
from realtime.frame import Frame, Points
from realtime.infer import Engine, open_engine
from realtime.score import Example, FrameScores, score_frame, summarise
from realtime.swap import FaceSwapper
from training.config import TrainConfig
from training.model import SwapModel

Scores = dict[str, float | None]
METRICS = "identity_transfer", "face_psnr_db", "face_ssim", "landmark_error_iod", "flicker"
LOWER_IS_BETTER = frozenset({"landmark_error_iod", "flicker"})
WITHOUT_MASK = frozenset({"faceswap-original", "faceswap-lightweight"})
"""Families that paint no mask: their faces are cut out along the landmarks."""


class BothScores(TypedDict):
    """What a model scores, see Note [Placed and raw]."""

    raw: Scores
    placed: Scores | None
    """None where too few swapped faces were found to measure a placement."""
    placement: list[float] | None
    """Scale, shift to the right, shift down."""


def write_model(model: SwapModel, config: TrainConfig, path: Path) -> None:
    """Export a model in memory to a .dfm with just enough on its card to be run; the weights stay float32."""
    geometry = config.geometry
    card = {
        "schema": 1,
        "resolution": config.model.resolution,
        "coverage": geometry.coverage,
        "offset": [geometry.offset_x, geometry.offset_y],
        "landmarks": "mediapipe-468",
    }
    write_atomically(path, to_onnx(model.eval(), card, half_weights=False))


def blend_for(config: TrainConfig) -> BlendSettings:
    """How a recipe's faces are blended: as the product does, and without a mask of their own along the landmarks."""
    return BlendSettings(hull=config.model.family in WITHOUT_MASK)


def score_engine(engine: Engine, scene: RenderedScene, blend: BlendSettings | None = None) -> Scores:
    """Mean scores over the scored frames of `scene`. `engine` is closed when it is done."""
    scores: list[FrameScores] = []
    swapped = 0
    last: Example | None = None
    with FaceSwapper(FaceFinder(), engine, blend=blend) as swapper, FaceFinder(static=True) as finder:
        for moment in scene.moments():
            result = swapper.swap(moment.frame)
            example = Example(result.frame.image, moment.performer, moment.truth, moment.mask)
            if moment.scored and (moment.mask > 127).any():
                points = _points(finder, result.frame)
                full = replace(example, points=points, true_points=moment.true_points)
                scores.append(score_frame(full, last))
                swapped += result.swapped
            last = example if (moment.mask > 127).any() else None
    if not scores:
        raise ValueError(f"no scored frame of {scene.folder} shows a face")
    rounded = {name: None if value is None else round(value, 4) for name, value in summarise(scores).items()}
    return rounded | {"swapped": round(swapped / len(scores), 4)}


def score_model(
    model: Path,
    scene: RenderedScene,
    blend: BlendSettings | None = None,
    *,
    rehearsal: RenderedScene | None = None,
    threads: int = 1,
) -> BothScores:
    """Score the .dfm `model`, raw and, with a `rehearsal` to measure its placement on, placed.

    A model that carries a placement already is only scored as it is.
    """
    engine = Remembering(open_engine(model, threads=threads))
    bare = engine.dfm.placement == Placement()
    raw = score_engine(engine, scene, blend)
    placement = _measure(model, rehearsal) if rehearsal is not None and bare else None
    if placement is None:
        return BothScores(raw=raw, placed=None, placement=None)
    engine.place(placement)
    placed = score_engine(engine, scene, blend)  # paints what it has painted before
    return BothScores(raw=raw, placed=placed, placement=[placement.scale, placement.shift_x, placement.shift_y])


def score_nothing(scene: RenderedScene) -> Scores:
    """What the performer himself scores: the zero of every scale."""
    scores: list[FrameScores] = []
    last: Example | None = None
    with FaceFinder(static=True) as finder:
        for moment in scene.moments():
            example = Example(moment.performer, moment.performer, moment.truth, moment.mask)
            if moment.scored:
                points = _points(finder, moment.frame)
                scores.append(score_frame(replace(example, points=points, true_points=moment.true_points), last))
            last = example
    return {name: None if value is None else round(value, 4) for name, value in summarise(scores).items()}


def better(metric: str, a: float, b: float) -> bool:
    """Whether the value `a` of a metric is at least as good as `b`."""
    return a <= b if metric in LOWER_IS_BETTER else a >= b


def _measure(model: Path, rehearsal: RenderedScene) -> Placement | None:
    """The placement of a model; None for one that paints too little of a face for it, or one far out of place."""
    try:
        return measure_placement(model, rehearsal.pairs())
    except (ExportError, ValueError):
        return None


def _points(finder: FaceFinder, frame: Frame) -> Points | None:
    faces = finder.find(frame)
    return faces[0].landmarks if faces else None
