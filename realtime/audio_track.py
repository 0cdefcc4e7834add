"""Carries sound from a file into a video that is being written. Packets of the source in, packets of the output out.

Sound is copied as it is where the container can hold it, else encoded as AAC.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

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
        self._input: InputContainer | None = av.open(f"file:{path}")
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
                if packet.dts is not None:
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
