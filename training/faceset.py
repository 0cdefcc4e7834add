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
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from realtime.errors import FacesetError
from realtime.files import explain
from realtime.frame import ImageU8
from training.faceset_index import INDEX, LANDMARKS, POINTS, FacesetIndex, load_index
from training.untrusted import check_jpeg, decode_jpeg, file_sha256, largest_jpeg, open_float32_array, read_plain_file

_MAX_INDEX_BYTES = 128 << 20

FEWEST_TO_HOLD_OUT = 10
"""Faces of one source; of fewer, none is held out."""


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
        try:
            if not path.is_dir():
                what = "is not a folder" if path.exists() else "does not exist"
                raise FacesetError(f"{path} {what}; give the folder that 'liveswap extract' made")
            if not (path / INDEX).exists():
                raise FacesetError(f"{path} is no faceset, it holds no {INDEX}; make one with 'liveswap extract'")
            if (path / "faces").is_symlink():
                raise FacesetError(f"{path / 'faces'} is a link; copy the whole faceset into one folder")
        except OSError as error:
            raise FacesetError(explain(error, path)) from error
        data = read_plain_file(path / INDEX, _MAX_INDEX_BYTES)
        index = load_index(data, str(path / INDEX))
        landmarks = open_float32_array(path / LANDMARKS, (len(index.faces), POINTS, 3))
        limit = 64 * index.geometry.size
        if not (landmarks.min() >= -limit and landmarks.max() <= limit):  # also refuses NaN
            raise FacesetError(f"{path / LANDMARKS} holds points far outside the crops; extract the videos again")
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
        return decode_jpeg(read_plain_file(path, largest_jpeg(self.stored_size)), self.stored_size, str(path))

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
            if count < FEWEST_TO_HOLD_OUT or not fraction:
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
        if file_sha256(self.path / LANDMARKS) != landmarks_sha256:
            raise FacesetError(f"{self.path / LANDMARKS} is damaged, its checksum differs; extract the videos again")
        for i, record in enumerate(self.records):
            data = read_plain_file(self._file(i), largest_jpeg(self.stored_size))
            check_jpeg(data, self.stored_size, str(self._file(i)))
            if hashlib.sha256(data).hexdigest() != record.sha256:
                raise FacesetError(f"{self._file(i)} is damaged, its checksum differs; extract the videos again")
