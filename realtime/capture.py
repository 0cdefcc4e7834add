"""Opens sources of frames. What the user typed in, Frames out.

Every source works in a plain `for` loop, is opened and closed on the thread that reads it, and starts no thread.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, cast

import numpy as np

from realtime.errors import SourceError, UsageError
from realtime.files import explain
from realtime.frame import Frame, ImageU8

if TYPE_CHECKING:
    import av
    from av.buffer import Buffer
    from av.container import InputContainer


@dataclass(frozen=True, slots=True)
class Colour:
    """How a video says that its colours are meant, in the numbers of ITU-T H.273; 2 is `unspecified`."""

    matrix: int
    primaries: int = 2
    transfer: int = 2


BT709 = Colour(1, 1, 1)
BT601 = Colour(6, 6, 6)
SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""H.273 matrix -> the converter's name for it (libswscale, SWS_CS_*)."""


def usual_colour(height: int) -> Colour:
    """What players assume for video that does not say: BT.709 for high definition, BT.601 below."""
    return BT709 if height > 576 else BT601


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known about a source before its first frame."""

    name: str
    """For people: without folders and credentials."""
    width: int
    height: int
    """Of the frames that come out, upright, in pixels."""
    fps: Fraction
    """The average rate of a file, the wanted rate of a live source."""
    frames: int | None
    """How many frames will come, as far as the source knows."""
    live: bool
    """Whether time runs on when nobody reads."""
    audio_path: Path | None = None
    """The file that holds the sound, if there is any."""
    path: Path | None = None
    """The file itself: sinks refuse to overwrite it."""
    time_base: Fraction = Fraction(1, 90_000)
    """Presentation times are multiples of it, seconds."""
    start_s: float = 0.0
    """The time inside the file at which pts_s is 0."""
    colour: Colour | None = None
    """How the source marks its colours; None: it does not, and means what is usual for its size."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel divided by its height."""


class Source(Protocol):
    """Where frames come from."""

    @property
    def info(self) -> SourceInfo:
        """Known as soon as the source is open."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """Every frame in order. Raises SourceError when the source breaks."""
        ...

    def close(self) -> None:
        """Free the device or the file; safe to call twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_source(spec: str) -> Source:
    """Open what the user named: the path of a video, `pattern` (until stopped) or `pattern:SECONDS`, both live.

    Raises UsageError for what is not supported and SourceError for what cannot be read.
    """
    if not spec:
        raise UsageError("no source was given; add --source with the path of a video, or pattern")
    kind, _, rest = spec.partition(":")
    if kind == "pattern":
        from realtime.pattern import PatternSource

        return PatternSource(seconds=_seconds(rest) if rest else None, live=True)
    if (spec.isdigit() or kind in ("camera", "screen") or "://" in spec) and not Path(spec).exists():
        asked = "a camera" if spec.isdigit() or kind == "camera" else kind
        raise UsageError(f"{asked} is not supported as a source yet; give the path of a video, or pattern")
    return VideoFile(Path(spec))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"pattern:{text} is not a duration; write for example pattern:10 for ten seconds")
    return seconds


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
