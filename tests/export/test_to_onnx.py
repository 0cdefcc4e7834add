"""A .dfm keeps the contract of DeepFaceLive, says who it is, paints what was trained, or is not written at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from export.statement import Statement
from export.to_onnx import INPUT, OUTPUTS, ExportReport, export_run, model_outputs, to_onnx
from realtime.align import full_face
from realtime.dfm import read_dfm
from realtime.errors import ExportError, LiveswapError, TrainingError, UsageError
from realtime.infer import open_engine
from tests.tiny_run import TINY
from training.checkpoint import BEST, load_best, read_run
from training.evaluate import hold_out, open_facesets
from training.model import FaceAutoencoder

SIDE = TINY.model.resolution
SAME_KERNELS = 1e-4
"""Largest difference between one face and the same face in a batch, or torch and ONNX Runtime with float32 weights:
other kernels, another order of summation; 2e-6 is measured."""
HALF_DB = 55.0
"""PSNR between float16 and float32 weights: rounding by 2**-11; 70 dB is measured on this small model."""
WHO = Statement("Ada, a rendered actor", "She is computer graphics.", exporter="a test")

Float = NDArray[np.float32]


def lively(model: FaceAutoencoder) -> FaceAutoencoder:
    """The same model with strong last layers: a fresh one paints grey, on which differences would not show."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("ups.1.conv.weight", "exit.conv.weight")):
                parameter.mul_(30)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> FaceAutoencoder:
    torch.manual_seed(0)
    return lively(FaceAutoencoder(TINY.model))


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    geometry = TINY.geometry
    view = {"coverage": geometry.coverage, "offset": [geometry.offset_x, geometry.offset_y]}
    return {"schema": 1, "resolution": SIDE, "landmarks": "mediapipe-468", "subject": "Ada"} | view


@pytest.fixture(scope="module", params=[True, False], ids=["half weights", "full weights"])
def data(request: pytest.FixtureRequest, model: FaceAutoencoder, card: dict[str, Any]) -> bytes:
    return to_onnx(model, card, half_weights=request.param)


def session(data: bytes | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    source = str(data) if isinstance(data, Path) else data
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def faces(count: int, seed: int = 0) -> Float:
    return np.random.default_rng(seed).random((count, SIDE, SIDE, 3), np.float32)


# ---------------------------------------------------------------- the contract, with bare ONNX Runtime


def test_names_shapes_and_types_are_those_of_deepfacelive(data: bytes) -> None:
    bare = session(data)
    assert [(x.name, x.type, x.shape) for x in bare.get_inputs()] == [
        ("in_face:0", "tensor(float)", ["N", SIDE, SIDE, 3])
    ]
    assert [(x.name, x.type, x.shape) for x in bare.get_outputs()] == [
        ("out_face_mask:0", "tensor(float)", ["N", SIDE, SIDE, 1]),
        ("out_celeb_face:0", "tensor(float)", ["N", SIDE, SIDE, 3]),
        ("out_celeb_face_mask:0", "tensor(float)", ["N", SIDE, SIDE, 1]),
    ]


def test_old_runtimes_can_read_it(data: bytes) -> None:
    proto = onnx.load_from_string(data)
    assert [(x.domain, x.version) for x in proto.opset_import] == [("", 17)]
    assert proto.ir_version <= 8  # ONNX Runtime 1.10 and newer
    assert proto.producer_name == "liveswap"
    assert not proto.functions
    assert not any(each.external_data for each in proto.graph.initializer)
    onnx.checker.check_model(proto, full_check=True)


def test_any_number_of_faces_may_be_given_and_they_do_not_mix(data: bytes) -> None:
    bare, three = session(data), faces(3)
    together = bare.run(None, {INPUT: three})
    alone = [bare.run(None, {INPUT: three[i : i + 1]}) for i in range(3)]
    for output, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert output.dtype == np.float32
        assert 0 <= output.min() <= output.max() <= 1
        np.testing.assert_allclose(output, np.concatenate(parts), atol=SAME_KERNELS)


def test_it_loads_as_deepfacelive_loads_models(data: bytes) -> None:
    """By position, with the names given to it as a program from 2021 spells them."""
    bare = session(data)
    inputs = bare.get_inputs()
    assert "in_face" in inputs[0].name
    assert len(inputs) == 1  # type 1: no morph value
    height, width = inputs[0].shape[1:3]
    mask, face, face_mask = bare.run(None, {"in_face:0": faces(1)})
    assert (mask.shape, face.shape, face_mask.shape) == (
        (1, height, width, 1),
        (1, height, width, 3),
        (1, height, width, 1),
    )


def test_it_loads_as_facefusion_loads_models(data: bytes, model: FaceAutoencoder) -> None:
    """Size from the named output; inputs by name; outputs by position without their batch."""
    bare = session(data)
    size = next(tuple(x.shape[1:3]) for x in bare.get_outputs() if x.name == "out_celeb_face:0")
    feed = {x.name: faces(1) for x in bare.get_inputs() if x.name in ("in_face:0", "morph_value:0")}
    mask, face, face_mask = (output[0] for output in bare.run(None, feed))
    assert face.shape == (*size, 3)
    assert mask.shape == face_mask.shape == (*size, 1)
    by_name = bare.run(list(OUTPUTS), feed)
    assert all(np.array_equal(a, b[0]) for a, b in zip((mask, face, face_mask), by_name, strict=True))
    expected = model_outputs(model, faces(1))
    assert np.abs(face - expected[1][0]).max() < 0.05  # and it is the identity's face that stands in the middle
    assert np.abs(mask - expected[0][0]).max() < 0.05


def test_the_identity_is_painted_and_the_mask_is_that_of_the_input(model: FaceAutoencoder) -> None:
    given = faces(2)
    mask, face, face_mask = model_outputs(model, given)
    with torch.no_grad():
        painted, input_mask = model(torch.from_numpy(given).permute(0, 3, 1, 2), "identity")
    for ours, theirs in ((mask, input_mask), (face, painted.face), (face_mask, painted.mask)):
        np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), atol=SAME_KERNELS)


