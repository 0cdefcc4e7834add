"""One frame in, one SwapResult out: swapped where a face was covered, otherwise untouched and with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.actors import ADA, Actor, Renderer, motion
from realtime.align import canonical_mesh, full_face, whole_face
from realtime.blend import BlendSettings
from realtime.detect import FaceFinder
from realtime.dfm import Dfm, read_dfm
from realtime.errors import ModelError
from realtime.frame import Face, Frame, ImageU8, Points
from realtime.guard import Guard, OnMiss
from realtime.infer import EngineOutput, OnnxEngine, open_engine
from realtime.lock import Policy
from realtime.swap import FaceSwapper, Finder, Miss, SwapResult
from tests.community_dfm import liveswap_metadata, painting_dfm, random_dfm

DEMO = Path(__file__).resolve().parents[2] / "realtime" / "models" / "demo.dfm"
ROUNDING = 1
"""Levels: a float picture becomes 8 bits once."""
PAINT = (0.2, 0.4, 0.9)
UNSMOOTHED = BlendSettings(colour="none")


def mesh(x: float = 160, y: float = 120, width: float = 60) -> Points:
    """A face that looks straight ahead: the canonical square, `width` pixels wide, around (x, y)."""
    points = (canonical_mesh() - 0.5) * width + (x, y)
    return np.column_stack([points, np.zeros(468)]).astype(np.float32)


def frame(index: int = 0, time_s: float | None = None, level: int = 100) -> Frame:
    image = np.full((240, 320, 3), level, np.uint8)
    image[::7, ::5] = 30
    now_s = index / 30 if time_s is None else time_s
    return Frame(image, index, captured_s=1000 + now_s, pts_s=now_s)


class ListFinder:
    """Finds what it was told to find: one list of faces for each frame, the last one for ever."""

    def __init__(self, *answers: list[Face]) -> None:
        self.answers, self.closed = list(answers), 0

    def find(self, frame: Frame) -> list[Face]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self) -> None:
        self.closed += 1


class AnsweringEngine:
    """Answers with what it was told, whatever it is shown."""

    provider = "test"

    def __init__(self, dfm: Dfm, output: EngineOutput | Exception) -> None:
        self.dfm, self.output, self.closed = dfm, output, 0
        self.seen: list[ImageU8] = []

    def run(self, image: ImageU8, morph: float = 0.75) -> EngineOutput:
        self.seen.append(image)
        if isinstance(self.output, Exception):
            raise self.output
        return self.output

    def close(self) -> None:
        self.closed += 1


def finder(*faces: Face) -> ListFinder:
    return ListFinder(list(faces))


def face(track_id: int = 0, x: float = 160, y: float = 120, width: float = 60) -> Face:
    return Face(mesh(x, y, width), 1.0, track_id)


def output(value: float = 0.5, mask: float = 1.0, size: int = 64) -> EngineOutput:
    full = np.full((size, size), mask, np.float32)
    return EngineOutput(np.full((size, size, 3), value, np.float32), full, full)


@pytest.fixture
def engine(tmp_path: Path) -> OnnxEngine:
    """Paints one colour everywhere."""
    return open_engine(painting_dfm(tmp_path / "paint.dfm", colour=PAINT), threads=1)


@pytest.fixture
def dfm(engine: OnnxEngine) -> Dfm:
    return engine.dfm


def untouched(result: SwapResult, original: Frame) -> bool:
    return not result.swapped and result.frame is original and bool(result.miss)


# A swap


def test_the_face_is_painted_and_the_rest_stays(engine: OnnxEngine) -> None:
    original = frame()
    before = original.image.copy()
    result = FaceSwapper(finder(face()), engine, blend=UNSMOOTHED).swap(original)
    assert result.swapped
    assert result.miss is None
    np.testing.assert_allclose(result.frame.image[120, 160], np.array(PAINT) * 255, atol=ROUNDING)
    np.testing.assert_array_equal(original.image, before)
    np.testing.assert_array_equal(result.frame.image[:, :80], before[:, :80])
    assert (result.frame.index, result.frame.pts_s, result.frame.captured_s) == (0, 0.0, 1000.0)
    assert list(result.stages_ms) == ["detect", "align", "infer", "blend"]
    assert min(result.stages_ms.values()) >= 0


def test_a_community_model_with_morph_swaps(tmp_path: Path) -> None:
    model = open_engine(random_dfm(tmp_path / "community.dfm", morph=True), threads=1)
    result = FaceSwapper(finder(face()), model, morph=0.3).swap(frame())
    assert result.swapped
    assert (result.frame.image != frame().image).any()


def test_a_model_is_shown_the_crop_it_says_it_was_trained_on(tmp_path: Path) -> None:
    """The same face, seen by two models: the one with the wider view sees it smaller."""
    original = frame()
    original.image[:] = 0
    original.image[105:135, 145:175] = 255  # a white square of half the canonical width, in the middle of the face
    lit = {}
    for kind, geometry in (("whole", whole_face(64)), ("full", full_face(64))):
        card = liveswap_metadata(coverage=geometry.coverage, offset=[geometry.offset_x, geometry.offset_y])
        model = open_engine(painting_dfm(tmp_path / f"{kind}.dfm", metadata=card), threads=1)
        looking = AnsweringEngine(model.dfm, output())
        FaceSwapper(finder(face()), looking).swap(original)
        lit[kind] = float((looking.seen[0] > 127).mean()) ** 0.5
    assert lit["whole"] == pytest.approx(0.5 / 2.2, abs=0.02)
    assert lit["full"] == pytest.approx(0.5 / 1.5966, abs=0.02)


def test_the_view_can_be_overridden_but_not_the_size(dfm: Dfm) -> None:
    looking = AnsweringEngine(dfm, output())
    result = FaceSwapper(finder(face()), looking, geometry=full_face(300)).swap(frame())
    assert result.swapped
    assert looking.seen[0].shape == (64, 64, 3)
    seen_by_default = AnsweringEngine(dfm, output())
    FaceSwapper(finder(face()), seen_by_default).swap(frame())
    assert (looking.seen[0] != seen_by_default.seen[0]).any()


def test_the_hull_keeps_the_paint_inside_the_outline_of_the_face(engine: OnnxEngine) -> None:
    def changed(hull: bool) -> int:
        settings = BlendSettings(colour="none", hull=hull)
        result = FaceSwapper(finder(face()), engine, blend=settings).swap(frame())
        return int((result.frame.image != frame().image).any(axis=2).sum())

    assert changed(hull=True) < 0.7 * changed(hull=False)


def test_the_placement_of_the_model_is_applied(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[12:52, 12:52] = 1
    middles = []
    for shift in (0.0, 0.1):
        path = painting_dfm(
            tmp_path / "m.dfm", mask=mask, metadata=liveswap_metadata(coverage=2.2, placement=[1, shift, 0])
        )
        answer = EngineOutput(output().face, mask, np.ones((64, 64), np.float32))
        placing = AnsweringEngine(read_dfm(path), answer)
        result = FaceSwapper(finder(face()), placing, blend=UNSMOOTHED).swap(frame())
        middles.append(np.nonzero((result.frame.image != frame().image).any(axis=2))[1].mean())
    assert middles[1] - middles[0] == pytest.approx(0.1 * 2.2 * 60, abs=0.5)


# Misses


def test_a_picture_without_a_face_stays_as_it_is(engine: OnnxEngine) -> None:
    original = frame()
    result = FaceSwapper(finder(), engine).swap(original)
    assert untouched(result, original)
    assert result.miss == "no face"
    assert result.faces == ()
    assert list(result.stages_ms) == ["detect"]


@pytest.mark.parametrize("wreck", ["collapsed", "nan", "infinite", "speck", "giant"])
def test_landmarks_that_make_no_face_are_a_miss(engine: OnnxEngine, wreck: str) -> None:
    points = mesh()
    if wreck == "collapsed":
        points[:] = 50
    elif wreck == "speck":
        points = mesh(width=1)
    elif wreck == "giant":
        points = mesh(width=1e6)
    else:
        points[4] = np.nan if wreck == "nan" else np.inf
    original = frame()
    result = FaceSwapper(finder(Face(points, 1.0)), engine).swap(original)
    assert untouched(result, original)
    assert result.miss == "the landmarks make no face"


@pytest.mark.parametrize("part", ["face", "face_mask", "performer_mask"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_a_miss(dfm: Dfm, part: str, value: float) -> None:
    flawed = output()
    getattr(flawed, part)[20, 20] = value
    original = frame()
    result = FaceSwapper(finder(face()), AnsweringEngine(dfm, flawed)).swap(original)
    assert untouched(result, original)
    assert result.miss == "the model's answer is not finite"


@pytest.mark.parametrize("mask", [0.0, 0.1, 0.3, 0.7, -5.0])
def test_a_mask_that_leaves_the_performer_visible_is_a_miss(dfm: Dfm, mask: float) -> None:
    original = frame()
    result = FaceSwapper(finder(face()), AnsweringEngine(dfm, output(mask=mask))).swap(original)
    assert untouched(result, original)
    assert result.miss == "the mask does not cover the face"


def strip(rows: slice = slice(None), columns: slice = slice(None)) -> EngineOutput:
    """The identity's mask covers only this part of the crop."""
    part = output()
    mask = np.zeros_like(part.face_mask)
    mask[rows, columns] = 1
    return replace(part, face_mask=mask)


@pytest.mark.parametrize("side", [slice(None, 32), slice(32, None)], ids=["left", "right"])
@pytest.mark.parametrize("across", [True, False], ids=["columns", "rows"])
def test_half_a_face_is_a_miss(dfm: Dfm, side: slice, across: bool) -> None:
    half = strip(columns=side) if across else strip(rows=side)
    original = frame()
    result = FaceSwapper(finder(face()), AnsweringEngine(dfm, half)).swap(original)
    assert untouched(result, original)
    assert result.miss == Miss.UNCOVERED


def test_masks_that_meet_nowhere_are_a_miss(dfm: Dfm) -> None:
    left, right = strip(columns=slice(None, 32)), strip(columns=slice(32, None))
    apart = replace(left, performer_mask=right.face_mask)
    assert FaceSwapper(finder(face()), AnsweringEngine(dfm, apart)).swap(frame()).miss == Miss.UNCOVERED


def test_a_mask_of_the_face_alone_is_a_swap(dfm: Dfm) -> None:
    tight = strip(rows=slice(10, 58), columns=slice(12, 52))
    assert FaceSwapper(finder(face()), AnsweringEngine(dfm, tight)).swap(frame()).swapped


def test_a_mask_that_is_moved_off_the_face_is_a_miss(dfm: Dfm) -> None:
    tight = strip(rows=slice(10, 58), columns=slice(12, 52))
    moved_off = BlendSettings(shift_x=0.2, scale=0.8)
    swapper = FaceSwapper(finder(face()), AnsweringEngine(dfm, tight), blend=moved_off)
    assert swapper.swap(frame()).miss == Miss.UNCOVERED


def test_only_what_the_picture_shows_of_a_face_must_be_covered(dfm: Dfm) -> None:
    right = strip(columns=slice(28, None))
    assert not FaceSwapper(finder(face(x=160)), AnsweringEngine(dfm, right)).swap(frame()).swapped
    assert FaceSwapper(finder(face(x=-4)), AnsweringEngine(dfm, right)).swap(frame()).swapped


@pytest.mark.parametrize(
    "settings",
    [
        BlendSettings(erode=0.08, colour="none"),
        BlendSettings(erode=0.06, feather=0.15, colour="none"),
        BlendSettings(erode=0.06, opacity=0.8, colour="none"),
    ],
    ids=["erode", "feather", "opacity"],
)
def test_a_mask_that_the_settings_take_away_is_a_miss(dfm: Dfm, settings: BlendSettings) -> None:
    """What the model covers would do; what is left of it does not."""
    tight = strip(rows=slice(16, 50), columns=slice(17, 47))
    plain = FaceSwapper(finder(face()), AnsweringEngine(dfm, tight), blend=UNSMOOTHED)
    taken = FaceSwapper(finder(face()), AnsweringEngine(dfm, tight), blend=settings)
    assert plain.swap(frame()).swapped
    assert taken.swap(frame()).miss == Miss.UNCOVERED


