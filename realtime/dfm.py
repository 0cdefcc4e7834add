"""Reads a .dfm model file: a path in, a Dfm that says what the model wants and who it is out.

A .dfm is plain ONNX, often from a stranger, so it is data to be doubted: it is read once, as bytes, within a size
limit; it must not point to other files; and its inputs and outputs must keep the contract

    in_face      float32 [1 or N, R, R, 3]   BGR in [0, 1], R static
    morph_value  float32 [1]                 optional
    outputs, by position or by name: the performer's mask [N, R, R, 1],
                 the identity's face [N, R, R, 3] and mask [N, R, R, 1]

Models that liveswap exports carry their crop and their history as JSON under `liveswap.*` in the ONNX metadata; a model
without them is looked at as DeepFaceLive would: coverage 2.2, y offset -0.08. What decides how a face is seen must be
right or the model is refused; a damaged note about its history only costs a warning.
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
from realtime.files import explain
from realtime.plain_text import plain

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg, SessionOptions

log = logging.getLogger(__name__)

SCHEMA = 1
NOT_STATED = "not stated"
"""What a card says where nobody stated whose face it is, or any consent."""
"""The newest `liveswap.schema` that this version understands."""
MAX_BYTES = 2 * 1024**3 - 1
"""A protobuf message cannot be larger, and with it no single-file ONNX model."""
MIN_RESOLUTION, MAX_RESOLUTION = 16, 1024
MAX_NOTE_CHARACTERS = 2**20
"""A metadata value beyond this is not read."""
MAX_WORDS = 2000
"""Letters of what a card says about a person."""
MAX_FIELDS = 2_000_000
"""More parts than any face model has (a large one: 3,000); a file made to keep the reader busy."""
LANDMARKS = "mediapipe-468"
_PREFIX = "liveswap."
_DECISIVE = {"schema", "resolution", "coverage", "offset", "landmarks", "placement", "badge"}
"""Entries that decide how a face is seen, or may be shown."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How the identity's face is laid over the performer's: two heads never fit the canonical face alike."""

    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    """Right and down, as fractions of the crop's side."""

    def __post_init__(self) -> None:
        if not 0.8 <= self.scale <= 1.25 or not max(abs(self.shift_x), abs(self.shift_y)) <= 0.2:
            raise ValueError(f"placement {self.scale}, {self.shift_x}, {self.shift_y} is out of range")


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
    placement: Placement = Placement()
    card: Mapping[str, Any] = field(default_factory=dict)
    """The decoded `liveswap.*` metadata without the prefix; empty for a community model. It may claim anything."""

    def says(self, name: str) -> str:
        """What the card says in words under `name`, as one line of plain text; empty where it says nothing."""
        said = self.card.get(name)
        words = said if isinstance(said, list) else [said]
        return plain("; ".join(each for each in words if isinstance(each, str)), MAX_WORDS)

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
    try:
        return _describe(path, data, session), session
    except UnicodeDecodeError as error:
        raise _refuse(path, "has names that are not text") from error


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ModelError(f"the model {path} is a folder; give the path of one .dfm file")
        if path.exists() and not path.is_file():
            raise ModelError(f"the model {path} is a device or a pipe; give the path of one .dfm file")
        with path.open("rb") as file:
            size = path.stat().st_size
            data = b"" if size > MAX_BYTES else file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"the model cannot be read: {explain(error, path)}") from error
    except ValueError as error:
        raise ModelError(f"the model {str(path)!r} is no path ({error}); give the path of one .dfm file") from error
    if max(size, len(data)) > MAX_BYTES:
        raise ModelError(f"the model {path} is larger than ONNX allows for one file (2 GiB); give a .dfm file")
    if not data:
        raise ModelError(f"the model {path} is empty; copy or download it again")
    return data


