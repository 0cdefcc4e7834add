"""Reads damaged folders in a process of its own. Folders on the input, outcomes as JSON on the output.

    python -m tests.fuzzing.worker READER

An outcome has `what`: read, refused (a LiveswapError of one line), or broken with the traceback; and `peak_mb`, the
most memory that the process ever took.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

from realtime.errors import LiveswapError
from tests.fuzzing.readers import READERS, Reader

MEMORY_BYTES = 16 << 30
"""Of address space: beyond it an allocation fails here, instead of the machine."""


def outcome(reader: Reader, folder: Path) -> dict[str, Any]:
    """What becomes of a damaged folder."""
    try:
        reader.read(folder)
    except LiveswapError as error:
        said = str(error)
        fine = said and "\n" not in said and len(said) < 2000
        return {"what": "refused" if fine else "broken", "said": said[:2000]}
    except BaseException:
        return {"what": "broken", "said": traceback.format_exc()[-4000:]}
    return {"what": "read", "said": ""}


def main() -> None:
    """Answer line by line until the input ends."""
    reader = READERS[sys.argv[1]]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        told = outcome(reader, Path(line.rstrip("\n")))
        told["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        answers.write(json.dumps(told) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
