"""Reads DeepFaceLab's faceset.pak. A path in; the JPGs inside, one at a time, out.

Note [faceset.pak]
    version (8 bytes, 1), length n (8 bytes), n bytes of pickle, offsets (8 bytes each), then the JPGs. All numbers are
    little-endian. Offsets count from the first JPG; after the last of them stands the size of the whole file, which is
    how one knows where the list ends. The pickle holds classes of DeepFaceLab, so it is code, and it is not needed:
    every JPG carries its own facts. It is stepped over.
"""

from __future__ import annotations

from pathlib import Path

from realtime.errors import FacesetError
from realtime.files import explain
from training.faceset_index import MAX_FACES
from training.foreign import MAX_FILE_BYTES, ForeignFile
from training.untrusted import check_plain_file

_LARGEST = 1 << 40
_REMEDY = "unpack it with DeepFaceLab and import the folder, or get an undamaged copy"


def list_pak(path: Path) -> list[ForeignFile]:
    """The JPGs in the pack at `path`, unread. Raises FacesetError, one sentence, unless the pack is consistent."""
    size = check_plain_file(path, _LARGEST)
    try:
        with path.open("rb") as file:
            version, skipped = (int.from_bytes(file.read(8), "little") for _ in range(2))
            if version != 1 or size < 24:
                raise FacesetError(f"{path} is no faceset.pak of version 1; {_REMEDY}")
            if 16 + skipped + 16 > size:
                raise FacesetError(f"{path} is cut off; {_REMEDY}")
            file.seek(16 + skipped)
            table = file.read(8 * (MAX_FACES + 2))
    except OSError as error:
        raise FacesetError(explain(error, path)) from error
    offsets = _offsets(table, size, path)
    start = 16 + skipped + 8 * (len(offsets) + 1)
    ends = [*(start + offset for offset in offsets[1:]), size]
    files = []
    for i, (offset, end) in enumerate(zip(offsets, ends, strict=True)):
        if not start <= start + offset < end <= size:
            raise FacesetError(f"{path} is damaged, its table of contents contradicts itself; {_REMEDY}")
        files.append(ForeignFile(f"{path.name}[{i}]", _reader(path, start + offset, end - start - offset)))
    return files


def _offsets(table: bytes, size: int, path: Path) -> list[int]:
    offsets: list[int] = []
    for at in range(0, len(table) - 7, 8):
        offset = int.from_bytes(table[at : at + 8], "little")
        if offset == size:
            if not offsets:
                raise FacesetError(f"{path} holds no face; {_REMEDY}")
            return offsets
        offsets.append(offset)
    raise FacesetError(f"{path} is damaged, its table of contents does not end; {_REMEDY}")


class _reader:
    """Reads one JPG when it is called."""

    def __init__(self, path: Path, start: int, length: int) -> None:
        self._path, self._start, self._length = path, start, length

    def __call__(self) -> bytes:
        if self._length > MAX_FILE_BYTES:
            raise FacesetError(f"{self._path}: a picture in it has {self._length} bytes, more than any face; {_REMEDY}")
        try:
            with self._path.open("rb") as file:
                file.seek(self._start)
                return file.read(self._length)
        except OSError as error:
            raise FacesetError(explain(error, self._path)) from error
