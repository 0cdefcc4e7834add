"""How wrong a painting is. Painted and wanted pictures in, one number out. Always float32.

Note [One mean]
    Every loss is a mean over the faces of a batch of numbers that each face has by itself. So a batch may be cut into
    equal parts, for several processes or one after the other, and the mean of the parts' losses is the loss of the
    whole. What needs the whole batch, the clouds of codes, is summed over the processes, see training.distributed.

Note [Every second window]
    Of a training step on a processor, the blurs of the structural similarity were a sixth. Its windows are eleven
    pixels wide and overlap almost wholly, so training looks through every second one of them, across and down: each
    pixel is still seen by all the windows around it, with the same weights in sum. Nothing is computed twice either:
    the two variances are only ever added, so one blur makes both, and the target's mean needs no gradient. Held-out
    figures keep every window, see `dssim_map`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from training.augment import Pair
from training.frequency import focal_frequency
from training.model import SIDES, CodeStatistics, Painted, Side

WINDOW_SIGMA, WINDOW_TAPS = 1.5, 11
"""Of the structural similarity, as Wang et al., IEEE TIP 13(4), 2004."""
C1, C2 = 0.01**2, 0.03**2
"""Its constants, from the same paper, for pictures in [0, 1]."""
SCALE_WEIGHTS = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333
"""Of its scales, finest first: Wang, Simoncelli and Bovik, Asilomar 2003."""


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the parts; each part is a mean over pixels."""

    pixel: float = 5.0
    """L1, after each channel was brought to the target's mean: colour is matched again when a face is blended in."""
    tone: float = 1.0
    """L1 between those means."""
    structure: float = 2.0
    """DSSIM = (1 - SSIM) / 2, at full and half size, through every second window."""
    ms_structure: float = 0.0
    """(1 - MS-SSIM) / 2: contrast and structure of all scales multiplied."""
    frequency: float = 0.0
    """Focal frequency loss, see training.frequency."""
    edges: float = 2.0
    """L1 between Laplacians: pays for sharpness, which L1 alone averages away."""
    align: float = 0.05
    """Pull between the two people's clouds of codes, see Note [One cloud]."""
    mask: float = 1.0
    """Binary cross-entropy of both masks."""
    details: float = 2.0
    """Extra weight of eyes and mouth: few pixels, most of the expression."""
    surroundings: float = 0.1
    """Weight of what is outside the face; it is never pasted."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 0:
                raise ValueError(f"the loss {name} cannot count for less than nothing, got {getattr(self, name)}")


def gaussian_window() -> Tensor:
    """(11,) normalised taps."""
    taps = [math.exp(-((i - WINDOW_TAPS // 2) ** 2) / (2 * WINDOW_SIGMA**2)) for i in range(WINDOW_TAPS)]
    return torch.tensor(taps) / sum(taps)


def blur(x: Tensor, window: Tensor) -> Tensor:
    """Separable Gaussian, valid borders: 22 multiplications a pixel where the square window needs 121."""
    channels, taps = x.shape[1], len(window)
    window = window.to(x)
    x = F.conv2d(x, window.view(1, 1, taps, 1).expand(channels, 1, taps, 1), groups=channels)
    return F.conv2d(x, window.view(1, 1, 1, taps).expand(channels, 1, 1, taps), groups=channels)


def dssim_map(a: Tensor, b: Tensor) -> Tensor:
    """(N, C, R-10, R-10) structural dissimilarity of two (N, C, R, R) pictures in [0, 1]."""
    window, channels = gaussian_window(), a.shape[1]
    moments = blur(torch.cat([a, b, a * a, b * b, a * b], dim=1), window)
    mean_a, mean_b, aa, bb, ab = torch.split(moments, channels, dim=1)
    var_a, var_b, covariance = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    ssim: Tensor = ((2 * mean_a * mean_b + C1) * (2 * covariance + C2)) / (
        (mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2)
    )
    return (1 - ssim) / 2


def _blurs(pictures: Sequence[Tensor], stride: int) -> tuple[Tensor, ...]:
    """What `blur` makes of each of the pictures, at every `stride`-th place."""
    count, channels, height, width = pictures[0].shape
    # As channels of one picture: the fast depthwise convolutions take them in groups of 16, the batch they do not.
    x = torch.cat(list(pictures)).reshape(1, -1, height, width)
    planes, window = x.shape[1], gaussian_window().to(x)
    x = F.conv2d(x, window.view(1, 1, -1, 1).expand(planes, 1, -1, 1), stride=(stride, 1), groups=planes)
    x = F.conv2d(x, window.view(1, 1, 1, -1).expand(planes, 1, 1, -1), stride=(1, stride), groups=planes)
    return torch.split(x.view(len(pictures) * count, channels, *x.shape[-2:]), count)


def similarity_maps(face: Tensor, target: Tensor, stride: int = 1) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, of two (N, C, R, R) pictures; their product is the SSIM.

    Both are (N, C, ceil((R-10) / stride), same), in (-1, 1]. Gradients reach `face` alone, see Note [Every second
    window].
    """
    target = target.detach()
    (mean_b,) = _blurs([target], stride)
    mean_a, power, product = _blurs([face, face * face + target * target, face * target], stride)
    cross, square = 2 * mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    return (cross + C1) / (square + C1), (2 * product - cross + C2) / (power - square + C2)


