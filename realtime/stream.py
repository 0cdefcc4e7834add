"""Watches a stream from the network. An address in, the newest Frames with their sound out.

Note [Staying at the live edge]
    A server sends what it has kept, a network halts and then delivers all at once, a reader dawdles: then pictures wait
    in the connection, and who shows them all stays late for ever. Every picture is decoded, because the next one builds
    on it, but one that nobody had to wait for, and that is later than this stream usually is, is not shown: a newer one
    is there already. Where even decoding is too slow, everything up to the next whole picture is left out.
    FFmpeg's own `nobuffer` is not used: it throws away what was read while the stream was examined, the first whole
    picture above all. With one every 2 s the first picture came after 1 to 2 s instead of 0.05 s, and what came then
    was not earlier (measured over HTTP and RTSP).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from realtime.errors import SourceError
from realtime.frame import Frame
from realtime.sound import SoundBlock
from realtime.source import SWS_MATRIX, Colour, SourceInfo
from realtime.stream_tap import OPEN_S, STALL_S, Tap
from realtime.stream_time import Pacer, Punctuality, StreamTime
from realtime.video_file import Turn, bgr_image

if TYPE_CHECKING:
    import av

_log = logging.getLogger(__name__)

SOUND_RATE = 48_000


@dataclass(frozen=True, slots=True)
class _Picture:
    """A decoded picture, not yet converted."""

    image: av.VideoFrame
    index: int
    pts_s: float
    captured_s: float
    waited_s: float


class Stream:
    """A stream as a source of frames, with its own sound. Not thread-safe, except for close().

    Pictures keep the size in which they come, whatever `info` says; damaged ones are left out.
    """

    def __init__(self, url: str, *, open_s: float = OPEN_S, stall_s: float = STALL_S) -> None:
        """Connect and decode the first picture. `open_s`, `stall_s`: how long silence is borne before and after it.

        Raises SourceError with one sentence, which holds no password, for whatever brings no pictures.
        """
        self._tap = Tap(url, open_s=open_s, stall_s=stall_s)
        self._over = threading.Event()
        self._hear: Callable[[SoundBlock], None] | None = None
        self._resampler: av.AudioResampler | None = None
        self._heard_as: tuple[str, int, int] | None = None
        self._index, self._whole_only, self._patience_s = 0, False, open_s
        try:
            self._fps = _usual_rate(self._tap.video)
            self._time = StreamTime(float(1 / self._fps))
            self._pictures = self._watch()
            first = next(self._pictures, None)
            if first is None:
                raise SourceError(f"{self._tap.name} ended before its first picture; check that it is on air")
            self._patience_s = stall_s
            self._first: _Picture | None = first
            self._turn = Turn.of(first.image)
            self.info = self._describe(first.image)
        except BaseException:
            self.close()
            raise
        size = f"{self.info.width}x{self.info.height} at {float(self.info.fps):.3g} fps"
        _log.info("%s: %s, %s sound", self.info.name, size, "with" if self.has_sound else "without")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_sound(self) -> bool:
        """Whether the stream has a track of sound that can be decoded."""
        return self._tap.has_sound

    @property
    def damaged(self) -> int:
        """Packets that could not be decoded so far."""
        return self._tap.damaged

    def listen(self, hear: Callable[[SoundBlock], None]) -> None:
        """Call `hear` with the sound, 48 kHz and at most two channels, while the frames are read; see Sounding."""
        self._hear = hear

    def __iter__(self) -> Iterator[Frame]:
        """The newest pictures as they come; what was too late leaves a gap in `index`. Raises SourceError."""
        # RTSP keeps the pace itself, even that of a recording.
        paced = self._tap.kind in ("hls", "dash") or (self.info.frames is not None and self._tap.kind != "rtsp")
        edge = Pacer() if paced else Punctuality(float(1 / self._fps))
        while not self._over.is_set():
            picture, self._first = self._first or next(self._pictures, None), None
            if picture is None:
                return
            verdict = edge.judge(picture.pts_s, picture.captured_s, picture.waited_s)
            self._whole_only = verdict.hopeless
            self._over.wait(verdict.wait_s)
            if verdict.show and not self._over.is_set():
                image = self._turn.apply(bgr_image(picture.image, picture.image.width, picture.image.height))
                yield Frame(image, picture.index, picture.captured_s + verdict.wait_s, picture.pts_s)

    def close(self) -> None:
        """Disconnect; safe to call twice and from another thread: a read under way then ends within `stall_s`."""
        self._over.set()
        self._tap.close()

    def _watch(self) -> Iterator[_Picture]:
        waited_s = silent_s = 0.0
        while (haul := self._tap.read(sound=self._hear is not None, whole_only=self._whole_only)) is not None:
            waited_s += haul.waited_s
            silent_s += haul.waited_s
            self._index += haul.skipped
            if silent_s > self._patience_s:
                raise SourceError(f"{self._tap.name} sent no picture for {silent_s:.0f} s; check that it is on air")
            for sound in haul.sounds:
                self._pass_on(sound)
            for image in haul.pictures:
                now_s = time.monotonic()
                pts_s = self._time.place(cast("float | None", image.time), now_s)
                yield _Picture(image, self._index, pts_s, now_s, waited_s)
                self._index += 1
                waited_s = silent_s = 0.0

    def _pass_on(self, sound: av.AudioFrame) -> None:
        import av

        kind = sound.format.name, sound.layout.nb_channels, sound.sample_rate
        channels = min(sound.layout.nb_channels, 2)
        if self._resampler is None or kind != self._heard_as:
            layout = "stereo" if channels == 2 else "mono"
            self._resampler, self._heard_as = av.AudioResampler("flt", layout, SOUND_RATE), kind
        for block in self._resampler.resample(sound):
            pts_s = self._time.place_sound(block.time)
            if pts_s is not None and block.samples and self._hear is not None:
                samples = np.asarray(block.to_ndarray(), np.float32).reshape(-1, channels)
                self._hear(SoundBlock(samples, SOUND_RATE, pts_s))

    def _describe(self, first: av.VideoFrame) -> SourceInfo:
        video = self._tap.video
        aspect = video.sample_aspect_ratio or Fraction(1)
        colour = Colour(first.colorspace, first.color_primaries, first.color_trc)
        turned = self._turn.swap_axes
        return SourceInfo(
            name=self._tap.name,
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            fps=self._fps,
            frames=round(self._tap.seconds * self._fps) or None,
            live=True,
            time_base=video.time_base or Fraction(1, 90_000),
            colour=colour if colour.matrix in SWS_MATRIX else None,
            pixel_aspect=1 / aspect if turned else aspect,
        )


def _usual_rate(video: av.VideoStream) -> Fraction:
    """Frames a second, as far as the beginning of the stream tells."""
    for rate in (video.average_rate, video.guessed_rate):
        if rate is not None and 1 <= rate <= 240:
            return rate
    return Fraction(30)
