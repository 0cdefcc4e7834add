"""Opens the way to the receiver of a stream. An address and a container's bytes in, packets on the network out.

What fails comes out as a sentence, without the key that may be in the address.
"""

from __future__ import annotations

import socket
import ssl
from typing import Protocol
from urllib.parse import urlsplit

from realtime.datagrams import Datagrams, UdpAddress
from realtime.errors import SinkError, UsageError
from realtime.rtmp import Address, Refused, RtmpPublisher
from realtime.urls import redact

SCHEMES = ("udp", "srt", "rtmp", "rtmps")


def check_url(url: str) -> None:
    """Raise UsageError when `url` is no address that can be streamed to."""
    scheme = scheme_of(url)
    try:
        if scheme == "udp":
            UdpAddress(url)
        elif scheme in ("rtmp", "rtmps"):
            Address.parse(url)
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
        """Connect to udp://, rtmp:// or rtmps://, at most `timeout_s` for each step. Raises SinkError."""
        self._url, self._timeout_s = url, timeout_s
        self._written = bytearray()
        self.name = redact(url)
        try:
            self._wire: _Wire = (
                Datagrams(UdpAddress(url))
                if scheme_of(url) == "udp"
                else RtmpPublisher(Address.parse(url), timeout_s=timeout_s)
            )
        except OSError as error:
            raise SinkError(self._sentence(error)) from error

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
            raise SinkError(self._sentence(error)) from error

    def close(self) -> None:
        """Say goodbye and hang up."""
        self._wire.close()

    def abort(self) -> None:
        """Hang up. Never raises."""
        self._wire.abort()

    def _sentence(self, error: OSError) -> str:
        if isinstance(error, socket.gaierror):
            return f"{self.name}: nobody knows the host {urlsplit(self._url).hostname}; check its spelling"
        if isinstance(error, Refused):
            return f"{self.name} refuses the stream ({self._said(error)}); check the key, and who else uses it"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"{self.name} cannot prove who it is ({error.verify_message}); check the address and the clock"
        if isinstance(error, ssl.SSLError):
            return f"{self.name} is not encrypted as it should be ({error.reason}); try rtmp:// or another port"
        if isinstance(error, TimeoutError):
            return f"{self.name} has taken nothing for {self._timeout_s:g} s; check the server and the network"
        if isinstance(error, ConnectionRefusedError):
            return f"nobody listens at {self.name}; start the server or check the address"
        reason = error.strerror or self._said(error)
        return f"{self.name} is gone ({reason}); check the server and the key, then start again"

    def _said(self, error: OSError) -> str:
        """What a server says, without the key and in one short line."""
        text = "".join(each if each.isprintable() else " " for each in str(error))
        secrets = (part for name in urlsplit(self._url)[2:4] for part in (name, *name.split("/")))
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***") if len(secret) >= 4 else text
        return " ".join(text.split())[:120]
