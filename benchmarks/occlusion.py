"""Measures whether a hand before the face stays before the swap. Models and rendered performances in, JSON out.

    python -m benchmarks.occlusion MODEL... [--json FILE] [--sheet FILE.png]

A hand passes in front of a rendered performer, and with it the exact swap is known twice: with the hand, and with
nothing in front. So each pixel of the hand says for itself whether the hand or the painted face is seen there.

    in_front            share of the hand's pixels over the face that are nearer to the picture with the hand than to
                        the picture without, where the two differ by more than DIFFERENT grey levels
    hand_psnr_db        in the hand's pixels over the face, against the exact swap
    face_psnr_db        in what is seen of the face beside the hand, against the exact swap
    identity_transfer   the same place, see realtime/score.py
    mask_iou            performer mask of the model against the face that is seen, frames with the hand
    clean_mask_iou      the same, frames without the hand
    clean_holes         share of the bare face, frames without the hand, that the performer mask leaves open
    published           share of the frames with the hand and a found face that the product swaps and shows
    clean_published     the same, frames without the hand
    misses              why frames were not swapped, with counts

Quality is measured on every frame with a found face, as if all were shown: what is refused must not look better.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime import machine
from realtime.actors import Actor, Part, Renderer, Scene
from realtime.align import cut, frame_to_crop, invert
from realtime.blend import Blender, BlendSettings
from realtime.detect import FaceFinder
from realtime.files import write_atomically
from realtime.frame import Face, Frame, ImageU8
from realtime.infer import Engine, EngineOutput, open_engine
from realtime.score import identity_transfer, psnr
from realtime.swap import FaceSwapper

SEEDS = 303, 11, 12
"""Of the performances; no model was trained on any of them."""
FPS, FRAMES = 30, 300
WHEN = 0.42, 0.82
"""Part of a performance that is looked at: the hand passes from 0.48 to 0.76 of it."""
DIFFERENT = 12.0
"""Grey levels, mean over the channels, from which hand and face behind it are told apart; the noise of the sensor and
the soft rim of the hand lie below."""
LEAST_HIDDEN = 0.02
"""A hand over less of the face than this is not in front of it."""
_SHEET_ROWS, _WINDOW_PX = 8, 240
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One frame of a performance with everything that is known about it."""

    frame: Frame
    truth: ImageU8
    """The exact swap, with the hand."""
    bare_truth: ImageU8
    """The exact swap, nothing in front."""
    hand: Mask
    """(H, W) where the hand hides the face."""
    seen: NDArray[np.uint8]
    """(H, W) in [0, 255]: the face that is seen."""
    faces: list[Face]

    @property
    def occluded(self) -> bool:
        """Whether the hand is in front of the face."""
        return int(self.hand.sum()) > LEAST_HIDDEN * int((self.seen > 127).sum() + self.hand.sum())


def moments(seed: int) -> Iterator[Moment]:
    """The frames around the passing hand, in order."""
    scene = Scene(frames=FRAMES, fps=FPS, seed=seed, hand=True)
    performer = Renderer(Actor(scene.performer))
    ideal = Renderer(Actor(scene.identity, body=scene.performer, tone=scene.tone))
    poses = scene.poses()
    with FaceFinder() as finder:
        for index in range(round(WHEN[0] * FRAMES), round(WHEN[1] * FRAMES)):
            pose, before = poses[index], poses[index - 1]
            filmed, truth = (each.render(pose, before, frame=index) for each in (performer, ideal))
            bare = truth
            if pose.hand:
                bare = ideal.render(replace(pose, hand=False), replace(before, hand=False), frame=index)
            hand = (truth.truth.part == Part.HAND) & (bare.truth.face_mask > 127)
            frame = Frame(filmed.image, index, index / FPS, index / FPS)
            yield Moment(frame, truth.image, bare.image, hand, filmed.truth.face_mask, finder.find(frame))


class _Found:
    """Finder that repeats what was found before, so that every model sees the same faces."""

    def __init__(self, found: dict[int, list[Face]]) -> None:
        self._found = found

    def find(self, frame: Frame) -> list[Face]:
        return self._found[frame.index]

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(slots=True)
class _Sums:
    """Sums over the pixels and frames of all performances."""

    scores: dict[str, list[float]] = field(default_factory=dict)
    nearer: int = 0
    told_apart: int = 0
    published: Counter[bool] = field(default_factory=Counter)
    frames: Counter[bool] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, value: float) -> None:
        self.scores.setdefault(name, []).append(value)

    def report(self) -> dict[str, Any]:
        means = {name: round(float(np.mean(values)), 4) for name, values in sorted(self.scores.items())}
        return {
            "in_front": round(self.nearer / max(1, self.told_apart), 4),
            **means,
            "published": round(self.published[True] / max(1, self.frames[True]), 4),
            "clean_published": round(self.published[False] / max(1, self.frames[False]), 4),
            "misses": dict(self.misses),
        }


def paint(moment: Moment, engine: Engine) -> tuple[ImageU8, EngineOutput, NDArray[np.float64]]:
    """The first face of `moment` swapped, whatever the mask: the picture, the model's answer, frame to crop."""
    matrix = frame_to_crop(moment.faces[0].landmarks, engine.dfm.geometry)
    crop = cut(moment.frame.image, matrix, engine.dfm.resolution)
    output = engine.run(crop.image)
    blender = Blender(BlendSettings(colour_smoothing_s=0), engine.dfm.placement)
    return blender.blend(moment.frame.image, output, invert(matrix), 0.0), output, matrix


