"""How wrong a painting is, frequency by frequency. The difference of two pictures in, one number out.

The focal frequency loss of Jiang et al., arXiv 2012.12821, with alpha 1: a squared error in the spectrum where each
frequency counts for more the worse it is painted. Plain errors of pixels are ruled by the coarse frequencies, which
hold most of a picture's power; here the fine ones catch up.
"""

from __future__ import annotations

import torch
from torch import Tensor


def focal_frequency(error: Tensor) -> Tensor:
    """() the loss of a difference (N, C, R, R) of pictures in [0, 1], mean over pictures, channels and frequencies.

    The transform is linear, so the spectrum of the difference is the difference of the spectra. The weight of a
    frequency is its error over the largest in its channel, and has no gradient.
    """
    spectrum = torch.fft.fft2(error.float(), norm="ortho")
    power = spectrum.real**2 + spectrum.imag**2
    with torch.no_grad():
        weight = power.sqrt()
        weight = weight / weight.amax((2, 3), keepdim=True).clamp_min(1e-12)
    loss: Tensor = (power * weight).mean()
    return loss
