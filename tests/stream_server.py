"""Real stream servers on loopback: MPEG-TS over HTTP and UDP, H.264 with sound over RTSP. For the tests of streams.

FFmpeg encodes, multiplexes and packs RTP; the servers speak HTTP and RTSP themselves (interleaved in TCP, or UDP).
Every viewer gets a live programme whose pictures carry their number, at the pace of the clock: picture n belongs to
the moment `on_air_s + n / FPS`, so that a test can tell how late it came.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from numpy.typing import NDArray

from realtime.frame import ImageU8

FPS = 50
SIZE = (160, 96)
TONE_HZ = 500
_BITS = 12


def numbered(number: int, width: int = SIZE[0], height: int = SIZE[1]) -> ImageU8:
    """A picture whose upper half is `number` in stripes, black for 0 and white for 1; the lower half is grey."""
    stripe = width // _BITS
    image = np.full((height, width, 3), 128, np.uint8)
    for place in range(_BITS):
        image[: height // 2, place * stripe : (place + 1) * stripe] = 255 * ((number >> place) & 1)
    return image


def number_of(image: ImageU8) -> int:
    """What `numbered` wrote into a picture of the same size."""
    stripe = image.shape[1] // _BITS
    row = image[image.shape[0] // 4, :, 1]
    return sum(int(row[place * stripe + stripe // 2] > 127) << place for place in range(_BITS))


class _Taker(Protocol):
    """Where packets go."""

    def take(self, packet: Packet[Any]) -> None: ...


class Station:
    """What is on air, for all viewers. The attributes may be changed at any time."""

    def __init__(self, *, gop: int = 10, sound: bool = False, b_frames: int = 0, backlog: int = 0) -> None:
        """`backlog`: so many old pictures are sent at once to a new viewer, as many servers do."""
        self.gop, self.sound, self.b_frames, self.backlog = gop, sound, b_frames, backlog
        self.size = SIZE
        self.picture: Callable[[int, int, int], ImageU8] = numbered
        """What is shown, by number, width and height."""
        self.noise = b""
        """Sent once to every viewer between two pictures, then forgotten."""
        self.paused = False
        """While it lasts nothing is sent; afterwards what was missed comes at once."""
        self.on_air_s = time.monotonic()
        self.on_air_unix_s = time.time()

    def lateness_s(self, image: ImageU8, captured_s: float) -> float:
        """How long after its moment a picture was there."""
        return captured_s - (self.on_air_s + number_of(image) / FPS)

    def broadcast(self, video: _Taker, audio: _Taker | None, codec: str, rate: int, over: threading.Event) -> None:
        """Encode and hand over at the pace of the clock until `over`. Raises what a taker raises."""
        number = first = max(int((time.monotonic() - self.on_air_s) * FPS) - self.backlog, 0)
        encoder, size = self._encoder(), self.size
        missed: list[tuple[_Taker, Packet[Any]]] = []
        track = _encoder_of_sound(codec, rate)
        sample = first * rate // FPS
        while not over.is_set():
            if self.paused or over.wait(max(self.on_air_s + number / FPS - time.monotonic(), 0)):
                over.wait(0.02)
                continue
            if size != self.size:
                encoder, size = self._encoder(), self.size
            picture = av.VideoFrame.from_ndarray(self.picture(number, *size), format="bgr24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            missed += [(video, packet) for packet in encoder.encode(picture)]
            while audio is not None and sample < (number + 1) * rate // FPS:
                block = tone(sample, track.frame_size or rate // FPS, rate)
                sample += block.samples
                missed += [(audio, packet) for packet in track.encode(block)]
            number += 1
            if number / FPS >= time.monotonic() - self.on_air_s:
                for taker, packet in missed:
                    taker.take(packet)
                missed = []

    def _encoder(self) -> av.VideoCodecContext:
        encoder = av.CodecContext.create("libx264", "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height = self.size
        encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, FPS), Fraction(FPS)
        quick = {} if self.b_frames else {"tune": "zerolatency"}
        encoder.options = quick | {"preset": "ultrafast", "g": str(self.gop), "bf": str(self.b_frames), "crf": "18"}
        return encoder


def _encoder_of_sound(codec: str, rate: int) -> av.AudioCodecContext:
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.format, encoder.layout, encoder.sample_rate = "fltp" if codec == "aac" else "s16", "mono", rate
    encoder.time_base = Fraction(1, rate)
    return encoder


def signal(moment_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sound of the station, by the seconds since it went on air: a tone, a quarter of a second on and off."""
    sounds = (np.floor(4 * moment_s) % 2 == 0).astype(np.float64)
    return np.asarray(0.5 * np.sin(2 * np.pi * TONE_HZ * moment_s) * sounds, np.float64)


