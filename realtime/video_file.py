"""Reads video files. A path in, every Frame in order out."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from realtime.errors import SourceError, UsageError
from realtime.files import explain
from realtime.frame import Frame, ImageU8
from realtime.source import SWS_MATRIX, Colour, SourceInfo, usual_colour

if TYPE_CHECKING:
    import av
    from av.buffer import Buffer
    from av.container import InputContainer

_log = logging.getLogger(__name__)

_SEEK_BACK_S = (0.0, 5.0, 60.0, math.inf)
"""So far before the wanted moment a search for it starts; if that was too late, further."""
_SAME_MOMENT_S = 1e-5
"""Times of pictures are multiples of the container's unit, what a user types is not: half a tick of the finest unit."""


class VideoFile:
    """Every frame of a video file in order, upright, at its own presentation time.

    A file that breaks on the way delivers its frames up to there, then raises SourceError. Not thread-safe.
    """

    def __init__(self, path: Path | str, *, seek_s: float = 0.0, loop: bool = False) -> None:
        """Open and decode the first frame: the first one at or after `seek_s` seconds. Its pts_s is 0 (after a seek).

        With `loop` the file starts there again when it ends, for ever: index and pts_s go on growing. A loop has no
        sound, because sinks carry the sound of a file over once. Raises SourceError with one sentence for whatever is
        no video, UsageError for a start behind the end.
        """
        from av.error import FFmpegError

        if not 0 <= seek_s < math.inf:
            raise UsageError(f"a video cannot start at {seek_s} s; choose a time between 0 and its length")
        self._path, self._seek_s, self._loop, self._ffmpeg_error = Path(path), seek_s, loop, FFmpegError
        self._container: InputContainer | None = None
        try:
            first = self._start()
            self._turn = Turn.of(first)
            self._stored_size = first.width, first.height
            self.info = self._describe(first)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames that were not read yet: a file is read once, or without end in a loop."""
        step_s = 1 / float(self.info.fps)
        pts_s, round_s = -step_s, 0.0
        for index in itertools.count():
            picture = next(self._pictures, None)
            if picture is None:
                if not self._loop or self._container is None:
                    return
                self._start()
                picture, round_s = next(self._pictures), pts_s + step_s
            time_s = cast("float | None", picture.time)  # some containers have no times
            pts_s = pts_s + step_s if time_s is None else round_s + time_s - self.info.start_s
            image = self._turn.apply(bgr_image(picture, *self._stored_size))
            yield Frame(image, index, time.monotonic(), pts_s)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._container is not None:
            self._container.close()
        self._container = None

    def _start(self) -> av.VideoFrame:
        """Open the file where reading starts; the first picture, which is the next one of `_pictures`, too.

        It is found by its time alone, from further and further before it: containers seek to some key picture, and
        some of them to one that is too late.
        """
        for back_s in _SEEK_BACK_S:
            from_s = self._seek_s - back_s
            try:
                pictures = self._open(from_s)
                first = next(pictures, None)
            except (SourceError, self._ffmpeg_error):
                if from_s > 0:
                    continue
                raise
            if from_s <= 0 or (first is not None and first.time is not None and first.time <= self._wanted_s):
                break
        for count, picture in enumerate(itertools.chain(() if first is None else [first], pictures)):
            time_s = cast("float | None", picture.time)
            if (self._file_start_s + count / self._fps if time_s is None else time_s) >= self._wanted_s:
                self._pictures = itertools.chain([picture], pictures)
                return picture
        if first is None:
            raise SourceError(f"{self._path} holds no picture; get a whole copy")
        raise UsageError(f"{self._path} ends before {self._seek_s:g} s; choose an earlier start")

    def _open(self, from_s: float) -> Iterator[av.VideoFrame]:
        self.close()
        self._container = container = _open_container(self._path)
        self._stream = moving_pictures(container, str(self._path))
        self._stream.thread_type = "AUTO"
        self._fps = float(self._stream.average_rate or self._stream.guessed_rate or 30)
        self._file_start_s = (container.start_time or 0) / 1e6
        self._wanted_s = self._file_start_s + self._seek_s - _SAME_MOMENT_S if self._seek_s else -math.inf
        if from_s > 0:
            container.seek(round(1e6 * (self._file_start_s + from_s)))
        return self._decoded(container, whole=from_s <= 0)

    def _decoded(self, container: InputContainer, *, whole: bool) -> Iterator[av.VideoFrame]:
        count, end_s = 0, 0.0
        try:
            for picture in container.decode(self._stream):
                yield picture
                count += 1
                if picture.pts is not None:
                    end_s = float((picture.pts + picture.duration) * (picture.time_base or 0))
        except self._ffmpeg_error as error:
            if count:
                raise self._damaged(count) from error
            raise SourceError(f"{self._path} cannot be decoded ({error.strerror}); convert it to MP4") from error
        counted = whole and not _is_matroska(container)  # which does not say how many pictures it holds
        if (count < self._stream.frames or not counted) and self._promised_s() - (end_s - self._file_start_s) > 0.3:
            raise self._damaged(count)

    def _promised_s(self) -> float:
        """How long the pictures last, as the file says; 0 where it does not."""
        if self._stream.duration:
            return float(self._stream.duration * (self._stream.time_base or 0))
        parts = self._stream.metadata.get("DURATION", "").split(":")  # of Matroska: 00:01:02.345000000
        try:
            return math.fsum(float(part) * 60.0**power for power, part in enumerate(reversed(parts)))
        except ValueError:
            return 0.0

    def _damaged(self, count: int) -> SourceError:
        return SourceError(f"{self._path} is damaged after {count} frames; get a whole copy, or repair it with ffmpeg")

    def _describe(self, first: av.VideoFrame) -> SourceInfo:
        stream, container = self._stream, self._container
        assert container is not None
        fps = stream.average_rate or stream.guessed_rate or Fraction(30)
        seconds = container.duration / 1e6 if container.duration else None
        frames = stream.frames or (round(seconds * fps) if seconds else None)
        start_s = self._file_start_s
        if self._seek_s:
            start_s = start_s + self._seek_s if first.time is None else first.time
            frames = None if frames is None else max(frames - round((start_s - self._file_start_s) * fps), 1)
        width, height = self._stored_size[::-1] if self._turn.swap_axes else self._stored_size
        aspect = stream.sample_aspect_ratio or Fraction(1)
        colour = Colour(first.colorspace, first.color_primaries, first.color_trc)
        if self._loop and container.streams.audio:
            _log.info("%s: without its sound, because it plays in a loop", self._path.name)
        return SourceInfo(
            name=self._path.name,
            width=width,
            height=height,
            fps=fps,
            frames=None if self._loop else frames,
            live=False,
            audio_path=self._path if container.streams.audio and not self._loop else None,
            path=self._path,
            time_base=stream.time_base or Fraction(1, 90_000),
            start_s=start_s,
            colour=colour if colour.matrix in SWS_MATRIX else None,
            pixel_aspect=1 / aspect if self._turn.swap_axes else aspect,
        )


def _is_matroska(container: InputContainer) -> bool:
    return "matroska" in container.format.name


def bgr_image(picture: av.VideoFrame, width: int, height: int) -> ImageU8:
    """(height, width, 3) BGR: a decoded picture, scaled, in the colours that it says it has."""
    matrix = picture.colorspace if picture.colorspace in SWS_MATRIX else usual_colour(picture.height).matrix
    bgr = picture.reformat(
        width,
        height,
        format="bgr24",
        src_colorspace=None if picture.format.is_rgb else SWS_MATRIX[matrix],
        threads=1,
    )
    return np.asarray(bgr.to_ndarray(), np.uint8)


@dataclass(frozen=True, slots=True)
class Turn:
    """How stored pictures become upright ones."""

    swap_axes: bool
    flip_x: bool
    flip_y: bool

    @classmethod
    def of(cls, picture: av.VideoFrame) -> Turn:
        """What the picture's display matrix asks for, to the nearest quarter turn."""
        # The type stubs know only one kind of side data.
        data = cast("Buffer | None", picture.side_data.get("DISPLAYMATRIX"))
        if data is None:
            return cls(False, False, False)
        x_to_x, x_to_y, _, y_to_x, y_to_y = (int(each) for each in np.frombuffer(bytes(data), np.int32)[:5])
        if abs(x_to_y) + abs(y_to_x) > abs(x_to_x) + abs(y_to_y):
            return cls(True, y_to_x < 0, x_to_y < 0)
        return cls(False, x_to_x < 0, y_to_y < 0)

    def apply(self, image: ImageU8) -> ImageU8:
        """(H, W, 3) or (W, H, 3): the upright picture."""
        turned = image.transpose(1, 0, 2) if self.swap_axes else image
        turned = turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.ascontiguousarray(turned)


def _open_container(path: Path) -> InputContainer:
    import av

    if path.is_dir():
        raise SourceError(f"{path} is a folder; give the path of a video")
    try:
        if path.stat().st_size == 0 and path.is_file():
            raise SourceError(f"{path} is empty; get a whole copy")
        # The prefix keeps FFmpeg from reading "name:rest" as the name of a protocol.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.error.InvalidDataError as error:
        raise SourceError(f"{path} is no video, or only part of one; get a whole copy or convert it to MP4") from error
    except OSError as error:
        raise SourceError(explain(error, path)) from error
    except av.error.FFmpegError as error:
        raise SourceError(f"{path} cannot be opened ({error.strerror}); convert it to MP4") from error
    if container.format.name == "tty":
        container.close()
        raise SourceError(f"{path} is a text, not a video; give the path of a video")
    return container


def moving_pictures(container: InputContainer, name: str) -> av.VideoStream:
    """The pictures of a film, not those on its cover. Raises SourceError when it holds none."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise SourceError(f"{name} holds no moving pictures; give a video")
