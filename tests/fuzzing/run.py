"""Damages genuine files and watches what their reader does. A reader and a budget in, findings out.

Note [Findings]
    A finding is a reader that neither reads a damaged file nor refuses it with one sentence: it raises something else,
    dies, hangs (PATIENCE_S), or takes more memory (GROWTH_MB beyond what genuine files take). The damaged file is kept
    as FOLDER/READER/NAME, and tests/test_fuzzing.py reads all that were ever found again.
"""

from __future__ import annotations

import json
import random
import selectors
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fuzzing.mutate import mutate
from tests.fuzzing.readers import READERS, Reader

PATIENCE_S = 20.0
"""A reader that takes longer for a file of some kilobytes hangs."""
GROWTH_MB = 1500
ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """A process that reads; a new one after each that died."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def read(self, folder: Path, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """What became of a folder: `what` is read, refused, broken, dead or hung."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{folder}\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(patience_s):
                self.end()
                return {"what": "hung", "said": f"no answer within {patience_s:g} s", "peak_mb": 0}
        line = process.stdout.readline()
        if line:
            told: dict[str, Any] = json.loads(line)
            return told
        code = process.wait(10)
        self.end()
        return {"what": "dead", "said": f"the process ended with {code}", "peak_mb": 0}

    def end(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            command = [sys.executable, "-m", "tests.fuzzing.worker", self._name]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
            )
        return self._process


@dataclass
class Tally:
    """What came of one reader."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    """A line each: which file, what it did."""
    peak_mb: int = 0


def fuzz(
    name: str,
    work: Path,
    *,
    cases: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    keep: Path | None = None,
    on_case: Callable[[Tally], None] | None = None,
) -> Tally:
    """Try `cases` damaged folders, or as many as fit into `seconds`. `work` is an empty folder for them."""
    reader, chance, tally = READERS[name], random.Random(f"{name} {seed}"), Tally()
    genuine = work / "genuine"
    genuine.mkdir(parents=True)
    reader.make(genuine)
    paths = sorted({path for pattern in reader.damaged for path in genuine.glob(pattern) if path.is_file()})
    others = [path.read_bytes() for path in paths]
    end_s = None if seconds is None else time.monotonic() + seconds
    with Worker(name) as worker:
        first = worker.read(genuine, 3 * PATIENCE_S)
        if first["what"] != "read":
            raise AssertionError(f"{name} does not read what is genuine: {first['said']}")
        count = 0
        while (cases is None or count < cases) and (end_s is None or time.monotonic() < end_s):
            victim = chance.choice(paths)
            folder = work / "case"
            shutil.copytree(genuine, folder)
            damaged = folder / victim.relative_to(genuine)
            damaged.write_bytes(mutate(victim.read_bytes(), chance, others))
            told = worker.read(folder)
            _judge(tally, told, first["peak_mb"], name, reader, damaged, keep, count)
            shutil.rmtree(folder)
            count += 1
            if on_case is not None:
                on_case(tally)
    return tally


def _judge(
    tally: Tally,
    told: dict[str, Any],
    usual_mb: int,
    name: str,
    reader: Reader,
    damaged: Path,
    keep: Path | None,
    count: int,
) -> None:
    what = str(told["what"])
    if told["peak_mb"] > max(usual_mb, tally.peak_mb) + GROWTH_MB:
        what = "grown"
    tally.peak_mb = max(tally.peak_mb, int(told["peak_mb"]))
    tally.outcomes[what] += 1
    if what in ("read", "refused"):
        return
    tally.findings.append(f"{name} {damaged.name} case {count}: {what}: {told['said']}")
    if keep is not None:
        place = keep / name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(damaged, place / f"{count:06d}-{damaged.name}")
