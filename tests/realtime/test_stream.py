from __future__ import annotations

import gc
import itertools
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from realtime.capture import open_source
from realtime.errors import SourceError
from realtime.frame import Frame
from realtime.sound import SoundBlock, Sounding
from realtime.steady_source import SteadySource
from realtime.stream import Stream
from realtime.stream_tap import Tap
from realtime.video_file import bgr_image
from tests.clips import write_clip
from tests.stream_server import (
    FPS,
    SIZE,
    HttpServer,
    RtspServer,
    Station,
    UdpSender,
    free_port,
    number_of,
    numbered,
    signal,
)

LIVE_EDGE_S = 0.4
"""RTSP shows a picture one picture after its moment, MPEG-TS two, with sound up to four: 20 to 80 ms (measured). The
rest is for a busy machine; what a server kept is 2 s old."""
SHORT_S = 0.5
"""Instead of the 4 s for which a stream may be silent."""
SOUND_S = 0.002
"""Sound and picture have times of their own, related in RTSP by the wall clock (measured: less than 0.1 ms)."""


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No thread and no socket of a stream or a server outlives a test."""
    before = left()
    yield
    for _ in range(20):
        gc.collect()
        if left() <= before:
            return
        time.sleep(0.05)
    assert left() <= before


def left() -> tuple[int, int]:
    """How many threads this process has, FFmpeg's own among them, and how many sockets."""
    if sys.platform != "linux":
        return threading.active_count(), 0
    sockets = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            sockets += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:  # the one that listed the folder
            continue
    return len(os.listdir("/proc/self/task")), sockets


