"""Reads Python's way of writing plain data. Text like "{'x': 1}" in; dictionaries, lists, numbers and text out.

faceswap keeps its metadata as the text of a dictionary. Here nothing is compiled or evaluated: the text is cut into
tokens, and only brackets, text, numbers, None, True and False are tokens. Bytes - its packed masks - become b"".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from realtime.errors import FacesetError

Literal = None | bool | int | float | str | bytes | list["Literal"] | dict[str, "Literal"]

MAX_DEPTH = 12
_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[][{}(),:])
    |(?P<word>None|True|False)
    |(?P<number>[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?)
    |(?P<bytes>b(?:'[^'\\\n]*(?:\\.[^'\\\n]*)*'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"))
    |(?P<text>'[^'\\\n]*(?:\\.[^'\\\n]*)*'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"))""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5}|.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_WORDS = {"None": None, "True": True, "False": False}
_CLOSES = {"[": "]", "(": ")", "{": "}"}


def read_literal(text: str, name: str, *, most_values: int = 200_000) -> Literal:
    """The value that `text` writes down; tuples become lists. `name` is what complaints call the file.

    Raises FacesetError, one sentence, for anything but plain data, for nesting deeper than MAX_DEPTH and for more
    than `most_values` values.
    """
    try:
        return _Reader(text, most_values).read()
    except _Refused as why:
        raise FacesetError(f"{name} holds no plain metadata ({why}); leave it out or get an undamaged copy") from why


class _Refused(Exception):
    """Why a text is not read."""


class _Reader:
    def __init__(self, text: str, most_values: int) -> None:
        self._tokens = self._cut(text)
        self._left = most_values

    def read(self) -> Literal:
        value = self._value(*self._next(), depth=0)
        if self._next()[0] != "end":
            raise _Refused("something follows it")
        return value

    @staticmethod
    def _cut(text: str) -> Iterator[tuple[str, str]]:
        at, text = 0, text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if not match or match.lastgroup is None:
                raise _Refused("it holds what is no plain data")
            yield match.lastgroup, match[match.lastgroup]
            at = match.end()

    def _next(self) -> tuple[str, str]:
        return next(self._tokens, ("end", ""))

    def _value(self, kind: str, token: str, depth: int) -> Literal:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise _Refused("it is nested too deeply" if depth > MAX_DEPTH else "it holds too many values")
        if kind == "word":
            return _WORDS[token]
        if kind == "number":
            return _number(token)
        if kind == "text":
            return _text(token)
        if kind == "bytes":
            return b""
        if token == "{":
            return self._dictionary(depth + 1)
        if token in _CLOSES:
            return self._list(_CLOSES[token], depth + 1)
        raise _Refused("it is cut off" if kind == "end" else "a bracket in it has no partner")

    def _list(self, close: str, depth: int) -> Literal:
        values: list[Literal] = []
        kind, token = self._next()
        while token != close:
            values.append(self._value(kind, token, depth))
            kind, token = self._after_comma(close)
        return values

    def _dictionary(self, depth: int) -> Literal:
        values: dict[str, Literal] = {}
        kind, token = self._next()
        while token != "}":
            if kind != "text":
                raise _Refused("a key in it is no text")
            if self._next() != ("mark", ":"):
                raise _Refused("a key in it has no value")
            values[_text(token)] = self._value(*self._next(), depth=depth)
            kind, token = self._after_comma("}")
        return values

    def _after_comma(self, close: str) -> tuple[str, str]:
        """The token after the next comma, or the bracket that closes."""
        kind, token = self._next()
        if kind == "mark" and token == ",":
            return self._next()
        if kind != "mark" or token != close:
            raise _Refused("it is cut off" if kind == "end" else "a comma in it is missing")
        return kind, token


def _number(token: str) -> int | float:
    return int(token) if token.lstrip("+-").isdigit() else float(token)


def _text(token: str) -> str:
    return _ESCAPE.sub(_unescape, token[1:-1])


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(min(int(code[1:], 16), 0x10FFFF))
    return _ESCAPED.get(code, code)
