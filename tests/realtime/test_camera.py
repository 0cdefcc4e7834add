"""Camera: cameras that behave, and that do not, in; frames, what was granted and measured, and one sentence out."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from realtime.camera import Camera, CameraOpener
from realtime.camera_driver import silence
from realtime.devices import CameraDevice
from realtime.errors import SourceError, UsageError
from realtime.frame import Frame
from tests.fake_capture import MJPG, YUYV, FakeCamera, FakeCameras
from tests.tolerances import CAMERA_RATE

ROOT = Path(__file__).resolve().parents[2]
HERE = [CameraDevice(0, "Integrated Camera", "/dev/video0", "integrated"), CameraDevice(2, "C270", "/dev/video2", "c")]


def opened(
    plugged: FakeCameras | FakeCamera,
    spec: int | str = 0,
    *,
    known: Sequence[CameraDevice] = HERE,
    platform: str = "linux",
    **wish: Any,
) -> Camera:
    cameras = plugged if isinstance(plugged, FakeCameras) else FakeCameras({0: plugged})
    return Camera(
        spec,
        capture_factory=cameras,
        cameras=lambda: known,
        platform=platform,
        clock=cameras.clock,
        sleep=cameras.clock.sleep,
        **wish,
    )


def seconds_of(camera: Camera, seconds: float) -> list[Frame]:
    """The frames of so long a time, by the camera's own clock."""
    frames = []
    for frame in camera:
        frames.append(frame)
        if frame.pts_s >= seconds:
            break
    return frames


def test_a_camera_films_at_the_wanted_size() -> None:
    with opened(FakeCamera(), width=1280, height=720, fps=30) as camera:
        assert (camera.info.width, camera.info.height, camera.info.fps) == (1280, 720, Fraction(30))
        assert camera.info.live
        assert camera.info.name == "Integrated Camera"
        frames = list(itertools.islice(camera, 5))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert all(frame.image.shape == (720, 1280, 3) for frame in frames)
    assert np.diff([frame.pts_s for frame in frames]) == pytest.approx(1 / 30)


def test_the_format_is_asked_for_before_size_rate_and_buffer() -> None:
    device = FakeCamera()
    opened(device, width=1280, height=720, fps=30).close()
    assert device.log == [
        ("set", cv2.CAP_PROP_FOURCC, MJPG),
        ("set", cv2.CAP_PROP_FRAME_WIDTH, 1280),
        ("set", cv2.CAP_PROP_FRAME_HEIGHT, 720),
        ("set", cv2.CAP_PROP_FPS, 30),
        ("set", cv2.CAP_PROP_BUFFERSIZE, 1),
    ]


def test_what_was_granted_is_read_back_whatever_the_driver_answered() -> None:
    only_yuyv = FakeCamera(modes={YUYV: {(640, 480): 30.0, (1280, 720): 10.0}})
    with opened(only_yuyv, width=1920, height=1080, fps=60) as camera:
        granted = camera.negotiation.granted
    assert (granted.width, granted.height, granted.fps, granted.fourcc) == (1280, 720, 10.0, "YUYV")
    assert str(camera.negotiation) == "asked for 1920x1080 at 60 fps MJPG, granted 1280x720 at 10 fps YUYV"


