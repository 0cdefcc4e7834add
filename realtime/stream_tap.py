"""Opens a stream from the network. An address in, decoded pictures and sound out, as FFmpeg hands them over.

Note [TCP before UDP]
    RTSP brings the pictures over TCP unless the server knows UDP alone: TCP passes routers and firewalls, and no packet
    is lost, where one lost packet smears the face until the next whole picture. `?udp` at the end of the address asks
    for UDP first, which FFmpeg gives up for TCP when nothing arrives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from realtime.errors import SourceError
from realtime.urls import redact
from realtime.video_file import moving_pictures

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.packet import Packet

SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "srt", "rtmp", "rtmps")
OPEN_S, STALL_S = 10.0, 4.0
"""A server that says nothing for so long, a stream that halts for so long, is given up."""
_PROTOCOLS = "http,https,tls,tcp,udp,rtp,rtsp,rtsps,rtmp,rtmps,srt,httpproxy,crypto,data"
"""What a playlist may lead to: never a file of this machine."""
_EXAMINED_US = 500_000
"""So much of a stream is examined before it starts; FFmpeg's 5 s of it are meant for files with rare tracks."""


@dataclass(frozen=True, slots=True)
class Haul:
    """What one packet brought."""

    waited_s: float
    """How long it took to come."""
    pictures: list[av.VideoFrame]
    sounds: list[av.AudioFrame]
    skipped: bool = False
    """It was a picture that was not decoded."""


class Tap:
    """One connection. Not thread-safe, except for close()."""

    def __init__(self, url: str, *, open_s: float, stall_s: float) -> None:
        """Connect. Raises SourceError with one sentence that holds no password."""
        from av.error import FFmpegError

        self.name, self._ffmpeg_error, self._stall_s = redact(url), FFmpegError, stall_s
        self._lock = threading.Lock()
        self._closed = False
        self.damaged = 0
        """Packets that could not be decoded."""
        self._container = _connect(url, self.name, open_s, stall_s)
        self.kind = str(self._container.format.name)
        """FFmpeg's name for it: rtsp, mpegts, hls, ..."""
        self.seconds = (self._container.duration or 0) / 1e6
        """How long the stream will be; 0 when nobody knows."""
        self._packets: Iterator[Packet[Any]] | None = None
        self._tracks: list[av.VideoStream | av.AudioStream] = []
        try:
            video = moving_pictures(self._container, self.name)
            # Threads that share whole pictures among them hand each one over some pictures later.
            video.thread_type = "SLICE"
            self._pictures_index = video.index
            self._tracks = [video]
            self._tracks += [each for each in self._container.streams.audio if each.codec_context is not None][:1]
            self.has_sound = len(self._tracks) > 1
            self._packets = self._container.demux(self._tracks)
        except BaseException:
            self.close()
            raise

    @property
    def video(self) -> av.VideoStream:
        """What the stream says about its pictures; to be asked before close()."""
        video = self._tracks[0]
        assert video.type == "video"
        return video

    def read(self, *, sound: bool, whole_only: bool = False) -> Haul | None:
        """Decode the next packet; None at the end of the stream and after close(). Raises SourceError.

        `sound`: decode sound, too. `whole_only`: decode no picture that builds on an earlier one.
        """
        problem: str | None = None
        haul: Haul | None = None
        with self._lock:
            if self._closed or self._packets is None:
                return None
            began_s = time.monotonic()
            try:
                packet = next(self._packets, None)
            except self._ffmpeg_error as error:
                problem = _break_of(error, self.name, self._stall_s)
            else:
                waited_s = time.monotonic() - began_s
                haul = None if packet is None else self._decode(packet, waited_s, sound, whole_only)
        if self._closed:
            self.close()  # whoever closed meanwhile could not free what was in use
            return None
        if problem is not None:  # outside the handler: FFmpeg's error knows the password
            raise SourceError(problem)
        return haul

    def close(self) -> None:
        """Disconnect; safe to call twice and from another thread: a read under way then ends within `stall_s`."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                # The decoders, and their threads, end with the last reference to their tracks.
                self._packets, self._tracks = None, []
                self._container.close()
            finally:
                self._lock.release()

    def _decode(self, packet: Packet[Any], waited_s: float, sound: bool, whole_only: bool) -> Haul:
        import av

        moves = packet.stream_index == self._pictures_index
        # An empty packet fetches what the decoder still holds.
        if moves and whole_only and not packet.is_keyframe and packet.size:
            return Haul(waited_s, [], [], skipped=True)
        frames: list[Any] = []
        if moves or sound:
            try:
                frames = packet.decode()
            except self._ffmpeg_error:
                self.damaged += 1
        pictures = [each for each in frames if isinstance(each, av.VideoFrame) and not each.is_corrupt]
        return Haul(waited_s, pictures, [each for each in frames if isinstance(each, av.AudioFrame)])


def _connect(url: str, name: str, open_s: float, stall_s: float) -> InputContainer:
    import av

    scheme, _, rest = url.partition("://")
    options = {"flags": "low_delay", "analyzeduration": str(_EXAMINED_US), "protocol_whitelist": _PROTOCOLS}
    if scheme.lower() in ("rtsp", "rtsps"):
        if "udp" not in rest.partition("?")[2].lower().split("&"):
            options["rtsp_flags"] = "prefer_tcp"
    elif scheme.lower() == "udp":
        options["overrun_nonfatal"] = "1"  # a reader that was away loses pictures, not the stream
    began_s = time.monotonic()
    try:
        return av.open(url, options=options, timeout=(open_s, stall_s), metadata_errors="replace")
    except av.error.FFmpegError as error:
        problem = _failure_of(error, name)
        if isinstance(error, av.error.ExitError | av.error.TimeoutError) or time.monotonic() - began_s >= open_s:
            problem = f"{name} was silent for {open_s:g} s; check that it is on air"
    except (ValueError, OSError):  # a null character, for example
        problem = f"{name} is no address; check the spelling"
    raise SourceError(problem)  # outside the handler: FFmpeg's error knows the password


def _failure_of(error: av.error.FFmpegError, name: str) -> str:
    """Why there is no stream, with the remedy."""
    from av import error as errors

    for kind, text in (
        (errors.HTTPUnauthorizedError, f"{name} refuses this user and password; write the right ones into the address"),
        (errors.HTTPForbiddenError, f"{name} may not be watched with this address; ask its owner"),
        (errors.HTTPNotFoundError, f"{name} does not exist on its server; check the path in the address"),
        (errors.HTTPError, f"the server of {name} reports an error; try again later"),
        (errors.HTTPClientError, f"the server of {name} refuses the request; check the address"),
        (errors.ConnectionRefusedError, f"nobody sends at {name}; start the stream, or check host and port"),
        (errors.InvalidDataError, f"what {name} sends is no video; check the address"),
        (errors.ProtocolNotFoundError, f"{name} is of a kind that this FFmpeg does not know; send it by another way"),
    ):
        if isinstance(error, kind):
            return text
    return f"{name} cannot be reached ({error.strerror}); check the address and the network"


def _break_of(error: av.error.FFmpegError, name: str, stall_s: float) -> str:
    """Why a stream broke, with the remedy."""
    from av import error as errors

    if isinstance(error, errors.ExitError | errors.TimeoutError):
        return f"{name} sent nothing for {stall_s:g} s; check the network"
    return f"the connection to {name} broke ({error.strerror}); check the network"
