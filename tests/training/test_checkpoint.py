"""What is saved comes back to the last bit; what is damaged or foreign is one sentence, and never executed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from realtime.errors import TrainingError
from tests.tiny_run import TINY, facts_of, tensors_of
from training.checkpoint import (
    BEST,
    LATEST,
    RUN,
    SCHEMA,
    Progress,
    Resumable,
    RunRecord,
    load_best,
    load_latest,
    pack_best,
    pack_latest,
    read_run,
    sweep,
    write_file,
    write_run,
)
from training.config import TrainConfig
from training.model import FaceAutoencoder, ModelConfig
from training.optimizers import make_optimizer

META = "liveswap.checkpoint"
Damage = Callable[[Path], object]
SIDES = ("identity", "performer")


class Parts:
    """What a run consists of while it trains: made from a seed, a few steps old."""

    def __init__(self, seed: int, steps: int = 2, config: ModelConfig = TINY.model) -> None:
        torch.manual_seed(seed)
        self.model, self.ema = FaceAutoencoder(config), FaceAutoencoder(config)
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self.model.parameters(), 1e-2, fused=True)
        self.generator = torch.Generator().manual_seed(seed)
        self.progress = Progress(steps, 1.25, 0.5, 1, [{"iteration": 1.0, "score": 0.5}])
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        faces = torch.rand(2, 3, 32, 32, generator=self.generator)
        painted, mask = self.model(faces, "identity")
        other, _ = self.model(faces, "performer")
        (painted.face.mean() + painted.mask.mean() + mask.mean() + other.face.mean() + other.mask.mean()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def save(self, run: Path, **others: Resumable) -> None:
        packed = pack_latest(self.model, self.ema, self.optimizer, self.generator, self.progress, **others)
        write_file(run / LATEST, packed)

    def load(self, run: Path) -> None:
        self.progress = load_latest(run, self.model, self.ema, self.optimizer, self.generator)

    def everything(self) -> list[Tensor]:
        moments = [state[key] for state in self.optimizer.state.values() for key in sorted(state)]
        return [*self.model.state_dict().values(), *self.ema.state_dict().values(), *moments]


def sentence(error: pytest.ExceptionInfo[TrainingError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert ";" in text
    return text


# ---------------------------------------------------------------- there and back


def test_everything_comes_back_as_it_was_saved_and_goes_on_alike(tmp_path: Path) -> None:
    saved, other = Parts(seed=1), Parts(seed=2, steps=1)
    saved.save(tmp_path)
    other.load(tmp_path)
    assert other.progress == saved.progress
    for parts in (saved, other):
        parts.step()
    assert all(torch.equal(a, b) for a, b in zip(saved.everything(), other.everything(), strict=True))
    assert torch.equal(saved.generator.get_state(), other.generator.get_state())


def test_a_fresh_optimizer_gets_its_moments_in_the_layout_of_the_weights(tmp_path: Path) -> None:
    Parts(seed=1).save(tmp_path)
    fresh = Parts(seed=2, steps=0)
    fresh.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves this overload out
    fresh.load(tmp_path)
    for parameter, state in fresh.optimizer.state.items():
        assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == parameter.stride()
        assert not state["exp_avg"].requires_grad
    fresh.step()


def test_what_was_loaded_no_longer_hangs_on_the_file(tmp_path: Path) -> None:
    saved, other = Parts(seed=1), Parts(seed=2)
    saved.save(tmp_path)
    other.load(tmp_path)
    (tmp_path / LATEST).write_bytes(b"\0" * (tmp_path / LATEST).stat().st_size)
    assert all(torch.equal(a, b) for a, b in zip(saved.everything(), other.everything(), strict=True))


@pytest.mark.parametrize("name", ["adamw", "adam", "adabelief", "schedule-free"])
def test_whatever_an_optimizer_remembers_comes_back(tmp_path: Path, name: str) -> None:
    saved, other = Parts(seed=1), Parts(seed=2, steps=0)
    dropout = 0.5 if name == "adabelief" else 1.0
    config = TrainConfig.from_dict({**TINY.to_dict(), "optimizer": name, "lr_dropout": dropout})
    for parts in (saved, other):
        parts.optimizer = make_optimizer(config, parts.model.parameters())
    for _ in range(2):
        saved.step()
    saved.save(tmp_path)
    other.load(tmp_path)
    for parts in (saved, other):
        parts.step()
    assert all(torch.equal(a, b) for a, b in zip(saved.everything(), other.everything(), strict=True))


def test_weights_of_which_the_optimizer_knows_nothing_yet_come_back_so(tmp_path: Path) -> None:
    saved, other = Parts(seed=1, steps=0), Parts(seed=2)
    saved.save(tmp_path)
    other.load(tmp_path)
    assert not other.optimizer.state
    first = next(saved.model.parameters())
    for weight in saved.model.parameters():
        weight.grad = torch.ones_like(weight) if weight is first else None
    saved.optimizer.step()
    saved.save(tmp_path)
    other.load(tmp_path)
    assert list(other.optimizer.state) == [next(other.model.parameters())]


class Counter:
    """Something else that a run has to find again."""

    def __init__(self, value: float) -> None:
        self.value = value

    def tensors(self) -> dict[str, Tensor]:
        return {"value": torch.tensor(self.value), "deep/nothing": torch.zeros(0)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        assert tensors["deep/nothing"].shape == (0,)
        self.value = float(tensors["value"])


def test_others_come_back_under_their_names_and_new_ones_stay_as_they_are(tmp_path: Path) -> None:
    parts, others = Parts(seed=1), {"gan": Counter(1.0), "watchdog": Counter(2.0)}
    parts.save(tmp_path, **others)
    found = {"gan": Counter(0.0), "watchdog": Counter(0.0), "new": Counter(5.0)}
    load_latest(tmp_path, parts.model, parts.ema, parts.optimizer, parts.generator, **found)
    assert [other.value for other in found.values()] == [1.0, 2.0, 5.0]


def test_what_a_checkpoint_holds_and_nobody_asks_for_is_one_sentence(tmp_path: Path) -> None:
    parts = Parts(seed=1)
    gan = Counter(1.0)
    parts.save(tmp_path, gan=gan)
    with pytest.raises(TrainingError, match="does not fit this model"):
        parts.load(tmp_path)


def test_a_checkpoint_of_the_first_version_goes_on(tmp_path: Path) -> None:
    saved, other = Parts(seed=1), Parts(seed=2)
    saved.save(tmp_path)
    rewrite(lambda tensors, facts: facts.update(schema=1))(tmp_path / LATEST)
    other.load(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(saved.everything(), other.everything(), strict=True))


def test_saving_the_same_state_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    parts = Parts(seed=1)
    parts.save(tmp_path)
    first = (tmp_path / LATEST).read_bytes()
    parts.save(tmp_path)
    assert (tmp_path / LATEST).read_bytes() == first


def test_the_best_model_is_the_averaged_one_ready_to_be_used(tmp_path: Path) -> None:
    parts = Parts(seed=1)
    write_run(tmp_path, record())
    write_file(tmp_path / BEST, pack_best(parts.ema, parts.progress))
    model, told, progress = load_best(tmp_path)
    assert progress == parts.progress
    assert told == record()
    assert not model.training
    expected = parts.ema.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_can_be_read_without_us(finished_run: Path) -> None:
    with safe_open(finished_run / BEST, framework="np") as file:
        facts = json.loads(file.metadata()[META])
        assert file.get_tensor("ema/encoder.squeeze.weight").dtype == "float32"
    assert facts["schema"] == SCHEMA
    assert {key.split("/")[0] for key in tensors_of(finished_run / LATEST)} == {
        "model",
        "ema",
        "optimizer",
        "random_state",
        "watchdog",
    }


def record() -> RunRecord:
    return RunRecord(TINY, {side: {"path": f"/sets/{side}", "sha256": "0" * 64, "faces": 3} for side in SIDES})


def test_a_run_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_run(tmp_path / "deep" / "run", record())
    assert read_run(tmp_path / "deep" / "run") == record()


def test_sweeping_a_folder_without_leftovers_or_without_anything_is_fine(tmp_path: Path) -> None:
    sweep(tmp_path)
    sweep(tmp_path / "missing")


# ---------------------------------------------------------------- damaged and foreign


def rewrite(change: Callable[[dict[str, Tensor], dict[str, object]], object]) -> Damage:
    """Damage that is done to what a checkpoint says, not to its bytes."""

    def damage(path: Path) -> None:
        tensors = tensors_of(path)
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()[META])
        change(tensors, facts)
        save_file(tensors, path, metadata={META: json.dumps(facts)})

    return damage


def with_metadata(metadata: dict[str, str] | None) -> Damage:
    return lambda path: save_file(tensors_of(path), path, metadata=metadata)


def cut_to(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def filled_with(data: bytes) -> Damage:
    return lambda path: path.write_bytes(data)


def huge_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def pickled(path: Path) -> None:
    torch.save({"model": tensors_of(path)}, path)


def renamed(tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
    for key in list(tensors):
        if "squeeze" in key:
            tensors[key + "_old"] = tensors.pop(key)


def reshaped(tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
    for key in list(tensors):
        if "squeeze" in key:
            tensors[key] = tensors[key].flatten()[:1].clone()


DAMAGED = {
    "empty": filled_with(b""),
    "text": filled_with(b"not a checkpoint"),
    "a few bytes": cut_to(0.0001),
    "cut in the header": cut_to(0.01),
    "cut in the middle": cut_to(0.5),
    "cut at the end": cut_to(0.999),
    "a header larger than the file": huge_header,
    "pickled": pickled,
    "no metadata": with_metadata(None),
    "the metadata of another program": with_metadata({"format": "pt"}),
    "metadata that is no JSON": with_metadata({META: "{"}),
    "metadata that is a number": with_metadata({META: "5"}),
    "metadata without an end": with_metadata({META: "[" * 100_000}),
    "an unknown fact": rewrite(lambda tensors, facts: facts.update(colour="blue")),
    "a step that is text": rewrite(lambda tensors, facts: facts.update(iteration="many")),
    "a step below nothing": rewrite(lambda tensors, facts: facts.update(iteration=-4)),
    "a time that is no number": rewrite(lambda tensors, facts: facts.update(elapsed_s=float("nan"))),
    "a history of numbers": rewrite(lambda tensors, facts: facts.update(history=[1, 2])),
    "a history without steps": rewrite(lambda tensors, facts: facts.update(history=[{"score": 0.5}])),
    "a history of words": rewrite(lambda tensors, facts: facts.update(history=[{"iteration": 1, "score": "good"}])),
    "half a step": rewrite(lambda tensors, facts: facts.update(iteration=1.5)),
    "steps without end": rewrite(lambda tensors, facts: facts.update(iteration=10**18)),
    "a time before the run": rewrite(lambda tensors, facts: facts.update(elapsed_s=-1e9)),
    "a score that nothing can better": rewrite(lambda tensors, facts: facts.update(best_score=1e9)),
    "another version": rewrite(lambda tensors, facts: facts.update(schema=99)),
    "weights under other names": rewrite(renamed),
    "weights of another shape": rewrite(reshaped),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_or_foreign_checkpoint_is_one_sentence(finished_run: Path, tmp_path: Path, damage: Damage) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    for name in (LATEST, BEST):
        damage(run / name)
    parts = Parts(seed=1)
    with pytest.raises(TrainingError) as latest:
        parts.load(run)
    with pytest.raises(TrainingError) as best:
        load_best(run)
    assert LATEST in sentence(latest)
    assert BEST in sentence(best)


def test_a_checkpoint_of_another_model_is_one_sentence(finished_run: Path) -> None:
    other = Parts(seed=1, config=ModelConfig(resolution=32, encoder=(8,), decoder=(8,), code=4, code_channels=4))
    with pytest.raises(TrainingError, match="does not fit this model; train again in a new folder"):
        other.load(finished_run)


def test_optimizer_moments_of_another_shape_do_not_slip_in(finished_run: Path, tmp_path: Path) -> None:
    shutil.copy(finished_run / LATEST, tmp_path / LATEST)

    def change(tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
        key = "optimizer/exp_avg/encoder.squeeze.bias"
        tensors[key] = tensors[key][:1].clone()

    rewrite(change)(tmp_path / LATEST)
    with pytest.raises(TrainingError, match="does not fit this model"):
        Parts(seed=1).load(tmp_path)


def test_weights_that_are_not_finite_are_refused(finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    rewrite(lambda tensors, facts: tensors["ema/encoder.squeeze.bias"].fill_(float("inf")))(run / BEST)
    with pytest.raises(TrainingError, match="not finite; train again with a lower rate"):
        load_best(run)


def test_a_run_without_a_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    write_run(tmp_path, record())
    with pytest.raises(TrainingError, match="no finished checkpoint yet; let 'liveswap train' run"):
        load_best(tmp_path)
    with pytest.raises(TrainingError) as error:
        Parts(seed=1).load(tmp_path)
    assert LATEST in sentence(error)


@pytest.mark.parametrize("name", ["", "missing", "file"])
def test_a_folder_that_holds_no_run_says_what_to_give(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TrainingError) as error:
        read_run(tmp_path / name)
    assert "holds no run; give the folder" in sentence(error) or "lies below a file" in sentence(error)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[1, 2]", "is damaged"),
        ("5", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ('{"schema": 1}', "is damaged"),
        ('{"schema": 3}', "another version of liveswap"),
        ('{"schema": 1, "config": 5, "facesets": {}}', "is damaged"),
        ('{"schema": 1, "config": {}, "facesets": {}}', "is damaged"),
        ('{"schema": 1, "config": {}, "facesets": []}', "is damaged"),
        ('{"schema": 1, "config": {}, "facesets": {"identity": "x", "performer": "y"}}', "is damaged"),
        ('{"schema": 1, "config": {"batch": "x"}, "facesets": {}}', "is damaged"),
        ("x" * 2_000_000, "too large to be ours"),
    ],
)
def test_a_damaged_run_record_is_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / RUN).write_text(text)
    with pytest.raises(TrainingError, match=complaint) as error:
        read_run(tmp_path)
    assert RUN in sentence(error)


def test_a_run_record_with_an_unknown_setting_is_one_sentence(tmp_path: Path) -> None:
    write_run(tmp_path, record())
    values = json.loads((tmp_path / RUN).read_text())
    values["config"]["model"]["colour"] = "blue"
    (tmp_path / RUN).write_text(json.dumps(values))
    with pytest.raises(TrainingError, match="is damaged"):
        read_run(tmp_path)


def test_a_run_record_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / RUN).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match="is damaged"):
        read_run(tmp_path)


def test_the_facts_of_a_checkpoint_say_where_the_run_stood(finished_run: Path) -> None:
    latest, best = facts_of(finished_run / LATEST), facts_of(finished_run / BEST)
    assert latest["iteration"] == TINY.iterations
    assert best["iteration"] == best["best_iteration"] == latest["best_iteration"]
    assert best["best_score"] == latest["best_score"] == max(entry["score"] for entry in latest["history"])
