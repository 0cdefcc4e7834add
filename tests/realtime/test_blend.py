"""A face is put where it belongs, in the performer's colours, with no visible seam; nothing else is touched."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.align import transform
from realtime.blend import Blender, BlendSettings, combined_mask, paste
from realtime.dfm import Placement
from realtime.frame import ImageU8, MaskF32, Matrix
from realtime.infer import EngineOutput

ROUNDING = 1
"""Levels: a float picture becomes 8 bits once."""
MATCHED = 2.0
"""Levels: mean colours after the match; clipping and rounding take a little."""
ALIASED = 15.0
"""Levels around grey that a shrunken checkerboard may keep; unfiltered it keeps more than 100."""
STEEPEST = 2.0
"""Times a straight ramp: a smooth step is 1.5 times as steep in its middle; the rest is for corners and sampling."""

PLAIN = BlendSettings(erode=0, feather=0, colour="none")


def placed(scale: float = 1.0, degrees: float = 0.0, x: float = 0.0, y: float = 0.0) -> Matrix:
    """Crop pixels -> frame pixels."""
    a, b = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[a, -b, x], [b, a, y]])


def noise(height: int, width: int, seed: int = 0) -> ImageU8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def disc(size: int, radius: float = 0.35) -> MaskF32:
    y, x = np.mgrid[:size, :size] / size - 0.5
    return np.asarray(np.hypot(x, y) < radius, np.float32)


def painted(
    colour: tuple[float, float, float] | NDArray[np.float32] = (0.2, 0.4, 0.9),
    *,
    size: int = 64,
    mask: MaskF32 | None = None,
    performer: MaskF32 | None = None,
) -> EngineOutput:
    """What an engine would answer: a face of one colour (or a picture), masks of ones unless given."""
    face = np.broadcast_to(np.asarray(colour, np.float32), (size, size, 3)).copy()
    ones = np.ones((size, size), np.float32)
    return EngineOutput(face, ones if mask is None else mask, ones if performer is None else performer)


def mean_colour(image: NDArray[Any], mask: MaskF32) -> NDArray[np.float64]:
    return np.asarray(np.asarray(image, np.float64)[mask > 0.5].mean(axis=0))


# What is touched


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    scale=st.floats(0.1, 4),
    degrees=st.floats(-180, 180),
    x=st.floats(-150, 150),
    y=st.floats(-150, 150),
    seed=st.integers(0, 9),
)
def test_only_the_crop_is_touched_wherever_it_lies(scale: float, degrees: float, x: float, y: float, seed: int) -> None:
    image, to_frame = noise(90, 120, seed), placed(scale, degrees, x, y)
    before = image.copy()
    out = Blender().blend(image, painted(size=32), to_frame, 0.0)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    corners = transform(to_frame, np.array([[0, 0], [31, 0], [0, 31], [31, 31]]))
    left, top = np.floor(corners.min(axis=0))
    right, bottom = np.ceil(corners.max(axis=0))
    rows, columns = np.nonzero((out != image).any(axis=2))
    if len(rows):
        assert left - 1 <= columns.min() <= columns.max() <= right + 1
        assert top - 1 <= rows.min() <= rows.max() <= bottom + 1


def test_inside_the_mask_stands_the_painted_face_and_outside_the_frame() -> None:
    image = noise(100, 100)
    out = Blender(PLAIN).blend(image, painted((0.2, 0.4, 0.8), mask=disc(64)), placed(x=20, y=10), 0.0)
    np.testing.assert_allclose(out[42, 52], (51, 102, 204), atol=ROUNDING)
    outside = np.ones((100, 100), bool)
    outside[10:74, 20:84] = disc(64, radius=0.38) == 0
    np.testing.assert_array_equal(out[outside], image[outside])


def test_a_face_outside_the_picture_leaves_the_picture_as_it_is() -> None:
    image = noise(50, 50)
    assert Blender().blend(image, painted(), placed(x=500), 0.0) is image
    assert Blender().blend(image, painted(mask=np.zeros((64, 64), np.float32)), placed(), 0.0) is image


def test_a_face_cut_by_the_border_looks_as_in_a_larger_picture() -> None:
    large = noise(200, 200)
    output, settings_ = painted(mask=disc(64)), BlendSettings(colour="none")
    whole = Blender(settings_).blend(large, output, placed(1.5, 20, x=30, y=20), 0.0)
    part = Blender(settings_).blend(large[50:, 60:].copy(), output, placed(1.5, 20, x=30 - 60, y=20 - 50), 0.0)
    np.testing.assert_allclose(part, whole[50:, 60:], atol=ROUNDING)


def test_colour_is_the_same_whether_the_crop_is_at_hand_or_cut_again() -> None:
    image, to_frame = np.asarray(cv2.GaussianBlur(noise(120, 120), (0, 0), 5), np.uint8), placed(x=20, y=30)
    crop = image[30:94, 20:84].copy()
    given_crop = Blender().blend(image, painted(), to_frame, 0.0, crop=crop)
    np.testing.assert_array_equal(Blender().blend(image, painted(), to_frame, 0.0), given_crop)


# Masks


def test_the_mask_is_the_product_of_both_masks_and_the_hull() -> None:
    left, top = np.zeros((2, 64, 64), np.float32)
    left[:, :40], top[:40] = 1, 1
    hull = disc(64)
    mask = combined_mask(painted(mask=left, performer=top), PLAIN, hull)
    np.testing.assert_allclose(mask[4:-4, 4:-4], (left * top * hull)[4:-4, 4:-4])


def test_masks_beyond_zero_and_one_are_brought_back() -> None:
    wild = np.full((64, 64), 7, np.float32)
    wild[:, :32] = -3
    mask = combined_mask(painted(mask=wild, performer=wild), PLAIN)
    assert mask.min() == 0
    assert mask.max() == 1
    assert mask[32, 10] == 0


@pytest.mark.parametrize("size", [16, 64, 256])
@pytest.mark.parametrize("settings_", [PLAIN, BlendSettings(), BlendSettings(erode=0.08, feather=0.15)])
def test_no_square_shows_even_when_the_masks_are_full(size: int, settings_: BlendSettings) -> None:
    mask = combined_mask(painted(size=size), settings_)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    np.testing.assert_array_equal(border, 0)
    assert mask[size // 2, size // 2] == pytest.approx(1, abs=1e-5)
    grey = np.full((3 * size, 3 * size, 3), 128, np.uint8)
    out = paste(grey, np.full((size, size, 3), 255, np.float32), mask, placed(1.3, 10, x=size, y=size)).astype(int)
    steps = max(np.abs(np.diff(out, axis=0)).max(), np.abs(np.diff(out, axis=1)).max())
    fade_px = 1.3 * max(0.04 * size, 3)
    assert steps <= STEEPEST * 127 / fade_px


def test_erode_shrinks_and_feather_softens_the_mask() -> None:
    def area(**values: float) -> float:
        return float(combined_mask(painted(mask=disc(128), size=128), BlendSettings(**values), None).sum())  # type: ignore[arg-type]

    sharp = area(erode=0, feather=0)
    assert area(erode=0.03, feather=0) == pytest.approx(sharp * (0.32 / 0.35) ** 2, rel=0.03)
    assert area(erode=0, feather=0.08) == pytest.approx(sharp, rel=0.02)
    soft = combined_mask(painted(mask=disc(128), size=128), BlendSettings(erode=0, feather=0.08))
    rise = np.flatnonzero((soft[64, :64] > 0.07) & (soft[64, :64] < 0.93))
    assert len(rise) == pytest.approx(0.08 * 128, abs=2)


def test_opacity_lets_the_performer_through() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    thin = BlendSettings(erode=0, feather=0, colour="none", opacity=0.8)
    out = Blender(thin).blend(image, painted((1, 1, 1)), placed(), 0.0)
    np.testing.assert_allclose(out[32, 32], 204, atol=ROUNDING)


# Steady masks


def trembling(amplitude: float, count: int = 40) -> list[EngineOutput]:
    """A disc whose edge trembles by `amplitude`, and that stands still where it is flat."""
    rng, soft = np.random.default_rng(3), np.asarray(cv2.GaussianBlur(disc(64), (0, 0), 2), np.float32)
    edge = (soft > 0.1) & (soft < 0.9)
    noisy = (soft + edge * rng.normal(0, amplitude, soft.shape).astype(np.float32) for _ in range(count))
    return [painted(mask=np.clip(each, 0, 1).astype(np.float32)) for each in noisy]


def tremor(masks: list[MaskF32]) -> float:
    stack = np.stack(masks[5:])
    return float(np.sqrt(((stack[1:-1] - (stack[:-2] + stack[2:]) / 2) ** 2).mean()))


def steadied(outputs: list[EngineOutput], **values: float) -> list[MaskF32]:
    blender = Blender(BlendSettings(**values))  # type: ignore[arg-type]  # numbers only
    return [blender.steady(each, i / 30).face_mask for i, each in enumerate(outputs)]


def test_a_trembling_edge_stands_still() -> None:
    outputs = trembling(0.05)
    assert tremor(steadied(outputs)) < 0.5 * tremor([each.face_mask for each in outputs])


def test_without_smoothing_masks_are_what_the_model_says() -> None:
    outputs = trembling(0.05, 3)
    for steady, each in zip(steadied(outputs, mask_smoothing_s=0), outputs, strict=True):
        np.testing.assert_array_equal(steady, each.face_mask)


@pytest.mark.parametrize("appears", [True, False])
def test_what_comes_before_the_face_is_followed_at_once(appears: bool) -> None:
    clear, covered = np.ones((64, 64), np.float32), np.ones((64, 64), np.float32)
    covered[:, :30] = 0.2
    masks = [clear] * 5 + [covered] if appears else [covered] * 5 + [clear]
    np.testing.assert_allclose(steadied([painted(mask=mask) for mask in masks])[-1], masks[-1], atol=1e-6)


def test_small_changes_arrive_with_their_time_constant_whatever_the_frame_rate() -> None:
    def reached(fps: int) -> float:
        blender = Blender(BlendSettings(mask_smoothing_s=0.5))
        levels = [0.5] + [0.501] * (fps // 2)
        outputs = [painted(mask=np.full((64, 64), level, np.float32)) for level in levels]
        return float([blender.steady(each, i / fps) for i, each in enumerate(outputs)][-1].face_mask[0, 0])

    expected = 0.5 + 0.001 * (1 - math.exp(-1))
    assert [reached(fps) for fps in (10, 60)] == pytest.approx([expected] * 2, abs=2e-5)


def test_after_a_reset_or_with_another_model_the_next_mask_passes_unchanged() -> None:
    blender = Blender()
    blender.steady(painted(mask=np.full((64, 64), 0.5, np.float32)), 0.0)
    large = np.full((32, 32), 0.6, np.float32)
    np.testing.assert_array_equal(blender.steady(painted(size=32, mask=large), 0.01).face_mask, large)
    blender.reset()
    small = np.full((32, 32), 0.65, np.float32)
    np.testing.assert_array_equal(blender.steady(painted(size=32, mask=small), 0.02).face_mask, small)


# Sharpness


def test_sharpening_brings_out_details_and_keeps_the_colour() -> None:
    texture, mask = skin(4), disc(128)
    plain, sharp, sharper = (matched(texture, texture, mask, sharpen=amount) for amount in (0.0, 0.5, 1.0))
    inner = disc(128, 0.3) > 0.5

    def detail(image: ImageU8) -> float:
        blurred = cv2.GaussianBlur(image, (0, 0), 1.3)
        return float(np.abs(image.astype(float) - blurred)[inner].mean())

    assert detail(plain) < detail(sharp) < detail(sharper)
    np.testing.assert_allclose(mean_colour(sharper, mask), mean_colour(plain, mask), atol=MATCHED)
    np.testing.assert_array_equal(sharper[0], plain[0])


def test_sharp_edges_do_not_overflow() -> None:
    half = np.zeros((64, 64, 3), np.float32)
    half[:, 32:] = 1
    out = Blender(BlendSettings(erode=0, feather=0, colour="none", sharpen=1)).blend(
        np.zeros((64, 64, 3), np.uint8), painted(half), placed(), 0.0
    )
    assert out[32, 30, 0] == 0
    assert out[32, 33, 0] == 255


def test_other_settings_apply_from_the_next_frame_on_and_the_past_is_kept() -> None:
    blender, frame = Blender(BlendSettings(colour_smoothing_s=60)), np.full((64, 64, 3), 100, np.uint8)
    grey = painted((0.5, 0.5, 0.5))
    blender.blend(frame, grey, placed(), 0.0)
    blender.adjust(BlendSettings(colour_smoothing_s=60, opacity=0.8))
    out = blender.blend(np.full((64, 64, 3), 200, np.uint8), grey, placed(), 0.1)
    assert out[32, 32, 0] == pytest.approx(0.8 * 100 + 0.2 * 200, abs=MATCHED)
    blender.adjust(BlendSettings(colour_smoothing_s=0))
    out = blender.blend(np.full((64, 64, 3), 200, np.uint8), grey, placed(), 0.2)
    assert out[32, 32, 0] == pytest.approx(200, abs=MATCHED)


# Placement


def marked(size: int = 64) -> EngineOutput:
    """A black face with one white dot right of and below the middle."""
    face = np.zeros((size, size, 3), np.float32)
    face[39:42, 43:46] = 1
    return painted(face, size=size)


def dot(out: ImageU8) -> tuple[float, float]:
    y, x = np.nonzero(out[:, :, 0] > 60)
    return float(x.mean()), float(y.mean())


@pytest.mark.parametrize("by_model", [True, False])
def test_scale_and_shift_move_the_face_and_not_the_crop(by_model: bool) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    shift = {"scale": 0.9, "shift_x": 0.05, "shift_y": -0.1}
    if by_model:
        moved = Blender(PLAIN, Placement(**shift))
    else:
        moved = Blender(BlendSettings(erode=0, feather=0, colour="none", **shift))  # type: ignore[arg-type]
    assert dot(Blender(PLAIN).blend(image, marked(), placed(), 0.0)) == pytest.approx((44, 40), abs=0.01)
    expected = 32 + 0.9 * (44 - 32) + 0.05 * 64, 32 + 0.9 * (40 - 32) - 0.1 * 64
    assert dot(moved.blend(image, marked(), placed(), 0.0)) == pytest.approx(expected, abs=0.3)


def test_the_placement_moves_the_identitys_mask_and_leaves_the_performers() -> None:
    output = painted(mask=disc(64, 0.2), performer=disc(64, 0.45))
    mask = Blender(PLAIN, Placement(shift_x=0.1)).mask(output)
    x = (mask * np.arange(64)).sum() / mask.sum()
    assert x == pytest.approx(31.5 + 6.4, abs=0.6)


# Resampling


def checkerboard(size: int) -> NDArray[np.float32]:
    y, x = np.mgrid[:size, :size]
    return np.repeat(((x + y) % 2).astype(np.float32)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("shrink", [2.0, 2.5, 3.3, 5.0])
def test_a_crop_in_a_small_face_is_averaged_and_does_not_alias(shrink: float) -> None:
    image = np.full((160, 160, 3), 128, np.uint8)
    out = Blender(PLAIN).blend(image, painted(checkerboard(256), size=256), placed(1 / shrink, 3, x=20, y=15), 0.0)
    assert np.abs(out.astype(float) - 127.5).max() < ALIASED


@pytest.mark.parametrize("shrink", [0.5, 1.0, 1.9, 2.1, 3.3])
def test_the_face_lies_where_the_matrix_says_at_every_size(shrink: float) -> None:
    size = 240
    y, x = np.mgrid[:size, :size]
    spot = np.exp(-((x - 150) ** 2 + (y - 90) ** 2) / (2 * 12**2)).astype(np.float32)
    face = np.repeat(spot[:, :, None], 3, axis=2)
    image = np.zeros((600, 600, 3), np.uint8)
    to_frame = placed(1 / shrink, 12, x=60, y=40)
    out = Blender(PLAIN).blend(image, painted(face, size=size), to_frame, 0.0)[:, :, 0].astype(float)
    rows, columns = np.mgrid[:600, :600]
    centre = (out * columns).sum() / out.sum(), (out * rows).sum() / out.sum()
    assert centre == pytest.approx(transform(to_frame, np.array([[150, 90]]))[0], abs=0.05)


# Colour


def skin(seed: int, size: int = 128) -> NDArray[np.float32]:
    """Something with the colours of a face, in [0, 1]."""
    texture = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((size, size)), (0, 0), 6)
    shade = 1 + 0.3 * texture / texture.std()
    return np.asarray(np.clip(np.array([0.35, 0.45, 0.6]) * shade[:, :, None] * 0.8, 0, 1), np.float32)


def matched(target: NDArray[np.float32], face: NDArray[np.float32], mask: MaskF32, **values: Any) -> ImageU8:
    frame = np.rint(target * 255).astype(np.uint8)
    size = len(face)
    return Blender(BlendSettings(**values)).blend(frame, painted(face, size=size, mask=mask), placed(), 0.0)


def test_a_face_takes_the_performers_mean_colour_and_contrast() -> None:
    target, mask = skin(0), disc(128)
    pale = np.clip(0.5 + 0.85 * (target * (1.3, 1.2, 1.1) - 0.5), 0, 1).astype(np.float32)
    out = matched(target, pale, mask)
    np.testing.assert_allclose(mean_colour(out, mask), mean_colour(target, mask) * 255, atol=MATCHED)
    inner = disc(128, 0.3) > 0.5
    assert out[inner].std() == pytest.approx((target[inner] * 255).std(), rel=0.03)


def test_without_colour_match_the_face_keeps_its_own() -> None:
    out = matched(skin(0), np.full((128, 128, 3), 0.9, np.float32), disc(128), colour="none")
    np.testing.assert_allclose(out[64, 64], 229.5, atol=ROUNDING)


def test_half_the_strength_goes_half_the_way() -> None:
    target = np.full((128, 128, 3), 0.4, np.float32)
    face = np.full((128, 128, 3), 0.6, np.float32)
    assert matched(target, face, disc(128), colour_strength=0.5)[64, 64] == pytest.approx([0.5 * 255] * 3, abs=MATCHED)


def test_what_lies_outside_the_common_mask_does_not_count() -> None:
    target, mask = skin(0), disc(128)
    around, face = target.copy(), skin(1) * np.float32(0.8)
    around[mask == 0] = 1.0
    painted_around = face.copy()
    painted_around[mask == 0] = 0.0
    inner = disc(128, 0.3) > 0.5
    np.testing.assert_array_equal(matched(target, face, mask)[inner], matched(around, painted_around, mask)[inner])


def test_the_match_is_limited_so_that_a_freak_measurement_cannot_bleach_a_face() -> None:
    bright, black = np.full((128, 128, 3), 1.0, np.float32), np.full((128, 128, 3), 0.02, np.float32)
    assert matched(bright, black, disc(128))[64, 64].max() < 20
    flat, striped = np.full((128, 128, 3), 0.5, np.float32), skin(0)
    inner = disc(128, 0.3) > 0.5
    assert matched(flat, striped, disc(128))[inner].std() > 0.6 * (striped[inner] * 255).std()


def colour_over_time(smoothing_s: float, times: list[float]) -> list[float]:
    """Brightness of the pasted face when the performer goes from 100 to 150 after the first frame."""
    blender = Blender(BlendSettings(colour_smoothing_s=smoothing_s))
    levels = []
    for i, now_s in enumerate(times):
        frame = np.full((64, 64, 3), 100 if i == 0 else 150, np.uint8)
        levels.append(float(blender.blend(frame, painted((0.5, 0.5, 0.5)), placed(), now_s)[32, 32, 0]))
    return levels


def test_the_colour_follows_with_its_time_constant_whatever_the_frame_rate() -> None:
    assert colour_over_time(0.5, [0.0, 0.0])[-1] == pytest.approx(100, abs=MATCHED)
    reached = 100 * 1.5 ** (1 - math.exp(-1))
    slow = colour_over_time(0.5, [0.0, 0.5])
    fast = colour_over_time(0.5, [i / 100 for i in range(51)])
    assert slow[-1] == pytest.approx(reached, abs=MATCHED)
    assert fast[-1] == pytest.approx(reached, abs=MATCHED)


def test_without_smoothing_every_frame_is_matched_by_itself() -> None:
    assert colour_over_time(0.0, [0.0, 0.0])[-1] == pytest.approx(150, abs=MATCHED)


def test_a_clock_that_goes_back_does_no_harm() -> None:
    assert colour_over_time(0.5, [10.0, 0.0])[-1] == pytest.approx(100, abs=MATCHED)


def test_after_a_reset_the_next_face_is_matched_at_once() -> None:
    blender = Blender(BlendSettings(colour_smoothing_s=60))
    for level in (100, 200):
        blender.reset()
        out = blender.blend(np.full((64, 64, 3), level, np.uint8), painted((0.5, 0.5, 0.5)), placed(), 0.0)
        assert out[32, 32, 0] == pytest.approx(level, abs=MATCHED)


def test_a_mask_too_small_to_measure_keeps_the_last_colours() -> None:
    blender, frame = Blender(BlendSettings(erode=0, feather=0)), np.full((64, 64, 3), 100, np.uint8)
    blender.blend(frame, painted((0.5, 0.5, 0.5)), placed(), 0.0)
    tiny = np.zeros((64, 64), np.float32)
    tiny[30:34, 30:34] = 1
    out = blender.blend(np.full((64, 64, 3), 250, np.uint8), painted((0.5, 0.5, 0.5), mask=tiny), placed(), 9.0)
    assert out[32, 32, 0] == pytest.approx(100, abs=MATCHED)


# Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("erode", -0.1),
        ("erode", 0.1),
        ("feather", 0.2),
        ("feather", float("nan")),
        ("colour", "lab"),
        ("colour_strength", 1.1),
        ("colour_smoothing_s", -1),
        ("mask_smoothing_s", 2),
        ("sharpen", -0.1),
        ("opacity", 0.7),
        ("opacity", "1"),
        ("scale", 0.7),
        ("shift_x", 0.3),
        ("hull", 1),
        ("erode", True),
    ],
)
def test_a_setting_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        BlendSettings(**{name: value})
