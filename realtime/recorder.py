"""Records what goes into the swap. Frames and events in, a folder that realtime.replay plays again bit for bit out."""

from __future__ import annotations

import json
import logging
import os
import threading
import zlib
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from realtime.errors import SinkError, UsageError
from realtime.files import explain, force_entries_to_disk, write_atomically
from realtime.frame import Frame
from realtime.growing_file import GrowingFile
from realtime.replay import ABOUT, CODEC, CONTAINER, LINES, MAX_LINE_BYTES, PICTURES, PIXELS, SCHEMA
from realtime.source import SourceInfo

if TYPE_CHECKING:
    from av.container import OutputContainer

_log = logging.getLogger(__name__)

_TICK = Fraction(1, 1_000_000)


class InputRecorder:
    """Writes frames as they came, see Note [Recordings] in realtime/replay.py. Not thread-safe, but for `note`."""

    def __init__(self, folder: Path | str, info: SourceInfo, settings: dict[str, Any]) -> None:
        """Start a recording in `folder`, which must be new or empty; only its owner may look into it.

        `settings`: what a replay needs to be the same run, as plain values that JSON can hold (the model's sha256, the
        knobs). Raises UsageError when something is there already, SinkError when nothing can be written.
        """
        from av.error import FFmpegError

        about = json.dumps(_about(info, settings), indent=2, allow_nan=False)
        self._folder, self._info, self._ffmpeg_error = Path(folder), info, FFmpegError
        self.frames = 0
        """How many frames were recorded."""
        self._events: list[str] = []
        self._lock = threading.Lock()
        self._closed = False
        self._first_s, self._ticks, self._next_index = 0.0, -1, 0
        self._container: OutputContainer | None = None
        self._files: list[GrowingFile] = []
        try:
            _make_private(self._folder)
            write_atomically(self._folder / ABOUT, about)
            for name in (PICTURES, LINES):
                self._files.append(GrowingFile(self._folder / name))
        except OSError as error:
            self._release()
            raise SinkError(explain(error, self._folder)) from error
        self._pictures, self._lines = self._files
        try:
            self._open()
        except BaseException:
            self._release()
            raise
        _log.warning(
            "the input is recorded in %s: raw faces, nothing in it is swapped; delete it when it has served",
            self._folder,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, frame: Frame) -> None:
        """Write the next frame; it can be replayed when this returns. Raises SinkError."""
        if self._closed:
            raise ValueError("this recording is closed; start another one")
        height, width = frame.image.shape[:2]
        if (width, height) != (self._info.width, self._info.height):
            raise SinkError(
                f"the pictures changed from {self._info.width}x{self._info.height} to {width}x{height} and the "
                f"recording {self._folder} ends there; record the new size into another folder"
            )
        with self._lock:
            events, self._events = self._events, []
        self._encode(frame)
        self._next_index = frame.index + 1
        times = {"index": frame.index, "captured_s": frame.captured_s, "pts_s": frame.pts_s}
        line = json.dumps(times | {"crc32": zlib.crc32(np.ascontiguousarray(frame.image).data)}, allow_nan=False)
        self._write([*(event % frame.index for event in events), line])
        self.frames += 1

    def note(self, event: dict[str, Any]) -> None:
        """Remember what happens before the next frame is swapped, as plain values that JSON can hold. Any thread."""
        line = '{"index": %d, "event": ' + json.dumps(event, allow_nan=False).replace("%", "%%") + "}"
        if len(line) + 20 > MAX_LINE_BYTES:
            raise ValueError(f"an event of {len(line)} letters is too long for a recording")
        with self._lock:
            self._events.append(line)

    def close(self) -> None:
        """Finish the recording; safe to call twice. Raises SinkError when the disk did not take everything."""
        if self._closed:
            return
        if self._events:
            self._write([event % self._next_index for event in self._events])
        self._release()
        self._check_disk()
        force_entries_to_disk(self._folder)
        _log.info("%s: %d frames recorded", self._folder, self.frames)

    def _open(self) -> None:
        import av

        # flush_packets: a picture must not wait in a buffer when the program is killed.
        options = {"flush_packets": "1"}
        self._container = av.open(self._pictures, "w", format=CONTAINER, options=options)
        stream = self._container.add_stream(CODEC, rate=self._info.fps.limit_denominator(1 << 16))
        assert isinstance(stream, av.VideoStream)
        self._stream, context = stream, stream.codec_context
        context.width, context.height, context.pix_fmt = self._info.width, self._info.height, PIXELS
        context.time_base = _TICK
        # A frame in, its packet out: several threads would hold frames back.
        context.thread_count = 1

    def _encode(self, frame: Frame) -> None:
        import av

        assert self._container is not None
        if not self.frames:
            self._first_s = frame.captured_s
        # For players only: a replay takes its times from the lines.
        self._ticks = max(round((frame.captured_s - self._first_s) / _TICK), self._ticks + 1)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.image), format="bgr24")
        picture = picture.reformat(format=PIXELS, threads=1)
        picture.pts, picture.time_base = self._ticks, _TICK
        try:
            self._container.mux(self._stream.encode(picture))
        except self._ffmpeg_error as error:
            raise SinkError(f"a frame cannot be recorded ({error.strerror}); record with another size") from error
        self._check_disk()

    def _write(self, lines: list[str]) -> None:
        self._lines.write("".join(f"{line}\n" for line in lines).encode())
        self._check_disk()

    def _check_disk(self) -> None:
        for file in self._files:
            if file.error is not None:
                raise SinkError(explain(file.error, self._folder)) from file.error

    def _release(self) -> None:
        self._closed = True
        if self._container is not None:
            with suppress(ValueError, self._ffmpeg_error):
                self._container.close()
        for file in self._files:
            file.finish()


def _make_private(folder: Path) -> None:
    """Create `folder`, or take it when it is empty, and let nobody else look into it. Raises OSError and our own."""
    if not folder.parent.is_dir():
        raise SinkError(f"the folder {folder.parent} does not exist; create it, or choose another place")
    folder.mkdir(mode=0o700, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; choose a new folder for the recording")
    os.chmod(folder, 0o700)


def _about(info: SourceInfo, settings: dict[str, Any]) -> dict[str, Any]:
    colour = info.colour
    return {
        "schema": SCHEMA,
        "info": {
            "name": info.name,
            "width": info.width,
            "height": info.height,
            "fps": str(info.fps),
            "live": info.live,
            "time_base": str(info.time_base),
            "colour": None if colour is None else [colour.matrix, colour.primaries, colour.transfer],
            "pixel_aspect": str(info.pixel_aspect),
        },
        "settings": settings,
    }
