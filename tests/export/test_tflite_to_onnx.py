"""Each operator against numpy: small networks by hand in, converted and run on ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from export.onnx_graph import GraphWriter
from export.tflite_file import Network, Operator, Tensor
from export.tflite_to_onnx import convert
from realtime.errors import ExportError

CLOSE = 1e-5
"""Values are around one: float32 with sums of up to a hundred products."""
SAME, VALID = 0, 1
NONE, RELU = 0, 1


def run(
    kind: str,
    x: NDArray[np.float32],
    result_shape: tuple[int, ...],
    *constants: NDArray[Any],
    **options: object,
) -> NDArray[np.float32]:
    """What a network of one operator makes of `x`, in TensorFlow Lite's order of axes."""
    tensors = [Tensor("x", x.shape, None), *(Tensor(f"c{i}", c.shape, c) for i, c in enumerate(constants))]
    flat = (1, int(np.prod(result_shape)))
    tensors += [Tensor("map", result_shape, None), Tensor("y", flat, None)]
    last = len(tensors)
    operators = (
        Operator(kind, tuple(range(last - 2)), (last - 2,), options),
        Operator("RESHAPE", (last - 2,), (last - 1,), {}),
    )
    model = convert(Network(tuple(tensors), operators, (0,), (last - 1,)), {})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.transpose(0, 3, 1, 2) if x.ndim == 4 else x})
    result: NDArray[np.float32] = y.reshape(result_shape)
    return result


@pytest.fixture
def picture() -> NDArray[np.float32]:
    """(1, 5, 6, 4): height, width and channels all differ."""
    return np.random.default_rng(0).normal(size=(1, 5, 6, 4)).astype(np.float32)


