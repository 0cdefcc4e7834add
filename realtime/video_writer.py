"""Writes a video file. Frames and sound in, H.264 with AAC out, under the final name only when it is whole.

Note [Unfinished videos]
    The file grows under NAME.partial.mp4, is forced to the disk and then renamed. MP4 is written in fragments that are
    joined at the end: even after a power cut or on a full disk the unfinished file plays, but for its last seconds.
    What is left unfinished by an error is signed all the same; a power cut leaves no time for it.

Note [Sound and picture]
    The sound of a file is carried over as it is. Live sound comes in blocks that carry the moment at which they were
    heard, on the same clock as the moments at which the pictures were taken; both are laid on one time line that starts
    with the first picture. So the sound is as late as the pictures are, however long the swap takes.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from realtime.audio_track import AudioTracks, LiveSound
from realtime.errors import SinkError, UsageError
from realtime.files import explain, force_entries_to_disk, partial_name
from realtime.frame import Frame, ImageU8
from realtime.growing_file import GrowingFile
from realtime.letterbox import even, letterbox
from realtime.provenance import Seal
from realtime.report import Durations
from realtime.sound import SoundBlock
from realtime.source import SWS_MATRIX, SourceInfo, usual_colour

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

_log = logging.getLogger(__name__)

# delay_moov: without it sound and picture start up to 0.1 s apart, because the header has no place for edit lists.
_IN_FRAGMENTS = {"movflags": "hybrid_fragmented+delay_moov", "frag_duration": "2000000"}
_FORMATS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("mp4", _IN_FRAGMENTS),
    ".m4v": ("mp4", _IN_FRAGMENTS),
    ".mov": ("mov", _IN_FRAGMENTS),
    ".mkv": ("matroska", {}),
}
_LIMITED = 1
"""FFmpeg's AVCOL_RANGE_MPEG: luma from 16 to 235, what every player expects."""


def check_path(path: Path, source: SourceInfo | None = None) -> None:
    """Raise what VideoWriter would raise for `path`, as far as it can be known without opening anything."""
    if path.suffix.lower() not in _FORMATS:
        raise SinkError(f"{path} has no ending that names a kind of video; choose {', '.join(_FORMATS)}")
    if path.is_dir():
        raise SinkError(f"{path} is a folder; add the name of a video to it")
    if not path.parent.is_dir():
        raise SinkError(f"the folder {path.parent} does not exist; create it, or choose another place")
    if source is not None and source.path is not None:
        for written in (path, partial_name(path)):
            if written.exists() and written.samefile(source.path):
                raise UsageError(f"{path} would overwrite the source {source.path}; choose another name for the output")


