"""The manners of a command line. Flags in, checked values out; results as lines and JSON, errors as sentences."""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from realtime.errors import LiveswapError, UsageError
from realtime.plain_text import plain, plain_lines
from realtime.urls import redact_within

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""
EXTRAS = {
    "torch": "train",
    "safetensors": "train",
    "matplotlib": "train",
    "tensorboard": "train",
    "onnx": "export",
    "pyvirtualcam": "vcam",
    "tensorrt": "tensorrt",
    "mediapipe": "mediapipe",
    "dlib": "dlib",
}
"""Which extra brings which library."""


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one sentence: raises UsageError."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{redact_within(message)}; see {self.prog} --help")


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """What every command understands."""
    parser.add_argument(
        "--json", type=text, metavar="FILE", help="write the result as JSON to FILE, or to the output with -"
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say more; twice: everything")
    parser.add_argument("-q", "--quiet", action="store_true", help="say only what went wrong")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def text(given: str) -> str:
    """A flag's value that says something."""
    if not given:
        raise argparse.ArgumentTypeError("it is empty; give a name")
    return given


def path(given: str) -> Path:
    """A file or folder."""
    return Path(text(given))


def number(given: str) -> float:
    """Any finite number."""
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{given!r} is not a number")
    return value


def positive(given: str) -> float:
    """A number above 0."""
    value = number(given)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{given} is not above 0")
    return value


def count(given: str) -> int:
    """A whole number above 0."""
    value = positive(given)
    if value != int(value):
        raise argparse.ArgumentTypeError(f"{given} is not a whole number")
    return int(value)


def check_json(name: str | None) -> None:
    """Refuse what --json cannot write before the work, not after it. Raises UsageError."""
    if name in (None, "-"):
        return
    file = Path(name)
    if file.is_dir():
        raise UsageError(f"{file} is a folder; give --json the name of a file")
    if not file.parent.is_dir():
        raise UsageError(f"the folder {file.parent} of --json does not exist; make it, or choose another")


def write_json(name: str | None, result: dict[str, Any]) -> None:
    """The result where --json wants it: a file, the output with -, or nowhere. Raises LiveswapError."""
    if name is None:
        return
    written = json.dumps(result, indent=2) + "\n"
    if name == "-":
        sys.stdout.write(written)
        return
    from realtime.files import explain as explain_files
    from realtime.files import write_atomically

    try:
        write_atomically(Path(name), written)
    except OSError as error:
        raise LiveswapError(f"the JSON was not written: {explain_files(error, Path(name))}") from error


def lines(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """`name  value` for every number and word of a result, nested ones with dots."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from lines(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield f"  {prefix + name:34} {value:.4g}"
        elif isinstance(value, (str, int)):
            yield f"  {prefix + name:34} {plain(value, 2000)}"


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the flags that were really given."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def answer(command: Callable[[], int], *, debug: bool, silent: bool = False) -> int:
    """Run `command`: 0 when done, 1 after a failure while running, 2 after a mistake in the call.

    An error is told in one sentence, unless `silent`; with `debug` it shows where it came from.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except SystemExit as done:  # argparse, after --help and --version
        return int(done.code or 0)
    except BrokenPipeError:  # whoever read our output has gone, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, Exception) as error:
        if debug:
            traceback.print_exc()
        sentence, code = explain(error)
        if not silent:
            sys.stderr.write(f"liveswap: {' '.join(plain_lines(sentence).split())}\n")
        return code


def explain(error: BaseException) -> tuple[str, int]:
    """What to tell the user about an error that ended a command, and the exit code."""
    if isinstance(error, LiveswapError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt) or _came_from_ctrl_c(error):
        return "stopped by Ctrl-C; what was finished before it is kept", STOPPED
    if _lacks_memory(error):
        return "there is not enough memory; close other programs, or ask for less with --batch or --size", 1
    if isinstance(error, ImportError) and "cannot open shared object file" in str(error):
        return (
            f"a system library is missing ({error}); on Debian: apt-get install libgl1 libglib2.0-0 libxcb1 libsm6",
            1,
        )
    if isinstance(error, OSError) and error.errno is not None:
        from realtime.files import explain as explain_files

        named = error.filename if isinstance(error.filename, (str, bytes)) else "a file"
        return explain_files(error, Path(os.fsdecode(named))), 1
    library = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if library and library not in ("realtime", "training", "export"):
        extra = f".[{EXTRAS[library]}]" if library in EXTRAS else "."
        remedy = f'in the folder of liveswap, run: pip install -e "{extra}" -c constraints.txt'
        return f"{library} is not installed; {remedy}", 1
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"unexpected {what}; this is a bug; run with --debug for the traceback", 1


def _came_from_ctrl_c(error: BaseException | None) -> bool:
    """Whether an error is what became of a Ctrl-C: libraries that are loading make an ImportError of it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or (
            isinstance(error, ImportError) and "initialization failed" in str(error)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _lacks_memory(error: BaseException) -> bool:
    # torch, ONNX Runtime and OpenCV each say it with a class of their own.
    said = ("DefaultCPUAllocator", "allocate memory", "Insufficient memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or any(words in str(error) for words in said)
    )
