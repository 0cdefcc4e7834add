"""Builds a .dfm as the community makes them, with random weights: for timing, never for looking at. A path out.

The shape is that of a light DeepFaceLab autoencoder of 128 px: four strided 5x5 convolutions, two dense layers, and
decoders of 3x3 convolutions and pixel shuffles: one with residual blocks for the face, a narrower one for each mask.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.community_dfm import OUTPUTS, save

RESOLUTION = 128
_MASK_BIAS = 9.0
"""Random weights paint no mask: this makes both cover everything, so that no frame is refused. The work is the same."""


@dataclass
class _Net:
    """Nodes and weights as they come, and what one run multiplies."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    macs: int = 0

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(value)
        return name

    def conv(
        self, x: str, channels: tuple[int, int], kernel: int, side: int, *, stride: int = 1, bias: float = 0
    ) -> str:
        """`side`: of what comes out."""
        before, after = channels
        scale = (2 / (before * kernel * kernel)) ** 0.5
        weight = self.constant(self.rng.normal(0, scale, (after, before, kernel, kernel)).astype(np.float32))
        offset = self.constant(np.full(after, bias, np.float32))
        self.macs += side * side * after * before * kernel * kernel
        low = (kernel - 1) // 2
        pads = [low, low, kernel - stride - low, kernel - stride - low] if stride > 1 else [low] * 4
        return self.node("Conv", x, weight, offset, strides=[stride] * 2, pads=pads, kernel_shape=[kernel] * 2)

    def dense(self, x: str, before: int, after: int) -> str:
        weight = self.rng.normal(0, (1 / before) ** 0.5, (before, after)).astype(np.float32)
        self.macs += before * after
        return self.node("MatMul", x, self.constant(weight))

    def act(self, x: str) -> str:
        return self.node("LeakyRelu", x, alpha=0.1)

    def upscale(self, x: str, before: int, after: int, side: int) -> str:
        """`side`: of what comes in; twice that comes out."""
        wide = self.act(self.conv(x, (before, 4 * after), 3, side))
        return self.node("DepthToSpace", wide, blocksize=2, mode="DCR")

    def residual(self, x: str, channels: int, side: int) -> str:
        inner = self.act(self.conv(x, (channels, channels), 3, side))
        return self.act(self.node("Add", self.conv(inner, (channels, channels), 3, side), x))

    def decode(self, code: str, widths: tuple[int, ...], outputs: int, *, residuals: bool, bias: float) -> str:
        x, side = code, RESOLUTION // 16
        for before, after in itertools.pairwise(widths):
            x, side = self.upscale(x, before, after, side), side * 2
            x = self.residual(x, after, side) if residuals else x
        return self.node("Sigmoid", self.conv(x, (widths[-1], outputs), 1, side, bias=bias))


def write_light_model(path: Path, *, seed: int = 0) -> int:
    """Write the model; how many multiplications one run takes, about a thousand million, comes back."""
    net = _Net(np.random.default_rng(seed))
    x = net.node("Transpose", "in_face:0", perm=[0, 3, 1, 2])
    side, channels = RESOLUTION, (3, 32, 64, 128, 256)
    for before, after in itertools.pairwise(channels):
        side //= 2
        x = net.act(net.conv(x, (before, after), 5, side, stride=2))
    flat = net.node("Flatten", x)
    code = net.dense(net.dense(flat, channels[-1] * side * side, 128), 128, 128 * side * side)
    code = net.node("Reshape", code, net.constant(np.array([1, 128, side, side], np.int64)))
    face = net.decode(code, (128, 96, 64, 48, 24), 3, residuals=True, bias=0)
    masks = [net.decode(code, (128, 32, 24, 16, 8), 1, residuals=False, bias=_MASK_BIAS) for _ in range(2)]
    for part, name in zip((masks[0], face, masks[1]), OUTPUTS, strict=True):
        net.nodes.append(helper.make_node("Transpose", [part], [name], perm=[0, 2, 3, 1]))
    shape = [1, RESOLUTION, RESOLUTION]
    inputs = [helper.make_tensor_value_info("in_face:0", TensorProto.FLOAT, [*shape, 3])]
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [*shape, depth])
        for name, depth in zip(OUTPUTS, (1, 3, 1), strict=True)
    ]
    save(path, net.nodes, inputs, results, net.weights)
    return net.macs
