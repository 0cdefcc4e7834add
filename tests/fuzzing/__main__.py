"""Fuzzes readers for some minutes each and tells what broke. Exit code 1 when something did.

python -m tests.fuzzing [READER ...] [--minutes 10] [--seed N] [--keep FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import Progress

from realtime.files import write_atomically
from tests.fuzzing.readers import READERS
from tests.fuzzing.run import Tally, fuzz


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description="Feeds readers with damaged files.")
    parser.add_argument("readers", nargs="*", choices=[*READERS, []], help="default: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each reader (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that broke a reader")
    parser.add_argument("--json", type=Path, help="file for the counts")
    args = parser.parse_args()
    tallies: dict[str, Tally] = {}
    with Progress() as progress:
        for name in args.readers or READERS:
            task = progress.add_task(name, total=None)

            def show(tally: Tally, task: object = task) -> None:
                progress.update(task, description=f"{name}: {dict(tally.outcomes)}")  # type: ignore[arg-type]  # noqa: B023

            with TemporaryDirectory() as work:
                tallies[name] = fuzz(
                    name, Path(work), seconds=60 * args.minutes, seed=args.seed, keep=args.keep, on_case=show
                )
            progress.update(task, total=1, completed=1)
    for tally in tallies.values():
        for line in tally.findings:
            sys.stdout.write(line + "\n")
    if args.json is not None:
        told = {
            name: {"outcomes": dict(tally.outcomes), "findings": len(tally.findings), "peak_mb": tally.peak_mb}
            for name, tally in tallies.items()
        }
        write_atomically(args.json, json.dumps({"minutes": args.minutes, "readers": told}, indent=1) + "\n")
    return 1 if any(tally.findings for tally in tallies.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
