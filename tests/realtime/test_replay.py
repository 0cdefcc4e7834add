"""Playing a recording: the same pixels, indices and times, the same swap; and strangers' folders do no harm."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from realtime.detect import FaceFinder
from realtime.errors import SourceError
from realtime.frame import Frame, ImageU8
from realtime.infer import open_engine
from realtime.pattern import PatternSource
from realtime.recorder import InputRecorder
from realtime.replay import ReplaySource
from realtime.source import Colour, SourceInfo
from realtime.swap import FaceSwapper
from realtime.video_writer import VideoWriter
from tests.clips import look, ramp, write_clip
from tests.fakes import info

DEMO_MODEL = Path(__file__).resolve().parents[2] / "realtime" / "models" / "demo.dfm"


def noise(index: int, height: int = 48, width: int = 64) -> ImageU8:
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


def recording(folder: Path, count: int = 6, source: SourceInfo | None = None) -> list[Frame]:
    """A recording of noise with uneven times and gaps in the index; what it holds."""
    source = source or info(live=True)
    frames = [
        Frame(noise(index, source.height, source.width), 3 * index + index % 2, 1e5 + index / 7, index / 13)
        for index in range(count)
    ]
    with InputRecorder(folder, source, {"model_sha256": "0f"}) as recorder:
        for frame in frames:
            recorder.record(frame)
    return frames


@pytest.mark.parametrize(("width", "height"), [(64, 48), (65, 49), (640, 480), (1, 1)])
def test_pixels_indices_and_times_are_the_same_to_the_last_bit(tmp_path: Path, width: int, height: int) -> None:
    recorded = recording(tmp_path / "r", source=info(live=True, width=width, height=height))
    before_s = time.monotonic()
    with ReplaySource(tmp_path / "r") as source:
        replayed = list(source)
    assert [frame.index for frame in replayed] == [frame.index for frame in recorded]
    assert [frame.pts_s for frame in replayed] == [frame.captured_s for frame in recorded]
    assert all((a.image == b.image).all() for a, b in zip(replayed, recorded, strict=True))
    assert all(before_s <= frame.captured_s <= time.monotonic() for frame in replayed)


def test_a_recorded_file_is_replayed_at_the_times_of_the_file(tmp_path: Path) -> None:
    recorded = recording(tmp_path / "r", source=info(live=False))
    with ReplaySource(tmp_path / "r") as source:
        assert source.info.first_pts_s == recorded[0].pts_s
        assert [frame.pts_s for frame in source] == [frame.pts_s for frame in recorded]


def test_a_replay_tells_what_was_recorded(tmp_path: Path) -> None:
    source = replace(
        info(live=True, width=96, height=64), name="Webcam", fps=Fraction(30_000, 1001), pixel_aspect=Fraction(16, 11)
    )
    recorded = recording(tmp_path / "r", source=source)
    with ReplaySource(tmp_path / "r") as replayed:
        told = replayed.info
        assert replayed.settings == {"model_sha256": "0f"}
        assert replayed.events == []
    assert (told.name, told.width, told.height, told.fps, told.frames) == ("Webcam", 96, 64, source.fps, 6)
    assert (told.live, told.audio_path, told.path) == (False, None, tmp_path / "r" / "frames.nut")
    assert told.first_pts_s == recorded[0].captured_s
    assert told.colour == Colour(1, 1, 1)
    assert told.pixel_aspect == Fraction(16, 11)


def test_a_video_of_a_replay_starts_at_zero_and_keeps_the_times(tmp_path: Path) -> None:
    recorded = recording(tmp_path / "r", count=20)
    with ReplaySource(tmp_path / "r") as source, VideoWriter(tmp_path / "out.mp4", source.info) as writer:
        for frame in source:
            writer.send(frame)
    expected = [frame.captured_s - recorded[0].captured_s for frame in recorded]
    assert look(tmp_path / "out.mp4").times_s == pytest.approx(expected, abs=1 / 90_000)


def swapper(*, live: bool) -> FaceSwapper:
    return FaceSwapper(FaceFinder(), open_engine(DEMO_MODEL, threads=1), live=live)


def test_two_replays_of_a_live_run_show_every_swapped_picture_byte_for_byte(tmp_path: Path) -> None:
    """With a finder, a filter and colours that remember what came before: every picture depends on all times."""
    shown: list[tuple[int, bytes, bool]] = []
    with (
        PatternSource(width=320, height=240, live=True, pre_render=30) as source,
        swapper(live=True) as live,
        InputRecorder(tmp_path / "r", source.info, {}) as recorder,
    ):
        for frame in itertools.islice(source, 40):
            recorder.record(frame)
            result = live.swap(frame)
            shown.append((frame.index, result.frame.image.tobytes(), result.swapped))
    assert sum(swapped for *_, swapped in shown) > 30
    for _ in range(2):
        with ReplaySource(tmp_path / "r") as replayed, swapper(live=False) as again:
            results = [(frame.index, again.swap(frame)) for frame in replayed]
        assert [(index, result.frame.image.tobytes(), result.swapped) for index, result in results] == shown


def test_the_times_matter_for_the_pictures(tmp_path: Path) -> None:
    """The test above could not fail if the swap did not look at the times."""
    with PatternSource(width=320, height=240, frames=6) as source:
        frames = list(source)
    with swapper(live=False) as steady, swapper(live=False) as shaken:
        same = [
            steady.swap(frame).frame.image.tobytes() == shaken.swap(replace(frame, pts_s=pts_s)).frame.image.tobytes()
            for frame, pts_s in zip(frames, np.cumsum([0.03, 0.05] * 3).tolist(), strict=True)
        ]
    assert not all(same)


def test_a_recording_that_was_cut_off_anywhere_ends_with_its_last_whole_frame(tmp_path: Path) -> None:
    recorded = recording(tmp_path / "r", count=5)
    whole = (tmp_path / "r" / "frames.nut").read_bytes()
    seen = set()
    for end in [*range(len(whole) // 5 * 2, len(whole), 2999), len(whole)]:
        (tmp_path / "r" / "frames.nut").write_bytes(whole[:end])
        with ReplaySource(tmp_path / "r") as source:
            replayed = list(source)
        assert all((a.image == b.image).all() for a, b in zip(replayed, recorded, strict=False))
        seen.add(len(replayed))
    assert seen == {1, 2, 3, 4, 5}


def test_a_cut_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recording(tmp_path / "r", count=4)
    pictures = tmp_path / "r" / "frames.nut"
    pictures.write_bytes(pictures.read_bytes()[: pictures.stat().st_size * 5 // 8])
    with ReplaySource(tmp_path / "r") as source:
        assert len(list(source)) == 2
    assert "fake was cut off: 2 of 4 frames are whole" in caplog.text


def test_a_last_line_without_an_end_is_left_out(tmp_path: Path) -> None:
    recording(tmp_path / "r", count=4)
    lines = tmp_path / "r" / "frames.jsonl"
    lines.write_bytes(lines.read_bytes()[:-9])
    with ReplaySource(tmp_path / "r") as source:
        assert source.info.frames == 3
        assert len(list(source)) == 3


def test_one_changed_bit_is_never_replayed_as_if_nothing_were(tmp_path: Path) -> None:
    recorded = recording(tmp_path / "r", count=4)
    pictures = tmp_path / "r" / "frames.nut"
    whole = pictures.read_bytes()
    refused = 0
    for place in np.random.default_rng(0).integers(len(whole) // 8, len(whole) // 2, 25).tolist():
        pictures.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            with ReplaySource(tmp_path / "r") as source:
                for frame, before in zip(source, recorded, strict=False):
                    assert (frame.image == before.image).all()
        except SourceError as error:
            refused += "is damaged after" in str(error)
    assert refused > 20


def edit_about(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "recording.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def edit_info(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "recording.json"
        about = json.loads(path.read_text())
        path.write_text(json.dumps(about | {"info": about["info"] | changes}))

    return edit


def write(name: str, data: bytes) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return edit


def edit_first_line(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        first, *others = (folder / "frames.jsonl").read_text().splitlines()
        lines = [json.dumps(json.loads(first) | changes), *others]
        (folder / "frames.jsonl").write_text("\n".join(lines) + "\n")

    return edit


def link(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).rename(folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return edit


def other_pictures(folder: Path) -> None:
    write_clip(folder / "other.mkv", count=3)
    (folder / "other.mkv").rename(folder / "frames.nut")


def many_events(folder: Path) -> None:
    (folder / "frames.jsonl").write_text('{"index": 0, "event": {}}\n' * 100_001)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no recording": (lambda folder: (folder / "recording.json").unlink(), "is no recording, it has no recording.json"),
    "no pictures": (lambda folder: (folder / "frames.nut").unlink(), "it has no frames.nut"),
    "no lines": (lambda folder: (folder / "frames.jsonl").unlink(), "it has no frames.jsonl"),
    "nothing recorded": (write("frames.jsonl", b""), "holds no whole frame; record again"),
    "empty pictures": (write("frames.nut", b""), "frames.nut"),
    "another schema": (edit_about(schema="liveswap-recording-9"), "another format than liveswap-recording-1"),
    "no JSON": (write("recording.json", b"{"), "describes no recording"),
    "no object": (write("recording.json", b"[1]"), "describes no recording"),
    "deep JSON": (write("recording.json", b"[" * 500_000), "describes no recording"),
    "huge JSON": (write("recording.json", b" " * 2_000_000 + b"{}"), "describes no recording"),
    "no source": (edit_about(info=7), "does not describe its source"),
    "huge pictures": (edit_info(width=10**9), "does not describe its source"),
    "no width": (edit_info(width=None), "does not describe its source"),
    "wide by text": (edit_info(width="64"), "does not describe its source"),
    "other pictures than said": (edit_info(width=32), "holds other pictures"),
    "fps by zero": (edit_info(fps="1/0"), "does not describe its source"),
    "fps of a thousand digits": (edit_info(fps="9" * 1000), "does not describe its source"),
    "no fps": (edit_info(fps="nan"), "does not describe its source"),
    "odd colour": (edit_info(colour=[1, {}, 2]), "does not describe its source"),
    "another video": (other_pictures, "frames.nut"),
    "text for pictures": (write("frames.nut", b"#EXTM3U\nhttp://localhost/x.ts\n"), "frames.nut"),
    "time is no number": (edit_first_line(captured_s="1"), "is damaged after 0 frames"),
    "time is not finite": (edit_first_line(captured_s=float("inf")), "is damaged after 0 frames"),
    "negative index": (edit_first_line(index=-1), "is damaged after 0 frames"),
    "huge index": (edit_first_line(index=10**40), "is damaged after 0 frames"),
    "index runs backwards": (edit_first_line(index=50), "is damaged after 1 frames"),
    "checksum of another frame": (edit_first_line(crc32=1), "is damaged after 0 frames"),
    "event is no object": (edit_first_line(event=[1]), "is damaged after 0 frames"),
    "too many events": (many_events, "is damaged after 0 frames"),
    "a line without end": (write("frames.jsonl", b"a" * 3_000_000), "a line is too long"),
    "a deep line": (write("frames.jsonl", b"[" * 60_000 + b"\n"), "is damaged after 0 frames"),
    "a line of another kind": (write("frames.jsonl", b"17\n"), "is damaged after 0 frames"),
    "linked pictures": (link("frames.nut"), "is a link"),
    "linked lines": (link("frames.jsonl"), "is a link"),
    "linked description": (link("recording.json"), "is a link"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strangers_folder_is_one_sentence(tmp_path: Path, name: str) -> None:
    recording(tmp_path / "r", count=3)
    edit, expected = HOSTILE[name]
    edit(tmp_path / "r")
    with pytest.raises(SourceError, match=expected) as error, ReplaySource(tmp_path / "r") as source:
        list(source)
    text = str(error.value)
    assert "\n" not in text
    assert ";" in text
    assert len(text) < 400


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no recording"):
        ReplaySource(tmp_path / "missing")


def test_pictures_that_change_their_size_are_never_larger_than_said(tmp_path: Path) -> None:
    recording(tmp_path / "r", count=2)
    with av.open(str(tmp_path / "r" / "frames.nut"), "w", format="nut") as container:
        stream = container.add_stream("utvideo", rate=30)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv422p"
        picture = av.VideoFrame.from_ndarray(ramp(), format="bgr24").reformat(format="yuv422p")
        picture.pts, picture.time_base = 0, Fraction(1, 30)
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with pytest.raises(SourceError, match="is damaged after 0 frames"), ReplaySource(tmp_path / "r") as source:
        list(source)


def test_a_replay_is_read_once_and_closed_twice(tmp_path: Path) -> None:
    recording(tmp_path / "r", count=2)
    source = ReplaySource(tmp_path / "r")
    frames: Iterator[Frame] = iter(source)
    assert next(frames).index == 0
    source.close()
    source.close()
