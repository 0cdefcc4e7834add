"""Who an actor is. A seed in, one Identity out: colours, hair and the shape of a face; no real person is in it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

Rgb = tuple[int, int, int]
"""Red, green, blue in [0, 255], as one reads them in a colour picker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceShape:
    """Signed amounts, about -1 to 1, by which a face differs from the generic mesh; 0 everywhere is that mesh."""

    width: float = 0.0
    """Of the whole head."""
    forehead: float = 0.0
    """Height."""
    brow_height: float = 0.0
    brow_ridge: float = 0.0
    """How far the brows stand out."""
    eye_size: float = 0.0
    eye_gap: float = 0.0
    eye_tilt: float = 0.0
    """Positive: outer corners up."""
    cheekbone: float = 0.0
    bridge: float = 0.0
    """How far the bridge of the nose stands out."""
    nose_length: float = 0.0
    nose_width: float = 0.0
    nose_tip: float = 0.0
    """How far the tip of the nose stands out."""
    mouth_width: float = 0.0
    lips: float = 0.0
    """Fullness."""
    jaw: float = 0.0
    """Width of the lower face."""
    taper: float = 0.0
    """Positive: a pointed chin."""
    chin: float = 0.0
    """Length."""
    chin_out: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            amount = getattr(self, entry.name)
            if not abs(amount) <= 2:
                raise ValueError(f"{entry.name} is a signed amount of about -1 to 1, got {amount}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Everything that makes one actor; two equal identities give the same pixels. Amounts are about 0 to 1."""

    seed: int
    """Draws the unrepeatable part: blotches, single hairs, freckles, the asymmetry of the face."""
    skin: Rgb
    lips: Rgb
    brows: Rgb
    eyes: Rgb
    hair: Rgb
    cloth: Rgb
    hair_streaks: Rgb | None = None
    """Colour of single streaks; None: like the hair."""
    hair_style: Literal["short", "long"] = "short"
    parting: float = 0.15
    """Where the hair parts, radians from the middle."""
    sweep: float = 0.5
    """How far the hair is combed away from the parting."""
    quiff: float = 0.0
    """Extra height above the forehead, cm."""
    blush: float = 0.1
    bags: float = 0.08
    """Darkness under the eyes."""
    folds: float = 0.2
    """Lines from the nose to the mouth."""
    freckles: float = 0.0
    beard: float = 0.0
    """Stubble."""
    lip_colour: float = 0.8
    lip_gloss: float = 0.3
    eye_liner: float = 0.4
    lashes: float = 0.7
    """Length."""
    brow_density: float = 1.0
    brow_thickness: float = 1.0
    glasses: bool = False
    build: float = 1.0
    """Width of neck and shoulders; 1 is average."""
    collar: float = 17.8
    """Height of the collar below the eyes, cm."""
    neckline: float = 0.0
    """Depth of the V, cm."""
    shape: FaceShape = field(default_factory=FaceShape)

    def __post_init__(self) -> None:
        for name in ("skin", "lips", "brows", "eyes", "hair", "cloth", "hair_streaks"):
            colour = getattr(self, name)
            if colour is not None and (len(colour) != 3 or not all(0 <= level <= 255 for level in colour)):
                raise ValueError(f"{name} is red, green, blue in 0 to 255, got {colour}")
        if self.hair_style not in ("short", "long"):
            raise ValueError(f"hair_style is 'short' or 'long', got {self.hair_style!r}")
        if self.seed < 0:
            raise ValueError(f"a seed is not negative, got {self.seed}")


ADA = Identity(
    seed=11,
    skin=(232, 190, 168),
    lips=(188, 84, 88),
    brows=(96, 58, 36),
    eyes=(84, 128, 84),
    hair=(104, 52, 32),
    cloth=(38, 92, 104),
    hair_streaks=(150, 84, 48),
    hair_style="long",
    parting=0.22,
    sweep=0.4,
    blush=0.12,
    bags=0.06,
    folds=0.12,
    freckles=0.55,
    lip_colour=0.75,
    lip_gloss=0.4,
    eye_liner=0.7,
    lashes=1.1,
    brow_density=0.75,
    brow_thickness=0.75,
    collar=20.5,
    neckline=3.5,
    shape=FaceShape(
        jaw=-0.45,
        taper=0.5,
        nose_width=-0.25,
        nose_tip=-0.2,
        nose_length=-0.15,
        lips=0.35,
        eye_size=0.35,
        eye_tilt=0.4,
        cheekbone=0.4,
        brow_height=0.35,
        chin=-0.2,
        brow_ridge=-0.3,
        mouth_width=-0.1,
    ),
)
"""The identity of the demo: the face that is swapped in."""

BO = Identity(
    seed=23,
    skin=(188, 138, 108),
    lips=(158, 98, 84),
    brows=(24, 18, 16),
    eyes=(72, 44, 24),
    hair=(26, 22, 22),
    cloth=(120, 44, 40),
    hair_streaks=(52, 42, 38),
    hair_style="short",
    parting=0.5,
    quiff=0.9,
    blush=0.05,
    bags=0.14,
    folds=0.32,
    beard=0.8,
    lip_colour=0.55,
    lip_gloss=0.1,
    eye_liner=0.15,
    lashes=0.5,
    brow_density=1.25,
    brow_thickness=1.15,
    shape=FaceShape(
        jaw=0.3,
        width=-0.25,
        nose_width=0.45,
        nose_tip=0.4,
        nose_length=0.3,
        bridge=0.5,
        lips=-0.3,
        eye_size=-0.25,
        eye_tilt=-0.3,
        brow_height=-0.3,
        brow_ridge=0.6,
        chin=0.45,
        chin_out=0.3,
        mouth_width=0.25,
        eye_gap=-0.2,
    ),
)
"""The performer of the demo: the face that is replaced."""