def _open_session(path: Path, data: bytes, options: SessionOptions, providers: Sequence[str]) -> InferenceSession:
    from onnxruntime import InferenceSession

    options.log_severity_level = 4
    try:
        return InferenceSession(data, sess_options=options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's errors have no common base
        reason = " ".join(str(error).split())
        if "not a registered function/op" in reason or "Could not find an implementation" in reason:
            why = "needs operators that ONNX Runtime does not have; export it again without custom operators"
        elif "IR version" in reason or "under development" in reason:
            why = "is written in a newer ONNX than this ONNX Runtime reads; update onnxruntime"
        elif "INVALID_PROTOBUF" in reason or "No graph was found" in reason:
            why = "is not an ONNX file; give a .dfm made by liveswap or DeepFaceLab"
        else:
            why = f"cannot be loaded ({reason[:200]}); export or download it again"
        raise ModelError(f"the model {path} {why}") from error


def _describe(path: Path, data: bytes, session: InferenceSession) -> Dfm:
    face, morph = _inputs(path, session.get_inputs())
    resolution = _resolution(path, face)
    outputs = _outputs(path, session.get_outputs(), resolution)
    card = _card(path, session.get_modelmeta().custom_metadata_map)
    geometry, placement = _view(path, card, resolution)
    return Dfm(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        resolution=resolution,
        takes_morph=morph is not None,
        face_input=face.name,
        morph_input=morph.name if morph else None,
        outputs=outputs,
        geometry=geometry,
        placement=placement,
        card=card,
    )


def _refuse(path: Path, why: str, remedy: str = "give a .dfm that keeps the DeepFaceLive contract") -> ModelError:
    return ModelError(f"the model {path} {why}; {remedy}")


def _inputs(path: Path, inputs: Sequence[NodeArg]) -> tuple[NodeArg, NodeArg | None]:
    faces = [each for each in inputs if "in_face" in each.name]
    morphs = [each for each in inputs if "morph_value" in each.name]
    if len(faces) != 1 or len(morphs) > 1 or len(faces) + len(morphs) != len(inputs):
        names = ", ".join(plain(each.name, 40) for each in inputs[:5]) or "none"
        raise _refuse(path, f"has the inputs {names} where in_face and perhaps morph_value are expected")
    for morph in morphs:
        if (
            morph.type != "tensor(float)"
            or len(morph.shape) != 1
            or (isinstance(morph.shape[0], int) and morph.shape[0] != 1)
        ):
            raise _refuse(path, f"has a morph_value of {morph.type} {_brief(morph)} where one float32 is expected")
    return faces[0], morphs[0] if morphs else None


def _brief(each: NodeArg) -> str:
    """The shape of an input or output; its sides may have names, and there may be any number of them."""
    return plain(each.shape, 100)


def _resolution(path: Path, face: NodeArg) -> int:
    shape = face.shape
    if face.type != "tensor(float)" or len(shape) != 4 or shape[3] != 3:
        raise _refuse(path, f"has an input of {face.type} {_brief(face)} where float32 [N, R, R, 3] is expected")
    if not isinstance(shape[1], int) or shape[1] != shape[2]:
        raise _refuse(path, f"has an input of {_brief(face)} whose side is not one fixed number")
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
            got_shape = f"{each.type} {_brief(each)}"
            raise _refuse(
                path, f"has an output {plain(each.name, 40)} of {got_shape} where float32 {wanted_shape} is expected"
            )
    return ordered[0].name, ordered[1].name, ordered[2].name


def _card(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    card: dict[str, Any] = {}
    for key, text in metadata.items():
        name = key.removeprefix(_PREFIX)
        if name == key:
            continue
        try:
            if len(text) > MAX_NOTE_CHARACTERS:
                raise ValueError("too long")
            card[name] = json.loads(text)
        except (ValueError, RecursionError) as error:
            if name in _DECISIVE:
                raise _refuse(path, f"carries a damaged {key}", "export it again") from error
            log.warning("the model %s carries a damaged %s, which is left out", path, plain(key, 60))
    return card


def _view(path: Path, card: Mapping[str, Any], resolution: int) -> tuple[CropGeometry, Placement]:
    schema = card.get("schema", SCHEMA)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise _refuse(path, f"was written by a newer liveswap (schema {str(schema)[:20]})", "update liveswap")
    for name, expected in (("landmarks", LANDMARKS), ("resolution", resolution)):
        if card.get(name, expected) != expected:
            raise _refuse(path, f"claims {name} {str(card[name])[:40]} but has {expected}", "export it again")
    default = whole_face(resolution)
    try:
        (coverage,) = _numbers([card.get("coverage", default.coverage)], 1)
        offset_x, offset_y = _numbers(card.get("offset", [default.offset_x, default.offset_y]), 2)
        scale, shift_x, shift_y = _numbers(card.get("placement", [1, 0, 0]), 3)
        return CropGeometry(resolution, coverage, offset_x, offset_y), Placement(scale, shift_x, shift_y)
    except ValueError as error:
        raise _refuse(path, f"carries a crop that cannot be ({error})", "export it again") from error


def _numbers(values: object, count: int) -> list[float]:
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"expected {count} numbers, got {str(values)[:60]}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
            raise ValueError(f"expected {count} numbers, got {str(values)[:60]}")
    return [float(value) for value in values]


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
    pending, seen = [("model", memoryview(data))], 0
    try:
        while pending:
            kind, message = pending.pop()
            for number, value in _fields(message):
                seen += 1
                if seen > MAX_FIELDS:
                    raise _refuse(path, "has more parts than a face model can have")
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
