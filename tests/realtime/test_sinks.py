from __future__ import annotations

import logging
import os
import socket
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from realtime.errors import LiveswapError, SinkError, UsageError
from realtime.frame import Frame
from realtime.sinks import NullSink, check_sink, open_sink
from realtime.source import BT601, BT709, Colour
from realtime.stream_writer import StreamWriter
from realtime.video_file import VideoFile
from realtime.video_writer import VideoWriter
from tests.clips import look, ramp, ramp_error, write_clip
from tests.fakes import info

SAME_PICTURE_LEVELS = 3.5
"""What two rounds through H.264 leave (measured: 2.8 at most); a wrong colour matrix or range makes 6 and more."""
SAME_BRIGHTNESS_LEVELS = 0.8
"""Half a level goes when the decoder rounds down (measured: 0.5); without accurate rounding it is 1.8."""
SAME_TIME_S = 1e-6
TRANSPORT_STREAM_SYNC = 0x47


def copy(source: Path, sink: Path) -> None:
    """What `liveswap run` does to a video, without the swap."""
    with VideoFile(source) as video:
        writer = open_sink(str(sink), video.info)
        for frame in video:
            writer.send(frame)
        writer.close()


def pictures(path: Path) -> list[Frame]:
    with VideoFile(path) as video:
        return list(video)


def send(writer: VideoWriter, count: int, size: tuple[int, int] = (48, 64), fps: float = 30.0) -> None:
    for index in range(count):
        writer.send(Frame(ramp(*size, shift=index), index, 0.0, index / fps))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".MP4"])
def test_a_video_comes_out_equally_long_with_the_same_rate_times_and_sound(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / "in.mp4", count=40, audio="aac")
    copy(source, tmp_path / f"out{suffix}")
    before, after = look(source), look(tmp_path / f"out{suffix}")
    assert after.times_s == pytest.approx(before.times_s, abs=SAME_TIME_S)
    assert (after.fps, after.seconds, after.size) == (before.fps, before.seconds, before.size)
    assert (after.audio, after.sound) == ("aac", before.sound)
    assert after.sound_starts_s == pytest.approx(before.sound_starts_s, abs=SAME_TIME_S)