def dssim(face: Tensor, target: Tensor, weights: Tensor, stride: int = 2) -> Tensor:
    """() structural dissimilarity of (N, C, R, R) pictures under weights (N, 1, R, R), through every other window."""
    luminance, structure = similarity_maps(face, target, stride)
    return _weighted(0.5 - 0.5 * luminance * structure, _at_windows(weights, stride))


def ms_dssim(face: Tensor, target: Tensor, weights: Tensor, stride: int = 2) -> Tensor:
    """() (1 - MS-SSIM) / 2, under weights (N, 1, R, R), with as many of the five scales as hold a window.

    Where fewer do (below 176 px), the weights of those that do are scaled to sum to 1.
    """
    scales = max(1, min(len(SCALE_WEIGHTS), int(math.log2(face.shape[-1] / WINDOW_TAPS)) + 1))
    total = sum(SCALE_WEIGHTS[:scales])
    similarity = torch.ones((), device=face.device)
    for level, share in enumerate(SCALE_WEIGHTS[:scales]):
        luminance, structure = similarity_maps(face, target, stride)
        last = level == scales - 1
        mean = _mean_of_channels(luminance * structure if last else structure, _at_windows(weights, stride))
        # A negative correlation has no fractional power; it is as wrong as none at all.
        similarity = similarity * mean.clamp_min(1e-4) ** (share / total)
        if not last:
            face, target, weights = (halved(x) for x in (face, target, weights))
    return ((1 - similarity) / 2).mean()


def _mean_of_channels(x: Tensor, weights: Tensor) -> Tensor:
    """(N, C) weighted means over the pixels."""
    return (x * weights).sum((2, 3)) / (weights.sum((2, 3)) + 1e-6)


