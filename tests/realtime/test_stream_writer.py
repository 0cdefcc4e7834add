"""Over loopback, with real receivers: a UDP socket decoded by PyAV, PyAV's own UDP reader, FFmpeg's RTMP server."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from realtime.errors import LiveswapError, SinkError, UsageError
from realtime.frame import Frame, ImageU8
from realtime.sink import Repeating, TakesSound
from realtime.sound import SoundBlock
from realtime.source import SourceInfo
from realtime.stream_writer import StreamWriter
from tests.clips import ramp, ramp_error
from tests.fakes import info
from tests.receivers import Programme, RtmpServer, UdpReceiver
from tests.rtmp_servers import HangingUp, OwnServer, Plain, Refusing, Stopping
from tests.stream_server import number_of, numbered

SAME_PICTURE_LEVELS = 2.0
"""What H.264 at the stream's own bit rate leaves of a moving ramp (measured: 0.6 at most); colours that are marked with
another matrix than they are made with make 4.4."""
LEAST_PSNR_DB = 34.0
"""Of the brightness of the same pictures (measured: 39); the picture before or after has 12."""
TOGETHER_S = 0.05
"""Nobody notices less between flash and beep; asked for by the issue (measured: 0.00004)."""
SAME_TIME_S = 0.0011
"""FLV counts milliseconds."""
TONE_HZ, SAME_TONE_HZ = 1000, 10
RATE = 48_000
GIL_FREE_S = 0.4
"""A thread that wants to run every 5 ms waits no longer on a busy machine; a held lock would make it the whole time
limit."""


def live(width: int = 64, height: int = 48, fps: int = 30) -> SourceInfo:
    return replace(info(live=True, width=width, height=height), fps=Fraction(fps))


def frame(index: int, image: ImageU8 | None = None, start_s: float = 0.0, fps: float = 30) -> Frame:
    return Frame(ramp(shift=index) if image is None else image, index, 0.0, start_s + index / fps)


def tone(start_s: float, seconds: float, at_s: float, volume: float = 0.5, rate: int = RATE) -> SoundBlock:
    times = start_s + np.arange(round(seconds * rate)) / rate
    return SoundBlock((volume * np.sin(2 * np.pi * TONE_HZ * times)).astype(np.float32)[:, None], rate, at_s)


def psnr_db(seen: ImageU8, wanted: ImageU8) -> float:
    """Of the brightness: where two colours meet, half-size chroma mixes them in any stream."""
    difference = seen.astype(float).mean(2) - wanted.mean(2)
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def shown(programme: Programme) -> list[int]:
    return [number_of(image) for image in programme.images]


@pytest.mark.parametrize(("width", "height", "colour"), [(64, 48, (6, 6, 6, 1)), (640, 640, (1, 1, 1, 1))])
def test_pictures_arrive_in_order_at_their_times_with_their_colours(
    width: int, height: int, colour: tuple[int, int, int, int]
) -> None:
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, replace(live(width, height), colour=None)) as writer:
            for index in range(12):
                writer.send(frame(index, ramp(height, width, 16 * index), start_s=1000.0))
        seen = receiver.programme()
    assert seen.times_s == pytest.approx([index / 30 for index in range(12)], abs=1e-4)
    assert seen.colour == colour
    assert seen.sound is None
    for index, image in enumerate(seen.images):
        assert ramp_error(image, 16 * index) < SAME_PICTURE_LEVELS
        assert psnr_db(image, ramp(height, width, 16 * index)) > LEAST_PSNR_DB


@pytest.mark.parametrize(("sound_is_late_s", "rate"), [(-0.15, 48_000), (-0.02, 44_100), (0.1, 48_000)])
def test_a_flash_and_its_beep_arrive_together_however_late_the_picture_is(sound_is_late_s: float, rate: int) -> None:
    start_s, flashes = 500.0, (0.4, 1.1)
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live(), sound=True) as writer:
            assert isinstance(writer, TakesSound)
            heard = 0.0
            for index in range(45):
                now_s = index / 30
                while heard + 0.02 <= now_s - sound_is_late_s:
                    beeping = any(flash <= heard + 1e-9 < flash + 0.1 for flash in flashes)
                    writer.hear(tone(heard, 0.02, start_s + heard, 0.5 if beeping else 0.0, rate))
                    heard += 0.02
                white = any(flash <= now_s + 1e-9 < flash + 0.1 for flash in flashes)
                writer.send(frame(index, np.full((48, 64, 3), 255 * white, np.uint8), start_s))
                time.sleep(0.001)
        seen = receiver.programme()
    bright = [image.mean() > 127 for image in seen.images]
    flash_s = [seen.times_s[index] for index in range(1, len(bright)) if bright[index] and not bright[index - 1]]
    beep_s = seen.beep_s()
    assert len(flash_s) == 2
    assert beep_s == pytest.approx(flash_s, abs=TOGETHER_S)
    assert abs(seen.tone_hz(beep_s[0], 0.09) - TONE_HZ) < SAME_TONE_HZ


def test_what_belongs_together_is_sent_together_and_the_offset_is_known() -> None:
    with UdpReceiver() as receiver, StreamWriter(receiver.url, live(), sound=True) as writer:
        for index in range(60):
            for step in range(2):
                writer.hear(tone(0, 1 / 60, index / 30 + step / 60 + 0.1))
            writer.send(frame(index))
        assert writer.av_offset_ms is not None
        assert abs(writer.av_offset_ms) < 1000 * TOGETHER_S
        with StreamWriter(receiver.url, live()) as silent:
            assert silent.av_offset_ms is None


def test_sound_that_never_comes_is_silence_that_keeps_up() -> None:
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live(), sound=True) as writer:
            for index in range(45):
                writer.send(frame(index))
                assert writer.av_offset_ms is None or abs(writer.av_offset_ms) < 1000 * TOGETHER_S
        seen = receiver.programme()
    assert seen.sound is not None
    assert np.abs(seen.sound).max() == 0
    assert seen.sound_starts_s + len(seen.sound) / RATE > seen.times_s[-1] - TOGETHER_S


def test_sound_that_pauses_comes_back_in_its_place() -> None:
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live(), sound=True) as writer:
            for index in range(75):
                now_s = index / 15
                if now_s < 1 or now_s >= 3.5:
                    writer.hear(tone(now_s, 1 / 15, now_s))
                writer.send(frame(index, fps=15))
                time.sleep(0.001)
        seen = receiver.programme()
    zero_s = seen.times_s[0]
    assert len(seen.times_s) == 75
    assert seen.level(zero_s + 0.2, zero_s + 0.9) > 0.3
    assert seen.level(zero_s + 1.1, zero_s + 3.4) < 0.001
    assert seen.level(zero_s + 3.7, zero_s + 4.8) > 0.3
    assert seen.beep_s()[-1] - zero_s == pytest.approx(3.5, abs=0.12)  # what was filled ahead is lost at the start


def test_sound_of_before_the_first_picture_is_left_out() -> None:
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live(), sound=True) as writer:
            for step in range(40):
                writer.hear(tone(0, 0.1, 96.0 + step / 10, volume=0.5 if step < 38 else 0.0))
            for index in range(20):
                writer.hear(tone(0, 1 / 30, 100.0 + index / 30, volume=0.0))
                writer.send(frame(index, start_s=100.0))
        seen = receiver.programme()
    assert seen.sound is not None
    assert np.abs(seen.sound).max() < 0.01


def test_without_a_sound_track_sound_is_not_used() -> None:
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live()) as writer:
            writer.hear(tone(0, 1, 0))
            writer.send(frame(0))
            writer.hear(tone(0, 1, 1))
            writer.send(frame(1))
        assert receiver.programme().sound is None


def test_sound_may_come_from_another_thread() -> None:
    over = threading.Event()

    def talk(writer: StreamWriter) -> None:
        step = 0
        while not over.is_set():
            writer.hear(tone(step / 100, 0.01, step / 100))
            step += 1
            time.sleep(0.002)

    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live(), sound=True) as writer:
            thread = threading.Thread(target=talk, args=(writer,))
            thread.start()
            for index in range(30):
                writer.send(frame(index))
                time.sleep(0.005)
            over.set()
            thread.join()
        seen = receiver.programme()
    assert len(seen.images) == 30


@pytest.mark.parametrize("sound", [False, True])
def test_a_picture_is_on_its_way_when_send_returns(sound: bool) -> None:
    with UdpReceiver() as receiver:
        writer = StreamWriter(receiver.url, live(160, 96), sound=sound)
        for index in range(5):
            writer.send(frame(index, numbered(index)))
        assert shown(receiver.programme()) == [0, 1, 2, 3, 4]
        writer.abort()


def test_a_viewer_who_comes_late_sees_a_picture_within_a_second_even_when_few_frames_come() -> None:
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live()) as writer:
            for index in range(20):
                writer.send(frame(index, fps=4))
        seen = receiver.programme()
    assert len(seen.times_s) == 20
    assert max(np.diff([*seen.keys_s, seen.times_s[-1]])) <= 1.0 + 1 / 4


def test_players_can_start_in_the_middle() -> None:
    """PyAV's own UDP reader, opened while the stream runs."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{free.getsockname()[1]}"
    over, started_s = threading.Event(), time.monotonic()

    def stream() -> None:
        with StreamWriter(url, live(160, 96), sound=True) as writer:
            while not over.is_set():
                index = int(30 * (time.monotonic() - started_s))
                writer.hear(tone(index / 30, 1 / 30, index / 30))
                writer.send(frame(index, numbered(index)))
                time.sleep(1 / 30)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        time.sleep(0.3)
        options = {"probesize": "50000", "analyzeduration": "1000000"}
        with av.open(url, format="mpegts", options=options, timeout=10) as player:
            numbers = []
            for picture in player.decode(video=0):
                numbers.append(number_of(np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)))
                if len(numbers) == 10:
                    break
            assert [stream.type for stream in player.streams] == ["video", "audio"]
    finally:
        over.set()
        thread.join()
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 5