def test_size_and_rate_are_told_from_the_pictures_not_from_the_promise(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with opened(FakeCamera(delivers=(800, 600)), width=1280, height=720) as camera:
        assert (camera.info.width, camera.info.height) == (800, 600)
        seconds_of(camera, 1.5)
        measured = camera.negotiation.measured
        assert measured is not None
        assert (measured.width, measured.height) == (800, 600)
        assert measured.fps == pytest.approx(30, rel=CAMERA_RATE)
    told = [record for record in caplog.records if "measured" in record.message]
    assert [record.levelname for record in told] == ["INFO"]
    assert told[0].message == (
        "camera 0 (Integrated Camera): asked for 1280x720 MJPG, granted 1280x720 at 30 fps MJPG, "
        "measured 800x600 at 30 fps"
    )


@pytest.mark.parametrize(
    ("device", "wish", "sentence"),
    [
        (FakeCamera(dark=True), (1280, 720, 30), "delivers 15.0 fps instead of 30; add light"),
        (FakeCamera(modes={YUYV: {(1280, 720): 10.0}}), (1280, 720, 30), "10.0 fps instead of 30; it has no 30 fps"),
        (FakeCamera(modes={YUYV: {(640, 480): 30.0}}, dark=True), (640, 480, 30), "too much for its cable"),
    ],
)
def test_a_slow_camera_is_told_once_with_a_remedy(
    device: FakeCamera, wish: tuple[int, int, int], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(device, width=wish[0], height=wish[1], fps=wish[2]) as camera:
        seconds_of(camera, 8)
        assert camera.negotiation.slow
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert sentence in warnings[0]


def test_a_camera_that_needs_two_buffers_gets_them(caplog: pytest.LogCaptureFixture) -> None:
    device = FakeCamera(needs_two_buffers=True)
    with opened(device, width=640, height=480, fps=30) as camera:
        seconds_of(camera, 4)
        measured = camera.negotiation.measured
    assert device.log[-1] == ("set", cv2.CAP_PROP_BUFFERSIZE, 2)
    assert measured is not None
    assert measured.fps == pytest.approx(30, rel=CAMERA_RATE)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_slow_reader_does_not_measure_itself() -> None:
    cameras = FakeCameras({0: FakeCamera()})
    with opened(cameras) as camera:
        for frame in itertools.islice(camera, 60):
            assert frame.pts_s < 60
            cameras.clock.sleep(0.1)
        assert camera.negotiation.measured is None
        for _ in itertools.islice(camera, 80):
            pass
        assert camera.negotiation.measured is not None


def test_the_time_of_a_picture_is_taken_before_it_is_decoded() -> None:
    cameras = FakeCameras({0: FakeCamera()})

    def slow_to_decode(number: int, width: int, height: int) -> Any:
        grabbed_at.append(cameras.clock.now_s)
        return np.full((height, width, 3), 99, np.uint8)

    grabbed_at: list[float] = []
    cameras.cameras[0].picture = slow_to_decode
    with opened(cameras) as camera:
        frames = list(itertools.islice(camera, 3))
    assert [frame.captured_s for frame in frames] == grabbed_at[1:]


def test_black_first_pictures_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    with opened(FakeCamera(black_pictures=10)) as camera:
        first = next(iter(camera))
    assert first.index == 0
    assert first.image.mean() > 100
    assert not caplog.records


def test_a_camera_with_a_closed_shutter_films_after_a_second_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    cameras = FakeCameras({0: FakeCamera(level=0)})
    began_s = cameras.clock.now_s
    with opened(cameras) as camera:
        assert next(iter(camera)).image.max() < 50
    assert 1.0 <= cameras.clock.now_s - began_s < 1.5
    assert "sends black pictures; open its shutter" in caplog.text


def test_broken_pictures_leave_a_gap_in_the_index() -> None:
    with opened(FakeCamera(broken=lambda n: n in (3, 4), raises=lambda n: n == 6)) as camera:
        frames = list(itertools.islice(camera, 5))
    # Picture 0 was read while the camera opened; what OpenCV raised for was no picture.
    assert [frame.index for frame in frames] == [0, 1, 4, 5, 6]


@pytest.mark.parametrize(
    "garbage", [np.zeros((0, 0, 3), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((9, 9, 2), np.uint8), None]
)
def test_garbage_is_not_passed_on(garbage: Any) -> None:
    good = np.full((48, 64, 3), 90, np.uint8)
    with opened(FakeCamera(picture=lambda n, w, h: garbage if n in (1, 2) else good)) as camera:
        frames = list(itertools.islice(camera, 3))
    assert [frame.index for frame in frames] == [2, 3, 4]


def test_grey_pictures_become_colour_pictures() -> None:
    with opened(FakeCamera(picture=lambda n, w, h: np.full((48, 64), 90, np.uint8))) as camera:
        assert next(iter(camera)).image.shape == (48, 64, 3)


@pytest.mark.parametrize("stalls_s", [0.0, 10.0])
def test_an_unplugged_camera_ends_with_one_sentence(stalls_s: float) -> None:
    device = FakeCamera(gone_after=20, stalls_s=stalls_s)
    frames: list[Frame] = []
    with (
        opened(device) as camera,
        pytest.raises(SourceError, match=r"camera 0 \(Integrated Camera\) delivers no more pictures; check its cable"),
    ):
        frames.extend(camera)
    assert len(frames) == 19
    assert device.opened == 0


def test_a_camera_that_opens_and_gives_nothing_says_what_to_do() -> None:
    device = FakeCamera(gone_after=0)
    with pytest.raises(SourceError, match="opens but delivers no picture; close what else uses it"):
        opened(device)
    assert device.opened == 0


def test_a_busy_camera_asks_to_close_other_programs() -> None:
    with pytest.raises(SourceError, match=r"camera 0 \(Integrated Camera\) does not open; close other programs"):
        opened(FakeCamera(busy=True))


def test_a_camera_that_may_not_be_opened_says_why() -> None:
    known = [CameraDevice(0, "Webcam", "/dev/video0", "w", trouble="you may not open it; run: sudo usermod")]
    with pytest.raises(SourceError, match=r"camera 0 \(Webcam\) does not open: you may not open it; run: sudo usermod"):
        opened(FakeCamera(busy=True), known=known)


def test_a_missing_camera_is_told_with_those_that_are_there() -> None:
    with pytest.raises(SourceError, match="there is no camera 5: 0 is Integrated Camera, 2 is C270"):
        opened(FakeCamera(), 5)
    with pytest.raises(SourceError, match="there is no camera 5: no camera is there; plug one in"):
        opened(FakeCamera(), "5", known=[])


def test_a_camera_is_opened_by_its_name() -> None:
    cameras = FakeCameras({2: FakeCamera()})
    with opened(cameras, "c270") as camera:
        assert camera.info.name == "C270"
    assert cameras.tried == [(2, cv2.CAP_V4L2, 0)]


def test_a_number_works_where_the_system_tells_no_names() -> None:
    def nameless() -> list[CameraDevice]:
        raise SourceError("names are not known; give a number")

    cameras = FakeCameras({1: FakeCamera()})
    with Camera("1", capture_factory=cameras, cameras=nameless, clock=cameras.clock, platform="win32") as camera:
        assert camera.info.name == "camera 1"


def test_windows_is_told_the_format_while_opening_and_falls_back_step_by_step() -> None:
    cameras = FakeCameras({0: FakeCamera(refuses_properties=True)})
    cameras.backends = {cv2.CAP_MSMF}
    with opened(cameras, platform="win32", known=HERE[:1], width=640, height=480, fps=30):
        pass
    assert cameras.tried == [(0, cv2.CAP_DSHOW, 4), (0, cv2.CAP_DSHOW, 0), (0, cv2.CAP_MSMF, 4), (0, cv2.CAP_MSMF, 0)]


def test_windows_never_takes_a_number_to_a_driver_that_counts_differently() -> None:
    cameras = FakeCameras({0: FakeCamera()})
    cameras.backends = {cv2.CAP_MSMF}
    with pytest.raises(SourceError, match="does not open"):
        opened(cameras, platform="win32", known=HERE)
    assert {backend for _, backend, _ in cameras.tried} == {cv2.CAP_DSHOW}


def test_macos_uses_its_own_driver() -> None:
    cameras = FakeCameras({0: FakeCamera()})
    opened(cameras, platform="darwin").close()
    assert cameras.tried == [(0, cv2.CAP_AVFOUNDATION, 0)]


@pytest.mark.parametrize("wish", [{"width": 640}, {"height": 480}, {"width": 0, "height": 480}, {"fps": 0}])
def test_a_wish_without_sense_is_a_mistake_in_the_call(wish: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="; give"):
        opened(FakeCamera(), **wish)
    with pytest.raises(UsageError, match="number 0"):
        opened(FakeCamera(), -1)


def test_closing_twice_and_reading_afterwards_is_safe() -> None:
    device = FakeCamera()
    camera = opened(device)
    frames = iter(camera)
    next(frames)
    camera.close()
    camera.close()
    assert list(frames) == []
    assert list(camera) == []
    assert device.opened == 0


def test_closing_from_another_thread_ends_the_reader_and_lets_the_camera_go() -> None:
    device = FakeCamera()
    cameras = FakeCameras({0: device})
    waits, goes_on = threading.Event(), threading.Event()

    def blocked(number: int, width: int, height: int) -> Any:
        if number == 3:
            waits.set()
            assert goes_on.wait(10)
        return np.full((48, 64, 3), 90, np.uint8)

    device.picture = blocked
    camera = opened(cameras)
    frames: list[Frame] = []
    reader = threading.Thread(target=lambda: frames.extend(camera))
    reader.start()
    assert waits.wait(10)
    camera.close()  # returns although the reader is inside the driver
    assert device.opened == 1
    goes_on.set()
    reader.join(10)
    assert not reader.is_alive()
    assert device.opened == 0
    assert [frame.index for frame in frames] == [0, 1]


def test_the_same_camera_is_opened_again_under_its_new_number() -> None:
    device, other = FakeCamera(), FakeCamera()
    cameras = FakeCameras({0: device, 2: other})
    known = list(HERE)
    opener = CameraOpener(0, capture_factory=cameras, cameras=lambda: known)
    opener().close()
    known[:] = [CameraDevice(0, "C270", "/dev/video0", "c")]  # our camera is gone, the other one has its number now
    with pytest.raises(SourceError, match="Integrated Camera is not there; plug it in again"):
        opener()
    known.append(CameraDevice(4, "Integrated Camera", "/dev/video4", "integrated"))
    cameras.cameras = {0: other, 4: device}
    with opener() as camera:
        assert camera.device.index == 4
        assert (device.opened, other.opened) == (1, 0)


def test_a_missing_camera_really_fails_with_our_sentence_alone() -> None:
    code = (
        "from realtime.camera import Camera\n"
        "from realtime.errors import SourceError\n"
        "import sys\n"
        "try:\n"
        "    Camera(63)\n"
        "except SourceError as error:\n"
        "    sys.exit(str(error))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OPENCV_LOG_LEVEL"}
    began_s = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("there is no camera 63: ")
    assert answer.stderr.count("\n") == 1
    assert time.monotonic() - began_s < 30


def test_the_fake_answers_like_the_real_capture_when_nothing_is_there() -> None:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        real = cv2.VideoCapture(63, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
    finally:
        cv2.utils.logging.setLogLevel(level)
    fake = FakeCameras({})(63, cv2.CAP_V4L2, ())
    assert (fake.isOpened(), fake.grab(), fake.retrieve()) == (real.isOpened(), real.grab(), real.retrieve())
    assert fake.set(cv2.CAP_PROP_FPS, 30) == real.set(cv2.CAP_PROP_FPS, 30)
    assert (fake.get(cv2.CAP_PROP_FRAME_WIDTH) > 0) == (real.get(cv2.CAP_PROP_FRAME_WIDTH) > 0)


def test_opencv_speaks_again_after_the_last_camera_was_opened() -> None:
    logs = cv2.utils.logging
    before = logs.getLogLevel()
    with silence:
        with silence:
            assert logs.getLogLevel() == logs.LOG_LEVEL_SILENT
        assert logs.getLogLevel() == logs.LOG_LEVEL_SILENT
    assert logs.getLogLevel() == before
    with opened(FakeCamera()):
        assert logs.getLogLevel() == before
