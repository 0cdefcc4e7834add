"""Runs the swap model. A crop in, the identity's face with two masks out."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from realtime.dfm import Dfm, open_dfm
from realtime.errors import ModelError
from realtime.frame import ImageU8, MaskF32

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

log = logging.getLogger(__name__)

DEFAULT_MORPH = 0.75
CPU = "CPUExecutionProvider"
_TO_UNIT = np.float32(1 / 255)


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
    """A .dfm on ONNX Runtime's CPU engine: opened and warm when the constructor returns. Not thread-safe.

    Waiting threads sleep instead of spinning: with two threads on two busy cores spinning tripled the processor time of
    a run (22 ms instead of 7 ms at 128 px) and made it no faster.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Open the model at `path` on `threads` threads, by default one core less than there are, at most four.

        Raises ModelError when the file is not a usable .dfm, when it fails on a grey picture, or when something else
        than what was asked for would run it.
        """
        from onnxruntime import ExecutionMode, GraphOptimizationLevel, SessionOptions

        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        options = SessionOptions()
        options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = threads or default_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.dfm, session = open_dfm(path, options, [CPU])
        session.disable_fallback()
        self._session: InferenceSession | None = session
        self.provider = str(session.get_providers()[0])
        if self.provider != CPU:
            raise ModelError(f"the model {path} would run on {self.provider}, not {CPU}; install onnxruntime again")
        size = self.dfm.resolution
        self._input = np.empty((1, size, size, 3), np.float32)
        self._morph = np.empty(1, np.float32)
        self._feed: dict[str, NDArray[np.float32]] = {self.dfm.face_input: self._input}
        if self.dfm.morph_input is not None:
            self._feed[self.dfm.morph_input] = self._morph
        self.run(np.full((size, size, 3), 127, np.uint8))
        log.info("model %s runs on %s, %d threads", self.dfm.path.name, self.provider, options.intra_op_num_threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, image: ImageU8, morph: float = DEFAULT_MORPH) -> EngineOutput:
        """See Engine.run. Raises ValueError for a wrong picture or after close(), ModelError when the model fails."""
        size = self.dfm.resolution
        if self._session is None:
            raise ValueError("this engine is closed; open another one")
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise ValueError(f"expected a ({size}, {size}, 3) uint8 crop, got {image.shape} {image.dtype}")
        if not 0 <= morph <= 1:
            raise ValueError(f"morph must lie in [0, 1], got {morph}")
        np.multiply(image, _TO_UNIT, out=self._input[0])
        self._morph[0] = morph
        try:
            outputs = self._session.run(self.dfm.outputs, self._feed)
        except Exception as error:  # ONNX Runtime's errors have no common base
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"the model {self.dfm.path} failed while running ({reason}); export it again") from error
        for output, channels in zip(outputs, (1, 3, 1), strict=True):
            if output.shape != (1, size, size, channels):
                raise ModelError(
                    f"the model {self.dfm.path} answered {output.shape} instead of (1, {size}, {size}, {channels}); "
                    "give a .dfm that keeps the DeepFaceLive contract"
                )
        performer_mask, face, face_mask = outputs
        return EngineOutput(face[0], face_mask[0, :, :, 0], performer_mask[0, :, :, 0])

    def close(self) -> None:
        """Free the model; safe to call twice."""
        self._session = None


def default_threads() -> int:
    """One core is left to the other rooms; beyond four threads a face network gains little."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(cores - 1, 4))


def open_engine(path: Path, *, threads: int | None = None) -> OnnxEngine:
    """The engine for this machine with the model at `path`, opened and warm. Raises ModelError."""
    return OnnxEngine(path, threads=threads)
