"""Keeps one picture. The first Frame in, a PNG file out."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2

from realtime.errors import SinkError
from realtime.files import atomic_file, explain
from realtime.frame import Frame
from realtime.provenance import Seal

_log = logging.getLogger(__name__)


class Still:
    """A sink that writes the first frame it gets. Not thread-safe."""

    def __init__(self, path: Path, seal: Seal | None = None) -> None:
        """`seal` signs the file."""
        self._path, self._seal = path, seal
        self.name = path.name
        self.saved = False
        """Whether the file is there; may be asked from any thread."""

    def send(self, frame: Frame) -> None:
        """Write the first frame; later ones are passed over. Raises SinkError when it cannot be written."""
        if self.saved:
            return
        coded, png = cv2.imencode(".png", frame.image)
        if not coded:
            raise SinkError(f"{self._path} cannot be made from a picture of {frame.image.shape}; report this")
        unsigned: SinkError | None = None
        try:
            with atomic_file(self._path) as part:
                part.write_bytes(png.tobytes())
                try:
                    if self._seal is not None:
                        self._seal.seal(part, self.name)
                except SinkError as error:
                    unsigned = error
        except OSError as error:
            raise SinkError(explain(error, self._path)) from error
        self.saved = True
        _log.info("kept %s", self._path)
        if unsigned is not None:
            raise unsigned

    def close(self) -> None:
        """Nothing is left to do."""

    def abort(self) -> None:
        """Nothing is left to do."""
