"""Does the exported model paint what the trained model paints? Two sets of outputs in, the differences out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from realtime.errors import ExportError

FULL_LIMIT = 1e-3
"""Largest allowed difference with float32 weights: other kernels, another order of summation."""
HALF_LIMIT_DB = 45.0
"""Smallest allowed PSNR with float16 weights: their rounding is 2**-11, far below one grey level on the whole."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far apart two runtimes are on the same faces."""

    max_abs: float
    psnr_db: float
    """Of the output that differs most."""
    faces: int


def compare(expected: Sequence[NDArray[np.floating]], actual: Sequence[NDArray[np.floating]]) -> Parity:
    """Differences of outputs (mask, face, face mask), each (N, R, R, C) in [0, 1]. ValueError for other shapes."""
    if [x.shape for x in expected] != [x.shape for x in actual]:
        raise ValueError(f"expected shapes {[x.shape for x in expected]}, got {[x.shape for x in actual]}")
    largest = max(float(np.abs(a - b).max()) for a, b in zip(expected, actual, strict=True))
    mse = max(float(((a - b) ** 2).mean()) for a, b in zip(expected, actual, strict=True))
    return Parity(largest, round(-10 * math.log10(max(mse, 1e-12)), 2), len(expected[0]))


def check_parity(
    expected: Sequence[NDArray[np.floating]], model: bytes, faces: NDArray[np.float32], *, half_weights: bool
) -> Parity:
    """Run the .dfm `model` on NHWC `faces` with ONNX Runtime and compare with `expected`. Raises ExportError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts: list[Any] = [session.run(None, {name: faces[i : i + 1]}) for i in range(len(faces))]
    actual = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if not all(np.isfinite(x).all() for x in (*expected, *actual)):
        raise ExportError("the exported model paints numbers that are not finite; train again with --precision fp32")
    parity = compare(expected, actual)
    failed = parity.psnr_db < HALF_LIMIT_DB if half_weights else parity.max_abs > FULL_LIMIT
    if failed:
        raise ExportError(
            f"the exported model differs from the trained one (largest difference {parity.max_abs:.2g}, "
            f"PSNR {parity.psnr_db:.1f} dB); report this together with the recipe"
        )
    return parity
