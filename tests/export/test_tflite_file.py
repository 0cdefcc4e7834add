"""Reading TensorFlow Lite files: sparse arrays by hand, and a small file built here."""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import numpy as np
import pytest
import tflite
from numpy.typing import NDArray

from export.tflite_file import Level, read_tflite, unpack
from realtime.errors import ExportError


def ints(*values: int) -> NDArray[np.intp]:
    return np.array(values, np.intp)


def test_rows_that_are_stored_sparsely_are_unpacked() -> None:
    dense = unpack(np.array([1.0, 2.0, 3.0]), (3, 4), [3, (ints(0, 2, 2, 3), ints(0, 3, 1))], [0, 1], [])
    assert dense.tolist() == [[1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 0]]


def test_columns_can_come_before_rows() -> None:
    dense = unpack(np.array([1.0, 2.0, 3.0]), (4, 3), [3, (ints(0, 2, 2, 3), ints(0, 3, 1))], [1, 0], [])
    assert dense.tolist() == [[1, 0, 0], [0, 0, 3], [0, 0, 0], [2, 0, 0]]


def test_blocks_are_unpacked_where_they_belong() -> None:
    """The example of the format: a (4, 4) array in blocks of (2, 2), of which two hold values."""
    levels: list[Level] = [2, (ints(0, 1, 2), ints(0, 1)), 2, 2]
    dense = unpack(np.arange(1.0, 9.0), (4, 4), levels, [0, 1, 2, 3], [0, 1])
    assert dense.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]


def test_an_array_without_values_is_all_zero() -> None:
    dense = unpack(np.zeros(0, np.float32), (2, 3), [2, (ints(0, 0, 0), ints())], [0, 1], [])
    assert dense.tolist() == [[0, 0, 0], [0, 0, 0]]


class TinyFile:
    """Builds a file with one constant, stored sparsely as halves, and RELU(x + constant)."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def vector(self, items: Sequence[int], start: str, table: str) -> int:
        getattr(tflite, f"{table}Start{start}Vector")(self.builder, len(items))
        for item in reversed(items):
            if start in ("TraversalOrder", "Shape", "Inputs", "Outputs"):
                self.builder.PrependInt32(item)
            else:
                self.builder.PrependUOffsetTRelative(item)
        return int(self.builder.EndVector())

    def table(self, name: str, **fields: int) -> int:
        getattr(tflite, f"{name}Start")(self.builder)
        for field, value in fields.items():
            getattr(tflite, f"{name}Add{field}")(self.builder, value)
        return int(getattr(tflite, f"{name}End")(self.builder))

    def sparse_level(self, segments: Sequence[int], indices: Sequence[int]) -> int:
        tables = []
        for values in (segments, indices):
            vector = self.builder.CreateNumpyVector(np.array(values, np.uint8))
            tables.append(self.table("Uint8Vector", Values=vector))
        kind = tflite.SparseIndexVector.Uint8Vector
        return self.table(
            "DimensionMetadata",
            Format=tflite.DimensionType.SPARSE_CSR,
            ArraySegmentsType=kind,
            ArraySegments=tables[0],
            ArrayIndicesType=kind,
            ArrayIndices=tables[1],
        )

    def tensor(self, name: str, kind: int, buffer: int = 0, **fields: int) -> int:
        text, shape = self.builder.CreateString(name), self.vector([2, 3], "Shape", "Tensor")
        return self.table("Tensor", Shape=shape, Type=kind, Buffer=buffer, Name=text, **fields)

    def operator(self, code: int, inputs: Sequence[int], outputs: Sequence[int], **fields: int) -> int:
        ends = self.vector(inputs, "Inputs", "Operator"), self.vector(outputs, "Outputs", "Operator")
        return self.table("Operator", OpcodeIndex=code, Inputs=ends[0], Outputs=ends[1], **fields)

    def build(self, number_type: int = tflite.TensorType.FLOAT16) -> bytes:
        data = self.builder.CreateNumpyVector(np.frombuffer(np.array([1.5, -2], np.float16).tobytes(), np.uint8))
        buffers = [self.table("Buffer"), self.table("Buffer", Data=data)]
        levels = [
            self.table("DimensionMetadata", Format=tflite.DimensionType.DENSE, DenseSize=2),
            self.sparse_level([0, 1, 2], [2, 0]),
        ]
        sparsity = self.table(
            "SparsityParameters",
            TraversalOrder=self.vector([0, 1], "TraversalOrder", "SparsityParameters"),
            DimMetadata=self.vector(levels, "DimMetadata", "SparsityParameters"),
        )
        half, single = tflite.TensorType.FLOAT16, tflite.TensorType.FLOAT32
        tensors = [
            self.tensor("x", single),
            self.tensor("packed", number_type, 1, Sparsity=sparsity),
            self.tensor("halves", half),
            self.tensor("constant", single),
            self.tensor("y", single),
        ]
        kinds = (tflite.BuiltinOperator.DENSIFY, tflite.BuiltinOperator.DEQUANTIZE, tflite.BuiltinOperator.ADD)
        codes = [self.table("OperatorCode", DeprecatedBuiltinCode=kind, BuiltinCode=kind) for kind in kinds]
        add = self.table("AddOptions", FusedActivationFunction=tflite.ActivationFunctionType.RELU)
        operators = [
            self.operator(0, [1], [2]),
            self.operator(1, [2], [3]),
            self.operator(2, [0, 3], [4], BuiltinOptionsType=tflite.BuiltinOptions.AddOptions, BuiltinOptions=add),
        ]
        graph = self.table(
            "SubGraph",
            Tensors=self.vector(tensors, "Tensors", "SubGraph"),
            Inputs=self.vector([0], "Inputs", "SubGraph"),
            Outputs=self.vector([4], "Outputs", "SubGraph"),
            Operators=self.vector(operators, "Operators", "SubGraph"),
        )
        model = self.table(
            "Model",
            Version=3,
            OperatorCodes=self.vector(codes, "OperatorCodes", "Model"),
            Subgraphs=self.vector([graph], "Subgraphs", "Model"),
            Buffers=self.vector(buffers, "Buffers", "Model"),
        )
        self.builder.Finish(model, b"TFL3")
        return bytes(self.builder.Output())


def test_constants_are_unpacked_and_their_operators_gone() -> None:
    network = read_tflite(TinyFile().build())
    assert [tensor.name for tensor in network.tensors] == ["x", "packed", "halves", "constant", "y"]
    constant = network.tensors[3].data
    assert constant is not None
    assert constant.dtype == np.float32
    assert constant.tolist() == [[0, 0, 1.5], [-2, 0, 0]]
    (operator,) = network.operators
    assert operator.kind == "ADD"
    assert (operator.inputs, operator.outputs) == ((0, 3), (4,))
    assert operator.options == {"FusedActivationFunction": tflite.ActivationFunctionType.RELU}
    assert (network.inputs, network.outputs) == ((0,), (4,))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x00" * 100])
def test_another_file_is_refused_in_one_sentence(content: bytes) -> None:
    with pytest.raises(ExportError, match="not a TensorFlow Lite file; take it from the MediaPipe wheel again"):
        read_tflite(content)


def test_an_unknown_number_type_is_named() -> None:
    with pytest.raises(ExportError, match="tensor packed has number type"):
        read_tflite(TinyFile().build(tflite.TensorType.COMPLEX64))
