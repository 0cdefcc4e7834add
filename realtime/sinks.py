"""Opens outputs. What the user typed in, a Sink out: Frames go in, and what was made of them stays outside.

Every sink works in a plain `for` loop, is opened and closed on the thread that feeds it, and starts no thread.
"""

from __future__ import annotations

from pathlib import Path

from realtime.badge import Badge
from realtime.errors import UsageError
from realtime.frame import Frame
from realtime.provenance import Seal
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


def open_sink(
    spec: str,
    source: SourceInfo,
    *,
    crf: int = 15,
    sound: bool = False,
    seal: Seal | None = None,
    badge: Badge | None = None,
) -> Sink:
    """Open what the user named.

    The path of a video (.mp4, .m4v, .mov, .mkv), `null`, `camera` or `camera:DEVICE` (a virtual camera), or an address
    to stream to (udp://HOST:PORT, srt://HOST:PORT, rtmp://HOST/APP/KEY, rtmps://...).
    `crf`: quality of a video, 0 (lossless) to 51; 15 cannot be told from the original.
    `seal`: signs what is left as a file; `badge`: marks a picture that an output adds itself.
    `sound`: sound will be heard while the run goes on; without it, a video gets the sound of the source's file.
    Raises UsageError for a mistake in the call, SinkError for what cannot be written, ValueError for `preview`: a
    window belongs to the main thread, which makes it.
    """
    if spec == "preview":
        raise ValueError("the preview window is made by the main thread, not by open_sink")
    check_sink(spec, source)
    if spec == "null":
        return NullSink()
    if _is_camera(spec):
        from realtime.virtual_camera import VirtualCamera

        return VirtualCamera(source, spec.partition(":")[2] or None, badge=badge)
    if "://" in spec:
        from realtime.stream_writer import StreamWriter

        return StreamWriter(spec, source, sound=sound)
    from realtime.video_writer import VideoWriter

    return VideoWriter(Path(spec), source, crf=crf, sound=sound, seal=seal)


def check_sink(spec: str, source: SourceInfo | None = None) -> None:
    """Raise what open_sink would raise for `spec`, as far as it can be known without opening anything."""
    if spec in ("null", "preview"):
        return
    if not spec:
        raise UsageError(
            "no sink was given; add --sink with the path of a video, preview, camera, an address such as "
            "udp://127.0.0.1:5000, or null"
        )
    if _is_camera(spec):
        from realtime.virtual_camera import check_camera

        check_camera()
    elif "://" in spec:
        from realtime.stream_link import check_url

        check_url(spec)
    else:
        from realtime.video_writer import check_path

        check_path(Path(spec), source)


def is_watched(spec: str) -> bool:
    """Whether somebody watches this sink while the run goes on: a window, a virtual camera, a stream."""
    return spec == "preview" or _is_camera(spec) or "://" in spec


def kind_of(spec: str) -> str:
    """What kind of sink that is: null, preview, camera, stream or file."""
    if spec in ("null", "preview"):
        return spec
    return "camera" if _is_camera(spec) else "stream" if "://" in spec else "file"


def is_file(spec: str) -> bool:
    """Whether this sink leaves a file behind."""
    return spec != "null" and not is_watched(spec)


def _is_camera(spec: str) -> bool:
    return spec == "camera" or spec.startswith("camera:")
