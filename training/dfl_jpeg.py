"""Reads DeepFaceLab's face pictures. The bytes of a JPG in; what it says about the face out.

DeepFaceLab writes a pickled dictionary into the APP15 segment of the crop; it is read, never unpickled, see
Note [No unpickling].
"""

from __future__ import annotations

import numpy as np

from realtime.align import invert
from realtime.errors import FacesetError
from realtime.frame import Matrix
from training.foreign import Facts, SourcePlace, matrix23, place_of, plausible, points68
from training.picture_bytes import jpeg_segments
from training.safe_pickle import Plain, read_plain

APP15 = 0xEF
FACE_TYPES = (
    "half_face",
    "midfull_face",
    "full_face",
    "full_face_no_align",
    "whole_face",
    "head",
    "head_no_align",
    "mark_only",
)
"""What a DeepFaceLab crop may show; a file that does not say shows a full_face."""
_MASKS = ("seg_ie_polys", "xseg_mask")


def dfl_facts(data: bytes, name: str) -> Facts:
    """The facts in one JPG; those that its name tells when it carries no metadata.

    Raises FacesetError, one sentence, for a damaged file and for metadata that is not what DeepFaceLab writes.
    """
    packed = None
    for marker, payload in jpeg_segments(data, name):
        if marker == APP15:
            packed = payload
    if packed is None:
        return Facts(place_of(name, own_name=True), metadata=False)
    values = read_plain(packed, name)
    if not isinstance(values, dict):
        raise FacesetError(f"{name}: its metadata is no dictionary; leave the file out or get an undamaged copy")
    return facts_of_dict(values, name)


def facts_of_dict(values: dict[str, Plain], name: str) -> Facts:
    """The facts in DeepFaceLab's dictionary. Raises FacesetError for values of the wrong kind."""
    kind = values.get("face_type")
    kind = "full_face" if kind is None else kind
    if not isinstance(kind, str) or kind not in FACE_TYPES:
        raise FacesetError(f"{name}: 'face_type' is none that is known; leave the file out or get an undamaged copy")
    found = {
        key: points68(values[key], name, key)
        for key in ("landmarks", "source_landmarks")
        if values.get(key) is not None
    }
    matrix = None
    if values.get("image_to_face_mat") is not None:
        matrix = _to_source(matrix23(values["image_to_face_mat"], name, "image_to_face_mat"))
    return Facts(
        place=_place(values.get("source_filename"), name),
        landmarks=found.get("landmarks"),
        source_landmarks=found.get("source_landmarks"),
        to_source=matrix,
        masked=any(values.get(key) is not None for key in _MASKS),
    )


def _place(source_filename: Plain, name: str) -> SourcePlace:
    """DeepFaceLab numbers the faces of a frame only in the name of the crop: 00012_1.jpg is the second in frame 12."""
    own = place_of(name, own_name=True)
    if not isinstance(source_filename, str) or not source_filename:
        return own
    place = place_of(source_filename)
    return SourcePlace(place.source, place.frame, own.face if own.frame == place.frame else 0)


def _to_source(image_to_face: Matrix) -> Matrix | None:
    """The way back, if there is one."""
    if abs(float(np.linalg.det(image_to_face[:, :2]))) < 1e-12:
        return None
    matrix = invert(image_to_face)
    return matrix if plausible(matrix) else None
