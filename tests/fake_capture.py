"""Cameras without a camera. What a driver can do wrong in; captures that behave like cv2.VideoCapture out.

The answers are those of OpenCV's V4L2 driver: a format that the camera does not have is accepted and not taken, a width
waits for its height, what cannot be known is -1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

MJPG = cv2.VideoWriter.fourcc(*"MJPG")
YUYV = cv2.VideoWriter.fourcc(*"YUYV")


@dataclass
class FakeClock:
    """A clock that moves only when somebody sleeps or waits for a picture. Seconds."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class FakeCamera:
    """A device that can be opened; what it does wrong can be changed while it runs."""

    modes: dict[int, dict[tuple[int, int], float]] = field(
        default_factory=lambda: {
            YUYV: {(640, 480): 30.0, (1280, 720): 10.0},
            MJPG: {(640, 480): 30.0, (1280, 720): 30.0, (1920, 1080): 30.0},
        }
    )
    """Format -> size -> the highest rate."""
    busy: bool = False
    refuses_properties: bool = False
    """Does not open when it is told what to do before it is open."""
    dark: bool = False
    """Automatic exposure: half the rate."""
    needs_two_buffers: bool = False
    """With one buffer every second picture is lost."""
    black_pictures: int = 0
    """So many black ones come first."""
    broken: Callable[[int], bool] = lambda number: False
    """Whether the picture with this number, from 0, cannot be decoded."""
    raises: Callable[[int], bool] = lambda number: False
    """Whether OpenCV raises for it."""
    gone_after: int | None = None
    """Unplugged after so many pictures."""
    stalls_s: float = 0.0
    """How long a read waits before it fails, once unplugged."""
    delivers: tuple[int, int] | None = None
    """Another size than it promises."""
    picture: Callable[[int, int, int], Any] | None = None
    """Number, width, height -> what retrieve gives."""
    level: int = 120
    opened: int = 0
    """How many captures are open."""
    log: list[tuple[str, int, float]] = field(default_factory=list)
    """What was set, in order: ("set" or "open", property, value)."""


class FakeCapture:
    """One open, or not open, capture of a FakeCamera."""

    def __init__(self, camera: FakeCamera | None, clock: FakeClock, properties: Sequence[int]) -> None:
        self._camera, self._clock = camera, clock
        self._format, self._size, self._fps = YUYV, (640, 480), 30.0
        self._width_waits: int | None = None
        self._buffers = 4
        self._number = -1
        self._pending: tuple[bool, Any] = (False, None)
        self._open = camera is not None and not camera.busy and not (properties and camera.refuses_properties)
        if self._open and camera is not None:
            camera.opened += 1
            for wished, value in zip(properties[::2], properties[1::2], strict=True):
                camera.log.append(("open", wished, value))
                self._apply(camera, wished, value)

    def isOpened(self) -> bool:
        return self._open

    def set(self, propId: int, value: float, /) -> bool:
        if not self._open or self._camera is None:
            return False
        self._camera.log.append(("set", propId, value))
        return self._apply(self._camera, propId, value)

    def get(self, propId: int, /) -> float:
        if not self._open:
            return -1.0
        known = {
            cv2.CAP_PROP_FOURCC: float(self._format),
            cv2.CAP_PROP_FRAME_WIDTH: float(self._size[0]),
            cv2.CAP_PROP_FRAME_HEIGHT: float(self._size[1]),
            cv2.CAP_PROP_FPS: self._fps,
            cv2.CAP_PROP_BUFFERSIZE: float(self._buffers),
        }
        return known.get(propId, -1.0)

    def grab(self) -> bool:
        camera = self._camera
        self._pending = (False, None)
        if not self._open or camera is None:
            return False
        if camera.gone_after is not None and self._number + 1 >= camera.gone_after:
            self._clock.sleep(camera.stalls_s)
            return False
        fps = self._fps * (0.5 if camera.dark else 1.0)
        fps *= 0.5 if camera.needs_two_buffers and self._buffers == 1 else 1.0
        self._clock.sleep(1 / fps)
        self._number += 1
        if camera.raises(self._number):
            raise cv2.error("OpenCV(0.0) error: (-215:Assertion failed) in function 'grab'")
        self._pending = (not camera.broken(self._number), self._picture(camera))
        return True

    def retrieve(self) -> tuple[bool, Any]:
        good, image = self._pending
        return good, image if good else None

    def release(self) -> None:
        if self._open and self._camera is not None:
            self._camera.opened -= 1
        self._open = False

    def _picture(self, camera: FakeCamera) -> Any:
        width, height = camera.delivers or self._size
        if camera.picture is not None:
            return camera.picture(self._number, width, height)
        level = 0 if self._number < camera.black_pictures else camera.level
        image = np.full((height, width, 3), level, np.uint8)
        image[0, 0] = self._number % 256  # tells pictures apart
        return image

    def _apply(self, camera: FakeCamera, wished: int, value: float) -> bool:
        if wished == cv2.CAP_PROP_FOURCC:
            if round(value) in camera.modes:
                self._format = round(value)
            self._settle(camera, self._size)
        elif wished == cv2.CAP_PROP_FRAME_WIDTH:
            self._width_waits = round(value)
        elif wished == cv2.CAP_PROP_FRAME_HEIGHT:
            if self._width_waits is not None:
                self._settle(camera, (self._width_waits, round(value)))
            self._width_waits = None
        elif wished == cv2.CAP_PROP_FPS:
            self._fps = min(value, camera.modes[self._format][self._size])
        elif wished == cv2.CAP_PROP_BUFFERSIZE and 1 <= value <= 10:
            self._buffers = round(value)
        else:
            return False
        return True

    def _settle(self, camera: FakeCamera, wanted: tuple[int, int]) -> None:
        """The nearest size that the format has, at its highest rate up to 30."""
        sizes = camera.modes[self._format]
        self._size = min(sizes, key=lambda size: abs(size[0] - wanted[0]) + abs(size[1] - wanted[1]))
        self._fps = min(self._fps, sizes[self._size])


class FakeCameras:
    """A capture factory: what is plugged in where, and what was tried."""

    def __init__(self, cameras: dict[int, FakeCamera], clock: FakeClock | None = None) -> None:
        self.cameras = cameras
        self.clock = clock or FakeClock()
        self.tried: list[tuple[int, int, int]] = []
        """Index, backend, how many properties it was opened with."""
        self.backends: set[int] = {cv2.CAP_V4L2, cv2.CAP_DSHOW, cv2.CAP_MSMF, cv2.CAP_AVFOUNDATION}
        """Those that can open anything."""

    def __call__(self, index: int, backend: int, properties: Sequence[int]) -> FakeCapture:
        self.tried.append((index, backend, len(properties) // 2))
        camera = self.cameras.get(index) if backend in self.backends else None
        return FakeCapture(camera, self.clock, properties)
