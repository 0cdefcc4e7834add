"""Opens sources of frames. What the user typed in, a Source out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np

from realtime.errors import UsageError
from realtime.frame import Frame
from realtime.sound import SoundBlock, Sounding
from realtime.source import Source
from realtime.steady_source import SteadySource
from realtime.stream_tap import SCHEMES
from realtime.urls import redact
from realtime.video_file import VideoFile

Kind = Literal["camera", "screen", "stream", "pattern", "replay", "images", "video"]

_WHAT_WORKS = (
    "a camera (0, camera:NAME), a video, a folder of pictures, a stream (rtsp://, http://, https://, udp://, rtmp://),"
    " screen, replay:FOLDER or pattern"
)
_TAKES: dict[Kind, tuple[str, ...]] = {
    "camera": ("width", "height", "fps", "mirror"),
    "screen": ("fps", "mirror"),
    "stream": ("mirror",),
    "pattern": ("width", "height", "fps", "mirror"),
    "replay": (),  # what was recorded is played to the bit
    "images": ("fps", "seek_s", "loop", "mirror"),
    "video": ("seek_s", "loop", "mirror"),
}
_TITLES = {"width": "a size", "height": "a size", "fps": "a rate", "seek_s": "a start", "loop": "a loop"}


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source is to be opened. What its kind cannot do is a mistake in the call, and not ignored."""

    width: int | None = None
    """Of a camera or the pattern, pixels."""
    height: int | None = None
    """The same; both or neither."""
    fps: float | None = None
    """Of a camera, the screen or the pattern; of a folder instead of `images_fps`."""
    seek_s: float = 0.0
    """Where a video or a folder of pictures starts, seconds."""
    loop: bool = False
    """A video or a folder starts again when it ends, for ever."""
    images_fps: float = 30.0
    """How fast the pictures of a folder follow one another."""
    mirror: bool = False
    """Left and right exchanged."""


_PLAIN = SourceOptions()


def open_source(spec: str, options: SourceOptions = _PLAIN) -> Source:
    """Open what the user named.

    `0`, `camera:NAME`, `camera:NUMBER`: a webcam. `rtsp://...`, http, https, udp, srt, rtmp: a stream. `screen`,
    `screen:N`, `screen:LEFT,TOP,WIDTHxHEIGHT`. `replay:FOLDER`: a recorded input. `pattern` (until stopped) or
    `pattern:SECONDS`: a rendered actor. Else the path of a video or of a folder of pictures; `./screen` is a file, too.
    Cameras, streams and the screen are opened again when they break, see SteadySource.
    Raises UsageError for what cannot be meant and SourceError for what cannot be read.
    """
    kind = _kind(spec)
    _check(kind, options)
    if kind in ("camera", "screen", "stream"):
        source: Source = SteadySource(_live_opener(kind, spec, options))
    else:
        source = _open_recorded(kind, spec, options)
    return Mirrored(source) if options.mirror else source


def kind_of(spec: str) -> Kind:
    """What kind of source that is. Opens nothing. Raises UsageError for what cannot be meant."""
    return _kind(spec)


def is_live(spec: str) -> bool:
    """Whether time runs on when nobody reads. Opens nothing. Raises UsageError for what cannot be meant."""
    return _kind(spec) in ("camera", "screen", "stream", "pattern")


class Mirrored:
    """Another source with left and right exchanged. Not thread-safe, except for close()."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.info = source.info

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames of the other source, mirrored."""
        for frame in self._source:
            yield frame.with_image(np.asarray(cv2.flip(frame.image, 1), np.uint8))

    @property
    def has_sound(self) -> bool:
        """Whether the other source brings sound with its frames."""
        return isinstance(self._source, Sounding) and self._source.has_sound

    def listen(self, hear: Callable[[SoundBlock], None]) -> None:
        """Call `hear` with the sound of the other source; see Sounding."""
        if isinstance(self._source, Sounding):
            self._source.listen(hear)

    def close(self) -> None:
        """Close the other source; safe to call twice."""
        self._source.close()


def _kind(spec: str) -> Kind:
    if not spec:
        raise UsageError(f"no source was given; give {_WHAT_WORKS}")
    word, _, _ = spec.partition(":")
    if spec.isdecimal() or word == "camera":
        return "camera"
    named: tuple[Kind, ...] = ("screen", "pattern", "replay")
    for kind in named:
        if word == kind:
            return kind
    scheme, mark, _ = spec.partition("://")
    if mark and scheme.lower() in SCHEMES:
        return "stream"
    path = Path(spec)
    if path.is_dir():
        return "images"
    if not path.exists() and (mark or (path.name == spec and not path.suffix)):
        raise UsageError(f"{redact(spec)} is no source; give {_WHAT_WORKS}")
    return "video"


def _check(kind: Kind, options: SourceOptions) -> None:
    for field in fields(options):
        if field.name == "images_fps" or field.name in _TAKES[kind]:
            continue
        if getattr(options, field.name) != field.default:
            title = _TITLES.get(field.name, "a mirror image")
            raise UsageError(f"{title} cannot be chosen for this source ({kind}); leave it out")


def _live_opener(kind: Kind, spec: str, options: SourceOptions) -> Callable[[], Source]:
    _, _, rest = spec.partition(":")
    if kind == "stream":
        from realtime.stream import Stream

        return lambda: Stream(spec)
    if kind == "screen":
        from realtime.screen_region import ScreenRegion

        rate: dict[str, Any] = {} if options.fps is None else {"fps": options.fps}
        return lambda: ScreenRegion(rest, **rate)
    from realtime.camera import CameraOpener

    which = rest or ("0" if spec == "camera" else spec)
    return CameraOpener(which, width=options.width, height=options.height, fps=options.fps)


def _open_recorded(kind: Kind, spec: str, options: SourceOptions) -> Source:
    _, _, rest = spec.partition(":")
    if kind == "pattern":
        from realtime.pattern import PatternSource

        chosen = {"width": options.width, "height": options.height, "fps": options.fps and _fraction(options.fps)}
        given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        return PatternSource(seconds=_seconds(rest) if rest else None, live=True, **given)
    if kind == "replay":
        from realtime.replay import ReplaySource

        return ReplaySource(Path(rest))
    if kind == "images":
        from realtime.images import ImageFolder

        fps = options.images_fps if options.fps is None else options.fps
        return ImageFolder(Path(spec), fps=fps, seek_s=options.seek_s, loop=options.loop)
    return VideoFile(Path(spec), seek_s=options.seek_s, loop=options.loop)


def _fraction(fps: float) -> Fraction:
    if not 0 < fps <= 1000:
        raise UsageError(f"a pattern of {fps} fps is out of range; choose a rate up to 1000")
    return Fraction(fps).limit_denominator(1001)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"pattern:{text} is not a duration; write for example pattern:10 for ten seconds")
    return seconds
