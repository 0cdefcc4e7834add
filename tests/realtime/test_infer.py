"""The engine runs what the model file says, on what it says, and never answers for somebody else."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from realtime.errors import ModelError
from realtime.frame import ImageU8
from realtime.infer import CPU, OnnxEngine, default_threads, open_engine
from tests.community_dfm import OUTPUTS, painting_dfm, random_dfm, save

FLOAT32_STEP = 1e-6
"""Values in [0, 1] that went through one float32 multiplication."""


def picture(seed: int, size: int = 64) -> ImageU8:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def test_the_model_sees_the_crop_as_bgr_in_zero_to_one(tmp_path: Path) -> None:
    with open_engine(painting_dfm(tmp_path / "m.dfm", keep=1.0)) as engine:
        output = engine.run(picture(0))
    np.testing.assert_allclose(output.face, picture(0) / 255, atol=FLOAT32_STEP)


def test_the_three_answers_come_back_under_their_names(tmp_path: Path) -> None:
    mask = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    with open_engine(painting_dfm(tmp_path / "m.dfm", colour=(0.1, 0.5, 0.9), mask=mask)) as engine:
        output = engine.run(picture(0))
    assert output.face.shape == (64, 64, 3)
    np.testing.assert_allclose(output.face[5, 5], (0.1, 0.5, 0.9), atol=FLOAT32_STEP)
    np.testing.assert_array_equal(output.face_mask, mask)
    np.testing.assert_array_equal(output.performer_mask, mask)
    assert {output.face.dtype, output.face_mask.dtype, output.performer_mask.dtype} == {np.dtype(np.float32)}


def test_the_masks_are_not_mixed_up_when_the_outputs_stand_in_another_order(tmp_path: Path) -> None:
    plain = open_engine(random_dfm(tmp_path / "plain.dfm", seed=3)).run(picture(1))
    turned = open_engine(
        random_dfm(tmp_path / "turned.dfm", seed=3, order=(2, 0, 1), outputs=(OUTPUTS[2], OUTPUTS[0], OUTPUTS[1]))
    ).run(picture(1))
    assert np.abs(plain.face_mask - plain.performer_mask).max() > 0.1
    for name in ("face", "face_mask", "performer_mask"):
        np.testing.assert_allclose(getattr(turned, name), getattr(plain, name), atol=FLOAT32_STEP)


def test_morph_reaches_a_model_that_takes_it_and_bothers_no_other(tmp_path: Path) -> None:
    with open_engine(random_dfm(tmp_path / "morph.dfm", morph=True)) as engine:
        weak, strong = engine.run(picture(0), morph=0.0), engine.run(picture(0), morph=1.0)
    assert np.abs(weak.face - strong.face).max() > 0.01
    with open_engine(random_dfm(tmp_path / "plain.dfm")) as engine:
        np.testing.assert_array_equal(engine.run(picture(0), 0.0).face, engine.run(picture(0), 1.0).face)


def test_an_answer_is_not_overwritten_by_the_next_run(tmp_path: Path) -> None:
    with open_engine(random_dfm(tmp_path / "m.dfm")) as engine:
        first = engine.run(picture(0))
        kept = first.face.copy()
        engine.run(picture(1))
        np.testing.assert_array_equal(first.face, kept)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_the_same_crop_gives_the_same_answer(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("same") / "m.dfm"
    with open_engine(random_dfm(path, resolution=16), threads=1) as engine:
        np.testing.assert_array_equal(engine.run(picture(seed, 16)).face, engine.run(picture(seed, 16)).face)


def test_a_crop_of_the_wrong_size_is_the_callers_mistake(tmp_path: Path) -> None:
    with open_engine(painting_dfm(tmp_path / "m.dfm")) as engine:
        with pytest.raises(ValueError, match=r"expected a \(64, 64, 3\) uint8 crop, got \(32, 32, 3\)"):
            engine.run(picture(0, 32))
        with pytest.raises(ValueError, match="float32"):
            engine.run(picture(0).astype(np.float32))


@pytest.mark.parametrize("morph", [-0.1, 1.1, float("nan")])
def test_a_morph_outside_its_range_is_the_callers_mistake(tmp_path: Path, morph: float) -> None:
    with open_engine(painting_dfm(tmp_path / "m.dfm")) as engine, pytest.raises(ValueError, match="morph"):
        engine.run(picture(0), morph)


def test_a_closed_engine_does_not_run_and_closes_again(tmp_path: Path) -> None:
    engine = open_engine(painting_dfm(tmp_path / "m.dfm"))
    engine.close()
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.run(picture(0))


def test_the_engine_says_what_really_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with open_engine(painting_dfm(tmp_path / "m.dfm"), threads=2) as engine:
        assert engine.provider == CPU
    assert f"model m.dfm runs on {CPU}, 2 threads" in caplog.text


def test_another_provider_never_steps_in_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda _: ["OtherExecutionProvider"])
    with pytest.raises(ModelError, match="would run on OtherExecutionProvider, not CPUExecutionProvider; "):
        open_engine(painting_dfm(tmp_path / "m.dfm"))


def shape_shifter(path: Path, shape: tuple[int, int, int, int]) -> Path:
    """A model whose answer is reshaped to `shape`, which nobody can know before it runs."""
    info = helper.make_tensor_value_info
    weights = {"nothing": np.zeros(1, np.float32), "shape": np.asarray(shape, np.float32)}
    nodes = [
        helper.make_node("ReduceMax", ["in_face:0"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["brightest", "nothing"], ["zero"]),
        helper.make_node("Add", ["shape", "zero"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["in_face:0", "sizes"], ["shifted"]),
        *(helper.make_node("Identity", ["shifted"], [name]) for name in OUTPUTS),
    ]
    outputs = [info(name, TensorProto.FLOAT, ["N", "H", "W", "C"]) for name in OUTPUTS]
    return save(path, nodes, [info("in_face:0", TensorProto.FLOAT, ["N", 64, 64, 3])], outputs, weights)


def test_a_model_that_fails_when_it_runs_is_refused_while_it_is_opened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=r"failed while running .*; export it again"):
        open_engine(shape_shifter(tmp_path / "m.dfm", (1, 7, 7, 3)))
    assert capfd.readouterr() == ("", "")


def test_a_model_that_promises_nothing_and_answers_wrongly_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"answered \(1, 64, 64, 3\) instead of \(1, 64, 64, 1\); "):
        open_engine(shape_shifter(tmp_path / "m.dfm", (1, 64, 64, 3)))


def test_the_engine_needs_a_thread(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="threads"):
        OnnxEngine(painting_dfm(tmp_path / "m.dfm"), threads=0)


@pytest.mark.skipif(sys.platform != "linux", reason="the number of usable cores is known on Linux only")
@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 3), (64, 4)])
def test_one_core_is_left_to_the_other_rooms(monkeypatch: pytest.MonkeyPatch, cores: int, threads: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert default_threads() == threads
