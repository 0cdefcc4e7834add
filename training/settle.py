"""Settles what a run is, before its first step. A folder and a configuration in, the configuration that counts out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from realtime.errors import UsageError
from training import checkpoint
from training.checkpoint import RunRecord
from training.config import DEFAULT_MINUTES, TrainConfig
from training.faceset import FEWEST_TO_HOLD_OUT

_log = logging.getLogger(__name__)


def settle(
    run: Path,
    config: TrainConfig,
    facesets: dict[str, dict[str, Any]],
    *,
    resume: bool,
    minutes: float | None,
    iterations: int | None,
) -> TrainConfig:
    """The configuration that counts, with run.json on disk.

    With `resume`, the run's own configuration, of which `config` replaces threads and precision where it has them.
    `minutes` and `iterations` replace the budget. Raises UsageError, TrainingError.
    """
    if run.exists() and not run.is_dir():
        raise UsageError(f"{run} is a file; give --out the name of a folder")
    if facesets["identity"]["sha256"] == facesets["performer"]["sha256"]:
        raise UsageError("identity and performer are the same faceset; give those of two people")
    for side, facts in facesets.items():
        if facts["faces"] < FEWEST_TO_HOLD_OUT:
            _log.warning(
                "the %s has %d faces: too few to hold some back, so it is scored on what it is trained on",
                side,
                facts["faces"],
            )
    trained = any((run / name).is_file() for name in (checkpoint.LATEST, checkpoint.BEST))
    if trained and not (run / checkpoint.RUN).is_file():
        raise UsageError(f"{run} holds weights but no {checkpoint.RUN}; restore it, or give another --out")
    if (run / checkpoint.RUN).is_file() and (resume or trained):
        if not resume:
            raise UsageError(f"{run} holds a run already; pass --resume to go on with it, or another --out")
        record = checkpoint.read_run(run)
        if not (run / checkpoint.LATEST).is_file():
            _log.warning("%s has no %s: it starts from the first step again", run, checkpoint.LATEST)
        for side, now in facesets.items():
            if record.facesets.get(side, {}).get("sha256") != now["sha256"]:
                raise UsageError(f"{run} was trained on another {side} faceset; give that one, or another --out")
        threads, precision = config.threads or record.config.threads, config.precision
        config = replace(record.config, threads=threads)
        if precision != "auto":
            config = replace(config, precision=precision)
    if minutes is not None or iterations is not None:
        config = replace(config, minutes=minutes, iterations=iterations)
    if config.minutes is None and config.iterations is None and not config.until_plateau:
        config = replace(config, minutes=DEFAULT_MINUTES)
    checkpoint.write_run(run, RunRecord(config, facesets))
    return config
