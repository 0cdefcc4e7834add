"""A file that FFmpeg writes to while it grows. Bytes in, a file on the disk and its first error out."""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path


class GrowingFile:
    """What FFmpeg writes to: a file that remembers its first error.

    It never raises towards FFmpeg, which would forget some errors and report others in the wrong place; after the
    first one nothing more is written.
    """

    def __init__(self, path: Path) -> None:
        """Create or empty the file. Raises OSError; BlockingIOError when somebody else is writing it."""
        self._raw = FileIO(path, "wb", opener=lambda name, flags: os.open(name, flags & ~os.O_TRUNC, 0o666))
        try:
            _lock(self._raw)
            if os.fstat(self._raw.fileno()).st_size:
                self._raw.truncate(0)
        except BaseException:
            self._raw.close()
            raise
        self.error: OSError | None = None
        """The first error: what was written after it is not in the file."""
        self._position = 0

    def write(self, data: bytes) -> int:
        """Write at the current position; always claims that all went well."""
        view = memoryview(data)
        while view and self.error is None:
            try:
                view = view[self._raw.write(view) :]
            except OSError as error:
                self.error = error
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the new position."""
        if self.error is None:
            try:
                self._position = self._raw.seek(offset, whence)
            except OSError as error:
                self.error = error
        return self._position

    def tell(self) -> int:
        """The current position."""
        return self._position

    def finish(self) -> None:
        """Force everything to the disk and close; safe to call twice."""
        if self._raw.closed:
            return
        try:
            os.fsync(self._raw.fileno())
            self._raw.close()
        except OSError as error:
            self.error = self.error or error
            with suppress(OSError):
                self._raw.close()


def _lock(file: FileIO) -> None:
    """Keep other runs from writing the same file, where the system can (not on Windows, not on every network disk)."""
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return
