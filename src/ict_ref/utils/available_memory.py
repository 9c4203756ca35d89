"""Memory that this process may still allocate on the host."""

import os
from collections.abc import Iterator
from pathlib import Path

V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
V2 = ("memory.max", "memory.current")


def available_bytes(root: Path = Path("/")) -> int:
    """Return the available memory of the host, in bytes, or less where a control group of this process limits it.

    SLURM and containers limit memory by control groups. `root` is the file system's root. Without /proc/meminfo, as on
    macOS, the whole memory of the host is returned.
    """
    meminfo = root / "proc" / "meminfo"
    if not meminfo.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return min([1024 * int(lines["MemAvailable"].split()[0]), *_left_by_control_groups(root)])


def _left_by_control_groups(root: Path) -> Iterator[int]:
    """Yield what each control group with a limit leaves, from that of this process upward."""
    membership, mount = root / "proc" / "self" / "cgroup", root / "sys" / "fs" / "cgroup"
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top, names = (mount, V2) if controllers == "" else (mount / "memory", V1)
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                limit, used = (_number(folder / name) for name in names)
                if limit is not None and used is not None:
                    yield max(0, limit - used)
                if folder == top:
                    break


def _number(file: Path) -> int | None:
    """Return the number in a file; None if it cannot be read or holds a word, such as max."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