def _score(moment: Moment, engine: Engine, sums: _Sums) -> ImageU8:
    swap, output, matrix = paint(moment, engine)
    size = engine.dfm.resolution
    mask = output.performer_mask > 0.5
    seen = np.asarray(cv2.warpAffine(moment.seen, matrix, (size, size)), np.uint8) > 127
    iou = float((mask & seen).sum() / max(1, (mask | seen).sum()))
    if not moment.occluded:
        sums.add("clean_mask_iou", iou)
        sums.add("clean_holes", float((seen & ~mask).sum() / max(1, seen.sum())))
        return swap
    sums.add("mask_iou", iou)
    sums.add("hand_psnr_db", psnr(swap, moment.truth, moment.hand))
    if (moment.seen > 127).any():
        sums.add("face_psnr_db", psnr(swap, moment.truth, moment.seen))
        transfer = identity_transfer(swap, moment.frame.image, moment.truth, moment.seen)
        sums.add("identity_transfer", transfer)
    away_with, away_without = (
        np.abs(swap.astype(np.float32) - picture).mean(axis=2)[moment.hand]
        for picture in (moment.truth, moment.bare_truth)
    )
    apart = np.abs(moment.truth.astype(np.float32) - moment.bare_truth).mean(axis=2)[moment.hand] > DIFFERENT
    sums.nearer += int((away_with < away_without)[apart].sum())
    sums.told_apart += int(apart.sum())
    return swap


def measure(models: Sequence[Path], sheet: Path | None = None) -> dict[str, Any]:
    """Score every model on the same performances; `sheet` gets a picture of frames with the hand."""
    engines = [open_engine(model) for model in models]
    sums = [_Sums() for _ in models]
    rows: list[ImageU8] = []
    lost = hidden = 0
    for seed in SEEDS:
        clip = list(moments(seed))
        found = {moment.frame.index: moment.faces for moment in clip}
        occluded = [moment for moment in clip if moment.occluded]
        hidden += len(occluded)
        lost += sum(not moment.faces for moment in occluded)
        shown = [moment for moment in occluded if moment.faces]
        picked = {id(shown[i]) for i in np.linspace(0, len(shown) - 1, _SHEET_ROWS // len(SEEDS) + 2)[1:-1].astype(int)}
        swaps: dict[int, list[ImageU8]] = {}
        for path, engine, total in zip(models, engines, sums, strict=True):
            # The swapper closes its engine, so it gets one of its own.
            with FaceSwapper(_Found(found), open_engine(path)) as swapper:
                for moment in clip:
                    result = swapper.swap(moment.frame)
                    if not moment.faces:
                        continue
                    total.frames[moment.occluded] += 1
                    total.published[moment.occluded] += result.swapped
                    if result.miss is not None:
                        total.misses[str(result.miss)] += 1
                    swap = _score(moment, engine, total)
                    if id(moment) in picked:
                        swaps.setdefault(id(moment), []).append(swap)
        for moment in shown:
            if id(moment) in picked:
                rows.append(_row(moment, swaps[id(moment)]))
    if sheet is not None:
        _write_sheet(sheet, rows, ["performer", *(model.stem for model in models), "truth"])
    return {
        "performances": {"seeds": list(SEEDS), "fps": FPS, "frames": FRAMES, "part": list(WHEN)},
        "actors": {"performer": "BO", "identity": "ADA"},
        "frames_with_hand": hidden,
        "of_them_no_face_found": lost,
        "models": {
            f"{model.stem} {engine.dfm.sha256[:12]}": total.report()
            for model, engine, total in zip(models, engines, sums, strict=True)
        },
        "machine": machine.describe(),
    }


def _row(moment: Moment, swaps: Sequence[ImageU8]) -> ImageU8:
    """The same window of performer, swaps and truth side by side."""
    face = moment.hand | (moment.seen > 127)
    height, width = face.shape
    y, x = (int(np.median(where)) for where in np.nonzero(face))
    half = _WINDOW_PX // 2
    top, left = min(max(y - half, 0), height - _WINDOW_PX), min(max(x - half, 0), width - _WINDOW_PX)
    pictures = (moment.frame.image, *swaps, moment.truth)
    return np.hstack([each[top : top + _WINDOW_PX, left : left + _WINDOW_PX] for each in pictures])


def _write_sheet(path: Path, rows: Sequence[ImageU8], titles: Sequence[str]) -> None:
    head = np.full((28, _WINDOW_PX * len(titles), 3), 32, np.uint8)
    for number, title in enumerate(titles):
        place = (number * _WINDOW_PX + 6, 20)
        cv2.putText(head, title, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    done, png = cv2.imencode(path.suffix, np.vstack([head, *rows]))
    if not done:
        raise SystemExit(f"{path} has no suffix of a picture; give a name that ends in .png")
    write_atomically(path, png.tobytes())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.occlusion", description="A hand in front of the face.")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="a .dfm of Ada for Bo")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--sheet", type=Path, help="picture for the eye")
    args = parser.parse_args(argv)
    report = json.dumps(measure(args.models, args.sheet), indent=2) + "\n"
    sys.stdout.write(report)
    if args.json is not None:
        write_atomically(args.json, report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