def tone(first: int, count: int, rate: int) -> av.AudioFrame:
    """Samples `first` to `first + count` of what the station plays."""
    wave = signal(np.arange(first, first + count) / rate)
    if rate == 48_000:
        block = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
    else:
        block = av.AudioFrame.from_ndarray((wave * 32_767).astype(np.int16)[None], format="s16", layout="mono")
    block.sample_rate, block.pts, block.time_base = rate, first, Fraction(1, rate)
    return block


class _Track:
    """One track of a container that takes packets from any encoder of its kind."""

    def __init__(self, container: OutputContainer, codec: str, rate: int) -> None:
        self._container = container
        self._stream = container.add_stream(codec, rate=rate)
        if isinstance(self._stream, av.VideoStream):
            self._stream.width, self._stream.height = SIZE
            self._stream.pix_fmt = "yuv420p"
        elif isinstance(self._stream, av.AudioStream):
            self._stream.layout = "mono"

    def take(self, packet: Packet[Any]) -> None:
        packet.stream = self._stream
        self._container.mux(packet)


class _Pipe:
    """What FFmpeg writes into, as a file."""

    name = "pipe"

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send

    def write(self, data: bytes) -> int:
        self._send(bytes(data))
        return len(data)


def send_transport_stream(station: Station, send: Callable[[bytes], object], over: threading.Event) -> None:
    """MPEG-TS to one viewer until `over` or until the viewer is gone."""
    last = station.noise

    def send_all(data: bytes) -> None:
        nonlocal last
        send(data)
        if station.noise != last:
            last = station.noise
            send(last)

    with suppress(OSError, ValueError, av.error.FFmpegError):
        container = av.open(_Pipe(send_all), "w", format="mpegts", options={"flush_packets": "1"})
        video = _Track(container, "libx264", FPS)
        audio = _Track(container, "aac", 48_000) if station.sound else None
        try:
            station.broadcast(video, audio, "aac", 48_000, over)
        finally:
            container.close()


class UdpSender:
    """Sends MPEG-TS to a port of this machine, whether or not anybody listens."""

    def __init__(self, station: Station, port: int) -> None:
        self.url = f"udp://127.0.0.1:{port}"
        self._over = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._to = ("127.0.0.1", port)
        self._thread = threading.Thread(target=send_transport_stream, args=(station, self._send, self._over))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), 1316):
            with suppress(ConnectionRefusedError):
                self._socket.sendto(data[start : start + 1316], self._to)


