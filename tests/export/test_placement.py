"""How the identity's face lies over the performer's: pictures with a known answer in, the placement out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from export.placement import measure_placement
from realtime.actors import BO, Actor, Pose, Renderer
from realtime.errors import ExportError
from realtime.frame import ImageU8
from tests.community_dfm import liveswap_metadata, painting_dfm

SIZE = 320, 240
SCALE_TOLERANCE, SHIFT_TOLERANCE = 0.02, 0.01
"""The mesh is found to about 1 % of the face, and the median of a few frames is taken."""


@pytest.fixture(scope="module")
def performances() -> list[ImageU8]:
    """A rendered performer looking a little to both sides."""
    camera = Renderer(Actor(BO), *SIZE)
    return [camera.render(Pose(yaw=yaw, jaw=0.2), frame=i).image for i, yaw in enumerate((-12, -6, 0, 6, 12, 3))]


@pytest.fixture(autouse=True)
def _let_the_echo_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that changes nothing shows best where faces are put; as a swap it would be refused."""
    monkeypatch.setattr("realtime.swap._gives_back", lambda *_: False)


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that paints what it sees."""
    card = liveswap_metadata(schema=1, subject="Bo", consent="rendered")
    return painting_dfm(tmp_path_factory.mktemp("model") / "echo.dfm", resolution=128, keep=1.0, metadata=card)


def zoomed(image: ImageU8, factor: float) -> ImageU8:
    """The whole picture larger about its centre: what the swap should have looked like."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, factor)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def test_a_face_that_lies_right_stays_where_it_is(performances: list[ImageU8], echo: Path) -> None:
    placement = measure_placement(echo, [(image, image) for image in performances])
    assert placement.scale == pytest.approx(1, abs=SCALE_TOLERANCE)
    assert placement.shift_x == pytest.approx(0, abs=SHIFT_TOLERANCE)
    assert placement.shift_y == pytest.approx(0, abs=SHIFT_TOLERANCE)


def test_a_face_that_should_be_larger_is_found_to_be_too_small(performances: list[ImageU8], echo: Path) -> None:
    placement = measure_placement(echo, [(image, zoomed(image, 1.1)) for image in performances])
    assert placement.scale == pytest.approx(1.1, abs=SCALE_TOLERANCE)


def test_a_face_that_should_sit_lower_is_moved_down(performances: list[ImageU8], echo: Path) -> None:
    lower = [np.roll(image, 6, axis=0) for image in performances]
    placement = measure_placement(echo, zip(performances, lower, strict=True))
    assert placement.shift_y > 0.02
    assert abs(placement.shift_x) < SHIFT_TOLERANCE


def test_too_few_faces_end_in_a_sentence(performances: list[ImageU8], echo: Path) -> None:
    wall = np.full_like(performances[0], 90)
    with pytest.raises(ExportError, match="only 2 frames show both faces"):
        measure_placement(echo, [(image, image) for image in performances[:2]] + [(wall, wall)])
