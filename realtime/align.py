"""Cuts aligned crops. Frame, Face in, Crop out.

Note [Crop formula]
    The mesh is laid over the canonical face by the similarity u = k * Rot * p + t that fits its 152 rigid points best
    (Umeyama 1991, all weights equal); moving parts - lips, lids, brows - do not move the crop. A crop of S pixels with
    coverage c and offset (ox, oy), both in units of the canonical square, then shows

        q = S * ((k * Rot * p + t - (0.5 + ox, 0.5 + oy)) / c + 0.5)

    The canonical face is MediaPipe's canonical UV map under one fixed similarity, so that a model made for
    DeepFaceLive sees here what it sees there, to less than a thousandth of a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.frame import Crop, Face, ImageU8, Matrix, Points

_RIGID_RUNS = (
    "1-6 19 20 36 44 45 47-51 59 60 64 75 79 92-94 97-102 114-116 119-123 125-129 131 134 137 141 142 147 164-167 174 "
    "186-188 195-198 203 205-207 209 216-220 227 234-242 248 250 266 274 275 277-281 289 290 294 305 309 322 323 "
    "326-331 343-345 348-352 354-358 360 363 366 370 371 376 391-393 399 410-412 419 420 423 425-427 429 436-440 447 "
    "454-462"
)


def _indices(runs: str) -> NDArray[np.intp]:
    spans = ([int(end) for end in run.split("-")] for run in runs.split())
    return np.concatenate([np.arange(span[0], span[-1] + 1) for span in spans])


RIGID = _indices(_RIGID_RUNS)
"""The 152 mesh points that hardly move with the expression: nose, cheeks, temples, part of the jaw."""


@cache
def canonical_mesh() -> NDArray[np.float64]:
    """(468, 2) positions of the mesh on the canonical face: eyes at y = 0.22, the square [0, 1] from brows to lips."""
    uv = np.load(Path(__file__).with_name("models") / "canonical_face_uv.npy", allow_pickle=False).astype(np.float64)
    rotation = np.array([[0.99999848, 0.00174533], [-0.00174533, 0.99999848]])
    mesh: NDArray[np.float64] = 1.7720999 * uv @ rotation.T + (-0.39736413, -0.44141884)
    mesh.setflags(write=False)
    return mesh


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """What a crop shows; it belongs to the model that was trained on such crops."""

    size: int
    """Side of the crop in pixels."""
    coverage: float
    """Side of the crop on the canonical face."""
    offset_x: float = 0.0
    offset_y: float = 0.0
    """Centre of the crop, relative to the centre of the canonical square, in its units; y down."""

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 4096:
            raise ValueError(f"a crop is 16 to 4096 pixels wide, got {self.size}")
        if not 0.1 <= self.coverage <= 8 or not abs(self.offset_x) <= 4 or not abs(self.offset_y) <= 4:
            raise ValueError(f"coverage {self.coverage} or offset ({self.offset_x}, {self.offset_y}) is out of range")

    def resized(self, size: int) -> CropGeometry:
        """The same view with another number of pixels."""
        return replace(self, size=size)

    def widened(self, factor: float) -> CropGeometry:
        """The same centre and pixel density, `factor` times as much to see: the room that augmentation moves in."""
        return replace(
            self, size=round(self.size * factor), coverage=self.coverage * round(self.size * factor) / self.size
        )


def whole_face(size: int) -> CropGeometry:
    """Forehead to chin with room around: how DeepFaceLive looks at a face."""
    return CropGeometry(size, coverage=2.2, offset_y=-0.08)


def full_face(size: int) -> CropGeometry:
    """Brows to chin, more pixels on the features: for small models."""
    return CropGeometry(size, coverage=1.5966)


def fit_similarity(points: NDArray[np.floating], targets: NDArray[np.floating]) -> Matrix:
    """Least-squares similarity that maps `points` (N, 2) onto `targets` (N, 2): Umeyama, PAMI 13(4), 1991.

    Raises ValueError for fewer than two points, points that all coincide, or values that are not finite.
    """
    source, target = np.asarray(points, np.float64), np.asarray(targets, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(f"expected two equal (N, 2) arrays with N >= 2, got {source.shape} and {target.shape}")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source, target = source - source_mean, target - target_mean
    variance = (source**2).sum() / len(source)
    if not np.isfinite(variance) or variance < 1e-12:
        raise ValueError("the points coincide or are not finite: no similarity can be fitted")
    # In two dimensions the SVD has a closed form: rotation and scale are one complex number.
    real = (source * target).sum() / len(source)
    imaginary = (source[:, 0] * target[:, 1] - source[:, 1] * target[:, 0]).sum() / len(source)
    a, b = real / variance, imaginary / variance
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def frame_to_crop(landmarks: Points, geometry: CropGeometry) -> Matrix:
    """The similarity from frame pixels to crop pixels for one mesh, see Note [Crop formula]."""
    to_canonical = fit_similarity(landmarks[RIGID, :2], canonical_mesh()[RIGID])
    scale = geometry.size / geometry.coverage
    corner = 0.5 + np.array([geometry.offset_x, geometry.offset_y]) - geometry.coverage / 2
    to_canonical[:, 2] -= corner
    return to_canonical * scale


def invert(matrix: Matrix) -> Matrix:
    """The inverse of a (2, 3) affine transform."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def transform(matrix: Matrix, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, 2) points moved by a (2, 3) affine transform."""
    return np.asarray(points, np.float64)[:, :2] @ matrix[:, :2].T + matrix[:, 2]


