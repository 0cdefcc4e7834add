"""The shipped face networks: what they are, where they come from, and that they can be made again."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.face_models import SOURCES, build, download_wheel, main
from realtime.errors import ExportError
from realtime.face_nets import MODELS

SHIPPED = {Path(member).with_suffix(".onnx").name: sha256 for member, sha256 in SOURCES.items()}
ROOM_KIB = 5200
"""All four together: they are part of every clone and every wheel."""


def test_exactly_the_listed_networks_are_shipped() -> None:
    assert {path.name for path in MODELS.glob("*.onnx")} == set(SHIPPED)
    assert sum(path.stat().st_size for path in MODELS.glob("*.onnx")) < ROOM_KIB * 1024
    notice = (MODELS / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in notice for name in SHIPPED)
    assert "Apache License" in notice


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_names_its_source(name: str) -> None:
    model = onnx.load(MODELS / name)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["source_sha256"] == SHIPPED[name]
    assert metadata["license"] == "Apache-2.0"
    assert Path(metadata["source"].split()[-1]).with_suffix(".onnx").name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_is_plain_onnx_for_one_picture(name: str) -> None:
    model = onnx.load(MODELS / name)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
        assert sizes[0] == 1
        assert min(sizes) > 0


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_stored_as_halves_are_unpacked_once_when_the_network_is_opened(name: str, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / name)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    onnxruntime.InferenceSession(MODELS / name, options, providers=["CPUExecutionProvider"])
    stored, running = onnx.load(MODELS / name), onnx.load(tmp_path / name)
    assert "Cast" in {node.op_type for node in stored.graph.node}
    assert "Cast" not in {node.op_type for node in running.graph.node}


@pytest.mark.parametrize("content", [None, b"not a wheel"])
def test_a_wheel_that_is_none_is_one_sentence(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    wheel = tmp_path / "mediapipe.whl"
    if content is not None:
        wheel.write_bytes(content)
    assert main(["--wheel", str(wheel), "--out", str(tmp_path / "out")]) == 1
    (message,) = caplog.messages
    assert message.endswith("pass the wheel of mediapipe==0.10.21 with --wheel")
    assert not list((tmp_path / "out").iterdir())


def test_a_wheel_of_another_version_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "mediapipe.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member in SOURCES:
            archive.writestr(f"mediapipe/modules/{member}", b"....TFL3")
    with pytest.raises(
        ExportError, match=r"is not the network that was tested; take the wheel of mediapipe==0\.10\.21"
    ):
        build(wheel, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that LIVESWAP_MEDIAPIPE_WHEEL names, or a fresh download."""
    given = os.environ.get("LIVESWAP_MEDIAPIPE_WHEEL")
    if given:
        return Path(given)
    try:
        return download_wheel(tmp_path_factory.mktemp("wheel"))
    except ExportError as error:
        pytest.skip(f"{error}; or set LIVESWAP_MEDIAPIPE_WHEEL")


@pytest.mark.slow
def test_the_shipped_networks_are_rebuilt_byte_for_byte(wheel: Path, tmp_path: Path) -> None:
    written = build(wheel, tmp_path)
    assert [path.name for path in written] == list(SHIPPED)
    for path in written:
        rebuilt, shipped = path.read_bytes(), (MODELS / path.name).read_bytes()
        assert rebuilt == shipped, f"{path.name} differs: export.face_models or the version of onnx has changed"


def test_a_grey_picture_is_no_face() -> None:
    for name, output in (("face_landmark", "conv2d_31"), ("face_landmark_with_attention", "conv_faceflag")):
        session = onnxruntime.InferenceSession(MODELS / f"{name}.onnx", providers=["CPUExecutionProvider"])
        (logit,) = session.run([output], {"input_1": np.full((1, 3, 192, 192), 0.5, np.float32)})
        assert logit.item() < -2
