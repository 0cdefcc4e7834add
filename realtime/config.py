"""What a live run was asked to do. Defaults, a TOML file and flags in, one frozen LiveConfig out.

The TOML file has the names of the fields below, and a table for the blend:

    model = "ada.dfm"
    source = "0"
    size = [1280, 720]
    sinks = ["preview", "camera"]

    [blend]
    feather = 0.05
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from realtime.blend import BlendSettings
from realtime.errors import UsageError
from realtime.files import explain
from realtime.guard import MAX_HOLD_MS
from realtime.infer import DEFAULT_MORPH
from realtime.mark_text import LANGUAGES
from realtime.urls import redact_within

MissPolicy = Literal["hold", "blur", "slate", "pass"]
FacePolicy = Literal["lock", "largest", "leftmost", "all"] | int
Bystanders = Literal["show", "blur"]
MAX_TOML_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """Settings of a live run. Raises ValueError for a value that cannot work."""

    model: Path
    """The .dfm file."""
    source: str = "pattern"
    """Where frames come from, see realtime.capture.open_source."""
    size: tuple[int, int] | None = None
    """Width and height to ask a camera for, pixels."""
    fps: float | None = None
    """The rate to ask a camera for, or to show a folder of pictures or a screen at."""
    seek_s: float = 0.0
    """Where in a video file to begin, seconds."""
    loop: bool = False
    """Whether a video file starts anew at its end."""
    mirror: bool = False
    """Whether right and left are exchanged."""
    sinks: tuple[str, ...] = ("null",)
    """Where frames go, see realtime.sinks.open_sink; `preview` is a window."""
    microphone: str | None = None
    """The microphone whose sound goes into live outputs: part of its name, or `default`."""
    more_models: tuple[Path, ...] = ()
    """Further models, to change to while it runs."""
    face: FacePolicy = "lock"
    """Who is swapped: the one confirmed first, largest, leftmost, all, or the N-th from the left."""
    bystanders: Bystanders = "show"
    """What becomes of everybody else's face."""
    on_miss: MissPolicy = "hold"
    """What is published when no swap is at hand; pass publishes the performer's own face."""
    hold_ms: float = 250.0
    """How long the last swap stands in, milliseconds."""
    latency_cap_ms: float | None = None
    """Live, frames older than this are dropped."""
    morph: float = DEFAULT_MORPH
    """[0, 1]: how much of the identity, for models that take it."""
    coverage: float | None = None
    """Overrides the model's coverage, see CropGeometry."""
    offset: tuple[float, float] | None = None
    """Overrides the model's offset (x, y), see CropGeometry."""
    threads: int | None = None
    """Threads of the engine; None lets it choose."""
    badge: bool = True
    """Whether every picture carries the AI mark."""
    badge_language: str = "auto"
    """What the mark says: two letters of ISO 639-1, see realtime.mark_text, or auto for the system's language."""
    signing_certificate: Path | None = None
    """The chain of certificates, PEM, that signs recordings and stills; None: one of this computer."""
    signing_key: Path | None = None
    """Its key, PEM."""
    run_log: Path | None = None
    """Where runs are written down; None: the user's own log."""
    smooth: bool = True
    """Whether crop and colour are smoothed over time."""
    record_input: Path | None = None
    """A folder for the frames as they came in, to replay them: it shows the raw face."""
    keep: Path = Path()
    """Where stills and recordings go that are asked for while it runs."""
    presets: Path | None = None
    """The file of named settings; None: the user's own."""
    preset: str | None = None
    """The named settings to begin with."""
    blend: BlendSettings = field(default_factory=BlendSettings)
    """How the face is put into the frame."""

    def __post_init__(self) -> None:
        _check("model", self.model, isinstance(self.model, Path), "a path")
        _check("source", self.source, isinstance(self.source, str) and self.source != "", "a path, a camera, a URL")
        size = isinstance(self.size, tuple) and len(self.size) == 2 and all(_within(v, 16, 16384) for v in self.size)
        _check("size", self.size, self.size is None or size, "width and height in [16, 16384]")
        _check("fps", self.fps, self.fps is None or _within(self.fps, 0.1, 1000), "in [0.1, 1000]")
        _check("seek_s", self.seek_s, _within(self.seek_s, 0, 1e6), "seconds in [0, 1000000]")
        named = isinstance(self.face, int) and _within(self.face, 1, 100)
        policies = get_args(get_args(FacePolicy)[0])
        _check("face", self.face, self.face in policies or named, f"{', '.join(policies)} or a number from 1")
        _check("bystanders", self.bystanders, self.bystanders in get_args(Bystanders), "show or blur")
        cap = self.latency_cap_ms
        _check("latency_cap_ms", cap, cap is None or _within(cap, 1, 60_000), "milliseconds in [1, 60000]")
        models = isinstance(self.more_models, tuple) and all(isinstance(each, Path) for each in self.more_models)
        _check("more_models", self.more_models, models, "a list of paths")
        for name in ("microphone", "preset"):
            value = getattr(self, name)
            _check(name, value, value is None or (isinstance(value, str) and value != ""), "a name")
        for name in ("record_input", "presets", "signing_certificate", "signing_key", "run_log"):
            value = getattr(self, name)
            _check(name, value, value is None or isinstance(value, Path), "a path")
        _check("keep", self.keep, isinstance(self.keep, Path), "a path")
        texts = isinstance(self.sinks, tuple) and all(isinstance(each, str) and each for each in self.sinks)
        _check("sinks", self.sinks, texts and len(self.sinks) > 0, "a list of at least one path or null")
        _check("on_miss", self.on_miss, self.on_miss in get_args(MissPolicy), "hold, blur, slate or pass")
        _check("hold_ms", self.hold_ms, _within(self.hold_ms, 0, MAX_HOLD_MS), f"in [0, {MAX_HOLD_MS}]")
        _check("morph", self.morph, _within(self.morph, 0, 1), "a number in [0, 1]")
        _check("coverage", self.coverage, self.coverage is None or _within(self.coverage, 0.1, 8), "in [0.1, 8]")
        pair = isinstance(self.offset, tuple) and len(self.offset) == 2 and all(_within(v, -4, 4) for v in self.offset)
        _check("offset", self.offset, self.offset is None or pair, "two numbers in [-4, 4]")
        whole = isinstance(self.threads, int) and _within(self.threads, 1, 256)
        _check("threads", self.threads, self.threads is None or whole, "a whole number in [1, 256]")
        languages = ("auto", *LANGUAGES)
        _check("badge_language", self.badge_language, self.badge_language in languages, ", ".join(languages))
        for name in ("badge", "smooth", "loop", "mirror"):
            _check(name, getattr(self, name), isinstance(getattr(self, name), bool), "true or false")
        _check("blend", self.blend, isinstance(self.blend, BlendSettings), "a table of settings")


