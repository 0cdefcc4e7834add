"""Puts the identity's face into the frame. Image and EngineOutput in, a new image out.

Note [Colour match]
    Two persons' skin under one light differs by a factor per channel, so that is what is matched: the mean of each
    channel over the common mask, as a gain. A gain leaves highlights and eyes their own colour, where an added shift,
    or mean and deviation in Lab or YCrCb, tints them blue. What the model lost in contrast is given back by one more
    gain around the performer's mean, from the deviations of luma, kept narrow so that a beard does not make cheeks
    hard. Both together are one multiplication and one addition per channel.

Note [Steady masks]
    The masks of a model tremble along their edge by parts of a pixel, and a trembling seam is what an eye sees first.
    In the crop the face stands still, so each mask is averaged over time with `mask_smoothing_s` - where it changes
    little. Where it changes by _BIG_CHANGE or more, a hand or a lock of hair came or went: there the newest mask counts
    at once, or the performer would show behind the hand for a moment. Measured with the demo's model on a rendered
    performer who sits and speaks quietly: the edge trembles 0.015 instead of 0.028 (rms of the second difference from
    frame to frame); while he turns 0.051 instead of 0.061, and while a hand passes the mask lags by 0.14 at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from realtime.align import cut, invert, transform
from realtime.dfm import Placement
from realtime.frame import ImageU8, MaskF32, Matrix
from realtime.infer import EngineOutput

Colours = NDArray[np.float64]
"""(3,) one value per channel, BGR."""
FaceF32 = NDArray[np.float32]
"""(R, R, 3) BGR in [0, 255], not rounded."""

_LUMA = np.array([[0.114, 0.587, 0.299]], np.float32)
_GAIN_LIMITS = 0.4, 2.5
_CONTRAST_LIMITS = 0.8, 1.25
_BORDER_FADE = 0.04
"""Share of the crop's side over which any mask fades out towards the crop's border, at least."""
_SMALLEST_SAMPLE = 0.01
"""Share of the crop below which the common mask says nothing about colour."""
_BIG_CHANGE = 0.5
"""Change of a mask from one frame to the next that is not smoothed, in [0, 1]; half of it is smoothed half as much."""
_SHARPEN_SIGMA = 0.01
"""Size of the details that `sharpen` brings out, as a fraction of the crop's side."""


@dataclass(frozen=True, slots=True)
class BlendSettings:
    """How a face is put into a frame. Lengths are fractions of the crop's side."""

    erode: float = 0.005
    """[0, 0.08]: how far the mask shrinks."""
    feather: float = 0.04
    """[0, 0.15]: width of the soft edge."""
    colour: Literal["none", "match"] = "match"
    """match: the identity's face takes the performer's mean colour and contrast."""
    colour_strength: float = 1.0
    """[0, 1]: how much of the colour match is applied."""
    colour_smoothing_s: float = 0.3
    """Time constant of the colour match, seconds; 0 follows every frame."""
    mask_smoothing_s: float = 0.1
    """Time constant of small changes of the masks, seconds; 0 follows every frame. See Note [Steady masks]."""
    sharpen: float = 0.0
    """[0, 1]: how much the details of the painted face are brought out."""
    opacity: float = 1.0
    """[0.8, 1]: 1 shows the identity alone; any less and the performer could be recognised under it."""
    hull: bool = False
    """Also limit the mask to the face outline of the landmarks."""
    scale: float = 1.0
    """How much larger than the model paints it the identity's face is shown."""
    shift_x: float = 0.0
    shift_y: float = 0.0
    """How far right and down of where the model paints it the identity's face is shown."""

    def __post_init__(self) -> None:
        if self.colour not in ("none", "match"):
            raise ValueError(f"colour must be none or match, got {self.colour!r}")
        for name, low, high in RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r}")
        if not isinstance(self.hull, bool):
            raise ValueError(f"hull must be true or false, got {self.hull!r}")


RANGES: tuple[tuple[str, float, float], ...] = (
    ("erode", 0, 0.08),
    ("feather", 0, 0.15),
    ("colour_strength", 0, 1),
    ("colour_smoothing_s", 0, 60),
    ("mask_smoothing_s", 0, 1),
    ("sharpen", 0, 1),
    ("opacity", 0.8, 1),
    ("scale", 0.8, 1.25),
    ("shift_x", -0.2, 0.2),
    ("shift_y", -0.2, 0.2),
)
"""Name, least and greatest value of each setting that is a number."""


