"""MediaPipe's three custom operators of the attention mesh, written with ONNX's own. Names of values in and out.

The network looks a second time, closer, at the lips and at each eye: it fits a rotated rectangle around some landmarks,
samples its features there, and moves the landmarks that it finds there back. What the operators compute is read from
MediaPipe's sources (mediapipe/util/tflite/operations, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from export.onnx_graph import GraphWriter
from realtime.errors import ExportError

_OUTSIDE = -9.0
"""A sampling coordinate far outside [-1, 1]: GridSample gives zero there."""


def landmarks_to_matrix(graph: GraphWriter, landmarks: str, options: Mapping[str, Any]) -> str:
    """Landmarks2TransformMatrix: (1, N, 3) landmarks -> (1, 4, 4) matrix from output pixels to input pixels.

    The rectangle is turned as the line between two landmarks is; cosine and sine come from that line, so that no
    trigonometry is needed.
    """
    if options["target_rotation_radians"] != 0:
        raise ExportError(f"a target rotation is not supported; extend {__name__}")
    width, height = options["output_width"], options["output_height"]

    def add(a: str, b: str) -> str:
        return graph.add("Add", [a, b])

    def sub(a: str, b: str) -> str:
        return graph.add("Sub", [a, b])

    def mul(a: str, b: str) -> str:
        return graph.add("Mul", [a, b])

    def column(points: str, index: int) -> str:
        return _slice(graph, points, 2, index, index + 1)

    def point(index: int) -> str:
        return graph.add("Gather", [plane, graph.indices([index])], axis=1)

    plane = _slice(graph, landmarks, 2, 0, 2)
    line = sub(point(options["right_rotation_idx"]), point(options["left_rotation_idx"]))
    length = graph.add("Sqrt", [graph.add("ReduceSum", [mul(line, line), graph.indices([2])], keepdims=1)])
    direction = graph.add("Div", [line, length])
    cos, sin = column(direction, 0), column(direction, 1)

    subset = graph.add("Gather", [plane, graph.indices(options["subset_idxs"])], axis=1)
    x, y = column(subset, 0), column(subset, 1)
    middles, extents = [], []
    for upright in (add(mul(cos, x), mul(sin, y)), sub(mul(cos, y), mul(sin, x))):
        high = graph.add("ReduceMax", [upright], axes=[1], keepdims=1)
        low = graph.add("ReduceMin", [upright], axes=[1], keepdims=1)
        middles.append(mul(add(high, low), graph.constant(0.5)))
        extents.append(sub(high, low))
    centre_x = sub(mul(cos, middles[0]), mul(sin, middles[1]))
    centre_y = add(mul(sin, middles[0]), mul(cos, middles[1]))
    scale_x = mul(extents[0], graph.constant(options["scale_x"] / width))
    scale_y = mul(extents[1], graph.constant(options["scale_y"] / height))

    a, b = mul(cos, scale_x), graph.add("Neg", [mul(sin, scale_y)])
    c, d = mul(sin, scale_x), mul(cos, scale_y)
    half_width, half_height = graph.constant(width / 2), graph.constant(height / 2)
    shift_x = sub(centre_x, add(mul(a, half_width), mul(b, half_height)))
    shift_y = sub(centre_y, add(mul(c, half_width), mul(d, half_height)))
    zero, one = graph.constant([[[0.0]]]), graph.constant([[[1.0]]])
    rows = [a, b, zero, shift_x, c, d, zero, shift_y, zero, zero, one, zero, zero, zero, zero, one]
    return graph.add("Reshape", [graph.add("Concat", rows, axis=2), graph.indices([1, 4, 4])])


def sample_by_matrix(
    graph: GraphWriter, picture: str, matrix: str, size: tuple[int, int], target: tuple[int, int]
) -> str:
    """TransformTensorBilinear: (1, C, *size) features -> (1, C, *target), zero where the rectangle leaves them."""
    linear, shift = _affine(graph, matrix)
    y, x = np.mgrid[: target[0], : target[1]]
    centres = np.stack([x.ravel(), y.ravel()])[None] + 0.5
    moved = graph.add("Add", [graph.add("MatMul", [linear, graph.constant(centres)]), shift])
    pixels = graph.add("Sub", [moved, graph.constant(0.5)])
    last = np.array([size[1] - 1, size[0] - 1], np.float32).reshape(1, 2, 1)
    above = graph.add("GreaterOrEqual", [pixels, graph.constant(0.0)])
    below = graph.add("LessOrEqual", [pixels, graph.constant(last)])
    unit = graph.add("Sub", [graph.add("Mul", [pixels, graph.constant(2 / last)]), graph.constant(1.0)])
    inside = graph.add("Where", [graph.add("And", [above, below]), unit, graph.constant(_OUTSIDE)])
    rows = graph.add("Transpose", [inside], perm=[0, 2, 1])
    grid = graph.add("Reshape", [rows, graph.indices([1, *target, 2])])
    return graph.add("GridSample", [picture, grid], mode="bilinear", padding_mode="zeros", align_corners=1)


def transform_landmarks(graph: GraphWriter, landmarks: str, matrix: str) -> str:
    """TransformLandmarks: (1, N, 2) landmarks moved by a (1, 4, 4) matrix."""
    linear, shift = (graph.add("Transpose", [part], perm=[0, 2, 1]) for part in _affine(graph, matrix))
    return graph.add("Add", [graph.add("MatMul", [landmarks, linear]), shift])


def _affine(graph: GraphWriter, matrix: str) -> tuple[str, str]:
    """(1, 2, 2) and (1, 2, 1): what a (1, 4, 4) matrix does to x and y."""
    rows = _slice(graph, matrix, 1, 0, 2)
    return _slice(graph, rows, 2, 0, 2), _slice(graph, rows, 2, 3, 4)


def _slice(graph: GraphWriter, value: str, axis: int, begin: int, end: int) -> str:
    return graph.add("Slice", [value, *(graph.indices([n]) for n in (begin, end, axis))])
