"""What faces are taken from. A video or a folder of pictures in, its parts and their frames out.

Note [Parts of a film]
    A film is searched in parts of PART_S seconds, each for itself: whoever searches a part begins anew. So the parts
    give the same faces in any order, in one process or in many, today or after an interruption, and what a part has
    given is kept while the others are searched. Parts are cut by time, not at key pictures or at shots: time is the one
    thing that every container seeks by, and the rule does not depend on what is in the pictures. What it costs is
    decoding from the key picture before each part, half a group of pictures for every 10 s. A border is no cut: a face
    that is followed across it keeps its track, see training.gather.

Note [Time inside a film]
    Times count from the beginning of the film, in seconds, rounded to a microsecond as faceset.json holds them. Borders
    lie half a millisecond early, because containers round the times of pictures, some of them to a millisecond, and on
    no microsecond, so that each picture lies on one side. A picture's number counts all pictures of the film from 0.
    The pictures of a folder follow each other at 30 a second.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from realtime.errors import SourceError, UsageError
from realtime.files import explain
from realtime.frame import Frame
from realtime.images import ENDINGS, natural_order, read_image
from realtime.video_file import VideoFile, moving_pictures
from training.untrusted import file_sha256

PART_S = 10.0
TICK_S = 5.0005e-4
"""See Note [Time inside a film]."""
_FOLDER_FPS = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a film that is searched for itself."""

    start_s: float
    end_s: float
    """Pictures with start_s <= time < end_s belong to it, see Note [Time inside a film]."""

    def holds(self, pts_s: float) -> bool:
        """Whether a picture of that time belongs to it."""
        return self.start_s <= pts_s < self.end_s


@dataclass(frozen=True, slots=True)
class Clip:
    """A video or a folder of pictures, or a stretch of it, as the user asked for it."""

    path: Path
    start_s: float = 0.0
    end_s: float = math.inf
    """Seconds from the beginning; what is shown at `end_s` is not taken."""

    @property
    def whole(self) -> Part:
        """The clip as one part."""
        return Part(self.start_s - TICK_S if self.start_s else -math.inf, self.end_s - TICK_S)

    def __post_init__(self) -> None:
        """Raises UsageError for a stretch that holds no moment."""
        if not (0 <= self.start_s < math.inf and self.start_s < self.end_s):
            raise UsageError(
                f"a stretch from {self.start_s:g} to {self.end_s:g} s holds nothing; give --from below --to"
            )


@dataclass(frozen=True, slots=True)
class Film:
    """A clip that was looked at: everything that its parts depend on."""

    clip: Clip
    name: str
    """For people, without folders."""
    sha256: str
    """Of the file; of a folder, of the names and checksums of its pictures."""
    fps: float
    """Nominal rate, pictures a second."""
    frames: int | None
    """Pictures in the clip, as far as the file says without decoding it."""
    first_index: int
    """Number of the first picture of the clip in the whole film."""
    zero_s: float | None
    """Where the container's clock stands at the beginning of the film, seconds; None where nothing can be sought."""
    parts: tuple[Part, ...]


def open_film(clip: Clip, rate: Callable[[float], float | None] = lambda fps: None) -> Film:
    """Look at a clip. `rate`: nominal rate -> pictures a second that are wanted; no two parts share a slot of it.

    Raises UsageError for a path that is not there or a clip behind the end, SourceError for what holds no pictures.
    """
    try:
        clip.path.stat()
        folder = clip.path.is_dir()
    except (OSError, ValueError) as error:
        why = explain(error, clip.path) if isinstance(error, OSError) else f"{clip.path!r} is no file name; check it"
        raise UsageError(why) from error
    return _open_folder(clip, rate) if folder else _open_video(clip, rate)


def read_part(film: Film, part: Part) -> Iterator[Frame]:
    """The frames of a part in order, upright; index counts from 0 in the part, pts_s from the beginning of the film.

    The pictures of a folder have each its own size. Raises SourceError when the film breaks.
    """
    frames = _pictures(film, part) if film.clip.path.is_dir() else _video_frames(film, part)
    for index, (pts_s, frame) in enumerate(frames):
        yield Frame(frame.image, index, frame.captured_s, pts_s)