def _at_windows(weights: Tensor, stride: int) -> Tensor:
    """The weights at the centres of the windows that `similarity_maps` looks through."""
    return _trim(weights, WINDOW_TAPS // 2)[..., ::stride, ::stride]


def halved(x: Tensor) -> Tensor:
    """(N, C, R // 2, R // 2) means of 2x2 pixels; avg_pool2d is several times slower on a processor."""
    rows, columns = (2 * (side // 2) for side in x.shape[-2:])
    x = x[..., :rows:2, :] + x[..., 1::2, :]
    return (x[..., :columns:2] + x[..., 1::2]) / 4


def laplacian(x: Tensor) -> Tensor:
    """(N, C, R-2, R-2) four-neighbour Laplacian."""
    middle = x[..., 1:-1, 1:-1]
    return x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:] - 4 * middle


def cross_entropy(mask: Tensor, wanted: Tensor) -> Tensor:
    """Mean binary cross-entropy of masks in [0, 1].

    By hand, because torch's own answers a mask that is not a number with an assertion, on a GPU a fatal one.
    """
    mask = mask.clamp(1e-4, 1 - 1e-4)
    return -(wanted * mask.log() + (1 - wanted) * (1 - mask).log()).mean()


def alignment_loss(code: Tensor, side: Side, statistics: CodeStatistics) -> Tensor:
    """How far apart the two people's clouds of codes are, once codes (N, C) have joined the cloud of `side`.

    The gradient reaches the codes through their share in the running mean and covariance. The loss cannot fall below
    nought, so codes cannot run away. It counts for nothing until both clouds are known, and more from then on.
    """
    own = SIDES.index(side)
    mean, covariance = statistics.joined(code.float(), side)
    scale = statistics.covariance.diagonal(dim1=1, dim2=2).mean(dim=0).clamp_min(1e-8).rsqrt()
    excess = (covariance - statistics.covariance[1 - own]) * scale[:, None] * scale
    shift = (mean - statistics.mean[1 - own]) * scale
    distance = (excess**2).sum() / 2 + (shift**2).sum()
    return statistics.trust() * distance / (statistics.share(side) * code.shape[1])


def _trim(weights: Tensor, border: int) -> Tensor:
    return weights[..., border:-border, border:-border]


def _weighted(x: Tensor, weights: Tensor) -> Tensor:
    """Mean over faces of each one's weighted mean, see Note [One mean]."""
    return ((x * weights).sum((1, 2, 3)) / (weights.sum((1, 2, 3)) * x.shape[1] + 1e-6)).mean()


def face_core(mask: Tensor) -> Tensor:
    """(N, 1, R, R) mask without the rim in which skin is painted instead of what was there, see `extend_face`."""
    reach = max(1, mask.shape[-1] // 40)
    x = F.pad(mask, (reach, reach, reach, reach), value=1.0)
    for along in (2, 3):
        x = _smallest(x, 2 * reach + 1, along)
    return x


def _smallest(x: Tensor, taps: int, along: int) -> Tensor:
    """The smallest of every `taps` neighbours: doubling the reach, a minimum filter takes log2 of its taps."""
    have = 1
    while have < taps:
        step = min(have, taps - have)
        length = x.shape[along] - step
        x = torch.minimum(x.narrow(along, 0, length), x.narrow(along, step, length))
        have += step
    return x


@torch.no_grad()
def extend_face(picture: Tensor, mask: Tensor) -> Tensor:
    """(N, 3, R, R) in which the skin goes on beyond the face: what a decoder should paint around one.

    The edge of a pasted face shows a little of what was painted next to it. Behind the identity there was a wall or
    hair, and a rim of it around the swap is the first thing one sees; skin of the nearest cheek is not seen at all.
    """
    size = picture.shape[-1]
    inside, cell = face_core(mask), max(1, size // 16)
    skin, amount = F.avg_pool2d(picture * inside, cell), F.avg_pool2d(inside, cell)
    around = skin / amount.clamp_min(1e-3)
    known = amount > 0.02
    for _ in range(8):  # from cell to cell outwards, each one the mean of the neighbours that are known
        weight = F.avg_pool2d(known.float(), 3, 1, 1)
        spread = F.avg_pool2d(around * known, 3, 1, 1) / weight.clamp_min(1e-3)
        around, known = torch.where(known, around, spread), known | (weight > 0)
    around = F.interpolate(around, size=(size, size), mode="bilinear", align_corners=False)
    soft = F.avg_pool2d(inside, 3, 1, 1)
    return picture * soft + around * (1 - soft)


def side_loss(painted: Painted, input_mask: Tensor, pair: Pair, config: LossConfig) -> Tensor:
    """The loss of one person's batch: picture inside its mask, painted mask, input mask."""
    # Planes one after the other: what a network in channels_last painted would make every line below slower.
    face, target = painted.face.float().contiguous(), extend_face(pair.targets, pair.masks)
    mean_face, mean_target = ((x * pair.masks).sum((2, 3), keepdim=True) for x in (face, target))
    area = pair.masks.sum((2, 3), keepdim=True) + 1e-6
    tone = ((mean_face - mean_target) / area).abs().mean()
    face = face * (mean_target / mean_face.clamp_min(1e-6)).clamp(0.5, 2).detach()
    weights = config.surroundings + (1 - config.surroundings) * pair.masks + config.details * pair.details
    loss = config.tone * tone + _picture_loss(face, target, weights, config)
    for mask, wanted in ((painted.mask, pair.masks), (input_mask, pair.input_masks)):
        loss = loss + config.mask * cross_entropy(mask.float(), wanted)
    return loss


def _picture_loss(face: Tensor, target: Tensor, weights: Tensor, config: LossConfig) -> Tensor:
    """What the pixels of (N, 3, R, R) pictures lose under weights (N, 1, R, R). Parts without weight cost no time."""
    error = face - target
    loss = config.pixel * _weighted(error.abs(), weights)
    if config.edges:
        loss = loss + config.edges * _weighted(laplacian(error).abs(), _trim(weights, 1))
    if config.structure:
        coarse = dssim(halved(face), halved(target), halved(weights))
        loss = loss + config.structure * (dssim(face, target, weights) + coarse)
    if config.ms_structure:
        loss = loss + config.ms_structure * ms_dssim(face, target, weights)
    if config.frequency:
        loss = loss + config.frequency * focal_frequency(error * weights)
    return loss
