"""Lays blocks of sound on a time line. Samples and the moments they belong to in, one gapless stretch of sound out.

Note [Two clocks]
    A microphone counts samples with its own quartz, which runs up to 0.02 % fast or slow: 0.7 s in an hour. Where the
    next block ends up is therefore compared with where it belongs, and the difference is pulled in by playing a little
    slower or faster, by interpolation between samples, so that nothing clicks and nobody hears the pitch change.
    Only a difference that no clock explains (a lost stretch, a reconnect) is a gap or a cut, faded on both sides.
"""

from __future__ import annotations

import math
from collections import deque
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from realtime.sound import SoundBlock

SoundF32 = NDArray[np.float32]
"""(n, 2) in [-1, 1]."""

RATE = 48_000
"""Samples a second of every line."""
JUMP_S = 0.08
"""A block that is further from its place starts anew there."""
PULL_S, SMOOTH_S, MOST_PULL = 4.0, 0.5, 0.005
"""A difference is pulled in over so many seconds, after smoothing over so many, at most by this share of the speed:
a ninth of a semitone."""
FADE = 240
"""Samples of each fade: 5 ms."""

_TAPS, _PHASES, _KAISER_BETA = 24, 512, 8.0


class SoundLine:
    """A time line that starts at 0 s; what comes before is cut, what is missing is silence. Not thread-safe."""

    def __init__(self) -> None:
        self._ready: deque[SoundF32] = deque()
        self._made = self._taken = 0
        self._run: _Run | None = None
        self.heard = False
        """Whether any sound has found its place."""
        self.lag_s = self.worst_lag_s = 0.0
        """How late the sound lies on the line, smoothed; the largest such difference so far, without its sign."""

    @property
    def end_s(self) -> float:
        """How far the line is filled."""
        return self._made / RATE

    def add(self, block: SoundBlock, at_s: float) -> None:
        """Lay down a block whose first sample belongs at `at_s`; blocks come in the order of their times."""
        if not len(block.samples) or not math.isfinite(at_s):
            return
        samples = np.clip(np.nan_to_num(block.samples), -1, 1)
        samples = np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples
        run, at = self._run, at_s * RATE
        if run is not None:
            off = at - (self._made + run.pending)
            if run.rate != block.rate or abs(off) > JUMP_S * RATE:
                self._end_run()
                run = None
            else:
                run.pull(off, block.seconds)
                self.lag_s = -run.off / RATE
                self.worst_lag_s = max(self.worst_lag_s, abs(self.lag_s))
        if run is None:
            ahead = max(math.ceil(at - self._made), 0)
            self._put(silence(ahead))
            self._run = run = _Run(block.rate, skip=self._made - at)
        played = run.feed(samples)
        self.heard = self.heard or len(played) > 0
        self._put(played)

    def fill(self, until_s: float) -> None:
        """Wait no longer for sound that belongs before `until_s`: what is missing is silence."""
        if self._made >= until_s * RATE:
            return
        self._end_run()
        self._put(silence(max(round(until_s * RATE) - self._made, 0)))

    def finish(self) -> None:
        """No block follows: bring out what is still held back."""
        self._end_run()

    def take(self, until_s: float) -> list[SoundF32]:
        """What follows what was taken before, as far as it is known, up to `until_s`."""
        taken = []
        while self._ready and (room := round(until_s * RATE) - self._taken) > 0:
            piece = self._ready.popleft()
            if len(piece) > room:
                self._ready.appendleft(piece[room:])
                piece = piece[:room]
            self._taken += len(piece)
            taken.append(piece)
        return taken

    def _put(self, piece: SoundF32) -> None:
        if len(piece):
            self._ready.append(piece)
            self._made += len(piece)

    def _end_run(self) -> None:
        if self._run is not None:
            self._put(self._run.end())
            self._run = None


class _Run:
    """Blocks that follow each other without a gap, at one rate."""

    def __init__(self, rate: int, skip: float) -> None:
        """`skip`: how many samples of the line lie before its first one, and are cut."""
        self.rate, self.off = rate, 0.0
        self._step = rate / RATE
        self._kernel = _kernel(self._step)
        self._history: int = self._kernel.shape[1] // 2
        self._samples = np.zeros((self._history, 2), np.float32)
        self._position: float = self._history + skip * self._step
        self._speed, self._out = 1.0, 0

    @property
    def pending(self) -> float:
        """How many samples of the line are still to come out of what went in."""
        return (len(self._samples) - self._position) / self._step

    def pull(self, off: float, seconds: float) -> None:
        """Adapt the speed: the block that follows, of `seconds`, belongs `off` samples after what went in."""
        self.off += (1 - math.exp(-seconds / SMOOTH_S)) * (off - self.off)
        self._speed = 1 - min(max(self.off / (PULL_S * RATE), -MOST_PULL), MOST_PULL)

    def feed(self, samples: SoundF32) -> SoundF32:
        """What can be played once `samples` are there; enough is held back to fade out."""
        self._samples = np.concatenate([self._samples, samples])
        return self._play(self._history + FADE * self._step)

    def end(self) -> SoundF32:
        """The rest, faded out."""
        self._samples = np.concatenate([self._samples, np.zeros((self._history, 2), np.float32)])
        rest = self._play(self._history)
        ramp = min(FADE, len(rest))
        if ramp:
            rest[-ramp:] *= np.linspace(1, 0, ramp, dtype=np.float32)[:, None]
        return rest

    def _play(self, hold_back: float) -> SoundF32:
        step = self._step * self._speed
        count = max(math.floor((len(self._samples) - hold_back - self._position) / step), 0)
        if not count:
            return silence(0)
        at = self._position + step * np.arange(count)
        whole = at.astype(np.intp)
        phases = np.rint((at - whole) * _PHASES).astype(np.intp)
        around = sliding_window_view(self._samples, 2 * self._history, axis=0)[whole - self._history + 1]
        played = np.asarray(np.einsum("nct,nt->nc", around, self._kernel[phases]), np.float32)
        self._position += step * count
        spent = min(max(int(self._position) - self._history, 0), len(self._samples))
        self._samples = self._samples[spent:]
        self._position -= spent
        if self._out < FADE:
            played *= np.clip((self._out + np.arange(1, count + 1)) / FADE, 0, 1).astype(np.float32)[:, None]
        self._out += count
        return played


@cache
def _kernel(step: float) -> NDArray[np.float32]:
    """(phases + 1, taps) windowed sinc that interpolates between samples, and cuts off what RATE cannot carry."""
    cutoff = min(1.0, 1 / step)
    half = math.ceil(_TAPS / 2 / cutoff)
    distance = np.arange(1 - half, half + 1) - np.arange(_PHASES + 1)[:, None] / _PHASES
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None)))
    kernel = np.sinc(cutoff * distance) * window
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True), np.float32)


def silence(count: int) -> SoundF32:
    """(count, 2) zeros that take no room, however many; not to be written to."""
    return np.broadcast_to(np.zeros((1, 2), np.float32), (count, 2))
