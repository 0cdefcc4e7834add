"""Opens a camera's driver through OpenCV. A device and a wish in, an open capture out.

OpenCV stands behind a factory: everything that is used of its capture is in `Capture`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import cv2

from realtime.devices import CameraDevice, describe_cameras
from realtime.errors import SourceError
from realtime.negotiation import Mode


class Capture(Protocol):
    """What is used of cv2.VideoCapture."""

    def isOpened(self) -> bool: ...

    def set(self, propId: int, value: float, /) -> bool: ...

    def get(self, propId: int, /) -> float: ...

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, Any]: ...

    def release(self) -> None: ...


CaptureFactory = Callable[[int, int, Sequence[int]], Capture]
"""Index, backend (cv2.CAP_*), properties to open with -> capture, opened or not."""


def open_driver(
    device: CameraDevice,
    known: Sequence[CameraDevice],
    wish: Mode,
    factory: CaptureFactory | None = None,
    platform: str = sys.platform,
) -> Capture:
    """Open `device` and tell it the `wish`. `known`: all cameras that there are; `factory`: OpenCV unless given.

    Raises SourceError with what stands in the way and the remedy.
    """
    factory = factory or _open_capture
    # The format comes first: it decides which sizes and rates there are.
    wishes = [(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))]
    if wish.width and wish.height:
        wishes += [(cv2.CAP_PROP_FRAME_WIDTH, wish.width), (cv2.CAP_PROP_FRAME_HEIGHT, wish.height)]
    if wish.fps:
        wishes += [(cv2.CAP_PROP_FPS, round(wish.fps))]
    at_once = [number for each in wishes for number in each]
    ways: list[tuple[int, Sequence[int]]] = [(cv2.CAP_V4L2, ())]
    if platform == "darwin":
        ways = [(cv2.CAP_AVFOUNDATION, ())]
    elif platform == "win32":
        ways = [(cv2.CAP_DSHOW, at_once), (cv2.CAP_DSHOW, ())]
        if len(known) <= 1:  # Media Foundation counts in another order: the same number may be another camera
            ways += [(cv2.CAP_MSMF, at_once), (cv2.CAP_MSMF, ())]
    with silence:
        for backend, properties in ways:
            capture = factory(device.index, backend, properties)
            if capture.isOpened():
                # What they answer says nothing: what was granted is read back.
                for wished, value in () if properties else wishes:
                    capture.set(wished, value)
                capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
                return capture
            capture.release()
    if device.trouble:
        raise SourceError(f"{device.title} does not open: {device.trouble}")
    if any(each.index == device.index for each in known):
        raise SourceError(f"{device.title} does not open; close other programs that use it, or plug it in again")
    raise SourceError(f"there is no camera {device.index}: {describe_cameras(known, platform=platform)}")


def granted(capture: Capture) -> Mode:
    """What the driver says that it does."""
    asked = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS, cv2.CAP_PROP_FOURCC)
    return Mode.of(*(capture.get(each) for each in asked))


class _Silence:
    """OpenCV warns on the error output about each way that did not work, and about a camera that it lets go too late.

    Our one sentence says it all. The level belongs to the whole process: the last one that leaves puts it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._level = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._level = cv2.utils.logging.getLogLevel()
                cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                cv2.utils.logging.setLogLevel(self._level)


silence = _Silence()


def _open_capture(index: int, backend: int, properties: Sequence[int]) -> Capture:
    return cv2.VideoCapture(index, backend, properties) if properties else cv2.VideoCapture(index, backend)
