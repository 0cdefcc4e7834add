"""Puts the identity's face into the frame. Image and EngineOutput in, a new image out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import cut, invert, transform
from realtime.frame import ImageU8, MaskF32, Matrix
from realtime.infer import EngineOutput


@dataclass(frozen=True, slots=True)
class BlendSettings:
    """How a face is put into a frame. Lengths are fractions of the crop's side."""

    erode: float = 0.02
    """How far the mask shrinks."""
    feather: float = 0.03
    """Width of the soft edge."""
    colour: Literal["none", "match"] = "match"
    """match: the identity's face takes the mean colour and the contrast of the performer's."""
    colour_strength: float = 1.0
    """[0, 1]: how much of the colour match is applied."""
    colour_smoothing_s: float = 0.3
    """Time constant of the colour match, seconds; 0 follows every frame."""
    opacity: float = 1.0
    """[0, 1]: 1 shows the identity, 0 the performer."""
    hull: bool = False
    """Also limit the mask to the face outline of the landmarks."""

    def __post_init__(self) -> None:
        for name, high in (
            ("erode", 0.3),
            ("feather", 0.5),
            ("colour_strength", 1.0),
            ("colour_smoothing_s", 60.0),
            ("opacity", 1.0),
        ):
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in [0, {high:g}], got {getattr(self, name)}")
        if self.colour not in ("none", "match"):
            raise ValueError(f"colour must be none or match, got {self.colour}")


class Blender:
    """Blends faces of one performer into frames; remembers the colour match, so one per performer. Not thread-safe."""

    def __init__(self, settings: BlendSettings | None = None) -> None:
        self.settings = settings or BlendSettings()
        self.reset()

    def reset(self) -> None:
        """Forget the colour match: another person, or a cut."""
        self._colour: NDArray[np.float64] | None = None
        self._last_s = 0.0

    def blend(
        self,
        image: ImageU8,
        output: EngineOutput,
        crop_to_frame: Matrix,
        now_s: float,
        *,
        crop: ImageU8 | None = None,
        hull: MaskF32 | None = None,
    ) -> ImageU8:
        """A new image with the identity's face; outside the face's rectangle it equals `image`, byte for byte.

        image: (H, W, 3) BGR in [0, 255], not changed. crop_to_frame: (2, 3), where the model's crop lies. now_s: any
        clock that goes with the frames. crop: (R, R, 3) the crop the model was given, when at hand. hull: (R, R) in
        [0, 1], a further mask in crop space.
        """
        size = output.face.shape[0]
        mask = self.mask(output, hull)
        face = np.clip(output.face, 0, 1) * np.float32(255)
        if self.settings.colour == "match" and self.settings.colour_strength > 0:
            target = cut(image, invert(crop_to_frame), size).image if crop is None else crop
            face = self._match(face, target, mask, now_s)
        return paste(image, face, mask, crop_to_frame)

    def mask(self, output: EngineOutput, hull: MaskF32 | None = None) -> MaskF32:
        """(R, R) in [0, 1], zero along the crop's border."""
        settings, size = self.settings, output.face.shape[0]
        mask = np.clip(output.face_mask, 0, 1) * np.clip(output.performer_mask, 0, 1)
        if hull is not None:
            mask *= hull
        erode, feather = round(settings.erode * size), settings.feather * size
        border = max(1, erode + math.ceil(feather))
        mask[:border], mask[-border:], mask[:, :border], mask[:, -border:] = 0, 0, 0, 0
        if erode:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * erode + 1, 2 * erode + 1))
            mask = np.asarray(cv2.erode(mask, kernel), np.float32)
        if feather:
            mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), feather / 2), np.float32)
        mask[0], mask[-1], mask[:, 0], mask[:, -1] = 0, 0, 0, 0
        return np.asarray(mask * np.float32(settings.opacity), np.float32)

    def _match(self, face: NDArray[np.float32], target: ImageU8, mask: MaskF32, now_s: float) -> NDArray[np.float32]:
        inside = (mask > 0.5).astype(np.uint8)
        if cv2.countNonZero(inside) > 0.01 * inside.size:
            mean_face, std_face = (each.ravel() for each in cv2.meanStdDev(face, mask=inside))
            mean_target, std_target = (each.ravel() for each in cv2.meanStdDev(target, mask=inside))
            gain = np.clip(std_target / np.maximum(std_face, 1e-3), 0.8, 1.25)
            wanted = np.stack([gain, mean_target - gain * mean_face])
            tau, step = self.settings.colour_smoothing_s, max(now_s - self._last_s, 0.0)
            share = 1.0 if self._colour is None or tau == 0 else 1 - math.exp(-step / tau)
            self._colour = wanted if self._colour is None else self._colour + share * (wanted - self._colour)
            self._last_s = now_s
        if self._colour is None:
            return face
        gain, shift = self._colour
        strength = self.settings.colour_strength
        return np.asarray(face * (1 + strength * (gain - 1)) + strength * shift, np.float32)


def paste(image: ImageU8, face: NDArray[np.float32], mask: MaskF32, crop_to_frame: Matrix) -> ImageU8:
    """A copy of `image` with `face` (R, R, 3) BGR in [0, 255] laid over it through `mask` (R, R) in [0, 1]."""
    out = image.copy()
    size, (height, width) = face.shape[0], image.shape[:2]
    corners = transform(crop_to_frame, np.array([[0, 0], [size, 0], [0, size], [size, size]]))
    left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, (width, height)).astype(int)
    if left >= right or top >= bottom:
        return out
    shifted = crop_to_frame - np.array([[0, 0, left], [0, 0, top]])
    region = out[top:bottom, left:right]
    side = (int(right - left), int(bottom - top))
    face_there = cv2.warpAffine(face, shifted, side, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask_there = cv2.warpAffine(mask, shifted, side, flags=cv2.INTER_LINEAR)[:, :, None]
    mixed = region + mask_there * (face_there - region)
    region[:] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return out
