"""Names what an ablation changes. A recipe in, the same recipe with one thing taken away or added out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from training.config import TrainConfig

Settings = Mapping[str, Any]
"""Settings by name, those of a section as `section.name`."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One change of a recipe."""

    name: str
    kind: Literal["without", "with"]
    """without: takes away something that the recipe has; with: tries something that it does not have."""
    settings: Settings | Callable[[TrainConfig], Settings]
    what: str
    """For people: what is different."""

    def apply(self, config: TrainConfig) -> TrainConfig:
        """The changed recipe. Raises UsageError for a setting that TrainConfig does not know."""
        settings = self.settings(config) if callable(self.settings) else self.settings
        return change(config, settings)


def change(config: TrainConfig, settings: Settings) -> TrainConfig:
    """`config` with other settings, checked as a recipe file is. Raises UsageError."""
    values = config.to_dict()
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        (values[section] if section else values)[key] = value
    return TrainConfig.from_dict(values, where="the variant")


def _rate(factor: float) -> Callable[[TrainConfig], Settings]:
    return lambda config: {"learning_rate": factor * config.learning_rate}


_PLAIN_LOSS = {"loss.edges": 0.0, "loss.tone": 0.0, "loss.frequency": 0.0, "loss.ms_structure": 0.0}

VARIANTS = (
    # The order is that of the ladder: from a plain trainer upwards, one rung for each.
    Variant("no-bf16", "without", {"precision": "fp32"}, "float32 instead of bfloat16 autocast"),
    Variant("no-warmup", "without", {"warmup": 0}, "the full rate from the first step"),
    Variant("constant-rate", "without", {"decay_from": 1.0}, "the rate does not fall"),
    Variant("no-average", "without", {"ema": 0.0}, "the newest weights instead of averaged ones"),
    Variant("no-clipping", "without", {"clip": 1e9}, "gradients of any size"),
    Variant("warp-to-the-end", "without", {"warp_until": 1.0}, "the warp fades over the whole run"),
    Variant("no-warp", "without", {"augment.warp": 0.0}, "inputs are never warped"),
    Variant(
        "stray-far",
        "without",
        {"augment.rotation_deg": 8.0, "augment.scale": 0.08, "augment.shift": 0.03},
        "faces turned, zoomed and shifted four times as far",
    ),
    Variant("no-tint", "without", {"augment.tint": 0.0}, "inputs keep their colours"),
    Variant("no-light", "without", {"augment.light": 0.0}, "brightness and contrast stay"),
    Variant("no-occluders", "without", {"augment.occluded": 0.0}, "nothing stands in front of faces"),
    Variant("no-edges", "without", {"loss.edges": 0.0}, "no L1 between Laplacians"),
    Variant("plain-loss", "without", _PLAIN_LOSS, "L1 and DSSIM alone"),
    Variant("no-details", "without", {"loss.details": 0.0}, "eyes and mouth count as any pixel"),
    Variant("no-align", "without", {"loss.align": 0.0}, "clouds of codes are not pulled together"),
    Variant("no-balance", "without", {"balance": 0.0}, "faces are drawn evenly"),
    Variant("no-half", "without", {"half_until": 0.0, "model.grows": False}, "full resolution all the time"),
    Variant("balance", "with", {"balance": 0.5}, "half of a batch drawn evenly over poses"),
    Variant("half", "with", {"half_until": 0.3, "model.grows": True}, "three tenths of the run at half resolution"),
    Variant("schedule-free", "with", {"optimizer": "schedule-free", "decay_from": 1.0}, "schedule-free AdamW"),
    Variant("adam", "with", {"optimizer": "adam", "weight_decay": 0.0}, "Adam"),
    Variant("adabelief", "with", {"optimizer": "adabelief", "weight_decay": 0.0}, "AdaBelief"),
    Variant("frequency", "with", {"loss.frequency": 1.0}, "focal frequency loss"),
    Variant("ms-ssim", "with", {"loss.ms_structure": 4.0, "loss.structure": 0.0}, "MS-SSIM instead of two DSSIMs"),
    Variant("liae", "with", {"model.family": "liae", "loss.align": 0.0}, "one decoder for both people"),
    Variant("rate-x2", "with", _rate(2.0), "twice the rate"),
    Variant("rate-half", "with", _rate(0.5), "half the rate"),
    Variant("batch-4", "with", {"batch": 4}, "4 faces of each person a step"),
    Variant("batch-16", "with", {"batch": 16}, "16 faces of each person a step"),
    Variant("code-128", "with", {"model.code": 128}, "a code of half the length"),
    Variant("code-512", "with", {"model.code": 512}, "a code of twice the length"),
    Variant("ema-fast", "with", {"ema": 0.99}, "weights averaged over a tenth of the steps"),
    Variant("flip", "with", {"augment.flip": True}, "mirrored faces, too"),
    Variant("gan", "with", {"gan": 0.1}, "a discriminator at the end of the run"),
)


def changes(variant: Variant, config: TrainConfig) -> bool:
    """Whether the variant makes another recipe of `config`; what a recipe does not have cannot be taken away."""
    return variant.apply(config) != config
