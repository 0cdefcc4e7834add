"""Measures how the identity's face should lie over the performer's. Frames with an exact answer in, a Placement out.

Note [Placement]
    Two people's rigid points fit the canonical face each in their own way: a long nose pulls the whole crop. What the
    identity's decoder paints is therefore a little too large or too low for the performer's head, and always by the
    same amount. One similarity, the same for every frame, puts it right. It can only be measured where the exact swap
    is known, as with rendered actors; with real people, `liveswap run --scale --shift-x --shift-y` sets it by eye.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from realtime.align import fit_similarity, frame_to_crop, transform
from realtime.detect import FaceFinder
from realtime.dfm import Placement
from realtime.errors import ExportError
from realtime.frame import Frame, ImageU8
from realtime.infer import open_engine
from realtime.swap import FaceSwapper

LEAST_FRAMES = 5


def measure_placement(model: Path, pairs: Iterable[tuple[ImageU8, ImageU8]]) -> Placement:
    """The median similarity from the faces that `model` swaps in to the faces that should be seen.

    `pairs`: performer and exact answer, (H, W, 3) BGR each. A pair in which a face is not found is passed over.
    Raises ExportError when fewer than LEAST_FRAMES are left.
    """
    engine = open_engine(model)
    geometry = engine.dfm.geometry
    found: list[tuple[float, float, float]] = []
    with FaceSwapper(FaceFinder(static=True), engine, smooth=False) as swapper, FaceFinder(static=True) as finder:
        for index, (performer, wanted) in enumerate(pairs):
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
    scale, shift_x, shift_y = (round(float(value), 4) for value in np.median(found, axis=0))
    return Placement(scale, shift_x, shift_y)


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
