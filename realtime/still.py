"""Keeps one picture. The first Frame in, a PNG file out."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2

from realtime.errors import SinkError
from realtime.files import explain, write_atomically
from realtime.frame import Frame

_log = logging.getLogger(__name__)


class Still:
    """A sink that writes the first frame it gets. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
        try:
            write_atomically(self._path, png.tobytes())
        except OSError as error:
            raise SinkError(explain(error, self._path)) from error
        self.saved = True
        _log.info("kept %s", self._path)

    def close(self) -> None:
        """Nothing is left to do."""

    def abort(self) -> None:
        """Nothing is left to do."""
