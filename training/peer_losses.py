"""How DeepFaceLab and faceswap judge a painting, in their own weights. Painted and wanted pictures in, a number out.

Written from published formulas and weights, none of their code is in here. Always float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from training.augment import Pair
from training.model import Painted

SIGMA = 1.5
"""Of every window of the structural similarity; the sizes below only cut the same Gaussian shorter or longer."""
LUMINANCE, CONTRAST = 0.01**2, 0.03**2
DEEPFACELAB_WINDOW = 11.6
"""The window is the resolution over this; from 256 px on, half of the weight goes to a window of half the size."""
FACESWAP_WINDOW = 11
EYES, MOUTH = 3.0, 2.0
"""faceswap's multipliers, added to the 1 of the face."""


def gaussian(taps: int, sigma: float) -> Tensor:
    """(taps,) normalised; an even number of taps has its peak between two pixels."""
    at = torch.arange(taps, dtype=torch.float32) - (taps - 1) / 2
    return F.softmax(-at.square() / (2 * sigma**2), dim=0)


def band(window: Tensor, side: int) -> Tensor:
    """(side - taps + 1, side): multiplied from the left, it filters columns of `side` pixels without padding."""
    rows = side - len(window) + 1
    matrix = window.new_zeros(rows, side)
    for tap, weight in enumerate(window):
        matrix.diagonal(tap)[:rows] = weight
    return matrix


def filtered(x: Tensor, window: Tensor, padding: int = 0) -> Tensor:
    """(N, C, R, R) -> (N, C, R', R') by `window` along rows and columns; zeros around.

    As two matrix products: on a CPU, depthwise convolutions take several times as long, backwards above all.
    """
    matrix = band(window, x.shape[-1] + 2 * padding)[:, padding : padding + x.shape[-1]].to(x)
    return matrix @ x @ matrix.T


def dssim(a: Tensor, b: Tensor, taps: int) -> Tensor:
    """Mean structural dissimilarity (1 - SSIM) / 2 of (N, 3, R, R) pictures in [0, 1], windows inside the picture."""
    moments = filtered(torch.cat([a, b, a.square() + b.square(), a * b], dim=1), gaussian(taps, SIGMA))
    mean_a, mean_b, squares, product = moments.chunk(4, dim=1)
    both, power = 2 * mean_a * mean_b, mean_a.square() + mean_b.square()
    ssim = (both + LUMINANCE) / (power + LUMINANCE) * (2 * product - both + CONTRAST) / (squares - power + CONTRAST)
    return (1 - ssim.mean()) / 2


def soft_mask(mask: Tensor) -> Tensor:
    """(N, 1, R, R): blurred by a 32nd of the side and grown until half of the blur is full."""
    sigma = max(1, mask.shape[-1] // 32)
    taps = 4 * sigma + 1
    return filtered(mask, gaussian(taps, sigma), taps // 2).clamp(0, 0.5) * 2


def deepfacelab_loss(painted: Painted, input_mask: Tensor, pair: Pair) -> Tensor:
    """DeepFaceLab's loss of one side with its defaults, masked training on: structure, squares, squares of the mask.

    `input_mask` counts for nothing: each decoder learns the mask of its own person.
    """
    side, inside = pair.targets.shape[-1], soft_mask(pair.masks)
    face, target = painted.face.float() * inside, pair.targets * inside
    if side < 256:
        structure = 10 * dssim(face, target, max(1, int(side / DEEPFACELAB_WINDOW)))
    else:
        windows = [int(side / (DEEPFACELAB_WINDOW * halved)) for halved in (1, 2)]
        structure = sum((5 * dssim(face, target, taps) for taps in windows), torch.zeros_like(face[0, 0, 0, 0]))
    return structure + 10 * F.mse_loss(face, target) + 10 * F.mse_loss(painted.mask.float(), pair.masks)


def eyes_and_mouth(details: Tensor) -> tuple[Tensor, Tensor]:
    """The details (N, 1, R, R) of upright faces in two: what lies above their middle height, and below."""
    rows = torch.arange(details.shape[-2], device=details.device, dtype=details.dtype).view(1, 1, -1, 1)
    middle = (details * rows).sum((2, 3), keepdim=True) / details.sum((2, 3), keepdim=True).clamp_min(1e-6)
    above = (rows < middle).to(details)
    return details * above, details * (1 - above)


def faceswap_loss(painted: Painted, input_mask: Tensor, pair: Pair) -> Tensor:
    """faceswap's loss of one side with its defaults: structure and squares of the face, again of eyes and of mouth.

    Its masks are penalties: both pictures are multiplied, and the mean is over the whole picture.
    """
    eyes, mouth = eyes_and_mouth(pair.details)
    face, loss = painted.face.float(), torch.zeros_like(painted.face[0, 0, 0, 0], dtype=torch.float32)
    for mask, weight in ((pair.masks, 1.0), (eyes, EYES), (mouth, MOUTH)):
        seen, wanted = face * mask, pair.targets * mask
        loss = loss + weight * (dssim(seen, wanted, FACESWAP_WINDOW) + F.mse_loss(seen, wanted))
    return loss
