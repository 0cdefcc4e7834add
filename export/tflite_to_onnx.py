"""Converts a TensorFlow Lite network to ONNX. Network in, ModelProto out.

It knows the operators of MediaPipe's face networks and no others. Pictures are (1, H, W, C) in TensorFlow Lite and
(1, C, H, W) in ONNX; values of another rank keep their order. The batch is one.

Note [PReLU as two convolutions]
    ONNX Runtime keeps pictures in blocks of channels from Conv to Conv and unpacks them for a PRelu. Written as
    (1 - a) * relu(x) + a * x with two depthwise 1 x 1 convolutions the same function stays in blocks: the mesh network
    takes 1.8 ms instead of 6.9 ms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.attention_ops import landmarks_to_matrix, sample_by_matrix, transform_landmarks
from export.onnx_graph import GraphWriter
from export.tflite_file import Network, Operator
from realtime.errors import ExportError

_NO_ACTIVATION, _RELU = 0, 1
_SAME_PADDING = 0
_TO_NCHW = {0: 0, 1: 2, 2: 3, 3: 1}
"""Where an axis of a picture goes."""


def convert(network: Network, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """The same network as ONNX with the same names of inputs and outputs; outputs that are 1 x 1 maps become (1, C).

    Raises ExportError for an operator that is not known here.
    """
    return _Converter(network).convert(metadata)


class _Converter:
    def __init__(self, network: Network) -> None:
        self._network = network
        self._graph = GraphWriter()
        self._converters: dict[str, Callable[[Operator], None]] = {
            "ADD": self._add,
            "CONCATENATION": self._concatenate,
            "CONV_2D": self._convolve,
            "DEPTHWISE_CONV_2D": self._convolve,
            "DEPTH_TO_SPACE": self._depth_to_space,
            "MAX_POOL_2D": self._max_pool,
            "MUL": self._multiply,
            "PAD": self._pad,
            "PRELU": self._prelu,
            "RELU": self._relu,
            "RESHAPE": self._reshape,
            "RESIZE_BILINEAR": self._resize,
            "STRIDED_SLICE": self._slice,
            "Landmarks2TransformMatrix": self._landmarks_to_matrix,
            "TransformLandmarks": self._transform_landmarks,
            "TransformTensorBilinear": self._sample_by_matrix,
        }

    def convert(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        tensors = self._network.tensors
        inputs = {tensors[i].name: _shape_to_nchw(tensors[i].shape) for i in self._network.inputs}
        for index in self._network.inputs:
            self._graph.add("Identity", [tensors[index].name], _name(index))
        for operator in self._network.operators:
            if operator.kind not in self._converters:
                raise ExportError(f"operator {operator.kind} is not supported; extend {__name__}")
            self._converters[operator.kind](operator)
        outputs = {}
        for index in self._network.outputs:
            name, shape = tensors[index].name, tensors[index].shape
            if len(shape) == 4:
                shape = (1, math.prod(shape))
                self._graph.add("Reshape", [_name(index), self._graph.indices(shape)], name)
            else:
                self._graph.add("Identity", [_name(index)], name)
            outputs[name] = shape
        return self._graph.model(inputs, outputs, metadata)

    def _shape(self, index: int) -> tuple[int, ...]:
        return self._network.tensors[index].shape

    def _data(self, index: int) -> NDArray[Any]:
        """The value of a constant, in TensorFlow Lite's order."""
        data = self._network.tensors[index].data
        if data is None:
            raise ExportError(f"tensor {self._network.tensors[index].name} is not constant, which is not supported")
        return data

    def _input(self, index: int) -> str:
        """The name of a value in ONNX's order."""
        data = self._network.tensors[index].data
        if data is None:
            return _name(index)
        return self._graph.constant(data.transpose(0, 3, 1, 2) if data.ndim == 4 else data)

    def _finish(self, operator: Operator, result: str) -> None:
        """Give the output of `operator` its value, with the activation that is fused into it."""
        activation = operator.options.get("FusedActivationFunction", _NO_ACTIVATION)
        if activation not in (_NO_ACTIVATION, _RELU):
            raise ExportError(f"fused activation {activation} is not supported; extend {__name__}")
        self._graph.add("Relu" if activation == _RELU else "Identity", [result], _name(operator.outputs[0]))

    def _simple(self, operator: Operator, kind: str, inputs: list[str], **attributes: Any) -> None:
        """One TensorFlow Lite operator that is one ONNX operator."""
        if operator.options.get("FusedActivationFunction", _NO_ACTIVATION) == _NO_ACTIVATION:
            self._graph.add(kind, inputs, _name(operator.outputs[0]), **attributes)
        else:
            self._finish(operator, self._graph.add(kind, inputs, **attributes))

    def _add(self, operator: Operator) -> None:
        self._simple(operator, "Add", [self._input(i) for i in operator.inputs])

    def _multiply(self, operator: Operator) -> None:
        self._simple(operator, "Mul", [self._input(i) for i in operator.inputs])

    def _relu(self, operator: Operator) -> None:
        self._simple(operator, "Relu", [self._input(operator.inputs[0])])

    def _convolve(self, operator: Operator) -> None:
        picture, weights_index, *bias = operator.inputs
        depthwise = operator.kind == "DEPTHWISE_CONV_2D"
        weights = self._data(weights_index).transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        inputs = [self._input(picture), self._graph.constant(weights)]
        inputs += [self._graph.constant(self._data(i)) for i in bias if i >= 0]
        options = operator.options
        strides = (options["StrideH"], options["StrideW"])
        dilations = (options["DilationHFactor"], options["DilationWFactor"])
        self._simple(
            operator,
            "Conv",
            inputs,
            kernel_shape=weights.shape[2:],
            strides=strides,
            dilations=dilations,
            group=len(weights) if depthwise else 1,
            pads=self._pads(operator, weights.shape[2:], strides, dilations),
        )

    def _max_pool(self, operator: Operator) -> None:
        options = operator.options
        kernel, strides = (options["FilterHeight"], options["FilterWidth"]), (options["StrideH"], options["StrideW"])
        pads = self._pads(operator, kernel, strides, (1, 1))
        self._simple(
            operator, "MaxPool", [self._input(operator.inputs[0])], kernel_shape=kernel, strides=strides, pads=pads
        )

    def _pads(
        self, operator: Operator, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
    ) -> list[int]:
        """Top, left, bottom, right; TensorFlow's SAME puts the odd pixel at the bottom and at the right."""
        if operator.options["Padding"] != _SAME_PADDING:
            return [0, 0, 0, 0]
        before, after = [], []
        sizes = self._shape(operator.inputs[0])[1:3]
        for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
            before.append(total // 2)
            after.append(total - total // 2)
        return before + after

    def _prelu(self, operator: Operator) -> None:
        """See Note [PReLU as two convolutions]."""
        picture, slope = self._input(operator.inputs[0]), self._data(operator.inputs[1]).reshape(-1, 1, 1, 1)
        positive = self._graph.add("Relu", [picture])
        scaled = [
            self._graph.add("Conv", [value, self._graph.constant(factor)], kernel_shape=[1, 1], group=len(slope))
            for value, factor in ((positive, 1 - slope), (picture, slope))
        ]
        self._simple(operator, "Add", scaled)

    def _pad(self, operator: Operator) -> None:
        pads = self._data(operator.inputs[1])[[0, 3, 1, 2]]
        self._simple(operator, "Pad", [self._input(operator.inputs[0]), self._graph.indices(pads.T.ravel())])

    def _resize(self, operator: Operator) -> None:
        mode = "align_corners" if operator.options["AlignCorners"] else "asymmetric"
        if operator.options["HalfPixelCenters"]:
            mode = "half_pixel"
        old, new = self._shape(operator.inputs[0]), self._shape(operator.outputs[0])
        scales = self._graph.constant([1, 1, new[1] / old[1], new[2] / old[2]])
        inputs = [self._input(operator.inputs[0]), "", scales]
        self._simple(operator, "Resize", inputs, mode="linear", coordinate_transformation_mode=mode)

    def _depth_to_space(self, operator: Operator) -> None:
        size = operator.options["BlockSize"]
        self._simple(operator, "DepthToSpace", [self._input(operator.inputs[0])], blocksize=size, mode="DCR")

    def _reshape(self, operator: Operator) -> None:
        old, new = self._shape(operator.inputs[0]), self._shape(operator.outputs[0])
        value = self._input(operator.inputs[0])
        if len(old) == 4 and old[1:3] != (1, 1):
            value = self._graph.add("Transpose", [value], perm=[0, 2, 3, 1])
        if len(new) == 4 and new[1:3] != (1, 1):
            raise ExportError(f"a reshape to the picture {new} is not supported; extend {__name__}")
        self._simple(operator, "Reshape", [value, self._graph.indices(_shape_to_nchw(new))])

    def _concatenate(self, operator: Operator) -> None:
        rank = len(self._shape(operator.outputs[0]))
        axis = operator.options["Axis"] % rank
        values = [self._input(i) for i in operator.inputs]
        self._simple(operator, "Concat", values, axis=_TO_NCHW[axis] if rank == 4 else axis)

    def _slice(self, operator: Operator) -> None:
        options, shape = operator.options, self._shape(operator.inputs[0])
        if options["EllipsisMask"] or options["NewAxisMask"] or options["ShrinkAxisMask"]:
            raise ExportError(f"a slice that changes the rank is not supported; extend {__name__}")
        begin, end, step = (self._data(i).astype(np.int64) for i in operator.inputs[1:4])
        bits = 1 << np.arange(len(shape))
        begin = np.where(options["BeginMask"] & bits, 0, begin)
        end = np.where(options["EndMask"] & bits, shape, end)
        axes = [_TO_NCHW[axis] if len(shape) == 4 else axis for axis in range(len(shape))]
        limits = [self._graph.indices(values) for values in (begin, end, axes, step)]
        self._simple(operator, "Slice", [self._input(operator.inputs[0]), *limits])

    def _landmarks_to_matrix(self, operator: Operator) -> None:
        matrix = landmarks_to_matrix(self._graph, self._input(operator.inputs[0]), operator.options)
        self._simple(operator, "Identity", [matrix])

    def _transform_landmarks(self, operator: Operator) -> None:
        moved = transform_landmarks(self._graph, *(self._input(i) for i in operator.inputs))
        self._simple(operator, "Identity", [moved])

    def _sample_by_matrix(self, operator: Operator) -> None:
        picture, matrix = operator.inputs
        height, width = self._shape(picture)[1:3]
        options = operator.options
        target = (options["output_height"], options["output_width"])
        sampled = sample_by_matrix(self._graph, self._input(picture), self._input(matrix), (height, width), target)
        self._simple(operator, "Identity", [sampled])


def _name(index: int) -> str:
    return f"value_{index}"


def _shape_to_nchw(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape
