"""A folder of aligned faces. Crops with their landmarks in, the same crops in order out.

Note [Faceset folder]
    NAME/faces/000000.jpg ...   crops, (P, P, 3), JPEG quality 95 without chroma subsampling
    NAME/landmarks.npy          (N, 468, 3) float32 mesh of each face in the pixels of its crop
    NAME/faceset.json           what the crops show, where each of them comes from, and the sha256 of every file
    NAME/sheet.png              a contact sheet for people; never read

    Crops show `margin` times as much as the geometry they were made for, at the same pixel density, so that
    augmentation can turn and shift them without seeing the edge. The same input gives the same bytes, and the sha256
    of faceset.json names the whole set. A set may come from a stranger: it is data, checked before it is believed.
"""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import CropGeometry
from realtime.errors import FacesetError, UsageError
from realtime.files import explain, publish_folder
from realtime.frame import ImageU8, Points
from training.contact_sheet import draw_contact_sheet, pick_evenly
from training.faceset_index import FACE_NAME, MAX_FACES, FaceRecord, FacesetIndex, SourceRecord, dump_index, load_index
from training.untrusted import check_jpeg, decode_jpeg, open_float32_array, read_plain_file

_log = logging.getLogger(__name__)

MARGIN = 1.25
"""How much more than the nominal crop is stored, as a factor of its side."""
_INDEX, _LANDMARKS, _SHEET = "faceset.json", "landmarks.npy", "sheet.png"
_POINTS = 468
_MAX_INDEX_BYTES = 128 << 20
_MAX_JPEG_BYTES = 64 << 20
_SHEET_FACES = 64
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


