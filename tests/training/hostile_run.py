"""Opens hostile files in a process of its own. Folders and seeds in, what became of each as JSON out.

Python itself tells, through an audit hook, whenever code is compiled or run, a library is loaded, a process is
started, a connection opened or a file written: none of it may happen, but files in the target folder.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from realtime.errors import FacesetError, UsageError
from tests.training.foreign_files import dfl_dict, dfl_jpg, dfl_pak, faceswap_png, shot
from tests.training.hostile import CANARY, make_case
from training.faceset import Faceset
from training.faceset_edit import merge, write_picks
from training.import_faces import ImportConfig, import_faces
from training.realign import MeshSeeker

RUNNING = ("compile", "exec", "import", "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.")
FORBIDDEN = (*RUNNING, "pickle.", "socket.", "ctypes.")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.chmod", "os.truncate", "shutil.")


class Guard:
    """Writes down what must not happen, while it is watching."""

    def __init__(self, target: Path) -> None:
        self._target = str(target.resolve())
        self.watching = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {arguments[:1]!r}"[:200])
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and not self._ours(path):
                self.seen.append(f"open {path!r} for writing"[:200])
        elif event.startswith(CHANGING) and not self._ours(arguments[0]):
            self.seen.append(f"{event} {arguments[0]!r}"[:200])

    def _ours(self, path: object) -> bool:
        if isinstance(path, int):
            return True
        return os.path.realpath(os.fsdecode(str(path))).startswith(self._target)


def open_case(source: Path, out: Path, kind: str, seeker: MeshSeeker) -> str:
    """Import it; what is said about it. Raises what no user should see."""
    try:
        if kind == "set":
            write_picks(merge([Faceset.open(source)])[0], out)
        else:
            import_faces(source, out, ImportConfig(size=64), open_seeker=lambda: nullcontext(seeker))
    except (FacesetError, UsageError) as error:
        return str(error)
    return f"{len(Faceset.open(out))} faces"


def main(work: Path, cases: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """Run the cases below `work`; for each what was said and seen, CPU seconds, and memory in MB."""
    os.chdir(work)
    results = []
    target = work / "target"
    target.mkdir()
    guard = Guard(target)
    with MeshSeeker() as seeker:
        warm_up(work, target, seeker)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number, (kind, seed) in enumerate(cases):
            folder = work / "source" / f"{kind}-{seed}"
            folder.mkdir(parents=True)
            source = make_case(folder, kind, seed)
            there = set(os.listdir(work))
            grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            guard.seen, guard.watching, began_s = [], True, time.process_time()
            try:
                said = open_case(source, target / str(number), kind, seeker)
            except BaseException as error:  # whatever comes here is a failure, and is told
                said = f"!{type(error).__name__}: {error}"
            guard.watching = False
            results.append(
                {
                    "case": f"{kind}-{seed}",
                    "said": said,
                    "forbidden": guard.seen + sorted(set(os.listdir(work)) - there),
                    "seconds": round(time.process_time() - began_s, 3),
                    "grown_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown_kb) / 1024,
                    "canary": (work / CANARY).exists(),
                }
            )
        results.append({"grown_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024})
    return results


def warm_up(work: Path, target: Path, seeker: MeshSeeker) -> None:
    """Open genuine files of every kind: libraries that load late have loaded then."""
    pictures = {
        "a/00001_0.jpg": dfl_jpg(shot(), dfl_dict(shot())),
        "b/clip_000001_0.png": faceswap_png(shot(0, "head")),
        "c/faceset.pak": dfl_pak([dfl_jpg(shot())]),
    }
    for name, data in pictures.items():
        path = work / "genuine" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        said = open_case(path.parent, target / f"genuine-{name[0]}", "", seeker)
        assert said == "1 faces", said
    for kind in ("json", "set", "jpg"):
        folder = work / "genuine" / kind
        folder.mkdir()
        open_case(make_case(folder, kind, 1), target / f"genuine-{kind}", kind, seeker)


if __name__ == "__main__":
    told = main(Path(sys.argv[1]), [(kind, seed) for kind, seed in json.loads(sys.stdin.read())])
    sys.stdout.write(json.dumps(told))
