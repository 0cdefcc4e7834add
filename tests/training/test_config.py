"""A recipe becomes a configuration, or one sentence that names the setting."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from textwrap import dedent

import pytest

from realtime.align import full_face, whole_face
from realtime.errors import UsageError
from tests.tiny_run import TINY
from training.augment import AugmentConfig
from training.config import RECIPES, TrainConfig, list_recipes, load_recipe
from training.losses import LossConfig
from training.model import ModelConfig


def recipe(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def complaint_about(folder: Path, text: str) -> str:
    with pytest.raises(UsageError) as error:
        load_recipe(recipe(folder, text))
    sentence = str(error.value)
    assert "\n" not in sentence
    assert "mine.toml" in sentence
    return sentence


def test_the_shipped_recipes_are_listed_from_the_smallest() -> None:
    ours = [each.name for each in list_recipes() if each.style == "liveswap"]
    assert ours == ["tiny-64", "light-128", "base-192", "df-256", "large-320"]
    assert {path.stem for path in RECIPES.glob("*.toml")} == {each.name for each in list_recipes()}


@pytest.mark.parametrize("name", ["tiny-64", "light-128", "df-256"])
def test_every_shipped_recipe_says_what_it_is_for(name: str) -> None:
    config = load_recipe(name)
    assert config.name == name
    assert config.about
    assert config.model.resolution == int(name.split("-")[1])
    assert config.geometry.size == config.model.resolution


def test_a_recipe_of_ones_own_is_a_path_and_what_it_leaves_out_is_the_default(tmp_path: Path) -> None:
    config = load_recipe(recipe(tmp_path, "batch = 3\nlearning_rate = 1\n[model]\ncode = 99\n[augment]\nflip = true\n"))
    assert (config.name, config.batch, config.learning_rate) == ("mine", 3, 1.0)
    assert (config.model, config.augment) == (ModelConfig(code=99), AugmentConfig(flip=True))
    assert config.loss == LossConfig()


def test_an_empty_recipe_is_the_default(tmp_path: Path) -> None:
    assert load_recipe(recipe(tmp_path, "")) == TrainConfig(name="mine")


def test_a_configuration_travels_through_json_unchanged() -> None:
    for config in (TINY, *list_recipes()):
        assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TINY.batch = 4  # type: ignore[misc]  # on purpose


def test_the_crop_decides_what_the_model_sees() -> None:
    assert load_recipe("light-128").geometry == full_face(128)
    assert load_recipe("df-256").geometry == whole_face(256)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("bacth = 3", "unknown setting 'bacth'"),
        ("[model]\nencoders = [1]", "unknown setting 'encoders'"),
        ("[augment]\nwrap = 0.1", "unknown setting 'wrap'"),
        ("[loss]\ndssim = 1", "unknown setting 'dssim'"),
        ("[sampler]\nname = 'even'", "unknown setting 'sampler'"),
        ("batch = 'many'", "batch has to be a whole number, got 'many'"),
        ("batch = 2.5", "batch has to be a whole number, got 2.5"),
        ("batch = true", "batch has to be a whole number, got True"),
        ("batch = [2]", "batch has to be a whole number"),
        ("learning_rate = '1e-3'", "learning_rate has to be a number, got '1e-3'"),
        ("learning_rate = nan", "learning_rate has to be finite"),
        ("weight_decay = inf", "weight_decay has to be finite"),
        ("minutes = 'ten'", "minutes has to be a number, got 'ten'"),
        ("minutes = true", "minutes has to be a number, got True"),
        ("iterations = 2.5", "iterations has to be a whole number, got 2.5"),
        ("threads = '2'", "threads has to be a whole number"),
        ("name = 5", "name has to be text, got 5"),
        ("about = ['a']", "about has to be text"),
        ("crop = 'half'", "crop is one of full, whole, got 'half'"),
        ("precision = 16", "precision is one of auto, fp32, bf16, got 16"),
        ("model = 'large'", "model has to be a section, got 'large'"),
        ("augment = 1", "augment has to be a section, got 1"),
        ("[augment]\nflip = 1", "flip has to be true or false, got 1"),
        ("[augment]\nwarp = 'much'", "warp has to be a number"),
        ("[model]\nencoder = 24", "encoder has to be a list, got 24"),
        ("[model]\nencoder = 'abc'", "encoder has to be a list, got 'abc'"),
        ("[model]\nencoder = [24, 'b', 3, 4]", "encoder has to be a whole number, got 'b'"),
        ("[model]\nresolution = 100", "resolution 100 is not a multiple of 16"),
        ("[model]\nresolution = 0", "resolution is 32 to 1024, got 0"),
        ("[loss]\npixel = -1", "the loss pixel cannot count for less than nothing, got -1"),
        ("[augment]\nstraight = 7", "straight lies between 0 and 1, got 7"),
        ("[augment]\nrotation_deg = 1e30", "rotation_deg lies between 0 and 180, got 1e+30"),
        ("[augment]\nwarp = -1", "warp lies between 0 and 0.5, got -1"),
        ("many = true\n[model]\nfamily = 'liae'", "a model of the family liae does not tell performers apart"),
        ("half_until = 0.3", "half_until needs a model that can start small; set grows = true in [model]"),
        ("lr_dropout = 0.5", 'lr_dropout needs optimizer = "adabelief", got adamw'),
        ("batch = 0", "batch lies between 1 and 4096, got 0"),
        ("save_every = -1", "save_every has to be above 0, got -1"),
        ("minutes = 0", "minutes has to be above 0, got 0"),
        ("batch = 4097", "batch lies between 1 and 4096, got 4097"),
        ("threads = 0", "threads lies between 1 and 256, got 0"),
        ("threads = 1000000", "threads lies between 1 and 256, got 1000000"),
        ("iterations = 0", "iterations lies between 1 and 1000000000, got 0"),
        ("iterations = 1000000001", "iterations lies between 1 and 1000000000, got 1000000001"),
        ("ema = 1.5", "ema lies between 0 and 1, got 1.5"),
        ("held_out = 0.6", "held_out lies between 0 and 0.5, got 0.6"),
        ("warmup = -1", "warmup lies between 0 and 9223372036854775807, got -1"),
        ("seed = -1", "seed lies between 0 and 9223372036854775807, got -1"),
        (f"seed = {2**63}", "seed lies between 0 and 9223372036854775807, got 9223372036854775808"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(tmp_path: Path, text: str, named: str) -> None:
    assert re.search(re.escape(named) + ".*; compare it with the recipes", complaint_about(tmp_path, text))


def test_every_number_of_every_section_refuses_text(tmp_path: Path) -> None:
    sections = {"": TrainConfig, "[model]": ModelConfig, "[augment]": AugmentConfig, "[loss]": LossConfig}
    for head, kind in sections.items():
        for field in fields(kind):
            if field.type in ("int", "float", "bool", "int | None", "float | None"):
                assert field.name in complaint_about(tmp_path, f"{head}\n{field.name} = 'x'")


def test_files_that_are_no_recipe_are_named(tmp_path: Path) -> None:
    assert "not a readable recipe" in complaint_about(tmp_path, "batch = = 3")
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UsageError, match="not a readable recipe"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_the_recipe_that_the_readme_shows_can_be_trained(tmp_path: Path) -> None:
    text = (RECIPES.parents[1] / "README.md").read_text("utf-8")
    shown = next(block for block in text.split("```")[1::2] if block.startswith("toml"))
    (tmp_path / "mine.toml").write_text(dedent(shown.removeprefix("toml")), "utf-8")
    own = load_recipe(str(tmp_path / "mine.toml"))
    assert (own.gan, own.optimizer, own.model.grows) == (0.1, "schedule-free", True)
    shipped = [r for r in list_recipes() if r.style == "liveswap"]
    assert all((r.gan, r.balance, r.half_until, r.loss.ms_structure, r.loss.frequency) == (0,) * 5 for r in shipped)


@pytest.mark.parametrize("name", ["heavy-512", "no/such/file.toml", "", ".", "../recipes"])
def test_an_unknown_preset_names_those_that_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=r"choose one of base-192, df-256, .*, light-128, tiny-64, or give the path"):
        load_recipe(name)
