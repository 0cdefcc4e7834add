"""Keeps named settings. A TOML file in, Knobs by name out; Knobs in, the file with them out.

The file has a table for each name; what a table leaves out is at its default:

    [soft]
    morph = 0.75

    [soft.blend]
    feather = 0.08
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import tomli_w

from realtime.blend import BlendSettings
from realtime.controls import Knobs
from realtime.errors import LiveswapError, UsageError
from realtime.files import explain, write_atomically
from realtime.places import settings_folder

MAX_BYTES, MAX_PRESETS, MAX_NAME = 2**20, 1000, 80


def default_path() -> Path:
    """The user's own file; it need not exist."""
    return settings_folder() / "presets.toml"


def load_presets(path: Path) -> dict[str, Knobs]:
    """The presets of a file in its order; none if there is no file. Raises UsageError for what makes no sense."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"the presets cannot be read: {explain(error, path)}") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} is too large for a file of presets; give another one")
    try:
        tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the presets {path} are not TOML ({error}); correct them") from error
    if len(tables) > MAX_PRESETS:
        raise UsageError(f"{path} has {len(tables)} presets; keep at most {MAX_PRESETS}")
    return {check_name(name): _knobs(table, name, path) for name, table in tables.items()}


def find_preset(path: Path, name: str) -> Knobs:
    """The preset of a name. Raises UsageError, with the names that there are, when there is none."""
    presets = load_presets(path)
    if name not in presets:
        raise UsageError(f"{path} has no preset {name!r}; it has: {', '.join(presets) or 'none'}")
    return presets[name]


def save_preset(path: Path, name: str, knobs: Knobs) -> None:
    """Put a preset into the file, beside those that are there; the file is made if need be.

    Raises UsageError for a name or a file that cannot be used, LiveswapError when it cannot be written.
    """
    presets = load_presets(path) | {check_name(name): knobs}
    if len(presets) > MAX_PRESETS:
        raise UsageError(f"{path} has {MAX_PRESETS} presets already; delete some of them")
    text = tomli_w.dumps({name: asdict(knobs) for name, knobs in presets.items()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise LiveswapError(f"the preset was not saved: {explain(error, path)}") from error


def next_name(existing: Collection[str]) -> str:
    """The first of `number 1`, `number 2`, ... that nobody has."""
    return next(name for count in itertools.count(1) if (name := f"number {count}") not in existing)


def check_name(name: str) -> str:
    """`name` itself. Raises UsageError unless it is a short line of printable characters."""
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"{name[:MAX_NAME]!r} is no name for a preset; give up to {MAX_NAME} printable characters")
    return name


def _knobs(table: object, name: str, path: Path) -> Knobs:
    where = f"the preset {name!r} in {path}"
    table = _mapping(table, where, {each.name for each in fields(Knobs)})
    blend = _mapping(table.get("blend", {}), f"the blend of {where}", {each.name for each in fields(BlendSettings)})
    try:
        return Knobs(**{**table, "blend": BlendSettings(**blend)})
    except ValueError as error:
        raise UsageError(f"{where} cannot work: {error}; correct it") from error


def _mapping(table: object, where: str, known: Collection[str]) -> Mapping[str, Any]:
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} is {table!r}, not a table; correct it")
    for name in table:
        if name not in known:
            raise UsageError(f"{where} has the unknown setting {name!r}; known are {', '.join(sorted(known))}")
    return table
