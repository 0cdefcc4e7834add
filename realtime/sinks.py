"""Opens outputs. What the user typed in, a Sink out: Frames go in, and what was made of them stays outside.

Every sink works in a plain `for` loop, is opened and closed on the thread that feeds it, and starts no thread.
"""

from __future__ import annotations

from pathlib import Path

from realtime.errors import UsageError
from realtime.frame import Frame
from realtime.sink import Sink
from realtime.source import SourceInfo


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
    if spec in ("preview", "camera") or "://" in spec:
        raise UsageError(f"{spec.partition(':')[0]} is not supported as a sink yet; give the path of a video, or null")
    from realtime.video_writer import check_path

    check_path(Path(spec), source)
