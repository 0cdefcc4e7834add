"""Reads video files. A path in, every Frame in order out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from realtime.errors import SourceError
from realtime.files import explain
from realtime.frame import Frame, ImageU8
from realtime.source import SWS_MATRIX, Colour, SourceInfo, usual_colour

if TYPE_CHECKING:
    import av
    from av.buffer import Buffer
    from av.container import InputContainer


class VideoFile:
    """Every frame of a video file in order, upright, at its own presentation time.

    A file that breaks on the way delivers its frames up to there, then raises SourceError. Not thread-safe.
    """

    def __init__(self, path: Path | str) -> None:
        """Open and decode the first frame. Raises SourceError with one sentence for whatever is no video."""
        from av.error import FFmpegError

        self._path, self._ffmpeg_error = Path(path), FFmpegError
        self._container = _open_container(self._path)
        try:
            self._stream = _moving_pictures(self._container, self._path)
            self._stream.thread_type = "AUTO"
            pictures = self._decoded()
            first = next(pictures, None)
            if first is None:
                raise SourceError(f"{self._path} holds no picture; get a whole copy")
            self._pictures = itertools.chain([first], pictures)
            self._turn = _Turn.of(first)
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
        """The frames that were not read yet: a file is read once."""
        step_s = 1 / float(self.info.fps)
        pts_s = -step_s
        for index, picture in enumerate(self._pictures):
            time_s = cast("float | None", picture.time)  # some containers have no times
            pts_s = pts_s + step_s if time_s is None else time_s - self.info.start_s
            image = self._upright(picture)
            yield Frame(image, index, time.monotonic(), pts_s)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._container.close()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        count, end_s = 0, 0.0
        try:
            for picture in self._container.decode(self._stream):
                yield picture
                count += 1
                if picture.pts is not None:
                    end_s = float((picture.pts + picture.duration) * (picture.time_base or 0))
        except self._ffmpeg_error as error:
            if count:
                raise self._damaged(count) from error
            raise SourceError(f"{self._path} cannot be decoded ({error.strerror}); convert it to MP4") from error
        promised_s = float((self._stream.duration or 0) * (self._stream.time_base or 0))
        if count < self._stream.frames and promised_s - (end_s - self.info.start_s) > 0.3:
            raise self._damaged(count)

    def _damaged(self, count: int) -> SourceError:
        return SourceError(f"{self._path} is damaged after {count} frames; get a whole copy, or repair it with ffmpeg")

    def _describe(self, first: av.VideoFrame) -> SourceInfo:
        stream, container = self._stream, self._container
        fps = stream.average_rate or stream.guessed_rate or Fraction(30)
        seconds = container.duration / 1e6 if container.duration else None
        width, height = self._stored_size[::-1] if self._turn.swap_axes else self._stored_size
        aspect = stream.sample_aspect_ratio or Fraction(1)
        colour = Colour(first.colorspace, first.color_primaries, first.color_trc)
        return SourceInfo(
            name=self._path.name,
            width=width,
            height=height,
            fps=fps,
            frames=stream.frames or (round(seconds * fps) if seconds else None),
            live=False,
            audio_path=self._path if container.streams.audio else None,
            path=self._path,
            time_base=stream.time_base or Fraction(1, 90_000),
            start_s=(container.start_time or 0) / 1e6,
            colour=colour if colour.matrix in SWS_MATRIX else None,
            pixel_aspect=1 / aspect if self._turn.swap_axes else aspect,
        )

    def _upright(self, picture: av.VideoFrame) -> ImageU8:
        """(H, W, 3) BGR; where the size changes inside the file, it is scaled to the first one."""
        matrix = picture.colorspace if picture.colorspace in SWS_MATRIX else usual_colour(picture.height).matrix
        bgr = picture.reformat(
            *self._stored_size,
            format="bgr24",
            src_colorspace=None if picture.format.is_rgb else SWS_MATRIX[matrix],
            threads=1,
        )
        return self._turn.apply(np.asarray(bgr.to_ndarray(), np.uint8))


@dataclass(frozen=True, slots=True)
class _Turn:
    """How stored pictures become upright ones."""

    swap_axes: bool
    flip_x: bool
    flip_y: bool

    @classmethod
    def of(cls, picture: av.VideoFrame) -> _Turn:
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
        container = av.open(f"file:{path}")
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


def _moving_pictures(container: InputContainer, path: Path) -> av.VideoStream:
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise SourceError(f"{path} holds no moving pictures; give the path of a video")
