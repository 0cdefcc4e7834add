"""Shows frames as a webcam in other programs. Frames in, what a video call sees out.

Note [The last picture stays in the device]
    A virtual camera keeps showing what it was sent last, also when this program has ended. The end is therefore always
    a card that shows nobody, with the AI mark like every picture before it, sent often enough to reach every buffer of
    the driver.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

from realtime.badge import Badge
from realtime.errors import SinkError
from realtime.frame import Frame, ImageU8
from realtime.letterbox import even, letterbox
from realtime.pace import Pace
from realtime.source import SourceInfo
from realtime.standin import slate

if TYPE_CHECKING:
    import pyvirtualcam

_log = logging.getLogger(__name__)

INSTALL = 'pip install -e ".[vcam]" -c constraints.txt'
DRIVERS = {
    "linux": "as root run: apt-get install v4l2loopback-dkms, then: "
    "modprobe v4l2loopback video_nr=10 card_label=liveswap exclusive_caps=1 max_buffers=2",
    "win32": "install OBS Studio (obsproject.com) and start its virtual camera once, or install UnityCapture "
    "(github.com/schellingb/UnityCapture); close other programs that send to it",
    "darwin": "install OBS Studio (obsproject.com), start its virtual camera once and allow it in the system settings; "
    "close other programs that send to it",
}
_FAREWELLS, _FAREWELL_PAUSE_S = 4, 0.04
_REPEAT_PERIODS = 1.5
"""Enough not to repeat because of a frame that comes a little late."""
_UV_OF_BGR = np.array([[0.439, -0.291, -0.148, 128], [-0.071, -0.368, 0.439, 128]], np.float32)
"""BT.601, limited range, as libyuv converts for every driver and as readers expect it of a webcam."""


def check_camera() -> None:
    """Raise what VirtualCamera would raise, as far as it can be known without opening anything."""
    if importlib.util.find_spec("pyvirtualcam") is None:
        raise SinkError(f"the virtual camera needs the package pyvirtualcam; install it with: {INSTALL}")


class VirtualCamera:
    """A webcam that other programs can choose. Each frame is sent when it comes. Not thread-safe."""

    def __init__(self, source: SourceInfo, device: str | None = None, *, badge: Badge | None = None) -> None:
        """`device`: /dev/videoN or just N, or the name of the camera; None: the first free one. Raises SinkError.

        `badge`: marks the last card.
        """
        self._size = source.width, source.height
        self._live, self._pace = source.live, Pace()
        self._fps = min(max(float(source.fps), 1.0), 240.0)
        self._camera: pyvirtualcam.Camera | None = None
        self._pack: Callable[[ImageU8], ImageU8] = np.ascontiguousarray
        self._last: ImageU8 | None = None
        self._badge = badge
        self._open(f"/dev/video{device}" if device and device.isdigit() and sys.platform == "linux" else device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @property
    def repeat_s(self) -> float:
        """A little longer than a frame lasts, seconds."""
        return _REPEAT_PERIODS / self._fps

    def send(self, frame: Frame) -> None:
        """Show the frame now, or when its time comes if the source is a file. Raises SinkError."""
        picture = self._packed(frame.image)
        if not self._live:
            self._pace.wait(frame.pts_s)
        self._show(picture)
        self._last = picture

    def repeat(self) -> None:
        """Show what was sent last once more. Raises SinkError."""
        if self._last is not None:
            self._show(self._last)

    def close(self) -> None:
        """Leave a card in the device that shows nobody. Safe to call twice. Raises SinkError."""
        error = self._end()
        if error is not None:
            raise SinkError(f"{self.name} did not close ({_line(error)}); unplug it or restart its driver") from error

    def abort(self) -> None:
        """The same as close(), but never raises."""
        error = self._end()
        if error is not None:
            _log.warning("%s did not close: %s", self.name, _line(error))

    def _open(self, device: str | None) -> None:
        check_camera()
        try:
            import pyvirtualcam
        except ImportError as error:
            raise SinkError(f"pyvirtualcam cannot be loaded ({_line(error)}); reinstall it with: {INSTALL}") from error
        width, height = self._size[0] + self._size[0] % 2, self._size[1] + self._size[1] % 2
        formats = pyvirtualcam.PixelFormat
        packs: dict[object, Callable[[], Callable[[ImageU8], ImageU8]]] = {
            formats.I420: partial(_Planar, width, height, interleaved=False),
            formats.NV12: partial(_Planar, width, height, interleaved=True),
            formats.YUYV: partial(_Packed, width, height, cv2.COLOR_BGR2YUV_YUY2),
            formats.UYVY: partial(_Packed, width, height, cv2.COLOR_BGR2YUV_UYVY),
        }
        try:
            camera = pyvirtualcam.Camera(width, height, self._fps, fmt=formats.BGR, device=device)
            native = _native(camera)
            if native in packs:
                # A driver that is handed its own format copies; otherwise it converts while it holds Python's lock.
                same = {"device": camera.device, "backend": camera.backend}
                camera.close()
                try:
                    camera = pyvirtualcam.Camera(width, height, self._fps, fmt=native, **same)
                    self._pack = packs[native]()
                except Exception as error:
                    _log.info("%s takes no %s (%s), it gets BGR", same["device"], native, _line(error))
                    camera = pyvirtualcam.Camera(width, height, self._fps, fmt=formats.BGR, **same)
        except Exception as error:
            wanted = f"the virtual camera {device}" if device else "a virtual camera"
            remedy = DRIVERS.get(sys.platform, DRIVERS["linux"])
            raise SinkError(f"{wanted} cannot be opened ({_line(error)}); {remedy}") from error
        self._camera = camera
        self.name = f"virtual camera {camera.device}"
        _log.info("%s: %dx%d, %s, by %s", self.name, width, height, camera.fmt, camera.backend)

    def _packed(self, image: ImageU8) -> ImageU8:
        return self._pack(even(letterbox(image, *self._size)))

    def _show(self, picture: ImageU8) -> None:
        if self._camera is None:
            raise SinkError(f"{self.name} is closed; open it again")
        try:
            self._camera.send(picture)
        except Exception as error:
            raise SinkError(f"{self.name} is gone ({_line(error)}); plug it in or load its driver again") from error

    def _end(self) -> Exception | None:
        camera, self._camera = self._camera, None
        if camera is None:
            return None
        card = slate(self._size[1], self._size[0])
        card = self._packed(card if self._badge is None else self._badge.stamp(card))
        with suppress(Exception):  # a device that is gone shows nobody
            for _ in range(_FAREWELLS):
                camera.send(card)
                time.sleep(min(1 / self._fps, _FAREWELL_PAUSE_S))
        try:
            camera.close()
        except Exception as error:
            return error
        return None


def _native(camera: pyvirtualcam.Camera) -> pyvirtualcam.PixelFormat | None:
    try:
        return camera.native_fmt
    except ValueError:  # a format that has no name in pyvirtualcam
        return None


def _line(error: Exception) -> str:
    """What the driver says, each backend with its own reason, in one line."""
    reasons = [" ".join(line.split()).rstrip(".") for line in str(error).splitlines()]
    return "; ".join(filter(None, reasons)) or type(error).__name__


class _Planar:
    """Packs (H, W, 3) BGR as I420 or NV12, always into the same buffer; fresh ones cost ten times the arithmetic."""

    def __init__(self, width: int, height: int, *, interleaved: bool) -> None:
        self._rows, self._interleaved = height, interleaved
        self._half_size = (width // 2, height // 2)
        self._half = np.empty((height // 2, width // 2, 3), np.uint8)
        self._chroma = np.empty((height // 2, width // 2, 2), np.uint8)
        self._packed = np.empty((height * 3 // 2, width), np.uint8)

    def __call__(self, image: ImageU8) -> ImageU8:
        cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420, dst=self._packed)
        # OpenCV takes the colour of one pixel for four; the mean of the four has no jagged edges.
        cv2.resize(image, self._half_size, dst=self._half, interpolation=cv2.INTER_AREA)
        cv2.transform(self._half, _UV_OF_BGR, dst=self._chroma)
        chroma = self._packed[self._rows :].reshape(-1)
        if self._interleaved:
            chroma[:] = self._chroma.reshape(-1)
        else:
            chroma.reshape(2, *self._chroma.shape[:2])[:] = self._chroma.transpose(2, 0, 1)
        return self._packed


class _Packed:
    """Packs (H, W, 3) BGR as YUYV or UYVY, always into the same buffer."""

    def __init__(self, width: int, height: int, code: int) -> None:
        self._code, self._packed = code, np.empty((height, width, 2), np.uint8)

    def __call__(self, image: ImageU8) -> ImageU8:
        cv2.cvtColor(image, self._code, dst=self._packed)
        return self._packed
