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

STEP_S, LONGEST_STEP_S = 0.17, 0.5
"""How far apart the two meshes are, at least and at most."""
MOVED = 0.016
"""What remains above this is a movement no picture makes, in distances between the eyes."""
WINDOW_S, MOVED_FRAMES_S = 1.5, 0.25
"""A face lives when it so moved for so long, within such a window; single frames may be the network's."""

_EYES = 33, 263


class Life:
    """Watches one face. Once found alive it stays alive. Not thread-safe."""

    def __init__(self) -> None:
        self.since_s = math.inf
        """When it was found alive."""
        self._meshes: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._moved: deque[tuple[float, float]] = deque()

    @property
    def alive(self) -> bool:
        """Whether it has shown life."""
        return self.since_s < math.inf

    def watch(self, landmarks: Points, now_s: float) -> bool:
        """Whether the face with these (468 or 478, 3) landmarks has shown life up to now."""
        if self.alive:
            return True
        mesh = landmarks[:468, :2].astype(np.float64)
        earlier = None
        while self._meshes and now_s - self._meshes[0][0] >= STEP_S:
            earlier = self._meshes.popleft()
        if earlier and now_s - earlier[0] <= LONGEST_STEP_S:
            step_s = now_s - (self._meshes[-1][0] if self._meshes else earlier[0])
            if unlike_a_picture(earlier[1], mesh) > MOVED:
                self._moved.append((now_s, min(step_s, MOVED_FRAMES_S / 3)))
        if earlier:
            self._meshes.appendleft(earlier)  # the next frame may still need it
        self._meshes.append((now_s, mesh))
        while self._moved and now_s - self._moved[0][0] > WINDOW_S:
            self._moved.popleft()
        if sum(step_s for _, step_s in self._moved) >= MOVED_FRAMES_S:
            self.since_s = now_s
        return self.alive


def unlike_a_picture(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """What the best affine transform of `before` leaves of `after`, both (N, 2): rms, in distances between the eyes."""
    source, target = before - before.mean(axis=0), after - after.mean(axis=0)
    spread = source.T @ source
    if not np.isfinite(spread).all() or np.linalg.det(spread) < 1e-9 * max(spread.trace(), 1e-9) ** 2:
        return 0.0
    rest = target - source @ np.linalg.solve(spread, source.T @ target)
    eyes = float(np.linalg.norm(after[_EYES[0]] - after[_EYES[1]]))
    return float(np.sqrt((rest**2).sum() / len(rest))) / max(eyes, 1e-9)
