"""The index of a faceset. Bytes of faceset.json in, checked records out; and back.

The bytes may come from a stranger: everything is checked for type and range before it is believed, and every
complaint names the entry and what was expected there. The same records always give the same bytes.

Note [Schemas of a faceset]
    Schema 2 adds to each face its `person` and its `measures`. A set of schema 1 is read as one of a single person
    that nobody has measured; what is written is always schema 2, and what was not measured is null in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn, TypeGuard, TypeVar

from realtime.align import CropGeometry
from realtime.errors import FacesetError
from training.measures import Measures

SCHEMA = 2
"""What is written, see Note [Schemas of a faceset]."""
READABLE = 1, 2
INDEX, LANDMARKS = "faceset.json", "landmarks.npy"
"""Names of the two files beside the crops."""
POINTS = 468
LANDMARK_SET = "mediapipe-468"
MAX_FACES = 200_000
MAX_SOURCES = 10_000
FACE_NAME = re.compile(r"faces/[0-9]{6}\.jpg", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LIGHT, _MOST = "light", 1e6
"""The measure that is four numbers; no measure is larger."""
_REMEDY = "get an undamaged copy or extract the videos again"
_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One video that faces were taken from."""

    name: str
    """File name without its folder."""
    sha256: str
    """Of the whole video file."""
    fps: float
    """Nominal frame rate, frames a second."""
    frames: int
    """Frames that were read."""


@dataclass(frozen=True, slots=True)
class FaceRecord:
    """Where one face comes from, and how it looks."""

    file: str
    """Path of the crop inside the set, `faces/NNNNNN.jpg`."""
    source: int
    """Index of its SourceRecord."""
    frame_index: int
    """Frame of the source, from 0."""
    pts_s: float
    """Time inside the source, seconds."""
    track: int
    """The same number as long as one face is followed inside one shot; never the same in two sources."""
    score: float
    """Presence of a face, [0, 1]."""
    sharpness: float
    """Standard deviation of the Laplacian inside the face, grey levels, see training.looks."""
    native_px: float
    """Height of the face, hairline to chin, in pixels of the source."""
    yaw: float
    pitch: float
    roll: float
    """Head pose in degrees, see training.pose."""
    sha256: str
    """Of the JPEG file."""
    person: int = 0
    """Who it is, as far as extraction can tell people apart: 0 for whom the set shows most, see training.identity."""
    measures: Measures | None = None
    """Expression, light and what hides the face; None: nobody has measured it."""


@dataclass(frozen=True, slots=True)
class FacesetIndex:
    """Everything that faceset.json says."""

    geometry: CropGeometry
    """What the crops were made for; they show `margin` times as much."""
    margin: float
    kind: str
    """Name of the geometry: whole, full or custom."""
    sources: tuple[SourceRecord, ...]
    faces: tuple[FaceRecord, ...]
    landmarks_sha256: str
    """Of the file landmarks.npy."""


def dump_index(index: FacesetIndex) -> bytes:
    """The bytes of faceset.json: one line for each source and face."""
    geometry = index.geometry
    head = {
        "schema": SCHEMA,
        "kind": index.kind,
        "geometry": {
            "size": geometry.size,
            "coverage": geometry.coverage,
            "offset": [geometry.offset_x, geometry.offset_y],
        },
        "margin": index.margin,
        "landmarks": {"set": LANDMARK_SET, "sha256": index.landmarks_sha256},
    }
    lines = [f'"{key}": {_json(value)}' for key, value in head.items()]
    for key, records in (("sources", index.sources), ("faces", index.faces)):
        lines.append(f'"{key}": [\n' + ",\n".join(_json(asdict(record)) for record in records) + "\n]")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def load_index(data: bytes, name: str) -> FacesetIndex:
    """Check and decode the bytes of faceset.json; `name` is what complaints call the file.

    Raises FacesetError with one sentence that names the first entry that is wrong.
    """
    try:
        root = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FacesetError(f"{name} is not valid JSON ({_short(error)}); {_REMEDY}") from error
    entry = _Entry(root, name)
    schema = entry.integer("schema", 0, 1 << 31)
    if schema not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise FacesetError(f"{name} has schema {schema}, this version reads {known}; update liveswap or extract again")
    sources = entry.list("sources", MAX_SOURCES, _source)
    faces = entry.list("faces", MAX_FACES, lambda item: _face(item, len(sources), schema))
    if not faces:
        raise FacesetError(f"{name} lists no face; {_REMEDY}")
    if len({face.file for face in faces}) != len(faces):
        raise FacesetError(f"{name} lists the same file twice; {_REMEDY}")
    landmarks = entry.entry("landmarks")
    if landmarks.text("set", re.compile(r"[\w.-]{1,40}", re.ASCII)) != LANDMARK_SET:
        landmarks.fail("set", LANDMARK_SET)
    kind = entry.text("kind", re.compile(r"[a-z]{1,20}", re.ASCII))
    geometry, margin = _geometry(entry)
    return FacesetIndex(geometry, margin, kind, sources, faces, landmarks.text("sha256", _SHA256))


