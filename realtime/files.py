"""Writes files whole or not at all. Bytes in, a file or a folder under its final name out.

Everything is written beside its final name, forced to the disk and renamed. A crash at any moment leaves the old
content, or nothing, under the final name, never half of the new.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

_SYNC_THREADS = 8


def explain(error: OSError, path: Path) -> str:
    """One sentence for the user about why `path` could not be read or written, with the remedy.

    Room for the final word is left to the caller: the text has no full stop.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk that holds {path} is full; free some space or choose another place"
    if error.errno == errno.EROFS:
        return f"{path} is on a read-only disk; choose another place"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path} may not be read or written; choose another place or change its permissions"
    if error.errno == errno.ENOENT:
        return f"{path} does not exist; check the spelling"
    if error.errno == errno.ENOTDIR:
        return f"{path} lies below a file, not a folder; choose another place"
    if error.errno == errno.ENAMETOOLONG:
        return "the name of the file is too long for this disk; choose a shorter one"
    return f"{path}: {error.strerror or error}; check the disk"


def make_private_folder(folder: Path) -> None:
    """Make `folder`, with those above it, for its owner alone; one that is there stays as it is. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def create_privately(path: Path, data: bytes) -> bool:
    """Write a file that only its owner may read, whole or not at all, unless there is one; whether it was written.

    Of several programs that try at once, one succeeds. Raises OSError.
    """
    part = path.with_name(f".{path.stem[:80]}.{secrets.token_hex(4)}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        force_entries_to_disk(path.parent)
        return True
    finally:
        part.unlink(missing_ok=True)


def append_privately(path: Path, line: str) -> None:
    """Add a line to a file that only its owner may read, and force it to the disk. Raises OSError.

    One write: lines of several programs never mix.
    """
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0) as file:
        file.write(f"{line}\n".encode())
        os.fsync(file.fileno())


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name with the same suffix beside `path`; what lies there when the block ends becomes `path`.

    When the block raises, the temporary file is removed and `path` stays as it was. Raises OSError.
    """
    part = path.with_name(f".{path.stem[:80]}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield part
        _force_to_disk(part)
        os.replace(part, path)
        _force_to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8, line ends as they are) to `path`, whole or not at all. Raises OSError.

    A device or a pipe, such as /dev/stdout or /dev/null, is written to: a rename would put a file in its
    place. So is what a link points to.
    """
    data = data.encode() if isinstance(data, str) else data
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    if path.exists() and not (path.is_file() or path.is_dir()):
        path.write_bytes(data)
        return
    with atomic_file(path) as part:
        part.write_bytes(data)


def publish_folder(partial: Path, path: Path) -> None:
    """Force everything in the folder `partial` to the disk and give it the name `path`.

    `path` must not exist or be an empty folder. Raises OSError (ENOTEMPTY, EEXIST) otherwise, and touches nothing.
    """
    everything = list(partial.rglob("*"))
    # Side by side, because a journal commits many small files as fast as one: 600 files in 0.1 s instead of 2 s.
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        for _ in pool.map(_force_to_disk, [*everything, partial]):
            pass
    if path.is_dir():
        path.rmdir()
    os.rename(partial, path)
    _force_to_disk(path.parent)


def _force_to_disk(path: Path) -> None:
    if path.is_dir():
        force_entries_to_disk(path)
        return
    # Windows flushes only what is open for writing.
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def force_entries_to_disk(folder: Path) -> None:
    """Make a renaming in `folder` survive a power cut."""
    # Not every system can open a folder or sync it (Windows, some network disks); their renames are written through.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def partial_name(path: Path) -> Path:
    """What an unfinished video is called, beside its final name."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")
