"""Maps show left as left, and the worst frames stand beside what is nearest to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.covered import facts, write_set
from training.coverage import cover
from training.coverage_facts import read_facts
from training.coverage_plots import expression_map, light_map, pair_sheet, pose_map, risk_line, worst_pairs
from training.drawing import INK, drawing, to_png, to_svg
from training.faceset import Faceset

PERFORMER = facts("performer", seed=1)


def test_who_turns_to_the_left_of_the_image_is_drawn_on_the_left_and_who_looks_down_below() -> None:
    left_down = replace(facts(), pose=np.tile([30.0, 20.0], (400, 1)))
    left = pose_map(cover(left_down, PERFORMER)).axes[0].images[0].get_array()
    assert left is not None
    rows, columns = np.nonzero(np.asarray(left))
    assert columns.max() < left.shape[1] / 2
    assert rows.max() < left.shape[0] / 2  # the image's origin is its lower corner


def test_frames_where_the_identity_does_not_look_are_marked() -> None:
    figure = pose_map(cover(facts(yaw=10), PERFORMER))
    offsets = np.asarray(figure.axes[1].collections[0].get_offsets())
    assert np.abs(offsets[:, 0]).min() > 20
    assert not pose_map(cover(facts(), PERFORMER)).axes[1].collections


@pytest.mark.parametrize("draw", [pose_map, light_map, expression_map, risk_line])
def test_every_drawing_is_an_svg_element_in_the_ink_of_the_page_and_a_png(draw: object) -> None:
    assert callable(draw)
    with drawing("a"):
        figure = draw(cover(facts(), PERFORMER))
        svg = to_svg(figure)
        assert to_png(figure, 40).startswith(b"\x89PNG")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "currentColor" in svg
    assert INK not in svg


def test_the_same_numbers_give_the_same_drawing() -> None:
    drawn = []
    for _ in range(2):
        with drawing("a"):
            drawn.append(to_svg(light_map(cover(facts(), PERFORMER))))
    assert drawn[0] == drawn[1]


def test_the_worst_frames_stand_beside_the_identitys_nearest(tmp_path: Path) -> None:
    identity = Faceset.open(write_set(tmp_path / "identity", yaw=8))
    performer = Faceset.open(write_set(tmp_path / "performer", "performer", faces=9, yaw=60))
    found = cover(read_facts(identity), read_facts(performer))
    pairs = worst_pairs(found, identity, performer)
    assert [pair.risk for pair in pairs] == sorted((pair.risk for pair in pairs), reverse=True)
    assert pairs[0].cause == "pose"
    for pair in pairs:
        turned = performer.records[pair.frame].yaw
        if abs(turned) > 20:  # the nearest of those that turn less is the one that turns most to the same side
            assert identity.records[pair.nearest].yaw * turned > 0
    sheet = pair_sheet(pairs)
    assert sheet.shape == (352, 176 * len(pairs), 3)
    assert (sheet[:176, :176] == pairs[0].performer).all()


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no pair"):
        pair_sheet([])