def test_matroska_keeps_everything_to_the_millisecond(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", count=40, audio="aac")
    copy(source, tmp_path / "out.mkv")
    before, after = look(source), look(tmp_path / "out.mkv")
    lead_s = after.times_s[0] - before.times_s[0]
    assert after.times_s == pytest.approx([time_s + lead_s for time_s in before.times_s], abs=0.001)
    assert after.sound == before.sound
    assert after.sound_starts_s - before.sound_starts_s == pytest.approx(lead_s, abs=0.001)
    assert after.fps == before.fps


def test_pictures_survive_in_order(tmp_path: Path) -> None:
    copy(write_clip(tmp_path / "in.mp4", count=20), tmp_path / "out.mp4")
    for index, frame in enumerate(pictures(tmp_path / "out.mp4")):
        assert ramp_error(frame.image, index) < SAME_PICTURE_LEVELS


def test_variable_frame_rates_keep_their_times(tmp_path: Path) -> None:
    ticks = np.cumsum(np.random.default_rng(0).integers(1, 3000, 60)).tolist()
    ticks = [tick - ticks[0] for tick in ticks]
    source = write_clip(tmp_path / "in.mp4", ticks=ticks)
    copy(source, tmp_path / "out.mp4")
    before, after = look(source), look(tmp_path / "out.mp4")
    assert after.times_s == pytest.approx(before.times_s, abs=SAME_TIME_S)
    assert after.seconds == pytest.approx(before.seconds, rel=0.05)


def test_a_rate_that_the_source_could_only_round_is_put_right(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", count=40)
    copy(source, tmp_path / "out.mp4")
    after = look(tmp_path / "out.mp4")
    assert after.fps == Fraction(30_000, 1001)
    assert after.times_s == pytest.approx([1001 * index / 30_000 for index in range(40)], abs=SAME_TIME_S)


def test_times_off_the_rate_are_not_moved_by_more_than_the_source_rounded_them(tmp_path: Path) -> None:
    ticks = np.cumsum(np.random.default_rng(1).integers(100, 3000, 40)).tolist()
    source = write_clip(tmp_path / "in.mkv", ticks=[tick - ticks[0] for tick in ticks])
    copy(source, tmp_path / "out.mp4")
    assert look(tmp_path / "out.mp4").times_s == pytest.approx(look(source).times_s, abs=0.00051)


def test_a_last_picture_that_is_held_stays_as_long(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", count=30, last_ticks=5005)
    copy(source, tmp_path / "out.mp4")
    assert look(source).seconds == pytest.approx(34 * 1001 / 30_000)
    assert look(tmp_path / "out.mp4").seconds == pytest.approx(look(source).seconds)


def test_pictures_get_no_darker(tmp_path: Path) -> None:
    grey = np.repeat(ramp()[:1], 48, axis=0)
    with VideoWriter(tmp_path / "out.mp4", info(), crf=0) as writer:
        writer.send(Frame(grey, 0, 0.0))
    assert abs((pictures(tmp_path / "out.mp4")[0].image.astype(int) - grey).mean()) < SAME_BRIGHTNESS_LEVELS


def test_a_stream_that_starts_late_starts_at_zero_with_its_sound(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.ts", ticks=[90_000 + 1001 * index for index in range(30)], audio="aac")
    copy(source, tmp_path / "out.mp4")
    before, after = look(source), look(tmp_path / "out.mp4")
    assert after.times_s[0] - after.sound_starts_s == pytest.approx(
        before.times_s[0] - before.sound_starts_s, abs=0.001
    )
    assert min(after.times_s[0], after.sound_starts_s) < 0.1


def test_sound_that_the_container_cannot_hold_becomes_aac(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", count=40, audio="pcm_s16le")
    copy(source, tmp_path / "out.mp4")
    copy(source, tmp_path / "out.mkv")
    after = look(tmp_path / "out.mp4")
    assert after.audio == "aac"
    assert after.sound_starts_s == pytest.approx(0, abs=0.03)
    assert look(tmp_path / "out.mkv").sound == look(source).sound


def test_a_run_that_ends_early_ends_the_sound_with_the_picture(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", count=90, audio="aac")
    with VideoFile(source) as video, VideoWriter(tmp_path / "out.mp4", video.info) as writer:
        for frame, _ in zip(video, range(30), strict=False):
            writer.send(frame)
    assert len(look(tmp_path / "out.mp4").times_s) == 30
    share = len(look(tmp_path / "out.mp4").sound) / len(look(source).sound)
    assert 0.25 < share < 0.42


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("matrix", "height"), [(1, 48), (6, 48), (1, 720), (6, 720)])
def test_marked_colours_stay_what_they_are(tmp_path: Path, matrix: int, height: int, full_range: bool) -> None:
    source = write_clip(tmp_path / "in.mp4", count=1, height=height, matrix=matrix, full_range=full_range)
    copy(source, tmp_path / "out.mp4")
    assert look(tmp_path / "out.mp4").colour == (matrix, matrix, matrix, 1)
    assert ramp_error(pictures(tmp_path / "out.mp4")[0].image) < SAME_PICTURE_LEVELS


@pytest.mark.parametrize(("height", "usual"), [(48, BT601), (720, BT709)])
def test_unmarked_colours_are_marked_as_players_guess_them(tmp_path: Path, height: int, usual: Colour) -> None:
    source = write_clip(tmp_path / "in.mp4", count=1, height=height, matrix=1 if height == 720 else 6, marked=False)
    copy(source, tmp_path / "out.mp4")
    assert look(tmp_path / "out.mp4").colour == (usual.matrix, usual.primaries, usual.transfer, 1)
    assert ramp_error(pictures(tmp_path / "out.mp4")[0].image) < SAME_PICTURE_LEVELS


def test_odd_sizes_are_padded_by_one_and_the_log_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with VideoWriter(tmp_path / "out.mp4", info(width=65, height=49)) as writer:
        send(writer, 5, (49, 65))
    assert look(tmp_path / "out.mp4").size == (66, 50)
    assert caplog.text.count("padded to 66x50") == 1
    image = pictures(tmp_path / "out.mp4")[0].image
    assert np.abs(image[:49, :65].astype(int) - ramp(49, 65)).mean() < 6
    assert np.abs(image[:, 65].astype(int) - image[:, 64]).mean() < 6


def test_a_frame_of_another_size_is_scaled_to_the_video(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", info()) as writer:
        send(writer, 2)
        writer.send(Frame(ramp(96, 128), 2, 0.0, 0.1))
    assert [frame.image.shape for frame in pictures(tmp_path / "out.mp4")] == [(48, 64, 3)] * 3


def test_times_that_stand_still_or_run_backwards_still_give_every_frame(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", info()) as writer:
        for index, pts_s in enumerate((0.0, 0.0, 0.1, 0.05, 0.2)):
            writer.send(Frame(ramp(shift=index), index, 0.0, pts_s))
    times = look(tmp_path / "out.mp4").times_s
    assert len(times) == 5
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(0.2)


def test_a_live_recording_starts_with_its_first_frame(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", info(live=True)) as writer:
        for index in (90, 91, 95):
            writer.send(Frame(ramp(shift=index), index, 0.0, index / 30))
    assert look(tmp_path / "out.mp4").times_s == pytest.approx([0, 1 / 30, 5 / 30], abs=1e-4)


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", replace(info(), pixel_aspect=Fraction(16, 11))) as writer:
        send(writer, 2)
    with VideoFile(tmp_path / "out.mp4") as video:
        assert video.info.pixel_aspect == Fraction(16, 11)


def test_the_final_name_appears_only_when_the_video_is_whole(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"the one before")
    writer = VideoWriter(tmp_path / "out.mp4", info())
    send(writer, 5)
    assert (tmp_path / "out.mp4").read_bytes() == b"the one before"
    assert names(tmp_path) == ["out.mp4", "out.partial.mp4"]
    writer.close()
    writer.close()
    writer.abort()
    assert names(tmp_path) == ["out.mp4"]
    assert len(look(tmp_path / "out.mp4").times_s) == 5


def test_an_aborted_video_is_kept_under_another_name_and_plays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_clip(tmp_path / "in.mp4", count=40, audio="aac")
    with VideoFile(source) as video:
        writer = VideoWriter(tmp_path / "out.mp4", video.info)
        for frame, _ in zip(video, range(20), strict=False):
            writer.send(frame)
        writer.abort()
        writer.abort()
        writer.close()
    assert names(tmp_path) == ["in.mp4", "out.partial.mp4"]
    assert "20 frames are kept in out.partial.mp4" in caplog.text
    assert len(look(tmp_path / "out.partial.mp4").times_s) == 20


@pytest.mark.parametrize("end", ["close", "abort"])
def test_without_a_frame_there_is_no_file(tmp_path: Path, end: str) -> None:
    (tmp_path / "out.mp4").write_bytes(b"the one before")
    getattr(VideoWriter(tmp_path / "out.mp4", info()), end)()
    assert names(tmp_path) == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"the one before"


def test_what_is_on_the_disk_plays_while_the_run_goes_on(tmp_path: Path) -> None:
    """The state in which a power cut or kill -9 leaves the file."""
    writer = VideoWriter(tmp_path / "out.mp4", info())
    send(writer, 400)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "out.partial.mp4").read_bytes())
    writer.abort()
    with VideoFile(tmp_path / "cut.mp4") as video:
        assert sum(1 for _ in video) >= 120


def test_two_runs_cannot_write_the_same_file(tmp_path: Path) -> None:
    first = VideoWriter(tmp_path / "out.mp4", info())
    send(first, 3)
    if sys.platform != "win32":
        with pytest.raises(SinkError, match="being written by another run"):
            VideoWriter(tmp_path / "out.mp4", info())
    first.close()
    assert len(look(tmp_path / "out.mp4").times_s) == 3


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", count=2)
    bytes_before = source.read_bytes()
    os.link(source, tmp_path / "again.mp4")
    os.link(source, tmp_path / "out.partial.mp4")
    with VideoFile(source) as video:
        for name in ("in.mp4", "again.mp4", "out.mp4"):
            with pytest.raises(UsageError, match="would overwrite the source"):
                open_sink(str(tmp_path / name), video.info)
    assert source.read_bytes() == bytes_before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("count", [2, 400])
def test_a_full_disk_is_one_sentence_and_no_half_file(tmp_path: Path, count: int) -> None:
    (tmp_path / "out.partial.mp4").symlink_to("/dev/full")
    writer = VideoWriter(tmp_path / "out.mp4", info())
    with pytest.raises(SinkError, match="is full; free some space") as error:
        write_and_close(writer, count)
    writer.abort()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.mp4").exists()


def write_and_close(writer: VideoWriter, count: int) -> None:
    send(writer, count)
    writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody may write to")
def test_a_folder_that_may_not_be_written_is_one_sentence() -> None:
    with pytest.raises(SinkError, match="choose another place"):
        open_sink("/sys/out.mp4", info())


@pytest.mark.parametrize(
    ("spec", "kind", "expected"),
    [
        ("", UsageError, "no sink was given"),
        ("udp://127.0.0.1", UsageError, "needs a host and a port"),
        ("udp://127.0.0.1:5000?fifo=3", UsageError, "no option 'fifo'"),
        ("rtmp://127.0.0.1", UsageError, "no application"),
        ("rtmp://me:secret@127.0.0.1/live/key", UsageError, "a user and a password before the host"),
        ("http://127.0.0.1/out", UsageError, "goes to udp://, srt://, rtmp://, rtmps://"),
        ("{}/out", SinkError, "no ending that names a kind of video"),
        ("{}/out.gif", SinkError, "no ending that names a kind of video"),
        ("{}/missing/out.mp4", SinkError, "does not exist; create it"),
        ("{}/folder.mp4", SinkError, "is a folder"),
    ],
)
def test_outputs_that_cannot_be_are_one_sentence(
    tmp_path: Path, spec: str, kind: type[LiveswapError], expected: str
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(kind, match=expected):
        check_sink(spec.format(tmp_path))
    with pytest.raises(kind, match=expected) as error:
        open_sink(spec.format(tmp_path), info())
    assert ";" in str(error.value)
    assert names(tmp_path) == ["folder.mp4"]


def test_the_null_sink_takes_everything() -> None:
    sink = open_sink("null", info())
    assert isinstance(sink, NullSink)
    sink.send(Frame(ramp(), 0, 0.0))
    sink.close()
    sink.abort()


@pytest.mark.parametrize(
    "spec", ["null", "preview", "udp://127.0.0.1:5000", "srt://127.0.0.1:5000", "rtmp://host/app/key", "rtmps://host/a"]
)
def test_outputs_that_can_be_are_checked_without_opening_anything(spec: str) -> None:
    check_sink(spec)
    check_sink(spec, info())


def test_the_preview_is_made_by_the_main_thread() -> None:
    with pytest.raises(ValueError, match="main thread"):
        open_sink("preview", info())


def test_an_address_opens_a_stream() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        sink = open_sink(f"udp://127.0.0.1:{receiver.getsockname()[1]}", info(live=True), sound=True)
        assert isinstance(sink, StreamWriter)
        sink.send(Frame(ramp(), 0, 0.0))
        sink.close()
        assert receiver.recv(2048)[0] == TRANSPORT_STREAM_SYNC


def test_what_a_secret_address_is_refused_for_does_not_show_the_secret() -> None:
    for spec in ("rtmp://me:secret@host/live/key", "rtmp://me:sec/ret@host/live"):
        with pytest.raises(UsageError) as error:
            check_sink(spec)
        assert "sec" not in str(error.value)


def test_a_quality_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crf"):
        VideoWriter(tmp_path / "out.mp4", info(), crf=60)
    assert names(tmp_path) == []


def test_real_clips_come_out_equally_long_with_their_sound(tmp_path: Path, real_clips: Path) -> None:
    source = real_clips / "walking_small_face_1280x720.mp4"
    with VideoFile(source) as video:
        writer = VideoWriter(tmp_path / "out.mp4", replace(video.info, width=128, height=72))
        for frame in video:
            writer.send(frame)
        writer.close()
    before, after = look(source), look(tmp_path / "out.mp4")
    assert after.times_s == pytest.approx(before.times_s, abs=SAME_TIME_S)
    assert (after.fps, after.seconds) == (before.fps, before.seconds)
    assert (after.audio, after.sound, after.sound_starts_s) == (before.audio, before.sound, before.sound_starts_s)
