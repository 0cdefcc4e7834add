"""Turns a training run into a model file. A run folder in, one .dfm out, checked against what it was made from.

Note [One model file]
    A .dfm is plain ONNX in the shape that DeepFaceLive and facefusion load: opset 17, NHWC, BGR, float32 in [0, 1],
    static R; input `in_face:0`; outputs by position `out_face_mask:0`, `out_celeb_face:0`, `out_celeb_face_mask:0`.
    What is ours to say - crop, training, facesets, subject, consent - travels as JSON in the ONNX metadata, which
    other programs ignore. Weights may be stored as float16 and cast when the model is loaded: half the size, and the
    arithmetic stays float32.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.statement import Statement
from export.verify import Parity, check_parity
from realtime.dfm import Placement
from realtime.errors import ExportError, UsageError
from realtime.files import explain, write_atomically
from training import checkpoint
from training.checkpoint import Progress, RunRecord
from training.evaluate import hold_out, look, open_facesets
from training.model import SwapModel
from training.truth import Truth

OPSET = 17
INPUT = "in_face:0"
OUTPUTS = ("out_face_mask:0", "out_celeb_face:0", "out_celeb_face_mask:0")
_SMALL = 1024
"""Constants up to this many values stay float32: biases gain nothing from being halved."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written and how far ONNX Runtime's answer lies from PyTorch's."""

    path: str
    size_bytes: int
    resolution: int
    subject: str
    max_abs: float
    """Largest difference of any output value, [0, 1]."""
    psnr_db: float
    """Of the output that differs most."""
    faces_compared: int
    weights: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class SwapGraph(nn.Module):
    """The live half of a model in the layout of a .dfm: NHWC in, the three NHWC outputs out."""

    def __init__(self, model: SwapModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        painted, performer_mask = self.model(faces.permute(0, 3, 1, 2), "identity")
        outputs = (performer_mask, painted.face, painted.mask)
        mask, face, face_mask = (x.permute(0, 2, 3, 1) for x in outputs)
        return mask, face, face_mask


def export_run(
    run: Path,
    out: Path,
    statement: Statement,
    *,
    placement: Placement | None = None,
    half_weights: bool = True,
) -> ExportReport:
    """Write the best model of `run` to `out`, unless ONNX Runtime disagrees with PyTorch about what it paints.

    `statement`: what the model says about the person whose face it shows, see export.statement.
    `placement`: how the face is to be laid over the performer's, see export.placement; None: as it is painted.
    Raises UsageError for a call that cannot work, TrainingError for a run that cannot be read, ExportError otherwise.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder; give a file name that ends in .dfm")
    if not out.parent.exists():
        raise UsageError(f"the folder {out.parent} does not exist; make it, or choose another place")
    if out.suffix.lower() != ".dfm":
        raise UsageError(f"a model file ends in .dfm, for example {out.with_suffix('.dfm').name}")
    model, record, progress = checkpoint.load_best(run)
    facesets = open_facesets(record)
    held_out = hold_out(facesets, record.config)
    figures = look(model, held_out, Truth.open(run, facesets, record.config))
    card = describe(record, progress, figures) | statement.card()
    if placement is not None:
        card["placement"] = [placement.scale, placement.shift_x, placement.shift_y]
    data = to_onnx(model, card, half_weights=half_weights)
    faces = held_out["performer"].crops.inputs.permute(0, 2, 3, 1).numpy()
    parity = check_parity(model_outputs(model, faces), data, faces, half_weights=half_weights)
    try:
        write_atomically(out, data)
    except OSError as error:
        raise ExportError(explain(error, out)) from error
    return _report(out, len(data), record, statement.subject, parity, half_weights)


def _report(out: Path, size: int, record: RunRecord, subject: str, parity: Parity, half: bool) -> ExportReport:
    return ExportReport(
        path=str(out),
        size_bytes=size,
        resolution=record.config.model.resolution,
        subject=subject,
        max_abs=parity.max_abs,
        psnr_db=parity.psnr_db,
        faces_compared=parity.faces,
        weights="float16" if half else "float32",
    )


def describe(
    record: RunRecord,
    progress: Progress,
    figures: Mapping[str, float],
) -> dict[str, Any]:
    """What the metadata of the .dfm will say about how it was made."""
    config = record.config
    geometry = config.geometry
    return {
        "schema": 1,
        "resolution": config.model.resolution,
        "coverage": geometry.coverage,
        "offset": [geometry.offset_x, geometry.offset_y],
        "landmarks": "mediapipe-468",
        "training": {
            "preset": config.name,
            "iterations": progress.iteration,
            "minutes": round(progress.elapsed_s / 60, 2),
            "held_out": dict(figures),
        },
        "facesets": {side: facts["sha256"] for side, facts in record.facesets.items()},
        "created": datetime.now(UTC).date().isoformat(),
    }


def model_outputs(model: SwapModel, faces: np.ndarray[Any, np.dtype[np.float32]]) -> list[np.ndarray[Any, Any]]:
    """What PyTorch in float32 paints for NHWC `faces`, one array per output of the .dfm."""
    graph = SwapGraph(model).eval()
    with torch.no_grad():
        parts = [graph(torch.from_numpy(faces[i : i + 1])) for i in range(len(faces))]
    return [torch.cat(column).numpy() for column in zip(*parts, strict=True)]


def to_onnx(model: SwapModel, card: Mapping[str, Any], *, half_weights: bool = True) -> bytes:
    """The .dfm as bytes."""
    size = model.config.resolution
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its own successor on every call
        file = Path(folder) / "model.onnx"
        torch.onnx.export(
            SwapGraph(model).eval(),
            (torch.zeros(1, size, size, 3),),
            file,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "N"} for name in (INPUT, *OUTPUTS)},
            opset_version=OPSET,
            dynamo=False,
        )
        proto = onnx.load(file)
    for value in (*proto.graph.input, *proto.graph.output):
        channels = 3 if value.name in (INPUT, OUTPUTS[1]) else 1
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["N", size, size, channels]))
    if half_weights:
        _store_weights_as_half(proto)
    proto.producer_name, proto.doc_string = "liveswap", "A liveswap face model; see the metadata."
    helper.set_model_props(proto, {f"liveswap.{key}": json.dumps(value) for key, value in card.items()})
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def _store_weights_as_half(proto: onnx.ModelProto) -> None:
    """Large float32 initializers become float16 followed by a Cast, which runtimes fold away when they load."""
    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) <= _SMALL:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}.half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
