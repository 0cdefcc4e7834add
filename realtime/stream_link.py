"""Opens the way to the receiver of a stream. An address and a container's bytes in, packets on the network out.

What fails comes out as a sentence, without the key that may be in the address.
"""

from __future__ import annotations

import socket
from typing import Protocol
from urllib.parse import urlsplit

from realtime import stream_push as push
from realtime.datagrams import Datagrams, UdpAddress
from realtime.errors import SinkError, UsageError
from realtime.stream_child import PushError, StreamChild
from realtime.urls import redact

SCHEMES = ("udp", "srt", "rtmp", "rtmps")

_SENTENCES = {
    push.UNKNOWN_HOST: "{name}: nobody knows the host {host}; check its spelling",
    push.NOBODY: "nobody listens at {name}; start the server or check the address",
    push.SILENT: "{name} has taken nothing for {timeout_s:g} s; check the server and the network",
    push.REFUSED: "{name} refuses the stream ({reason}); check the key, and who else uses it",
    push.UNPROVEN: "{name} cannot prove who it is ({reason}); check the address and the clock",
    push.NOT_ENCRYPTED: "{name} is not encrypted as it should be ({reason}); try rtmp:// or another port",
    push.NO_PROTOCOL: (
        "{name} cannot be opened ({reason}); this PyAV is built without SRT: stream to udp:// or rtmp://, "
        "or install a PyAV that has it"
    ),
    push.GONE: "{name} is gone ({reason}); check the server and the key, then start again",
}


def check_url(url: str) -> None:
    """Raise UsageError when `url` is no address that can be streamed to."""
    scheme = scheme_of(url)
    try:
        if scheme == "udp":
            UdpAddress(url)
        elif scheme in ("rtmp", "rtmps"):
            _check_rtmp(url)
        elif scheme != "srt":
            raise ValueError(f"a stream goes to {', '.join(f'{each}://' for each in SCHEMES)}")
    except ValueError as error:
        raise UsageError(f"{redact(url)} is no address to stream to: {error}; correct --sink") from None


def scheme_of(url: str) -> str:
    """`udp` of udp://HOST:PORT, in small letters."""
    return url.partition("://")[0].lower()


class _Wire(Protocol):
    """What carries the bytes. Each method raises OSError, but abort()."""

    def send(self, data: bytes, /) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class StreamLink:
    """A connection, and the file that a container is written into. Not thread-safe."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Connect to udp://, srt://, rtmp:// or rtmps://, at most `timeout_s` for each step. Raises SinkError."""
        self._url, self._timeout_s = url, timeout_s
        self._written = bytearray()
        self.name = redact(url)
        try:
            udp = scheme_of(url) == "udp"
            self._wire: _Wire = Datagrams(UdpAddress(url)) if udp else StreamChild(url, timeout_s=timeout_s)
        except OSError as error:
            raise SinkError(self._sentence(error)) from None  # the cause may know the key

    def write(self, data: bytes) -> int:
        """Keep the bytes for deliver(): the container's side, where nothing may fail."""
        self._written += data
        return len(data)

    def deliver(self) -> None:
        """Send what was written. Raises SinkError."""
        data = bytes(self._written)
        self._written.clear()
        if not data:
            return
        try:
            self._wire.send(data)
        except OSError as error:
            raise SinkError(self._sentence(error)) from None

    def close(self) -> None:
        """Say goodbye and hang up. Raises SinkError when what was sent last does not arrive."""
        try:
            self._wire.close()
        except OSError as error:
            raise SinkError(self._sentence(error)) from None

    def abort(self) -> None:
        """Hang up. Never raises."""
        self._wire.abort()

    def _sentence(self, error: OSError) -> str:
        if isinstance(error, PushError):
            kind = error.kind
        else:
            kind = push.UNKNOWN_HOST if isinstance(error, socket.gaierror) else push.GONE
        host, reason = urlsplit(self._url).hostname, self._said(error)
        return _SENTENCES[kind].format(name=self.name, host=host, reason=reason, timeout_s=self._timeout_s)

    def _said(self, error: OSError) -> str:
        """What a server says, without the key and in one short line."""
        text = "".join(each if each.isprintable() else " " for each in error.strerror or str(error))
        secrets = (part for name in urlsplit(self._url)[2:4] for part in (name, *name.split("/")))
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***") if len(secret) >= 4 else text
        return " ".join(text.split())[:120]


def _check_rtmp(url: str) -> None:
    """Raise ValueError with the reason when `url` is not rtmp://HOST[:PORT]/APP[/INSTANCE][/KEY]."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a user and a password before the host are not spoken here; services put them into the key")
    if not parts.hostname:
        raise ValueError("there is no host in it")
    try:
        bool(parts.port)
    except ValueError:  # whose text shows what may be a password
        raise ValueError("its port is no number") from None
    if not parts.path.strip("/"):
        raise ValueError("there is no application in it")
