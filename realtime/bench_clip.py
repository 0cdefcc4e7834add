"""Plays pictures from memory, so that a bench measures no decoder. What the user named in, Frames out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from realtime.capture import open_source
from realtime.errors import SourceError
from realtime.frame import Frame, ImageU8
from realtime.pattern import PatternSource
from realtime.source import BT709, Source, SourceInfo

_MOST_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Clip:
    """Pictures in memory, to be played forwards and backwards."""

    images: list[ImageU8]
    fps: Fraction
    """Of the source they came from."""
    facts: dict[str, Any]
    """Name, width, height, number of pictures."""

    def image(self, index: int) -> ImageU8:
        """Picture number `index` of the endless loop; it has no jump."""
        last = len(self.images) - 1
        place = index % max(2 * last, 1)
        return self.images[min(place, 2 * last - place) if place else 0]


def load_clip(source: str | None, width: int, height: int, count: int) -> Clip:
    """The first `count` pictures of what `liveswap run --source` takes, or as many as fit into 1 GB.

    None and `pattern` are a rendered performer of `width` x `height`. Raises UsageError, SourceError.
    """
    if source is None or source == "pattern":
        opened: Source = PatternSource(width=width, height=height, frames=count)
    else:
        opened = open_source(source)
    with closing(opened):
        info = opened.info
        images: list[ImageU8] = []
        for frame in opened:
            images.append(frame.image)
            if len(images) == count or len(images) * frame.image.nbytes > _MOST_BYTES:
                break
    if not images:
        raise SourceError(f"{info.name} has no picture; choose a video that can be played")
    facts = {"name": info.name, "width": info.width, "height": info.height, "pictures": len(images)}
    return Clip(images, info.fps, facts)


class Player:
    """Plays a clip as a source: in order and without loss, or live at `live_fps`, whether or not anybody is ready."""

    def __init__(self, clip: Clip, indices: Iterable[int], *, live_fps: float | None = None) -> None:
        height, width = clip.images[0].shape[:2]
        fps = clip.fps if live_fps is None else Fraction(live_fps).limit_denominator(1000)
        self.info = SourceInfo("clip", width, height, fps, None, live=live_fps is not None, colour=BT709)
        self._clip, self._indices = clip, indices

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        start_s, fps = time.monotonic(), self.info.fps
        for index in self._indices:
            if self.info.live:
                time.sleep(max(start_s + float(index / fps) - time.monotonic(), 0))
            yield Frame(self._clip.image(index), index, time.monotonic(), float(index / fps))

    def close(self) -> None:
        """Nothing is held open between frames."""
