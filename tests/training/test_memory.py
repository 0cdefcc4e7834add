"""Memory that is kept: large blocks freed and taken again, page faults counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS = """
import resource, sys, torch
from training.memory import keep_memory
if sys.argv[1] == "kept" and not keep_memory():
    sys.exit(77)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    taken = [torch.ones(1 << 20) for _ in range(6)]  # 4 MiB each
    more = [x * 2 for x in taken]
for _ in range(40):
    step()  # aligned blocks find their places after some times
before = faults()
for _ in range(20):
    step()
print(faults() - before)
"""


def faults(how: str) -> int:
    answer = subprocess.run([sys.executable, "-c", FAULTS, how], cwd=ROOT, capture_output=True, text=True, timeout=120)
    if answer.returncode == 77:
        pytest.skip("the C library of this system cannot be told")
    assert answer.returncode == 0, answer.stderr
    return int(answer.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only the GNU C library can be told")
def test_what_was_freed_is_taken_again_without_asking_the_system() -> None:
    assert faults("kept") * 10 < faults("usual")
