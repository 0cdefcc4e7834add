"""What a live run was asked to do, as one frozen value: defaults <- TOML file <- flags."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from realtime.blend import BlendSettings
from realtime.errors import UsageError

ON_MISS = ("hold", "blur", "slate", "pass")


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """Settings of `liveswap run`."""

    model: Path
    """The .dfm file."""
    source: str = "pattern"
    """Where frames come from: a path or `pattern`."""
    sinks: tuple[str, ...] = ("null",)
    """Where frames go."""
    on_miss: str = "hold"
    """What is published when no swap is at hand: hold, blur, slate or pass."""
    hold_ms: float = 250.0
    """How long the last swap stands in, milliseconds."""
    morph: float = 0.75
    """[0, 1], for models that take it."""
    coverage: float | None = None
    """Overrides the model's coverage."""
    offset: tuple[float, float] | None = None
    """Overrides the model's offset (x, y)."""
    threads: int | None = None
    """Threads of the engine; None chooses."""
    badge: bool = True
    """Whether every picture carries the AI mark."""
    smooth: bool = True
    """Whether the crop is kept still over time."""
    blend: BlendSettings = field(default_factory=BlendSettings)


def load_config(toml: Path | None = None, flags: Mapping[str, Any] | None = None) -> LiveConfig:
    """Defaults, then the TOML file, then the flags that are not None. Raises UsageError."""
    values: dict[str, Any] = {}
    if toml is not None:
        try:
            values = tomllib.loads(toml.read_text("utf-8"))
        except OSError as error:
            raise UsageError(f"the settings file {toml} cannot be read ({error.strerror}); check the path") from error
        except ValueError as error:
            raise UsageError(f"the settings file {toml} is not valid TOML ({error}); correct it") from error
    values |= {key: value for key, value in (flags or {}).items() if value is not None}
    unknown = sorted(set(values) - {each.name for each in fields(LiveConfig)})
    if unknown:
        raise UsageError(
            f"unknown setting {unknown[0]}; known are {', '.join(each.name for each in fields(LiveConfig))}"
        )
    if "model" not in values:
        raise UsageError("no model was given; add --model NAME.dfm")
    try:
        if isinstance(values.get("blend"), dict):
            values["blend"] = BlendSettings(**values["blend"])
        return LiveConfig(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a setting is wrong ({error}); correct it") from error