def load_config(toml: Path | None = None, flags: Mapping[str, Any] | None = None) -> LiveConfig:
    """Defaults, then the TOML file, then the flags that are not None: the later wins.

    Paths in the file are relative to where the command runs, like those of the flags. `blend` may be given as a mapping
    and then changes only what it names. Raises UsageError with one sentence for a file or a value that cannot work.
    """
    values = _read(toml) if toml is not None else {}
    where = f"the settings file {toml}" if toml is not None else "the call"
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    blend = {**_table(values.pop("blend", {}), where), **_table(given.pop("blend", {}), "the call")}
    values |= given
    _refuse_unknown(values, {each.name for each in fields(LiveConfig)}, where)
    _refuse_unknown(blend, {each.name for each in fields(BlendSettings)}, f"the table [blend] of {where}")
    if "model" not in values:
        raise UsageError("no model was given; add --model NAME.dfm")
    for name in ("model", "record_input", "keep", "presets", "signing_certificate", "signing_key", "run_log"):
        if isinstance(values.get(name), str) and values[name]:
            values[name] = Path(values[name])
    for name in ("sinks", "offset", "size", "more_models"):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    if isinstance(values.get("more_models"), tuple):
        models = values["more_models"]
        values["more_models"] = tuple(Path(each) if isinstance(each, str) and each else each for each in models)
    try:
        return LiveConfig(**values, blend=BlendSettings(**blend))
    except ValueError as error:
        raise UsageError(f"{where} cannot work: {error}; correct it") from error


def _read(toml: Path) -> dict[str, Any]:
    try:
        with toml.open("rb") as file:
            data = file.read(MAX_TOML_BYTES + 1)
        if len(data) > MAX_TOML_BYTES:
            raise UsageError(f"{toml} is too large for a settings file; give a TOML file")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise UsageError(f"the settings cannot be read: {explain(error, toml)}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the settings file {toml} is not TOML ({error}); correct it") from error


def _table(value: object, where: str) -> dict[str, Any]:
    if isinstance(value, BlendSettings):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if not isinstance(value, Mapping):
        raise UsageError(f"blend in {where} is {value!r}, not a table; write [blend] above its settings")
    return dict(value)


def _refuse_unknown(values: Iterable[str], known: Iterable[str], where: str) -> None:
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise UsageError(f"{where} has the unknown setting {name!r}; {remedy}")


def _within(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _check(name: str, value: object, fits: bool, wanted: str) -> None:
    if not fits:
        raise ValueError(f"{name} must be {wanted}, got {redact_within(repr(value))}")
