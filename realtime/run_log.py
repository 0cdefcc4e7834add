"""Writes down what was run. Facts of a run in, lines of JSON in the user's own log out.

Note [Run log]
    For the person who runs liveswap, and for whoever has to answer later for what went out. One line when a run
    begins, one when it ends: with which models, from what kind of source to what kind of sinks, with the visible mark
    or without, how long and how many pictures. Never a picture, a name of a file or an address. A run that was killed
    has a first line and no last one. Nobody but the owner may read the log, and it leaves the computer with nobody.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from realtime.errors import LiveswapError
from realtime.files import append_privately, explain, make_private_folder
from realtime.places import records_folder

NAME = "runs.jsonl"
MAX_BYTES = 8 << 20
"""A longer log is put aside as runs.1.jsonl, over the one before it."""
_log = logging.getLogger(__name__)


class RunLog:
    """The log of one run. Lines of several programs do not mix."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: another file than the user's own."""
        self.path = path or records_folder() / NAME
        self._run = secrets.token_hex(8)

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write the first line. Raises LiveswapError when that is not possible."""
        try:
            make_private_folder(self.path.parent)
            self._put_aside()
            self._write("begin", facts)
        except OSError as error:
            raise LiveswapError(f"the run log cannot be written: {explain(error, self.path)}") from error

    def end(self, facts: Mapping[str, Any]) -> None:
        """Write the last line; a warning when that is not possible."""
        try:
            self._write("end", facts)
        except OSError as error:
            _log.warning("the run log cannot be written: %s", explain(error, self.path))

    def _write(self, event: str, facts: Mapping[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        append_privately(self.path, json.dumps({"event": event, "run": self._run, "at": now, **facts}))

    def _put_aside(self) -> None:
        with suppress(FileNotFoundError):
            if self.path.stat().st_size > MAX_BYTES:
                os.replace(self.path, self.path.with_suffix(f".1{self.path.suffix}"))
