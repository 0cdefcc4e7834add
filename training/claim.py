"""Keeps a run for one training at a time. A folder in; held while the block lasts, or one sentence about who holds it.

The system itself forgets a claim whose process was killed, and nothing is left in the folder. Where a system or a disk
knows no claims (Windows, some network disks), nobody is stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realtime.errors import TrainingError, UsageError
from realtime.files import explain


@contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Make the folder `run` and hold it. Raises UsageError while another training holds it, TrainingError."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    if run.exists() and not run.is_dir():
        raise UsageError(f"{run} is a file; give --out the name of a folder")
    try:
        run.mkdir(parents=True, exist_ok=True)
        folder = os.open(run, os.O_RDONLY)
    except OSError as error:
        raise TrainingError(explain(error, run)) from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{run} is being trained by another process; wait for it, or give another --out"
            ) from error
        except OSError:  # a disk without claims
            pass
        yield
    finally:
        os.close(folder)
