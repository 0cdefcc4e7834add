"""Asks the system about main memory. Nothing in; how much is free, and how much this process has used, in bytes out."""

from __future__ import annotations

import sys
from pathlib import Path

from realtime.errors import UsageError


def free_bytes() -> int:
    """Main memory that this process may still take. Raises UsageError where the system does not tell."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = [int(facts["MemAvailable"].split()[0]) << 10]
    except (OSError, KeyError, ValueError) as error:
        raise UsageError("this system does not tell how much memory is free; give --batch a number") from error
    return min([*free, *_left_in_group()])


def _left_in_group() -> list[int]:
    """What the control groups of this process (containers, batch systems) leave it, of both kinds of groups."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    left: list[int] = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers not in ("", "memory"):
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        root = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
        # A container sees its own group at the root.
        for folder in (root / path.lstrip("/"), root):
            try:
                most, used = (int((folder / name).read_text()) for name in names)
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # no such group, or "max"
                continue
            # Pages of files that were read are given back when they are needed.
            left.append(most - used + int(stat.get("inactive_file", stat.get("total_inactive_file", 0))))
    return left


def largest_use_bytes() -> int:
    """The most main memory that this process has held, in bytes."""
    try:
        import resource
    except ImportError as error:
        raise UsageError("this system does not tell how much memory is used") from error
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used << 10
