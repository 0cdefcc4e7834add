"""Plays a recording of the input again. The folder of a recording in, the same Frames out, bit for bit.

Note [Recordings]
    recording.json  what the source said about itself and how the run was set, written first
    frames.nut      the pictures, losslessly (Ut Video, RGB): on one core of a server 3 ms a frame at 640x480 and 7 ms
                    at 1280x720 for 0.46 and 1.3 MB; FFV1 and PNG make it a tenth smaller in five times the time
    frames.jsonl    one line for each frame: index, times (as they were to the last bit) and the checksum of its pixels;
                    and one for each event, with the index of the frame before whose swap it happened
    A line is written when its picture is: whatever cuts a recording off, what was there before can be played.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from realtime.errors import SourceError
from realtime.files import explain
from realtime.frame import Frame
from realtime.source import Colour, SourceInfo

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

_log = logging.getLogger(__name__)

SCHEMA = "liveswap-recording-1"
ABOUT, PICTURES, LINES = "recording.json", "frames.nut", "frames.jsonl"
CONTAINER, CODEC, PIXELS = "nut", "utvideo", "gbrp"
_LATEST_S = 1e15
"""Later than any clock tells."""

MAX_ABOUT_BYTES, MAX_LINE_BYTES = 1 << 20, 1 << 16
MAX_SIDE_PX, MAX_FRAMES, MAX_EVENTS = 16_384, 10_000_000, 100_000
"""A recording may come from a stranger; nobody films 92 hours."""

Event = tuple[int, dict[str, Any]]
"""The index of the frame before whose swap it happened, and what happened."""


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    captured_s: float
    pts_s: float
    crc32: int


class ReplaySource:
    """Every frame of a recording in order, as fast as it is read. Not thread-safe.

    `pts_s` is the time that counted for the swap when it was recorded: when the frame was captured if the source was
    live, else its place in the file. `index` is what it was, so what was dropped then is missing now. A recording that
    was cut off ends with its last whole frame, and the log says so; damage before that raises SourceError.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open the recording in `folder`. Raises SourceError with one sentence for whatever is none."""
        from av.error import FFmpegError

        self._folder, self._ffmpeg_error = Path(folder), FFmpegError
        self._container: InputContainer | None = None
        about = self._read_about()
        source, settings = about.get("info"), about.get("settings")
        self.settings: dict[str, Any] = settings if isinstance(settings, dict) else {}
        """How the recorded run was set."""
        self.events: list[Event] = []
        """In the order in which they happened."""
        self._rows = self._read_lines()
        if not len(self._rows):
            raise self._empty()
        self._was_live = isinstance(source, dict) and source.get("live") is True
        self.info = self._describe(source)
        try:
            self._stream = self._open_pictures()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames that were not read yet: a recording is read once."""
        pictures = self._decoded()
        for place, row in enumerate(self._rows):
            picture = next(pictures, None)
            if picture is None and not place:
                raise self._empty()
            if picture is None:
                _log.warning("%s was cut off: %d of %d frames are whole", self.info.name, place, len(self._rows))
                return
            image = np.ascontiguousarray(picture.to_ndarray(format="bgr24"), np.uint8)
            if zlib.crc32(image.data) != row.crc32:
                raise self._damaged(place)
            yield Frame(image, row.index, time.monotonic(), self._time_s(row))

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._container is not None:
            self._container.close()

    def _time_s(self, row: _Row) -> float:
        return row.captured_s if self._was_live else row.pts_s

    def _file(self, name: str) -> Path:
        path = self._folder / name
        if path.is_symlink():
            raise SourceError(f"{path} is a link, which no recording has; get a copy of the recording itself")
        if not path.is_file():
            raise SourceError(f"{self._folder} is no recording, it has no {name}; give a folder made by --record-input")
        return path

    def _read_about(self) -> dict[str, Any]:
        path = self._file(ABOUT)
        try:
            with path.open("rb") as file:
                data = file.read(MAX_ABOUT_BYTES + 1)
        except OSError as error:
            raise SourceError(explain(error, path)) from error
        about: object = None
        if len(data) <= MAX_ABOUT_BYTES:
            with suppress(ValueError, RecursionError):
                about = json.loads(data)
        if not isinstance(about, dict):
            raise SourceError(f"{path} describes no recording; get a whole copy")
        if about.get("schema") != SCHEMA:
            raise SourceError(
                f"{self._folder} was recorded in another format than {SCHEMA}; use the version that recorded it"
            )
        return about

    def _read_lines(self) -> _Rows:
        path, rows = self._file(LINES), _Rows()
        try:
            with path.open("rb") as file:
                # The last line of a recording that was cut off has no end.
                while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
                    self._read_line(line, rows)
                if len(line) == MAX_LINE_BYTES:
                    raise ValueError("a line is too long")
        except OSError as error:
            raise SourceError(explain(error, path)) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:100]
            where = f"after {len(rows)} frames ({reason})"
            raise SourceError(f"{path} is damaged {where}; get a whole copy of the recording") from error
        return rows

    def _read_line(self, line: bytes, rows: _Rows) -> None:
        entry = json.loads(line)
        if not isinstance(entry, dict):
            raise ValueError("a line is no object")
        index = _whole(entry["index"])
        if "event" not in entry:
            times = _finite(entry["captured_s"]), _finite(entry["pts_s"])
            rows.add(_Row(index, *times, _whole(entry["crc32"], 1 << 32)))
        elif isinstance(entry["event"], dict) and len(self.events) < MAX_EVENTS:
            self.events.append((index, entry["event"]))
        else:
            raise ValueError("an event is no object, or there are too many")

    def _describe(self, info: object) -> SourceInfo:
        try:
            if not isinstance(info, dict):
                raise ValueError("the source is missing")
            colour = info.get("colour")
            return SourceInfo(
                name="".join(letter for letter in str(info["name"])[:200] if letter.isprintable()),
                width=_whole(info["width"], MAX_SIDE_PX + 1, 1),
                height=_whole(info["height"], MAX_SIDE_PX + 1, 1),
                fps=_ratio(info["fps"], 1000),
                frames=len(self._rows),
                live=False,
                path=self._folder / PICTURES,
                time_base=_ratio(info["time_base"], 1),
                first_pts_s=self._time_s(self._rows[0]),
                colour=None if colour is None else Colour(*(_whole(each, 256) for each in colour[:3])),
                pixel_aspect=_ratio(info["pixel_aspect"], 100),
            )
        except (ValueError, KeyError, TypeError) as error:
            path = self._folder / ABOUT
            raise SourceError(f"{path} does not describe its source ({error}); get a whole copy") from error

    def _open_pictures(self) -> av.VideoStream:
        import av

        path = self._file(PICTURES)
        try:
            # The prefix keeps FFmpeg from reading "name:rest" as the name of a protocol.
            self._container = av.open(f"file:{path}", format=CONTAINER, metadata_errors="replace")
        except OSError as error:
            if not isinstance(error, self._ffmpeg_error):
                raise SourceError(explain(error, path)) from error
            raise SourceError(f"{path} cannot be opened ({error.strerror}); get a whole copy") from error
        except self._ffmpeg_error as error:
            raise SourceError(f"{path} holds no pictures of a recording; get a whole copy") from error
        info = self.info
        for stream in self._container.streams.video:
            context = stream.codec_context
            if (context.name, context.width, context.height) == (CODEC, info.width, info.height):
                context.thread_count = 1
                return stream
        raise SourceError(f"{path} holds other pictures than {ABOUT} says; get a whole copy")

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """The pictures; what cannot be decoded ends them when nothing follows, else it is damage."""
        assert self._container is not None
        count, broken = 0, False
        try:
            for packet in self._container.demux(self._stream):
                if broken and packet.size:
                    raise self._damaged(count)
                try:
                    pictures = packet.decode()
                except self._ffmpeg_error:
                    broken = True
                    continue
                for picture in pictures:
                    size = picture.width, picture.height
                    if (*size, picture.format.name) != (self.info.width, self.info.height, PIXELS):
                        raise self._damaged(count)
                    yield picture
                    count += 1
        except self._ffmpeg_error as error:
            raise self._damaged(count) from error

    def _empty(self) -> SourceError:
        return SourceError(f"the recording {self._folder} holds no whole frame; record again")

    def _damaged(self, count: int) -> SourceError:
        return SourceError(f"the recording {self._folder} is damaged after {count} frames; get a whole copy")


