"""Cuts RTMP messages into chunks and puts them together. Messages in, bytes out, and back.

What is read comes from a stranger: sizes are bounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SIZE = 4096
"""Bytes of the chunks that we send."""
SET_CHUNK_SIZE, CONTROL, COMMAND, METADATA = 1, 4, 20, 18
"""Kinds of messages."""
_LARGEST_MESSAGE, _MOST_CHUNK_STREAMS = 1 << 20, 64
"""Servers say little; more is nonsense."""


def message(chunk_stream: int, kind: int, stream: int, time_ms: int, payload: bytes) -> bytes:
    """One RTMP message, cut into chunks; `time_ms` wraps at 2**32."""
    time_ms &= 0xFFFFFFFF
    short_ms = min(time_ms, 0xFFFFFF)
    extended = struct.pack(">I", time_ms) if short_ms == 0xFFFFFF else b""
    head = bytes([chunk_stream]) + short_ms.to_bytes(3) + len(payload).to_bytes(3) + bytes([kind])
    out = bytearray(head + stream.to_bytes(4, "little") + extended + payload[:SIZE])
    for start in range(SIZE, len(payload), SIZE):
        out += bytes([0xC0 | chunk_stream]) + extended + payload[start : start + SIZE]
    return bytes(out)


@dataclass(frozen=True, slots=True)
class Message:
    """What the server says in one go."""

    kind: int
    payload: bytes


class _Partial:
    """A message of which some chunks are there."""

    def __init__(self) -> None:
        self.size, self.kind, self.extended = 0, 0, False
        self.payload = bytearray()


class Inbox:
    """Puts chunks together. Bytes of a server in, whole messages out, however the network cut them."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._chunk = 128
        self._partials: dict[int, _Partial] = {}

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises ConnectionError for what is no RTMP."""
        self._data += data
        complete = []
        while (taken := self._next()) is not None:
            if taken.kind == SET_CHUNK_SIZE and len(taken.payload) >= 4:
                self._chunk = max(int.from_bytes(taken.payload[:4]) & 0x7FFFFFFF, 1)
            if taken.kind:
                complete.append(taken)
        return complete

    def _next(self) -> Message | None:
        """The message that the next chunk completes, one of kind 0 if it completes none, None without a whole chunk."""
        data = self._data
        if not data:
            return None
        form, chunk_stream = data[0] >> 6, data[0] & 63
        at = 1 + (chunk_stream < 2) + (chunk_stream == 1)
        header = (11, 7, 3, 0)[form]
        if len(data) < at + header:
            return None
        if chunk_stream < 2:
            chunk_stream = 64 + int.from_bytes(data[1:at], "little")
        known = self._partials.get(chunk_stream)
        if (known is None and form == 3) or len(self._partials) > _MOST_CHUNK_STREAMS:
            raise ConnectionError("what answers there does not speak RTMP")
        size, kind, extended = (known.size, known.kind, known.extended) if known else (0, 0, False)
        begun = len(known.payload) if known and form == 3 else 0
        if header:
            extended = data[at : at + 3] == b"\xff\xff\xff"
        if header >= 7:
            size, kind = int.from_bytes(data[at + 3 : at + 6]), data[at + 6]
        at += header + 4 * extended
        if size > _LARGEST_MESSAGE:
            raise ConnectionError("what answers there does not speak RTMP")
        end = at + min(self._chunk, size - begun)
        if len(data) < end:
            return None
        partial = self._partials.setdefault(chunk_stream, _Partial())
        partial.size, partial.kind, partial.extended = size, kind, extended
        partial.payload = (partial.payload if begun else bytearray()) + data[at:end]
        del data[:end]
        if len(partial.payload) < size:
            return Message(0, b"")
        whole, partial.payload = bytes(partial.payload), bytearray()
        return Message(kind, whole)
