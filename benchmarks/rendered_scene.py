"""Keeps a rendered scene with its exact answers on disk. A Scene in; Moments out, rendered once and read from then on.

Note [Bursts]
    Frames of a film come 30 to the second, and neighbours say nearly the same. So of every `every` frames the last
    `run_up` + 1 are kept: they are swapped in order, as in the film, and the last of them is scored. Masks, colours and
    crop are steady by then, and flicker is measured between true neighbours. With `run_up` = `every` - 1, all are kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import realtime.actors
from realtime.actors import Actor, Renderer, Scene
from realtime.detect import FaceFinder
from realtime.files import publish_folder
from realtime.frame import Frame, ImageU8, Points

_PARTS = "performer", "truth", "mask"
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One frame of a performance, and what a perfect swap would show."""

    index: int
    pts_s: float
    performer: ImageU8
    """(H, W, 3) BGR: what the camera sees."""
    truth: ImageU8
    """(H, W, 3) BGR: the exact swap."""
    mask: NDArray[np.uint8]
    """(H, W) in [0, 255]: the visible face in `truth`."""
    true_points: Points | None
    """The mesh that our own finder sees in `truth`; None where it sees none, and for frames that are not scored."""
    scored: bool

    @property
    def frame(self) -> Frame:
        """The performer, as a source would send it."""
        return Frame(self.performer, self.index, self.pts_s, self.pts_s)


class RenderedScene:
    """The kept frames of a scene, see Note [Bursts]. Reading it is cheap and holds one frame at a time."""

    def __init__(self, folder: Path, scene: Scene, every: int, run_up: int) -> None:
        self.folder, self.scene, self.every, self.run_up = folder, scene, every, run_up

    @classmethod
    def open(
        cls,
        cache: Path,
        scene: Scene,
        *,
        every: int = 10,
        run_up: int = 3,
        on_progress: Callable[[float], None] | None = None,
    ) -> RenderedScene:
        """The scene in the folder `cache`, rendered first where it, or the renderer, is new.

        Raises ValueError unless 0 <= run_up < every <= scene.frames.
        """
        if not 0 <= run_up < every <= scene.frames:
            raise ValueError(f"expected 0 <= run_up < every <= {scene.frames}, got {run_up} and {every}")
        facts = {"scene": asdict(scene), "every": every, "run_up": run_up, "renderer": _renderer_sha256()}
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        rendered = cls(cache / name, scene, every, run_up)
        if not rendered.folder.is_dir():
            partial = cache / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            (partial / "scene.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
            rendered._render(partial, on_progress or (lambda share: None))
            publish_folder(partial, rendered.folder)
        return rendered

    @property
    def indices(self) -> list[int]:
        """Numbers of the kept frames."""
        return [i for i in range(self.scene.frames // self.every * self.every) if self._kept(i)]

    def moments(self) -> Iterator[Moment]:
        """The kept frames in order."""
        for index in self.indices:
            performer, truth, mask = (
                cv2.imread(str(_picture(self.folder, index, part)), cv2.IMREAD_UNCHANGED) for part in _PARTS
            )
            if performer is None or truth is None or mask is None:
                raise SystemExit(f"{self.folder} is damaged; remove it, and it is rendered again")
            points = self.folder / f"{index:06d}.points.npy"
            yield Moment(
                index,
                index / self.scene.fps,
                np.asarray(performer, np.uint8),
                np.asarray(truth, np.uint8),
                np.asarray(mask, np.uint8),
                np.load(points, allow_pickle=False) if points.exists() else None,
                self._scored(index),
            )

    def pairs(self) -> Iterator[tuple[ImageU8, ImageU8]]:
        """Performer and exact answer of every scored frame: what export.placement measures on."""
        return ((moment.performer, moment.truth) for moment in self.moments() if moment.scored)

    def _kept(self, index: int) -> bool:
        return index % self.every >= self.every - 1 - self.run_up

    def _scored(self, index: int) -> bool:
        return index % self.every == self.every - 1

    def _render(self, folder: Path, say: Callable[[float], None]) -> None:
        scene, poses = self.scene, self.scene.poses()
        performer, ideal = (
            Renderer(actor, *scene.size, scene.supersample, scene.background_seed)
            for actor in (Actor(scene.performer), Actor(scene.identity, body=scene.performer, tone=scene.tone))
        )
        with FaceFinder(static=True) as finder:
            for done, index in enumerate(self.indices, start=1):
                before = poses[index - 1] if index else None
                filmed, truth = (each.render(poses[index], before, frame=index) for each in (performer, ideal))
                pictures = (filmed.image, truth.image, truth.truth.face_mask)
                for part, picture in zip(_PARTS, pictures, strict=True):
                    cv2.imwrite(str(_picture(folder, index, part)), picture, _PNG)
                faces = finder.find(Frame(truth.image, index, 0.0, 0.0)) if self._scored(index) else []
                if faces:
                    np.save(folder / f"{index:06d}.points.npy", faces[0].landmarks, allow_pickle=False)
                say(done / len(self.indices))


def _picture(folder: Path, index: int, part: str) -> Path:
    return folder / f"{index:06d}.{part}.png"


def _renderer_sha256() -> str:
    """Of everything that decides what a scene looks like."""
    digest = hashlib.sha256()
    for path in sorted(Path(realtime.actors.__file__).parent.iterdir()):
        if path.suffix in (".py", ".npy"):
            digest.update(path.read_bytes())
    return digest.hexdigest()
