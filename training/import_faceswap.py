"""Reads faceswap's face pictures. The bytes of a PNG, and a file of alignments, in; what they say about the face out.

Note [faceswap's metadata]
    Newer versions write a dictionary, as Python shows it, into an iTXt chunk of the PNG: the landmarks in the frame,
    and which frame of what it was. Older ones write only `FRAME_INDEX.png`, and a file of alignments says the rest.
    Its export as JSON is read, and the .fsa file itself, a packed pickle, as Note [No unpickling] tells.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realtime.errors import FacesetError
from training.foreign import Facts, SourcePlace, place_of, points68
from training.picture_bytes import png_chunks
from training.plain_literal import read_literal
from training.safe_pickle import read_plain
from training.untrusted import read_plain_file

_KEYWORD = b"faceswap\0\0\0\0\0"
"""Keyword, not packed, no language, no translation."""
_MAX_TEXT = 4 << 20
MAX_ALIGNMENTS = 128 << 20
_MAX_PACKED = 32 << 20
_MAX_UNPACKED = 64 << 20
_MOST_VALUES, _MOST_BRACKETS = 8_000_000, 2_000_000
"""A face in it takes about 140 values and 70 brackets: 25 000 faces."""
_REMEDY = "export the alignments as JSON with faceswap's tools, or leave them out"


@dataclass(frozen=True, slots=True)
class Alignments:
    """What a file of alignments says, by frame without its ending, and number of the face in it."""

    landmarks: Mapping[tuple[str, int], NDArray[np.float32]]
    """(68, 2) in the pixels of the frame."""

    def facts(self, name: str) -> Facts | None:
        """What is known of the crop with this file name; None when it is not mentioned."""
        stem = name.rpartition(".")[0] or name
        frame, _, face = stem.rpartition("_")
        if not frame or not face.isascii() or not face.isdigit() or len(face) > 4:
            return None
        points = self.landmarks.get((frame, int(face)))
        if points is None:
            return None
        place = place_of(frame + ".png")
        return Facts(SourcePlace(place.source, place.frame, int(face)), source_landmarks=points)


def faceswap_facts(data: bytes, name: str, alignments: Alignments | None = None) -> Facts:
    """The facts in one PNG; those of the `alignments`, or of its name, when it carries no metadata.

    Raises FacesetError, one sentence, for a damaged file and for metadata that is not what faceswap writes.
    """
    for kind, payload in png_chunks(data, name):
        if kind == b"IDAT":
            break
        if kind == b"iTXt" and payload.startswith(_KEYWORD):
            return _facts_of_text(payload[len(_KEYWORD) :], name)
    told = alignments.facts(Path(name).name) if alignments else None
    return told or Facts(place_of(name, own_name=True), metadata=False)


def _facts_of_text(text: bytes, name: str) -> Facts:
    if len(text) > _MAX_TEXT:
        raise FacesetError(f"{name} has {len(text)} bytes of metadata, more than faceswap writes; leave it out")
    try:
        root = read_literal(text.decode("utf-8"), name)
    except UnicodeDecodeError as error:
        raise FacesetError(f"{name}: its metadata is no text; leave the file out") from error
    aligned, source = _part(root, "alignments", name), _part(root, "source", name)
    place = SourcePlace()
    frame, face = source.get("source_filename"), source.get("face_index")
    if isinstance(frame, str) and frame:
        place = place_of(frame)
    if isinstance(face, int) and not isinstance(face, bool) and 0 <= face < 10_000:
        place = SourcePlace(place.source, place.frame, face)
    points = points68(aligned.get("landmarks_xy"), name, "landmarks_xy")
    return Facts(place, source_landmarks=points, masked=bool(aligned.get("mask")))


def _part(root: object, key: str, name: str) -> Mapping[str, object]:
    part = root.get(key) if isinstance(root, dict) else None
    if not isinstance(part, dict):
        raise FacesetError(f"{name}: its metadata has no {key!r}; leave the file out or get an undamaged copy")
    return part


def read_alignments(path: Path) -> Alignments:
    """Read faceswap's alignments: a .json export, or an .fsa. Raises FacesetError, one sentence, for anything else."""
    name = str(path)
    packed = path.suffix.lower() == ".fsa"
    data = read_plain_file(path, _MAX_PACKED if packed else MAX_ALIGNMENTS)
    root = _read_fsa(data, name) if packed else _read_json(data, name)
    frames = root.get("__data__", root) if isinstance(root, dict) else None
    if not isinstance(frames, dict):
        raise FacesetError(f"{name} lists no frames; {_REMEDY}")
    landmarks: dict[tuple[str, int], NDArray[np.float32]] = {}
    for frame, entry in frames.items():
        faces = entry.get("faces") if isinstance(entry, dict) else entry
        if not isinstance(faces, list):
            raise FacesetError(f"{name}: a frame in it has no list of faces; {_REMEDY}")
        for i, face in enumerate(faces):
            points = face.get("landmarks_xy", face.get("landmarksXY")) if isinstance(face, dict) else None
            landmarks[str(frame).rpartition(".")[0] or str(frame), i] = points68(points, name, "landmarks_xy")
    return Alignments(landmarks)


def _read_json(data: bytes, name: str) -> object:
    # What few bytes can become: "[]," is a list of 56 bytes.
    if data.count(b",") > _MOST_VALUES or data.count(b"[") + data.count(b"{") > _MOST_BRACKETS:
        raise FacesetError(f"{name} lists too many values; split it")
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FacesetError(f"{name} is not valid JSON; {_REMEDY}") from error


def _read_fsa(data: bytes, name: str) -> object:
    machine = zlib.decompressobj()
    try:
        unpacked = machine.decompress(data, _MAX_UNPACKED)
    except zlib.error as error:
        raise FacesetError(f"{name} is no file of alignments, or a damaged one; {_REMEDY}") from error
    if machine.unconsumed_tail or not machine.eof:
        why = "unpacks to too much" if machine.unconsumed_tail else "is cut off"
        raise FacesetError(f"{name} {why}; {_REMEDY}")
    return read_plain(unpacked, name, most_values=_MOST_VALUES)
