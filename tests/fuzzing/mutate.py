"""Damages files as accidents and attackers do. Bytes and chance in, other bytes out."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
WORDS = (
    b"-1", b"0", b"1e999", b"NaN", b"Infinity", b"null", b"true", b'""', b"[]", b"{}", b"[" * 3000, b'{"a":' * 3000,
    b"9" * 400, b"../../../etc/passwd", b"\x00", b"\xff\xfe", b"\\u0000", b"\\ud800", b"A" * 70_000, b"\n", b"\x1b[2J",
)  # fmt: skip
Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def mutate(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """One to eight mutations of `data`; pieces of `others` may come in."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        chance.choice(MUTATIONS)(changed, chance, others)
    return bytes(changed)


def _flip(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    for _each in range(chance.choice((1, 1, 4, 40))):
        if data:
            data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _number(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    width = chance.choice((1, 2, 4, 4, 8))
    if len(data) >= width:
        at = min(_place(data, chance), len(data) - width)
        value = chance.choice(NUMBERS) & (256**width - 1)
        data[at : at + width] = value.to_bytes(width, chance.choice(("little", "big")))


def _truncate(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del data[_place(data, chance) :]


def _remove(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 4, 16, 256, 4096))]


def _repeat(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, chance)
    piece = bytes(data[at : at + chance.choice((1, 8, 64, 1024))])
    data[at:at] = piece * chance.choice((1, 2, 50))


def _insert(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, chance)
    data[at:at] = chance.randbytes(chance.choice((1, 4, 64)))


def _splice(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    if others:
        other = chance.choice(others)
        at, start = _place(data, chance), chance.randrange(len(other) + 1)
        data[at : at + chance.choice((0, 64, 4096))] = other[start : start + chance.choice((16, 512, 8192))]


def _word(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    """A value in a text becomes another one."""
    values = list(re.finditer(rb'"[^"\n]*"|-?[0-9][0-9.eE+-]*', bytes(data[:200_000])))
    at, end = chance.choice(values).span() if values else (_place(data, chance),) * 2
    data[at:end] = chance.choice(WORDS)


def _place(data: bytearray, chance: random.Random) -> int:
    """Anywhere, but more often near the start, where headers are."""
    if not data:
        return 0
    return chance.randrange(min(len(data), chance.choice((32, 512, 1 << 40))))


MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _number, _number, _truncate, _remove, _repeat, _insert, _splice, _word)
