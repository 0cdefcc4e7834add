"""Runs the swap model. A crop in, the identity's face with two masks out."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from realtime.dfm import Dfm, open_dfm
from realtime.errors import ModelError
from realtime.frame import ImageU8, MaskF32

log = logging.getLogger(__name__)

DEFAULT_MORPH = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class EngineOutput:
    """What the model paints for one crop. The values are the model's own: not clipped, perhaps not even finite."""

    face: NDArray[np.float32]
    """(R, R, 3) BGR, nominally in [0, 1]: the identity."""
    face_mask: MaskF32
    """(R, R), nominally in [0, 1]: where the identity's face is."""
    performer_mask: MaskF32
    """(R, R), nominally in [0, 1]: where the performer's face is."""


class Engine(Protocol):
    """Something that runs a .dfm. Not thread-safe; one per thread."""

    dfm: Dfm
    provider: str
    """What really computes, for example `CPUExecutionProvider`."""

    def run(self, image: ImageU8, morph: float = DEFAULT_MORPH) -> EngineOutput:
        """Paint the identity over `image`, (R, R, 3) BGR in [0, 255]; `morph` in [0, 1] for models that take it."""
        ...

    def close(self) -> None:
        """Free the model; safe to call twice."""
        ...


class OnnxEngine:
    """A .dfm on ONNX Runtime. Opens and warms the model in the constructor; not thread-safe.

    Raises ModelError when the file is not a usable .dfm, when it fails on a grey picture, or when another provider than
    the one asked for would do the work.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        from onnxruntime import ExecutionMode, GraphOptimizationLevel, SessionOptions

        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        options = SessionOptions()
        options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads or default_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = "CPUExecutionProvider"
        self.dfm, session = open_dfm(path, options, [wanted])
        session.disable_fallback()
        self._session: object | None = session
        self._run = session.run
        self.provider = str(session.get_providers()[0])
        if self.provider != wanted:
            raise ModelError(
                f"ONNX Runtime would run {path} on {self.provider} instead of {wanted}; reinstall onnxruntime"
            )
        size = self.dfm.resolution
        self._input = np.empty((1, size, size, 3), np.float32)
        self._feed: dict[str, NDArray[np.float32]] = {self.dfm.face_input: self._input}
        self._morph = np.empty(1, np.float32)
        if self.dfm.morph_input:
            self._feed[self.dfm.morph_input] = self._morph
        self.run(np.full((size, size, 3), 127, np.uint8))
        log.info("model %s runs on %s with %d threads", self.dfm.path.name, self.provider, options.intra_op_num_threads)

    def __enter__(self) -> OnnxEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, image: ImageU8, morph: float = DEFAULT_MORPH) -> EngineOutput:
        """See Engine.run. Raises ValueError for a picture of the wrong size, ModelError when the model fails."""
        size = self.dfm.resolution
        if self._session is None:
            raise ValueError("the engine is closed")
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise ValueError(f"expected a ({size}, {size}, 3) uint8 crop, got {image.shape} {image.dtype}")
        np.multiply(image, np.float32(1 / 255), out=self._input[0])
        self._morph[0] = min(max(morph, 0.0), 1.0)
        try:
            outputs = self._run(self.dfm.outputs, self._feed)
        except Exception as error:  # ONNX Runtime's errors have no common base
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"the model {self.dfm.path} failed while running ({reason}); export it again") from error
        for array, channels in zip(outputs, (1, 3, 1), strict=True):
            if array.shape != (1, size, size, channels):
                raise ModelError(
                    f"the model {self.dfm.path} answered {array.shape} instead of (1, {size}, {size}, {channels}); "
                    "give a .dfm that keeps the DeepFaceLive contract"
                )
        performer_mask, face, face_mask = outputs
        return EngineOutput(face[0], face_mask[0, :, :, 0], performer_mask[0, :, :, 0])

    def close(self) -> None:
        """Free the model; safe to call twice."""
        self._session = None
        if hasattr(self, "_run"):
            del self._run


def default_threads() -> int:
    """At most four, and one core left for the other rooms."""
    return max(1, min((os.cpu_count() or 2) - 1, 4))


def open_engine(path: Path, *, threads: int | None = None) -> OnnxEngine:
    """The engine for this machine with the model at `path`, warm. Raises ModelError."""
    return OnnxEngine(path, threads=threads)
