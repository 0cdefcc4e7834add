"""Measures how the identity's face should lie over the performer's. Frames with an exact answer in, a Placement out.

Note [Placement]
    Two people's rigid points fit the canonical face each in their own way: a long nose pulls the whole crop. What the
    identity's decoder paints is therefore a little too large or too low for the performer's head, and always by the
    same amount. One similarity, the same for every frame, puts it right. It can only be measured where the exact swap
    is known, as with rendered actors; with real people, `liveswap run --scale --shift-x --shift-y` sets it by eye.

    The meshes of swap and answer say roughly where it lies, but each is read with an error that depends on the face.
    From there a descent along the three numbers finds the place with the smallest squared difference of the pictures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import fit_similarity, frame_to_crop, transform
from realtime.blend import BlendSettings
from realtime.detect import FaceFinder
from realtime.dfm import Placement
from realtime.errors import ExportError
from realtime.frame import Face, Frame, ImageU8
from realtime.infer import DEFAULT_MORPH, Engine, EngineOutput, open_engine
from realtime.swap import FaceSwapper

LEAST_FRAMES = 5
_STEPS = 0.005, 0.0025, 0.00125
"""Of the descent: of the scale, and of the shifts in sides of the crop."""


def measure_placement(model: Path, pairs: Iterable[tuple[ImageU8, ImageU8]]) -> Placement:
    """The similarity from the faces that `model` swaps in to the faces that should be seen, see Note [Placement].

    `pairs`: performer and exact answer, (H, W, 3) BGR each. A pair in which a face is not found is passed over.
    Raises ExportError when fewer than LEAST_FRAMES are left.
    """
    frames = list(pairs)
    engine = open_engine(model)
    geometry = engine.dfm.geometry
    found: list[tuple[float, float, float]] = []
    with FaceSwapper(FaceFinder(static=True), engine, smooth=False) as swapper, FaceFinder(static=True) as finder:
        for index, (performer, wanted) in enumerate(frames):
            frame = Frame(performer, index, 0.0, float(index))
            result = swapper.swap(frame)
            swap, goal = (finder.find(frame.with_image(image)) for image in (result.frame.image, wanted))
            if not (result.swapped and swap and goal):
                continue
            to_crop = frame_to_crop(result.faces[0].landmarks, geometry)
            painted, right = (transform(to_crop, faces[0].landmarks[:468]) for faces in (swap, goal))
            found.append(_centred(painted, right, geometry.size))
    if len(found) < LEAST_FRAMES:
        raise ExportError(f"only {len(found)} frames show both faces; give more frames to measure the placement on")
    start = np.median(found, axis=0)
    with FaceSwapper(_Known(frames), Remembering(open_engine(model)), smooth=False) as swapper:
        scale, shift_x, shift_y = _descend(start, lambda place: _error(swapper, frames, place))
    return Placement(round(scale, 4), round(shift_x, 4), round(shift_y, 4))


class Remembering:
    """An engine that paints each crop once and remembers it. Not thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.dfm, self.provider = engine, engine.dfm, engine.provider
        self._known: dict[bytes, EngineOutput] = {}

    def run(self, image: ImageU8, morph: float = DEFAULT_MORPH) -> EngineOutput:
        """See Engine.run; `morph` is that of the first time."""
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in self._known:
            painted = self._engine.run(image, morph)
            arrays = (painted.face, painted.face_mask, painted.performer_mask)
            self._known[key] = EngineOutput(*(each.copy() for each in arrays))
        return self._known[key]

    def place(self, placement: Placement) -> None:
        """Lay faces so from now on, whatever the model says."""
        self.dfm = replace(self.dfm, placement=placement)

    def close(self) -> None:
        """Close the engine; what is remembered stays."""
        self._engine.close()


class _Known:
    """A finder that finds the faces of each frame once and remembers them."""

    def __init__(self, frames: Sequence[tuple[ImageU8, ImageU8]]) -> None:
        with FaceFinder(static=True) as finder:
            self._faces = [finder.find(Frame(image, i, 0.0, float(i))) for i, (image, _) in enumerate(frames)]

    def find(self, frame: Frame) -> list[Face]:
        """The faces of the frame with this index."""
        return self._faces[frame.index]

    def close(self) -> None:
        """Nothing is held open."""


def _error(swapper: FaceSwapper, frames: Sequence[tuple[ImageU8, ImageU8]], place: NDArray[np.float64]) -> float:
    """Sum of the squared differences between swaps put in `place` and their answers."""
    scale, shift_x, shift_y = (float(value) for value in place)
    swapper.adjust(BlendSettings(scale=scale, shift_x=shift_x, shift_y=shift_y), DEFAULT_MORPH)
    total = 0.0
    for index, (performer, wanted) in enumerate(frames):
        swapped = swapper.swap(Frame(performer, index, 0.0, float(index))).frame.image
        total += cv2.norm(swapped, wanted, cv2.NORM_L2SQR)
    return total


def _descend(start: NDArray[np.float64], error: Callable[[NDArray[np.float64]], float]) -> tuple[float, float, float]:
    """The lowest point near `start`, one coordinate after the other with ever smaller steps."""
    best, least = start, error(start)
    for step in _STEPS:
        moves = [sign * step * axis for axis in np.eye(3) for sign in (1, -1)]
        while (tried := min(((error(best + move), number) for number, move in enumerate(moves))))[0] < least:
            least, best = tried[0], best + moves[tried[1]]
    scale, shift_x, shift_y = (float(value) for value in best)
    return scale, shift_x, shift_y


def _centred(
    points: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    targets: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    size: int,
) -> tuple[float, float, float]:
    """Scale, and shift of the crop's centre in sides of the crop, of the similarity from `points` to `targets`."""
    similarity = fit_similarity(points, targets)
    centre = transform(similarity, np.array([[size / 2, size / 2]]))[0]
    shift = (centre - size / 2) / size
    return math.hypot(similarity[0, 0], similarity[1, 0]), float(shift[0]), float(shift[1])
