"""Measures how a face is seen, and whether two frames belong to one shot. Pixels in, numbers out."""

from __future__ import annotations

import math
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import RIGID, CropGeometry, canonical_mesh, fit_similarity
from realtime.frame import Crop, ImageU8, Points

_HAIRLINE, _CHIN = 10, 152
_SHARPNESS_PX = 160
"""Height of the face, hairline to chin, at which sharpness is measured."""
_THUMBNAIL_PX = 32
Thumbnail = NDArray[np.uint8]
"""(32, 32, 3) BGR, a whole frame."""
_CUT_LEVELS, _CUT_TIMES, _CUT_MEMORY = 12.0, 4.0, 12


def face_height_px(landmarks: Points) -> float:
    """Height of the face, hairline to chin, in pixels; it hardly changes when the head turns or the mouth opens.

    It is the height of the canonical face under the similarity that aligns the crop, so a crop in which the
    face is higher holds no more detail. Raises ValueError for a mesh that cannot be aligned.
    """
    to_canonical = fit_similarity(landmarks[RIGID, :2], canonical_mesh()[RIGID])
    return _canonical_height() / math.hypot(to_canonical[0, 0], to_canonical[1, 0])


def sharpness(crop: Crop, geometry: CropGeometry, landmarks: Points) -> float:
    """Standard deviation of the Laplacian inside the face, grey levels, at one face size for every crop.

    `landmarks` are in the pixels of `crop`, which shows `geometry`. A face enlarged from few pixels is soft here too.
    About 3 for a blurred face, 15 for a crisp one; noise counts as detail.
    """
    scale = _SHARPNESS_PX / (_canonical_height() * geometry.size / geometry.coverage)
    grey = cv2.cvtColor(crop.image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    inside = np.zeros(small.shape, np.uint8)
    hull = cv2.convexHull((landmarks[:, :2] * scale).astype(np.float32))
    cv2.fillConvexPoly(inside, np.round(hull).astype(np.int32), 255)
    shrunk = cv2.erode(inside, np.ones((9, 9), np.uint8))  # the outline is an edge of its own
    values = cv2.Laplacian(small, cv2.CV_32F)[shrunk > 0]
    return float(values.std()) if values.size else 0.0


def _canonical_height() -> float:
    return float(canonical_mesh()[_CHIN, 1] - canonical_mesh()[_HAIRLINE, 1])


class CutFinder:
    """Notices jump cuts. One frame after the other in, whether a new shot begins out.

    A cut changes a thumbnail by more than both a fixed amount and a multiple of what the last frames changed. A flash
    or a fast pan may be taken for a cut; that costs one search for the face. Not thread-safe.
    """

    def __init__(self) -> None:
        self.first: Thumbnail | None = None
        """The first frame that was shown, small."""
        self.last: Thumbnail | None = None
        """The last one."""
        self._changes: deque[float] = deque(maxlen=_CUT_MEMORY)

    @property
    def usual_change(self) -> float:
        """What the last frames have changed, grey levels."""
        return float(np.median(self._changes)) if self._changes else 0.0

    def is_cut(self, image: ImageU8) -> bool:
        """Whether `image` (H, W, 3) begins a new shot; False for the first one."""
        last, self.last = self.last, _thumbnail(image)
        if last is None:
            self.first = self.last
            return False
        cut = is_jump(last, self.last, self.usual_change)
        if cut:
            self._changes.clear()
        else:
            self._changes.append(_change(last, self.last))
        return cut


def is_jump(last: Thumbnail, now: Thumbnail, usual_change: float) -> bool:
    """Whether there is a cut between two frames, of which the frames before the first have changed `usual_change`."""
    return _change(last, now) > max(_CUT_LEVELS, _CUT_TIMES * usual_change)


def _thumbnail(image: ImageU8) -> Thumbnail:
    # INTER_AREA of a large picture is slow; a coarse grid of its pixels says as much about a cut.
    step = max(1, min(image.shape[:2]) // (4 * _THUMBNAIL_PX))
    size = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    small = cv2.resize(np.ascontiguousarray(image[::step, ::step]), size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _change(last: Thumbnail, now: Thumbnail) -> float:
    return float(np.abs(now.astype(np.float32) - last).mean())
