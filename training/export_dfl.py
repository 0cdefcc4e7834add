"""Writes a faceset as DeepFaceLab's aligned JPGs. A faceset in, a folder of JPGs out.

Note [Written by hand]
    DeepFaceLab reads its metadata with pickle. Nothing is pickled here: the bytes of the one dictionary that is needed
    are put together from opcodes with a fixed meaning, which build text and numbers and cannot name anything else:

        80 03           protocol 3
        7D              an empty dictionary
        28              mark
        58 n text       text of n bytes (n: 4 bytes, little-endian)
        47 8 bytes      a number (IEEE double, big-endian)
        5D  65          an empty list; append what came since the mark
        75              set the keys and values that came since the mark
        2E              end

Note [DeepFaceLab's alignment]
    DeepFaceLab lays 33 of 68 landmarks - brows, nose, eyes, corners of the mouth - over a mean face by the
    least-squares similarity and shows 2.1314 of its unit square, 0.07 of it above the centre (whole_face), or 1.5966
    (full_face). Here the same points of the mesh are laid over the same points of our canonical face, whose square is
    larger by a constant factor. On 480 crops of two rendered actors, heads turned up to 46 degrees, the corners of the
    view so found lie 0.2 % of its side off those that DeepFaceLab's own template gives for the same landmarks, 0.5 % at
    most. Cut along our own alignment, which leaves out brows and eyes, they would lie 6 % off.

    What is not written is not known any more: where the crop was cut out of the frame. So the pictures serve to train,
    as source or as destination, but a merge back into the frames needs faces that DeepFaceLab has extracted itself.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import canonical_mesh, cut, fit_similarity, transform
from realtime.errors import FacesetError, UsageError
from realtime.files import explain, publish_folder
from realtime.frame import Matrix, Points
from realtime.landmarks import ibug68
from training.faceset import Faceset
from training.faceset_writer import check_target

_POINTS = [*range(17, 49), 54]
_SQUARE = 0.98276
"""DeepFaceLab's unit square on the canonical face is larger by 1 / this: its mean face is smaller."""
_SHIFT = (0.00910, 0.00458)
"""Where the corner of the canonical square lies in DeepFaceLab's."""
VIEWS = {"whole": ("whole_face", 2.1314, 0.07), "full": ("full_face", 1.5966, 0.0)}
"""Kind of our set -> type, side and height above the centre of DeepFaceLab's crop, in sides of its square."""
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 97, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_NAME = re.compile(r"[0-9]{6}_[0-9]\.jpg", re.ASCII)


def export_dfl(
    faceset: Faceset, out: Path, *, size: int | None = None, tell: Callable[[int], None] | None = None
) -> int:
    """Write every face of `faceset` into the new folder `out`; how many there are.

    `size` is the side of the JPGs in pixels, by default that of the set's crops. Raises UsageError when `out` is taken
    or the set shows too little, FacesetError when nothing can be written. The same set gives the same bytes.
    """
    if faceset.kind not in VIEWS:
        raise UsageError(f"{faceset.path} is of kind {faceset.kind}; only sets of kind whole and full can be exported")
    side = size or faceset.geometry.size
    if not 32 <= side <= 2048:
        raise UsageError(f"crops are 32 to 2048 pixels wide, not {side}; give --size 256")
    final, partial = check_target(out)
    try:
        _remove_unfinished(partial)
        partial.mkdir(parents=True)
        for i in range(len(faceset)):
            if tell:
                tell(i)
            (partial / f"{i:06d}_0.jpg").write_bytes(dfl_jpeg(faceset, i, side))
        publish_folder(partial, final)
    except OSError as error:
        _remove_unfinished(partial)
        raise FacesetError(explain(error, partial)) from error
    except BaseException:
        _remove_unfinished(partial)
        raise
    return len(faceset)


def dfl_jpeg(faceset: Faceset, i: int, side: int) -> bytes:
    """The bytes of face `i` as DeepFaceLab's JPG of `side` pixels."""
    kind, _, _ = VIEWS[faceset.kind]
    record = faceset.records[i]
    points = ibug68(np.asarray(faceset.landmarks[i]))
    matrix = dfl_matrix(faceset.landmarks[i], faceset.kind, side)
    crop = cut(faceset.image(i), matrix, side, border=cv2.BORDER_REPLICATE)
    done, data = cv2.imencode(".jpg", crop.image, _JPEG)
    if not done:
        raise FacesetError("OpenCV cannot write JPEG; install opencv-python 4.7 or newer")
    stem = Path(faceset.sources[record.source].name).stem or "source"
    payload = pack_metadata(kind, f"{stem}_{record.frame_index:06d}.png", transform(matrix, points))
    return _with_app15(data.tobytes(), payload)


def dfl_matrix(mesh: Points, kind: str, side: int) -> Matrix:
    """(2, 3) from the pixels of the `mesh` to a crop of `side` pixels, see Note [DeepFaceLab's alignment]."""
    _, width, above = VIEWS[kind]
    canonical = ibug68(canonical_mesh().astype(np.float32))[_POINTS]
    matrix = _SQUARE * fit_similarity(ibug68(np.asarray(mesh))[_POINTS], canonical)
    matrix[:, 2] += _SHIFT
    matrix[:, 2] -= np.array([0.5, 0.5 - above]) - width / 2
    return matrix * (side / width)


def pack_metadata(face_type: str, source_filename: str, landmarks: NDArray[np.float64]) -> bytes:
    """The bytes that DeepFaceLab's pickle reads as its dictionary, see Note [Written by hand]."""
    points = b"".join(b"](" + _number(x) + _number(y) + b"e" for x, y in landmarks)
    entries = (
        (_text("face_type"), _text(face_type)),
        (_text("landmarks"), b"](" + points + b"e"),
        (_text("source_filename"), _text(source_filename)),
        (_text("eyebrows_expand_mod"), _number(1.0)),
    )
    return b"\x80\x03}(" + b"".join(key + value for key, value in entries) + b"u."


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(data)) + data


def _number(value: float) -> bytes:
    return b"G" + struct.pack(">d", value)


def _with_app15(data: bytes, payload: bytes) -> bytes:
    """Put the segment after JFIF's, where DeepFaceLab puts its own."""
    after = 4 + int.from_bytes(data[4:6], "big")
    return data[:after] + b"\xff\xef" + struct.pack(">H", len(payload) + 2) + payload + data[after:]


def _remove_unfinished(partial: Path) -> None:
    """Remove what an export that did not end has left; UsageError when it holds anything else."""
    if partial.is_symlink() or partial.exists():
        files = list(partial.iterdir()) if partial.is_dir() and not partial.is_symlink() else []
        if not partial.is_dir() or partial.is_symlink() or not all(_NAME.fullmatch(file.name) for file in files):
            raise UsageError(f"{partial} is in the way and holds more than an unfinished export; move it away")
        for file in files:
            file.unlink()
        partial.rmdir()
