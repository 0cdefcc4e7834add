"""Publishes to an RTMP server. FLV in, RTMP over a plain or an encrypted connection out.

Note [Why not FFmpeg's own RTMP]
    PyAV opens an output without a time limit and while it holds Python's lock: a server that takes the connection and
    says nothing would stop the whole program, with the preview and Ctrl-C. Here every step has a time limit.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeGuard
from urllib.parse import urlsplit

from realtime import amf
from realtime.rtmp_chunks import COMMAND, CONTROL, METADATA, SET_CHUNK_SIZE, SIZE, Inbox, Message, message

_log = logging.getLogger(__name__)

PORTS = {"rtmp": 1935, "rtmps": 443}
_HANDSHAKE = 1536
_PING, _PONG = 6, 7
_FLV_HEADER, _TAG_HEADER, _TAG_TAIL = 13, 11, 4
_GOODBYE_S = 1.0
_UNDERWAY_BYTES = 1 << 18
"""What the system may hold back for a slow network: more would only be old pictures."""
_MEDIA_CHUNKS = {8: 4, 9: 6, METADATA: 5}
"""FLV tag -> chunk stream."""


class Refused(ConnectionError):
    """The server answered and does not want the stream; the text is the server's own."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a stream goes."""

    scheme: str
    host: str
    port: int
    app: str
    key: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Split rtmp://HOST[:PORT]/APP[/INSTANCE]/KEY as FFmpeg does. Raises ValueError with the reason."""
        scheme = url.partition("://")[0].lower()
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                "a user and a password before the host are not spoken here; services put them into the key"
            )
        if not parts.hostname:
            raise ValueError("there is no host in it")
        try:
            port = parts.port or PORTS[scheme]
        except ValueError:  # whose text shows what may be a password
            raise ValueError("its port is no number") from None
        names = [name for name in parts.path.split("/") if name]
        if not names:
            raise ValueError("there is no application in it")
        in_app = 1 if len(names) < 3 else 2
        app, key = "/".join(names[:in_app]), "/".join(names[in_app:])
        query = f"?{parts.query}" if parts.query else ""
        app, key = (app, key + query) if key else (app + query, "")
        return cls(scheme, parts.hostname, port, app, key)


