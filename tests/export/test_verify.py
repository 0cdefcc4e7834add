"""A model file that paints anything else than the trained model is noticed, whichever part of it differs."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from export.to_onnx import model_outputs, to_onnx
from export.verify import FULL_LIMIT, HALF_LIMIT_DB, Parity, check_parity, compare
from realtime.errors import ExportError
from tests.tiny_run import TINY
from training.model import FaceAutoencoder

SIDE = TINY.model.resolution
PARTS = (
    "model.encoder.halvings.0.weight",
    "model.decoders.identity.ups.1.conv.weight",
    "model.mask_head.exit.conv.weight",
    "model.encoder.to_code.bias",
)
"""One constant of every part of the graph, large and small."""
STRONGER = 1.5
"""Factor by which a tampered constant differs."""

Float = NDArray[np.float32]


def outputs(face: float = 0.5, mask: float = 0.5, count: int = 2) -> list[Float]:
    shape = (count, SIDE, SIDE)
    fill = ((mask, 1), (face, 3), (mask, 1))
    return [np.full((*shape, channels), value, np.float32) for value, channels in fill]


@pytest.fixture(scope="module")
def model() -> FaceAutoencoder:
    """A fresh model with strong last layers: on grey, differences would not show."""
    torch.manual_seed(0)
    model = FaceAutoencoder(TINY.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("ups.1.conv.weight", "exit.conv.weight")):
                parameter.mul_(30)
            elif name.endswith("to_code.bias"):
                parameter.fill_(1.0)
    return model.eval()


@pytest.fixture(scope="module")
def faces() -> Float:
    return np.random.default_rng(0).random((2, SIDE, SIDE, 3), np.float32)


@pytest.fixture(scope="module", params=[True, False], ids=["half weights", "full weights"])
def half(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def data(model: FaceAutoencoder, half: bool) -> bytes:
    return to_onnx(model, {}, half_weights=half)


def tampered(data: bytes, part: str, factor: float) -> bytes:
    proto = onnx.load_from_string(data)
    (tensor,) = [each for each in proto.graph.initializer if each.name.removesuffix(".half") == part]
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), tensor.name))
    return bytes(proto.SerializeToString())


def test_an_honest_model_passes_with_its_figures(model: FaceAutoencoder, data: bytes, faces: Float, half: bool) -> None:
    parity = check_parity(model_outputs(model, faces), data, faces, half_weights=half)
    assert parity.faces == 2
    assert parity.psnr_db > HALF_LIMIT_DB + 5
    assert half or parity.max_abs < FULL_LIMIT / 10


@pytest.mark.parametrize("part", PARTS)
def test_a_model_with_one_tampered_constant_is_refused(
    model: FaceAutoencoder, data: bytes, faces: Float, half: bool, part: str
) -> None:
    expected = model_outputs(model, faces)
    with pytest.raises(ExportError, match="differs from the trained one") as error:
        check_parity(expected, tampered(data, part, STRONGER), faces, half_weights=half)
    assert "; report this together with the recipe" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_that_paints_no_numbers_is_refused(
    model: FaceAutoencoder, data: bytes, faces: Float, half: bool
) -> None:
    broken = tampered(data, PARTS[1], math.nan)
    with pytest.raises(ExportError, match="not finite; train again with --precision fp32"):
        check_parity(model_outputs(model, faces), broken, faces, half_weights=half)


def test_a_trained_model_that_paints_no_numbers_is_refused(data: bytes, faces: Float, half: bool) -> None:
    nothing = [output * math.nan for output in outputs()]
    with pytest.raises(ExportError, match="not finite"):
        check_parity(nothing, data, faces, half_weights=half)


def test_equal_outputs_differ_by_nothing() -> None:
    assert compare(outputs(), outputs()) == Parity(0.0, 120.0, 2)


def test_the_figures_are_those_of_the_output_that_differs_most() -> None:
    for other in (outputs(face=0.6), outputs(mask=0.4)):
        parity = compare(outputs(), other)
        assert [parity.max_abs, parity.psnr_db] == pytest.approx([0.1, 20], abs=0.01)
    one_pixel = outputs()
    one_pixel[2][1, 3, 4, 0] = 0.75
    parity = compare(outputs(), one_pixel)
    assert parity.max_abs == pytest.approx(0.25)
    assert 40 < parity.psnr_db < 60


def test_other_shapes_are_a_callers_mistake() -> None:
    with pytest.raises(ValueError, match="expected shapes"):
        compare(outputs(count=2), outputs(count=3))
    with pytest.raises(ValueError, match="expected shapes"):
        compare(outputs(), outputs()[:2])
