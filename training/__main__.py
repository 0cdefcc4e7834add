"""Trains on several GPUs or machines: `torchrun --nproc-per-node 2 -m training IDENTITY PERFORMER --out RUN`.

A command line in, an exit code out, in each of the processes; alone it does what `liveswap train` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from realtime import front
from realtime.screen import Screen, log_lines
from training.command import add_train_flags, leads, train


def main(argv: Sequence[str] | None = None) -> int:
    """Train. Returns 0 when done, 1 after a failure while running, 2 after a mistake in the call."""
    flags = sys.argv[1:] if argv is None else argv

    def run() -> int:
        parser = front.Parser(prog="python -m training", description="Train, on as many GPUs as torchrun starts for.")
        add_train_flags(parser)
        front.add_common_flags(parser)
        args = parser.parse_args(flags)
        front.check_json(args.json)
        quiet = args.quiet or not leads()
        with log_lines(args.verbose, quiet):
            return train(args, Screen(quiet, json_on_stdout=args.json == "-"))

    return front.answer(run, debug="--debug" in flags, silent=not leads())


if __name__ == "__main__":
    code = main()
    if "RANK" in os.environ:
        from training.distributed import end_process

        end_process(code)
    sys.exit(code)