class EchoingEngine(AnsweringEngine):
    """Paints its input back, as `alter` made it."""

    def __init__(self, dfm: Dfm, alter: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        super().__init__(dfm, output())
        self.alter = alter

    def run(self, image: ImageU8, morph: float = 0.75) -> EngineOutput:
        return replace(output(size=len(image)), face=self.alter(np.asarray(image / 255, np.float32)))


def filmed(seed: int = 11) -> Frame:
    """The identity of the demo model before the camera: of all people she resembles her own swap most."""
    return Frame(
        Renderer(Actor(ADA), 320, 240, distance_cm=70.0).render(motion(30, seed=seed, hand=False)[20]).image, 0, 0.0
    )


@pytest.mark.parametrize(
    "alter",
    [
        lambda face: face,
        lambda face: face * np.array((0.6, 0.9, 1.1), np.float32) + np.float32(0.05),
        lambda face: cv2.GaussianBlur(face, (0, 0), 1.0),
        lambda face: face + np.random.default_rng(1).normal(0, 0.012, face.shape).astype(np.float32),
    ],
    ids=["as it is", "another colour", "soft", "noisy"],
)
@pytest.mark.parametrize("colour", ["none", "match"])
def test_a_model_that_paints_its_input_back_is_a_miss(
    alter: Callable[[NDArray[np.float32]], NDArray[np.float32]], colour: Literal["none", "match"]
) -> None:
    original = filmed()
    with FaceSwapper(
        FaceFinder(max_faces=1), EchoingEngine(read_dfm(DEMO), alter), blend=BlendSettings(colour=colour)
    ) as swapper:
        result = swapper.swap(original)
    assert untouched(result, original)
    assert result.miss == Miss.UNPAINTED


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_real_swap_of_the_identity_herself_is_no_echo(seed: int) -> None:
    with FaceSwapper(FaceFinder(max_faces=1), open_engine(DEMO, threads=1)) as swapper:
        assert swapper.swap(filmed(seed)).swapped


def test_a_face_outside_the_picture_is_a_miss(engine: OnnxEngine) -> None:
    original = frame()
    result = FaceSwapper(finder(face(x=900)), engine).swap(original)
    assert untouched(result, original)
    assert result.miss == "the face lies outside the picture"


def test_what_fails_in_the_engine_is_raised(dfm: Dfm) -> None:
    with pytest.raises(ModelError, match="broken"):
        FaceSwapper(finder(face()), AnsweringEngine(dfm, ModelError("broken"))).swap(frame())


# Several faces


def test_with_two_faces_it_keeps_to_the_one_it_began_with(engine: OnnxEngine) -> None:
    first, second = face(track_id=3, x=80), face(track_id=4, x=240)
    swapper = FaceSwapper(ListFinder([first], [second, first], [second]), engine, face="lock")
    swapper.swap(frame(0))
    swapper.choose_at(80, 120)
    both, gone = swapper.swap(frame(1)), swapper.swap(frame(2))
    assert [each.track_id for each in both.faces] == [3, 4]
    assert both.chosen == (3,)
    assert (both.frame.image[:, :160] != frame().image[:, :160]).any()
    np.testing.assert_array_equal(both.frame.image[:, 200:], frame().image[:, 200:])
    assert (gone.swapped, gone.miss, gone.chosen) == (False, Miss.WRONG_PERSON, ())


def painted(result: SwapResult, x: float, y: float = 120) -> bool:
    """Whether the picture shows PAINT at (x, y)."""
    return bool(np.abs(result.frame.image[round(y), round(x)] - np.array(PAINT) * 255).max() <= ROUNDING)


def detail(image: ImageU8) -> float:
    return float(np.abs(np.diff(image.astype(float), axis=1)).mean())


def test_all_swaps_everybody(engine: OnnxEngine) -> None:
    faces = [face(track_id=track_id, x=x, width=40) for track_id, x in ((3, 60), (4, 160), (5, 260))]
    result = FaceSwapper(finder(*faces), engine, blend=UNSMOOTHED, face="all").swap(frame())
    assert result.chosen == (3, 4, 5)
    assert [painted(result, x) for x in (60, 160, 260)] == [True] * 3


def test_each_face_has_a_memory_of_its_own(engine: OnnxEngine) -> None:
    one, two = face(track_id=3, x=80, width=40), face(track_id=4, x=240, width=40)
    both = FaceSwapper(ListFinder([one, two], [face(3, 86, width=40), two]), engine, blend=UNSMOOTHED, face="all")
    alone = FaceSwapper(ListFinder([one], [face(3, 86, width=40)]), engine, blend=UNSMOOTHED, face="all")
    images = [[swapper.swap(frame(i)).frame.image for i in range(2)][1] for swapper in (both, alone)]
    np.testing.assert_array_equal(images[0][:, :150], images[1][:, :150])


class FadingEngine(AnsweringEngine):
    """Answers well, then with a mask of nothing, in turns."""

    def run(self, image: ImageU8, morph: float = 0.75) -> EngineOutput:
        super().run(image, morph)
        return output(mask=float(len(self.seen) % 2))


def test_a_face_that_cannot_be_swapped_beside_one_that_can_is_pixelated(dfm: Dfm) -> None:
    faces = finder(face(track_id=3, x=80, width=40), face(track_id=4, x=240, width=40))
    original = frame()
    result = FaceSwapper(faces, FadingEngine(dfm, output()), face="all").swap(original)
    assert result.swapped
    assert result.chosen == (3,)
    head = slice(100, 140), slice(220, 260)
    assert detail(result.frame.image[head]) < 0.2 * detail(original.image[head])


def test_when_nobody_could_be_swapped_the_frame_is_a_miss(dfm: Dfm) -> None:
    faces = finder(face(track_id=3, x=80), face(track_id=4, x=240))
    original = frame()
    result = FaceSwapper(faces, AnsweringEngine(dfm, output(mask=0.1)), face="all").swap(original)
    assert untouched(result, original)
    assert result.miss == Miss.UNCOVERED
    assert result.chosen == ()


@pytest.mark.parametrize("bystanders", ["show", "blur"])
def test_bystanders_are_shown_or_pixelated_as_the_user_wishes(
    engine: OnnxEngine, bystanders: Literal["show", "blur"]
) -> None:
    faces = finder(face(track_id=3, x=80, width=50), face(track_id=4, x=240, width=40))
    swapper = FaceSwapper(faces, engine, blend=UNSMOOTHED, face="largest", bystanders=bystanders)
    result = swapper.swap(frame())
    assert result.chosen == (3,)
    assert painted(result, 80)
    head = slice(100, 140), slice(220, 260)
    if bystanders == "show":
        np.testing.assert_array_equal(result.frame.image[head], frame().image[head])
    else:
        assert detail(result.frame.image[head]) < 0.2 * detail(frame().image[head])


def test_a_bystander_beside_the_performer_is_hidden_and_the_performer_still_swapped(engine: OnnxEngine) -> None:
    faces = finder(face(track_id=3, x=150, width=50), face(track_id=4, x=210, width=40))
    result = FaceSwapper(faces, engine, blend=UNSMOOTHED, face="largest", bystanders="blur").swap(frame())
    assert painted(result, 150)
    assert painted(result, 170)


def test_without_smoothing_the_largest_face_is_swapped(engine: OnnxEngine) -> None:
    faces = ListFinder([face(0, 80, width=40), face(1, 240, width=60)], [face(0, 240, width=40), face(1, 80, width=60)])
    swapper = FaceSwapper(faces, engine, blend=UNSMOOTHED, smooth=False)
    assert swapper.policy == "largest"
    assert [swapper.swap(frame(i)).chosen for i in range(2)] == [(1,), (1,)]


def test_the_next_face_is_swapped_when_asked_for(engine: OnnxEngine) -> None:
    faces = finder(face(track_id=3, x=80), face(track_id=4, x=240))
    swapper = FaceSwapper(faces, engine, face="leftmost")
    assert swapper.swap(frame(0)).chosen == (3,)
    assert swapper.next_face()
    swapper.next_face()
    assert swapper.policy == "lock"
    assert swapper.swap(frame(1)).chosen == (4,)


def test_who_the_performer_is_can_be_in_doubt(engine: OnnxEngine) -> None:
    result = FaceSwapper(finder(face(track_id=3, x=80), face(track_id=4, x=240)), engine).swap(frame())
    assert (result.swapped, result.miss, len(result.faces)) == (False, Miss.UNDECIDED, 2)


def test_bystanders_have_two_ways(engine: OnnxEngine) -> None:
    with pytest.raises(ValueError, match="bystanders"):
        FaceSwapper(finder(), engine, bystanders="hide")  # type: ignore[arg-type]  # the point of the test


# Changes while it runs


def test_settings_change_between_frames_and_the_smoothing_goes_on(engine: OnnxEngine) -> None:
    steady, adjusted = jumping(engine), jumping(engine)
    steady.swap(frame(0))
    adjusted.swap(frame(0))
    adjusted.adjust(replace(UNSMOOTHED, opacity=0.8), 0.4)
    one, other = (swapper.swap(frame(1)) for swapper in (steady, adjusted))
    assert x_of_paint(other) == pytest.approx(x_of_paint(one), abs=0.1)
    between = 0.8 * one.frame.image.astype(float) + 0.2 * frame().image
    np.testing.assert_allclose(other.frame.image[120, 160], between[120, 160], atol=ROUNDING)
    with pytest.raises(ValueError, match="morph"):
        adjusted.adjust(UNSMOOTHED, -0.1)


def test_the_morph_is_passed_on(dfm: Dfm) -> None:
    class Morphing(AnsweringEngine):
        def run(self, image: ImageU8, morph: float = 0.75) -> EngineOutput:
            self.morph = morph
            return super().run(image, morph)

    morphing = Morphing(dfm, output())
    swapper = FaceSwapper(finder(face()), morphing, morph=0.2)
    swapper.swap(frame(0))
    assert morphing.morph == 0.2
    swapper.adjust(BlendSettings(), 0.9)
    swapper.swap(frame(1))
    assert morphing.morph == 0.9


def test_another_model_takes_over_between_frames(dfm: Dfm, tmp_path: Path) -> None:
    first = AnsweringEngine(dfm, output(0.2))
    card = liveswap_metadata(coverage=1.5966, offset=[0, 0])
    second = AnsweringEngine(read_dfm(painting_dfm(tmp_path / "b.dfm", metadata=card)), output(0.8))
    swapper = FaceSwapper(finder(face()), first, blend=UNSMOOTHED)
    before = swapper.swap(frame(0))
    assert swapper.change_engine(second) is first
    assert first.closed == 0, "the old model is the caller's to close"
    after = swapper.swap(frame(1))
    assert before.frame.image[120, 160, 0] == pytest.approx(0.2 * 255, abs=ROUNDING)
    assert after.frame.image[120, 160, 0] == pytest.approx(0.8 * 255, abs=ROUNDING)
    assert (second.seen[0] != first.seen[0]).any(), "the second model looks at a smaller part of the head"
    swapper.close()
    assert (first.closed, second.closed) == (0, 1)


def test_the_view_of_another_model_can_be_overridden_too(dfm: Dfm) -> None:
    looking = AnsweringEngine(dfm, output())
    swapper = FaceSwapper(finder(face()), AnsweringEngine(dfm, output()))
    swapper.change_engine(looking, full_face(300))
    swapper.swap(frame())
    by_itself = AnsweringEngine(dfm, output())
    FaceSwapper(finder(face()), by_itself, geometry=full_face(300)).swap(frame())
    np.testing.assert_array_equal(looking.seen[0], by_itself.seen[0])


# Time


def x_of_paint(result: SwapResult) -> float:
    """Where the middle of the painted region lies."""
    return float(np.nonzero((result.frame.image != frame().image).any(axis=2))[1].mean())


def jumping(engine: OnnxEngine, *, track_id: int = 0, smooth: bool = True, live: bool = False) -> FaceSwapper:
    faces = ListFinder([face()], [face(track_id=track_id, x=166)])
    return FaceSwapper(faces, engine, blend=UNSMOOTHED, smooth=smooth, live=live)


def moved(swapper: FaceSwapper, second: Frame) -> float:
    """How far the paint moves when the landmarks jump by 6 px between two frames."""
    start = x_of_paint(swapper.swap(frame(0)))
    return x_of_paint(swapper.swap(second)) - start


def test_the_crop_is_kept_still_unless_every_frame_shall_stand_alone(engine: OnnxEngine) -> None:
    assert moved(jumping(engine), frame(1)) < 5.5
    assert moved(jumping(engine, smooth=False), frame(1)) == pytest.approx(6, abs=0.5)


def test_another_face_starts_where_it_is(engine: OnnxEngine) -> None:
    assert moved(jumping(engine, track_id=9), frame(1)) == pytest.approx(6, abs=0.5)


@pytest.mark.parametrize("time_s", [0.9, -0.1])
def test_after_a_gap_or_a_step_back_the_face_starts_where_it_is(engine: OnnxEngine, time_s: float) -> None:
    assert moved(jumping(engine), frame(1, time_s)) == pytest.approx(6, abs=0.5)


def test_a_file_goes_by_its_own_time_and_a_live_source_by_the_clock(engine: OnnxEngine) -> None:
    late_in_the_file = replace(frame(1), pts_s=0.9)
    late_on_the_clock = replace(frame(1), captured_s=1000.9)
    assert moved(jumping(engine, live=False), late_in_the_file) == pytest.approx(6, abs=0.5)
    assert moved(jumping(engine, live=False), late_on_the_clock) < 5.5
    assert moved(jumping(engine, live=True), late_on_the_clock) == pytest.approx(6, abs=0.5)
    assert moved(jumping(engine, live=True), late_in_the_file) < 5.5


# Out of sight


def pixelated(result: SwapResult, x: int) -> bool:
    """Whether the stripes of the picture are gone around (x, 120)."""
    return bool(np.std(result.frame.image[110:130, x - 10 : x + 10].astype(float)) < 8)


ROW = [face(0, x=60, width=40), face(1, x=160, width=40), face(2, x=260, width=40)]


def going(engine: OnnxEngine, seen: list[list[Face]], **settings: Any) -> tuple[FaceSwapper, list[SwapResult]]:
    swapper = FaceSwapper(ListFinder(*seen), engine, blend=UNSMOOTHED, **settings)
    return swapper, [swapper.swap(frame(index)) for index in range(len(seen))]


def test_of_all_faces_one_that_is_lost_stays_hidden_for_two_seconds(engine: OnnxEngine) -> None:
    _, results = going(engine, [ROW] * 5 + [ROW[1:]] * 75, face="all")
    assert all(each.swapped and each.chosen == (1, 2) for each in results[5:])
    assert [pixelated(each, 60) for each in results[5:]] == [True] * 60 + [False] * 15


def test_of_all_faces_one_that_left_over_the_border_is_soon_forgotten(engine: OnnxEngine) -> None:
    at_the_border = [face(0, x=10, width=40), *ROW[1:]]
    _, results = going(engine, [at_the_border] * 5 + [ROW[1:]] * 30, face="all")
    assert pixelated(results[5], 12)
    assert not pixelated(results[-1], 12)


@pytest.mark.parametrize(("policy", "gone", "chosen"), [("leftmost", 0, 0), (2, 1, 1), (2, 0, 1)])
def test_nobody_slides_into_the_place_of_who_is_out_of_sight(
    engine: OnnxEngine, policy: Policy, gone: int, chosen: int
) -> None:
    rest = [each for each in ROW if each.track_id != gone]
    _, results = going(engine, [ROW] * 5 + [rest] * 30 + [ROW], face=policy)
    assert results[4].chosen == results[-1].chosen == (chosen,)
    for each in results[5:-1]:
        assert (each.chosen == (chosen,)) if gone != chosen else (each.miss == Miss.WRONG_PERSON)


def test_who_comes_back_under_another_number_is_the_same_again(engine: OnnxEngine) -> None:
    _, results = going(
        engine, [ROW] * 5 + [ROW[1:]] * 5 + [[face(7, x=62, width=40), *ROW[1:]]], face="leftmost", bystanders="blur"
    )
    assert results[-1].chosen == (7,)
    assert results[-1].hidden == ()


def test_a_bystander_that_is_lost_stays_hidden_for_a_second(engine: OnnxEngine) -> None:
    _, results = going(engine, [ROW] * 5 + [ROW[:2]] * 40, face="leftmost", bystanders="blur")
    assert [pixelated(each, 260) for each in results[5:]] == [True] * 30 + [False] * 10
    shown = going(engine, [ROW] * 5 + [ROW[:2]] * 5, face="leftmost")[1]
    assert not any(pixelated(each, 260) for each in shown)


@pytest.mark.parametrize("bystanders", ["show", "blur"])
def test_who_is_lost_stays_hidden_when_the_others_cannot_be_swapped(
    engine: OnnxEngine, dfm: Dfm, bystanders: Literal["show", "blur"]
) -> None:
    policy: Policy = "all" if bystanders == "show" else "leftmost"
    swapper, _ = going(engine, [ROW] * 5 + [ROW[:2]], face=policy, bystanders=bystanders)
    swapper.change_engine(AnsweringEngine(dfm, output(mask=0)))
    result = swapper.swap(frame(6))
    assert result.miss == Miss.UNCOVERED
    guard = Guard(OnMiss.BLUR, live=False)
    shown = guard.publish(result, 0.2)
    assert shown.image is not None
    assert pixelated(replace(result, frame=result.frame.with_image(shown.image)), 260)


# Ownership


def test_closing_closes_finder_and_engine_even_when_one_fails(dfm: Dfm) -> None:
    class FailingFinder(ListFinder):
        def close(self) -> None:
            raise RuntimeError("stuck")

    engine = AnsweringEngine(dfm, output())
    with pytest.raises(RuntimeError, match="stuck"):
        FaceSwapper(FailingFinder([]), engine).close()
    assert engine.closed == 1
    polite: Finder = finder()
    with FaceSwapper(polite, engine):
        pass
    assert engine.closed == 2
    assert isinstance(polite, ListFinder)
    assert polite.closed == 1


def test_the_swapper_names_what_runs_its_model(engine: OnnxEngine) -> None:
    assert FaceSwapper(finder(), engine).provider == "CPUExecutionProvider"


def test_a_morph_out_of_range_is_the_callers_mistake(engine: OnnxEngine) -> None:
    with pytest.raises(ValueError, match="morph"):
        FaceSwapper(finder(), engine, morph=2)