@pytest.fixture(params=["http", "rtsp", "rtsp over udp", "udp"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def on_air(kind: str, station: Station) -> tuple[HttpServer | RtspServer | UdpSender, str]:
    """A server of this kind, and its address."""
    if kind == "http":
        http = HttpServer(station)
        return http, http.url()
    if kind == "udp":
        sender = UdpSender(station, free_port())
        return sender, sender.url
    rtsp = RtspServer(station)
    return rtsp, rtsp.url() + ("?udp" if "udp" in kind else "")


def take(source: Stream | SteadySource, count: int) -> list[Frame]:
    return list(itertools.islice(source, count))


def test_every_kind_of_stream_delivers_its_pictures_in_order(kind: str) -> None:
    station = Station()
    server, url = on_air(kind, station)
    with server, Stream(url) as stream:
        frames = take(stream, 20)
    assert (stream.info.width, stream.info.height, stream.info.live) == (*SIZE, True)
    assert stream.info.fps == FPS
    assert stream.info.frames is None
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers == sorted(set(numbers))
    first = frames[0]
    for frame, number in zip(frames, numbers, strict=True):
        assert frame.index - first.index == number - numbers[0], "a gap in index is a picture that was left out"
        assert frame.pts_s - first.pts_s == pytest.approx((number - numbers[0]) / FPS, abs=0.001)
        error = np.abs(frame.image.astype(int) - numbered(number)).mean()
        assert error < 4, "what H.264 at crf 18 leaves on sharp stripes (measured: 1.5)"


@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_the_reader_stays_at_the_live_edge_whatever_the_server_kept(kind: str) -> None:
    station = Station(backlog=2 * FPS, gop=FPS)
    station.on_air_s -= 2
    server, url = on_air(kind, station)
    with server, Stream(url) as stream:
        frames = take(stream, 12)
        time.sleep(0.6)  # a reader who is away comes back to the newest picture
        later = take(stream, 6)
    assert all(station.lateness_s(each.image, each.captured_s) < LIVE_EDGE_S for each in frames[2:])
    assert sum(station.lateness_s(each.image, each.captured_s) > LIVE_EDGE_S for each in later) <= 1
    assert later[-1].index - frames[-1].index >= 0.5 * FPS


def test_pictures_that_look_ahead_come_in_order() -> None:
    with HttpServer(Station(b_frames=2, gop=25)) as server, Stream(server.url()) as stream:
        numbers = [number_of(frame.image) for frame in take(stream, 25)]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_sound_comes_with_the_pictures_and_in_their_time(kind: str) -> None:
    station = Station(sound=True)
    server, url = on_air(kind, station)
    blocks: list[SoundBlock] = []
    with server, Stream(url) as stream:
        assert isinstance(stream, Sounding)
        assert stream.has_sound
        stream.listen(blocks.append)
        frames = take(stream, 35)
    assert {(block.rate, block.samples.shape[1]) for block in blocks} == {(48_000, 1)}
    for one, other in itertools.pairwise(blocks[1:]):
        assert other.pts_s - one.pts_s == pytest.approx(one.seconds, abs=0.001)
    zero_s = frames[0].pts_s - number_of(frames[0].image) / FPS
    assert abs(delay_s(blocks[2:], zero_s)) < SOUND_S
    assert blocks[-1].pts_s == pytest.approx(frames[-1].pts_s, abs=0.3)


def delay_s(blocks: list[SoundBlock], zero_s: float) -> float:
    """How much later than its pts_s the signal of the station sounds, to 1/12 ms; `zero_s`: pts_s of its beginning."""
    every, reach = 4, 600
    heard = np.concatenate([block.samples[:, 0] for block in blocks])[::every]
    places = np.arange(-reach, len(heard) + reach) * every / blocks[0].rate
    likeness = np.correlate(signal(blocks[0].pts_s - zero_s + places), heard, "valid")
    best = int(likeness.argmax())
    assert likeness[best] > 0.9 * np.linalg.norm(heard) ** 2, "the signal is there"
    return (reach - best) * every / blocks[0].rate


def test_a_stream_without_sound_says_so() -> None:
    with HttpServer(Station()) as server, Stream(server.url()) as stream:
        assert not stream.has_sound


@pytest.mark.parametrize(
    ("asked", "offered", "used"),
    [("", ("TCP", "UDP"), "TCP"), ("", ("UDP",), "UDP"), ("?udp", ("TCP", "UDP"), "UDP"), ("?udp", ("TCP",), "TCP")],
)
def test_rtsp_comes_over_tcp_unless_asked_otherwise_or_impossible(
    asked: str, offered: tuple[str, ...], used: str
) -> None:
    with RtspServer(Station(), transports=offered) as server:
        with Stream(server.url() + asked) as stream:
            assert len(take(stream, 3)) == 3
        assert server.used == [used]


@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_the_right_password_opens_and_a_wrong_one_is_one_sentence_without_it(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    station = Station()
    server: HttpServer | RtspServer
    server = HttpServer(station, password="hunter2") if kind == "http" else RtspServer(station, password="hunter2")
    with server, caplog.at_level(logging.DEBUG):
        with Stream(server.url(login="user:hunter2")) as stream:
            assert len(take(stream, 2)) == 2
            assert "hunter2" not in stream.info.name
        for login in ("", "user:opensesame"):
            with pytest.raises(SourceError, match="refuses this user and password; ") as error:
                open_source(server.url(login=login))
            assert_no_secret(error.value, "opensesame")
    assert "hunter2" not in caplog.text
    assert "opensesame" not in caplog.text


def assert_no_secret(error: BaseException, secret: str) -> None:
    """Neither in the sentence nor in what a traceback shows of where it came from."""
    shown: BaseException | None = error
    while shown is not None:
        assert secret not in str(shown)
        assert secret not in repr(shown)
        shown = shown.__cause__ or shown.__context__


def test_a_break_on_the_way_does_not_tell_the_password(caplog: pytest.LogCaptureFixture) -> None:
    station = Station()
    with HttpServer(station, password="hunter2") as server, caplog.at_level(logging.DEBUG):
        source = SteadySource(lambda: Stream(server.url(login="user:hunter2"), stall_s=SHORT_S), give_up_s=0.3)
        with source:
            take(source, 5)
            station.paused = True
            with pytest.raises(SourceError, match="stayed away") as error:
                take(source, 1000)
        assert_no_secret(error.value, "hunter2")
    assert "is lost" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("/nowhere", "does not exist on its server; check the path"),
        ("/text", "is no video; "),
        ("/empty", "is no video; "),
        ("/noise", "(is no video|sent no picture|no moving pictures|ended before).*; "),
        ("/sound.m4a", "holds no moving pictures; "),
        ("/thief.m3u8", "; "),
    ],
)
def test_what_is_no_stream_is_one_sentence(tmp_path: Path, page: str, expected: str) -> None:
    secret = write_clip(tmp_path / "private.ts", count=10)
    pages = {
        "/text": b"<html>" + 500 * b"no video here " + b"</html>",
        "/empty": b"",
        "/noise": np.random.default_rng(0).bytes(400_000),
        "/sound.m4a": sound_only(tmp_path / "a.m4a"),
        # a playlist from a stranger must not make this machine read its own files
        "/thief.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode(),
    }
    with HttpServer(Station(), pages=pages) as server:
        with pytest.raises(SourceError, match=expected) as error:
            open_source(server.url(page))
        assert "\n" not in str(error.value)


def sound_only(path: Path) -> bytes:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        track = container.add_stream("aac", rate=44_100)
        assert isinstance(track, av.AudioStream)
        block = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        block.sample_rate = 44_100
        container.mux(track.encode(block))
        container.mux(track.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp"])
def test_where_nobody_sends_is_one_sentence(scheme: str) -> None:
    with pytest.raises(SourceError, match=r"nobody sends at .*; start the stream"):
        open_source(f"{scheme}://user:secret@127.0.0.1:{free_port()}/live")


@pytest.mark.parametrize("scheme", ["http", "rtsp", "udp"])
def test_a_server_that_says_nothing_is_given_up(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        began_s = time.monotonic()
        with pytest.raises(SourceError, match=r"was silent for 0\.5 s; "):
            Stream(f"{scheme}://127.0.0.1:{port}/live", open_s=0.5)
        assert time.monotonic() - began_s < 3


def test_a_kind_of_stream_that_this_ffmpeg_may_not_know_is_one_sentence() -> None:
    with pytest.raises(SourceError, match=r"(FFmpeg does not know|was silent|cannot be reached).*; "):
        Stream(f"srt://127.0.0.1:{free_port()}?passphrase=secretsecret", open_s=0.5)


@pytest.mark.parametrize("kind", ["http", "rtsp", "udp"])
def test_a_stalled_stream_becomes_an_error_within_moments(kind: str) -> None:
    station = Station(sound=True)
    server, url = on_air(kind, station)
    with server, Stream(url, stall_s=SHORT_S) as stream:
        take(stream, 5)
        station.paused = True
        stalled_s = time.monotonic()
        with pytest.raises(SourceError, match="; check"):
            take(stream, 100)
        assert SHORT_S - 0.3 < time.monotonic() - stalled_s < 5 * SHORT_S


@pytest.mark.parametrize("kind", ["http", "rtsp"])
def test_a_cut_stream_is_opened_again_and_its_time_runs_on(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    station = Station(sound=True)
    server, url = on_air(kind, station)
    assert not isinstance(server, UdpSender)
    heard: list[SoundBlock] = []
    with server, SteadySource(lambda: Stream(url), first_wait_s=0.05) as source:
        source.listen(heard.append)
        before = take(source, 20)
        cut_pts_s = before[-1].pts_s
        server.cut()
        after = take(source, 20)
    frames = before + after
    assert source.cuts == 1
    assert server.visits == 2
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})
    assert all(later.pts_s > earlier.pts_s for earlier, later in itertools.pairwise(frames))
    # The pictures themselves tell how much time went by, but for how old the first one is when it is shown.
    truth_s = (number_of(after[-1].image) - number_of(before[-1].image)) / FPS
    assert after[-1].pts_s - before[-1].pts_s == pytest.approx(truth_s, abs=1.0)
    assert any(block.pts_s > cut_pts_s + 1 for block in heard), "sound, too, comes back"
    assert len([line for line in caplog.messages if "is lost" in line or "is back" in line]) == 2


def test_a_stall_that_is_longer_than_allowed_is_survived() -> None:
    station = Station()
    with (
        RtspServer(station) as server,
        SteadySource(lambda: Stream(server.url(), open_s=1.0, stall_s=0.4), first_wait_s=0.05) as source,
    ):
        take(source, 10)
        station.paused = True
        threading.Timer(1.2, setattr, (station, "paused", False)).start()
        frames = take(source, 20)
        assert source.cuts == 1
    assert station.lateness_s(frames[-1].image, frames[-1].captured_s) < LIVE_EDGE_S


@pytest.mark.parametrize("kind", ["http"])
def test_a_picture_of_another_size_is_fitted_into_the_first(kind: str) -> None:
    station = Station()
    server, url = on_air(kind, station)
    with server, SteadySource(lambda: Stream(url)) as source:
        take(source, 5)
        station.size = (96, 144)
        sizes = {frame.image.shape for frame in take(source, 30)}
        last = take(source, 1)[0]
    assert sizes == {(SIZE[1], SIZE[0], 3)}
    assert source.cuts == 0
    assert not last.image[:, :40].any(), "black beside a picture that is higher than wide"
    assert last.image[70, 80].min() > 90


@pytest.mark.parametrize("kind", ["http", "udp"])
def test_noise_in_a_stream_is_survived(kind: str) -> None:
    station = Station()
    server, url = on_air(kind, station)
    with server, SteadySource(lambda: Stream(url, stall_s=2.0), first_wait_s=0.05) as source:
        take(source, 5)
        for seed in range(3):
            station.noise = np.random.default_rng(seed).bytes(188 * 200 + 77)
            take(source, 15)
        frames = take(source, 10)
    assert all(frame.image.shape == (SIZE[1], SIZE[0], 3) for frame in frames)
    assert station.lateness_s(frames[-1].image, frames[-1].captured_s) < LIVE_EDGE_S


@pytest.mark.parametrize("page", ["/clip.mp4", "/list.m3u8"])
def test_a_recording_on_a_server_is_played_at_its_own_pace_and_ends(tmp_path: Path, page: str) -> None:
    ticks = [[start + 1001 * number for number in range(12)] for start in (90_000, 90_000 + 12 * 1001)]
    pages = {
        "/clip.mp4": write_clip(tmp_path / "a.mp4", count=24, options={"movflags": "faststart"}).read_bytes(),
        "/0.ts": write_clip(tmp_path / "0.ts", ticks=ticks[0]).read_bytes(),
        "/1.ts": write_clip(tmp_path / "1.ts", ticks=ticks[1]).read_bytes(),
        "/list.m3u8": b"\n".join(
            [
                b"#EXTM3U",
                b"#EXT-X-TARGETDURATION:1",
                b"#EXTINF:0.4,",
                b"0.ts",
                b"#EXTINF:0.4,",
                b"1.ts",
                b"#EXT-X-ENDLIST",
            ]
        ),
    }
    with HttpServer(Station(), pages=pages) as server, open_source(server.url(page)) as source:
        frames = list(source)
    assert source.info.frames == pytest.approx(24, abs=1)
    assert [frame.index for frame in frames] == list(range(24))
    assert frames[-1].pts_s == pytest.approx(23 / 29.97, abs=0.002)
    assert frames[-1].captured_s - frames[0].captured_s == pytest.approx(23 / 29.97, abs=0.1)


def test_closing_ends_a_blocked_reader_and_frees_everything() -> None:
    station = Station()
    with RtspServer(station) as server:
        stream = Stream(server.url(), stall_s=SHORT_S)
        ended: list[int] = []

        def read() -> None:
            ended.append(sum(1 for _ in stream))

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.3)
        station.paused = True
        time.sleep(0.2)
        stream.close()
        stream.close()
        reader.join(5)
        assert not reader.is_alive()
        assert len(ended) == 1, "a reader whose stream was closed ends without an error"
        assert list(stream) == []


def test_a_tap_hands_over_nothing_after_its_end() -> None:
    with HttpServer(Station()) as server:
        tap = Tap(server.url(), open_s=2.0, stall_s=1.0)
        assert tap.read(sound=False) is not None
        tap.close()
        assert tap.read(sound=False) is None


def test_a_tap_leaves_out_what_builds_on_earlier_pictures_when_told_to() -> None:
    with HttpServer(Station(gop=10)) as server:
        tap = Tap(server.url(), open_s=2.0, stall_s=1.0)
        numbers: list[int] = []
        skipped = 0
        while len(numbers) < 4:
            haul = tap.read(sound=False, whole_only=True)
            assert haul is not None
            skipped += haul.skipped
            numbers += [number_of(bgr_image(picture, *SIZE)) for picture in haul.pictures]
        tap.close()
    assert {later - earlier for earlier, later in itertools.pairwise(numbers)} == {10}
    assert skipped >= 27
