"""Sends a live stream over the network. Frames and sound in, H.264 and AAC out: MPEG-TS over UDP or SRT, FLV over RTMP.

Both carry the time at which they were caught, so that they stay together however long the swap takes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from realtime.delay_line import FRAME, DelayLine
from realtime.errors import SinkError
from realtime.frame import Frame, ImageU8
from realtime.letterbox import even, letterbox
from realtime.pace import Pace
from realtime.sound import SoundBlock
from realtime.sound_line import RATE
from realtime.source import SWS_MATRIX, SourceInfo, usual_colour
from realtime.stream_link import StreamLink, check_url, scheme_of
from realtime.urls import redact

if TYPE_CHECKING:
    import av
    from av.packet import Packet

_log = logging.getLogger(__name__)

_TICKS = 90_000
_LEAST_TICKS = 90
"""FLV counts milliseconds: two pictures lie at least one apart."""
_KEY_S, _REPEAT_S = 1.0, 0.5
_BITS_PER_PIXEL, _LEAST_BITS, _MOST_BITS = 0.1, 600_000, 12_000_000
_MOST_THREADS = 4
"""Each thread of an encoder without delay gets a strip of the picture; narrow strips look worse."""
_AAC_BITS = 128_000
_SHIFT = Fraction(FRAME, RATE)
"""The encoder puts a frame of silence before the sound; with this shift nothing has a time before 0."""
_LIMITED = 1
"""FFmpeg's AVCOL_RANGE_MPEG: luma from 16 to 235, what every player expects."""


