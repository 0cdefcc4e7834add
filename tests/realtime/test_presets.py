from __future__ import annotations

from pathlib import Path

import pytest

from realtime.blend import BlendSettings
from realtime.controls import Knobs
from realtime.errors import LiveswapError, UsageError
from realtime.presets import default_path, find_preset, load_presets, next_name, save_preset

SOFT = Knobs(BlendSettings(feather=0.08, colour="none", hull=True), morph=0.25)


def test_what_is_saved_is_loaded_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "presets.toml"
    save_preset(path, 'soft, with "quotes" = [odd]', SOFT)
    save_preset(path, "plain", Knobs())
    assert load_presets(path) == {'soft, with "quotes" = [odd]': SOFT, "plain": Knobs()}
    save_preset(path, "plain", SOFT)
    assert list(load_presets(path).values()) == [SOFT, SOFT]


def test_without_a_file_there_are_no_presets(tmp_path: Path) -> None:
    assert load_presets(tmp_path / "none.toml") == {}
    assert next_name([]) == "number 1"
    assert next_name(["number 1", "number 3"]) == "number 2"
    assert default_path().name == "presets.toml"


def test_a_preset_is_found_by_name_and_an_unknown_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "presets.toml"
    save_preset(path, "soft", SOFT)
    assert find_preset(path, "soft") == SOFT
    with pytest.raises(UsageError, match="has no preset 'sotf'; it has: soft"):
        find_preset(path, "sotf")


def test_what_a_table_leaves_out_is_at_its_default(tmp_path: Path) -> None:
    path = tmp_path / "presets.toml"
    path.write_text("[a]\n[b.blend]\nscale = 1.1\n")
    assert load_presets(path) == {"a": Knobs(), "b": Knobs(BlendSettings(scale=1.1))}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = ", "are not TOML"),
        ("[" * 5000, "are not TOML"),
        ("soft = 3", "not a table"),
        ("[soft]\nblend = 1", "not a table"),
        ("[soft]\nmorhp = 1", "unknown setting 'morhp'"),
        ("[soft.blend]\nfether = 1", "unknown setting 'fether'"),
        ("[soft.blend]\nfeather = 9", "feather must be a number in"),
        ("[soft.blend]\nfeather = nan", "feather must be a number in"),
        ("[soft]\nmorph = 'much'", "morph must be a number in"),
        ("['']", "is no name for a preset"),
        (f"[{'x' * 81}]", "is no name for a preset"),
        ('["a\\u001b[31m"]', "is no name for a preset"),
        ("\n".join(f"[p{index}]" for index in range(1001)), "keep at most 1000"),
        ("#" * (2**20 + 1), "too large"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "presets.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=sentence):
        load_presets(path)
    with pytest.raises(UsageError, match=sentence):
        save_preset(path, "mine", SOFT)
    assert path.read_text() == text, "a file that cannot be read is not written over"


def test_a_file_that_is_binary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "presets.toml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(UsageError, match="are not TOML"):
        load_presets(path)


def test_where_nothing_can_be_written_one_sentence_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LiveswapError, match=r"cannot|not"):
        save_preset(tmp_path / "file" / "presets.toml", "soft", SOFT)
