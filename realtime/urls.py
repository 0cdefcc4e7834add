"""Hides what is secret in an address. A URL in, the same without passwords, keys and tokens out: for names and logs."""

from __future__ import annotations

import re

HIDDEN = "***"

_PUBLIC = frozenset(
    [
        "audio",
        "bitrate",
        "buffer_size",
        "channel",
        "codec",
        "fifo_size",
        "fps",
        "format",
        "height",
        "latency",
        "listen",
        "localaddr",
        "mode",
        "multicast",
        "overrun_nonfatal",
        "pkt_size",
        "profile",
        "quality",
        "rcvbuf",
        "reuse",
        "size",
        "sndbuf",
        "stream",
        "subtype",
        "tcp",
        "timeout",
        "track",
        "transport",
        "transtype",
        "ttl",
        "udp",
        "unicast",
        "video",
        "width",
    ]
)
"""What may be read in a query; whatever else has a value is hidden, because nobody knows all names of a token."""
_TOKEN = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_~=.-]{20,}")
"""A part of a path that a machine made: many services put the key there."""


def redact(url: str) -> str:
    """`url` without user, password, tokens in the query or the path, and the stream key of RTMP; never raises.

    Where an address is so unusual that nobody can say where the password ends, more is hidden rather than less.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    address, fragment_mark, _ = rest.partition("#")
    place, query_mark, query = address.partition("?")
    tail = rest[len(place) :]
    if "@" in place:
        place = f"{HIDDEN}@{place.rpartition('@')[2]}"
    elif "@" in tail and re.match(r"[^/]*:(?!\d{1,5}(/|$))", place):
        return f"{scheme}://{HIDDEN}"  # a password with ? or # in it
    host, slash, path = place.partition("/")
    parts = path.split("/")
    if scheme.lower().startswith("rtmp"):
        parts = [parts[0], *(HIDDEN if part else "" for part in parts[1:])]
    else:
        parts = [HIDDEN if _TOKEN.fullmatch(part) else part for part in parts]
    shown = f"{scheme}://{host}{slash}{'/'.join(parts)}"
    if query_mark:
        shown += "?" + "&".join(_field(field) for field in query.split("&"))
    return shown + (f"#{HIDDEN}" if fragment_mark else "")


def redact_within(text: str) -> str:
    """`text` with every address in it redacted, for messages that repeat what somebody typed."""
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+", lambda found: redact(found[0]), text)


def _field(field: str) -> str:
    name, mark, value = field.partition("=")
    if name.lower() in _PUBLIC and len(value) <= 16:
        return field
    return f"{name}={HIDDEN}" if mark else HIDDEN