class Blender:
    """Blends the face of one performer into frames. Remembers the colour match; not thread-safe.

    The user's scale and shift come on top of the `placement` that the model itself asks for.
    """

    def __init__(self, settings: BlendSettings | None = None, placement: Placement | None = None) -> None:
        self.settings = settings or BlendSettings()
        self._placement = placement or Placement()
        self._colour = ColourMatch(self.settings.colour_smoothing_s)
        self._theirs, self._ours = SteadyMask(), SteadyMask()

    def reset(self) -> None:
        """Forget colours and masks: another person, or a cut."""
        self._colour.reset()
        self._theirs.reset()
        self._ours.reset()

    def adjust(self, settings: BlendSettings) -> None:
        """Blend with other settings from now on, and remember what was."""
        self.settings = settings
        self._colour.smoothing_s = settings.colour_smoothing_s

    def steady(self, output: EngineOutput, now_s: float) -> EngineOutput:
        """`output` with masks in [0, 1] that do not tremble, see Note [Steady masks]; once for each frame."""
        smoothing_s = self.settings.mask_smoothing_s
        theirs = self._theirs.follow(output.performer_mask, now_s, smoothing_s)
        return replace(output, performer_mask=theirs, face_mask=self._ours.follow(output.face_mask, now_s, smoothing_s))

    def mask(self, output: EngineOutput, hull: MaskF32 | None = None) -> MaskF32:
        """(R, R) in [0, 1]: where `blend` shows the identity. hull: (R, R) in [0, 1], a further mask in crop space."""
        return combined_mask(output, self.settings, hull, self._place(output.face.shape[0]))

    def coverage(self, output: EngineOutput, cells: int) -> MaskF32:
        """(cells, cells) in [0, 1]: how much of each part of the crop both masks cover, sampled, no soft edges."""
        size = output.face.shape[0]
        step = max(size // (2 * cells), 1)
        sampled = slice(step // 2, None, step)
        theirs, ours = (
            cv2.resize(np.clip(each[sampled, sampled], 0, 1), (cells, cells), interpolation=cv2.INTER_LINEAR)
            for each in (output.performer_mask, output.face_mask)
        )
        place = self._place(size)
        place[:, 2] *= cells / size
        if not np.array_equal(place, np.eye(2, 3)):
            ours = cv2.warpAffine(ours, place, (cells, cells))
        return np.asarray(theirs * ours, np.float32)

    def blend(
        self,
        image: ImageU8,
        output: EngineOutput,
        crop_to_frame: Matrix,
        now_s: float,
        *,
        mask: MaskF32 | None = None,
        crop: ImageU8 | None = None,
    ) -> ImageU8:
        """A new image with the identity's face; outside the mask's rectangle it equals `image`, byte for byte.

        image: (H, W, 3) BGR in [0, 255], not changed, and given back as it is when the mask lies wholly outside.
        output: finite, see Engine. crop_to_frame: (2, 3), where the model's crop lies. now_s: any clock that goes with
        the frames. mask, crop: what `mask` answered and the crop the model was given, made again when not at hand.
        """
        settings, size = self.settings, output.face.shape[0]
        if mask is None:
            mask = self.mask(output)
        face: FaceF32 = np.clip(output.face, 0, 1) * np.float32(255)
        if settings.colour == "match" and settings.colour_strength > 0:
            target = cut(image, invert(crop_to_frame), size).image if crop is None else crop
            face = self._colour.apply(face, target, mask, now_s, settings.colour_strength)
        if settings.sharpen > 0:
            face = _sharpened(face, settings.sharpen)
        if settings.opacity < 1:
            mask = mask * np.float32(settings.opacity)
        return paste(image, face, mask, crop_to_frame, compose(crop_to_frame, self._place(size)))

    def _place(self, size: int) -> Matrix:
        """Where crop pixels of the identity go in the performer's crop: scaled about the centre, then shifted."""
        settings, own = self.settings, self._placement
        scale = settings.scale * own.scale
        rest = (1 - scale) * size / 2
        shift_x, shift_y = (settings.shift_x + own.shift_x) * size, (settings.shift_y + own.shift_y) * size
        return np.array([[scale, 0, rest + shift_x], [0, scale, rest + shift_y]])


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """The (2, 3) transform that applies `inner` first."""
    linear = outer[:, :2] @ inner[:, :2]
    return np.column_stack([linear, outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def combined_mask(
    output: EngineOutput, settings: BlendSettings, hull: MaskF32 | None = None, place: Matrix | None = None
) -> MaskF32:
    """(R, R) in [0, 1]: product of the masks, eroded, feathered, and zero along the crop's border.

    place: (2, 3), moves the identity's mask before it meets the performer's.
    """
    size = output.face.shape[0]
    theirs, ours = np.clip(output.performer_mask, 0, 1), np.clip(output.face_mask, 0, 1)
    window = _window(size, settings.feather)
    if place is not None and not np.array_equal(place, np.eye(2, 3)):
        ours = np.asarray(cv2.warpAffine(ours * window, place, (size, size)), np.float32)
    mask = theirs * ours
    if hull is not None:
        mask *= hull
    radius = round(settings.erode * size)
    if radius:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        mask = np.asarray(cv2.erode(mask, disc), np.float32)
    if settings.feather:
        sigma = settings.feather * size / 3  # an edge blurred with sigma rises over about three of them
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
    return np.asarray(mask * window, np.float32)


@cache
def _window(size: int, feather: float) -> MaskF32:
    """(R, R) that rises from 0 on the outermost pixels to 1: whatever the masks say, no edge of the crop is seen."""
    rise = np.arange(size, dtype=np.float32) / np.float32(max(feather, _BORDER_FADE, 3 / size) * size)
    side = np.clip(np.minimum(rise, rise[::-1]), 0, 1)
    side = side * side * (3 - 2 * side)
    window = np.asarray(side[:, None] * side, np.float32)
    window.setflags(write=False)
    return window


class SteadyMask:
    """Averages one mask over time where it changes little, see Note [Steady masks]."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next mask passes unchanged."""
        self._mask: MaskF32 | None = None
        self._last_s = 0.0

    def follow(self, mask: MaskF32, now_s: float, smoothing_s: float) -> MaskF32:
        """(R, R) in [0, 1]: `mask` (R, R), finite, at time `now_s`, without what trembles."""
        newest = np.clip(mask, 0, 1)
        before, step_s = self._mask, max(now_s - self._last_s, 0.0)
        if before is not None and before.shape == newest.shape and smoothing_s > 0:
            share = 1 - math.exp(-step_s / smoothing_s)
            change = newest - before
            follow = np.minimum(np.abs(change) * np.float32((1 - share) / _BIG_CHANGE) + np.float32(share), 1)
            newest = before + follow * change
        self._mask, self._last_s = np.asarray(newest, np.float32), now_s
        return self._mask


class ColourMatch:
    """Gives a painted face the colours of the face it replaces, see Note [Colour match]; smooth over time."""

    def __init__(self, smoothing_s: float) -> None:
        self.smoothing_s = smoothing_s
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next face is matched at once."""
        self._log_gains: Colours | None = None
        self._middle: Colours = np.zeros(3)
        self._last_s = 0.0

    def apply(self, face: FaceF32, target: ImageU8, mask: MaskF32, now_s: float, strength: float) -> FaceF32:
        """`face` with the colours of `target` (R, R, 3), both measured where `mask` (R, R) is above one half."""
        inside = (mask > 0.5).view(np.uint8)
        if cv2.countNonZero(inside) > _SMALLEST_SAMPLE * inside.size:
            measured, self._middle = self._measure(face, target, inside)
            self._follow(measured, now_s)
        if self._log_gains is None:
            return face
        gains = np.exp(self._log_gains)
        contrast, colour = gains[3], gains[:3]
        factor = 1 + strength * (contrast * colour - 1)
        shift = strength * (1 - contrast) * self._middle
        return np.asarray(cv2.transform(face, np.column_stack([np.diag(factor), shift])), np.float32)

    @staticmethod
    def _measure(face: FaceF32, target: ImageU8, inside: NDArray[np.uint8]) -> tuple[Colours, Colours]:
        """Logarithms of the three gains and of the contrast, (4,); and the mean colour of the target, (3,)."""
        mean_face, mean_target = (np.array(cv2.mean(each, mask=inside)[:3]) for each in (face, target))
        gain = np.clip((mean_target + 1) / (mean_face + 1), *_GAIN_LIMITS)
        luma_face = cv2.transform(face, _LUMA * gain)
        luma_target = cv2.transform(target, _LUMA)
        deviations = [float(cv2.meanStdDev(each, mask=inside)[1][0, 0]) for each in (luma_face, luma_target)]
        contrast = np.clip((deviations[1] + 1) / (deviations[0] + 1), *_CONTRAST_LIMITS)
        return np.log(np.append(gain, contrast)), mean_target

    def _follow(self, measured: Colours, now_s: float) -> None:
        if self._log_gains is None or self.smoothing_s == 0:
            self._log_gains = measured
        else:
            share = 1 - math.exp(-max(now_s - self._last_s, 0.0) / self.smoothing_s)
            self._log_gains = self._log_gains + share * (measured - self._log_gains)
        self._last_s = now_s


def _sharpened(face: FaceF32, amount: float) -> FaceF32:
    """Unsharp mask: what a small blur takes away is added once more."""
    soft = cv2.GaussianBlur(face, (0, 0), max(_SHARPEN_SIGMA * face.shape[0], 0.8), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.addWeighted(face, 1 + amount, soft, -amount, 0), np.float32)


def paste(
    image: ImageU8, face: FaceF32, mask: MaskF32, crop_to_frame: Matrix, face_to_frame: Matrix | None = None
) -> ImageU8:
    """A copy of `image` with `face` laid over it through `mask` (R, R) in [0, 1]; `image` itself if none of it shows.

    crop_to_frame places the mask, and the face too unless `face_to_frame` is given. Cubic, because the face was cut
    bilinearly and is blurred enough; a face that shrinks to less than half is averaged down first, or it would alias.
    """
    left, top, width, height = _rectangle(mask, crop_to_frame, image.shape[1], image.shape[0])
    if width <= 0 or height <= 0:
        return image
    out = image.copy()
    to_region = np.array([[0, 0, left], [0, 0, top]], np.float64)
    mask_there = _warp(mask, crop_to_frame - to_region, (width, height), cv2.INTER_LINEAR)
    to_frame = crop_to_frame if face_to_frame is None else face_to_frame
    face_there = _warp(face, to_frame - to_region, (width, height), cv2.INTER_CUBIC)
    region = out[top : top + height, left : left + width]
    change = cv2.multiply(cv2.subtract(face_there, region, dtype=cv2.CV_32F), cv2.merge([mask_there] * 3))
    cv2.add(region, change, dst=region, dtype=cv2.CV_8U)
    return out


def _rectangle(mask: MaskF32, crop_to_frame: Matrix, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width, height of the part of the frame where the mask is not zero."""
    x, y, w, h = cv2.boundingRect((mask > 0).view(np.uint8))
    if w == 0:
        return 0, 0, 0, 0
    corners = transform(crop_to_frame, np.array([[i, j] for i in (x - 1, x + w) for j in (y - 1, y + h)]))
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, (width, height)).astype(int)
    return int(left), int(top), int(right - left), int(bottom - top)


def _warp(pixels: FaceF32 | MaskF32, to_frame: Matrix, side: tuple[int, int], flags: int) -> NDArray[np.float32]:
    shrink = int(1 / math.hypot(to_frame[0, 0], to_frame[1, 0]))
    if shrink >= 2:
        size = max(2, pixels.shape[0] // shrink)
        step = pixels.shape[0] / size
        pixels = np.asarray(cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA), np.float32)
        # The centre of a pixel that is `step` times as wide lies (step - 1) / 2 further.
        to_frame = compose(to_frame, np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2]]))
    border = cv2.BORDER_REPLICATE if pixels.ndim == 3 else cv2.BORDER_CONSTANT
    return np.asarray(cv2.warpAffine(pixels, to_frame, side, flags=flags, borderMode=border), np.float32)
