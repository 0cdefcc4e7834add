"""Settings come from defaults, a TOML file and flags, and a wrong one is named in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from realtime.blend import BlendSettings
from realtime.config import LiveConfig, load_config
from realtime.errors import UsageError


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "live.toml"
    path.write_text(text, "utf-8")
    return path


def refusal(path: Path | None, flags: dict[str, Any] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(path, flags)
    assert caught.value.exit_code == 2
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "; " in sentence, "the remedy is missing"
    return sentence


def test_the_defaults_fail_closed() -> None:
    config = load_config(flags={"model": Path("m.dfm")})
    assert config == LiveConfig(Path("m.dfm"))
    assert config.on_miss == "hold"
    assert config.badge
    assert config.blend == BlendSettings()


def test_the_file_wins_over_defaults_and_flags_over_the_file(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        """
        model = "file.dfm"
        source = "call.mp4"
        sinks = ["a.mp4", "null"]
        hold_ms = 100
        offset = [0.0, -0.1]
        [blend]
        feather = 0.08
        colour = "none"
        """,
    )
    config = load_config(path, {"source": "other.mp4", "hold_ms": None, "blend": {"feather": 0.02}})
    assert config.model == Path("file.dfm")
    assert config.source == "other.mp4"
    assert config.sinks == ("a.mp4", "null")
    assert config.hold_ms == 100
    assert config.offset == (0.0, -0.1)
    assert config.blend == BlendSettings(feather=0.02, colour="none")


def test_a_whole_blend_may_be_given_as_a_flag(tmp_path: Path) -> None:
    path = toml(tmp_path, 'model = "m.dfm"\n[blend]\nerode = 0.05')
    assert load_config(path, {"blend": BlendSettings(opacity=0.9)}).blend == BlendSettings(opacity=0.9)


def test_sinks_may_come_as_a_list_from_the_command_line() -> None:
    assert load_config(flags={"model": "m.dfm", "sinks": ["a.mp4"]}).sinks == ("a.mp4",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('modle = "m.dfm"', "unknown setting 'modle'; did you mean model?"),
        ('model = "m.dfm"\n[blend]\nfeathers = 1', "unknown setting 'feathers'; did you mean feather?"),
        ('model = "m.dfm"\nxyzzy = 1', "unknown setting 'xyzzy'; known are badge, badge_language, blend"),
        ('model = "m.dfm"\nblend = 3', "not a table; write [blend]"),
        ("model = ", "is not TOML"),
        ("model = 3", "model must be a path"),
        ('model = "m.dfm"\nsource = ""', "source must be"),
        ('model = "m.dfm"\nsinks = "a.mp4"', "sinks must be a list"),
        ('model = "m.dfm"\nsinks = []', "sinks must be a list"),
        ('model = "m.dfm"\nsinks = [1]', "sinks must be a list"),
        ('model = "m.dfm"\non_miss = "show"', "on_miss must be hold, blur, slate or pass, got 'show'"),
        ('model = "m.dfm"\nhold_ms = -1', "hold_ms must be"),
        ('model = "m.dfm"\nhold_ms = true', "hold_ms must be"),
        ('model = "m.dfm"\nhold_ms = 10001', "hold_ms must be in [0, 10000], got 10001"),
        ('model = "m.dfm"\nmorph = nan', "morph must be a number in [0, 1]"),
        ('model = "m.dfm"\ncoverage = 0', "coverage must be"),
        ('model = "m.dfm"\noffset = [1]', "offset must be two numbers"),
        ('model = "m.dfm"\nthreads = 0', "threads must be a whole number"),
        ('model = "m.dfm"\nthreads = 1.5', "threads must be a whole number"),
        ('model = "m.dfm"\nbadge = "no"', "badge must be true or false"),
        ('model = "m.dfm"\n[blend]\nerode = 9', "erode must be a number in [0, 0.08], got 9"),
        ('model = "m.dfm"\n[blend]\nerode = "1"', "erode must be a number"),
        ('model = "m.dfm"\n[blend]\ncolour = "lab"', "colour must be none or match"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(toml(tmp_path, text))


def test_a_run_needs_a_model() -> None:
    assert "add --model" in refusal(None)


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing.toml")
    assert str(tmp_path) in refusal(tmp_path)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a=" + b"[" * 100_000, b"#" * (2**20 + 1)])
def test_a_file_that_is_no_settings_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "live.toml"
    path.write_bytes(data)
    assert str(path) in refusal(path)


@pytest.mark.parametrize("line", ['sinks = "rtmp://host/app/Zq9"', 'source = ["rtsp://user:Zq9@host/x"]'])
def test_a_wrong_setting_does_not_give_its_password_away(tmp_path: Path, line: str) -> None:
    assert "Zq9" not in refusal(toml(tmp_path, f'model = "a.dfm"\n{line}\n'))
