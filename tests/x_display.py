"""A display without a screen. Its size in, a running Xvfb out; skips visibly where Xvfb is not installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def x_display(width: int, height: int) -> Iterator[str]:
    """The name of a display of this size that nobody else uses, for as long as the block lasts."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed; run: apt install xvfb")
    read_end, write_end = os.pipe()
    command = [program, "-displayfd", str(write_end), "-screen", "0", f"{width}x{height}x24", "-noreset"]
    server = subprocess.Popen(command, pass_fds=[write_end], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write_end)
    try:
        with os.fdopen(read_end) as told:
            number = told.readline().strip()  # written when the server is ready
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(10)
