"""Reads a TensorFlow Lite network. Bytes in, its tensors and operators out, constants unpacked.

Two things that a file does to be small are undone here, so that nobody else meets them: weights stored as halves behind
a DEQUANTIZE operator, and weights stored sparsely behind a DENSIFY operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite
from flatbuffers import flexbuffers
from numpy.typing import NDArray

from realtime.errors import ExportError

_DTYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
    tflite.TensorType.INT64: np.int64,
    tflite.TensorType.UINT8: np.uint8,
    tflite.TensorType.INT8: np.int8,
}
_OPTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "ADD": (tflite.AddOptions, ("FusedActivationFunction",)),
    "CONCATENATION": (tflite.ConcatenationOptions, ("Axis", "FusedActivationFunction")),
    "CONV_2D": (
        tflite.Conv2DOptions,
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    ),
    "DEPTHWISE_CONV_2D": (
        tflite.DepthwiseConv2DOptions,
        ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", "FusedActivationFunction"),
    ),
    "DEPTH_TO_SPACE": (tflite.DepthToSpaceOptions, ("BlockSize",)),
    "MAX_POOL_2D": (
        tflite.Pool2DOptions,
        ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
    ),
    "MUL": (tflite.MulOptions, ("FusedActivationFunction",)),
    "RESIZE_BILINEAR": (tflite.ResizeBilinearOptions, ("AlignCorners", "HalfPixelCenters")),
    "STRIDED_SLICE": (
        tflite.StridedSliceOptions,
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
    ),
}
"""The options of the operators that have some: their class, and the names of its getters."""


Level = int | tuple[NDArray[np.intp], NDArray[np.intp]]
"""One level of a sparse array: its size if every index is there, else where each parent's indices begin, and these."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One value of the network."""

    name: str
    shape: tuple[int, ...]
    data: NDArray[Any] | None
    """The value of a constant, float32 where it was float16; None for what is computed at run time."""


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One step of the network."""

    kind: str
    """TensorFlow Lite's name in capitals, or the name of a custom operator as it is."""
    inputs: tuple[int, ...]
    """Indices of tensors; -1 for an optional one that is absent."""
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network in the order in which it runs."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(content: bytes) -> Network:
    """Read the content of a .tflite file with one graph. Raises ExportError when it is not one."""
    if content[4:8] != b"TFL3":
        raise ExportError("this is not a TensorFlow Lite file; take it from the MediaPipe wheel again")
    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    tensors = [_read_tensor(model, graph.Tensors(i)) for i in range(graph.TensorsLength())]
    operators = []
    for operator in (_read_operator(model, graph.Operators(i)) for i in range(graph.OperatorsLength())):
        source = tensors[operator.inputs[0]]
        if operator.kind in ("DEQUANTIZE", "DENSIFY") and source.data is not None:
            target = operator.outputs[0]
            tensors[target] = Tensor(tensors[target].name, source.shape, source.data)
        else:
            operators.append(operator)
    inputs, outputs = _as_tuple(graph.InputsAsNumpy()), _as_tuple(graph.OutputsAsNumpy())
    return Network(tuple(tensors), tuple(operators), inputs, outputs)


def _read_tensor(model: Any, raw: Any) -> Tensor:
    shape = _as_tuple(raw.ShapeAsNumpy()) if raw.ShapeLength() else ()
    name, buffer = raw.Name().decode(), model.Buffers(raw.Buffer())
    if not buffer.DataLength():
        return Tensor(name, shape, None)
    if raw.Type() not in _DTYPES:
        raise ExportError(f"tensor {name} has number type {raw.Type()}, which is not supported; extend {__name__}")
    values = np.frombuffer(buffer.DataAsNumpy().tobytes(), _DTYPES[raw.Type()])
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    return Tensor(name, shape, _read_sparse(raw.Sparsity(), values, shape) if raw.Sparsity() else values.reshape(shape))


def _read_sparse(sparsity: Any, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    levels: list[Level] = []
    for level in (sparsity.DimMetadata(i) for i in range(sparsity.DimMetadataLength())):
        if level.Format() == tflite.DimensionType.DENSE:
            levels.append(level.DenseSize())
        else:
            segments = _read_vector(level.ArraySegmentsType(), level.ArraySegments())
            levels.append((segments, _read_vector(level.ArrayIndicesType(), level.ArrayIndices())))
    blocks = [int(sparsity.BlockMap(i)) for i in range(sparsity.BlockMapLength())]
    return unpack(values, shape, levels, sparsity.TraversalOrderAsNumpy().tolist(), blocks)


def unpack(
    values: NDArray[Any], shape: tuple[int, ...], levels: Sequence[Level], order: Sequence[int], blocks: Sequence[int]
) -> NDArray[Any]:
    """The dense array of `values` that are stored along a tree.

    `levels` is the tree from its root; `order` says which dimension each level walks: one of the array, or, counted
    on from there, one inside the blocks; `blocks` says of which dimension of the array a block dimension is a part.
    """
    coordinates = np.zeros((1, 0), np.intp)
    for level in levels:
        if isinstance(level, int):
            repeats, index = np.full(len(coordinates), level), np.tile(np.arange(level), len(coordinates))
        else:
            repeats, index = np.diff(level[0]), level[1]
        coordinates = np.column_stack([np.repeat(coordinates, repeats, axis=0), index])
    by_dimension = [coordinates[:, order.index(i)] for i in range(len(order))]
    for inner, dimension in enumerate(blocks, start=len(shape)):
        size = levels[order.index(inner)]
        by_dimension[dimension] = by_dimension[dimension] * size + by_dimension[inner]
    dense = np.zeros(shape, values.dtype)
    dense[tuple(by_dimension[: len(shape)])] = values
    return dense


def _read_vector(kind: int, table: Any) -> NDArray[np.intp]:
    vectors = {
        tflite.SparseIndexVector.Int32Vector: tflite.Int32Vector,
        tflite.SparseIndexVector.Uint16Vector: tflite.Uint16Vector,
        tflite.SparseIndexVector.Uint8Vector: tflite.Uint8Vector,
    }
    vector = vectors[kind]()
    vector.Init(table.Bytes, table.Pos)
    return np.asarray(vector.ValuesAsNumpy(), np.intp)


def _read_operator(model: Any, raw: Any) -> Operator:
    code = model.OperatorCodes(raw.OpcodeIndex())
    # Files of before 2020 have the number of the operator in the deprecated field, newer ones in the other.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    options: dict[str, Any] = {}
    if number == tflite.BuiltinOperator.CUSTOM:
        kind = code.CustomCode().decode()
        if raw.CustomOptionsLength():
            options = flexbuffers.Loads(raw.CustomOptionsAsNumpy().tobytes())
    else:
        kind = next(name for name, value in vars(tflite.BuiltinOperator).items() if value == number)
        if kind in _OPTIONS:
            reader, names = _OPTIONS[kind]
            values, table = reader(), raw.BuiltinOptions()
            values.Init(table.Bytes, table.Pos)
            options = {name: getattr(values, name)() for name in names}
    return Operator(kind, _as_tuple(raw.InputsAsNumpy()), _as_tuple(raw.OutputsAsNumpy()), options)


def _as_tuple(indices: NDArray[np.int32]) -> tuple[int, ...]:
    return tuple(int(i) for i in indices)
