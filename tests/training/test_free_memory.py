"""Free memory is below what there is, and the largest use of a process follows what it takes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from training.free_memory import free_bytes, largest_use_bytes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_free_memory_is_some_and_not_more_than_there_is() -> None:
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) << 10
    assert 16 << 20 < free_bytes() <= total


@pytest.mark.skipif(sys.platform == "win32", reason="this system does not tell how much memory is used")
def test_the_largest_use_holds_what_was_taken_and_stays_when_it_is_given_back() -> None:
    taken = np.ones(largest_use_bytes() // 8 + (8 << 20))  # more than ever before
    most = largest_use_bytes()
    assert most > taken.nbytes
    del taken
    assert largest_use_bytes() >= most
