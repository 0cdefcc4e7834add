"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from realtime.files import atomic_file, explain, publish_folder, write_atomically


def test_a_written_file_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_atomically(path, "old")
    write_atomically(path, "{\n}\n")
    assert path.read_bytes() == b"{\n}\n"
    assert os.listdir(tmp_path) == ["report.json"]


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x.bin", b"\r\n\x00\xff")
    assert (tmp_path / "x.bin").read_bytes() == b"\r\n\x00\xff"


def interrupted_write(path: Path) -> None:
    with atomic_file(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.dfm"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.dfm"]


def test_the_temporary_file_lies_beside_its_goal_and_keeps_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30 + ".mp4")
    with atomic_file(path) as part:
        assert part.parent == tmp_path
        assert part.suffix == ".mp4"
        assert len(part.name) < 120
        part.write_text("whole")
    assert path.read_text() == "whole"


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "x"):
        pass


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "x", b"")


def partial_folder(tmp_path: Path) -> Path:
    partial = tmp_path / "set.partial"
    (partial / "faces").mkdir(parents=True)
    (partial / "faces" / "0").write_text("face")
    return partial


def test_a_folder_gets_its_name_with_all_it_holds(tmp_path: Path) -> None:
    publish_folder(partial_folder(tmp_path), tmp_path / "set")
    assert (tmp_path / "set" / "faces" / "0").read_text() == "face"
    assert os.listdir(tmp_path) == ["set"]


def test_an_empty_folder_may_hold_the_place(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    publish_folder(partial_folder(tmp_path), tmp_path / "set")
    assert (tmp_path / "set" / "faces").is_dir()


def test_a_folder_with_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    partial = partial_folder(tmp_path)
    with pytest.raises(OSError, match="not empty"):
        publish_folder(partial, tmp_path / "set")
    assert (tmp_path / "set" / "mine.txt").read_text() == "mine"
    assert (partial / "faces" / "0").exists()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "is full; free some space"),
        (errno.EROFS, "read-only disk; choose another place"),
        (errno.EACCES, "may not be read or written"),
        (errno.ENOENT, "does not exist; check the spelling"),
        (errno.ENOTDIR, "below a file"),
        (errno.ENAMETOOLONG, "choose a shorter one"),
        (errno.EIO, "check the disk"),
    ],
)
def test_every_reason_is_explained_with_a_remedy(code: int, sentence: str) -> None:
    text = explain(OSError(code, os.strerror(code)), Path("some/set"))
    assert sentence in text
    assert "\n" not in text


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "the figures")
    assert os.read(reader, 100) == b"the figures"
    os.close(reader)
    assert pipe.is_fifo()
