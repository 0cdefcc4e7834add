"""Writes an ONNX graph node by node. Operators and constants in, a checked ModelProto out.

Note [Halves]
    A large constant whose values all are halves is stored as halves behind a Cast. ONNX Runtime folds the Cast when it
    loads the file: the network computes the same numbers from half the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET, _IR_VERSION = 17, 8
_MIN_HALVES = 256
"""Number of values from which on storing halves is worth a node."""


class GraphWriter:
    """Collects nodes; equal constants are stored once."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._known: dict[tuple[object, ...], str] = {}
        self._count = 0

    def constant(self, values: object, dtype: type[np.generic] = np.float32) -> str:
        """The name of a constant with these values."""
        array = np.asarray(values, dtype, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self._store(array)
        return self._known[key]

    def _store(self, array: NDArray[Any]) -> str:
        name = self._new_name("w")
        if array.dtype == np.float32 and array.size >= _MIN_HALVES:
            halves = array.astype(np.float16)
            if np.array_equal(halves.astype(np.float32), array):
                self._constants.append(numpy_helper.from_array(halves, name))
                return self.add("Cast", [name], to=TensorProto.FLOAT)
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def indices(self, values: object) -> str:
        """The name of an int64 constant."""
        return self.constant(values, np.int64)

    def add(self, kind: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Append one node with one output and return the output's name, a new one unless given."""
        name = output or self._new_name("t")
        node = helper.make_node(kind, list(inputs), [name], name=f"{kind}_{len(self._nodes)}", **attributes)
        self._nodes.append(node)
        return name

    def _new_name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}_{self._count}"

    def model(
        self,
        inputs: Mapping[str, Sequence[int]],
        outputs: Mapping[str, Sequence[int]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The finished model; inputs and outputs are float32 of these shapes. Raises onnx's error if invalid."""
        graph = helper.make_graph(self._nodes, "network", _describe(inputs), _describe(outputs), self._constants)
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="liveswap")
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model


def _describe(shapes: Mapping[str, Sequence[int]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in shapes.items()]