class VideoWriter:
    """An H.264 file with one picture per frame, at the frame's own time. Not thread-safe, but for `hear`."""

    def __init__(
        self,
        path: Path | str,
        source: SourceInfo,
        *,
        crf: int = 15,
        preset: str = "veryfast",
        sound: bool = False,
        seal: Seal | None = None,
    ) -> None:
        """Create the file. With `sound` its sound is what `hear` is given, not that of the source's file.

        `seal` signs it when it is finished.

        Raises SinkError, or UsageError when it would overwrite the source.
        """
        from av.error import FFmpegError
        from av.video.reformatter import Interpolation

        if not 0 <= crf <= 51:
            raise ValueError(f"crf lies between 0 and 51, got {crf}")
        check_path(Path(path), source)
        self._path = Path(path)
        self.name = self._path.name
        self._source, self._ffmpeg_error, self._seal = source, FFmpegError, seal
        # Without accurate rounding the picture gets 1.8 levels darker.
        self._exact = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND)
        self._colour = source.colour or usual_colour(source.height)
        self._timeline = _Timeline(source)
        self._count, self._ticks, self._ended = 0, -1, False
        self.signing = False
        """Whether the finished file is being signed; may be asked from any thread."""
        self._origin_s = source.first_pts_s
        self._moved_s = 0.0
        self._latency = Durations()
        self._partial = partial_name(self._path)
        self._sealed = False
        self._container: OutputContainer | None = None
        self._audio: AudioTracks | None = None
        self._sound: LiveSound | None = None
        try:
            self._file = GrowingFile(self._partial)
        except BlockingIOError as error:
            raise SinkError(f"{self._path} is being written by another run; choose another name") from error
        except OSError as error:
            raise SinkError(explain(error, self._path)) from error
        try:
            self._open(crf, preset, sound)
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def send(self, frame: Frame) -> None:
        """Write the next frame. Times that do not grow are moved on by the smallest step."""
        if self._count == 0 and self._source.live:
            self._origin_s = frame.pts_s
        self._latency.add((time.monotonic() - frame.captured_s) * 1e3)
        self._ticks = max(self._timeline.ticks(frame.pts_s - self._origin_s), self._ticks + 1)
        end_s = float(self._ticks * self._timeline.unit)
        self._moved_s = end_s - (frame.pts_s - self._origin_s)
        picture = self._picture(frame.image)
        picture.pts, picture.time_base = self._ticks, self._timeline.unit
        self._encode(picture)
        self._count += 1
        if self._audio:
            self._audio.write_until(end_s)
        if self._sound:
            self._write_sound(partial(self._sound.write_until, end_s, self._origin_s))
        self._check_disk()

    def hear(self, block: SoundBlock) -> None:
        """Take live sound, from any thread; it is written with the picture of its moment. Nothing without `sound`."""
        if self._sound is not None:
            self._sound.hear(block)

    @property
    def av_offset_ms(self) -> float | None:
        """How much later than its picture a sound stands in the file, by what source and microphone say about when
        they were taken; None without sound. What a camera or a microphone needs before that is not in it.
        """
        return self._sound.lag_ms - 1e3 * self._moved_s if self._sound is not None and self._sound.heard else None

    def close(self) -> None:
        """Finish the file and give it its final name; without a single frame there is no file. Raises SinkError.

        A file that cannot be signed has its final name all the same when that is raised.
        """
        if self._ended:
            return
        if not self._count:
            self.abort()
            return
        unsigned: SinkError | None = None
        try:
            self._finish()
            self._file.finish()
            self._check_disk()
            unsigned = self._signed(self.name)
            os.replace(self._partial, self._path)
        except OSError as error:
            self.abort()
            raise SinkError(explain(error, self._path)) from error
        except BaseException:
            self.abort()
            raise
        self._ended = True
        force_entries_to_disk(self._path.parent)
        _log.info("%s: %d frames written", self.name, self._count)
        if self._sound is not None:
            self._tell_offset(self._sound)
        if unsigned is not None:
            raise unsigned

    def _signed(self, name: str) -> SinkError | None:
        """Sign the file, soon called `name`, once; why that was not possible."""
        if self._seal is None or self._sealed:
            return None
        try:
            self.signing = self._sealed = True  # a copy of hours takes its time, and is no reason to give up
            self._seal.seal(self._partial, name)
        except SinkError as error:
            return error
        finally:
            self.signing = False
        return None

    def abort(self) -> None:
        """Keep what was written under NAME.partial.mp4, signed; remove it when there is nothing in it."""
        if self._ended:
            return
        self._release(whole=bool(self._count))
        if self._count:
            unsigned = self._signed(self._partial.name)
            _log.warning("%s is not finished; %d frames are kept in %s", self.name, self._count, self._partial.name)
            if unsigned is not None:
                _log.warning("%s", unsigned)
            return
        _log.warning("%s: no frame arrived, nothing is written", self.name)
        self._remove()

    def discard(self) -> None:
        """Remove what was written, without a word: it is no result."""
        if self._ended:
            return
        self._release(whole=False)
        self._remove()

    def _release(self, *, whole: bool) -> None:
        """Close everything, after the pictures that the encoder still holds if `whole`."""
        self._ended = True
        steps: list[Callable[[], None]] = [self._file.finish]
        if self._container is not None:
            steps.insert(0, self._container.close)
        for track in (self._audio, self._sound):
            if track is not None:
                steps.insert(0, track.close)
        if whole:
            steps.insert(0, partial(self._encode, None))
        for step in steps:
            with suppress(SinkError, ValueError, self._ffmpeg_error):
                step()

    def _remove(self) -> None:
        with suppress(OSError):
            self._partial.unlink()

    def _open(self, crf: int, preset: str, sound: bool) -> None:
        import av

        source, suffix = self._source, self._path.suffix.lower()
        container_format, options = _FORMATS[suffix]
        self._container = container = av.open(self._file, "w", format=container_format, options=options)
        fps = source.fps.limit_denominator(1 << 16)
        video = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": preset})
        self._size = source.width + source.width % 2, source.height + source.height % 2
        if self._size != (source.width, source.height):
            _log.info("%s: padded to %dx%d, because H.264 needs even sides", self.name, *self._size)
        context = video.codec_context
        context.width, context.height = self._size
        context.pix_fmt = "yuv420p"
        context.time_base = self._timeline.unit
        context.sample_aspect_ratio = source.pixel_aspect
        context.colorspace, context.color_range = self._colour.matrix, _LIMITED
        context.color_primaries, context.color_trc = self._colour.primaries, self._colour.transfer
        self._video = video
        self._frame_ticks = max(round(1 / (fps * self._timeline.unit)), 1)
        if sound:
            self._sound = LiveSound(container)
        elif source.audio_path is not None:
            self._audio = AudioTracks(source.audio_path, container, suffix, source.start_s + source.first_pts_s)

    def _picture(self, image: ImageU8) -> av.VideoFrame:
        import av

        image = even(letterbox(image, self._source.width, self._source.height))
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        return picture.reformat(
            format="yuv420p",
            dst_colorspace=SWS_MATRIX[self._colour.matrix],
            dst_color_range=_LIMITED,
            interpolation=self._exact,
            threads=1,
        )

    def _encode(self, picture: av.VideoFrame | None) -> None:
        assert self._container is not None
        try:
            for packet in self._video.encode(picture):
                packet.duration = self._last_ticks() if packet.pts == self._ticks else self._frame_ticks
                self._container.mux(packet)
        except self._ffmpeg_error as error:
            raise SinkError(f"{self.name} cannot be encoded ({error.strerror}); choose another ending") from error

    def _last_ticks(self) -> int:
        """How long the last picture stays: what is left of the source's length, so that both are equally long."""
        source = self._source
        if source.frames == self._count:
            left = round(source.frames / (source.fps * self._timeline.unit)) - self._ticks
            if 0 < left <= 10 * self._frame_ticks:
                return left
        return self._frame_ticks

    def _finish(self) -> None:
        self._encode(None)
        if self._audio:
            video_s = float((self._ticks + self._frame_ticks) * self._timeline.unit)
            expected = self._source.frames
            whole = expected is None or self._count >= 0.98 * expected
            self._audio.write_until(math.inf if whole else video_s)
            self._audio.close()
        if self._sound:
            end_s = float((self._ticks + self._frame_ticks) * self._timeline.unit)
            self._write_sound(partial(self._sound.finish, end_s, self._origin_s))
            self._write_sound(self._sound.close)
        assert self._container is not None
        self._container.close()

    def _write_sound(self, write: Callable[[], None]) -> None:
        try:
            write()
        except self._ffmpeg_error as error:
            raise SinkError(f"the sound of {self.name} cannot be encoded ({error.strerror}); record without") from error

    def _tell_offset(self, sound: LiveSound) -> None:
        if not sound.heard:
            _log.warning("%s has no sound: none came for its pictures; check the microphone", self.name)
            return
        offset_ms = abs(self.av_offset_ms or 0.0)
        _log.info(
            "%s: sound and picture lie %.1f ms apart (at most %.1f); the picture came %.0f ms after it was captured",
            self.name,
            offset_ms,
            max(sound.worst_lag_ms, offset_ms),
            self._latency.percentile(50),
        )

    def _check_disk(self) -> None:
        if self._file.error is not None:
            raise SinkError(explain(self._file.error, self._path)) from self._file.error


class _Timeline:
    """Where a picture stands in the file: in units of the source where they are fine enough.

    Some containers round times to the millisecond (Matroska, FLV). What lies within that rounding of the source's own
    rate is put back on it, so that 29.97 frames a second stay 29.97.
    """

    def __init__(self, source: SourceInfo) -> None:
        self.unit, self._step, self._rounding = source.time_base, 1 / source.fps, source.time_base / 2
        self._rounded = self.unit > Fraction(1, 10_000) and (self._step / self.unit).denominator != 1
        if self._rounded:
            self.unit = self._step / math.ceil(90_000 * self._step)

    def ticks(self, time_s: float) -> int:
        """The time in seconds, in units."""
        step = round(time_s / self._step)
        if self._rounded and abs(float(step * self._step) - time_s) <= 1.01 * self._rounding:
            return round(step * self._step / self.unit)
        return round(time_s / self.unit)
