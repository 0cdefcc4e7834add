"""RTMP's commands, chunks and addresses by hand; whole streams to a real server are in test_stream_writer.py."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime import amf
from realtime.rtmp import Address
from realtime.rtmp_chunks import COMMAND, SET_CHUNK_SIZE, SIZE, Inbox, Message, message

TEXT = st.text(max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=5))
def test_what_is_said_is_understood(values: list[amf.Value]) -> None:
    assert amf.decode(amf.encode(*values)) == values


@given(st.binary(max_size=200))
def test_whatever_a_stranger_says_is_read_or_left(data: bytes) -> None:
    assert isinstance(amf.decode(data), list)


def test_every_kind_of_value_that_servers_send_is_understood() -> None:
    ecma_array = b"\x08" + struct.pack(">I", 1) + b"\x00\x01a" + amf.encode(1.0) + b"\x00\x00\x09"
    strict_array = b"\x0a" + struct.pack(">I", 2) + amf.encode("x", None)
    date = b"\x0b" + struct.pack(">dh", 5.0, 0)
    long_text = b"\x0c" + struct.pack(">I", 3) + b"abc"
    values = amf.decode(ecma_array + strict_array + date + long_text + b"\x06")
    assert values == [{"a": 1.0}, {"0": "x", "1": None}, 5.0, "abc", None]


def test_what_is_nested_too_deep_ends_the_reading() -> None:
    assert amf.decode(amf.encode(1.0) + b"\x03\x00\x01a" * 10_000) == [1.0]


def test_a_command_looks_as_the_specification_draws_it() -> None:
    assert amf.encode("connect", 1.0, {"app": "live"}, True, None) == bytes.fromhex(
        "02 0007 636f6e6e656374 00 3ff0000000000000 03 0003 617070 02 0004 6c697665 000009 01 01 05"
    )


def test_a_short_message_is_one_chunk() -> None:
    assert message(3, COMMAND, 1, 0x010203, b"abc") == bytes.fromhex("03 010203 000003 14 01000000 616263")


@given(st.integers(0, 2**32 - 1), st.integers(0, 3 * SIZE), st.integers(1, 5000))
def test_messages_survive_chunks_however_the_network_cuts_them(time_ms: int, size: int, cut: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    said = message(2, SET_CHUNK_SIZE, 0, 0, struct.pack(">I", SIZE))
    said += message(6, 9, 1, time_ms, payload) + message(3, COMMAND, 0, 0, b"after")
    inbox, received = Inbox(), list[Message]()
    for start in range(0, len(said), cut):
        received += inbox.feed(said[start : start + cut])
    assert received[1:] == [Message(9, payload), Message(COMMAND, b"after")]


def test_short_headers_refer_to_the_message_before() -> None:
    first = bytes.fromhex("05 000000 000004 14 00000000") + b"abcd"
    same_stream = bytes.fromhex("45 000001 000002 08") + b"ef"
    same_kind_and_size = bytes.fromhex("85 000001") + b"gh"
    same_all = bytes.fromhex("c5") + b"ij"
    far_stream = bytes.fromhex("00 10 000000 000001 14 00000000") + b"k"
    farther_stream = bytes.fromhex("01 10 01 000000 000001 14 00000000") + b"l"
    received = Inbox().feed(first + same_stream + same_kind_and_size + same_all + far_stream + farther_stream)
    assert [each.payload for each in received] == [b"abcd", b"ef", b"gh", b"ij", b"k", b"l"]
    assert [each.kind for each in received] == [0x14, 8, 8, 8, 0x14, 0x14]


@pytest.mark.parametrize(
    "nonsense", [b"\xc5abc", bytes.fromhex("05 000000 ffffff 14 00000000"), b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
def test_what_is_no_rtmp_is_said_to_be_none(nonsense: bytes) -> None:
    with pytest.raises(ConnectionError, match="does not speak RTMP"):
        Inbox().feed(nonsense)


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_server_can_make_the_inbox_fail_otherwise(pieces: list[bytes]) -> None:
    inbox = Inbox()
    with suppress(ConnectionError):
        for piece in pieces:
            for each in inbox.feed(piece):
                assert len(each.payload) <= sum(map(len, pieces))


@pytest.mark.parametrize(
    ("url", "port", "app", "key"),
    [
        ("rtmp://host/live/key", 1935, "live", "key"),
        ("rtmps://host/app/a-b?s=1&t=2", 443, "app", "a-b?s=1&t=2"),
        ("RTMP://host:99/app/instance/key", 99, "app/instance", "key"),
        ("rtmp://host/one", 1935, "one", ""),
        ("rtmp://[::1]:1936/live/key", 1936, "live", "key"),
    ],
)
def test_addresses_are_split_as_ffmpeg_splits_them(url: str, port: int, app: str, key: str) -> None:
    address = Address.parse(url)
    assert (address.port, address.app, address.key) == (port, app, key)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtmp:///live/key", "no host"),
        ("rtmp://host", "no application"),
        ("rtmp://me:secret@host/live/key", "a user and a password"),
        ("rtmp://host:secret/live/key", "port is no number"),
    ],
)
def test_addresses_that_cannot_be_say_why_without_secrets(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as error:
        Address.parse(url)
    assert "secret" not in str(error.value)
