"""A .dfm is data from strangers: good ones are understood, bad ones are refused in one sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import realtime.dfm
from realtime.dfm import Dfm, Placement, read_dfm
from realtime.errors import ModelError
from tests.community_dfm import OUTPUTS, liveswap_metadata, random_dfm, save

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
info = helper.make_tensor_value_info
Port = tuple[int, Sequence[int | str]]
"""Element type and shape of an input or output."""


def refusal(path: Path) -> str:
    """The one sentence with which a model is refused."""
    with pytest.raises(ModelError) as caught:
        read_dfm(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "; " in sentence, "the remedy is missing"
    assert str(path) in sentence
    return sentence


# Good models


@pytest.mark.parametrize("morph", [False, True])
@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("face_input", ["in_face:0", "in_face"])
def test_a_community_model_is_understood(tmp_path: Path, morph: bool, batch: int | str, face_input: str) -> None:
    path = random_dfm(tmp_path / "community.dfm", resolution=64, morph=morph, batch=batch, face_input=face_input)
    model = read_dfm(path)
    assert (model.path, model.resolution, model.takes_morph) == (path, 64, morph)
    assert (model.face_input, model.morph_input) == (face_input, "morph_value:0" if morph else None)
    assert model.outputs == OUTPUTS
    assert model.size_bytes == path.stat().st_size
    assert len(model.sha256) == 64


def test_a_model_without_a_card_is_looked_at_as_deepfacelive_would(tmp_path: Path) -> None:
    model = read_dfm(random_dfm(tmp_path / "community.dfm"))
    assert (model.geometry.size, model.geometry.coverage) == (64, 2.2)
    assert (model.geometry.offset_x, model.geometry.offset_y) == (0, -0.08)
    assert model.placement == Placement()
    assert model.card == {}


def test_the_card_of_a_liveswap_model_is_read(tmp_path: Path) -> None:
    facts = {
        "schema": 1,
        "resolution": 64,
        "coverage": 1.5966,
        "offset": [0.01, -0.02],
        "landmarks": "mediapipe-468",
        "placement": [0.98, -0.01, 0.005],
        "subject": "a rendered person",
        "training": {"iterations": 1000},
        "exporter": None,
    }
    model = read_dfm(random_dfm(tmp_path / "ours.dfm", metadata=liveswap_metadata(**facts)))
    geometry = model.geometry
    assert (geometry.coverage, geometry.offset_x, geometry.offset_y) == (1.5966, 0.01, -0.02)
    assert model.placement == Placement(0.98, -0.01, 0.005)
    assert model.card == facts


def test_metadata_of_other_programs_is_ignored(tmp_path: Path) -> None:
    assert read_dfm(random_dfm(tmp_path / "m.dfm", metadata={"author": "{not json"})).card == {}


def test_outputs_in_another_order_are_known_by_name(tmp_path: Path) -> None:
    names = (OUTPUTS[1], OUTPUTS[2], OUTPUTS[0])
    model = read_dfm(random_dfm(tmp_path / "m.dfm", outputs=names, order=(1, 2, 0)))
    assert model.outputs == OUTPUTS


def test_outputs_with_unknown_names_are_known_by_position(tmp_path: Path) -> None:
    assert read_dfm(random_dfm(tmp_path / "m.dfm", outputs=("a", "b", "c"))).outputs == ("a", "b", "c")


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    one = read_dfm(random_dfm(tmp_path / "one.dfm", seed=1))
    same = read_dfm(random_dfm(tmp_path / "same.dfm", seed=1))
    other = read_dfm(random_dfm(tmp_path / "other.dfm", seed=2))
    assert one.sha256 == same.sha256 != other.sha256


def test_a_model_tells_in_short_what_it_is(tmp_path: Path) -> None:
    assert "m.dfm, 64 px, coverage=2.2, offset_y=-0.08" in repr(read_dfm(random_dfm(tmp_path / "m.dfm")))


# Files that are no models


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing.dfm")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_an_empty_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty.dfm").touch()
    assert "is empty" in refusal(tmp_path / "empty.dfm")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are a POSIX thing")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dfm")
    assert "is a device or a pipe" in refusal(tmp_path / "pipe.dfm")


def test_a_file_beyond_the_limit_of_onnx_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.dfm"
    with path.open("wb") as file:
        file.truncate(realtime.dfm.MAX_BYTES + 1)  # a hole: it takes no room on the disk
    assert "larger than ONNX allows" in refusal(path)


@pytest.mark.parametrize("content", [b"hello, I am a text\n", b"\x89PNG\r\n\x1a\n" + bytes(64), b"\x08\x08", b"PK\3\4"])
def test_what_is_not_onnx_is_refused_without_a_word_on_the_terminal(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "not.dfm"
    path.write_bytes(content)
    assert "is not an ONNX file" in refusal(path)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=300))
def test_any_bytes_are_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bytes.dfm"
    path.write_bytes(content)
    refusal(path)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, 2800))
def test_a_model_that_was_cut_short_is_refused_in_one_sentence(tmp_path: Path, cut: int) -> None:
    path = random_dfm(tmp_path / "cut.dfm")
    path.write_bytes(path.read_bytes()[:-cut])
    refusal(path)


# Models that break the contract


def model_with(
    tmp_path: Path,
    *,
    face: Port = (FLOAT, ["N", 64, 64, 3]),
    morph: Port | None = None,
    extra: str | None = None,
    outputs: Sequence[Port] | None = None,
) -> Path:
    """A model that says of its inputs and outputs what it is told to; it is never run."""
    inputs = [info("in_face:0", *face)]
    if morph:
        inputs.append(info("morph_value:0", *morph))
    if extra:
        inputs.append(info(extra, FLOAT, [1]))
    shapes: Sequence[Port] = (
        outputs if outputs is not None else [(FLOAT, ["N", 64, 64, channels]) for channels in (1, 3, 1)]
    )
    nodes = []
    for i, (kind, dims) in enumerate(shapes):
        zeros = np.zeros([d if isinstance(d, int) else 1 for d in dims], helper.tensor_dtype_to_np_dtype(kind))
        nodes.append(helper.make_node("Constant", [], [f"o{i}"], value=numpy_helper.from_array(zeros)))
    results = [info(f"o{i}", kind, dims) for i, (kind, dims) in enumerate(shapes)]
    return save(tmp_path / "broken.dfm", nodes, inputs, results, {})


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "two outputs": (lambda p: model_with(p, outputs=[(FLOAT, [1, 64, 64, 1])] * 2), "has 2 outputs where 3"),
    "four outputs": (lambda p: model_with(p, outputs=[(FLOAT, [1, 64, 64, 1])] * 4), "has 4 outputs where 3"),
    "face without channels": (
        lambda p: model_with(p, outputs=[(FLOAT, [1, 64, 64, 1])] * 3),
        "o1 of tensor(float) [1, 64, 64, 1] where float32 [N, 64, 64, 3]",
    ),
    "masks of another size": (
        lambda p: model_with(p, outputs=[(FLOAT, [1, 32, 32, c]) for c in (1, 3, 1)]),
        "where float32 [N, 64, 64, 1]",
    ),
    "half outputs": (lambda p: model_with(p, outputs=[(HALF, [1, 64, 64, c]) for c in (1, 3, 1)]), "tensor(float16)"),
    "flat outputs": (lambda p: model_with(p, outputs=[(FLOAT, [1, 64])] * 3), "where float32 [N, 64, 64, 1]"),
    "open resolution": (lambda p: model_with(p, face=(FLOAT, ["N", "R", "R", 3])), "not one fixed number"),
    "oblong input": (lambda p: model_with(p, face=(FLOAT, ["N", 64, 32, 3])), "not one fixed number"),
    "channels first": (lambda p: model_with(p, face=(FLOAT, ["N", 3, 64, 64])), "float32 [N, R, R, 3] is expected"),
    "half input": (lambda p: model_with(p, face=(HALF, ["N", 64, 64, 3])), "float32 [N, R, R, 3] is expected"),
    "integer input": (lambda p: model_with(p, face=(TensorProto.UINT8, ["N", 64, 64, 3])), "is expected"),
    "flat input": (lambda p: model_with(p, face=(FLOAT, [64, 64, 3])), "float32 [N, R, R, 3] is expected"),
    "eight faces": (lambda p: model_with(p, face=(FLOAT, [8, 64, 64, 3])), "takes 8 faces at a time"),
    "too small": (lambda p: model_with(p, face=(FLOAT, ["N", 8, 8, 3])), "resolution of 8 px, outside 16 to 1024"),
    "too large": (lambda p: model_with(p, face=(FLOAT, ["N", 2048, 2048, 3])), "resolution of 2048 px"),
    "extra input": (lambda p: model_with(p, extra="speed"), "has the inputs in_face:0, speed"),
    "wide morph": (lambda p: model_with(p, morph=(FLOAT, [2])), "one float32 is expected"),
    "text morph": (lambda p: model_with(p, morph=(TensorProto.STRING, [1])), "one float32 is expected"),
}


@pytest.mark.parametrize("flaw", BROKEN)
def test_a_model_that_breaks_the_contract_is_refused_with_the_reason(tmp_path: Path, flaw: str) -> None:
    build, reason = BROKEN[flaw]
    assert reason in refusal(build(tmp_path))


def test_a_model_without_in_face_is_refused(tmp_path: Path) -> None:
    assert "has the inputs picture" in refusal(random_dfm(tmp_path / "m.dfm", face_input="picture"))
    shout = refusal(random_dfm(tmp_path / "m.dfm", face_input="\x1b[2J" + "A" * 100_000))
    assert "\x1b" not in shout
    assert len(shout) < 600


def identity_model(tmp_path: Path, node: onnx.NodeProto, opset: int = 12, domains: tuple[str, ...] = ()) -> Path:
    face = info("in_face:0", FLOAT, [1, 64, 64, 3])
    results = [info(name, FLOAT, [1, 64, 64, 3]) for name in node.output]
    return save(tmp_path / "m.dfm", [node], [face], results, {}, opset=opset, extra_domains=domains)


def test_custom_operators_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("Steal", ["in_face:0"], ["out"], domain="evil.example")
    assert "export it again without custom operators" in refusal(
        identity_model(tmp_path, node, domains=("evil.example",))
    )
    assert capfd.readouterr() == ("", "")


def test_a_model_in_a_newer_onnx_asks_for_a_newer_runtime(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["in_face:0"], ["out"])
    assert "update onnxruntime" in refusal(identity_model(tmp_path, node, opset=99))


# References to other files


def elsewhere(location: str) -> onnx.TensorProto:
    """A tensor that is kept in another file."""
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", "12")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/hostname"])
def test_weights_in_another_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = random_dfm(tmp_path / "m.dfm")
    (tmp_path / "weights.bin").write_bytes(bytes(12))
    monkeypatch.chdir(tmp_path)  # where a loader without a path might look
    model = onnx.load_from_string(path.read_bytes())
    model.graph.initializer.append(elsewhere(location))
    path.write_bytes(model.SerializeToString())
    assert "keeps its weights in another file" in refusal(path)
    assert capfd.readouterr() == ("", "")


def test_weights_in_another_file_are_found_inside_a_branch_of_the_graph(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=elsewhere("weights.bin"))
    branch = helper.make_graph([constant], "branch", [], [info("c", FLOAT, [3])])
    condition = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True]))
    choice = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    path = save(tmp_path / "m.dfm", [condition, choice], [], [info("out", FLOAT, [3])], {})
    assert "keeps its weights in another file" in refusal(path)


def test_a_file_made_of_countless_parts_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime.dfm, "MAX_FIELDS", 20)
    assert "more parts than a face model can have" in refusal(random_dfm(tmp_path / "m.dfm"))


# Metadata


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"coverage": 0}, "carries a crop that cannot be"),
        ({"coverage": -1.5}, "carries a crop that cannot be"),
        ({"coverage": "2.2"}, "carries a crop that cannot be"),
        ({"coverage": True}, "carries a crop that cannot be"),
        ({"coverage": float("nan")}, "carries a crop that cannot be"),
        ({"coverage": [1.6]}, "carries a crop that cannot be"),
        ({"offset": [0]}, "carries a crop that cannot be"),
        ({"offset": 0.1}, "carries a crop that cannot be"),
        ({"offset": [0, 99]}, "carries a crop that cannot be"),
        ({"placement": [0.1, 0, 0]}, "carries a crop that cannot be"),
        ({"placement": [1, 0]}, "carries a crop that cannot be"),
        ({"resolution": 128}, "claims resolution 128 but has 64"),
        ({"landmarks": "dlib-68"}, "claims landmarks dlib-68"),
        ({"schema": 2}, "update liveswap"),
        ({"schema": "new"}, "update liveswap"),
    ],
)
def test_a_card_that_says_nonsense_about_the_crop_is_refused(
    tmp_path: Path, facts: dict[str, object], reason: str
) -> None:
    assert reason in refusal(random_dfm(tmp_path / "m.dfm", metadata=liveswap_metadata(**facts)))


def test_whether_the_mark_is_required_must_be_readable(tmp_path: Path) -> None:
    metadata = {"liveswap.badge": "required"}  # without the quotes of JSON
    assert "carries a damaged liveswap.badge" in refusal(random_dfm(tmp_path / "m.dfm", metadata=metadata))


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, '"' + "x" * 2**20 + '"'])
def test_a_damaged_crop_is_refused_but_a_damaged_note_only_left_out(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert "damaged liveswap.coverage" in refusal(random_dfm(tmp_path / "a.dfm", metadata={"liveswap.coverage": text}))
    noted: Dfm = read_dfm(random_dfm(tmp_path / "b.dfm", metadata={"liveswap.subject": text}))
    assert "subject" not in noted.card
    assert "damaged liveswap.subject, which is left out" in caplog.text


def test_metadata_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = random_dfm(tmp_path / "m.dfm", metadata={"liveswap.subject": '"________"'})
    path.write_bytes(path.read_bytes().replace(b"________", b"\xff\xfe\xfd\xfc\xff\xfe\xfd\xfc"))
    assert "not text" in refusal(path)
