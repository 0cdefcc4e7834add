"""How actors move. A number of frames and a seed in, one Pose a frame out."""

from __future__ import annotations

import cv2
import numpy as np

from realtime.actors.numerics import Floats, gaussian, smoothstep
from realtime.actors.pose import Pose


def motion(
    count: int,
    fps: float = 30.0,
    seed: int = 0,
    *,
    yaw: float = 40.0,
    pitch: float = 20.0,
    roll: float = 15.0,
    light: float = 1.0,
    hand: bool = True,
) -> list[Pose]:
    """A talking performance of `count` frames: head, lips, brows, blinks, gaze and light move.

    `yaw`, `pitch` and `roll` are the peaks in degrees; `light` scales how much strength and colour of the light change
    (its direction always does); with `hand`, a hand passes before the face from 48 to 76 % of the time. The same
    arguments give the same performance. Raises ValueError for a count below 1 or fps not above 0.
    """
    if count < 1 or not fps > 0:
        raise ValueError(f"a performance has at least 1 frame and more than 0 frames a second, got {count} at {fps}")
    tracks = _tracks(max(count, 2), fps, seed, (yaw, pitch, roll), light)  # a single frame still has a duration
    in_view = tracks.pop("hand") > 0
    return [
        Pose(hand=hand and bool(in_view[index]), **{name: float(track[index]) for name, track in tracks.items()})
        for index in range(count)
    ]


class _Signals:
    """Draws smooth random signals over the frames; the order of the calls is part of the result."""

    def __init__(self, count: int, fps: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.time_s = np.arange(count) / fps
        self.duration_s = float(self.time_s[-1])

    def wave(self, peak: float, lowest_hz: float, partials: int = 4) -> Floats:
        """Smooth, around zero, with peaks near `peak`."""
        total = np.zeros(len(self.time_s))
        for partial in range(1, partials + 1):
            speed = 2 * np.pi * lowest_hz * partial * self.rng.uniform(0.8, 1.2)
            phase = self.rng.uniform(0, 6.28)
            total += np.sin(speed * self.time_s + phase) / partial
        return np.asarray(peak * np.clip(total / 1.35, -1, 1))

    def saccades(self, rate_hz: float, spread: float) -> Floats:
        """Jumps from one held value to the next, a little smoothed."""
        count = max(2, int(rate_hz * self.duration_s))
        times = np.sort(self.rng.uniform(0, self.duration_s + 0.1, count))
        values = np.interp(self.time_s, times, self.rng.normal(0, spread, count), 0, 0)
        held: Floats = np.asarray(cv2.GaussianBlur(values[None], (0, 0), 1.2), np.float64)[0]
        return held

    def blinks(self, count: int) -> Floats:
        """0 open, 1 shut; every 1.2 to 4 seconds."""
        closed = np.zeros(len(self.time_s))
        for moment_s in np.cumsum(self.rng.uniform(1.2, 4.0, count)):
            closed = np.maximum(closed, gaussian(self.time_s - moment_s, 0.075))
        return closed


def _tracks(
    count: int, fps: float, seed: int, peaks_deg: tuple[float, float, float], light: float
) -> dict[str, Floats]:
    """One (count,) signal for every field of Pose."""
    signals = _Signals(count, fps, seed)
    wave, saccades = signals.wave, signals.saccades
    talking = smoothstep(-0.1, 0.4, wave(1, 0.17, 2))
    syllables = np.abs(wave(1, 1.9, 3)) * talking
    blink = signals.blinks(int(count // fps) + 2)
    yaw, pitch, roll = peaks_deg
    tracks: dict[str, Floats] = {}
    tracks["yaw"] = wave(yaw, 0.11)
    tracks["pitch"] = wave(pitch, 0.14)
    tracks["roll"] = wave(roll, 0.09)
    tracks["x"] = wave(3.5, 0.07)
    tracks["y"] = wave(1.5, 0.1)
    tracks["z"] = wave(7, 0.06)
    tracks["jaw"] = np.clip(0.75 * syllables, 0, 1)
    tracks["smile"] = wave(0.7, 0.1, 2) + 0.25
    tracks["brow"] = wave(0.8, 0.2)
    tracks["frown"] = np.clip(wave(1, 0.12), 0, 1)
    tracks["pucker"] = np.clip(wave(1, 1.3, 3), 0, 0.8) * talking
    tracks["blink_left"] = blink
    tracks["blink_right"] = blink
    tracks["gaze_y"] = saccades(1.2, 0.3)
    tracks["light_azimuth"] = wave(70, 0.05, 2)
    tracks["light_elevation"] = 25 + wave(22, 0.08, 2)
    tracks["key"] = 1 + light * wave(0.3, 0.13)
    tracks["ambient"] = 0.5 + light * wave(0.15, 0.1)
    tracks["kelvin"] = 5500 + light * wave(1800, 0.04, 2)
    tracks["gaze_x"] = np.clip(-tracks["yaw"] / 60 + saccades(1.2, 0.35), -1, 1)  # the eyes stay near the camera
    across = (signals.time_s / signals.duration_s - 0.62) / 0.14
    tracks["hand"] = (np.abs(across) < 1).astype(np.float64)
    tracks["hand_x"] = -16 + 15 * np.cos(across * np.pi / 2)
    tracks["hand_y"] = 15 - 5 * np.cos(across * 2)
    tracks["hand_turn"] = 25 - 15 * np.cos(across * 2)
    return tracks