def test_a_stall_repeats_the_last_picture_with_growing_times() -> None:
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live(160, 96), sound=True) as writer:
            assert isinstance(writer, Repeating)
            assert writer.repeat_s == 0.5
            writer.repeat()
            began_s = time.monotonic()
            writer.send(frame(3, numbered(3)))
            for _ in range(3):
                time.sleep(0.05)
                writer.repeat()
            took_s = time.monotonic() - began_s
            writer.send(frame(9, numbered(9)))
        seen = receiver.programme()
    assert shown(seen) == [3, 3, 3, 3, 9]
    steps = np.diff(seen.times_s)
    assert (steps[:3] >= 0.049).all()
    assert seen.times_s[3] - seen.times_s[0] <= took_s
    assert steps[3] > 0


def test_times_that_stand_still_or_run_backwards_still_grow() -> None:
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live()) as writer:
            for index, pts_s in enumerate((5.0, 5.0, 5.1, 5.05, 5.2)):
                writer.send(Frame(ramp(shift=index), index, 0.0, pts_s))
        seen = receiver.programme()
    assert seen.times_s == pytest.approx([0, 0.001, 0.1, 0.101, 0.2], abs=1e-4)


def test_a_file_is_streamed_at_its_own_speed() -> None:
    with UdpReceiver() as receiver, StreamWriter(receiver.url, info(live=False)) as writer:
        started = time.monotonic()
        for index in range(16):
            writer.send(frame(index, fps=30))
        assert time.monotonic() - started >= 15 / 30


