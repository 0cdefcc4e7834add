"""Carries sound into a video that is being written. Packets of a file or blocks of live sound in, packets out.

The sound of a file is copied as it is where the container can hold it, else encoded as AAC; live sound becomes AAC.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from realtime.sound import SoundBlock
from realtime.sound_line import RATE, SoundF32, SoundLine

if TYPE_CHECKING:
    from av import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

_log = logging.getLogger(__name__)

_MP4 = ("aac", "mp3", "ac3", "eac3", "alac", "flac", "opus")
_PCM = ("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le")
_COPIED = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": ("aac", "mp3", "ac3", "eac3", "alac", *_PCM),
    ".mkv": (*_MP4, *_PCM, "vorbis", "dts", "truehd"),
}
_AAC_BITS_PER_CHANNEL = 96_000
_AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_SEEK_BACK_S = 1.0
"""Containers that interleave coarsely find a moment of the sound a little before that of the picture."""
PATIENCE_S = 2.0
"""Live sound that comes later than this after the picture of its moment is given up: silence stands there."""
BACKLOG_S = 30.0
"""So much live sound is kept while no picture comes."""
_AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


class AudioTracks:
    """All sound tracks of one file on their way into another. Not thread-safe.

    Damaged sound never stops the pictures: what cannot be read is left out, and the log says so.
    """

    def __init__(self, path: Path, output: OutputContainer, suffix: str, start_s: float) -> None:
        """`start_s`: the time in `path` that becomes 0 in `output`, whose header must not be written yet."""
        import av

        self._errors = (av.error.FFmpegError, ValueError)
        self._output, self._name = output, path.name
        self._start = Fraction(start_s).limit_denominator(1_000_000)
        self._input: InputContainer | None = av.open(f"file:{path}", metadata_errors="replace")
        # Only a start on the way is a cut: what lies a moment before the file's own start primes the decoder.
        self._cut = 1e6 * start_s > (self._input.start_time or 0) + 1000
        self._write: dict[int, Callable[[Packet[AudioStream]], None]] = {}
        self._encoders: list[AudioStream] = []
        self._damaged = False
        for stream in self._input.streams.audio:
            try:
                copied = stream.codec_context.name in _COPIED[suffix]
                self._write[stream.index] = self._copier(stream) if copied else self._transcoder(stream)
            except self._errors as error:
                _log.warning("a sound track of %s cannot be kept: %s", self._name, error)
        tracks = [stream for stream in self._input.streams.audio if stream.index in self._write]
        if self._cut:
            self._input.seek(max(round(1e6 * (start_s - _SEEK_BACK_S)), 0))
        self._packets: Iterator[Packet[AudioStream]] = self._input.demux(tuple(tracks)) if tracks else iter(())
        self._next: Packet[AudioStream] | None = None

    def write_until(self, end_s: float) -> None:
        """Write what sounds before `end_s`, seconds of the output; math.inf for all that is left."""
        while True:
            try:
                packet = self._next or next(self._packets, None)
                if packet is None:
                    return
                self._next = packet
                if packet.dts is not None and not self._is_before_start(packet):
                    if float(packet.dts * packet.time_base - self._start) >= end_s:
                        return
                    self._write[packet.stream_index](packet)
            except self._errors as error:
                if not self._damaged:
                    _log.warning("the sound of %s is damaged, parts of it are left out: %s", self._name, error)
                self._damaged = True
            self._next = None

    def close(self) -> None:
        """Write what the encoders still hold; free the input. Safe to call twice."""
        if self._input is None:
            return
        for encoder in self._encoders:
            self._output.mux(encoder.encode(None))
        self._input.close()
        self._input = None

    def _is_before_start(self, packet: Packet[AudioStream]) -> bool:
        start = packet.dts if packet.pts is None else packet.pts
        return self._cut and start is not None and (start + (packet.duration or 1)) * packet.time_base <= self._start

    def _copier(self, stream: AudioStream) -> Callable[[Packet[AudioStream]], None]:
        from av.bitstream import BitStreamFilterContext

        copy = self._output.add_stream_from_template(stream)
        # AAC from a broadcast stream carries a header in each packet, where files have one for all.
        plain = None
        if stream.codec_context.name == "aac" and not stream.codec_context.extradata:
            plain = BitStreamFilterContext("aac_adtstoasc", stream)

        def write(packet: Packet[AudioStream]) -> None:
            shift = round(self._start / packet.time_base)
            packet.dts = None if packet.dts is None else packet.dts - shift
            packet.pts = None if packet.pts is None else packet.pts - shift
            for each in plain.filter(packet) if plain else [packet]:
                each.stream = copy
                self._output.mux(each)

        return write

    def _transcoder(self, stream: AudioStream) -> Callable[[Packet[AudioStream]], None]:
        rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
        encoder = self._output.add_stream("aac", rate=rate if rate in _AAC_RATES else 48_000)
        # By number, because some files do not say which channel is which.
        encoder.layout = _AAC_LAYOUTS.get(channels, "stereo")
        encoder.bit_rate = _AAC_BITS_PER_CHANNEL * encoder.layout.nb_channels
        self._encoders.append(encoder)

        def write(packet: Packet[AudioStream]) -> None:
            for sound in stream.decode(packet):
                if sound.pts is not None and sound.time_base is not None:
                    sound.pts -= round(self._start / sound.time_base)
                self._output.mux(encoder.encode(sound))

        return write


class LiveSound:
    """One AAC track made of blocks of sound, each at the place of its moment. `hear` is for any thread.

    Nothing is encoded before the picture of its moment is there: so the sound waits as long as the pictures take.
    """

    def __init__(self, output: OutputContainer) -> None:
        """Add a track to `output`, whose header must not be written yet."""
        self._output = output
        self._encoder = output.add_stream("aac", rate=RATE)
        self._encoder.layout = "stereo"
        self._encoder.bit_rate = 2 * _AAC_BITS_PER_CHANNEL
        self._lock = threading.Lock()
        self._waiting: deque[SoundBlock] = deque()
        self._waiting_s = 0.0
        self._line = SoundLine()
        self._encoded = 0
        self._closed = False

    @property
    def heard(self) -> bool:
        """Whether any sound has found its place."""
        return self._line.heard

    @property
    def lag_ms(self) -> float:
        """How late the sound lies, smoothed over half a second."""
        return 1e3 * self._line.lag_s

    @property
    def worst_lag_ms(self) -> float:
        """The largest such difference so far, early or late."""
        return 1e3 * self._line.worst_lag_s

    def hear(self, block: SoundBlock) -> None:
        """Keep a block until the picture of its moment comes; the oldest are given up after BACKLOG_S without one."""
        with self._lock:
            self._waiting.append(block)
            self._waiting_s += block.seconds
            while self._waiting_s > BACKLOG_S and len(self._waiting) > 1:
                self._waiting_s -= self._waiting.popleft().seconds

    def write_until(self, end_s: float, origin_s: float) -> None:
        """Write what sounds before `end_s` of the output, whose time 0 is the moment `origin_s` of the blocks."""
        for block in self._blocks_before(end_s + origin_s):
            self._line.add(block, block.pts_s - origin_s)
        self._line.fill(end_s - PATIENCE_S)
        self._encode(self._line.take(end_s))

    def finish(self, end_s: float, origin_s: float) -> None:
        """Write the rest of the sound; it ends at `end_s`, with silence where there is no more."""
        self.write_until(end_s, origin_s)
        self._line.finish()
        self._line.fill(end_s)
        self._encode(self._line.take(end_s))

    def close(self) -> None:
        """Write what the encoder still holds; safe to call twice."""
        if not self._closed and self._encoded:
            self._output.mux(self._encoder.encode(None))
        self._closed = True

    def _blocks_before(self, moment_s: float) -> list[SoundBlock]:
        blocks = []
        with self._lock:
            while self._waiting and self._waiting[0].pts_s < moment_s:
                block = self._waiting.popleft()
                self._waiting_s -= block.seconds
                blocks.append(block)
        return blocks

    def _encode(self, pieces: list[SoundF32]) -> None:
        from av import AudioFrame

        for piece in pieces:
            for first in range(0, len(piece), RATE):
                samples = piece[first : first + RATE]
                sound = AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
                sound.sample_rate, sound.pts, sound.time_base = RATE, self._encoded, Fraction(1, RATE)
                self._encoded += len(samples)
                self._output.mux(self._encoder.encode(sound))
