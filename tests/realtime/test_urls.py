from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.urls import redact, redact_within

SECRETS = st.text(string.ascii_letters + string.digits, min_size=8, max_size=40).map("Zq9".__add__)
"""Nothing else in the addresses below contains one of them."""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.7:554/stream1", "rtsp://10.0.0.7:554/stream1"),
        ("rtsp://admin:secret@10.0.0.7:554/stream1", "rtsp://***@10.0.0.7:554/stream1"),
        ("rtsp://admin@cam/x", "rtsp://***@cam/x"),
        ("rtsp://cam/x?tcp", "rtsp://cam/x?tcp"),
        ("rtsp://cam/x?channel=1&subtype=0&token=abc", "rtsp://cam/x?channel=1&subtype=0&token=***"),
        ("https://host/live/index.m3u8?sig=abc&secretflag", "https://host/live/index.m3u8?sig=***&***"),
        ("http://host/d41d8cd98f00b204e9800998ecf8427e/x.ts", "http://host/***/x.ts"),
        ("http://host/x.ts#t=secret", "http://host/x.ts#***"),
        ("udp://@239.0.0.1:1234?pkt_size=1316", "udp://***@239.0.0.1:1234?pkt_size=1316"),
        ("srt://host:9000?streamid=#!::r=live,u=me,p=secret", "srt://host:9000?streamid=***#***"),
        ("srt://host:9000?mode=caller&passphrase=secret", "srt://host:9000?mode=caller&passphrase=***"),
        ("rtmp://a.rtmp.youtube.com/live2/abcd-efgh", "rtmp://a.rtmp.youtube.com/live2/***"),
        ("rtmps://host:443/rtmp/FB-1?s_bl=1", "rtmps://host:443/rtmp/***?s_bl=***"),
        ("a video.mp4", "a video.mp4"),
    ],
)
def test_an_address_keeps_what_helps_and_loses_what_is_secret(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://user:pa/Zq9ss@host/x",
        "rtsp://user:p@Zq9ss@host/x",
        "rtsp://user:p?Zq9ss@host/x",
        "rtsp://user:p#Zq9ss@host/x",
        "rtsp://user:123?Zq9@456@host/x",
        "rtsp://Zq9:@host/x",
        "http://host/x?user=a&password=b@Zq9",
        "http://host/x?password=Zq9#y",
        "RTMP://host/app/Zq9",
    ],
)
def test_a_password_with_odd_characters_stays_hidden(url: str) -> None:
    assert "Zq9" not in redact(url)


@given(SECRETS, SECRETS, SECRETS, st.sampled_from(["rtsp", "http", "https", "srt", "rtmp", "udp"]))
def test_no_secret_is_ever_shown(user: str, password: str, token: str, scheme: str) -> None:
    shown = redact(f"{scheme}://{user}:{password}@host:99/live?key={token}&fps=25#{token}")
    assert not any(secret in shown for secret in (user, password, token))
    assert "host:99/live" in shown


@given(st.text())
def test_whatever_was_typed_gives_a_text(text: str) -> None:
    assert isinstance(redact(text), str)
    assert isinstance(redact("rtsp://" + text), str)


def test_what_somebody_typed_is_repeated_without_its_secrets() -> None:
    typed = "got ['rtmp://h/live/Zq9', \"rtsp://u:Zq9@h/x?token=Zq9\"] and a.mp4"
    assert redact_within(typed) == "got ['rtmp://h/live/***', \"rtsp://***@h/x?token=***\"] and a.mp4"