class Faceset:
    """An open faceset. Nothing in it changes after `open`, so any number of threads may read it."""

    def __init__(self, path: Path, index: FacesetIndex, landmarks: NDArray[np.float32], sha256: str) -> None:
        self.path, self.sha256 = path, sha256
        self.records, self.sources = index.faces, index.sources
        self.geometry, self.margin, self.kind = index.geometry, index.margin, index.kind
        self.landmarks = landmarks
        """(N, 468, 3) float32, in pixels of the stored crops; read-only."""
        self.stored_size = index.geometry.widened(index.margin).size
        """Side of the stored crops in pixels."""

    @classmethod
    def open(cls, path: Path, *, verify: bool = True) -> Faceset:
        """Open the folder `path`; with `verify`, every file is compared with its checksum.

        Raises FacesetError, one sentence, for anything that is missing, damaged, too large or not what it claims to be.
        """
        if not path.is_dir():
            raise FacesetError(f"{path} is not a folder; give the folder that 'liveswap extract' made")
        if not (path / _INDEX).exists():
            raise FacesetError(f"{path} is no faceset, it holds no {_INDEX}; make one with 'liveswap extract'")
        if (path / "faces").is_symlink():
            raise FacesetError(f"{path / 'faces'} is a link; copy the whole faceset into one folder")
        data = read_plain_file(path / _INDEX, _MAX_INDEX_BYTES)
        index = load_index(data, str(path / _INDEX))
        landmarks = open_float32_array(path / _LANDMARKS, (len(index.faces), _POINTS, 3))
        limit = 64 * index.geometry.size
        if not (landmarks.min() >= -limit and landmarks.max() <= limit):  # also refuses NaN
            raise FacesetError(f"{path / _LANDMARKS} holds points far outside the crops; extract the videos again")
        faceset = cls(path, index, landmarks, hashlib.sha256(data).hexdigest())
        if verify:
            faceset._verify(index.landmarks_sha256)
        return faceset

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"Faceset({self.path}, {len(self)} faces of {self.stored_size} px, {len(self.sources)} sources)"

    def image(self, i: int) -> ImageU8:
        """(P, P, 3) BGR crop number `i`, P = stored_size. Raises FacesetError when the file cannot be decoded."""
        path = self._file(i)
        return decode_jpeg(read_plain_file(path, _MAX_JPEG_BYTES), self.stored_size, str(path))

    def split_by_time(self, fraction: float = 0.1, *, gap_s: float = 1.0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices to train on and indices to hold out: the last `fraction` of the faces of every source.

        Neighbouring frames are nearly equal, so a gap of up to `gap_s` seconds (at most 5 % of the source) before
        the held-out block belongs to neither. A source with fewer than ten faces is trained on whole.
        Raises ValueError unless 0 <= fraction <= 0.5.
        """
        if not 0 <= fraction <= 0.5:
            raise ValueError(f"the held-out fraction is 0 to 0.5, got {fraction}")
        source = np.array([record.source for record in self.records])
        pts_s = np.array([record.pts_s for record in self.records])
        train, held_out = np.ones(len(self), bool), np.zeros(len(self), bool)
        for number in range(len(self.sources)):
            mine = source == number
            count = int(mine.sum())
            if count < 10 or not fraction:
                continue
            times = np.sort(pts_s[mine])
            start = times[count - max(1, round(count * fraction))]
            gap = min(gap_s, 0.05 * (times[-1] - times[0]))
            held_out |= mine & (pts_s >= start)
            train &= ~(mine & (pts_s >= start - gap))
        return np.flatnonzero(train), np.flatnonzero(held_out)

    def _file(self, i: int) -> Path:
        return self.path / self.records[i].file

    def _verify(self, landmarks_sha256: str) -> None:
        if file_sha256(self.path / _LANDMARKS) != landmarks_sha256:
            raise FacesetError(f"{self.path / _LANDMARKS} is damaged, its checksum differs; extract the videos again")
        for i, record in enumerate(self.records):
            data = read_plain_file(self._file(i), _MAX_JPEG_BYTES)
            check_jpeg(data, self.stored_size, str(self._file(i)))
            if hashlib.sha256(data).hexdigest() != record.sha256:
                raise FacesetError(f"{self._file(i)} is damaged, its checksum differs; extract the videos again")


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
        self._landmarks: list[NDArray[np.float32]] = []
        self._open, self._sha256 = True, ""
        try:
            _remove_partial(self._partial)
            (self._partial / "faces").mkdir(parents=True)
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
        image: ImageU8,
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
    ) -> None:
        """Store one face: the crop as `stored_geometry` shows it and its (468, 3) mesh in the pixels of the crop.

        `source` is the number of the source in the order of `add_source`. Raises FacesetError when the disk is full.
        """
        side = self.stored_geometry.size
        if image.shape != (side, side, 3) or landmarks.shape != (_POINTS, 3):
            raise ValueError(f"expected a {side} px crop and 468 points, got {image.shape} and {landmarks.shape}")
        if len(self) == MAX_FACES:
            raise FacesetError(
                f"a faceset holds at most {MAX_FACES} faces; sample fewer frames, for example with --fps 5"
            )
        done, jpeg = cv2.imencode(".jpg", image, _JPEG)
        if not done:
            raise FacesetError("OpenCV cannot write JPEG; install opencv-python 4.7 or newer")
        data = jpeg.tobytes()
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
        )
        self._write(record.file, data)
        self._records.append(record)
        self._landmarks.append(landmarks.astype("<f4"))

    def add_source(self, source: SourceRecord) -> None:
        """Name the next source; sources count from 0."""
        self._sources.append(source)

    def close(self) -> str:
        """Write the index and give the folder its name; the sha256 of the set. Safe to call twice.

        Raises FacesetError, and leaves nothing behind, when there is no face or the disk is full.
        """
        if not self._open:
            return self._sha256
        try:
            if not self._records:
                raise FacesetError(f"{self.path} would hold no face; use a video in which a face is seen")
            landmarks = _npy_bytes(np.stack(self._landmarks))
            digest = hashlib.sha256(landmarks).hexdigest()
            sources, faces = tuple(self._sources), tuple(self._records)
            index = dump_index(FacesetIndex(self.geometry, self.margin, self.kind, sources, faces, digest))
            load_index(index, _INDEX)  # what we write is what we read
            self._write(_LANDMARKS, landmarks)
            self._write(_SHEET, self._sheet())
            self._write(_INDEX, index)
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

    def _write(self, name: str, data: bytes) -> None:
        try:
            (self._partial / name).write_bytes(data)
        except OSError as error:
            raise FacesetError(explain(error, self._partial / name)) from error

    def _sheet(self) -> bytes:
        picked = [self._records[i] for i in pick_evenly(len(self), _SHEET_FACES)]
        side = self.stored_geometry.size
        edge = (side - self.geometry.size) // 2
        inner = slice(edge, edge + self.geometry.size)
        crops = (decode_jpeg((self._partial / record.file).read_bytes(), side, record.file) for record in picked)
        captions = [f"{r.source}: {r.pts_s:.1f} s  {r.yaw:+.0f} {r.pitch:+.0f}" for r in picked]
        done, png = cv2.imencode(".png", draw_contact_sheet([crop[inner, inner] for crop in crops], captions))
        return png.tobytes() if done else b""


def check_target(path: Path) -> tuple[Path, Path]:
    """The full path of a new faceset and of its partial folder. Raises UsageError when the name is taken."""
    final = path.resolve()
    if final.is_file():
        raise UsageError(f"{path} is a file; give the name of a new folder")
    try:
        taken = final.is_dir() and any(final.iterdir())
    except OSError as error:
        raise UsageError(explain(error, path)) from error
    if taken or not final.name:
        raise UsageError(f"{path} exists and is not empty; give a new name or remove it first")
    return final, final.with_name(final.name + ".partial")


def _remove_partial(partial: Path, *, log: bool = True) -> None:
    """Remove a partial folder, file by file, if it holds nothing but what a writer puts there. Raises UsageError."""
    if not partial.exists() and not partial.is_symlink():
        return
    names = {p: p.relative_to(partial).as_posix() for p in partial.rglob("*")}
    known = partial.is_dir() and all(
        name in ("faces", _INDEX, _LANDMARKS, _SHEET) or FACE_NAME.fullmatch(name) for name in names.values()
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


def file_sha256(path: Path) -> str:
    """Of a whole file. Raises FacesetError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FacesetError(explain(error, path)) from error


def _npy_bytes(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
