"""Starts stream_push.py and hands bytes to it, never longer than a time limit. A container's bytes in, failures out."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from realtime import stream_push
from realtime.stream_push import CONNECTED, GONE, READY, SILENT, Order

_START_S = 30.0
"""A busy machine may need seconds to start a program; that is no fault of the server."""
_END_S = 5.0
_ANSWER_BYTES = 4096
_ENDED = "the program that carries it has ended"


class PushError(OSError):
    """The stream cannot go on; `kind` is one of stream_push.py's kinds of failures, the text is the reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class StreamChild:
    """One stream on its way to one server, by a program of its own. Not thread-safe. Every method raises PushError."""

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        """Connect to rtmp://, rtmps:// or srt://, within `timeout_s` once the program runs."""
        self._timeout_s = timeout_s
        self._heard = bytearray()
        self._socket, theirs = socket.socketpair()
        self._child: subprocess.Popen[bytes] | None = None
        try:
            with theirs:
                self._start(theirs, url)
            self._await(READY, _START_S)
            self._await(CONNECTED, timeout_s)
        except OSError as error:
            self.abort()
            raise _failure_of(error) from error
        except BaseException:
            self.abort()
            raise

    def send(self, data: bytes) -> None:
        """Hand over the next bytes of the container."""
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
            self._socket.settimeout(0)
            with suppress(BlockingIOError):
                if self._listen() is None:
                    raise PushError(GONE, _ENDED)
        except OSError as error:
            raise _failure_of(error) from error

    def close(self) -> None:
        """Have the rest sent and goodbye said, then end the program."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            self._await(None, self._timeout_s)
        except OSError as error:
            raise _failure_of(error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Hang up, end the program. Never raises; safe to call twice."""
        self._socket.close()
        if self._child is not None:
            self._child.kill()
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(_END_S)

    def _start(self, theirs: socket.socket, url: str) -> None:
        # The address holds the key: it is written into the program, where no list of processes shows it.
        inherited = () if sys.platform == "win32" else (theirs.fileno(),)
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(Path(stream_push.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=inherited,
        )
        if sys.platform == "win32":
            handle = base64.b64encode(theirs.share(self._child.pid)).decode()
        else:
            handle = str(theirs.fileno())
        order: Order = {"socket": handle, "url": url, "timeout_s": self._timeout_s}
        assert self._child.stdin is not None
        with self._child.stdin as pipe:
            pipe.write(json.dumps(order).encode() + b"\n")

    def _await(self, state: str | None, within_s: float) -> None:
        """Wait until the program says so, or, with None, until it ends."""
        until_s = time.monotonic() + within_s
        while True:
            self._socket.settimeout(max(until_s - time.monotonic(), 0.001))
            said = self._listen()
            if said is None and state is not None:
                raise PushError(GONE, _ENDED)
            if said == state:
                return

    def _listen(self) -> str | None:
        """The next state that the program tells, None after its end. Raises OSError: its failure, or the socket's."""
        while b"\n" not in self._heard:
            answer = self._socket.recv(_ANSWER_BYTES)
            if not answer:
                return None
            self._heard += answer
        line, _, rest = bytes(self._heard).partition(b"\n")
        self._heard = bytearray(rest)
        said: dict[str, str] = json.loads(line)
        if said["state"] not in (READY, CONNECTED):
            raise PushError(said["state"], said["reason"])
        return said["state"]


def _failure_of(error: OSError) -> PushError:
    if isinstance(error, PushError):
        return error
    if isinstance(error, TimeoutError):
        return PushError(SILENT, "timed out")
    return PushError(GONE, error.strerror or str(error))
