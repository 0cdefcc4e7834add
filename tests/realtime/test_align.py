"""The crop shows what the formula says, comes back to where it was cut, and is kept still without trailing."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.align import (
    RIGID,
    CropGeometry,
    SteadySimilarity,
    align,
    canonical_mesh,
    cut,
    fit_similarity,
    frame_to_crop,
    full_face,
    invert,
    transform,
    whole_face,
)
from realtime.frame import Face, ImageU8, Matrix, Points

PUBLISHED = 6e-5
"""Canonical units: the published check values have four digits."""
EXACT_PX = 1e-6
"""Pixels: float64 algebra there and back."""
SAME_SVD = 1e-9
"""Two float64 routes to the same least-squares fit."""
FLOAT32_PX = 1e-3
"""Pixels: landmarks are float32."""
RESAMPLED = 4
"""Levels: a smooth picture resampled twice."""
ROUNDED = 1
"""Levels: the same sample, computed at another place of the crop, may round the other way."""
CENTROID_PX = 0.05
"""Pixels: where a blurred spot lies after resampling."""

# DeepFaceLive's canonical positions of single mesh points.
CHECKPOINTS = {
    33: (0.1002, 0.2233),
    133: (0.3464, 0.2434),
    362: (0.6334, 0.2429),
    263: (0.8795, 0.2220),
    1: (0.4904, 0.5272),
    61: (0.2817, 0.7885),
    291: (0.7000, 0.7878),
    152: (0.4916, 1.2484),
    10: (0.4891, -0.2533),
    234: (-0.3825, 0.4105),
    454: (1.3628, 0.4075),
}


def mesh(matrix: Matrix) -> Points:
    """The canonical face under a canonical -> frame transform."""
    return np.column_stack([transform(matrix, canonical_mesh()), np.zeros(468)]).astype(np.float32)


def similarity(width: float = 120, degrees: float = 0, x: float = 200, y: float = 150) -> Matrix:
    """Canonical -> frame: a square of `width` pixels, turned, with its corner at (x, y)."""
    a, b = width * math.cos(math.radians(degrees)), width * math.sin(math.radians(degrees))
    return np.array([[a, -b, x], [b, a, y]])


def smooth_picture(height: int = 400, width: int = 500, seed: int = 0) -> ImageU8:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((height, width, 3)), (0, 0), 8)
    return np.asarray(np.clip(128 + 40 * noise / noise.std(), 0, 255), np.uint8)


# The canonical face


@pytest.mark.parametrize("index", CHECKPOINTS)
def test_the_canonical_face_is_deepfacelives(index: int) -> None:
    assert canonical_mesh()[index] == pytest.approx(CHECKPOINTS[index], abs=PUBLISHED)


def test_the_canonical_face_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        canonical_mesh()[0] = 0


def test_the_rigid_points_are_152_and_leave_out_what_moves() -> None:
    assert len(set(RIGID.tolist())) == len(RIGID) == 152
    moving = {0, 17, 61, 291, 13, 14, 33, 133, 159, 145, 70, 107, 336, 300}  # lips, eyes, brows
    assert not moving & set(RIGID.tolist())


# The fit


def umeyama_by_svd(points: NDArray[np.float64], targets: NDArray[np.float64]) -> Matrix:
    """Equations 40 to 42 of the paper, with the case of a reflection."""
    mean_p, mean_t = points.mean(axis=0), targets.mean(axis=0)
    covariance = (targets - mean_t).T @ (points - mean_p) / len(points)
    u, singular, vt = np.linalg.svd(covariance)
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ sign @ vt
    scale = np.trace(np.diag(singular) @ sign) / ((points - mean_p) ** 2).sum(axis=1).mean()
    return np.column_stack([scale * rotation, mean_t - scale * rotation @ mean_p])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), count=st.integers(3, 40), mirrored=st.booleans())
def test_the_fit_agrees_with_umeyamas_singular_values(seed: int, count: int, mirrored: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 50, (count, 2)) + rng.normal(0, 300, 2)
    targets = points @ rng.normal(0, 1, (2, 2)) + rng.normal(0, 5, (count, 2))
    if mirrored:
        targets[:, 0] *= -1
    np.testing.assert_allclose(
        fit_similarity(points, targets), umeyama_by_svd(points, targets), rtol=SAME_SVD, atol=SAME_SVD * 1000
    )


def test_a_mirrored_face_is_turned_and_never_mirrored() -> None:
    points = canonical_mesh()
    fitted = fit_similarity(points, points * (-1, 1))
    assert np.linalg.det(fitted[:, :2]) > 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(width=st.floats(5, 2000), degrees=st.floats(-180, 180), x=st.floats(-3000, 3000), y=st.floats(-3000, 3000))
def test_a_similarity_is_found_again(width: float, degrees: float, x: float, y: float) -> None:
    matrix = similarity(width, degrees, x, y)
    fitted = fit_similarity(canonical_mesh(), transform(matrix, canonical_mesh()))
    np.testing.assert_allclose(fitted, matrix, atol=EXACT_PX)


def test_a_wild_point_outside_the_rigid_set_does_not_move_the_crop() -> None:
    calm, wild = mesh(similarity()), mesh(similarity())
    wild[[0, 13, 61, 159]] += 40
    np.testing.assert_array_equal(frame_to_crop(wild, full_face(64)), frame_to_crop(calm, full_face(64)))


@pytest.mark.parametrize(
    ("points", "targets"),
    [
        (np.zeros((5, 2)), np.ones((5, 2))),
        (np.zeros((1, 2)), np.zeros((1, 2))),
        (np.zeros((4, 2)), np.zeros((5, 2))),
        (np.zeros((4, 3)), np.zeros((4, 3))),
        (np.array([[0, 0], [np.nan, 1]]), np.zeros((2, 2))),
    ],
)
def test_points_that_define_no_similarity_are_refused(
    points: NDArray[np.float64], targets: NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match=r"expected|fitted"):
        fit_similarity(points, targets)


# The crop


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    width=st.floats(20, 800),
    degrees=st.floats(-180, 180),
    size=st.integers(16, 512),
    coverage=st.floats(0.5, 4),
    offset=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_the_crop_is_where_the_formula_says(
    width: float, degrees: float, size: int, coverage: float, offset: tuple[float, float]
) -> None:
    to_frame = similarity(width, degrees)
    geometry = CropGeometry(size, coverage, *offset)
    expected = size * ((canonical_mesh() - 0.5 - offset) / coverage + 0.5)
    landmarks = mesh(to_frame)
    crop = transform(frame_to_crop(landmarks, geometry), landmarks)
    assert np.abs(crop - expected).max() < FLOAT32_PX * size / width * 10


@pytest.mark.parametrize(
    ("index", "position"),
    [(1, (0.4955, 0.5488)), (61, (0.4008, 0.6675)), (152, (0.4962, 0.8765)), (10, (0.495, 0.1939))],
)
def test_deepfacelives_default_view_shows_the_features_where_its_users_know_them(
    index: int, position: tuple[float, float]
) -> None:
    """c = 2.2, oy = -0.08: nose tip a little below the middle, chin at 0.88, hairline at 0.19 of the crop."""
    landmarks = mesh(similarity())
    crop = transform(frame_to_crop(landmarks, whole_face(224)), landmarks[[index]])[0] / 224
    assert crop == pytest.approx(position, abs=5e-4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(degrees=st.floats(-180, 180), width=st.floats(20, 500))
def test_there_and_back_again(degrees: float, width: float) -> None:
    matrix = frame_to_crop(mesh(similarity(width, degrees)), whole_face(256))
    points = np.random.default_rng(0).uniform(0, 256, (50, 2))
    np.testing.assert_allclose(transform(matrix, transform(invert(matrix), points)), points, atol=EXACT_PX)


def test_a_crop_put_back_lies_where_it_was() -> None:
    image = smooth_picture()
    crop = align(image, Face(mesh(similarity(120, 15)), 1.0), whole_face(256))
    back = cv2.warpAffine(crop.image, crop.crop_to_frame, (500, 400))
    inside = cv2.warpAffine(np.full((256, 256), 255, np.uint8), crop.crop_to_frame, (500, 400)) == 255
    inside = cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert inside.sum() > 30_000
    assert np.abs(back[inside].astype(int) - image[inside]).max() <= RESAMPLED


def test_what_lies_beyond_the_border_of_the_frame_is_black() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    crop = align(image, Face(mesh(similarity(60, 0, x=-30, y=20)), 1.0), whole_face(128))
    frame_x = transform(crop.crop_to_frame, np.array([[i, 64] for i in range(128)]))[:, 0]
    row = crop.image[64, :, 0]
    assert (row[frame_x < -1] == 0).all()
    assert (row[(frame_x > 0) & (frame_x < 99)] == 200).all()


@pytest.mark.parametrize("width", [40, 100, 300, 520, 900])
def test_a_spot_is_found_where_the_matrix_says_at_every_size(width: float) -> None:
    """Averaging large faces down must not shift them."""
    y, x = np.mgrid[:1100, :1100]
    spot_x, spot_y = 550 + 0.1 * width, 550 - 0.2 * width
    spot = 255 * np.exp(-((x - spot_x) ** 2 + (y - spot_y) ** 2) / (2 * (width / 12) ** 2))
    image = np.repeat(np.rint(spot).astype(np.uint8)[:, :, None], 3, axis=2)
    matrix = frame_to_crop(mesh(similarity(width, 7, x=550 - width / 2, y=550 - width / 2)), full_face(128))
    crop = cut(image, matrix, 128).image[:, :, 0].astype(float)
    rows, columns = np.mgrid[:128, :128]
    centre = (crop * columns).sum() / crop.sum(), (crop * rows).sum() / crop.sum()
    assert centre == pytest.approx(transform(matrix, np.array([[spot_x, spot_y]]))[0], abs=CENTROID_PX)


def test_a_large_face_is_averaged_and_does_not_alias() -> None:
    """White noise, eight times as large as the crop: sampling keeps it, averaging calms it."""
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8)
    matrix = frame_to_crop(mesh(similarity(640, 5, x=280, y=300)), full_face(128))
    sampled = cv2.warpAffine(noise, matrix, (128, 128))
    assert cut(noise, matrix, 128).image.std() < 0.35 * sampled.std()


@pytest.mark.parametrize("geometry", [full_face(128), whole_face(256)])
def test_the_middle_of_a_stored_training_crop_is_the_live_crop(geometry: CropGeometry) -> None:
    """Facesets keep a wider crop than the model sees; the part that the model sees is what it will see live."""
    image, face = smooth_picture(), Face(mesh(similarity(97.3, -11, x=190.7, y=140.2)), 1.0)
    live, stored = align(image, face, geometry).image, align(image, face, geometry.widened(1.25)).image
    room = (len(stored) - len(live)) // 2
    difference = np.abs(stored[room:-room, room:-room].astype(int) - live)
    assert difference.max() <= ROUNDED
    assert (difference == 0).mean() > 0.999


def test_the_same_frame_gives_the_same_crop_twice() -> None:
    image, face = smooth_picture(), Face(mesh(similarity()), 1.0)
    np.testing.assert_array_equal(align(image, face, full_face(64)).image, align(image, face, full_face(64)).image)


@pytest.mark.parametrize("values", [(8, 2.2), (5000, 2.2), (64, 0), (64, math.nan), (64, 2.2, 9), (64, 2.2, math.nan)])
def test_a_geometry_out_of_range_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"crop is|out of range"):
        CropGeometry(*values)  # type: ignore[arg-type]  # sizes are ints here


def test_a_geometry_can_be_resized_and_widened() -> None:
    assert full_face(128).resized(256) == full_face(256)
    wide = whole_face(256).widened(1.25)
    assert wide.size == 320
    assert wide.coverage / wide.size == pytest.approx(2.2 / 256)
    assert wide.offset_y == -0.08


# Stillness


def centres(matrices: list[Matrix], size: int = 256) -> NDArray[np.float64]:
    return np.array([transform(invert(m), np.array([[size / 2, size / 2]]))[0] for m in matrices])


def steadied(meshes: list[Points], fps: float = 30) -> tuple[list[Matrix], list[Matrix]]:
    """Matrices before and after smoothing."""
    steady = SteadySimilarity(256)
    raw = [frame_to_crop(points, whole_face(256)) for points in meshes]
    return raw, [steady(matrix, i / fps) for i, matrix in enumerate(raw)]


def jittering(count: int, noise_px: float, speed_px: float = 0) -> list[Points]:
    """A face that trembles as a whole and walks to the right."""
    rng = np.random.default_rng(0)
    return [
        mesh(similarity(120, 0, x=200 + i * speed_px + rng.normal(0, noise_px), y=150 + rng.normal(0, noise_px)))
        for i in range(count)
    ]


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_a_still_face_trembles_less(fps: float) -> None:
    raw, calm = steadied(jittering(200, 0.5), fps)
    before, after = (np.abs(np.diff(centres(each)[30:], axis=0)).mean() for each in (raw, calm))
    assert after < 0.7 * before
    np.testing.assert_allclose(centres(calm)[30:].mean(axis=0), centres(raw)[30:].mean(axis=0), atol=0.2)


def test_a_moving_face_is_not_trailed() -> None:
    """6 px a frame: after the first half second the crop is on the face, not behind it."""
    raw, calm = steadied(jittering(60, 0.0, speed_px=6))
    lag = (centres(raw) - centres(calm))[:, 0]
    assert np.abs(lag).max() < 3.5
    assert np.abs(lag[20:]).max() < 0.5


def test_a_face_that_stops_is_caught_soon_and_not_thrown_far() -> None:
    walking = jittering(40, 0.0, speed_px=6)
    raw, calm = steadied(walking + [walking[-1]] * 30)
    overshoot = (centres(calm) - centres(raw))[40:, 0]
    assert np.abs(overshoot).max() < 4
    assert np.abs(overshoot[15:]).max() < 0.5


def test_size_and_tilt_are_kept_still_too() -> None:
    rng = np.random.default_rng(0)
    meshes = [mesh(similarity(120 + rng.normal(0, 1), rng.normal(0, 0.5))) for _ in range(200)]
    raw, calm = steadied(meshes)

    def tremble(matrices: list[Matrix]) -> tuple[float, float]:
        scale = [math.hypot(m[0, 0], m[1, 0]) for m in matrices[30:]]
        angle = [math.atan2(m[1, 0], m[0, 0]) for m in matrices[30:]]
        return float(np.abs(np.diff(scale)).mean()), float(np.abs(np.diff(angle)).mean())

    for before, after in zip(tremble(raw), tremble(calm), strict=True):
        assert after < 0.7 * before


def test_a_face_that_turns_over_does_not_spin_back() -> None:
    """Past 180 degrees the angle jumps by a whole turn; the crop must not."""
    raw, calm = steadied([mesh(similarity(120, 150 + 3 * i)) for i in range(40)])
    for before, after in zip(raw[10:], calm[10:], strict=True):
        turn = math.atan2(after[1, 0], after[0, 0]) - math.atan2(before[1, 0], before[0, 0])
        assert abs(math.remainder(turn, 2 * math.pi)) < math.radians(3)


def test_the_first_sample_and_the_one_after_a_reset_pass_unchanged() -> None:
    steady = SteadySimilarity(256)
    first, other = (frame_to_crop(mesh(similarity(x=x)), whole_face(256)) for x in (100, 300))
    np.testing.assert_allclose(steady(first, 0.0), first, atol=EXACT_PX)
    steady.reset()
    np.testing.assert_allclose(steady(other, 0.1), other, atol=EXACT_PX)


def test_a_clock_that_stands_still_or_runs_back_does_no_harm() -> None:
    steady = SteadySimilarity(256)
    matrices = [frame_to_crop(points, whole_face(256)) for points in jittering(20, 0.5)]
    for i, matrix in enumerate(matrices):
        out = steady(matrix, (0.0, 0.0, -1.0)[i % 3])
        assert np.isfinite(out).all()
        assert np.abs(centres([out]) - centres([matrix])).max() < 5