class _Rows:
    """Many rows in little memory."""

    def __init__(self) -> None:
        self._indices, self._crcs = array("q"), array("q")
        self._captured, self._pts = array("d"), array("d")

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> _Row:
        return _Row(self._indices[place], self._captured[place], self._pts[place], self._crcs[place])

    def __iter__(self) -> Iterator[_Row]:
        return map(self.__getitem__, range(len(self)))

    def add(self, row: _Row) -> None:
        if len(self) >= MAX_FRAMES or (len(self) and row.index <= self._indices[-1]):
            raise ValueError("the frames are out of order, or there are too many")
        self._indices.append(row.index)
        self._captured.append(row.captured_s)
        self._pts.append(row.pts_s)
        self._crcs.append(row.crc32)


def _whole(value: object, end: int = 1 << 62, first: int = 0) -> int:
    if type(value) is not int or not first <= value < end:
        raise ValueError("a number is out of range")
    return value


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > _LATEST_S or value != value:
        raise ValueError("a time is no number")
    return float(value)


def _ratio(value: object, most: int) -> Fraction:
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError("a ratio is no text")
    try:
        ratio = Fraction(value)
    except ZeroDivisionError as error:
        raise ValueError("a ratio divides by zero") from error
    if not Fraction(1, 1_000_000_000) <= ratio <= most:
        raise ValueError("a ratio is out of range")
    return ratio