# ---------------------------------------------------------------- weights


def kinds_of_weights(data: bytes) -> Iterator[tuple[int, int]]:
    """Number of values and data type of every stored tensor."""
    for tensor in onnx.load_from_string(data).graph.initializer:
        yield int(np.prod(tensor.dims)), tensor.data_type


def test_half_weights_halve_the_file_and_only_large_tensors(model: FaceAutoencoder, card: dict[str, Any]) -> None:
    half, full = (to_onnx(model, card, half_weights=each) for each in (True, False))
    assert {kind for _, kind in kinds_of_weights(full)} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert {kind for count, kind in kinds_of_weights(half) if count > 1024} == {TensorProto.FLOAT16}
    assert TensorProto.FLOAT16 not in {kind for count, kind in kinds_of_weights(half) if count <= 1024}
    stored = sum(2 * count for count, kind in kinds_of_weights(half) if kind == TensorProto.FLOAT16)
    assert len(full) - len(half) == pytest.approx(stored, rel=0.1)


def test_half_and_full_weights_paint_the_same_picture(model: FaceAutoencoder, card: dict[str, Any]) -> None:
    half, full = (
        session(to_onnx(model, card, half_weights=each)).run(None, {INPUT: faces(4)}) for each in (True, False)
    )
    expected = model_outputs(model, faces(4))
    for a, b, torch_says in zip(half, full, expected, strict=True):
        np.testing.assert_allclose(b, torch_says, atol=SAME_KERNELS)
        assert -10 * np.log10(((a - b) ** 2).mean()) > HALF_DB
        assert not np.array_equal(a, b)


def test_the_same_model_gives_the_same_bytes(model: FaceAutoencoder, card: dict[str, Any]) -> None:
    assert to_onnx(model, card) == to_onnx(model, card)


def test_exporting_leaves_the_model_as_it_was(model: FaceAutoencoder, card: dict[str, Any]) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    to_onnx(model, card)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# ---------------------------------------------------------------- a run becomes a model


@pytest.fixture(scope="module")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    path = tmp_path_factory.mktemp("exported") / "ada.dfm"
    return path, export_run(finished_run, path, WHO)


def test_the_report_says_what_was_written_and_how_far_it_is_off(exported: tuple[Path, ExportReport]) -> None:
    path, report = exported
    assert (report.path, report.size_bytes, report.resolution) == (str(path), path.stat().st_size, SIDE)
    assert (report.subject, report.weights, report.faces_compared) == (WHO.subject, "float16", 1)
    assert 0 <= report.max_abs < 0.01
    assert report.psnr_db > HALF_DB
    assert json.loads(json.dumps(report.to_json())) == report.to_json()


def test_the_metadata_is_json_and_tells_the_history(exported: tuple[Path, ExportReport], finished_run: Path) -> None:
    raw = session(exported[0]).get_modelmeta().custom_metadata_map
    told = {key.removeprefix("liveswap."): json.loads(value) for key, value in raw.items()}
    record, (_, _, progress) = read_run(finished_run), load_best(finished_run)
    assert all(key.startswith("liveswap.") for key in raw)
    assert (told["schema"], told["resolution"], told["landmarks"]) == (1, SIDE, "mediapipe-468")
    assert (told["coverage"], told["offset"]) == (full_face(SIDE).coverage, [0.0, 0.0])
    assert told["facesets"] == {side: facts["sha256"] for side, facts in record.facesets.items()}
    assert (told["subject"], told["consent"], told["exporter"]) == (WHO.subject, WHO.consent, "a test")
    assert abs((date.fromisoformat(told["created"]) - date.today()).days) <= 1
    training = told["training"]
    assert (training["preset"], training["iterations"]) == ("tiny-test", progress.iteration)
    assert training["held_out"]["score"] == pytest.approx(progress.best_score, abs=2e-5)


