"""What is fuzzed: everything that opens a file which may come from a stranger.

A reader takes a folder in which one of some genuine files was damaged, and may do two things: read it, or raise a
LiveswapError with one sentence.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from training.realign import MeshSeeker


@dataclass(frozen=True, slots=True)
class Reader:
    """A room that reads, and files that it can read."""

    make: Callable[[Path], None]
    """Fills a folder with genuine files."""
    read: Callable[[Path], None]
    """Reads that folder."""
    damaged: tuple[str, ...]
    """Patterns of the files that may be damaged."""


def _film(folder: Path) -> None:
    from realtime.video_writer import VideoWriter
    from tests.fakes import frame, info

    for name in ("a.mp4", "b.mkv", "c.mov"):
        with VideoWriter(folder / name, info()) as writer:
            for index in range(6):
                writer.send(frame(index, _picture(index)))


def _picture(seed: int, side: int = 48) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (64, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def _watch(folder: Path) -> None:
    from realtime.capture import open_source

    for path in sorted(folder.iterdir()):
        with open_source(str(path)) as source:
            for _ in itertools.islice(source, 30):
                pass


def _album(folder: Path) -> None:
    for name in ("1.png", "2.jpg", "3.webp", "4.bmp"):
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix, _picture(1))[1].tobytes())


def _leaf(folder: Path) -> None:
    from realtime.images import read_image

    for path in sorted(folder.iterdir()):
        read_image(path)


def _models(folder: Path) -> None:
    from tests.community_dfm import liveswap_metadata, painting_dfm, random_dfm

    painting_dfm(folder / "a.dfm", metadata=liveswap_metadata(schema=1, subject="Ada", consent="yes", offset=[0, -0.1]))
    random_dfm(folder / "b.dfm", morph=True)


def _describe(folder: Path) -> None:
    from realtime.dfm import read_dfm

    for path in sorted(folder.iterdir()):
        read_dfm(path)


def _settings(folder: Path) -> None:
    (folder / "live.toml").write_text(
        'model = "m.dfm"\nsource = "0"\nsize = [1280, 720]\nsinks = ["preview", "camera"]\nfps = 29.97\n'
        'more_models = ["b.dfm"]\nbadge = true\nhold_ms = 250\noffset = [0.0, -0.1]\n\n[blend]\nfeather = 0.05\n'
    )
    (folder / "presets.toml").write_text("[soft]\nmorph = 0.75\n\n[soft.blend]\nfeather = 0.08\n")


def _configure(folder: Path) -> None:
    from realtime.config import load_config
    from realtime.presets import load_presets

    load_config(folder / "live.toml")
    load_presets(folder / "presets.toml")


def _record(folder: Path) -> None:
    from realtime.recorder import InputRecorder
    from tests.fakes import frame, info

    with InputRecorder(folder / "tape", info(live=True), {"model": "m.dfm", "face": "lock"}) as recorder:
        for index in range(4):
            recorder.note({"event": "turn", "knob": index})
            recorder.record(frame(index, _picture(index)))


def _replay(folder: Path) -> None:
    from realtime.replay import ReplaySource

    with ReplaySource(folder / "tape") as source:
        for _ in source:
            pass


def _sign(folder: Path) -> None:
    from realtime.still import Still
    from realtime.video_writer import VideoWriter
    from tests.fakes import frame, info
    from tests.seals import provenance

    Still(folder / "a.png", provenance()).send(frame(0, _picture(0)))
    for name in ("b.mp4", "c.mkv"):
        with VideoWriter(folder / name, info(), seal=provenance()) as writer:
            writer.send(frame(0, _picture(0)))


def _verify(folder: Path) -> None:
    from realtime.provenance import read_manifest

    for name in ("a.png", "b.mp4", "c.mkv"):
        read_manifest(folder / name)


def _certificates(folder: Path) -> None:
    from realtime.credential import open_credential

    own = open_credential()
    (folder / "chain.pem").write_bytes(own.chain)
    (folder / "key.pem").write_bytes(own.key)


def _credential(folder: Path) -> None:
    from realtime.credential import open_credential

    open_credential(folder / "chain.pem", folder / "key.pem")


def _confirmations(folder: Path) -> None:
    (folder / "without-mark.json").write_text('{"ab12": {"at": "2026-01-01", "name": "ada.dfm"}}\n')


def _confirmed(folder: Path) -> None:
    from realtime.waiver import Waivers

    Waivers(folder / "without-mark.json").missing([])
    Waivers(folder / "without-mark.json").confirm([])


def _faces(folder: Path) -> None:
    from tests.tiny_run import write_people

    write_people(folder, faces=3)


def _look(folder: Path) -> None:
    from training.faceset import Faceset

    for path in sorted(folder.iterdir()):
        faceset = Faceset.open(path)
        for index in range(len(faceset)):
            faceset.image(index)


def _recipes(folder: Path) -> None:
    from training import config

    shutil.copy(Path(config.__file__).parent / "recipes" / "tiny-64.toml", folder / "tiny.toml")


def _choose(folder: Path) -> None:
    from training.config import load_recipe

    load_recipe(str(folder / "tiny.toml"))


def _trained(folder: Path) -> None:
    from tests.tiny_run import train_tiny, write_people

    with TemporaryDirectory() as elsewhere:
        train_tiny(write_people(Path(elsewhere), faces=3), folder / "run", iterations=2)


def _open_run(folder: Path) -> None:
    from training.checkpoint import load_best

    load_best(folder / "run")


def _foreign(folder: Path) -> None:
    from tests.training.foreign_files import alignments_fsa, alignments_json, dfl_jpg, dfl_pak, faceswap_png, jpg, shot

    shots = {f"clip_{number:06d}.jpg": shot(number) for number in range(2)}
    files = {
        "jpg/1.jpg": dfl_jpg(shot(0)),
        "pak/faceset.pak": dfl_pak([dfl_jpg(shot(1))]),
        "png/1.png": faceswap_png(shot(2)),
        "json/alignments.json": alignments_json(shots),
        "fsa/alignments.fsa": alignments_fsa(shots),
    }
    files |= {f"{place}/{name}": jpg(each.crop) for place in ("json", "fsa") for name, each in shots.items()}
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


@cache
def _seeker() -> MeshSeeker:
    from training.realign import MeshSeeker

    return MeshSeeker()


def _import(folder: Path) -> None:
    from training.import_config import ImportConfig
    from training.import_faces import import_faces

    with TemporaryDirectory() as elsewhere:
        for source in sorted(folder.iterdir()):
            target = Path(elsewhere) / source.name
            import_faces(source, target, ImportConfig(size=64), open_seeker=lambda: nullcontext(_seeker()))


READERS: dict[str, Reader] = {
    "video": Reader(_film, _watch, ("*",)),
    "picture": Reader(_album, _leaf, ("*",)),
    "model": Reader(_models, _describe, ("*.dfm",)),
    "settings": Reader(_settings, _configure, ("*.toml",)),
    "replay": Reader(_record, _replay, ("tape/*",)),
    "manifest": Reader(_sign, _verify, ("*",)),
    "certificate": Reader(_certificates, _credential, ("*.pem",)),
    "confirmations": Reader(_confirmations, _confirmed, ("*.json",)),
    "faceset": Reader(_faces, _look, ("*/faceset.json", "*/landmarks.npy", "*/faces/*")),
    "foreign": Reader(_foreign, _import, ("jpg/1.jpg", "pak/*", "png/*", "json/*.json", "fsa/*.fsa")),
    "run": Reader(_trained, _open_run, ("run/run.json", "run/best.safetensors")),
    "recipe": Reader(_recipes, _choose, ("*.toml",)),
}
