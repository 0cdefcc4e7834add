# mypy: ignore-errors
# ruff: noqa
"""One actor, ready to be rendered. An Identity in; mesh, textures and baked light out."""

from __future__ import annotations

from dataclasses import asdict

from realtime.actors import _model
from realtime.actors.identity import Identity

_NAMES = dict(lip_colour="lipamt", lip_gloss="lipgloss", eye_liner="liner", lashes="lash", brows="brow", eyes="eye", brow_density="browdens",
              brow_thickness="browthick", hair_streaks="hair2", hair_style="style", parting="part", neckline="vneck")


def _dense(identity):
    p = {_NAMES.get(k, k): v for k, v in asdict(identity).items() if v is not None}
    p["shape"] = {k.replace("_length", "len").replace("_", ""): v for k, v in p["shape"].items()}
    return p


class Actor:
    """One identity. Actor(ADA) is a person; Actor(ADA, body=BO, tone=1.0) wears ADA's face (shape inside the oval, skin, eyes,
    teeth) on BO's head, hair and body: the exact ideal face swap. `tone` (0 to 1) pulls the mean skin colour towards the body's."""

    def __init__(self, identity: Identity, body: Identity | None = None, tone: float = 0.0) -> None:
        self.identity, self.body, self.tone = identity, body, tone
        self.dense = _model.Actor(_dense(identity), _dense(body) if body is not None else None, tone)
