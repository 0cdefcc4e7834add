"""Films with a webcam. A number or a name in, Frames out, with what was asked for, granted and measured."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Self

import cv2
import numpy as np

from realtime.camera_driver import CaptureFactory, granted, open_driver, silence
from realtime.devices import CameraDevice, find_again, find_camera, list_cameras
from realtime.errors import SourceError, UsageError
from realtime.frame import Frame, ImageU8
from realtime.negotiation import Mode, Negotiation, RateMeter
from realtime.source import SourceInfo

_log = logging.getLogger(__name__)

FIRST_PICTURE_S = 5.0
BLACK_S = 1.0
"""Many cameras begin with black pictures: so long they are skipped."""
BLACK_LEVEL = 3.0
"""Mean of a picture, [0, 255]."""
PATIENCE_S = 0.5
"""A camera that fails for longer is gone."""
_RETRY_S = 0.02


class Camera:
    """A webcam as a source of frames. Not thread-safe, except for close().

    Pictures are delivered as they come: one of another size than `info` says is passed on.
    """

    def __init__(
        self,
        spec: int | str | CameraDevice,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
        capture_factory: CaptureFactory | None = None,
        cameras: Callable[[], Sequence[CameraDevice]] = list_cameras,
        platform: str = sys.platform,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the camera with this number, (part of a) name or path, and wait for its first picture.

        `width`, `height` (together) and `fps` are wishes; see `negotiation`. `cameras`: lists what there is.
        Raises UsageError for a wish that makes no sense, SourceError when the camera is not there or gives no picture.
        """
        if isinstance(spec, int) and spec < 0:
            raise UsageError(f"there is no camera {spec}; the first one is number 0")
        if [width, height] != [None, None] and not all(each and 1 <= each <= 16384 for each in (width, height)):
            raise UsageError(f"a camera has no size {width}x{height}; give width and height in pixels, or neither")
        if fps is not None and not 0 < fps <= 1000:
            raise UsageError(f"a camera does not film at {fps} fps; give a rate up to 1000")
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._closed = False
        self._index = 0
        self._meter = RateMeter()
        self.device, known = _choose(spec, cameras)
        wish = Mode(width, height, fps, "MJPG")
        self._capture = open_driver(self.device, known, wish, capture_factory, platform)
        try:
            self.negotiation = Negotiation(wish, granted(self._capture))
            first = self._first_picture()
        except BaseException:
            self.close()
            raise
        self._opened_s = clock()
        self._index = 0
        self.info = SourceInfo(
            name=self.device.name,
            width=first.shape[1],
            height=first.shape[0],
            fps=Fraction(self.negotiation.granted.fps or fps or 30).limit_denominator(1001),
            frames=None,
            live=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        """Every picture as it comes, until close(). Raises SourceError when the camera fails."""
        while True:
            asked_s = self._clock()
            captured_s, image = self._next_picture(asked_s + PATIENCE_S)
            if image is None:
                return
            if self._meter.running and self._meter.measure(asked_s, captured_s, self._clock()):
                self._measured(image)
            frame = Frame(image, self._index, captured_s, captured_s - self._opened_s)
            self._index += 1
            yield frame

    def close(self) -> None:
        """Let the camera go; safe to call twice and from another thread: the reader then ends after its next picture.

        OpenCV cannot be interrupted: a read that waits for a dead camera returns after up to ten seconds.
        """
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                with silence:
                    self._capture.release()
            finally:
                self._lock.release()

    def _next_picture(self, until_s: float) -> tuple[float, ImageU8 | None]:
        """When a picture was there, and it; None once the camera is closed. Broken ones leave a gap in the index."""
        while True:
            grabbed, captured_s, image = self._read()
            if self._closed or image is not None:
                return captured_s, None if self._closed else image
            self._index += grabbed
            if self._clock() >= until_s:
                raise SourceError(
                    f"{self.device.title} delivers no more pictures; check its cable, or plug it in again"
                )
            self._sleep(_RETRY_S)

    def _read(self) -> tuple[bool, float, ImageU8 | None]:
        """Whether a picture came, when, and the picture itself where it can be used."""
        grabbed, captured_s, image = False, 0.0, None
        with self._lock, contextlib.suppress(cv2.error):
            if not self._closed:
                grabbed = self._capture.grab()
                captured_s = self._clock()
                image = self._capture.retrieve()[1] if grabbed else None
        if self._closed:
            self.close()  # whoever closed meanwhile could not let the camera go
        return grabbed, captured_s, _colour_picture(image)

    def _first_picture(self) -> ImageU8:
        """The first picture that is not black; after a second a black one."""
        began_s = self._clock()
        try:
            while True:
                image = self._next_picture(began_s + FIRST_PICTURE_S)[1]
                if image is None:
                    raise SourceError(f"{self.device.title} was closed while it started; open it again")
                dark = float(image[::8, ::8].mean()) < BLACK_LEVEL
                if not dark:
                    return image
                if self._clock() - began_s > BLACK_S:
                    _log.warning("%s sends black pictures; open its shutter, or add light", self.device.title)
                    return image
        except SourceError as error:
            raise SourceError(
                f"{self.device.title} opens but delivers no picture; close what else uses it, or choose another size"
            ) from error

    def _measured(self, image: ImageU8) -> None:
        """Take down what the meter says, once; a camera that is slow with one buffer gets a second chance with two."""
        height, width = image.shape[:2]
        found = self.negotiation = replace(self.negotiation, measured=Mode(width, height, self._meter.fps))
        # Some drivers miss every second picture while the only buffer is being read.
        if found.slow and round(self._capture.get(cv2.CAP_PROP_BUFFERSIZE)) == 1:
            with self._lock, silence:
                if not self._closed and self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 2):
                    self._meter.restart()
                    return
        _log.info("%s: %s", self.device.title, found)
        if found.slow:
            rates = (self._meter.fps, found.wanted_fps)
            _log.warning("%s delivers %.1f fps instead of %.3g; %s", self.device.title, *rates, found.remedy)