def test_the_file_tells_nothing_about_the_machine(exported: tuple[Path, ExportReport], people: dict[str, Path]) -> None:
    data = exported[0].read_bytes()
    root = Path(__file__).resolve().parents[2]
    for place in (*people.values(), exported[0].parent, root, Path(torch.__file__).parent, Path.home()):
        assert str(place).encode() not in data


def test_the_live_loop_reads_the_model_and_sees_the_crop_it_was_trained_on(
    exported: tuple[Path, ExportReport], finished_run: Path
) -> None:
    dfm = read_dfm(exported[0])
    assert dfm.geometry == full_face(SIDE) == read_run(finished_run).config.geometry
    assert (dfm.resolution, dfm.takes_morph, dfm.outputs) == (SIDE, False, OUTPUTS)
    assert dfm.card["consent"] == WHO.consent


def test_the_live_engine_paints_what_torch_paints(exported: tuple[Path, ExportReport], finished_run: Path) -> None:
    model, record, _ = load_best(finished_run)
    held_out = hold_out(open_facesets(record), record.config)
    crop = (held_out["performer"].crops.inputs[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    with open_engine(exported[0], threads=1) as engine:
        out = engine.run(crop)
    mask, face, face_mask = model_outputs(model, (crop[None] / np.float32(255)).astype(np.float32))
    np.testing.assert_allclose(out.face, face[0], atol=0.01)
    np.testing.assert_allclose(out.performer_mask, mask[0, :, :, 0], atol=0.01)
    np.testing.assert_allclose(out.face_mask, face_mask[0, :, :, 0], atol=0.01)


def test_full_weights_agree_better(finished_run: Path, tmp_path: Path, exported: tuple[Path, ExportReport]) -> None:
    full = export_run(finished_run, tmp_path / "full.DFM", WHO, half_weights=False)
    assert full.weights == "float32"
    assert full.max_abs < SAME_KERNELS
    assert full.size_bytes > exported[1].size_bytes


# ---------------------------------------------------------------- what is refused


def refused(run: Path, out: Path, kind: type[LiveswapError]) -> str:
    with pytest.raises(kind) as error:
        export_run(run, out, WHO)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("name", "example"), [("ada.onnx", "ada.dfm"), ("ada", "ada.dfm"), ("ada.dfm.zip", "ada.dfm")])
def test_a_model_file_is_called_dfm(finished_run: Path, tmp_path: Path, name: str, example: str) -> None:
    assert example in refused(finished_run, tmp_path / name, UsageError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".", "/", "folder.dfm"])
def test_a_folder_is_no_model_file(
    finished_run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.dfm").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "is a folder; give a file name that ends in .dfm" in refused(finished_run, Path(name), UsageError)


def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    assert "holds no run; give the folder" in refused(tmp_path, tmp_path / "x.dfm", TrainingError)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody may write to")
def test_a_folder_that_may_not_be_written_is_one_sentence(finished_run: Path) -> None:
    assert "choose another place" in refused(finished_run, Path("/sys/ada.dfm"), ExportError)


def test_a_folder_that_is_missing_is_one_sentence(finished_run: Path, tmp_path: Path) -> None:
    assert f"the folder {tmp_path / 'no'} does not exist" in refused(
        finished_run, tmp_path / "no" / "ada.dfm", UsageError
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_sentence_and_the_old_model_stays(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "ada.dfm"
    out.write_bytes(b"old")
    monkeypatch.setattr("realtime.files.secrets.token_hex", lambda count: "full")
    (tmp_path / ".ada.full.part.dfm").symlink_to("/dev/full")
    assert "is full; free some space" in refused(finished_run, out, ExportError)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("ada.dfm", b"old")]


def test_a_model_that_differs_from_the_trained_one_is_never_written(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lively(FaceAutoencoder(TINY.model))
    monkeypatch.setattr("export.to_onnx.to_onnx", lambda model, card, half_weights: to_onnx(other, card))
    assert "differs from the trained one" in refused(finished_run, tmp_path / "ada.dfm", ExportError)
    assert not list(tmp_path.iterdir())


def test_the_best_checkpoint_is_exported_and_not_the_latest(finished_run: Path, tmp_path: Path) -> None:
    assert (finished_run / BEST).exists()
    report = export_run(finished_run, tmp_path / "x.dfm", WHO)
    assert read_dfm(Path(report.path)).card["training"]["iterations"] == load_best(finished_run)[2].best_iteration
