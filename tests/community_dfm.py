"""Builds small .dfm files for tests: community-style ones with random weights, plain ones, and broken ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
OUTPUTS = ("out_face_mask:0", "out_celeb_face:0", "out_celeb_face_mask:0")
"""The names DeepFaceLab gives, in its order."""


def random_dfm(
    path: Path,
    *,
    resolution: int = 64,
    morph: bool = False,
    batch: int | str = "N",
    face_input: str = "in_face:0",
    outputs: Sequence[str] = OUTPUTS,
    order: Sequence[int] = (0, 1, 2),
    metadata: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """A model as DeepFaceLab writes it, with random weights: transposes around an NCHW net, sigmoids, opset 12.

    order: which of performer's mask, face, identity's mask stands at each output position; `outputs` are its names.
    """
    rng = np.random.default_rng(seed)
    weights = {
        "w_in": rng.normal(0, 0.3, (8, 3, 3, 3)),
        "w_out": rng.normal(0, 0.3, (5, 8, 3, 3)),
        "b_out": np.array([2.0, 0, 0, 0, 2.0]),
    }
    nodes = [
        helper.make_node("Transpose", [face_input], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w_in"], ["hidden_a"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["hidden_a"], ["hidden_b"], alpha=0.1),
    ]
    if morph:
        nodes.append(helper.make_node("Mul", ["hidden_b", "morph_value:0"], ["hidden_c"]))
    nodes += [
        helper.make_node(
            "Conv", ["hidden_c" if morph else "hidden_b", "w_out", "b_out"], ["hidden_d"], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Sigmoid", ["hidden_d"], ["hidden_e"]),
        helper.make_node("Split", ["hidden_e"], ["m0", "m1", "m2"], axis=1, split=[1, 3, 1]),
    ]
    parts = [f"m{i}" for i in order]
    nodes += [
        helper.make_node("Transpose", [part], [name], perm=[0, 2, 3, 1])
        for part, name in zip(parts, outputs, strict=True)
    ]
    inputs = [helper.make_tensor_value_info(face_input, FLOAT, [batch, resolution, resolution, 3])]
    if morph:
        inputs.append(helper.make_tensor_value_info("morph_value:0", FLOAT, [1]))
    channels = (1, 3, 1)
    results = [
        helper.make_tensor_value_info(name, FLOAT, [batch, resolution, resolution, channels[i]])
        for i, name in zip(order, outputs, strict=True)
    ]
    return save(path, nodes, inputs, results, {k: np.asarray(v, np.float32) for k, v in weights.items()}, metadata)


def painting_dfm(
    path: Path,
    *,
    resolution: int = 64,
    colour: Sequence[float] = (0.2, 0.4, 0.9),
    mask: float | NDArray[np.float32] = 1.0,
    keep: float = 0.0,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A model whose answer is known: face = keep * input + (1 - keep) * colour (BGR), both masks = `mask` (R, R)."""
    mask_image = np.broadcast_to(np.asarray(mask, np.float32), (resolution, resolution))[None, :, :, None]
    weights = {
        "keep": np.float32(keep) * np.ones(1, np.float32),
        "paint": np.float32(1 - keep) * np.asarray(colour, np.float32),
        "mask": np.ascontiguousarray(mask_image),
    }
    nodes = [
        helper.make_node("Mul", ["in_face:0", "keep"], ["kept"]),
        helper.make_node("Add", ["kept", "paint"], [OUTPUTS[1]]),
        helper.make_node("Identity", ["mask"], [OUTPUTS[0]]),
        helper.make_node("Identity", ["mask"], [OUTPUTS[2]]),
    ]
    inputs = [helper.make_tensor_value_info("in_face:0", FLOAT, [1, resolution, resolution, 3])]
    results = [
        helper.make_tensor_value_info(name, FLOAT, [1, resolution, resolution, channels])
        for name, channels in zip(OUTPUTS, (1, 3, 1), strict=True)
    ]
    return save(path, nodes, inputs, results, weights, metadata)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, NDArray[np.float32]],
    metadata: Mapping[str, str] | None = None,
    opset: int = 12,
    extra_domains: Sequence[str] = (),
) -> Path:
    """Write one graph as a single file; nothing is checked, so broken models can be written too."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "dfm", list(inputs), list(outputs), initializers)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in extra_domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=7, producer_name="test")
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    return path


def liveswap_metadata(**facts: object) -> dict[str, str]:
    """ONNX metadata as liveswap's export writes it: one JSON value per key."""
    return {f"liveswap.{key}": json.dumps(value) for key, value in facts.items()}