class CameraOpener:
    """Opens one camera, and the same one again after it was gone, whatever its number is then."""

    def __init__(
        self,
        spec: int | str,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
        capture_factory: CaptureFactory | None = None,
        cameras: Callable[[], Sequence[CameraDevice]] = list_cameras,
    ) -> None:
        """See Camera. Nothing is opened yet."""
        self._spec, self._wish = spec, (width, height, fps)
        self._factory, self._cameras = capture_factory, cameras
        self._device: CameraDevice | None = None
        self._strangers: frozenset[str] = frozenset()

    def __call__(self) -> Camera:
        """The camera, opened. Raises SourceError when it is not there, even where another has taken its number."""
        width, height, fps = self._wish
        spec: int | str | CameraDevice = self._spec
        if self._device is not None and self._device.key:
            spec = find_again(self._device, self._strangers, self._cameras())
        camera = Camera(spec, width=width, height=height, fps=fps, capture_factory=self._factory, cameras=self._cameras)
        if self._device is None:
            self._strangers = frozenset(each.key for each in _known(self._cameras)) - {camera.device.key}
        self._device = camera.device
        return camera


def _choose(
    spec: int | str | CameraDevice, cameras: Callable[[], Sequence[CameraDevice]]
) -> tuple[CameraDevice, Sequence[CameraDevice]]:
    """The camera that is meant, and all there are. A number is taken as it is: not every system tells the names."""
    if isinstance(spec, CameraDevice):
        return spec, _known(cameras)
    if isinstance(spec, str) and not spec.isdecimal():
        known = cameras()
        return find_camera(spec, known), known
    index, known = int(spec), _known(cameras)
    listed = next((each for each in known if each.index == index), None)
    return listed or CameraDevice(index, f"camera {index}", path="", key=""), known


def _known(cameras: Callable[[], Sequence[CameraDevice]]) -> Sequence[CameraDevice]:
    try:
        return cameras()
    except SourceError:
        return ()


def _colour_picture(image: object) -> ImageU8 | None:
    """`image` as (H, W, 3) BGR in [0, 255]; None for what is no picture."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.size == 0:
        return None
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    return image if image.ndim == 3 and image.shape[2] == 3 else None