def _open_video(clip: Clip, rate: Callable[[float], float | None]) -> Film:
    path = clip.path.resolve()
    with VideoFile(path) as video:  # complains in one sentence about whatever is no video
        info = video.info
    fps, sha256 = float(info.fps), file_sha256(path)
    times = _picture_times(path, info.start_s)
    if not times:  # a bare stream knows no time: it is read from its beginning, in one go
        return Film(clip, info.name, sha256, fps, info.frames, 0, None, (clip.whole,))
    inside = [each for each in times if clip.whole.holds(each)]
    if not inside:
        raise UsageError(f"{clip.path} ends at {max(times) + 1 / fps:.1f} s; choose an earlier --from")
    first_index = sum(each < clip.whole.start_s for each in times)
    parts = _parts(clip, max(inside) + 1 / fps, rate(fps))
    return Film(clip, info.name, sha256, fps, len(inside), first_index, info.start_s, parts)


def _open_folder(clip: Clip, rate: Callable[[float], float | None]) -> Film:
    paths = _listed(clip.path)
    inside = [number for number in range(len(paths)) if clip.whole.holds(_folder_time(number))]
    if not inside:
        raise UsageError(
            f"{clip.path} holds {len(paths) / _FOLDER_FPS:.1f} s of pictures at {_FOLDER_FPS:g} a second; "
            "choose an earlier --from"
        )
    sha256 = hashlib.sha256()
    for path in paths:
        sha256.update(f"{path.name}\0{file_sha256(path)}\n".encode(errors="surrogatepass"))
    parts = _parts(clip, _folder_time(inside[-1]) + 1 / _FOLDER_FPS, rate(_FOLDER_FPS))
    name = clip.path.resolve().name or "pictures"
    return Film(clip, name, sha256.hexdigest(), _FOLDER_FPS, len(inside), inside[0], 0.0, parts)


def _parts(clip: Clip, end_s: float, rate: float | None) -> tuple[Part, ...]:
    """Parts of about PART_S and of whole slots at `rate`; the last one ends where the clip ends, whatever is left."""
    length_s = PART_S if rate is None else max(1, round(PART_S * rate)) / rate
    count = max(1, round((end_s - clip.start_s) / length_s))
    starts = [clip.start_s + number * length_s - TICK_S for number in range(1, count)]
    borders = [clip.whole.start_s, *starts, clip.whole.end_s]
    return tuple(Part(*each) for each in pairwise(borders))


def _picture_times(path: Path, zero_s: float) -> list[float]:
    """When the pictures of a video are shown, in no order, by its packets alone; empty where they do not say."""
    import av

    times: list[float] = []
    # Whoever decodes a damaged file will say where it is damaged.
    with suppress(av.error.FFmpegError), av.open(f"file:{path}") as container:
        for packet in container.demux(moving_pictures(container, str(path))):
            if packet.pts is not None and packet.time_base is not None and not packet.is_discard:
                times.append(round(float(packet.pts * packet.time_base) - zero_s, 6))
    return times


def _video_frames(film: Film, part: Part) -> Iterator[tuple[float, Frame]]:
    path = film.clip.path.resolve()
    sought = film.zero_s is not None and part.start_s > 0
    with VideoFile(path, seek_s=part.start_s if sought else 0.0) as video:
        offset_s = video.info.start_s - film.zero_s if film.zero_s is not None else 0.0
        for frame in video:
            pts_s = round(frame.pts_s + offset_s, 6)
            if pts_s >= part.end_s:
                return
            if part.holds(pts_s):
                yield pts_s, frame


def _pictures(film: Film, part: Part) -> Iterator[tuple[float, Frame]]:
    for number, path in enumerate(_listed(film.clip.path)):
        pts_s = _folder_time(number)
        if part.holds(pts_s):
            yield pts_s, Frame(read_image(path), number, time.monotonic(), pts_s)


def _listed(folder: Path) -> list[Path]:
    try:
        found = [each for each in folder.iterdir() if each.suffix.lower() in ENDINGS and each.is_file()]
    except OSError as error:
        raise SourceError(explain(error, folder)) from error
    if not found:
        raise SourceError(f"{folder} holds no picture; give a folder with {', '.join(ENDINGS)}, or a video")
    return sorted(found, key=lambda each: natural_order(each.name))


def _folder_time(number: int) -> float:
    return round(number / _FOLDER_FPS, 6)
