"""Swaps the face in a frame: detect, align, infer, blend. Frame in, SwapResult out. No thread, no clock of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2

from realtime.align import CropGeometry, SteadySimilarity, cut, frame_to_crop
from realtime.blend import Blender, BlendSettings
from realtime.frame import Face, Frame
from realtime.infer import DEFAULT_MORPH, Engine, EngineOutput


class Finder(Protocol):
    """What finds faces: realtime.detect.FaceFinder."""

    def find(self, frame: Frame) -> list[Face]:
        """The faces in a frame, the most important first."""
        ...

    def close(self) -> None:
        """Free the networks; safe to call twice."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SwapResult:
    """What became of one frame."""

    frame: Frame
    """The swapped frame, or the untouched input when `swapped` is False."""
    faces: tuple[Face, ...]
    """All faces in view, the swapped one first."""
    swapped: bool
    miss: str | None = None
    """Why nothing was swapped, in a few words; None when `swapped`."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds in detect, align, infer, blend, as far as the frame came."""


class FaceSwapper:
    """Swaps the face of one performer, frame by frame. Owns the finder and the engine: close() closes both.

    With several faces in view it keeps to the one it swapped last, as long as that one is followed.
    """

    def __init__(
        self,
        finder: Finder,
        engine: Engine,
        *,
        blend: BlendSettings | None = None,
        morph: float = DEFAULT_MORPH,
        smooth: bool = True,
        geometry: CropGeometry | None = None,
        live: bool = False,
    ) -> None:
        self._finder, self._engine = finder, engine
        self._morph, self._smooth, self._live = morph, smooth, live
        self._geometry = (geometry or engine.dfm.geometry).resized(engine.dfm.resolution)
        self._blender = Blender(blend)
        self._steady = SteadySimilarity(self._geometry.size)
        self._track_id: int | None = None
        self._last_s = 0.0

    def __enter__(self) -> FaceSwapper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def swap(self, frame: Frame) -> SwapResult:
        """Swap the face in one frame. What fails in the engine is raised; what is wrong with the picture is a miss."""
        stages: dict[str, float] = {}
        clock = time.perf_counter()

        def done(stage: str) -> None:
            nonlocal clock
            now = time.perf_counter()
            stages[stage], clock = (now - clock) * 1e3, now

        faces = self._chosen_first(self._finder.find(frame))
        done("detect")
        if not faces:
            return SwapResult(frame, (), False, "no face", stages)
        now_s = frame.captured_s if self._live else frame.pts_s
        self._follow(faces[0], now_s)
        try:
            matrix = frame_to_crop(faces[0].landmarks, self._geometry)
        except ValueError:
            return SwapResult(frame, faces, False, "degenerate landmarks", stages)
        if self._smooth:
            matrix = self._steady(matrix, now_s)
        crop = cut(frame.image, matrix, self._geometry.size)
        done("align")
        output = self._engine.run(crop.image, self._morph)
        done("infer")
        flaw = _flaw(output)
        if flaw:
            return SwapResult(frame, faces, False, flaw, stages)
        image = self._blender.blend(frame.image, output, crop.crop_to_frame, now_s, crop=crop.image)
        done("blend")
        return SwapResult(frame.with_image(image), faces, True, None, stages)

    def close(self) -> None:
        """Close the finder and the engine; safe to call twice."""
        self._finder.close()
        self._engine.close()

    def _chosen_first(self, faces: Sequence[Face]) -> tuple[Face, ...]:
        return tuple(sorted(faces, key=lambda face: face.track_id != self._track_id))

    def _follow(self, face: Face, now_s: float) -> None:
        if face.track_id != self._track_id or not 0 <= now_s - self._last_s <= 0.5:
            self._steady.reset()
            self._blender.reset()
        self._track_id, self._last_s = face.track_id, now_s


def _flaw(output: EngineOutput) -> str | None:
    if not all(cv2.checkRange(each) for each in (output.face, output.face_mask, output.performer_mask)):
        return "the model's answer is not finite"
    if float((output.face_mask * output.performer_mask).mean()) < 0.02:
        return "the model's mask is empty"
    return None
