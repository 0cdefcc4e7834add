"""Tells a person from a picture of one. The landmarks of one followed face in, whether it lives out.

Note [What a picture cannot do]
    However a flat picture is carried, and however the camera moves in front of it, its points move by one affine
    transform (perspective adds little). A head that turns, lips that speak and lids that close do not. So a mesh is
    laid over the mesh of STEP_S earlier by the best affine transform, and what remains, in distances between the eyes,
    is life. Measured through FaceFinder, 90th percentile over the frames: 0.002 for a picture that hangs still, 0.003
    to 0.007 for one that is carried or panned over, 0.008 to 0.024 for one that is turned by 35 degrees in front of
    the camera, where the network invents some depth; 0.02 to 0.07 for people who talk or turn, rendered and real. A
    person who sits still and says nothing (0.004 to 0.007) cannot be told from a picture until he moves, and a screen
    that shows a film of a person counts as a person.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from realtime.frame import Points

STEP_S, LONG_STEP_S = 0.17, 1.0
"""How far apart the two meshes are; the longer step is for those who hardly move."""
MOVED = 0.016
"""What remains above this is a movement no picture makes, in distances between the eyes."""
WINDOW_S, MOVED_FRAMES_S = 1.5, 0.25
"""A face lives when it so moved for so long, within such a window; single frames may be the network's."""
STILL, STILL_S, STILL_SHARE = 0.01, 3.0, 0.9
"""A face is as still as a picture when over so many seconds so large a share of the frames moved less than STILL from
one second to the next: pictures that hang or are carried 0.006 to 0.01, quiet people 0.011 to 0.03."""

_EYES = 33, 263
_LATE = 2.0
"""A step may turn out so many times as long, when frames are missing."""
_FEWEST = 8


class Life:
    """Watches one face. Once found alive it stays alive. Not thread-safe."""

    def __init__(self) -> None:
        self.since_s = math.inf
        """When it was found alive."""
        self._meshes: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._moved: deque[tuple[float, float]] = deque()
        self._slow: deque[tuple[float, float]] = deque()
        """When, and how much it had moved within LONG_STEP_S."""

    @property
    def alive(self) -> bool:
        """Whether it has shown life."""
        return self.since_s < math.inf

    @property
    def picture(self) -> bool:
        """Whether it has been as still as a picture for STILL_S."""
        if self.alive or len(self._slow) < _FEWEST or self._slow[-1][0] - self._slow[0][0] < 0.9 * STILL_S:
            return False
        return float(np.quantile([moved for _, moved in self._slow], STILL_SHARE)) < STILL

    def watch(self, landmarks: Points, now_s: float) -> bool:
        """Whether the face with these (468 or 478, 3) landmarks has shown life up to now."""
        if self.alive or not np.isfinite(landmarks).all():
            return self.alive
        mesh = landmarks[:468, :2].astype(np.float64)
        step_s = now_s - self._meshes[-1][0] if self._meshes else 0.0
        short, long = self._moved_since(mesh, now_s, STEP_S), self._moved_since(mesh, now_s, LONG_STEP_S)
        if short is not None and short > MOVED:
            self._moved.append((now_s, min(step_s, MOVED_FRAMES_S / 3)))
        if long is not None:
            self._slow.append((now_s, long))
        self._meshes.append((now_s, mesh))
        for history, longest_s in (
            (self._meshes, _LATE * LONG_STEP_S),
            (self._moved, WINDOW_S),
            (self._slow, STILL_S),
        ):
            while history and not 0 <= now_s - history[0][0] <= longest_s:
                history.popleft()
        if sum(step_s for _, step_s in self._moved) >= MOVED_FRAMES_S:
            self.since_s = now_s
        return self.alive

    def _moved_since(self, mesh: NDArray[np.float64], now_s: float, step_s: float) -> float | None:
        """How much the face has moved as no picture can since the newest mesh that is `step_s` old."""
        earlier = next((each for each in reversed(self._meshes) if now_s - each[0] >= step_s), None)
        if earlier is None or now_s - earlier[0] > _LATE * step_s:
            return None
        return unlike_a_picture(earlier[1], mesh)


def unlike_a_picture(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """What the best affine transform of `before` leaves of `after`, both (N, 2): rms, in distances between the eyes."""
    source, target = before - before.mean(axis=0), after - after.mean(axis=0)
    spread = source.T @ source
    if np.linalg.det(spread) < 1e-9 * max(spread.trace(), 1e-9) ** 2:
        return 0.0
    rest = target - source @ np.linalg.solve(spread, source.T @ target)
    eyes = float(np.linalg.norm(after[_EYES[0]] - after[_EYES[1]]))
    return float(np.sqrt((rest**2).sum() / len(rest))) / max(eyes, 1e-9)