def cut(image: ImageU8, matrix: Matrix, size: int, *, border: int = cv2.BORDER_CONSTANT) -> Crop:
    """The crop that `matrix` (frame pixels -> crop pixels) shows; black, or another cv2.BORDER_*, where the frame ends.

    Bilinear without antialiasing, as DeepFaceLive cuts; a face more than twice as large as the crop is first
    averaged down, because bilinear alone would alias.
    """
    crop_to_frame = invert(matrix)
    shrink = int(math.hypot(matrix[0, 0], matrix[1, 0]) ** -1 // 2)
    if shrink >= 1:
        factor = shrink + 1
        finer, side = matrix * factor + _centre_shift(factor), size * factor
        wide = cv2.warpAffine(image, finer, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)
        pixels = cv2.resize(wide, (size, size), interpolation=cv2.INTER_AREA)
    else:
        pixels = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
    return Crop(np.asarray(pixels, np.uint8), crop_to_frame)


def _centre_shift(factor: int) -> Matrix:
    # Pixel centres of a grid that is `factor` times finer lie (factor - 1) / 2 further.
    return np.array([[0, 0, (factor - 1) / 2], [0, 0, (factor - 1) / 2]], np.float64)


def align(image: ImageU8, face: Face, geometry: CropGeometry) -> Crop:
    """Cut one face as `geometry` wants it. Raises ValueError for a degenerate mesh."""
    return cut(image, frame_to_crop(face.landmarks, geometry), geometry.size)


@dataclass(slots=True)
class _OneEuro:
    """Low-pass filter whose cut-off rises with speed (Casiez, Roussel, Vogel: 1 Euro filter, CHI 2012), with a lead.

    The plain filter trails whatever moves. This one first goes on at the speed of the last samples and then corrects,
    so that steady motion has no lag: on a moving face it beats both the plain filter and none.
    """

    min_cutoff_hz: float
    beta: float
    value: float | None = None
    speed: float = 0.0
    last_sample: float = 0.0

    def __call__(self, sample: float, step_s: float, unit: float = 1.0) -> float:
        """The filtered sample; `unit` is the size that makes a speed of one unit a second worth `beta` hertz."""
        if self.value is None:
            self.value = self.last_sample = sample
            return sample
        self.speed += _smoothing(_SPEED_CUTOFF_HZ, step_s) * ((sample - self.last_sample) / step_s - self.speed)
        self.last_sample = sample
        expected = self.value + self.speed * step_s
        cutoff_hz = self.min_cutoff_hz + self.beta * abs(self.speed) / unit
        self.value = expected + _smoothing(cutoff_hz, step_s) * (sample - expected)
        return self.value


_SPEED_CUTOFF_HZ = 2.0


def _smoothing(cutoff_hz: float, step_s: float) -> float:
    return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * step_s))


class SteadySimilarity:
    """Keeps a frame-to-crop similarity still: One-Euro on where the crop's centre lies, its scale and its angle.

    Filtering these four, instead of 468 points, cannot bend the face; speed is measured in crop widths, so that
    one setting serves every face size. Not thread-safe: one instance per followed face.
    """

    def __init__(self, size: int, *, min_cutoff_hz: float = 3.0, beta: float = 6.0) -> None:
        self._size = size
        self._min_cutoff_hz, self._beta = min_cutoff_hz, beta
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample passes unchanged."""
        self._filters = [_OneEuro(self._min_cutoff_hz, self._beta) for _ in range(4)]
        self._last_s: float | None = None
        self._angle = 0.0

    def __call__(self, matrix: Matrix, now_s: float) -> Matrix:
        """The filtered (2, 3) frame-to-crop similarity at time `now_s`."""
        to_frame = invert(matrix)
        centre = transform(to_frame, np.array([[self._size / 2, self._size / 2]]))[0]
        width_px = math.hypot(to_frame[0, 0], to_frame[1, 0]) * self._size
        angle = math.atan2(to_frame[1, 0], to_frame[0, 0])
        self._angle += math.remainder(angle - self._angle, 2 * math.pi)
        step_s = 1 / 30 if self._last_s is None else max(now_s - self._last_s, 1e-3)
        self._last_s = now_s
        x, y = (self._filters[i](float(centre[i]), step_s, width_px) for i in range(2))
        width = math.exp(self._filters[2](math.log(width_px), step_s))
        turn = self._filters[3](self._angle, step_s)
        scale = width / self._size
        a, b = scale * math.cos(turn), scale * math.sin(turn)
        half = self._size / 2
        return invert(np.array([[a, -b, x - (a - b) * half], [b, a, y - (a + b) * half]]))
