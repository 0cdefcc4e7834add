"""RTMP servers that do what servers do on bad days, on loopback. For the tests of stream outputs."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from contextlib import suppress
from typing import Self


class OwnServer:
    """Takes connections on a thread and answers each with `answer`."""

    def __init__(self, secure: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self.port = self._socket.getsockname()[1]
        self.url = f"rtmp://127.0.0.1:{self.port}/live/topsecret"
        self.over, self.reached, self.left = threading.Event(), threading.Event(), threading.Event()
        self.received = bytearray()
        self._secure = secure
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._socket.close()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with suppress(OSError):
            link = self._socket.accept()[0]
            with link:
                link.settimeout(5)
                if self._secure is None:
                    self.answer(link)
                    return
                with self._secure.wrap_socket(link, server_side=True) as inside:
                    self.answer(inside)

    def answer(self, link: socket.socket) -> None:
        """Say nothing until the other side hangs up."""
        self.reached.set()
        while link.recv(65_536):
            pass
        self.left.set()


def amf(*values: str | float | dict[str, str] | None) -> bytes:
    """AMF0, in which RTMP servers answer."""
    out = b""
    for value in values:
        if isinstance(value, dict):
            fields = (struct.pack(">H", len(name)) + name.encode() + amf(text) for name, text in value.items())
            out += b"\x03" + b"".join(fields) + b"\x00\x00\x09"
        elif isinstance(value, str):
            out += b"\x02" + struct.pack(">H", len(value)) + value.encode()
        else:
            out += b"\x05" if value is None else struct.pack(">Bd", 0, value)
    return out


class Answering(OwnServer):
    """Takes part in an RTMP conversation up to the answer to `publish`."""

    level, code, description = "status", "NetStream.Publish.Start", "go on"

    def answer(self, link: socket.socket) -> None:
        def hear_until(mark: bytes) -> None:
            while mark not in heard:
                heard.extend(_heard(link))
            del heard[: heard.index(mark)]

        def say(*values: str | float | dict[str, str] | None) -> None:
            payload = amf(*values)
            assert len(payload) <= 128, "more than one chunk"
            link.sendall(bytes([3, 0, 0, 0]) + len(payload).to_bytes(3) + bytes([20, 0, 0, 0, 0]) + payload)

        heard = bytearray()
        while len(heard) < 1537:
            heard += _heard(link)
        link.sendall(heard[:1537] + heard[1:1537])
        hear_until(amf("connect"))
        say("_result", 1.0, None, None)
        hear_until(amf("createStream"))
        say("_result", 4.0, None, 1.0)
        hear_until(amf("publish"))
        say("onStatus", 0.0, None, {"level": self.level, "code": self.code, "description": self.description})
        self.reached.set()
        self.serve(link)

    def serve(self, link: socket.socket) -> None:
        """Take the stream until the other side hangs up."""
        while data := link.recv(65_536):
            self.received += data
        self.left.set()


def _heard(link: socket.socket) -> bytes:
    data = link.recv(65_536)
    if not data:
        raise ConnectionError("the other side has left")
    return data


class Refusing(Answering):
    """Knows the stream already."""

    level, code, description = "error", "NetStream.Publish.BadName", "busy: topsecret\n!"


class Stopping(Answering):
    """Reads nothing more once the stream begins."""

    def serve(self, link: socket.socket) -> None:
        self.over.wait(30)


class HangingUp(Answering):
    """Goes away in order, once the stream begins."""

    def serve(self, link: socket.socket) -> None:
        link.recv(65_536)


class Plain(OwnServer):
    """Answers TLS with something else."""

    def answer(self, link: socket.socket) -> None:
        link.sendall(b"\x03" + bytes(1536))
        super().answer(link)
