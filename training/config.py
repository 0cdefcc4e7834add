"""What a training run is. Recipes (TOML) and flags in, one frozen TrainConfig out; it travels in every checkpoint."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from realtime.align import CropGeometry, full_face, whole_face
from realtime.errors import UsageError
from training.augment import AugmentConfig
from training.losses import LossConfig
from training.model import ModelConfig

RECIPES = Path(__file__).with_name("recipes")
LARGEST_RECIPE = 1 << 20
"""Bytes."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides how a run goes. The same config, facesets and machine give the same weights."""

    name: str = "light-128"
    about: str = ""
    """One line for people: what the recipe is for and what to expect."""
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    crop: Literal["full", "whole"] = "full"
    """What the model sees of a face: brows to chin, or all of it with room around."""
    style: Literal["liveswap", "deepfacelab", "faceswap"] = "liveswap"
    """Whose augmentation and losses: ours, or a peer's as its own trainer has them, to be compared with."""
    batch: int = 16
    """Faces of each person in one step, over all processes."""
    accumulate: int = 1
    """Parts that the batch of a process is computed in, one after the other, to need less memory."""
    many: bool = False
    """Whether each source of the performer's faceset shows another person, see Note [Many performers]."""
    balance: float = 0.0
    """Share of each batch that is drawn evenly over head poses instead of evenly over faces."""
    half_until: float = 0.0
    """Share of the run, from its start, that is trained at half the resolution."""
    learning_rate: float = 1e-3
    warmup: int = 200
    """Steps until the full rate."""
    decay_from: float = 0.5
    """Share of the run after which the rate falls along a cosine."""
    optimizer: Literal["adamw", "adam", "adabelief", "schedule-free"] = "adamw"
    """How gradients become steps, see training.optimizers."""
    lr_dropout: float = 1.0
    """Share of the weights that each step changes; below 1 only with adabelief, DeepFaceLab's `lr_dropout`."""
    weight_decay: float = 1e-3
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the averaged weights, the ones that are evaluated and exported."""
    warp_until: float = 0.8
    """Share of the run over which the warp fades to nothing."""
    gan: float = 0.0
    """Weight of the discriminator at the end of the run; 0: none."""
    gan_from: float = 0.7
    """Share of the run after which the discriminator counts."""
    held_out: float = 0.1
    """Share of each source, at its end, that is never trained on."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bfloat16 autocast where the processor has the instructions for it."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: on a GPU. Where it cannot compile, the run goes on without."""
    checkpoint_activations: bool = False
    """Compute the decoders' activations again instead of keeping them: less memory, a quarter more time."""
    until_plateau: bool = False
    """Stop when the held-out score hardly rises any more, see training.plateau."""
    minutes: float | None = None
    """Wall-clock budget; counts over interruptions."""
    iterations: int | None = None
    """Budget in steps. With neither, `DEFAULT_MINUTES`."""
    evaluate_every: int = 250
    """Steps between looks at the held-out faces."""
    save_every: int = 250
    """Steps between checkpoints."""
    evaluate_every_s: float = 300.0
    """Seconds after which there is a look all the same, where steps are slow."""
    save_every_s: float = 120.0
    """Seconds after which there is a checkpoint all the same."""
    seed: int = 0
    threads: int | None = None
    """CPU threads; None: all cores."""

    def __post_init__(self) -> None:
        for name in (
            "learning_rate",
            "clip",
            "evaluate_every",
            "save_every",
            "evaluate_every_s",
            "save_every_s",
            "minutes",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} has to be above 0, got {value}")
        # Beyond these the libraries below crash instead of complaining.
        for name, most in (("batch", 4096), ("accumulate", 4096), ("threads", 256), ("iterations", 10**9)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise UsageError(f"{name} lies between 1 and {most}, got {value}")
        for name, largest in (
            ("decay_from", 1),
            ("warp_until", 1),
            ("ema", 1),
            ("held_out", 0.5),
            ("balance", 1),
            ("half_until", 1),
            ("gan_from", 1),
            ("lr_dropout", 1),
        ):
            if not 0 <= getattr(self, name) <= largest:
                raise UsageError(f"{name} lies between 0 and {largest}, got {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "seed", "gan"):
            if not 0 <= getattr(self, name) < 1 << 63:
                raise UsageError(f"{name} lies between 0 and {(1 << 63) - 1}, got {getattr(self, name)}")
        if self.until_plateau and not self.decay_from:
            raise UsageError("until_plateau needs a decay_from above 0: the rate falls once the score is flat")
        if self.half_until and self.model.grows and self.model.resolution < LEAST_GROWING:
            raise UsageError(f"below {LEAST_GROWING} px a model cannot start at half its size; set half_until = 0")
        if self.many and self.model.family != "liveswap":
            raise UsageError(f"a model of the family {self.model.family} does not tell performers apart; train without")
        if self.half_until and not self.model.grows:
            raise UsageError("half_until needs a model that can start small; set grows = true in [model]")
        if self.lr_dropout < 1 and self.optimizer != "adabelief":
            raise UsageError(f'lr_dropout needs optimizer = "adabelief", got {self.optimizer}')
        if self.batch % self.accumulate:
            raise UsageError(f"accumulate has to divide the batch of {self.batch}, got {self.accumulate}")
        if self.crop not in ("full", "whole") or self.precision not in ("auto", "fp32", "bf16"):
            raise UsageError(
                f"crop is full or whole and precision auto, fp32 or bf16, got {self.crop}, {self.precision}"
            )

    @property
    def geometry(self) -> CropGeometry:
        """What the model's crops show."""
        return {"full": full_face, "whole": whole_face}[self.crop](self.model.resolution)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the configuration") -> TrainConfig:
        """Build from plain values. Raises UsageError that names `where` and what is wrong."""
        parts = {"model": ModelConfig, "augment": AugmentConfig, "loss": LossConfig}
        try:
            for key in parts:
                if not isinstance(values.get(key, {}), Mapping):
                    raise ValueError(f"{key} has to be a section, got {values[key]!r}")
            sections = {key: _build(kind, values.get(key, {})) for key, kind in parts.items()}
            config: TrainConfig = _build(cls, {k: v for k, v in values.items() if k not in parts} | sections)
        except (TypeError, ValueError, AttributeError, UsageError) as error:
            raise UsageError(
                f"{where} cannot be used: {error}; compare it with the recipes in training/recipes"
            ) from error
        return config


LEAST_GROWING = 44
"""Pixels: half of it, halved again for the second SSIM, still holds a window of 11."""
DEFAULT_MINUTES = 60.0


def _build(kind: type[Any], values: Mapping[str, Any]) -> Any:
    known = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"unknown setting {unknown[0]!r}")
    hints = get_type_hints(kind)
    fitting = {name: _fit(name, value, hints[name]) for name, value in values.items()}
    return kind(**fitting)


_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
}


