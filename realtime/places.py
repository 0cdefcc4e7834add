"""Where the user's own files live. The system's conventions in, folders out; nothing is made before it is needed."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def settings_folder() -> Path:
    """What the user has chosen and would carry to another computer."""
    return Path(platformdirs.user_config_dir("liveswap", appauthor=False))


def records_folder() -> Path:
    """What liveswap keeps about what it did on this computer: the run log, confirmations, the local certificate."""
    return Path(platformdirs.user_state_dir("liveswap", appauthor=False))