class StreamWriter:
    """One stream to one address. `hear` may be called from another thread, the rest from one."""

    def __init__(self, url: str, source: SourceInfo, *, sound: bool = False, timeout_s: float = 5.0) -> None:
        """Connect. `sound`: announce a sound track, for what `hear` will be given; `timeout_s`: for each step.

        Raises UsageError for an address that cannot be, SinkError when nobody takes the stream.
        """
        from av.error import FFmpegError

        check_url(url)
        self.name, self._url = redact(url), url
        self._source, self._ffmpeg_error = source, FFmpegError
        self._pace, self._delay = Pace(), DelayLine()
        self._origin_s: float | None = None
        self._ticks, self._key_ticks, self._sent_s = -_LEAST_TICKS, 0, 0.0
        self._picture: av.VideoFrame | None = None
        self._samples = 0
        self._newest_sound_s: float | None = None
        self._heard = False
        self._ended = False
        self._link = StreamLink(url, timeout_s)
        try:
            self._open(sound)
            self._link.deliver()
        except BaseException:
            self.abort()
            raise
        _log.info("%s: streaming %dx%d%s", self.name, *self._size, " with sound" if sound else "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @property
    def repeat_s(self) -> float:
        """After so long without a picture receivers get the last one again, seconds."""
        return _REPEAT_S

    @property
    def av_offset_ms(self) -> float | None:
        """How far the newest picture that was sent is ahead of the newest sound that was sent, in media time.

        None when nothing was heard. A few dozen milliseconds either way are usual: what belongs together has the same
        time.
        """
        if self._newest_sound_s is None or not self._heard:
            return None
        return 1000 * (self._ticks / _TICKS - self._newest_sound_s)

    def send(self, frame: Frame) -> None:
        """Send the frame at its own time; the first frame's is where the stream begins. Raises SinkError."""
        if not self._source.live:
            self._pace.wait(frame.pts_s)
        if self._origin_s is None:
            self._origin_s = frame.pts_s
        self._picture = self._converted(frame.image)
        self._write(frame.pts_s - self._origin_s)

    def repeat(self) -> None:
        """Send the last picture again, at the time that has come meanwhile. Raises SinkError."""
        if self._picture is not None and self._source.live:
            self._write(self._ticks / _TICKS + time.monotonic() - self._sent_s)

    def hear(self, block: SoundBlock) -> None:
        """Take sound for later; without a sound track, or after the end, it is not used."""
        if self._sound is not None:
            self._heard = True
            self._delay.hear(block)

    def close(self) -> None:
        """Send what the encoders still hold, say goodbye. Safe to call twice. Raises SinkError."""
        if self._ended:
            return
        try:
            if self._sound is not None and self._picture is not None:
                self._write_sound(self._ticks / _TICKS)
                self._mux(self._sound.encode(None))
            self._mux(self._video.encode(None))
            self._container.close()
            self._link.deliver()
        except (self._ffmpeg_error, ValueError) as error:
            self.abort()
            raise SinkError(f"{self.name} cannot be finished ({error}); check the server") from error
        except BaseException:
            self.abort()
            raise
        self._ended = True
        self._link.close()

    def abort(self) -> None:
        """Hang up. Never raises; safe to call twice."""
        if self._ended:
            return
        self._ended = True
        self._link.abort()

    def _open(self, sound: bool) -> None:
        import av
        from av.audio.stream import AudioStream
        from av.video.reformatter import Interpolation

        source = self._source
        kind = "flv" if scheme_of(self._url).startswith("rtmp") else "mpegts"
        options = {"flush_packets": "1", "max_interleave_delta": "1"}
        # Nothing is written afterwards at the beginning; no sound is collected until a packet is full.
        options |= {"flvflags": "no_duration_filesize"} if kind == "flv" else {"pes_payload_size": "0"}
        self._container = av.open(self._link, "w", format=kind, container_options=options)
        self._container.metadata["service_name"] = "liveswap"
        fps = min(max(source.fps.limit_denominator(1 << 16), Fraction(1)), Fraction(240))
        self._size = source.width + source.width % 2, source.height + source.height % 2
        bits = int(min(max(_BITS_PER_PIXEL * self._size[0] * self._size[1] * fps, _LEAST_BITS), _MOST_BITS))
        encoder = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "forced-idr": "1",
            "g": str(round(fps * Fraction(_KEY_S))),
            "maxrate": str(bits),
            "bufsize": str(bits // 2),
        }
        self._video = self._container.add_stream("libx264", rate=fps, options=encoder)
        context, colour = self._video.codec_context, source.colour or usual_colour(source.height)
        context.width, context.height, context.pix_fmt = *self._size, "yuv420p"
        context.time_base, context.bit_rate = Fraction(1, _TICKS), bits
        context.thread_count = min(os.cpu_count() or 1, _MOST_THREADS)
        context.sample_aspect_ratio = source.pixel_aspect
        context.colorspace, context.color_range = colour.matrix, _LIMITED
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        # Without accurate rounding the picture gets 1.8 levels darker.
        exact = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND)
        self._conversion = {"dst_colorspace": SWS_MATRIX[colour.matrix], "interpolation": exact}
        self._sound: AudioStream | None = None
        if sound:
            self._sound = self._container.add_stream("aac", rate=RATE)
            self._sound.codec_context.layout = "stereo"
            self._sound.codec_context.bit_rate = _AAC_BITS
        self._shift_ticks = int(_SHIFT * _TICKS) if sound else 0
        try:
            self._container.start_encoding()
        except self._ffmpeg_error as error:
            raise SinkError(f"{self.name} cannot be encoded ({error.strerror}); give it another size") from error

    def _converted(self, image: ImageU8) -> av.VideoFrame:
        import av

        image = even(letterbox(image, self._source.width, self._source.height))
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        return picture.reformat(format="yuv420p", dst_color_range=_LIMITED, threads=1, **self._conversion)

    def _write(self, pts_s: float) -> None:
        from av.video.frame import PictureType

        if self._ended or self._picture is None:
            raise SinkError(f"{self.name} has ended; start it again")
        self._sent_s = time.monotonic()
        self._ticks = max(round(pts_s * _TICKS), self._ticks + _LEAST_TICKS)
        picture = self._picture
        picture.pts, picture.time_base = self._ticks + self._shift_ticks, Fraction(1, _TICKS)
        # The encoder counts frames; when few come, a second has fewer.
        due = self._ticks - self._key_ticks >= _KEY_S * _TICKS
        picture.pict_type = PictureType.I if due else PictureType.NONE
        try:
            self._write_sound(self._ticks / _TICKS)
            self._mux(self._video.encode(picture))
        except (self._ffmpeg_error, ValueError) as error:
            raise SinkError(f"{self.name} cannot be written ({error}); check the server, start again") from error
        self._link.deliver()

    def _write_sound(self, picture_s: float) -> None:
        if self._sound is None:
            return
        import av

        for planes in self._delay.take(picture_s, self._origin_s or 0.0):
            sound = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
            sound.sample_rate, sound.time_base = RATE, Fraction(1, RATE)
            sound.pts = self._samples + FRAME
            self._samples += FRAME
            self._mux(self._sound.encode(sound))

    def _mux(self, packets: Sequence[Packet[Any]]) -> None:
        for packet in packets:
            if packet.pts is not None and packet.stream is self._sound:
                self._newest_sound_s = float(packet.pts * packet.time_base - _SHIFT)
            elif packet.pts is not None and packet.is_keyframe:
                self._key_ticks = packet.pts - self._shift_ticks
            self._container.mux(packet)