def test_frames_of_odd_and_other_sizes_fit() -> None:
    with UdpReceiver() as receiver:
        with StreamWriter(receiver.url, live(65, 49)) as writer:
            writer.send(frame(0, ramp(49, 65)))
            writer.send(frame(1, ramp(98, 130)))
            writer.send(frame(2, np.full((49, 200, 3), 255, np.uint8)))
        seen = receiver.programme()
    assert [image.shape for image in seen.images] == [(50, 66, 3)] * 3
    assert seen.images[2][:10].mean() < 20
    assert seen.images[2][23:27].mean() > 235


def test_nobody_needs_to_listen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with StreamWriter(f"udp://127.0.0.1:{port}", live(), sound=True) as writer:
        for index in range(40):
            writer.send(frame(index))
            time.sleep(0.001)


def test_a_stream_that_has_ended_says_so() -> None:
    with UdpReceiver() as receiver:
        writer = StreamWriter(receiver.url, live(), sound=True)
        writer.send(frame(0))
        writer.close()
        writer.close()
        writer.abort()
        writer.hear(tone(0, 1, 0))
        with pytest.raises(SinkError, match="has ended; start it again"):
            writer.send(frame(1))
        StreamWriter(receiver.url, live(), sound=True).close()  # without a single frame


# --- RTMP ---


