"""Holds sound back until its picture goes out. Blocks of sound in, frames for an AAC encoder out.

A frame reaches an output when it has been swapped, its sound long before. Sound waits here until a picture of its time
goes out. What never comes is replaced by silence: players wait for a track that was announced.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray

from realtime.sound import SoundBlock
from realtime.sound_line import RATE, SoundLine

FRAME = 1024
"""Samples of an AAC frame."""
LEAD_S, WAIT_S, ABSENT_S = 4 * FRAME / RATE, 0.25, 1.0
"""Sound goes out so far ahead of the picture, if it is there: then a container, which sorts by time, need not hold the
picture back until the next one comes. It is waited for so long behind the picture, unless nothing has been heard for a
second."""
_MOST_WAITING_S = 10.0


class DelayLine:
    """`hear` may be called from another thread, the rest from one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[SoundBlock] = deque()
        self._line, self._heard_s = SoundLine(), -_MOST_WAITING_S

    def hear(self, block: SoundBlock) -> None:
        """Keep a block for later; when too much waits, the oldest is dropped."""
        with self._lock:
            self._waiting.append(block)
            seconds = sum(each.seconds for each in self._waiting)
            while seconds > _MOST_WAITING_S and len(self._waiting) > 1:
                seconds -= self._waiting.popleft().seconds

    def take(self, picture_s: float, origin_s: float) -> list[NDArray[np.float32]]:
        """What belongs to a picture, and what of the following is already there: (2, FRAME) each, without a gap.

        `picture_s` counts from `origin_s`, the pts_s of the first picture.
        """
        with self._lock:
            blocks = list(self._waiting)
            self._waiting.clear()
        for block in blocks:
            at_s = block.pts_s - origin_s
            self._line.add(block, at_s)
            self._heard_s = max(self._heard_s, at_s + block.seconds)
        ahead_s = picture_s + LEAD_S
        absent = picture_s - self._heard_s > ABSENT_S
        self._line.fill(ahead_s if absent else picture_s - WAIT_S)
        known = min(round(self._line.end_s * RATE), round(ahead_s * RATE))
        pieces = self._line.take((known - known % FRAME) / RATE)
        if not pieces:
            return []
        samples = np.ascontiguousarray(np.concatenate(pieces).T)
        return [np.ascontiguousarray(part) for part in np.split(samples, samples.shape[1] // FRAME, axis=1)]
