"""Opens outputs. What the user typed in, a Sink out: Frames go in, and what was made of them stays outside.

Every sink works in a plain `for` loop, is opened and closed on the thread that feeds it, and starts no thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from realtime.capture import SourceInfo
from realtime.errors import SinkError, UsageError
from realtime.frame import Frame

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")


class Sink(Protocol):
    """Where frames go."""

    @property
    def name(self) -> str:
        """For people and reports."""
        ...

    def send(self, frame: Frame) -> None:
        """Take the next frame. Raises SinkError."""
        ...

    def close(self) -> None:
        """Finish: everything sent is safe afterwards. Safe to call twice. Raises SinkError."""
        ...

    def abort(self) -> None:
        """End after an error, without claiming that the output is whole. Never raises; safe to call twice."""
        ...


@runtime_checkable
class Discarding(Protocol):
    """A sink that can also end as if it had never been there."""

    def discard(self) -> None:
        """End and keep nothing: what was sent is no result. Never raises; does nothing after close() or abort()."""
        ...


class NullSink:
    """Takes frames and forgets them."""

    name = "null"

    def send(self, frame: Frame) -> None:
        """Nothing happens."""

    def close(self) -> None:
        """Nothing happens."""

    def abort(self) -> None:
        """Nothing happens."""


def open_sink(spec: str, source: SourceInfo, *, crf: int = 15) -> Sink:
    """Open what the user named: the path of a video (.mp4, .m4v, .mov, .mkv) or `null`.

    `crf`: quality of a video, 0 (lossless) to 51; 15 cannot be told from the original.
    Raises UsageError for a mistake in the call, SinkError for what cannot be written.
    """
    if spec == "null":
        return NullSink()
    check_sink(spec, source)
    from realtime.video_writer import VideoWriter

    return VideoWriter(Path(spec), source, crf=crf)


def check_sink(spec: str, source: SourceInfo | None = None) -> None:
    """Raise what open_sink would raise for `spec`, as far as it can be known without opening anything."""
    if spec == "null":
        return
    if not spec:
        raise UsageError("no sink was given; add --sink with the path of a video, or null")
    path = Path(spec)
    if spec in ("preview", "camera") or "://" in spec:
        raise UsageError(f"{spec.partition(':')[0]} is not supported as a sink yet; give the path of a video, or null")
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise SinkError(f"{path} has no ending that names a kind of video; choose {', '.join(VIDEO_SUFFIXES)}")
    if path.is_dir():
        raise SinkError(f"{path} is a folder; add the name of a video to it")
    if not path.parent.is_dir():
        raise SinkError(f"the folder {path.parent} does not exist; create it, or choose another place")
    if source is not None and source.path is not None:
        for written in (path, partial_name(path)):
            if written.exists() and written.samefile(source.path):
                raise UsageError(f"{path} would overwrite the source {source.path}; choose another name for the output")


def partial_name(path: Path) -> Path:
    """What an unfinished video is called, beside its final name."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")
