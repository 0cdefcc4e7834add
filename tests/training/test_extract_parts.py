"""However often it is interrupted and by how many processes it is done: an extraction gives the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from realtime.actors import ADA, BO
from realtime.errors import LiveswapError, SourceError, UsageError
from tests.acted import act, write_film
from tests.tiny_faceset import files_of
from training import film
from training.extract import ExtractConfig, ExtractProgress, extract
from training.faceset import Faceset

FRAMES = 30
SMALL = ExtractConfig(size=64)
END_S = 20.0
"""A killed command is gone by then, on a busy machine, too."""


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "PART_S", 0.25)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    ada, bo = act(ADA, 1, FRAMES), act(BO, 2, FRAMES)
    scenes = {"ada.mp4": ada, "cut.mp4": ada[:15] + bo[:15], "damaged.mp4": ada}
    made = {Path(name).stem: write_film(folder / name, images) for name, images in scenes.items()}
    data = made["damaged"].read_bytes()
    made["damaged"].write_bytes(data[: len(data) * 2 // 3])
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, clips: dict[str, Path]) -> dict[str, bytes]:
    """The files of a set that was made in one go."""
    out = tmp_path_factory.mktemp("whole") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "PART_S", 0.25)
        extract([clips["ada"], clips["cut"]], out, SMALL)
    return files_of(out)


def stop_after(faces: int) -> Callable[[ExtractProgress], None]:
    def stop(now: ExtractProgress) -> None:
        if now.faces - now.frames_before >= faces:
            raise KeyboardInterrupt

    return stop


def test_a_face_keeps_its_track_from_part_to_part(tmp_path: Path, clips: dict[str, Path]) -> None:
    extract([clips["ada"]], tmp_path / "set", ExtractConfig(size=64, keep_duplicates=True))
    records = Faceset.open(tmp_path / "set").records
    assert {record.track for record in records} == {0}
    assert [record.frame_index for record in records] == list(range(FRAMES))


def test_a_cut_just_before_a_part_that_is_sampled_sparsely_ends_a_track(
    tmp_path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "PART_S", 0.6)  # a border at frame 18, and the cut at frame 15 is 6 after the last look
    extract([clips["cut"]], tmp_path / "set", ExtractConfig(size=64, keep_duplicates=True, every=9))
    records = Faceset.open(tmp_path / "set").records
    assert [(record.frame_index, record.track) for record in records] == [(0, 0), (9, 0), (18, 1), (27, 1)]


def test_a_cut_between_two_parts_ends_a_track(
    tmp_path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "PART_S", 0.5)  # the cut is at frame 15 of 30 a second
    report = extract([clips["cut"]], tmp_path / "set", ExtractConfig(size=64, keep_duplicates=True))
    records = Faceset.open(tmp_path / "set").records
    assert report.sources[0].cuts == 1
    assert [record.track for record in records] == [0] * 15 + [1] * 15
    assert [record.person for record in records] in ([0] * 15 + [1] * 15, [1] * 15 + [0] * 15)
    assert sorted(report.persons.values()) == [15, 15]


@pytest.mark.parametrize("jobs", [2, 3])
def test_several_processes_give_the_same_bytes(
    tmp_path: Path, clips: dict[str, Path], whole: dict[str, bytes], jobs: int
) -> None:
    seen: list[ExtractProgress] = []
    report = extract([clips["ada"], clips["cut"]], tmp_path / "set", SMALL, seen.append, jobs=jobs)
    assert files_of(tmp_path / "set") == whole
    assert os.listdir(tmp_path) == ["set"]
    assert (seen[-1].frames_done, seen[-1].frames_total) == (2 * FRAMES, 2 * FRAMES)
    assert seen[-1].faces >= report.faces
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_extraction_goes_on_and_gives_the_same_bytes(
    tmp_path: Path, clips: dict[str, Path], whole: dict[str, bytes], jobs: int, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = [clips["ada"], clips["cut"]]
    with pytest.raises(KeyboardInterrupt):
        extract(inputs, tmp_path / "set", SMALL, stop_after(40), jobs=jobs)
    assert os.listdir(tmp_path) == ["set.unfinished"]
    kept = len(os.listdir(tmp_path / "set.unfinished"))
    assert kept > 0
    assert "go on with --resume" in caplog.text
    assert multiprocessing.active_children() == []
    with pytest.raises(UsageError, match=f"holds {kept} finished parts of an earlier extraction; go on with --resume"):
        extract(inputs, tmp_path / "set", SMALL)
    report = extract(inputs, tmp_path / "set", SMALL, resume=True, jobs=3 - jobs)
    assert report.parts_resumed == kept
    assert files_of(tmp_path / "set") == whole
    assert os.listdir(tmp_path) == ["set"]


def test_nothing_is_kept_that_was_searched_with_other_settings(
    tmp_path: Path, clips: dict[str, Path], whole: dict[str, bytes]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract([clips["ada"]], tmp_path / "set", ExtractConfig(size=128), stop_after(20))
    report = extract([clips["ada"], clips["cut"]], tmp_path / "set", SMALL, resume=True)
    assert report.parts_resumed == 0
    assert files_of(tmp_path / "set") == whole


def test_resuming_what_was_never_begun_begins_it(
    tmp_path: Path, clips: dict[str, Path], whole: dict[str, bytes]
) -> None:
    extract([clips["ada"], clips["cut"]], tmp_path / "set", SMALL, resume=True)
    assert files_of(tmp_path / "set") == whole


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_was_searched_before_a_damaged_film_is_kept(tmp_path: Path, clips: dict[str, Path], jobs: int) -> None:
    with pytest.raises(SourceError, match=r"damaged\.mp4") as refusal:
        extract([clips["ada"], clips["damaged"]], tmp_path / "set", SMALL, jobs=jobs)
    assert ";" in str(refusal.value)
    assert os.listdir(tmp_path) == ["set.unfinished"]
    report = extract([clips["ada"]], tmp_path / "set", SMALL, resume=True)
    assert report.parts_resumed > 0
    assert os.listdir(tmp_path) == ["set"]


def test_a_process_that_the_system_ends_is_told_in_one_sentence(tmp_path: Path, clips: dict[str, Path]) -> None:
    def kill_one(now: ExtractProgress) -> None:
        children = multiprocessing.active_children()
        assert children
        os.kill(children[0].pid or 0, signal.SIGKILL)

    with pytest.raises(LiveswapError, match="try --jobs 1"):
        extract([clips["ada"], clips["cut"]], tmp_path / "set", SMALL, kill_one, jobs=2)
    assert multiprocessing.active_children() == []


def test_a_damaged_part_is_searched_again(tmp_path: Path, clips: dict[str, Path], whole: dict[str, bytes]) -> None:
    inputs = [clips["ada"], clips["cut"]]
    with pytest.raises(KeyboardInterrupt):
        extract(inputs, tmp_path / "set", SMALL, stop_after(40))
    victim = sorted((tmp_path / "set.unfinished").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:100])
    report = extract(inputs, tmp_path / "set", SMALL, resume=True)
    assert report.parts_resumed > 0
    assert files_of(tmp_path / "set") == whole


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_ended_is_gone_and_keeps_its_work(
    tmp_path: Path, clips: dict[str, Path], whole: dict[str, bytes], number: int
) -> None:
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys, training.film; training.film.PART_S = 0.25\n"
        "import liveswap\nif __name__ == '__main__': sys.exit(liveswap.main(sys.argv[1:]))"
    )
    arguments = ["extract", str(clips["ada"]), str(clips["cut"]), "--out", str(tmp_path / "set"), "--size", "64"]
    (tmp_path / "main.py").write_text(code)
    command = [sys.executable, str(tmp_path / "main.py"), *arguments, "--jobs", "2"]
    environment = dict(os.environ, PYTHONPATH=str(root))
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True, text=True)
    folder = tmp_path / "set.unfinished"
    deadline_s = time.monotonic() + 120
    while not list(folder.glob("[0-9a-f]*.npz")) and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.005)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=END_S)
    assert process.returncode in ((-9,) if number == signal.SIGKILL else (130,))
    assert "Traceback" not in said
    if number != signal.SIGKILL:
        assert "go on with --resume" in said
    while _alive(process.pid) and time.monotonic() < deadline_s:  # those that nobody told notice it themselves
        time.sleep(0.05)
    assert not _alive(process.pid)
    report = extract([clips["ada"], clips["cut"]], tmp_path / "set", SMALL, resume=True)
    assert report.parts_resumed > 0
    assert files_of(tmp_path / "set") == whole


def _alive(session: int) -> bool:
    """Whether any process of a session still runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            return True
    return False


def test_memory_does_not_grow_with_the_film(tmp_path: Path, clips: dict[str, Path]) -> None:
    # What is held is a part of the film at a time: ten times the film, the same parts.
    code = (
        "import resource, sys; from pathlib import Path; from training import film; film.PART_S = 0.25\n"
        "from training.extract import Clip, ExtractConfig, extract\n"
        "video, out, times = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])\n"
        "clips = [Clip(video, 0.0, 1.0 + i / 1000) for i in range(times)]\n"
        "extract(clips, out, ExtractConfig(size=256, keep_duplicates=True))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    root = Path(__file__).resolve().parents[2]
    peaks = [
        int(
            subprocess.check_output(
                [sys.executable, "-c", code, str(clips["ada"]), str(tmp_path / str(times)), str(times)],
                cwd=root,
                timeout=300,
            )
        )
        for times in (1, 6)
    ]
    assert np.diff(peaks)[0] < 20_000  # KiB: 180 stored faces with their meshes would take 8 000 more, pictures 40 000
