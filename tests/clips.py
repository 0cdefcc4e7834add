"""Small video files made with PyAV alone, and what a player would see in a file. For the tests of sources and sinks."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

from realtime.frame import ImageU8


@dataclass(frozen=True)
class Seen:
    """What a player would see in a file."""

    times_s: list[float]
    fps: Fraction | None
    seconds: float
    size: tuple[int, int]
    colour: tuple[int, int, int, int]
    """Matrix, primaries, transfer, range (1 limited, 2 full)."""
    audio: str | None
    sound: bytes
    """All packets of the first sound track."""
    sound_starts_s: float


def look(path: Path) -> Seen:
    """Decode and measure a whole file."""
    with av.open(str(path)) as container:
        stream, context = container.streams.video[0], container.streams.video[0].codec_context
        pictures = list(container.decode(stream))
        unit = stream.time_base or Fraction(1)
        times = [float((picture.pts or 0) * unit) for picture in pictures]
        seconds = float(stream.duration * unit) if stream.duration else times[-1]
        colour = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        size, fps = (pictures[0].width, pictures[0].height), stream.average_rate
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return Seen(times, fps, seconds, size, colour, None, b"", 0.0)
        track = container.streams.audio[0]
        packets = [packet for packet in container.demux(track) if packet.pts is not None]
        first_s = float((packets[0].pts or 0) * packets[0].time_base)
        name = track.codec_context.name
        return Seen(times, fps, seconds, size, colour, name, b"".join(map(bytes, packets)), first_s)


def ramp(height: int = 48, width: int = 64, shift: int = 0) -> ImageU8:
    """A smooth picture in which every frame of a clip differs: grey, red, green and blue ramps, moved by `shift`."""
    level = ((np.arange(width) * 255 // (width - 1) + 4 * shift) % 256).astype(np.uint8)
    image = np.zeros((height, width, 3), np.uint8)
    quarter = height // 4
    image[:quarter] = level[None, :, None]
    for channel in range(3):
        image[(channel + 1) * quarter : (channel + 2) * quarter, :, channel] = level
    return image


def ramp_error(image: ImageU8, shift: int = 0) -> float:
    """Mean difference to the ramp in levels, away from where two colours meet: half-size chroma mixes them there."""
    height, width = image.shape[:2]
    inner = np.arange(height) % (height // 4)
    rows = (inner >= 3) & (inner < height // 4 - 3)
    jump = (np.arange(width) * 255 // (width - 1) + 4 * shift) % 256 // 255
    columns = np.abs(np.arange(width) - int(jump.argmax())) > 4 if jump.any() else slice(None)
    difference = np.abs(image.astype(int) - ramp(height, width, shift))
    return float(difference[rows][:, columns].mean())


def write_clip(
    path: Path,
    *,
    count: int = 30,
    width: int = 64,
    height: int = 48,
    ticks: list[int] | None = None,
    time_base: Fraction = Fraction(1, 30_000),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    matrix: int = 1,
    full_range: bool = False,
    marked: bool = True,
    audio: str | None = None,
    rotation: int = 0,
    last_ticks: int | None = None,
    options: dict[str, str] | None = None,
    encoding: dict[str, str] | None = None,
) -> Path:
    """A small clip of ramps, written with PyAV alone; `ticks` are the presentation times in units of `time_base`."""
    step = round(Fraction(1001, 30_000) / time_base)
    ticks = [step * index for index in range(count)] if ticks is None else ticks
    last_ticks = step if last_ticks is None else last_ticks
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=Fraction(30_000, 1001))
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        video.codec_context.time_base = time_base
        video.codec_context.options = {"crf": "5", "g": "10", "bf": "0"} if codec == "libx264" else {}
        video.codec_context.options |= encoding or {}
        if marked:
            video.codec_context.colorspace = video.codec_context.color_primaries = video.codec_context.color_trc = (
                matrix
            )
            video.codec_context.color_range = 2 if full_range else 1
        if rotation:
            video.set_display_rotation(rotation)
        sound = container.add_stream(audio, rate=44_100) if audio else None
        for index, tick in enumerate(ticks):
            picture = av.VideoFrame.from_ndarray(ramp(height, width, index), format="bgr24").reformat(
                format=pixel_format,
                dst_colorspace={1: 1, 6: 5}[matrix],
                dst_color_range=2 if full_range else 1,
                interpolation=int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND),
            )
            picture.pts, picture.time_base = tick, time_base
            packets = video.encode(picture)
            for packet in packets:
                packet.duration = last_ticks if packet.pts == ticks[-1] else step
            container.mux(packets)
        for packet in video.encode(None):
            packet.duration = last_ticks if packet.pts == ticks[-1] else step
            container.mux(packet)
        if isinstance(sound, av.AudioStream):
            _write_tone(container, sound, float(ticks[0] * time_base), float(ticks[-1] * time_base) + 1 / 30)
    return path


def _write_tone(container: av.container.OutputContainer, sound: av.AudioStream, start_s: float, end_s: float) -> None:
    rate, size = 44_100, 1024
    for start in range(int(start_s * rate), int(end_s * rate), size):
        wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(start, start + size) / rate)
        if sound.format.name == "fltp":
            block = av.AudioFrame.from_ndarray(
                np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo"
            )
        else:
            interleaved = np.repeat(wave * 32767, 2).astype(np.int16)[None]
            block = av.AudioFrame.from_ndarray(interleaved, format="s16", layout="stereo")
        block.sample_rate, block.pts = rate, start
        container.mux(sound.encode(block))
    container.mux(sound.encode(None))