def convolve(
    x: NDArray[np.float32], weights: NDArray[np.float32], stride: int, pads: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    """Plain convolution with weights (out, h, w, in); pads are top, left, bottom, right."""
    top, left, bottom, right = pads
    padded = np.pad(x[0], ((top, bottom), (left, right), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[1:3], axis=(0, 1))
    result: NDArray[np.float32] = np.einsum("yxchw,ohwc->yxo", windows[::stride, ::stride], weights)[None]
    return result


@pytest.mark.parametrize("activation", [NONE, RELU])
def test_convolution_pads_like_tensorflow(picture: NDArray[np.float32], activation: int) -> None:
    rng = np.random.default_rng(1)
    weights, bias = rng.normal(size=(3, 3, 3, 4)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    options = {"Padding": SAME, "StrideH": 2, "StrideW": 2, "DilationHFactor": 1, "DilationWFactor": 1}
    found = run("CONV_2D", picture, (1, 3, 3, 3), weights, bias, **options, FusedActivationFunction=activation)
    # 5 rows need one more above and one below, 6 columns one more and only on the right.
    expected = convolve(picture, weights, 2, (1, 0, 1, 1)) + bias
    assert np.allclose(found, np.maximum(expected, 0) if activation else expected, atol=CLOSE)


def test_depthwise_convolution_keeps_channels_apart(picture: NDArray[np.float32]) -> None:
    weights = np.random.default_rng(1).normal(size=(1, 3, 3, 4)).astype(np.float32)
    options = {"Padding": VALID, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    found = run("DEPTHWISE_CONV_2D", picture, (1, 3, 4, 4), weights, **options)
    for channel in range(4):
        one = convolve(picture[..., [channel]], weights[..., [channel]], 1, (0, 0, 0, 0))
        assert np.allclose(found[..., [channel]], one, atol=CLOSE)


def test_prelu_bends_each_channel_by_its_own_slope(picture: NDArray[np.float32]) -> None:
    slope = np.array([0.25, -0.5, 1.0, 3.0], np.float32).reshape(1, 1, 4)
    found = run("PRELU", picture, picture.shape, slope)
    assert np.allclose(found, np.where(picture > 0, picture, picture * slope), atol=CLOSE)


def test_max_pooling(picture: NDArray[np.float32]) -> None:
    options = {"Padding": VALID, "StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2}
    found = run("MAX_POOL_2D", picture, (1, 2, 3, 4), **options)
    assert np.array_equal(found, picture[:, :4].reshape(1, 2, 2, 3, 2, 4).max(axis=(2, 4)))


def test_padding_follows_the_axes(picture: NDArray[np.float32]) -> None:
    pads = np.array([[0, 0], [0, 1], [2, 0], [0, 3]], np.int32)
    assert np.array_equal(run("PAD", picture, (1, 6, 8, 7), pads), np.pad(picture, pads))


def test_addition_of_a_constant_map(picture: NDArray[np.float32]) -> None:
    constant = np.random.default_rng(2).normal(size=picture.shape).astype(np.float32)
    found = run("ADD", picture, picture.shape, constant, FusedActivationFunction=RELU)
    assert np.allclose(found, np.maximum(picture + constant, 0), atol=CLOSE)


def test_multiplication_and_relu(picture: NDArray[np.float32]) -> None:
    assert np.allclose(run("MUL", picture, picture.shape, np.full((1, 1, 1, 4), 2, np.float32)), 2 * picture)
    assert np.array_equal(run("RELU", picture, picture.shape), np.maximum(picture, 0))


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({"AlignCorners": False, "HalfPixelCenters": False}, [0, 0.5, 1, 1.5, 2, 2]),
        ({"AlignCorners": False, "HalfPixelCenters": True}, [0, 0.25, 0.75, 1.25, 1.75, 2]),
        ({"AlignCorners": True, "HalfPixelCenters": False}, [0, 0.4, 0.8, 1.2, 1.6, 2]),
    ],
)
def test_each_way_to_resize(options: dict[str, bool], row: list[float]) -> None:
    x = np.arange(3, dtype=np.float32).reshape(1, 1, 3, 1).repeat(2, axis=1)
    found = run("RESIZE_BILINEAR", x, (1, 4, 6, 1), **options)
    assert np.allclose(found[0, :, :, 0], [row] * 4, atol=CLOSE)


def test_depth_becomes_space(picture: NDArray[np.float32]) -> None:
    found = run("DEPTH_TO_SPACE", picture, (1, 10, 12, 1), BlockSize=2)
    expected = picture.reshape(5, 6, 2, 2, 1).transpose(0, 2, 1, 3, 4).reshape(1, 10, 12, 1)
    assert np.array_equal(found, expected)


def test_a_reshape_sees_the_channels_last(picture: NDArray[np.float32]) -> None:
    found = run("RESHAPE", picture, (1, 30, 4), np.array([1, 30, 4], np.int32))
    assert np.array_equal(found, picture.reshape(1, 30, 4))


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_concatenation_along_each_axis(picture: NDArray[np.float32], axis: int) -> None:
    other = np.ones_like(picture)
    expected = np.concatenate([picture, other], axis=axis)
    found = run("CONCATENATION", picture, expected.shape, other, Axis=axis)
    assert np.array_equal(found, expected)


def test_slices_with_masks(picture: NDArray[np.float32]) -> None:
    begin, end, step = (np.array(values, np.int32) for values in ([0, 9, 1, 0], [9, 4, 9, 2], [1, 1, 2, 1]))
    options = {"BeginMask": 0b0010, "EndMask": 0b0101, "EllipsisMask": 0, "NewAxisMask": 0, "ShrinkAxisMask": 0}
    found = run("STRIDED_SLICE", picture, (1, 4, 3, 2), begin, end, step, **options)
    assert np.array_equal(found, picture[:, :4, 1::2, :2])


# --- the operators of the attention mesh


def matrix(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    options = {
        "left_rotation_idx": 0,
        "right_rotation_idx": 1,
        "subset_idxs": [0, 1, 2, 3],
        "target_rotation_radians": 0.0,
        "output_width": 16,
        "output_height": 8,
        "scale_x": 1.5,
        "scale_y": 2.0,
    }
    return run("Landmarks2TransformMatrix", landmarks, (1, 4, 4), **options).reshape(4, 4)


def test_the_matrix_spans_the_turned_box_around_the_landmarks() -> None:
    box = np.array([[-4, 0], [4, 0], [0, -2], [0, 2]], np.float32)
    for degrees in (0, 30, -120):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turned = box @ np.array([[cos, sin], [-sin, cos]]) + (20, 30)
        landmarks = np.column_stack([turned, np.zeros(4)])[None].astype(np.float32)
        corners = np.array([[0, 0, 0, 1], [16, 0, 0, 1], [8, 4, 0, 1]], np.float32) @ matrix(landmarks).T
        # 1.5 times as wide and twice as high as the box, in the direction from the first to the second point.
        expected = np.array([[-6, -4], [6, -4], [0, 0]]) @ np.array([[cos, sin], [-sin, cos]]) + (20, 30)
        assert np.allclose(corners[:, :2], expected, atol=1e-4)
        assert np.allclose(corners[:, 2:], [0, 1], atol=CLOSE)


def test_sampling_at_pixel_centres_gives_the_pixels_and_zero_outside(picture: NDArray[np.float32]) -> None:
    shift = np.eye(4, dtype=np.float32)[None].copy()
    shift[0, :2, 3] = (2, -1)
    found = run("TransformTensorBilinear", picture, (1, 5, 6, 4), shift, output_height=5, output_width=6)
    expected = np.zeros_like(picture)
    expected[:, 1:, :4] = picture[:, :4, 2:]
    assert np.allclose(found, expected, atol=1e-4)


def test_sampling_between_pixels_is_bilinear(picture: NDArray[np.float32]) -> None:
    shift = np.eye(4, dtype=np.float32)[None].copy()
    shift[0, :2, 3] = (0.25, 0)
    found = run("TransformTensorBilinear", picture, (1, 5, 5, 4), shift, output_height=5, output_width=5)
    assert np.allclose(found, 0.75 * picture[:, :, :5] + 0.25 * picture[:, :, 1:], atol=1e-4)


def test_landmarks_are_moved_by_the_matrix() -> None:
    points = np.random.default_rng(3).normal(size=(1, 7, 2)).astype(np.float32)
    move = np.zeros((1, 4, 4), np.float32)
    move[0, :2] = [[2, -1, 9, 5], [1, 3, 9, -4]]
    found = run("TransformLandmarks", points, (1, 7, 2), move)
    assert np.allclose(found, points @ np.array([[2, 1], [-1, 3]]) + (5, -4), atol=CLOSE)


# --- what is refused, and how constants are stored


def test_an_unknown_operator_is_named(picture: NDArray[np.float32]) -> None:
    with pytest.raises(ExportError, match="operator TANH is not supported; extend export"):
        run("TANH", picture, picture.shape)


def test_an_unknown_activation_is_named(picture: NDArray[np.float32]) -> None:
    with pytest.raises(ExportError, match="fused activation 4 is not supported"):
        run("ADD", picture, picture.shape, picture, FusedActivationFunction=4)


def test_large_constants_that_are_halves_are_stored_as_halves() -> None:
    graph = GraphWriter()
    halves = np.linspace(-1, 1, 1024).astype(np.float16).astype(np.float32)
    names = [graph.constant(values) for values in (halves, halves + 1e-5, halves[:4])]
    total = graph.add("Sum", [graph.add("ReduceSum", [name], keepdims=0) for name in names], "y")
    model = graph.model({}, {total: ()}, {"a": "b"})
    kinds = [constant.data_type for constant in model.graph.initializer]
    assert kinds == [onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT]
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("a", "b")]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {})[0] == pytest.approx((2 * halves + 1e-5).sum() + halves[:4].sum(), abs=1e-3)


def test_equal_constants_are_stored_once() -> None:
    graph = GraphWriter()
    assert graph.constant([1.0, 2.0]) == graph.constant(np.array([1, 2]))
    assert graph.constant([1.0, 2.0]) != graph.indices([1, 2])
    assert graph.constant([1.0, 2.0]) != graph.constant([[1.0, 2.0]])
