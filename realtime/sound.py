"""What sound is on its way from a source to the sinks: SoundBlock, in the same time as the frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SoundBlock:
    """A moment of sound."""

    samples: NDArray[np.float32]
    """(n, channels) in [-1, 1]."""
    rate: int
    """Samples a second."""
    pts_s: float
    """When the first sample sounds, on the same scale as Frame.pts_s."""

    def __post_init__(self) -> None:
        if self.samples.dtype != np.float32 or self.samples.ndim != 2 or self.samples.shape[1] not in (1, 2):
            raise ValueError(f"expected (n, 1 or 2) float32 samples, got {self.samples.shape} {self.samples.dtype}")
        if self.rate <= 0:
            raise ValueError(f"a rate of {self.rate} samples a second makes no sound")

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


@runtime_checkable
class Sounding(Protocol):
    """A source whose sound comes with its frames."""

    @property
    def has_sound(self) -> bool:
        """Whether there is any sound to listen to."""
        ...

    def listen(self, hear: Callable[[SoundBlock], None]) -> None:
        """Call `hear` with each block of sound, on the thread that reads the frames; say so before reading them."""
        ...