class RtmpPublisher:
    """One stream on its way to one server. Not thread-safe.

    Every method raises OSError: TimeoutError, Refused, ssl.SSLError, socket.gaierror, ConnectionError.
    """

    def __init__(self, address: Address, *, timeout_s: float = 5.0) -> None:
        """Connect, introduce ourselves and be allowed to publish, all within `timeout_s` after the name is resolved."""
        self._address, self._timeout_s = address, timeout_s
        self._inbox = Inbox()
        self._flv, self._header_seen = bytearray(), False
        self._deadline_s = time.monotonic() + timeout_s
        self._socket: socket.socket = socket.create_connection((address.host, address.port), timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNDERWAY_BYTES)
            if address.scheme == "rtmps":
                secure = ssl.create_default_context()
                self._socket = secure.wrap_socket(self._socket, server_hostname=address.host)
            self._shake_hands()
            self._stream = self._announce()
        except BaseException:
            self._socket.close()
            raise

    def send(self, flv: bytes) -> None:
        """Send the next bytes of an FLV file; what is not a whole tag waits for the rest of it."""
        self._flv += flv
        if not self._header_seen and len(self._flv) >= _FLV_HEADER:
            del self._flv[:_FLV_HEADER]
            self._header_seen = True
        out = bytearray()
        while self._header_seen and len(self._flv) >= _TAG_HEADER:
            kind, size = self._flv[0] & 0x1F, int.from_bytes(self._flv[1:4])
            if len(self._flv) < _TAG_HEADER + size + _TAG_TAIL:
                break
            time_ms = int.from_bytes(self._flv[4:7]) | self._flv[7] << 24
            payload = bytes(self._flv[_TAG_HEADER : _TAG_HEADER + size])
            del self._flv[: _TAG_HEADER + size + _TAG_TAIL]
            if kind == METADATA:
                payload = amf.encode("@setDataFrame") + payload
            out += message(_MEDIA_CHUNKS.get(kind, 4), kind, self._stream, time_ms, payload)
        if out:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(out)
        self._answer()

    def close(self) -> None:
        """Say that the stream ends, then hang up."""
        with suppress(OSError):
            self._socket.settimeout(_GOODBYE_S)
            goodbye = message(3, COMMAND, 0, 0, amf.encode("FCUnpublish", 6, None, self._address.key))
            goodbye += message(3, COMMAND, 0, 0, amf.encode("deleteStream", 7, None, float(self._stream)))
            self._socket.sendall(goodbye)
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def abort(self) -> None:
        """Hang up. Never raises."""
        with suppress(OSError):
            self._socket.close()

    def _shake_hands(self) -> None:
        ours = bytes(8) + os.urandom(_HANDSHAKE - 8)
        self._socket.sendall(b"\x03" + ours)
        version = self._read(1)
        if version != b"\x03":
            raise ConnectionError("what answers there is no RTMP server")
        theirs = self._read(_HANDSHAKE)
        self._socket.sendall(theirs)
        self._read(_HANDSHAKE)

    def _announce(self) -> int:
        address = self._address
        place = f"[{address.host}]" if ":" in address.host else address.host
        self._socket.sendall(message(2, SET_CHUNK_SIZE, 0, 0, struct.pack(">I", SIZE)))
        self._command(
            "connect",
            1,
            {
                "app": address.app,
                "type": "nonprivate",
                "flashVer": "FMLE/3.0 (compatible; liveswap)",
                "tcUrl": f"{address.scheme}://{place}:{address.port}/{address.app}",
            },
        )
        self._await(1)
        self._command("releaseStream", 2, None, address.key)
        self._command("FCPublish", 3, None, address.key)
        self._command("createStream", 4, None)
        stream = self._await(4)
        if not isinstance(stream, float) or not 0 <= stream < 1 << 32:
            raise ConnectionError("the server gives the stream no number")
        self._command("publish", 5, None, address.key, "live", stream=int(stream))
        self._await("NetStream.Publish.Start")
        return int(stream)

    def _command(self, name: str, number: int, *values: amf.Value, stream: int = 0) -> None:
        self._socket.settimeout(self._left_s())
        payload = amf.encode(name, float(number), *values)
        self._socket.sendall(message(3 if not stream else 4, COMMAND, stream, 0, payload))

    def _await(self, wanted: int | str) -> amf.Value:
        """The last value of the answer to a numbered command, or of the status with this code."""
        while True:
            for received in self._inbox.feed(self._receive()):
                self._heed(received)
                if received.kind != COMMAND:
                    continue
                name, number, *values = [*amf.decode(received.payload), None, None]
                answer = next((value for value in reversed(values) if value is not None), None)
                if wanted == number and name == "_result":
                    return answer
                if name == "onStatus" and isinstance(answer, Mapping) and answer.get("code") == wanted:
                    return answer

    def _heed(self, received: Message) -> None:
        """Do what every message of the server asks for. Raises Refused."""
        if received.kind == CONTROL and received.payload[:2] == struct.pack(">H", _PING):
            pong = struct.pack(">H", _PONG) + received.payload[2:6]
            self._socket.sendall(message(2, CONTROL, 0, 0, pong))
        elif received.kind == COMMAND:
            name, number, *values = [*amf.decode(received.payload), None, None]
            about: Mapping[str, amf.Value] = next(filter(_is_object, reversed(values)), {})
            # The answers to 2 and 3 are courtesies: many servers know neither command and say so.
            refused = name == "_error" and number not in (2.0, 3.0)
            if refused or (name == "onStatus" and about.get("level") == "error"):
                raise Refused(str(about.get("description") or about.get("code") or "without a reason"))

    def _answer(self) -> None:
        """Read what the server has said meanwhile, without waiting."""
        self._socket.settimeout(0)
        try:
            data = self._socket.recv(65_536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        finally:
            self._socket.settimeout(self._timeout_s)
        if not data:
            raise ConnectionResetError("the server hung up")
        for received in self._inbox.feed(data):
            self._heed(received)

    def _left_s(self) -> float:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s

    def _receive(self, most: int = 65_536) -> bytes:
        self._socket.settimeout(self._left_s())
        data = self._socket.recv(most)
        if not data:
            raise ConnectionResetError("the server hung up")
        return data

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self._receive(count - len(data))
        return data


def _is_object(value: amf.Value) -> TypeGuard[Mapping[str, amf.Value]]:
    return isinstance(value, Mapping)