def test_an_rtmp_server_gets_pictures_and_sound(tmp_path: Path) -> None:
    with RtmpServer(tmp_path) as server:
        with StreamWriter(server.url, live(160, 96), sound=True) as writer:
            for index in range(60):
                writer.hear(tone(index / 30, 1 / 30, 20 + index / 30, volume=0.5 if index >= 30 else 0.0))
                writer.send(frame(index, numbered(index), start_s=20.0))
        seen = server.programme()
    assert shown(seen) == list(range(60))
    assert [time_s - seen.times_s[0] for time_s in seen.times_s] == pytest.approx(
        [index / 30 for index in range(60)], abs=2 * SAME_TIME_S
    )
    assert seen.beep_s() == pytest.approx([seen.times_s[30]], abs=TOGETHER_S)
    assert abs(seen.tone_hz(seen.times_s[35], 0.5) - TONE_HZ) < SAME_TONE_HZ


def test_a_server_that_disappears_is_one_sentence_without_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with RtmpServer(tmp_path, key="topsecret") as server:
        writer = StreamWriter(server.url, live(160, 96))
        send_until(writer, server, "30")
        server.process.kill()
        server.process.wait(10)
        with pytest.raises(SinkError, match=r"rtmp://127\.0\.0\.1:\d+/.* is gone \(.+\); check the server") as error:
            send_on(writer, 5000, 5)
        writer.abort()
    assert "topsecret" not in str(error.value) + caplog.text
    assert "\n" not in str(error.value)


def send_on(writer: StreamWriter, first: int, seconds: float, image: ImageU8 | None = None) -> None:
    until_s, index = time.monotonic() + seconds, first
    while time.monotonic() < until_s:
        writer.send(frame(index, numbered(index % 4096) if image is None else np.roll(image, index, axis=1)))
        index += 1


def send_until(writer: StreamWriter, server: RtmpServer, word: str, image: ImageU8 | None = None) -> None:
    """Send until the server, which looks at a few seconds of a stream first, has got so far."""
    index = 0
    while not server.reached(word):
        writer.send(frame(index, numbered(index % 4096) if image is None else image))
        index += 1
        time.sleep(0.005)


class Ticker:
    """A thread that wants to run all the time, as the preview and Ctrl-C do."""

    def __enter__(self) -> Ticker:
        self.worst_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        last_s = time.monotonic()
        while not self._over.wait(0.005):
            now_s = time.monotonic()
            self.worst_s, last_s = max(self.worst_s, now_s - last_s), now_s


def test_a_server_that_takes_nothing_more_ends_the_stream_in_time() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    with Stopping() as server:
        # One picture a second: each is a whole one, and large.
        writer = StreamWriter(server.url, live(640, 480, fps=1), timeout_s=0.8)
        with pytest.raises(SinkError, match=r"has taken nothing for 0\.8 s; check the server"), Ticker() as ticker:
            send_on(writer, 0, 60, noise)
        writer.abort()
    assert ticker.worst_s < GIL_FREE_S


def test_a_server_that_hangs_up_is_noticed() -> None:
    with HangingUp() as server:
        writer = StreamWriter(server.url, live())
        with pytest.raises(SinkError, match=r"/\*\*\* is gone \(.+\); check the server and the key") as error:
            send_on(writer, 0, 5)
        writer.abort()
    assert "topsecret" not in str(error.value)


