"""The program that carries a stream, from outside; whole streams through it are in test_stream_writer.py."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import realtime
from realtime import stream_push
from realtime.stream_child import PushError, StreamChild
from tests.rtmp_servers import Answering, OwnServer, amf

FLV_HEADER = b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"
ROOT = str(Path(realtime.__file__).parents[1])
PACKET = 188


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_list_of_processes_shows_the_key() -> None:
    with Answering() as server:
        assert "topsecret" in server.url
        child = StreamChild(server.url)
        assert child._child is not None
        place = Path(f"/proc/{child._child.pid}")
        assert b"stream_push.py" in (place / "cmdline").read_bytes()
        assert b"topsecret" not in (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        child.abort()


def test_the_server_gets_what_was_sent_last_and_a_goodbye() -> None:
    tag = b"\x09\x00\x00\x05" + bytes(7) + b"hello" + b"\x00\x00\x00\x10"
    with Answering() as server:
        child = StreamChild(server.url)
        for byte in FLV_HEADER + tag:
            child.send(bytes([byte]))
        child.close()
        assert server.left.wait(5)
        assert b"hello" in server.received
        assert server.received.index(b"hello") < server.received.index(amf("deleteStream"))


def test_a_transport_stream_goes_out_in_whole_packets() -> None:
    data = bytes(range(PACKET)) * 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        child = StreamChild(f"udp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=1316")
        for start in range(0, len(data), 301):
            child.send(data[start : start + 301])
        received = b""
        while len(received) < len(data):
            datagram = receiver.recv(65_536)
            assert len(datagram) in range(PACKET, 1317, PACKET)
            received += datagram
        child.close()
    assert received == data


@pytest.mark.parametrize("server", [Answering, OwnServer])
def test_it_ends_when_the_program_that_started_it_is_killed(server: type[OwnServer]) -> None:
    """The second server says nothing: FFmpeg itself has to give up."""
    code = "import sys; from realtime.stream_child import StreamChild; "
    code += "child = StreamChild(sys.argv[1], timeout_s=1.0); sys.stdin.read()"
    with server() as target:
        program = subprocess.Popen([sys.executable, "-c", code, target.url], stdin=subprocess.PIPE, cwd=ROOT)
        assert program.stdin is not None
        with program.stdin:
            assert target.reached.wait(20)
            program.kill()
            program.wait(10)
            assert target.left.wait(5)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_ctrl_c_means_the_program_that_started_it() -> None:
    with Answering() as server:
        child = StreamChild(server.url)
        assert child._child is not None
        child._child.send_signal(signal.SIGINT)
        child.send(FLV_HEADER)
        child.close()


def test_when_it_ends_by_itself_the_stream_is_gone() -> None:
    with Answering() as server:
        child = StreamChild(server.url)
        assert child._child is not None
        child._child.kill()
        with pytest.raises(PushError) as error:
            _send_on(child)
        assert error.value.kind == stream_push.GONE
        child.abort()
        child.abort()


def _send_on(child: StreamChild) -> None:
    until_s = time.monotonic() + 5
    while time.monotonic() < until_s:
        child.send(FLV_HEADER)
