"""Speaks AMF0, the language of RTMP commands. Numbers, texts and dictionaries in, bytes out, and back.

What is read comes from a stranger: it is bounded in size and depth, and nothing in it is ever run.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

Value = float | bool | str | None | Mapping[str, "Value"]

_NUMBER, _BOOL, _TEXT, _OBJECT, _NULL, _UNDEFINED, _MAP, _END, _ARRAY, _DATE, _LONG_TEXT = (
    0,
    1,
    2,
    3,
    5,
    6,
    8,
    9,
    10,
    11,
    12,
)
_DEEPEST = 8


def encode(*values: Value) -> bytes:
    """The values one after the other."""
    return b"".join(map(_encode, values))


def _encode(value: Value) -> bytes:
    if value is None:
        return bytes([_NULL])
    if isinstance(value, bool):
        return bytes([_BOOL, value])
    if isinstance(value, str):
        return bytes([_TEXT]) + _text(value)
    if isinstance(value, Mapping):
        fields = b"".join(_text(name) + _encode(each) for name, each in value.items())
        return bytes([_OBJECT]) + fields + bytes([0, 0, _END])
    return struct.pack(">Bd", _NUMBER, value)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def decode(data: bytes) -> list[Value]:
    """The values in `data`; what is not AMF0 ends the list."""
    reader, values = _Reader(data), list[Value]()
    try:
        while reader.at < len(data):
            values.append(reader.value(0))
    except (struct.error, ValueError):
        pass
    return values


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def value(self, depth: int) -> Value:
        """The next value. Raises ValueError or struct.error when there is none that can be read."""
        if depth > _DEEPEST:
            raise ValueError("too deep")
        kind = self._number(">B")
        if kind == _NUMBER:
            return float(self._number(">d"))
        if kind == _BOOL:
            return bool(self._number(">B"))
        if kind == _TEXT:
            return self._text(">H")
        if kind == _LONG_TEXT:
            return self._text(">I")
        if kind in (_NULL, _UNDEFINED):
            return None
        if kind == _DATE:
            date = float(self._number(">d"))
            self._number(">h")
            return date
        if kind == _ARRAY:
            return {str(index): self.value(depth + 1) for index in range(min(int(self._number(">I")), len(self._data)))}
        if kind == _MAP:
            self._number(">I")
        elif kind != _OBJECT:
            raise ValueError(f"no AMF0 value starts with {kind}")
        return self._fields(depth)

    def _fields(self, depth: int) -> dict[str, Value]:
        fields: dict[str, Value] = {}
        while True:
            name = self._text(">H")
            if not name and self._data[self.at : self.at + 1] == bytes([_END]):
                self.at += 1
                return fields
            fields[name] = self.value(depth + 1)

    def _number(self, code: str) -> float:
        number: float = struct.unpack_from(code, self._data, self.at)[0]
        self.at += struct.calcsize(code)
        return number

    def _text(self, code: str) -> str:
        size = int(self._number(code))
        if size > len(self._data) - self.at:
            raise ValueError("cut off")
        text = self._data[self.at : self.at + size].decode("utf-8", "replace")
        self.at += size
        return text