def _fit(name: str, value: Any, hint: Any) -> Any:
    """`value` as a setting of the type `hint`. Raises ValueError that names the setting."""
    options = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in options:
            raise ValueError(f"{name} is one of {', '.join(options)}, got {value!r}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} has to be a list, got {value!r}")
        return tuple(_fit(name, item, options[0]) for item in value)
    if type(None) in options:
        return None if value is None else _fit(name, value, next(o for o in options if o is not type(None)))
    kinds, what = _KINDS.get(hint, ((hint,), "a section"))
    if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{name} has to be {what}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} has to be finite, got {value!r}")
    return value


def list_recipes() -> list[TrainConfig]:
    """The shipped recipes, smallest model first, and then those of peers."""
    recipes = [load_recipe(path.stem) for path in RECIPES.glob("*.toml")]
    return sorted(recipes, key=lambda r: (r.style != "liveswap", r.model.resolution, r.name))


def load_recipe(name: str) -> TrainConfig:
    """A shipped recipe by name, or a recipe file by path. Raises UsageError."""
    path = RECIPES / f"{name}.toml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise UsageError(f"there is no preset {name!r}; choose one of {known}, or give the path of a recipe file")
    try:
        if path.stat().st_size > LARGEST_RECIPE:
            raise UsageError(f"{path} is too large for a recipe; give a TOML file of settings")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a readable recipe: {error}") from error
    return TrainConfig.from_dict({"name": path.stem} | values, where=str(path))
