"""Writes a faceset. Crops with their landmarks in, one complete folder out, see Note [Faceset folder]."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np

from realtime.align import CropGeometry
from realtime.errors import FacesetError, UsageError
from realtime.files import explain, publish_folder
from realtime.frame import ImageU8, Points
from training.contact_sheet import draw_contact_sheet, pick_evenly
from training.faceset_index import (
    FACE_NAME,
    INDEX,
    LANDMARKS,
    MAX_FACES,
    POINTS,
    FaceRecord,
    FacesetIndex,
    SourceRecord,
    dump_index,
    load_index,
)
from training.measures import Measures
from training.untrusted import check_jpeg, decode_jpeg, file_sha256

_log = logging.getLogger(__name__)

MARGIN = 1.25
"""How much more than the nominal crop is stored, as a factor of its side."""
_SHEET = "sheet.png"
_SHEET_FACES = 64
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


class FacesetWriter:
    """Writes a new faceset into `NAME.partial` and gives it its name when it is complete.

    Use as a context manager: leaving it normally closes, an exception aborts. A partial folder that an earlier crash
    left is replaced; files of the user are never removed.
    """

    def __init__(self, path: Path, geometry: CropGeometry, margin: float = MARGIN, *, kind: str = "custom") -> None:
        """Raises UsageError when `path` is taken, FacesetError when nothing can be written there."""
        self.path, self._partial = check_target(path)
        self.geometry, self.margin, self.kind = geometry, margin, kind
        self.stored_geometry = geometry.widened(margin)
        """What the images given to `add` have to show."""
        self._sources: list[SourceRecord] = []
        self._records: list[FaceRecord] = []
        self._open, self._sha256 = True, ""
        try:
            _remove_partial(self._partial)
            (self._partial / "faces").mkdir(parents=True)
            (self._partial / LANDMARKS).write_bytes(_npy_header(0))
        except OSError as error:
            raise FacesetError(explain(error, self._partial)) from error

    def __len__(self) -> int:
        return len(self._records)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def add(
        self,
        image: ImageU8 | bytes,
        landmarks: Points,
        *,
        source: int,
        frame_index: int,
        pts_s: float,
        track: int,
        score: float,
        sharpness: float,
        native_px: float,
        yaw: float,
        pitch: float,
        roll: float,
        person: int = 0,
        measures: Measures | None = None,
    ) -> None:
        """Store one face: the crop as `stored_geometry` shows it and its (468, 3) mesh in the pixels of the crop.

        A crop that is given as the bytes of a JPEG is stored as it is, to the bit. `source` is the number of the
        source in the order of `add_source`. Raises FacesetError when the disk is full or the JPEG is not of this set.
        """
        side = self.stored_geometry.size
        if landmarks.shape != (POINTS, 3):
            raise ValueError(f"expected {POINTS} points of 3 values, got {landmarks.shape}")
        if len(self) == MAX_FACES:
            raise FacesetError(
                f"a faceset holds at most {MAX_FACES} faces; sample fewer frames, for example with --fps 5"
            )
        if isinstance(image, bytes):
            data = image
            check_jpeg(data, side, f"face {len(self)}")
        else:
            data = encode_crop(image, side)
        record = FaceRecord(
            file=f"faces/{len(self):06d}.jpg",
            source=source,
            frame_index=frame_index,
            pts_s=round(pts_s, 6),
            track=track,
            score=round(score, 4),
            sharpness=round(sharpness, 3),
            native_px=round(native_px, 2),
            yaw=round(yaw, 2),
            pitch=round(pitch, 2),
            roll=round(roll, 2),
            sha256=hashlib.sha256(data).hexdigest(),
            person=person,
            measures=measures and _rounded(measures),
        )
        self._write(record.file, data)
        # As they come: those of half an hour would take a third of a gigabyte of memory.
        self._write(LANDMARKS, np.ascontiguousarray(landmarks, "<f4").tobytes(), "ab")
        self._records.append(record)

    def add_source(self, source: SourceRecord) -> None:
        """Name the next source; sources count from 0."""
        self._sources.append(source)

    def name_people(self, persons: Mapping[int, int]) -> None:
        """Say who each track shows, for those who know it only when all faces are written: track -> person."""
        self._records = [replace(each, person=persons.get(each.track, each.person)) for each in self._records]

    def close(self) -> str:
        """Write the index and give the folder its name; the sha256 of the set. Safe to call twice.

        Raises FacesetError, and leaves nothing behind, when there is no face or the disk is full.
        """
        if not self._open:
            return self._sha256
        try:
            if not self._records:
                raise FacesetError(f"{self.path} would hold no face; use a video in which a face is seen")
            digest = self._finish_landmarks()
            sources, faces = tuple(self._sources), tuple(self._records)
            index = dump_index(FacesetIndex(self.geometry, self.margin, self.kind, sources, faces, digest))
            load_index(index, INDEX)  # what we write is what we read
            self._write(_SHEET, self._sheet())
            self._write(INDEX, index)
            try:
                publish_folder(self._partial, self.path)
            except OSError as error:
                raise FacesetError(explain(error, self.path)) from error
        except BaseException:
            self.abort()
            raise
        self._open, self._sha256 = False, hashlib.sha256(index).hexdigest()
        return self._sha256

    def abort(self) -> None:
        """Remove what was written; nothing appears under the final name. Safe to call twice, and after `close`."""
        if self._open:
            self._open = False
            _remove_partial(self._partial, log=False)

    def _finish_landmarks(self) -> str:
        """Write how many there are; the sha256 of the file."""
        self._write(LANDMARKS, _npy_header(len(self)), "r+b")
        return file_sha256(self._partial / LANDMARKS)

    def _write(self, name: str, data: bytes, mode: str = "wb") -> None:
        try:
            with (self._partial / name).open(mode) as file:
                file.write(data)
        except OSError as error:
            raise FacesetError(explain(error, self._partial / name)) from error

    def _sheet(self) -> bytes:
        picked = [self._records[i] for i in pick_evenly(len(self), _SHEET_FACES)]
        side = self.stored_geometry.size
        edge = (side - self.geometry.size) // 2
        inner = slice(edge, edge + self.geometry.size)
        crops = (decode_jpeg((self._partial / record.file).read_bytes(), side, record.file) for record in picked)
        captions = [f"{r.pts_s:.1f} s yaw {r.yaw:+.0f}" for r in picked]
        if len(self._sources) > 1:
            captions = [f"video {r.source + 1} {text}" for r, text in zip(picked, captions, strict=True)]
        if any(record.person for record in self._records):
            captions = [f"person {r.person + 1} {text}" for r, text in zip(picked, captions, strict=True)]
        done, png = cv2.imencode(".png", draw_contact_sheet([crop[inner, inner] for crop in crops], captions))
        return png.tobytes() if done else b""


def _rounded(measures: Measures) -> Measures:
    """The same figures with four places: what two machines compute differs in the last of sixteen."""
    values: dict[str, Any] = {
        name: tuple(round(each, 4) for each in value) if isinstance(value, tuple) else round(value, 4)
        for name, value in asdict(measures).items()
    }
    return Measures(**values)


def encode_crop(image: ImageU8, side: int) -> bytes:
    """The JPEG of a (side, side, 3) BGR crop as sets hold it. Raises ValueError for a crop of another size."""
    if image.shape != (side, side, 3):
        raise ValueError(f"expected a {side} px crop, got {image.shape}")
    done, jpeg = cv2.imencode(".jpg", image, _JPEG)
    if not done:
        raise FacesetError("OpenCV cannot write JPEG; install opencv-python 4.7 or newer")
    return jpeg.tobytes()


def check_target(path: Path) -> tuple[Path, Path]:
    """The full path of a new faceset and of its partial folder. Raises UsageError when the name is taken."""
    try:
        final = path.resolve()
        if final.is_file():
            raise UsageError(f"{path} is a file; give the name of a new folder")
        taken = final.is_dir() and any(final.iterdir())
    except OSError as error:
        raise UsageError(explain(error, path)) from error
    except RuntimeError as error:  # links that go round in a circle
        raise UsageError(f"{path} is a link to itself; give the name of a new folder") from error
    if taken or not final.name:
        raise UsageError(f"{path} exists and is not empty; give a new name or remove it first")
    return final, final.with_name(final.name + ".partial")


def _remove_partial(partial: Path, *, log: bool = True) -> None:
    """Remove a partial folder, file by file, if it holds nothing but what a writer puts there. Raises UsageError."""
    if not partial.exists() and not partial.is_symlink():
        return
    names = {p: p.relative_to(partial).as_posix() for p in partial.rglob("*")}
    known = partial.is_dir() and all(
        name in ("faces", INDEX, LANDMARKS, _SHEET) or FACE_NAME.fullmatch(name) for name in names.values()
    )
    if partial.is_symlink() or not known:
        raise UsageError(f"{partial} is in the way and holds more than an unfinished faceset; move it away")
    if log:
        _log.warning("replacing %s, which an earlier extraction left unfinished", partial)
    for path, name in names.items():
        if name != "faces":
            path.unlink()
    if (partial / "faces").is_dir():
        (partial / "faces").rmdir()
    partial.rmdir()


def _npy_header(faces: int) -> bytes:
    """Of a float32 file of `faces` meshes: 128 bytes whatever their number, so that it can be written last."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (faces, POINTS, 3)})
    return buffer.getvalue()
