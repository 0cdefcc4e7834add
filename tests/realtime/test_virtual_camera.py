"""Through pyvirtualcam itself, with a driver of our own that remembers what it is sent: no real device is needed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from liveswap import main
from realtime.errors import SinkError
from realtime.frame import Frame, ImageU8
from realtime.sink import Repeating
from realtime.sinks import check_sink, open_sink
from realtime.standin import slate
from realtime.virtual_camera import VirtualCamera
from tests.clips import ramp
from tests.community_dfm import liveswap_metadata, painting_dfm
from tests.fakes import info
from tests.marks import marked

pyvirtualcam = pytest.importorskip("pyvirtualcam", reason="needs the extra vcam")

ROOT = Path(__file__).resolve().parents[2]
SAME_PICTURE_LEVELS = 1.5
"""8-bit limited-range YUV with chroma for two or four pixels and back, away from edges (measured: 0.6 at most); a wrong
matrix or swapped chroma makes more than 15."""
EARLY_S = 0.005
"""So much earlier than asked for a system may wake up who sleeps."""


def fourcc(text: str) -> int:
    return int.from_bytes(text.encode(), "little")


class Device:
    """A driver as pyvirtualcam describes it. It keeps a copy of every picture and the moment it came."""

    native: ClassVar[str | None] = None
    refused: ClassVar[frozenset[str]] = frozenset()
    opened: ClassVar[list[Device]] = []

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None, **_: Any) -> None:
        self.format = fourcc.to_bytes(4, "little").decode()
        if device not in (None, "/dev/video10", "Recorder"):
            raise RuntimeError(f"there is no {device}")
        if self.format in self.refused:
            raise RuntimeError(f"{self.format} is not supported")
        self.width, self.height, self.fps = width, height, fps
        self.name, self.sent, self.times, self.closes = device or "/dev/video10", list[ImageU8](), list[float](), 0
        self.gone = False
        Device.opened.append(self)

    def send(self, frame: ImageU8) -> None:
        if self.gone:
            raise OSError("No such device")
        assert self.closes == 0
        assert frame.ndim == 1
        assert frame.flags.c_contiguous
        self.sent.append(frame.copy())
        self.times.append(time.monotonic())

    def close(self) -> None:
        self.closes += 1

    def device(self) -> str:
        return self.name

    def native_fourcc(self) -> int | None:
        return fourcc(self.native) if self.native else None

    def picture(self, index: int) -> ImageU8:
        """What a reader of the camera would see, (H, W, 3) BGR."""
        data, size = self.sent[index], (self.height, self.width)
        if self.format == "24BG":
            return data.reshape(*size, 3)
        if self.format in ("I420", "NV12"):
            code = cv2.COLOR_YUV2BGR_I420 if self.format == "I420" else cv2.COLOR_YUV2BGR_NV12
            return np.asarray(cv2.cvtColor(data.reshape(self.height * 3 // 2, self.width), code), np.uint8)
        code = cv2.COLOR_YUV2BGR_YUY2 if self.format == "YUY2" else cv2.COLOR_YUV2BGR_UYVY
        return np.asarray(cv2.cvtColor(data.reshape(*size, 2), code), np.uint8)


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Device]]:
    """Our driver as the only one."""
    kept = dict(pyvirtualcam.camera.BACKENDS)
    pyvirtualcam.camera.BACKENDS.clear()
    monkeypatch.setattr(Device, "native", None)
    monkeypatch.setattr(Device, "refused", frozenset())
    monkeypatch.setattr(Device, "opened", [])
    pyvirtualcam.register_backend("recorder", Device)
    yield Device
    pyvirtualcam.camera.BACKENDS.clear()
    pyvirtualcam.camera.BACKENDS.update(kept)


def frame(index: int, height: int = 48, width: int = 64) -> Frame:
    return Frame(ramp(height, width, index), index, 0.0, index / 30)


def error_levels(seen: ImageU8, wanted: ImageU8) -> float:
    """Mean difference where the wanted picture is smooth: at edges, chroma for four pixels is a mixture."""
    steps = np.abs(np.diff(wanted.astype(int), axis=1, append=wanted[:, -1:])).max(2)
    steps += np.abs(np.diff(wanted.astype(int), axis=0, append=wanted[-1:])).max(2)
    smooth = cv2.dilate((steps > 12).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert smooth.mean() > 0.3
    return float(np.abs(seen.astype(int) - wanted)[smooth].mean())


def test_a_driver_that_takes_bgr_gets_the_frame_byte_for_byte(driver: type[Device]) -> None:
    with VirtualCamera(info(live=True)) as camera:
        for index in range(3):
            camera.send(frame(index))
    device = driver.opened[-1]
    assert (device.format, device.width, device.height, device.fps) == ("24BG", 64, 48, 30.0)
    for index in range(3):
        assert (device.picture(index) == frame(index).image).all()
    assert device.closes == 1


@pytest.mark.parametrize("native", ["I420", "NV12", "YUY2", "UYVY"])
def test_a_driver_gets_its_own_format_with_the_right_colours(driver: type[Device], native: str) -> None:
    driver.native = native
    with VirtualCamera(info(live=True)) as camera:
        camera.send(frame(0))
        camera.send(frame(7))
    first, device = driver.opened
    assert (first.format, first.closes, first.sent) == ("24BG", 1, [])
    assert device.format == native
    assert len(device.sent[0]) == 48 * 64 * {"I420": 3, "NV12": 3, "YUY2": 4, "UYVY": 4}[native] // 2
    assert error_levels(device.picture(0), frame(0).image) < SAME_PICTURE_LEVELS
    assert error_levels(device.picture(1), frame(7).image) < SAME_PICTURE_LEVELS


@pytest.mark.parametrize("native", ["I420", "NV12"])
def test_the_colour_of_four_pixels_is_their_mean(driver: type[Device], native: str) -> None:
    driver.native = native
    red_and_blue = np.zeros((48, 64, 3), np.uint8)
    red_and_blue[:, 0::2], red_and_blue[:, 1::2] = (0, 0, 255), (255, 0, 0)
    with VirtualCamera(info(live=True)) as camera:
        camera.send(Frame(red_and_blue, 0, 0.0))
    chroma = driver.opened[-1].sent[0][48 * 64 :].reshape(-1)
    u, v = (chroma[: 24 * 32], chroma[24 * 32 :]) if native == "I420" else (chroma[0::2], chroma[1::2])
    # BT.601: red is (90, 240), blue is (240, 110); OpenCV's own conversion would say one of the two.
    assert np.abs(u.astype(int) - 165).max() <= 1
    assert np.abs(v.astype(int) - 175).max() <= 1


def test_a_native_format_that_is_refused_after_all_falls_back_to_bgr(driver: type[Device]) -> None:
    driver.native, driver.refused = "NV12", frozenset({"NV12"})
    with VirtualCamera(info(live=True)) as camera:
        camera.send(frame(0))
    assert driver.opened[-1].format == "24BG"
    assert (driver.opened[-1].picture(0) == frame(0).image).all()


@pytest.mark.parametrize("native", ["J400", "ABGR", "WXYZ"])
def test_a_native_format_that_we_do_not_make_gets_bgr(driver: type[Device], native: str) -> None:
    driver.native = native
    with VirtualCamera(info(live=True)) as camera:
        camera.send(frame(0))
    assert [device.format for device in driver.opened] == ["24BG"]


@pytest.mark.parametrize("native", [None, "I420", "YUY2"])
def test_odd_sizes_are_padded_by_one(driver: type[Device], native: str | None) -> None:
    driver.native = native
    with VirtualCamera(info(live=True, width=65, height=49)) as camera:
        camera.send(frame(0, 49, 65))
    device = driver.opened[-1]
    assert (device.width, device.height) == (66, 50)
    seen = device.picture(0)
    assert error_levels(np.ascontiguousarray(seen[:49, :65]), ramp(49, 65)) < SAME_PICTURE_LEVELS


def test_a_frame_of_another_size_is_shown_whole_between_bars(driver: type[Device]) -> None:
    white = np.full((48, 128, 3), 255, np.uint8)
    with VirtualCamera(info(live=True)) as camera:
        camera.send(Frame(white, 0, 0.0))
    seen = driver.opened[-1].picture(0)
    assert seen.shape == (48, 64, 3)
    assert (seen[12:36] == 255).all()
    assert (seen[:12] == 0).all()
    assert (seen[36:] == 0).all()


def test_live_frames_are_sent_when_they_come(driver: type[Device]) -> None:
    camera = VirtualCamera(replace(info(live=True), fps=Fraction(1)))
    started = time.monotonic()
    for index in range(20):
        camera.send(frame(index))
    assert time.monotonic() - started < 5  # at the camera's one frame a second it would be 20 s
    assert len(driver.opened[-1].sent) == 20
    camera.abort()


def test_a_file_is_shown_at_its_own_speed(driver: type[Device]) -> None:
    with VirtualCamera(info(live=False)) as camera:
        for index in range(7):
            camera.send(Frame(ramp(), index, 0.0, index / 20))
        times = driver.opened[-1].times[:7]
    assert all(time_s - times[0] >= index / 20 - EARLY_S for index, time_s in enumerate(times))


def test_the_last_picture_is_repeated_and_never_another(driver: type[Device]) -> None:
    driver.native = "I420"
    camera = VirtualCamera(info(live=True))
    assert isinstance(camera, Repeating)
    assert 1 / 30 < camera.repeat_s < 2 / 30
    camera.repeat()
    device = driver.opened[-1]
    assert device.sent == []
    camera.send(frame(0))
    card = slate(48, 64)
    camera.send(Frame(card, 1, 0.0))
    camera.repeat()
    camera.repeat()
    assert len(device.sent) == 4
    assert all((device.sent[index] == device.sent[1]).all() for index in (2, 3))
    assert error_levels(device.picture(3), card) < SAME_PICTURE_LEVELS
    camera.close()


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("native", [None, "NV12"])
def test_the_face_does_not_stay_in_the_device(driver: type[Device], native: str | None, end: str) -> None:
    driver.native = native
    camera = VirtualCamera(info(live=True))
    camera.send(frame(0))
    for _ in range(2):
        getattr(camera, end)()
    device = driver.opened[-1]
    assert device.closes == 1
    assert len(device.sent) >= 1 + 3  # a driver rotates through two or three buffers
    for index in range(1, len(device.sent)):
        assert error_levels(device.picture(index), slate(48, 64)) < SAME_PICTURE_LEVELS


def test_a_block_that_fails_leaves_a_card_too(driver: type[Device]) -> None:
    with suppress(ZeroDivisionError), VirtualCamera(info(live=True)) as camera:
        camera.send(frame(0))
        raise ZeroDivisionError
    assert (driver.opened[-1].picture(-1) == slate(48, 64)).all()


def test_a_device_that_is_removed_is_one_sentence(driver: type[Device]) -> None:
    camera = VirtualCamera(info(live=True))
    camera.send(frame(0))
    driver.opened[-1].gone = True
    with pytest.raises(SinkError, match=r"virtual camera /dev/video10 is gone \(No such device\); plug it in"):
        camera.send(frame(1))
    with pytest.raises(SinkError, match="is gone"):
        camera.repeat()
    camera.close()
    assert driver.opened[-1].closes == 1
    with pytest.raises(SinkError, match="is closed; open it again"):
        camera.send(frame(2))


def test_a_device_can_be_chosen(driver: type[Device]) -> None:
    camera = open_sink("camera:Recorder", info(live=True))
    assert camera.name == "virtual camera Recorder"
    camera.close()
    with pytest.raises(SinkError, match=r"the virtual camera Other cannot be opened \('recorder' backend: there is no"):
        open_sink("camera:Other", info(live=True))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux numbers its devices")
def test_a_number_is_a_device_of_linux(driver: type[Device]) -> None:
    open_sink("camera:10", info(live=True)).close()
    assert driver.opened[-1].name == "/dev/video10"


def test_without_a_driver_every_backend_says_why(driver: type[Device], monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        def __init__(self, **_: Any) -> None:
            raise RuntimeError("No device found.\nDid you load the module?")

    pyvirtualcam.register_backend("recorder", Absent)
    pyvirtualcam.register_backend("second", Absent)
    for platform, remedy in (("linux", "modprobe v4l2loopback"), ("darwin", "OBS"), ("win32", "UnityCapture")):
        monkeypatch.setattr(sys, "platform", platform)
        with pytest.raises(SinkError) as error:
            VirtualCamera(info(live=True))
        text = str(error.value)
        assert text.count("No device found; Did you load the module?") == 2
        assert "'recorder' backend" in text
        assert "'second' backend" in text
        assert remedy in text
        assert "\n" not in text


@pytest.mark.skipif(
    sys.platform != "linux" or any(Path("/dev").glob("video*")), reason="needs a Linux without video devices"
)
def test_the_real_driver_that_is_missing_is_one_sentence_with_the_commands_to_run() -> None:
    code = (
        "from tests.fakes import info; from realtime.virtual_camera import VirtualCamera\n"
        "VirtualCamera(info(live=True))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("realtime.errors.SinkError: a virtual camera cannot be opened ('v4l2loopback' backend: ")
    assert "apt-get install v4l2loopback-dkms" in last
    assert "modprobe v4l2loopback video_nr=10 card_label=liveswap exclusive_caps=1 max_buffers=2" in last


def test_without_the_package_there_is_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without:
        """A finder of modules in a Python into which pyvirtualcam was never installed."""

        def __init__(self, finder: Any) -> None:
            self._finder = finder

        def find_spec(self, name: str, *rest: Any) -> Any:
            return None if name.partition(".")[0] == "pyvirtualcam" else self._finder.find_spec(name, *rest)

    for name in [name for name in sys.modules if name.partition(".")[0] == "pyvirtualcam"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without(finder) for finder in sys.meta_path])
    for call in (lambda: check_sink("camera"), lambda: open_sink("camera", info(live=True))):
        with pytest.raises(SinkError, match=r'pip install -e "\.\[vcam\]" -c constraints\.txt'):
            call()


def test_it_starts_no_thread() -> None:
    before = threading.active_count()
    camera = VirtualCamera(info(live=True))
    camera.send(frame(0))
    assert threading.active_count() == before
    camera.close()


def test_every_picture_of_the_camera_is_marked_and_so_is_the_card_at_the_end(
    driver: type[Device], tmp_path: Path
) -> None:
    model = painting_dfm(tmp_path / "ada.dfm", metadata=liveswap_metadata(schema=1, subject="Ada", consent="signed"))
    flags = [
        "--source",
        "pattern:2",
        "--size",
        "320x240",
        "--sink",
        "camera",
        "--badge-language",
        "en",
        "--threads",
        "1",
    ]
    assert main(["run", "--model", str(model), *flags]) == 0
    (device,) = driver.opened
    seen = [device.picture(index) for index in range(len(device.sent))]
    assert len(seen) > 10
    assert all(marked(each) for each in seen)
    assert error_levels(seen[-1][:200], slate(240, 320)[:200]) < SAME_PICTURE_LEVELS
