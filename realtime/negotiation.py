"""What became of a wish. What a camera was asked for, grants and really delivers in; a sentence and a remedy out."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEASURE_S = 1.0
"""The rate is measured over so long a time of reading without a pause."""
HELD_SHARE = 0.2
"""A reader that keeps the camera waiting longer than this share of the time measures itself, not the camera."""
SLOW_SHARE = 0.8
"""Below this share of the wanted rate a camera counts as slow."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way in which a camera can deliver pictures; None: no matter, or not known."""

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    fourcc: str | None = None
    """How the pictures travel: MJPG, YUYV, NV12, ..."""

    @classmethod
    def of(cls, width: float, height: float, fps: float, code: float) -> Mode:
        """What a driver's numbers say; `code` holds the letters of the format. What cannot be is None."""
        raw = int(code).to_bytes(4, "little") if 0 < code < 2**32 else b""
        letters = raw.decode("ascii").strip() if raw.isascii() else ""
        return cls(
            round(width) if width >= 1 else None,
            round(height) if height >= 1 else None,
            fps if 1 <= fps <= 1000 else None,
            letters if letters and letters.isprintable() else None,
        )

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}" if self.width and self.height else "any size"
        rate = f" at {self.fps:.3g} fps" if self.fps else ""
        return f"{size}{rate}{f' {self.fourcc}' if self.fourcc else ''}"


@dataclass(frozen=True, slots=True)
class Negotiation:
    """What became of a wish."""

    asked: Mode
    granted: Mode
    """What the driver says."""
    measured: Mode | None = None
    """What really comes; None until the first second is over."""

    @property
    def wanted_fps(self) -> float | None:
        """What was asked for, or promised where nothing was asked."""
        return self.asked.fps or self.granted.fps

    @property
    def slow(self) -> bool:
        """Whether clearly fewer pictures come than wanted."""
        wanted, measured = self.wanted_fps, self.measured and self.measured.fps
        return bool(wanted and measured and measured < SLOW_SHARE * wanted)

    @property
    def remedy(self) -> str:
        """What most likely helps a slow camera."""
        asked, granted = self.asked, self.granted
        if asked.fps and granted.fps and granted.fps < SLOW_SHARE * asked.fps:
            return f"it has no {asked.fps:.3g} fps at this size: choose a smaller size"
        if granted.fourcc not in (None, "MJPG", "H264"):
            return f"it sends {granted.fourcc}, too much for its cable: choose a smaller size, or a USB 3 port"
        return "add light, or switch off its automatic exposure, which halves the rate in the dark; or use a USB 3 port"

    def __str__(self) -> str:
        measured = f", measured {self.measured}" if self.measured else ""
        return f"asked for {self.asked}, granted {self.granted}{measured}"


class RateMeter:
    """Measures the rate of a camera over a time of quick reading."""

    def __init__(self) -> None:
        self.fps = 0.0
        """Pictures in a second, once measured."""
        self.running = True
        """Whether it still wants times."""
        self.restart()

    def restart(self) -> None:
        """Begin again."""
        self.running = True
        self._began_s = math.nan
        self._pictures = 0
        self._held_s = 0.0
        self._returned_s = 0.0

    def measure(self, asked_s: float, captured_s: float, returned_s: float) -> bool:
        """Take the times of one picture: asked for, there, handed over. True when the measurement is complete."""
        held_s, self._returned_s = asked_s - self._returned_s, returned_s
        if math.isnan(self._began_s):
            self._began_s = captured_s
            return False
        self._pictures += 1
        self._held_s += held_s
        passed_s = captured_s - self._began_s
        if passed_s < MEASURE_S:
            return False
        if self._held_s > HELD_SHARE * passed_s:
            self.restart()
            return False
        self.fps, self.running = self._pictures / passed_s, False
        return True
