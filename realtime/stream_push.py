"""Carries a stream to a server with FFmpeg, as a program of its own. A container's bytes in, RTMP, RTMPS or SRT out.

Note [Why a program of its own]
    PyAV opens an output while it holds Python's lock: a server that takes the connection and says nothing would stop
    the whole program, with the preview and Ctrl-C. Here it stops only this one, which stream_child.py ends in time.

Note [Why `tee` and `data`]
    FFmpeg's RTMP takes FLV, and its SRT takes MPEG-TS, as the bytes that they are: the muxer `data` writes bytes. PyAV
    (before 19.1) hands no option to a protocol; the muxer `tee` does: time limits, and proof of who the server is.

It is started with the path of this file, so it imports nothing of liveswap. Its input is one line of JSON, an Order;
what happens goes back through the socket as lines of JSON: {"state": "ready"}, {"state": "connected"}, and, when it
fails, {"state": a kind of failure, "reason": text}.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from typing import TypedDict

READY, CONNECTED = "ready", "connected"
UNKNOWN_HOST, NOBODY, SILENT, REFUSED, UNPROVEN, NOT_ENCRYPTED, NO_PROTOCOL, GONE = (
    "unknown host",
    "nobody",
    "silent",
    "refused",
    "unproven",
    "not encrypted",
    "no protocol",
    "gone",
)
"""Kinds of failures."""

_AT_ONCE = 1 << 16
_PACKET = 188
"""Bytes of an MPEG transport stream that belong together."""
_UNDERWAY_BYTES = 1 << 18
"""What the system may hold back for a slow network: more would only be old pictures."""
_REFUSALS = re.compile(r"Server error: (.*)", re.DOTALL)


class Order(TypedDict):
    """What stream_child.py wants."""

    socket: str
    """Where the bytes come from: its number, or on Windows what socket.share() made of it, in base64."""
    url: str
    timeout_s: float


def main() -> None:
    """Do what the order on the standard input says, until the other side closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C means the program that started this one
    order: Order = json.loads(sys.stdin.readline())
    with _opened(order["socket"]) as link:
        _say(link, READY)
        try:
            _push(link, order["url"], order["timeout_s"])
        except _Failed as failed:
            _say(link, *failed.args)
            link.shutdown(socket.SHUT_WR)
            while link.recv(_AT_ONCE):  # until it was heard
                pass


class _Failed(Exception):
    """A kind of failure, and a reason."""


def _push(link: socket.socket, url: str, timeout_s: float) -> None:
    import av
    from av import error as errors
    from av import logging

    logging.set_level(logging.ERROR)
    whole = 1 if url.lower().startswith("rtmp") else _PACKET
    with logging.Capture() as log:
        try:
            container = av.open(_target(url, timeout_s), "w", format="tee")
            stream = container.add_data_stream()
            container.start_encoding()
            _say(link, CONNECTED)
            data, count = bytearray(), 0
            while received := link.recv(_AT_ONCE):
                log.clear()
                data += received
                end = len(data) // whole * whole
                if not end:
                    continue
                packet = av.Packet(bytes(data[:end]))
                del data[:end]
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = count
                container.mux(packet)
                count += 1
        except errors.FFmpegError as error:
            raise _Failed(*_failure_of(error, [(module, text.strip()) for _, module, text in log])) from error
        with suppress(errors.FFmpegError):
            container.close()  # says goodbye


def _target(url: str, timeout_s: float) -> str:
    """What `tee` calls an output with options."""
    scheme = url.partition("://")[0].lower()
    options = {"f": "data", "flush_packets": "1", "rw_timeout": str(round(timeout_s * 1e6))}
    if scheme.startswith("rtmp"):
        options |= {"tcp_nodelay": "1", "send_buffer_size": str(_UNDERWAY_BYTES)}
    if scheme == "rtmps":
        options["tls_verify"] = "1"
        if authorities := ssl.get_default_verify_paths().cafile:
            options["ca_file"] = authorities
    listed = ":".join(f"{name}={_escaped(value)}" for name, value in options.items())
    return _escaped(f"[{listed}]{scheme}://{url.partition('://')[2]}")


def _escaped(text: str) -> str:
    return re.sub(r"([^A-Za-z0-9_])", r"\\\1", text)


def _failure_of(error: Exception, log: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The kind of failure and the reason, from FFmpeg's error and the (module, text) of what it logged."""
    from av import error as errors

    reason = str(getattr(error, "strerror", None) or error)
    texts = {module: text for module, text in reversed(log)}
    answer = next(filter(None, (_REFUSALS.fullmatch(text) for _, text in log)), None)
    opening_tls = any(text.startswith("Cannot open connection tls:") for _, text in log)
    if answer:
        return REFUSED, answer[1]
    if texts.get("tcp", "").startswith("Failed to resolve"):
        return UNKNOWN_HOST, reason
    if isinstance(error, errors.TimeoutError | errors.ExitError):
        return SILENT, reason
    if isinstance(error, errors.ConnectionRefusedError):
        return NOBODY, reason
    if isinstance(error, errors.ProtocolNotFoundError):
        return NO_PROTOCOL, reason
    if opening_tls and "tls" in texts:
        return UNPROVEN if "certificate" in texts["tls"].lower() else NOT_ENCRYPTED, texts["tls"]
    return GONE, "the server hung up" if isinstance(error, errors.EOFError) else reason


def _opened(handle: str) -> socket.socket:
    if sys.platform == "win32":
        return socket.fromshare(base64.b64decode(handle))
    return socket.socket(fileno=int(handle))


def _say(link: socket.socket, state: str, reason: str = "") -> None:
    link.sendall(json.dumps({"state": state, "reason": reason}).encode() + b"\n")


if __name__ == "__main__":
    # The program that started this one may be gone; then nobody is left to be told.
    with suppress(OSError):
        main()
