"""Remembers that a person wants a model's pictures without the visible mark. A model in, yes or no out.

Note [Without the mark]
    The mark can be left out, for a film whose credits say it or a stage where everybody knows. That is asked once for
    each model, by its checksum, and the answer is kept with its date. A model whose card requires the mark is never
    shown without it. Recordings keep their manifest either way, and both manifest and run log say that the mark was
    left out.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from realtime.dfm import Dfm
from realtime.errors import LiveswapError, ModelError
from realtime.files import atomic_file, explain, make_private_folder
from realtime.places import records_folder

NAME = "without-mark.json"
_LARGEST = 1 << 20


class Waivers:
    """What was confirmed on this computer."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or records_folder() / NAME

    def missing(self, models: list[Dfm]) -> list[Dfm]:
        """The models that nobody has confirmed yet. Raises ModelError for one that is never shown without the mark."""
        for model in models:
            if requires_mark(model):
                raise ModelError(
                    f"the model {model.path} may be shown only with the AI mark, its card says so; leave out --no-badge"
                )
        known = self._read()
        return [model for model in models if model.sha256 not in known]

    def confirm(self, models: list[Dfm]) -> None:
        """Remember that these may be shown without the mark. Raises LiveswapError when it cannot be written."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        known = self._read() | {model.sha256: {"at": now, "name": model.path.name} for model in models}
        try:
            make_private_folder(self.path.parent)
            with atomic_file(self.path) as part:
                part.touch(mode=0o600)
                part.write_text(json.dumps(known, indent=1) + "\n")
        except OSError as error:
            raise LiveswapError(f"the confirmation cannot be kept: {explain(error, self.path)}") from error

    def _read(self) -> dict[str, Any]:
        """By checksum; a file that says nothing sensible confirms nothing."""
        try:
            with self.path.open("rb") as file:
                known = json.loads(file.read(_LARGEST))
        except (OSError, ValueError, RecursionError):
            return {}
        return known if isinstance(known, dict) else {}


def requires_mark(model: Dfm) -> bool:
    """Whether the card of the model says that its pictures always carry the visible mark."""
    return model.card.get("badge") == "required"
