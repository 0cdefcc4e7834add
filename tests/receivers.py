"""What receives a stream on loopback, and what a viewer would see and hear of it. For the tests of stream outputs."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from realtime.frame import ImageU8

RATE = 48_000


@dataclass(frozen=True)
class Programme:
    """All that a viewer gets to see and hear."""

    images: list[ImageU8]
    times_s: list[float]
    keys_s: list[float]
    """The times of the pictures from which a new viewer can start."""
    colour: tuple[int, int, int, int]
    """Matrix, primaries, transfer, range (1 limited, 2 full)."""
    sound: NDArray[np.float32] | None
    """(n,) the left channel, or None without a track."""
    sound_starts_s: float

    def beep_s(self) -> list[float]:
        """When a beep starts after silence."""
        assert self.sound is not None
        loud = np.abs(self.sound) > 0.1
        quiet_before = np.convolve(loud, np.ones(RATE // 10), "full")[: len(loud)] - loud == 0
        return [float(self.sound_starts_s + start / RATE) for start in np.flatnonzero(loud & quiet_before)]

    def tone_hz(self, start_s: float, seconds: float) -> float:
        """The strongest frequency in a stretch."""
        assert self.sound is not None
        start = round((start_s - self.sound_starts_s) * RATE)
        piece = self.sound[start : start + round(seconds * RATE)]
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
        return float(spectrum.argmax() * RATE / len(piece))

    def level(self, start_s: float, end_s: float) -> float:
        """The root mean square of a stretch."""
        assert self.sound is not None
        first, last = (round((time_s - self.sound_starts_s) * RATE) for time_s in (start_s, end_s))
        assert 0 <= first < last <= len(self.sound)
        return float(np.sqrt(np.mean(self.sound[first:last].astype(float) ** 2)))


def watch(data: bytes | Path, kind: str | None = None) -> Programme:
    """Decode a whole stream with a reader that knows nothing of the sender."""
    images, times, keys = list[ImageU8](), list[float](), list[float]()
    sound, sound_starts_s = list[NDArray[np.float32]](), 0.0
    source = io.BytesIO(data) if isinstance(data, bytes) else str(data)
    with av.open(source, "r", format=kind) as container:
        heard = bool(container.streams.audio)
        for frame in container.decode():
            assert frame.pts is not None
            assert frame.time_base is not None
            at_s = float(frame.pts * frame.time_base)
            if isinstance(frame, av.VideoFrame):
                images.append(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
                times.append(at_s)
                if frame.key_frame:
                    keys.append(at_s)
            elif isinstance(frame, av.AudioFrame):
                if not sound:
                    sound_starts_s = at_s
                assert frame.sample_rate == RATE
                place = round((at_s - sound_starts_s) * RATE)
                assert abs(place - sum(map(len, sound))) <= RATE / 500, "the track has a gap"
                sound.append(frame.to_ndarray()[0].astype(np.float32))
        context = container.streams.video[0].codec_context
        colour = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
    return Programme(images, times, keys, colour, np.concatenate(sound) if heard else None, sound_starts_s)


class UdpReceiver:
    """Collects datagrams until it is closed."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.url = f"udp://127.0.0.1:{self._socket.getsockname()[1]}"
        self.datagrams: list[bytes] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="receiver")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def programme(self) -> Programme:
        """What has come so far, when nothing more is under way; nothing is received afterwards."""
        self._over.set()
        self._thread.join()
        return watch(b"".join(self.datagrams), "mpegts")

    def _receive(self) -> None:
        while True:
            over = self._over.is_set()
            try:
                self.datagrams.append(self._socket.recv(65_536))
            except TimeoutError:
                if over:
                    return


_LISTEN = """
import sys, av
url, path = sys.argv[1:]
with av.open(url, options={"listen": "1", "analyzeduration": "300000"}) as source, av.open(path, "w") as out:
    copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
    count = 0
    try:
        for packet in source.demux():
            if packet.dts is None:
                continue
            packet.stream = copies[packet.stream.index]
            out.mux(packet)
            count += 1
            if count in (1, 30):
                print(count, flush=True)
    except av.error.FFmpegError as error:
        print("cut", flush=True)
    print("end", flush=True)
"""


class RtmpServer:
    """FFmpeg's own RTMP server in a process of its own: takes one stream and keeps it as it came."""

    def __init__(self, folder: Path, key: str = "key") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"rtmp://127.0.0.1:{port}/live/{key}"
        self._kept = folder / "received.mkv"
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LISTEN, self.url, str(self._kept)], stdout=subprocess.PIPE, text=True
        )
        self._words: list[str] = []
        self._thread = threading.Thread(target=self._listen, name="rtmp server")
        self._thread.start()
        while self._can_be_bound(port):
            assert self.process.poll() is None, "the server has ended"
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        self._thread.join()

    def reached(self, word: str) -> bool:
        """Whether the server has got so far: a number of packets, or `end`."""
        assert word in self._words or self.process.poll() is None, "the server has ended"
        return word in self._words

    def programme(self) -> Programme:
        """What was received, after the end."""
        until_s = time.monotonic() + 20
        while not self.reached("end"):
            assert time.monotonic() < until_s
            time.sleep(0.02)
        self.process.wait(10)
        return watch(self._kept)

    @staticmethod
    def _can_be_bound(port: int) -> bool:
        """Nobody listens there yet; found out without being the connection that the server waits for."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._words.append(line.strip())
