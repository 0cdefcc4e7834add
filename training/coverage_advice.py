"""Chooses a preset for two sets of faces. Coverage and the shipped recipes in, advice out; nothing here loads torch.

Note [Which preset]
    A model paints a face as high as its crop makes it: resolution x height of the face on the canonical square /
    coverage. More than the identity's film holds, or than the performer's shows, is wasted, and less is soft: the
    preset is the one of ours whose face is nearest to what both have, in octaves, of which those too much count
    WASTED times. What it takes and gives is what was measured of it, see training.presets; where nobody has measured
    it, its own budget is all that is known.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from realtime.align import canonical_mesh, full_face, whole_face
from realtime.errors import UsageError
from training.coverage import Coverage
from training.coverage_facts import SetFacts

RECIPES = Path(__file__).with_name("recipes")
_DEFAULT_MINUTES = 60.0
"""Of a recipe without a budget, as training.config has it."""
WASTED = 1.5
_HAIRLINE, _CHIN = 10, 152
_ON_A_CPU_PX = 128
"""Larger models take days on a processor."""
_LARGEST_JSON = 4 << 20


@dataclass(frozen=True, slots=True)
class Offer:
    """A preset, as far as choosing one needs it."""

    name: str
    about: str
    resolution: int
    crop: str
    """whole or full."""
    minutes: float
    identity_transfer: float | None
    """Measured on rendered actors, 0: still the performer, 1: the exact answer; None where nobody has."""
    measured_minutes: float | None
    """Of training that gave it."""
    machine: str

    @property
    def face_px(self) -> float:
        """Height of the face that it paints, hairline to chin."""
        coverage = {"whole": whole_face, "full": full_face}[self.crop](self.resolution).coverage
        return self.resolution * float(canonical_mesh()[_CHIN, 1] - canonical_mesh()[_HAIRLINE, 1]) / coverage


@dataclass(frozen=True, slots=True)
class Advice:
    """What to train, and what to expect."""

    preset: str
    sentence: str
    resolution: int
    minutes: float
    expected_transfer: float | None
    """Identity transfer of the preset times the predicted share; None where the preset was never measured."""
    expected_share: float
    size: int | None
    """What to give `extract --size`, when the stored crops hold less than preset and film would; else None."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_offers(folder: Path = RECIPES) -> list[Offer]:
    """Our own presets, smallest first; those that are baselines of others are left out. Raises UsageError."""
    scored = _scored(folder / "measured.json")
    offers = []
    for path in folder.glob("*.toml"):
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            if values.get("style", "liveswap") != "liveswap":
                continue
            score = scored.get(path.stem, {})
            offers.append(
                Offer(
                    name=path.stem,
                    about=str(values.get("about", "")),
                    resolution=int(values["model"]["resolution"]),
                    crop=str(values.get("crop", "full")),
                    minutes=float(values.get("minutes", _DEFAULT_MINUTES)),
                    identity_transfer=score.get("identity_transfer"),
                    measured_minutes=score.get("minutes"),
                    machine=str(score.get("machine", "")),
                )
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is not a readable recipe; install liveswap again") from error
    return sorted(offers, key=lambda offer: (offer.face_px, offer.name))


def _scored(path: Path) -> dict[str, dict[str, Any]]:
    """The last score of every recipe that was measured, by name; none where nothing was."""
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError("too large")
        entries = json.loads(path.read_text(encoding="utf-8"))["scored"]
        return {str(entry["recipe"]): dict(entry) for entry in entries}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged; install liveswap again, or remove it") from error


def find_offer(offers: Sequence[Offer], name: str) -> Offer:
    """The preset `name`. Raises UsageError."""
    for offer in offers:
        if offer.name == name:
            return offer
    raise UsageError(f"there is no preset {name!r} to judge; choose one of {', '.join(each.name for each in offers)}")


def choose(offers: Sequence[Offer], identity: SetFacts, performer: SetFacts) -> Offer:
    """See Note [Which preset]."""
    there = min(float(np.median(facts.native_px)) for facts in (identity, performer))
    octaves = [math.log2(offer.face_px / max(there, 1.0)) for offer in offers]
    return min(zip(octaves, offers, strict=True), key=lambda each: max(-each[0], WASTED * each[0]))[1]


def advise(found: Coverage, offer: Offer, chosen: bool) -> Advice:
    """What to train with `offer`; `chosen`: by the user, who is then told what would fit, and not by us."""
    height = float(np.median(found.identity.native_px))
    size = _larger_crops(found, offer)
    why = (
        "as you chose"
        if chosen
        else f"its face is {offer.face_px:.0f} pixels high, the identity's film has {height:.0f}"
    )
    said = f"Train {offer.name} ({offer.resolution} pixels; {why}) for about {_span(offer.minutes)}"
    expected = None if offer.identity_transfer is None else offer.identity_transfer * found.score
    if expected is not None:
        said += (
            f"; expect an identity transfer of about {expected:.2f}, where two covered sets gave "
            f"{offer.identity_transfer:.2f} in {offer.measured_minutes:g} minutes on {offer.machine}"
        )
    else:
        share = f"about {100 * found.score:.0f} %" if found.score >= 0.01 else "less than 1 %"
        said += f"; expect {share} of what it gives with a set that covers everything"
    if offer.resolution > _ON_A_CPU_PX:
        said += ". Without a GPU, train light-128 instead"
    if size is not None:
        said += f". Extract both sets again with --size {size} first: their crops hold less than their films do"
    return Advice(
        offer.name, said + ".", offer.resolution, offer.minutes, _rounded(expected), round(found.score, 4), size
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _larger_crops(found: Coverage, offer: Offer) -> int | None:
    """The size of crops that would hold what the preset paints and both films have, when the stored ones do not."""
    for facts in (found.identity, found.performer):
        there = min(float(np.median(facts.native_px)), offer.face_px)
        if there > 1.15 * facts.stored_px:
            per_px = float(canonical_mesh()[_CHIN, 1] - canonical_mesh()[_HAIRLINE, 1]) / whole_face(256).coverage
            return int(-(-there / per_px // 64) * 64)
    return None


def _span(minutes: float) -> str:
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:g} hours"
