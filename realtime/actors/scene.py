"""Films a swap with a known answer. A Scene in; each frame of the performer, and the same moment swapped, out."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import cv2

from realtime.actors.actor import Actor
from realtime.actors.identity import ADA, BO, Identity
from realtime.actors.motion import motion
from realtime.actors.pose import Pose
from realtime.actors.render import Renderer, Rendering
from realtime.errors import SourceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A performance, a performer and the identity that is to be swapped in; the same scene gives the same pixels."""

    performer: Identity = BO
    identity: Identity = ADA
    frames: int = 300
    fps: float = 30.0
    seed: int = 0
    """Of the performance."""
    size: tuple[int, int] = (640, 480)
    """Width and height of the picture in pixels."""
    tone: float = 1.0
    """Skin colour of the swapped face: 0 the identity's own, 1 pulled to the performer's."""
    yaw: float = 40.0
    pitch: float = 20.0
    roll: float = 15.0
    """Peaks of the head's rotation in degrees."""
    light: float = 1.0
    """How much the light changes."""
    hand: bool = True
    """Whether a hand passes in front of the face."""
    background_seed: int = 5
    supersample: float = 1.5

    def __post_init__(self) -> None:
        width, height = self.size
        if not (16 <= width <= 8192 and 16 <= height <= 8192 and 1 <= self.supersample <= 4):
            raise ValueError(f"a scene of {width}x{height} at supersample {self.supersample} cannot be rendered")
        if self.frames < 1 or not self.fps > 0:
            raise ValueError(f"a scene has at least 1 frame and more than 0 a second, got {self.frames} at {self.fps}")
        if not 0 <= self.tone <= 1:
            raise ValueError(f"tone is between 0 (the identity's skin) and 1 (the performer's), got {self.tone}")

    def poses(self) -> list[Pose]:
        """One pose per frame."""
        return motion(
            self.frames,
            self.fps,
            self.seed,
            yaw=self.yaw,
            pitch=self.pitch,
            roll=self.roll,
            light=self.light,
            hand=self.hand,
        )


@dataclass(frozen=True, slots=True, eq=False)
class SwapFrame:
    """One moment, filmed twice."""

    index: int
    """Counts up from 0."""
    performer: Rendering
    """What the camera sees."""
    ideal: Rendering
    """The exact answer: the identity's face on the performer's head, in the same pose, light and noise."""


class _Stage:
    """The two actors of a scene and their cameras."""

    def __init__(self, scene: Scene) -> None:
        width, height = scene.size
        self._poses = scene.poses()
        self._performer, self._ideal = (
            Renderer(actor, width, height, scene.supersample, scene.background_seed)
            for actor in (Actor(scene.performer), Actor(scene.identity, body=scene.performer, tone=scene.tone))
        )

    def film(self, index: int) -> SwapFrame:
        pose = self._poses[index]
        previous = self._poses[index - 1] if index else None
        return SwapFrame(
            index,
            self._performer.render(pose, previous, frame=index),
            self._ideal.render(pose, previous, frame=index),
        )


def perform(scene: Scene) -> Generator[SwapFrame, None, None]:
    """Every frame of the scene in order, rendered one by one on this thread."""
    stage = _Stage(scene)
    for index in range(scene.frames):
        yield stage.film(index)


_stage: _Stage | None = None


def _open_stage(scene: Scene) -> None:
    global _stage
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends the workers
    cv2.setNumThreads(1)
    _stage = _Stage(scene)


def _film(index: int) -> SwapFrame:
    assert _stage is not None
    return _stage.film(index)


def render_clip(scene: Scene, workers: int = 2) -> Generator[SwapFrame, None, None]:
    """Every frame of the scene in order, rendered ahead by `workers` processes; the same pixels as perform().

    At most a few frames per worker wait in memory. The workers end with the iterator; one that may be left early is
    best held by contextlib.closing(). The processes are spawned: a script that calls this needs the usual
    `if __name__ == "__main__":`. Raises ValueError for less than one worker, SourceError when a worker dies.
    """
    if workers < 1:
        raise ValueError(f"at least one worker renders, got {workers}")
    return _render_ahead(scene, workers)


def _render_ahead(scene: Scene, workers: int) -> Generator[SwapFrame, None, None]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_open_stage, initargs=(scene,))
    waiting: deque[Future[SwapFrame]] = deque()
    try:
        for index in range(scene.frames):
            waiting.append(pool.submit(_film, index))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise SourceError(
            "a process that renders the actors died; render with workers=1, or free some memory"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
