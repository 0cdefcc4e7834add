from __future__ import annotations

import pytest

from realtime.errors import UsageError
from realtime.stream_link import check_url


@pytest.mark.parametrize(
    "url",
    [
        "rtmp://host/live/key",
        "rtmps://host/app/a-b?s=1&t=2",
        "RTMP://host:99/app/instance/key",
        "rtmp://host/one",
        "rtmp://[::1]:1936/live/key",
        "srt://host:9000?mode=caller",
        "udp://127.0.0.1:5000?ttl=3",
    ],
)
def test_addresses_that_can_be_are_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtmp:///live/key", "no host"),
        ("rtmp://host", "no application"),
        ("rtmp://me:secret@host/live/key", "a user and a password"),
        ("rtmp://host:port/live/secret", "port is no number"),
        ("udp://host", "a host and a port"),
        ("http://host/live", "goes to udp://, srt://, rtmp://, rtmps://"),
    ],
)
def test_addresses_that_cannot_be_say_why_without_secrets(url: str, expected: str) -> None:
    with pytest.raises(UsageError, match=f"{expected}.*; correct --sink") as error:
        check_url(url)
    assert "secret" not in str(error.value)
