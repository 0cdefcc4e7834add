"""Reads a .dfm model file: a path in, a Dfm that says what the model wants and who it is out.

A .dfm is plain ONNX, often from a stranger, so it is data to be doubted: it is read once, as bytes, within a size
limit; it must not point to other files; and its inputs and outputs must keep the contract

    in_face      float32 [1 or N, R, R, 3]   BGR in [0, 1], R static
    morph_value  float32 [1]                 optional
    outputs, by position or by name: the performer's mask [N, R, R, 1],
                 the identity's face [N, R, R, 3] and mask [N, R, R, 1]

Models that liveswap exports carry their crop and their history as JSON under `liveswap.*` in the ONNX metadata; a model
without them is looked at as DeepFaceLive would: coverage 2.2, y offset -0.08.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realtime.align import CropGeometry, whole_face
from realtime.errors import ModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

log = logging.getLogger(__name__)

SCHEMA = 1
"""The newest `liveswap.schema` that this version understands."""
MAX_BYTES = 2 * 1024**3 - 1
"""A protobuf message cannot be larger, and with it no single-file ONNX model."""
MIN_RESOLUTION, MAX_RESOLUTION = 16, 1024
_PREFIX = "liveswap."


@dataclass(frozen=True, slots=True)
class Dfm:
    """What one model file says about itself."""

    path: Path
    sha256: str
    """Of the whole file, in hex."""
    size_bytes: int
    resolution: int
    """R: side of the model's crop in pixels."""
    takes_morph: bool
    """Whether the model has the input `morph_value`."""
    face_input: str
    morph_input: str | None
    outputs: tuple[str, str, str]
    """Names of the performer's mask, the identity's face and the identity's mask, in this order."""
    geometry: CropGeometry
    """What the crop shows; `size` is R."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """The decoded `liveswap.*` metadata without the prefix; empty for a community model."""

    def __repr__(self) -> str:
        view = f"coverage={self.geometry.coverage:g}, offset_y={self.geometry.offset_y:g}"
        return f"Dfm({self.path.name}, {self.resolution} px, {view}, sha256={self.sha256[:12]})"


def read_dfm(path: Path) -> Dfm:
    """What the model file at `path` says about itself. Raises ModelError when it is not a usable .dfm."""
    from onnxruntime import GraphOptimizationLevel, SessionOptions

    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL  # the graph is looked at, not run
    options.intra_op_num_threads = 1
    return open_dfm(path, options)[0]


def open_dfm(
    path: Path, options: SessionOptions, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> tuple[Dfm, InferenceSession]:
    """The description of a model file and an ONNX Runtime session over the very bytes that were checked and hashed.

    `options` is changed: logging is silenced, because what ONNX Runtime would print becomes the error's sentence.
    Raises ModelError when the file is not a usable .dfm.
    """
    path = Path(path)
    data = _read(path)
    _refuse_references(path, data)
    session = _open_session(path, data, options, providers)
    return _describe(path, data, session), session


def _read(path: Path) -> bytes:
    try:
        if not path.exists():
            raise ModelError(f"the model {path} does not exist; check the path given with --model")
        if not path.is_file():
            raise ModelError(f"the model {path} is not a file; give the path of one .dfm file")
        size = path.stat().st_size
        if size == 0:
            raise ModelError(f"the model {path} is empty; copy or download it again")
        if size > MAX_BYTES:
            raise ModelError(
                f"the model {path} has {size / 1024**3:.1f} GiB, more than ONNX allows in one file; give a .dfm"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the model {path} cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def _open_session(path: Path, data: bytes, options: SessionOptions, providers: Sequence[str]) -> InferenceSession:
    from onnxruntime import InferenceSession

    options.log_severity_level = 4
    try:
        return InferenceSession(data, sess_options=options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's errors have no common base
        reason = str(error)
        if "not a registered function/op" in reason or "not a registered" in reason:
            why = "needs operators that plain ONNX Runtime does not have; export it without custom operators"
        elif "INVALID_PROTOBUF" in reason or "No graph was found" in reason:
            why = "is not an ONNX file; give a .dfm made by liveswap or DeepFaceLab"
        else:
            why = f"cannot be loaded by ONNX Runtime ({' '.join(reason.split())[:200]}); export it again"
        raise ModelError(f"the model {path} {why}") from error


def _describe(path: Path, data: bytes, session: InferenceSession) -> Dfm:
    face, morph = _inputs(path, session.get_inputs())
    resolution = _resolution(path, face)
    outputs = _outputs(path, session.get_outputs(), resolution)
    card = _card(path, session.get_modelmeta().custom_metadata_map)
    return Dfm(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        resolution=resolution,
        takes_morph=morph is not None,
        face_input=face.name,
        morph_input=morph.name if morph else None,
        outputs=outputs,
        geometry=_geometry(path, card, resolution),
        card=card,
    )


def _refuse(path: Path, why: str) -> ModelError:
    return ModelError(f"the model {path} {why}; give a .dfm that keeps the DeepFaceLive contract")


def _inputs(path: Path, inputs: Sequence[NodeArg]) -> tuple[NodeArg, NodeArg | None]:
    faces = [each for each in inputs if "in_face" in each.name]
    morphs = [each for each in inputs if "morph_value" in each.name]
    if len(faces) != 1 or len(morphs) > 1 or len(faces) + len(morphs) != len(inputs):
        names = ", ".join(each.name for each in inputs) or "none"
        raise _refuse(path, f"has the inputs {names} where in_face and perhaps morph_value are expected")
    for morph in morphs:
        if (
            morph.type != "tensor(float)"
            or len(morph.shape) != 1
            or (isinstance(morph.shape[0], int) and morph.shape[0] != 1)
        ):
            raise _refuse(path, f"has a morph_value of {morph.type} {morph.shape} where one float32 is expected")
    return faces[0], morphs[0] if morphs else None


def _resolution(path: Path, face: NodeArg) -> int:
    shape = face.shape
    if face.type != "tensor(float)" or len(shape) != 4 or shape[3] != 3:
        raise _refuse(path, f"has an input of {face.type} {shape} where float32 [N, R, R, 3] is expected")
    if not isinstance(shape[1], int) or shape[1] != shape[2]:
        raise _refuse(path, f"has an input of {shape} whose side is not one fixed number")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise _refuse(path, f"takes {shape[0]} faces at a time where one is expected")
    if not MIN_RESOLUTION <= shape[1] <= MAX_RESOLUTION:
        raise _refuse(path, f"has a resolution of {shape[1]} px, outside {MIN_RESOLUTION} to {MAX_RESOLUTION}")
    return int(shape[1])


def _outputs(path: Path, outputs: Sequence[NodeArg], resolution: int) -> tuple[str, str, str]:
    if len(outputs) != 3:
        raise _refuse(path, f"has {len(outputs)} outputs where 3 are expected")
    named = {each.name.split(":")[0]: each for each in outputs}
    wanted = ("out_face_mask", "out_celeb_face", "out_celeb_face_mask")
    ordered = [named[name] for name in wanted] if set(named) == set(wanted) else list(outputs)
    for each, channels in zip(ordered, (1, 3, 1), strict=True):
        expected = (resolution, resolution, channels)
        fits = len(each.shape) == 4 and all(
            got == want or not isinstance(got, int) for got, want in zip(each.shape[1:], expected, strict=True)
        )
        if each.type != "tensor(float)" or not fits:
            wanted_shape = f"[N, {resolution}, {resolution}, {channels}]"
            raise _refuse(
                path, f"has an output {each.name} of {each.type} {each.shape} where float32 {wanted_shape} is expected"
            )
    return ordered[0].name, ordered[1].name, ordered[2].name


def _card(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    card: dict[str, Any] = {}
    for key, text in metadata.items():
        if key.startswith(_PREFIX):
            try:
                card[key.removeprefix(_PREFIX)] = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise _refuse(path, f"carries {key} that is not JSON") from error
    return card


def _geometry(path: Path, card: Mapping[str, Any], resolution: int) -> CropGeometry:
    default = whole_face(resolution)
    if not card:
        return default
    schema = card.get("schema", SCHEMA)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ModelError(f"the model {path} was written by a newer liveswap (schema {schema}); update liveswap")
    try:
        offset_x, offset_y = card.get("offset", (default.offset_x, default.offset_y))
        if card.get("resolution", resolution) != resolution:
            raise ValueError(f"resolution {card['resolution']} is not the graph's {resolution}")
        return CropGeometry(resolution, float(card.get("coverage", default.coverage)), float(offset_x), float(offset_y))
    except (TypeError, ValueError) as error:
        raise _refuse(path, f"carries an unusable crop geometry ({error})") from error


# Where tensors hide inside an ONNX protobuf: message -> field number -> message of that field.
_TENSORS_IN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def _refuse_references(path: Path, data: bytes) -> None:
    """Raise ModelError for a tensor that is kept in another file: opening a model must never open a second file."""
    pending = [("model", memoryview(data))]
    try:
        while pending:
            kind, message = pending.pop()
            for number, value in _fields(message):
                if kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION) and value:
                    raise _refuse(path, "keeps its weights in another file")
                inner = _TENSORS_IN.get(kind, {}).get(number)
                if inner and isinstance(value, memoryview):
                    pending.append((inner, value))
    except (IndexError, ValueError) as error:
        raise ModelError(
            f"the model {path} is not an ONNX file; give a .dfm made by liveswap or DeepFaceLab"
        ) from error


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one protobuf message. Raises IndexError or ValueError where it is none."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview
        if wire == 0:
            value, at = _varint(message, at)
        elif wire == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"wire type {wire}")
        if number == 0 or at > len(message):
            raise ValueError("field beyond its message")
        yield number, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("number too long")
