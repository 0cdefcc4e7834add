"""Sends a test picture through each output and looks at what comes back. Nothing in, a sentence and figures out.

The pictures show coloured fields, nobody. What stands in the way is raised as the error that a live run would raise.
"""

from __future__ import annotations

import contextlib
import io
import socket
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from realtime.errors import SinkError
from realtime.frame import Frame, ImageU8
from realtime.report import Progress
from realtime.source import BT601, SourceInfo
from realtime.standin import slate

WIDTH, HEIGHT, FPS, COUNT = 320, 240, 30, 15
INFO = SourceInfo("test picture", WIDTH, HEIGHT, Fraction(FPS), COUNT, live=True, colour=BT601)
MOST_DIFFERENCE = 6.0
"""Mean of the absolute difference, levels of 255: H.264 stays below 3 on these pictures, a wrong colour is above 20."""
_FIELDS = np.array(
    [[(40, 40, 200), (40, 200, 40), (200, 40, 40)], [(40, 200, 200), (200, 200, 40), (200, 40, 200)]], np.uint8
)
_RECEIVE_S = 1.0


def picture(number: int) -> ImageU8:
    """(240, 320, 3) BGR: six coloured fields that trade places from number to number, on which an encoder must work."""
    fields = np.roll(_FIELDS, number // 5, axis=1)
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    image[16:224, 16:304] = np.kron(fields, np.ones((104, 96, 1), np.uint8))
    return image


def frames() -> list[Frame]:
    """Half a second of test pictures."""
    now_s = time.monotonic()
    return [Frame(picture(number), number, now_s, number / FPS) for number in range(COUNT)]


def through_video_file() -> tuple[str, float]:
    """Write a video, read it back, compare: a sentence, and the difference in levels. Raises LiveswapError."""
    from realtime.video_file import VideoFile
    from realtime.video_writer import VideoWriter

    with tempfile.TemporaryDirectory(prefix="liveswap-") as folder:
        path = Path(folder) / "test.mp4"
        with VideoWriter(path, INFO) as writer:
            for frame in frames():
                writer.send(frame)
        with VideoFile(path) as video:
            back = [frame.image for frame in video]
    difference = _compare(back, "a video file")
    return f"{len(back)} pictures were written as H.264 and read back {difference:.1f} levels off", difference


def through_udp() -> tuple[str, float]:
    """Stream to a port of this machine, decode what arrives there, compare: see through_video_file."""
    import av

    from realtime.stream_writer import StreamWriter

    received = io.BytesIO()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(("127.0.0.1", 0))
        port.setblocking(False)
        with StreamWriter(f"udp://127.0.0.1:{port.getsockname()[1]}", INFO) as writer:
            for frame in frames():
                writer.send(frame)
                _drain(port, received)
        _drain(port, received, time.monotonic() + _RECEIVE_S)
    received.seek(0)
    try:
        with av.open(received, "r", format="mpegts") as container:
            back = [np.asarray(each.to_ndarray(format="bgr24"), np.uint8) for each in container.decode(video=0)]
    except (av.FFmpegError, IndexError) as error:
        raise SinkError(
            "what was streamed over UDP did not come back; allow UDP on 127.0.0.1 in the firewall"
        ) from error
    difference = _compare(back, "a stream over UDP")
    return (
        f"{len(back)} pictures were streamed as MPEG-TS over UDP and came back {difference:.1f} levels off",
        difference,
    )


def through_window() -> str:
    """Open the preview window, show a picture, close it: a sentence. Main thread. Raises SinkError."""
    from realtime.preview import Preview

    with Preview("liveswap doctor") as preview:
        end = preview.sink(INFO)
        for frame in frames():
            end.send(frame)
            preview.pump(Progress(frame.index, COUNT, FPS, "slate"), hud=False)
    return "a window opened and showed pictures"


def through_virtual_camera() -> str:
    """Send a card that shows nobody to the virtual camera: a sentence. Raises SinkError."""
    from realtime.virtual_camera import VirtualCamera

    card = slate(HEIGHT, WIDTH)
    with VirtualCamera(INFO) as camera:
        for frame in frames():
            camera.send(frame.with_image(card))
        return f"{camera.name} took pictures: choose it as the camera in other programs"


def through_nothing() -> str:
    """Send pictures to the output that forgets them: a sentence."""
    from realtime.sinks import open_sink

    sink = open_sink("null", INFO)
    for frame in frames():
        sink.send(frame)
    sink.close()
    return f"{COUNT} pictures were taken and forgotten"


def _drain(port: socket.socket, into: io.BytesIO, until_s: float = 0.0) -> None:
    """Take what lies in the port; until then wait for more."""
    while True:
        with contextlib.suppress(BlockingIOError):
            while True:
                into.write(port.recv(65536))
        if time.monotonic() >= until_s:
            return
        time.sleep(0.02)


def _compare(back: Sequence[ImageU8], way: str) -> float:
    """The worst difference of a picture that came back to the one that was sent. Raises SinkError."""
    if len(back) != COUNT:
        raise SinkError(f"{len(back)} of {COUNT} pictures came back from {way}; reinstall PyAV: pip install -U av")
    sent = (picture(number) for number in range(COUNT))
    worst = max(float(np.abs(a.astype(np.int16) - b).mean()) for a, b in zip(back, sent, strict=True))
    if worst > MOST_DIFFERENCE:
        raise SinkError(f"{way} changed the pictures by {worst:.0f} levels; reinstall PyAV: pip install -U av")
    return worst
