"""Frames become pictures: all of them or so many a second, in a folder that appears whole."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime.errors import SinkError, SourceError, UsageError
from realtime.video_file import VideoFile
from tests.clips import write_clip
from training import frames
from training.film import Clip
from training.frames import write_frames

JPEG_LEVELS = 3.0
"""Quality 95 without chroma subsampling, mean over a rendered picture."""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "film.mp4")


def test_every_frame_becomes_a_picture(tmp_path: Path, video: Path) -> None:
    report = write_frames(Clip(video), tmp_path / "out")
    with VideoFile(video) as source:
        images = [frame.image for frame in source]
    names = sorted(os.listdir(tmp_path / "out"))
    assert names == [f"{i + 1:06d}.jpg" for i in range(len(images))]
    assert (report.frames, report.frames_read) == (len(images), len(images))
    for name, image in zip(names, images, strict=True):
        read = cv2.imread(str(tmp_path / "out" / name))
        assert read is not None
        assert np.abs(read.astype(int) - image).mean() < JPEG_LEVELS
    assert os.listdir(tmp_path) == ["out"]


def test_fewer_frames_when_asked(tmp_path: Path, video: Path) -> None:
    with VideoFile(video) as source:
        count, fps = sum(1 for _ in source), float(source.info.fps)
    report = write_frames(Clip(video), tmp_path / "half", fps / 2)
    assert report.frames == -(-count // 2)
    start_s = 3 / fps
    assert write_frames(Clip(video, start_s), tmp_path / "rest").frames == count - 3


def test_the_same_film_gives_the_same_bytes(tmp_path: Path, video: Path) -> None:
    for name in ("one", "two"):
        write_frames(Clip(video), tmp_path / name, 5)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_an_interruption_leaves_nothing(tmp_path: Path, video: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        assert total is not None
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_frames(Clip(video), tmp_path / "out", None, stop)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_taken_is_never_touched(tmp_path: Path, video: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_frames(Clip(video), tmp_path / "out")
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="move it away"):
        write_frames(Clip(video), tmp_path / "new")
    assert (tmp_path / "out" / "mine.txt").read_text() == (tmp_path / "new.partial" / "mine.txt").read_text() == "mine"


def test_what_a_crash_left_is_replaced(tmp_path: Path, video: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "999999.jpg").write_bytes(b"half")
    write_frames(Clip(video), tmp_path / "out", 5)
    assert os.listdir(tmp_path) == ["out"]
    assert not (tmp_path / "out" / "999999.jpg").exists()


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    with pytest.raises(SourceError, match=r"notes\.mp4"):
        write_frames(Clip(tmp_path / "notes.mp4"), tmp_path / "out")
    assert os.listdir(tmp_path) == ["notes.mp4"]


def test_a_full_disk_is_one_sentence(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frames, "_write", full)
    with pytest.raises(SinkError, match="is full; free some space"):
        write_frames(Clip(video), tmp_path / "out")
    assert os.listdir(tmp_path) == []
