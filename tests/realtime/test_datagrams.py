from __future__ import annotations

import logging
import socket

import pytest

from realtime.datagrams import Datagrams, UdpAddress

PACKET = 188


@pytest.mark.parametrize(("options", "sizes"), [("", [1316, 1316, 376]), ("?pkt_size=500", [376] * 8)])
def test_datagrams_hold_whole_packets_and_nothing_waits(options: str, sizes: list[int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        out = Datagrams(UdpAddress(f"udp://127.0.0.1:{receiver.getsockname()[1]}{options}"))
        out.send(bytes(16 * PACKET))
        assert [len(receiver.recv(65_536)) for _ in sizes] == sizes
        out.close()
        out.abort()


def test_a_group_gets_as_far_as_the_address_says() -> None:
    try:
        near, far = (Datagrams(UdpAddress(f"udp://239.1.2.3:5000{options}")) for options in ("?ttl=0", ""))
    except OSError:
        pytest.skip("no network leads to groups here")
    assert near._socket.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 0
    assert far._socket.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 16
    near.close()
    far.close()


def test_a_network_that_goes_away_costs_pictures_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    out = Datagrams(UdpAddress("udp://127.0.0.1:5000?pkt_size=65424"))
    out._place = ("255.255.255.255", 5000)  # what may not be sent to, as when the network is gone
    for _ in range(3):
        out.send(bytes(PACKET))
    out.close()
    assert caplog.text.count("datagrams are lost") == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("udp://127.0.0.1", "a host and a port"),
        ("udp://:5000", "a host and a port"),
        ("udp://127.0.0.1:0", "a host and a port"),
        ("udp://127.0.0.1:99999", "a host and a port"),
        ("udp://127.0.0.1:5000?ttl=300", "ttl lies between 0 and 255"),
        ("udp://127.0.0.1:5000?pkt_size=x", "pkt_size lies between"),
        ("udp://127.0.0.1:5000?fifo_size=3", "no option 'fifo_size', only pkt_size and ttl"),
    ],
)
def test_addresses_that_cannot_be_say_why(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        UdpAddress(url)
