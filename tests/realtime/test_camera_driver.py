"""OpenCV's own V4L2 driver with a webcam that lives in the C library in; what Camera makes of it out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.tolerances import JPEG_LEVELS

ROOT = Path(__file__).resolve().parents[2]
COLOUR = (60, 120, 200)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="V4L2 is Linux's")

SCRIPT = """
import itertools, json, logging, sys
from realtime.camera import Camera
from realtime.devices import CameraDevice
from realtime.errors import SourceError
here = [CameraDevice(0, "Preloaded Webcam", "/dev/video0", "usb")]
def camera(*size):
    width, height = size or (None, None)
    return Camera(0, width=width, height=height, fps=30 if size else None, cameras=lambda: here)
def tell(**what):
    print(json.dumps(what))
def modes(camera):
    there = camera.negotiation
    return [[each.width, each.height, each.fps, each.fourcc] for each in (there.granted, there.measured) if each]
"""


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which /dev/video0 is a webcam."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler; run: apt install gcc libc6-dev")
    folder = tmp_path_factory.mktemp("v4l2")
    library = folder / "fake_v4l2.so"
    source = ROOT / "tests" / "fake_v4l2.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=120)
    for width, height in ((640, 480), (1280, 720)):
        cv2.imwrite(str(folder / f"{width}x{height}.jpg"), np.full((height, width, 3), COLOUR, np.uint8))
    return {**os.environ, "LD_PRELOAD": str(library), "FAKE_V4L2": str(folder)}


def ran(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What `code` after SCRIPT prints and where it ends."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def told(code: str, environment: dict[str, str]) -> Any:
    answer = ran(code, environment)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_the_format_asked_for_first_makes_the_size_possible_at_the_full_rate(preloaded: dict[str, str]) -> None:
    found = told(
        """
with camera(1280, 720) as it:
    frame = next(iter(it))
    tell(modes=modes(it), colour=frame.image.mean((0, 1)).tolist(), size=[it.info.width, it.info.height])
""",
        preloaded,
    )
    assert found["modes"] == [[1280, 720, 30.0, "MJPG"]]
    assert found["size"] == [1280, 720]
    assert np.abs(np.subtract(found["colour"], COLOUR)).max() < JPEG_LEVELS
    # What the driver does by itself, so that the order is worth its line: a third of the rate.
    bare = told(
        """
import cv2
it = cv2.VideoCapture(0, cv2.CAP_V4L2)
it.set(cv2.CAP_PROP_FRAME_WIDTH, 1280), it.set(cv2.CAP_PROP_FRAME_HEIGHT, 720), it.set(cv2.CAP_PROP_FPS, 30)
tell(fps=it.get(cv2.CAP_PROP_FPS))
""",
        preloaded,
    )
    assert bare["fps"] == 10


def test_a_second_buffer_is_taken_where_one_costs_every_second_picture(preloaded: dict[str, str]) -> None:
    found = told(
        """
with camera(640, 480) as it:
    times = [frame.captured_s for frame in itertools.islice(it, 60)]
    tell(modes=modes(it), first=sum(each < times[0] + 1 for each in times))
""",
        preloaded,
    )
    assert found["first"] <= 17  # fifteen, with one buffer
    granted, measured = found["modes"]
    assert granted == [640, 480, 30.0, "MJPG"]
    assert measured[:2] == [640, 480]
    assert measured[2] > 20


def test_a_camera_that_is_unplugged_ends_with_one_sentence(preloaded: dict[str, str]) -> None:
    answer = ran(
        """
try:
    with camera() as it:
        for frame in it:
            pass
except SourceError as error:
    sys.exit(str(error))
""",
        {**preloaded, "FAKE_V4L2_GONE": "12"},
    )
    assert answer.returncode == 1
    assert answer.stderr == (
        "camera 0 (Preloaded Webcam) delivers no more pictures; check its cable, or plug it in again\n"
    )


def test_a_camera_in_use_ends_with_one_sentence(preloaded: dict[str, str]) -> None:
    answer = ran(
        """
with camera():
    try:
        camera()
    except SourceError as error:
        sys.exit(str(error))
""",
        preloaded,
    )
    assert answer.returncode == 1
    assert answer.stderr == (
        "camera 0 (Preloaded Webcam) does not open; close other programs that use it, or plug it in again\n"
    )


def test_a_camera_that_was_closed_opens_again(preloaded: dict[str, str]) -> None:
    found = told(
        """
sizes = []
for size in ((640, 480), (1280, 720)):
    with camera(*size) as it:
        sizes.append(next(iter(it)).image.shape[:2])
tell(sizes=sizes)
""",
        preloaded,
    )
    assert found["sizes"] == [[480, 640], [720, 1280]]


def test_linux_is_asked_what_a_node_can_do(preloaded: dict[str, str]) -> None:
    found = told(
        """
from pathlib import Path
from realtime.devices import query_capabilities
can = query_capabilities(Path("/dev/video0"))
tell(driver=can.driver, card=can.card, captures=can.captures)
""",
        preloaded,
    )
    assert found == {"driver": "uvcvideo", "card": "Preloaded Webcam", "captures": True}