class _Server:
    """Knows its viewers and can cut them off."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.viewers: set[socket.socket] = set()
        self.visits = 0

    def cut(self) -> None:
        """End all connections, as a broken network would."""
        for viewer in list(self.viewers):
            with suppress(OSError):
                viewer.shutdown(socket.SHUT_RDWR)


class HttpServer(_Server):
    """`/live.ts` is the station; `pages` hold everything else. With `password` it wants `user` and that."""

    def __init__(self, station: Station, *, password: str = "", port: int = 0, pages: dict[str, bytes] | None = None):
        super().__init__()
        server, shown = self, pages or {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.visits += 1
                wanted = "Basic " + base64.b64encode(f"user:{password}".encode()).decode()
                if password and self.headers["Authorization"] != wanted:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="station"')
                    self.end_headers()
                elif self.path.partition("?")[0] == "/live.ts":
                    self.send_response(200)
                    self.send_header("Content-Type", "video/mp2t")
                    self.end_headers()
                    server.viewers.add(self.connection)
                    try:
                        send_transport_stream(station, self.connection.sendall, server.over)
                    finally:
                        server.viewers.discard(self.connection)
                elif self.path in shown:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(shown[self.path])))
                    self.end_headers()
                    self.wfile.write(shown[self.path])
                else:
                    self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, page: str = "/live.ts", login: str = "") -> str:
        """The address of a page, with a login in it if there is one."""
        return f"http://{login + '@' if login else ''}127.0.0.1:{self.port}{page}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.cut()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class RtspServer(_Server):
    """The station as H.264 and mu-law sound over RTP. With `password` it wants `user` and that, by digest."""

    def __init__(
        self, station: Station, *, password: str = "", port: int = 0, transports: tuple[str, ...] = ("TCP", "UDP")
    ) -> None:
        super().__init__()
        self.station, self.password, self.transports = station, password, transports
        self.used: list[str] = []
        """TCP or UDP for each track that was set up."""
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, page: str = "/cam", login: str = "") -> str:
        """The address of the station, with a login in it if there is one."""
        return f"rtsp://{login + '@' if login else ''}127.0.0.1:{self.port}{page}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self.over.is_set():
            with suppress(TimeoutError):
                viewer, _ = self._listener.accept()
                thread = threading.Thread(target=_RtspViewer(self, viewer).serve)
                self._threads.append(thread)
                thread.start()


class _RtspViewer:
    """One connection: answers requests, and sends from a second thread while playing."""

    def __init__(self, server: RtspServer, viewer: socket.socket) -> None:
        self._server, self._socket = server, viewer
        viewer.settimeout(None)
        self._writing = threading.Lock()
        self._gone = threading.Event()
        self._ways: dict[int, Callable[[bytes, bool], None]] = {}
        self._sender: threading.Thread | None = None
        self._datagrams: list[socket.socket] = []

    def serve(self) -> None:
        self._server.viewers.add(self._socket)
        self._server.visits += 1
        try:
            with suppress(OSError), self._socket.makefile("rb") as requests:
                while self._answer(requests.readline, requests.read):
                    pass
        finally:
            self._gone.set()
            if self._sender is not None:
                self._sender.join()
            self._server.viewers.discard(self._socket)
            for each in (self._socket, *self._datagrams):
                each.close()

    def _answer(self, readline: Callable[[], bytes], read: Callable[[int], bytes]) -> bool:
        line = readline()
        while line[:1] == b"$":  # what the viewer reports about its reception lies between the requests
            rest = (line + read(max(4 - len(line), 0))) if len(line) < 4 else line
            length = int.from_bytes(rest[2:4], "big")
            line = (rest[4:] + read(max(length - len(rest[4:]), 0)))[length:] or readline()
        if not line:
            return False
        method, url, _ = line.decode().split()
        headers = {}
        while (line := readline()).strip():
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        status, extra, body = self._result(method, url, headers)
        text = f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', '0')}\r\n{extra}"
        if body:
            text += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        with self._writing:
            self._socket.sendall(f"{text}\r\n{body}".encode())
        if method == "PLAY" and status.startswith("200"):
            self._sender = threading.Thread(target=self._send)
            self._sender.start()
        return method != "TEARDOWN"

    def _result(self, method: str, url: str, headers: dict[str, str]) -> tuple[str, str, str]:
        if method == "OPTIONS":
            return "200 OK", "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""
        if self._server.password and not self._may_enter(method, headers.get("authorization", "")):
            return "401 Unauthorized", 'WWW-Authenticate: Digest realm="station", nonce="12ab"\r\n', ""
        if method == "DESCRIBE":
            return ("200 OK", "", self._sdp()) if "/cam" in url else ("404 Not Found", "", "")
        if method == "SETUP":
            return self._set_up(1 if url.endswith("track1") else 0, headers["transport"])
        return ("200 OK", "Session: 1\r\n", "") if method in ("PLAY", "TEARDOWN") else ("501 Not Implemented", "", "")

    def _may_enter(self, method: str, header: str) -> bool:
        said = dict(re.findall(r'(\w+)="([^"]*)"', header))

        def digest(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        secret = digest(f"user:station:{self._server.password}")
        request = digest(f"{method}:{said.get('uri')}")
        return said.get("response") == digest(f"{secret}:12ab:{request}")

    def _sdp(self) -> str:
        lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=station", "c=IN IP4 0.0.0.0", "t=0 0"]
        lines += ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=1"]
        lines += [f"a=framerate:{FPS}", "a=control:track0"]
        if self._server.station.sound:
            lines += ["m=audio 0 RTP/AVP 0", "a=control:track1"]
        return "\r\n".join([*lines, ""])

    def _set_up(self, track: int, transport: str) -> tuple[str, str, str]:
        kind = "TCP" if "TCP" in transport else "UDP"
        if kind not in self._server.transports:
            return "461 Unsupported Transport", "", ""
        self._server.used.append(kind)
        if kind == "TCP":
            channels = re.search(r"interleaved=(\d+)-(\d+)", transport)
            assert channels
            self._ways[track] = self._interleaved(int(channels[1]), int(channels[2]))
            return "200 OK", f"Session: 1\r\nTransport: {transport}\r\n", ""
        ports = re.search(r"client_port=(\d+)-(\d+)", transport)
        assert ports
        pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        self._datagrams += pair
        for each in pair:
            each.bind(("127.0.0.1", 0))
        mine = "-".join(str(each.getsockname()[1]) for each in pair)

        def send(data: bytes, control: bool) -> None:
            with suppress(ConnectionRefusedError):
                pair[control].sendto(data, ("127.0.0.1", int(ports[1 + control])))

        self._ways[track] = send
        return "200 OK", f"Session: 1\r\nTransport: {transport};server_port={mine}\r\n", ""

    def _interleaved(self, data_channel: int, control_channel: int) -> Callable[[bytes, bool], None]:
        def send(data: bytes, control: bool) -> None:
            channel = control_channel if control else data_channel
            with self._writing:
                self._socket.sendall(b"$" + bytes([channel]) + len(data).to_bytes(2, "big") + data)

        return send

    def _send(self) -> None:
        containers = []
        with suppress(OSError, ValueError, av.error.FFmpegError):
            tracks = []
            for number, (codec, rate) in enumerate((("libx264", FPS), ("pcm_mulaw", 8_000))):
                if number not in self._ways:
                    continue
                options = {"packetsize": "1200", "payload_type": "96" if codec == "libx264" else "0"}
                # Both tracks tell the same clock when their time was 0: so the viewer knows what belongs together.
                options["start_time_realtime"] = str(round(1e6 * self._server.station.on_air_unix_s))
                container = av.open(_Pipe(_by_kind(self._ways[number])), "w", format="rtp", options=options)
                containers.append(container)
                tracks.append(_Track(container, codec, rate))
            audio = tracks[1] if len(tracks) > 1 else None
            self._server.station.broadcast(tracks[0], audio, "pcm_mulaw", 8_000, self._gone)
        for container in containers:
            with suppress(OSError, ValueError, av.error.FFmpegError):
                container.close()


def _by_kind(way: Callable[[bytes, bool], None]) -> Callable[[bytes], None]:
    """Tells reports about the sending (RTCP) from media."""

    def send(data: bytes) -> None:
        way(data, 200 <= data[1] <= 204)

    return send


def free_port() -> int:
    """A port that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
