"""Keeps what parts of films have given until the set is whole. A Search in, a file out; and back.

Note [Unfinished extraction]
    OUT.unfinished holds one file for each part that was searched, named by the checksum of everything that its faces
    depend on: the film, the part and the settings of the search. So an extraction that was interrupted goes on with
    what is there whatever order its inputs have now, and a part of another film or other settings is never taken
    for it. A file is there whole or not at all. When the set has its name, the folder is removed.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from realtime.errors import FacesetError, UsageError
from realtime.files import explain, write_atomically
from training.extract_config import ExtractConfig
from training.faceset_index import POINTS
from training.film import Film, Part
from training.measures import Measures
from training.near_duplicates import SMALL_PX
from training.search import FoundFace, Search

_log = logging.getLogger(__name__)

_LAYOUT = 2
"""Counts up when the files or the search change."""
_NAME = re.compile(r"\.?[0-9a-f]{32}(\.[0-9a-f]{8}\.part)?\.npz", re.ASCII)
_ARRAYS = "mesh", "small", "identity", "jpeg"
_PICTURES = "first_picture", "last_picture"


class PartStore:
    """The folder OUT.unfinished of one extraction; it is made with the first part. May be used by several processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def beside(cls, out: Path) -> PartStore:
        """The store of the extraction that makes the set `out`."""
        final = out.resolve()
        return cls(final.with_name(final.name + ".unfinished"))

    def __len__(self) -> int:
        """How many parts are kept."""
        return sum(1 for path in self._files() if ".part" not in path.name)

    def holds(self, key: str) -> bool:
        """Whether what `key` stands for was searched before."""
        return self._path(key).is_file()

    def save(self, key: str, search: Search) -> None:
        """Keep what a part has given. Raises FacesetError when it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(key), _to_bytes(search))
        except OSError as error:
            raise FacesetError(explain(error, self.folder)) from error

    def load(self, key: str, *, faces: bool = True) -> Search:
        """What a part has given; without `faces`, their JPEGs stay on the disk and are empty here.

        Raises FacesetError when the file is damaged; it is removed, so that the part is searched again.
        """
        path = self._path(key)
        try:
            # np.load leaves a damaged file open.
            with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
                return _from_arrays(arrays, faces)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            with suppress(OSError):
                path.unlink()
            raise FacesetError(f"{path} was damaged and is removed; go on with --resume") from error

    def check(self) -> None:
        """Raise UsageError when something else lies in the place of the folder."""
        try:
            if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
                raise UsageError(f"{self.folder} is in the way; move it away")
            if self.folder.is_dir() and any(not _NAME.fullmatch(each.name) for each in self.folder.iterdir()):
                raise UsageError(f"{self.folder} holds more than an unfinished extraction; move it away")
        except OSError as error:
            raise UsageError(explain(error, self.folder)) from error

    def clear(self) -> None:
        """Remove the folder with what a store has put there, and nothing else. Safe to call twice."""
        try:
            for path in self._files():
                path.unlink()
            if self.folder.is_dir():
                self.folder.rmdir()
        except OSError as error:
            _log.warning("%s is no longer needed and could not be removed (%s)", self.folder, error.strerror)

    def _files(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"


def key_of(film: Film, part: Part, config: ExtractConfig) -> str:
    """Names what a part of a film gives under these settings, 32 hexadecimal digits."""
    facts = {
        "layout": _LAYOUT,
        "film": [film.sha256, film.clip.path.is_dir()],
        "part": [part.start_s, part.end_s, film.clip.start_s],
        "search": config.search_settings(),
    }
    text = json.dumps(facts, sort_keys=True)  # Infinity is none of JSON's numbers, but names a part all the same
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _to_bytes(search: Search) -> bytes:
    faces = search.faces
    head = {each.name: getattr(search, each.name) for each in fields(Search) if each.name not in (*_PICTURES, "faces")}
    rows = [
        {each.name: _plain(getattr(face, each.name)) for each in fields(FoundFace) if each.name not in _ARRAYS}
        for face in faces
    ]
    arrays: dict[str, NDArray[Any]] = {
        "text": np.frombuffer(json.dumps({**head, "faces": rows}).encode(), np.uint8),
        "mesh": np.stack([face.mesh for face in faces]) if faces else np.empty((0, POINTS, 3), np.float32),
        "small": np.stack([face.small for face in faces]) if faces else np.empty((0, SMALL_PX, SMALL_PX), np.uint8),
        "identity": np.stack([face.identity for face in faces]) if faces else np.empty((0, 0), np.float32),
        "jpeg": np.frombuffer(b"".join(face.jpeg for face in faces), np.uint8),
        "ends": np.cumsum([len(face.jpeg) for face in faces], dtype=np.int64),
        "pictures": _pictures_of(search),
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _from_arrays(arrays: Any, with_jpeg: bool) -> Search:
    text = json.loads(arrays["text"].tobytes())
    rows = text.pop("faces")
    meshes, smalls, identities, ends = (arrays[name] for name in ("mesh", "small", "identity", "ends"))
    jpegs = arrays["jpeg"].tobytes() if with_jpeg else b""
    faces = []
    for i, row in enumerate(rows):
        values = row | {"box": tuple(row["box"]), "measures": _measures(row["measures"])}
        jpeg = jpegs[int(ends[i - 1]) if i else 0 : int(ends[i])]
        faces.append(FoundFace(**values, jpeg=jpeg, mesh=meshes[i], small=smalls[i], identity=identities[i]))
    pictures = arrays["pictures"]
    first, last = pictures if len(pictures) else (None, None)
    return Search(**text, first_picture=first, last_picture=last, faces=tuple(faces))


def _pictures_of(search: Search) -> NDArray[np.uint8]:
    if search.first_picture is None or search.last_picture is None:
        return np.empty(0, np.uint8)
    return np.stack([search.first_picture, search.last_picture])


def _plain(value: object) -> object:
    return asdict(value) if isinstance(value, Measures) else value


def _measures(values: dict[str, Any]) -> Measures:
    known: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in values.items()}
    return Measures(**known)