def _geometry(entry: _Entry) -> tuple[CropGeometry, float]:
    view = entry.entry("geometry")
    offset_x, offset_y = view.numbers("offset", 2, -4, 4)
    margin = entry.number("margin", 1, 4)
    try:
        geometry = CropGeometry(view.integer("size", 16, 4096), view.number("coverage", 0.1, 8), offset_x, offset_y)
        geometry.widened(margin)
    except ValueError as error:
        raise FacesetError(f"{entry.where}: the geometry cannot be ({error}); {_REMEDY}") from error
    return geometry, margin


def _source(entry: _Entry) -> SourceRecord:
    return SourceRecord(
        name=entry.printable("name", 255),
        sha256=entry.text("sha256", _SHA256),
        fps=entry.number("fps", 0, 1e6),
        frames=entry.integer("frames", 0, 1 << 40),
    )


def _face(entry: _Entry, sources: int, schema: int) -> FaceRecord:
    return FaceRecord(
        file=entry.text("file", FACE_NAME),
        source=entry.integer("source", 0, sources - 1),
        frame_index=entry.integer("frame_index", 0, 1 << 40),
        pts_s=entry.number("pts_s", -1e9, 1e9),
        track=entry.integer("track", 0, 1 << 40),
        score=entry.number("score", 0, 1),
        sharpness=entry.number("sharpness", 0, 1e6),
        native_px=entry.number("native_px", 0, 1e6),
        yaw=entry.number("yaw", -180, 180),
        pitch=entry.number("pitch", -180, 180),
        roll=entry.number("roll", -180, 180),
        sha256=entry.text("sha256", _SHA256),
        person=entry.integer("person", 0, MAX_FACES) if schema >= 2 else 0,
        measures=_measures(entry) if schema >= 2 else None,
    )


def _measures(face: _Entry) -> Measures | None:
    if face.is_null("measures"):
        return None
    entry = face.entry("measures")
    values: dict[str, Any] = {
        field.name: entry.number(field.name, -_MOST, _MOST) for field in fields(Measures) if field.name != _LIGHT
    }
    values[_LIGHT] = entry.numbers(_LIGHT, 4, -_MOST, _MOST)
    return Measures(**values)


class _Entry:
    """One JSON object that knows where it stands."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise FacesetError(f"{where} is {_short(value)}, expected an object; {_REMEDY}")
        self._values: dict[str, object] = value
        self.where = where

    def fail(self, key: str, expected: str) -> NoReturn:
        raise FacesetError(f"{self.where}: {key!r} is {_short(self._get(key))}, expected {expected}; {_REMEDY}")

    def _get(self, key: str) -> object:
        if key not in self._values:
            raise FacesetError(f"{self.where}: {key!r} is missing; {_REMEDY}")
        return self._values[key]

    def integer(self, key: str, low: int, high: int) -> int:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fail(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self._get(key)
        if not _is_number(value, low, high):
            self.fail(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def numbers(self, key: str, count: int, low: float, high: float) -> tuple[float, ...]:
        value = self._get(key)
        if not isinstance(value, list) or len(value) != count:
            self.fail(key, f"{count} numbers")
        if not all(_is_number(each, low, high) for each in value):
            self.fail(key, f"{count} numbers from {low:g} to {high:g}")
        return tuple(map(float, value))

    def is_null(self, key: str) -> bool:
        return self._get(key) is None

    def text(self, key: str, pattern: re.Pattern[str]) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.fail(key, f"text like {pattern.pattern}")
        return value

    def printable(self, key: str, longest: int) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not value.isprintable() or len(value) > longest:
            self.fail(key, f"up to {longest} printable characters")
        return value

    def entry(self, key: str) -> _Entry:
        return _Entry(self._get(key), f"{self.where}: {key}")

    def list(self, key: str, longest: int, read: Callable[[_Entry], _Record]) -> tuple[_Record, ...]:
        value = self._get(key)
        if not isinstance(value, list):
            self.fail(key, "a list")
        if len(value) > longest:
            raise FacesetError(f"{self.where}: {key!r} has {len(value)} entries, at most {longest} are read; split it")
        return tuple(read(_Entry(item, f"{self.where}: {key}[{i}]")) for i, item in enumerate(value))


def _is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    # NaN fails every comparison, so it is refused here too.
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _short(value: object) -> str:
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
