"""The only things carried from room to room: Frame, Face, Crop. Frozen; arrays are never written after construction."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

ImageU8 = NDArray[np.uint8]
"""(H, W, 3) BGR in [0, 255]."""
MaskF32 = NDArray[np.float32]
"""(H, W) in [0, 1]."""
Points = NDArray[np.float32]
"""(N, 2) or (N, 3) in pixels, x right, y down."""
Matrix = NDArray[np.float64]
"""(2, 3) affine transform."""


def check_image(image: ImageU8) -> None:
    """Raise ValueError unless `image` is (H, W, 3) uint8 with at least one pixel."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"expected a (H, W, 3) uint8 image, got {image.shape} {image.dtype}")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture on its way from a source to the sinks."""

    image: ImageU8
    """(H, W, 3) BGR in [0, 255]."""
    index: int
    """Counts up by one at the source: a gap is a dropped frame."""
    captured_s: float
    """time.monotonic() when the source had the picture: now - captured_s is the latency."""
    pts_s: float = 0.0
    """Presentation time inside the source, seconds from its start."""

    def __post_init__(self) -> None:
        check_image(self.image)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"Frame({width}x{height}, index={self.index}, pts_s={self.pts_s:.3f})"

    def with_image(self, image: ImageU8) -> Frame:
        """The same moment with another picture."""
        return replace(self, image=image)


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in one frame."""

    landmarks: Points
    """(468 or 478, 3) float32 MediaPipe mesh in frame pixels; z in the same unit, negative towards the camera."""
    score: float
    """Presence of a face, [0, 1]."""
    track_id: int = 0
    """The same number from frame to frame as long as the face is followed."""

    def __post_init__(self) -> None:
        if self.landmarks.ndim != 2 or self.landmarks.shape[0] not in (468, 478) or self.landmarks.shape[1] != 3:
            raise ValueError(f"expected (468 or 478, 3) landmarks, got {self.landmarks.shape}")

    def __repr__(self) -> str:
        left, top, right, bottom = self.box
        return f"Face({left:.0f},{top:.0f}-{right:.0f},{bottom:.0f}, score={self.score:.2f}, track_id={self.track_id})"

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the mesh in frame pixels."""
        low, high = self.landmarks[:, :2].min(axis=0), self.landmarks[:, :2].max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """One aligned face, cut out of a frame."""

    image: ImageU8
    """(S, S, 3) BGR in [0, 255]."""
    crop_to_frame: Matrix
    """(2, 3) float64, crop pixels -> frame pixels."""

    def __post_init__(self) -> None:
        check_image(self.image)
        if self.crop_to_frame.shape != (2, 3):
            raise ValueError(f"expected a (2, 3) crop_to_frame, got {self.crop_to_frame.shape}")

    def __repr__(self) -> str:
        return f"Crop({self.image.shape[0]} px, scale={np.hypot(*self.crop_to_frame[:, 0]):.3f})"
