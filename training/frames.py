"""Writes the frames of a film as pictures. A clip in, a folder of JPEGs out.

It is what `ffmpeg -i VIDEO -vf fps=N -qscale:v 2 DIR/%06d.jpg` does, with upright frames in the colours that the video
says it has, a folder that appears whole or not at all, and the rule by which `liveswap extract --fps` picks frames.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from realtime.errors import LiveswapError, SinkError, UsageError
from realtime.files import explain, publish_folder
from training.faceset_writer import check_target
from training.film import Clip, open_film, read_part
from training.search import Sampler

QUALITY = 95
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_NAME = re.compile(r"[0-9]{6,}\.jpg", re.ASCII)


@dataclass(frozen=True, slots=True)
class FramesReport:
    """What was written."""

    folder: str
    frames: int
    frames_read: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        """The report as plain values, ready for json.dump."""
        return asdict(self)


def write_frames(
    clip: Clip,
    out: Path,
    fps: float | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> FramesReport:
    """Write the frames of `clip` as 000001.jpg, 000002.jpg ... into the new folder `out`, `fps` a second or all.

    JPEG of quality 95 without chroma subsampling. `on_progress`: frames read, frames in the clip if it says so. Raises
    UsageError when `out` is taken, SourceError when the film cannot be read to its end, SinkError when the disk is
    full; then nothing is left under the name `out`.
    """
    final, partial = check_target(out)
    began_s = time.monotonic()
    film = open_film(clip)
    wanted = Sampler(fps, clip.start_s)
    written = read = 0
    try:
        _remove(partial)
        partial.mkdir(parents=True)
        try:
            for frame in read_part(film, clip.whole):
                read += 1
                if wanted(frame.pts_s):
                    written += 1
                    _write(partial / f"{written:06d}.jpg", frame.image)
                if on_progress:
                    on_progress(read, film.frames)
            if not written:
                raise UsageError(f"{clip.path} shows nothing between --from and --to; choose other times")
            publish_folder(partial, final)
        except BaseException:
            _remove(partial)
            raise
    except OSError as error:
        raise SinkError(explain(error, partial)) from error
    return FramesReport(str(out), written, read, round(time.monotonic() - began_s, 3))


def _write(path: Path, image: cv2.typing.MatLike) -> None:
    done, jpeg = cv2.imencode(".jpg", image, _JPEG)
    if not done:
        raise LiveswapError("OpenCV cannot write JPEG; install opencv-python 4.7 or newer")
    path.write_bytes(jpeg.tobytes())


def _remove(partial: Path) -> None:
    """Remove an unfinished folder of frames, and nothing that somebody else has put there. Raises UsageError."""
    if not partial.exists() and not partial.is_symlink():
        return
    if (
        partial.is_symlink()
        or not partial.is_dir()
        or any(not _NAME.fullmatch(each.name) for each in partial.iterdir())
    ):
        raise UsageError(f"{partial} is in the way and holds more than unfinished frames; move it away")
    for path in partial.iterdir():
        path.unlink()
    partial.rmdir()
