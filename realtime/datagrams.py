"""Sends an MPEG transport stream in datagrams. Bytes in, UDP out, whether or not anybody listens."""

from __future__ import annotations

import ipaddress
import logging
import socket
from urllib.parse import parse_qs, urlsplit

_log = logging.getLogger(__name__)

_PACKET = 188
_DATAGRAM = 7 * _PACKET
"""The most whole packets that pass an Ethernet without being cut."""
_OPTIONS = {"pkt_size": (_PACKET, 65_424), "ttl": (0, 255)}
_MULTICAST_TTL = 16
_FULL_S = 0.2
_BUFFER_BYTES = 1 << 20


class UdpAddress:
    """udp://HOST:PORT[?pkt_size=BYTES&ttl=HOPS]."""

    def __init__(self, url: str) -> None:
        """Raises ValueError with the reason."""
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:  # whose text shows what may be a password
            host, port = None, None
        if not host or not port:
            raise ValueError("it needs a host and a port, as in udp://127.0.0.1:5000")
        options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        for name, value in options.items():
            if name not in _OPTIONS:
                raise ValueError(f"there is no option {name[:30]!r}, only {' and '.join(_OPTIONS)}")
            low, high = _OPTIONS[name]
            if not value.isdecimal() or not low <= int(value) <= high:
                raise ValueError(f"{name} lies between {low} and {high}")
        self.host, self.port = host, port
        self.size = int(options.get("pkt_size", _DATAGRAM)) // _PACKET * _PACKET
        self.ttl = int(options["ttl"]) if "ttl" in options else None


class Datagrams:
    """One receiver, or a group of them. Not thread-safe."""

    def __init__(self, address: UdpAddress) -> None:
        """Raises OSError: socket.gaierror for a host that nobody knows, or when no network leads there."""
        self._size = address.size
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_DGRAM, flags=socket.AI_ADDRCONFIG
        )[0]
        self._place, self._down = place, False
        self._socket = socket.socket(family, kind, protocol)
        try:
            self._socket.settimeout(_FULL_S)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            many = ipaddress.ip_address(place[0]).is_multicast
            ttl = address.ttl if address.ttl is not None else _MULTICAST_TTL if many else None
            if ttl is not None:
                v4 = family == socket.AF_INET
                names = (
                    (socket.IP_MULTICAST_TTL, socket.IP_TTL)
                    if v4
                    else (
                        socket.IPV6_MULTICAST_HOPS,
                        socket.IPV6_UNICAST_HOPS,
                    )
                )
                self._socket.setsockopt(socket.IPPROTO_IP if v4 else socket.IPPROTO_IPV6, names[not many], ttl)
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(place)  # sends nothing, but fails when no network leads there
        except BaseException:
            self._socket.close()
            raise

    def send(self, packets: bytes) -> None:
        """Send whole transport stream packets. A network that is away for a while only costs pictures."""
        for start in range(0, len(packets), self._size):
            try:
                self._socket.sendto(packets[start : start + self._size], self._place)
            except OSError as error:
                if not self._down:
                    _log.warning("datagrams are lost (%s); the stream goes on", error.strerror or error)
                self._down = True
                return
        self._down = False

    def close(self) -> None:
        """Free the socket; safe to call twice."""
        self._socket.close()

    abort = close