def test_a_server_that_says_nothing_neither_hangs_nor_stops_the_program() -> None:
    with OwnServer() as server, Ticker() as ticker:
        started = time.monotonic()
        with pytest.raises(SinkError, match=r"has taken nothing for 0\.6 s"):
            StreamWriter(f"rtmp://127.0.0.1:{server.port}/live/key", live(), timeout_s=0.6)
        assert 0.5 < time.monotonic() - started < 4
    assert ticker.worst_s < GIL_FREE_S


def test_a_server_that_refuses_is_quoted_without_the_key() -> None:
    with Refusing() as server, pytest.raises(SinkError) as error:
        StreamWriter(server.url, live())
    url = f"rtmp://127.0.0.1:{server.port}/live/***"
    assert str(error.value) == f"{url} refuses the stream (busy: *** !); check the key, and who else uses it"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtmp://127.0.0.1:{port}/live/topsecret", "nobody listens at rtmp://127.0.0.1:"),
        ("rtmps://127.0.0.1:{port}/live/topsecret", "nobody listens at rtmps://127.0.0.1:"),
        ("rtmp://nobody.invalid/live/topsecret", "nobody knows the host nobody.invalid"),
        ("udp://nobody.invalid:5000?ttl=3", "nobody knows the host nobody.invalid"),
    ],
)
def test_places_that_cannot_be_reached_are_one_sentence_without_the_key(url: str, expected: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(SinkError, match=expected) as error:
            StreamWriter(url.format(port=free.getsockname()[1]), live())
    assert "topsecret" not in str(error.value)
    assert ";" in str(error.value)


def test_a_user_and_a_password_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="a user and a password before the host") as error:
        StreamWriter("rtmp://somebody:topsecret@127.0.0.1/live/key", live())
    assert "topsecret" not in str(error.value)
    assert "somebody" not in str(error.value)


def test_an_address_that_srt_needs_more_for_says_what() -> None:
    try:
        av.open("srt://127.0.0.1:1?mode=caller&connect_timeout=100", timeout=2)
    except av.error.ProtocolNotFoundError:
        expected = r"srt://127\.0\.0\.1:1 cannot be opened \(Protocol not found\); this PyAV is built without SRT"
    except av.error.FFmpegError:
        expected = r"srt://127\.0\.0\.1:1 "
    with pytest.raises(SinkError, match=expected):
        StreamWriter("srt://127.0.0.1:1", live())


# --- RTMPS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says that we are 127.0.0.1, signed by nobody but itself; its key is in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl, which makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    key = path.with_suffix(".key")
    subprocess.run(
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {path}".split(),
        check=True,
        capture_output=True,
        timeout=30,
    )
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture
def secure(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class Tunnel(OwnServer):
    """Takes TLS and passes on what is inside, both ways."""

    def __init__(self, secure: ssl.SSLContext, port: int) -> None:
        self._port = port
        super().__init__(secure)

    def answer(self, link: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._port), 5) as server:
            link.settimeout(0.002)
            server.settimeout(0.002)
            while True:
                for source, target in ((link, server), (server, link)):
                    try:
                        data = source.recv(65_536)
                    except TimeoutError:
                        continue
                    if not data:
                        return
                    target.settimeout(5)
                    target.sendall(data)
                    target.settimeout(0.002)


def test_an_encrypted_stream_arrives(
    tmp_path: Path, secure: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with RtmpServer(tmp_path) as server:
        inner = int(server.url.split(":")[2].split("/")[0])
        with Tunnel(secure, inner) as tunnel:
            with StreamWriter(f"rtmps://127.0.0.1:{tunnel.port}/live/key", live(160, 96), sound=True) as writer:
                for index in range(20):
                    writer.send(frame(index, numbered(index)))
            assert shown(server.programme()) == list(range(20))


def test_a_server_that_cannot_prove_who_it_is_gets_nothing(secure: ssl.SSLContext) -> None:
    with OwnServer(secure) as server, pytest.raises(SinkError, match="cannot prove who it is"):
        StreamWriter(f"rtmps://127.0.0.1:{server.port}/live/key", live())


def test_a_server_without_encryption_is_one_sentence() -> None:
    with Plain() as server, pytest.raises(LiveswapError, match="is not encrypted as it should be"):
        StreamWriter(f"rtmps://127.0.0.1:{server.port}/live/key", live())
