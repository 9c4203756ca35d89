"""Folders as they are before and after a command, compared byte by byte."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Tree: TypeAlias = dict[str, bytes]
"""Content of each file by its relative path; a folder's name ends in a slash, a link's content is `-> TARGET`."""
MEASURED = (
    "images_per_second", "seconds_per_step", "tflop_per_second", "peak_memory_bytes", "seconds", "date", "time",
    "duration",
)  # fmt: skip
"""Entries of JSON that measure time or memory, which no two runs have in common."""
MEASURED_XML = re.compile(rb' (time|timestamp|hostname)="[^"]*"|<property name="duration" [^>]*>')


@dataclass(frozen=True)
class Difference:
    """Differences of a tree from the expected one."""

    missing: tuple[str, ...]
    changed: tuple[str, ...]
    extra: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.extra)

    def __str__(self) -> str:
        named = {"missing": self.missing, "other bytes": self.changed, "left over": self.extra}
        return "; ".join(f"{word}: {', '.join(names[:4])}" for word, names in named.items() if names)


def tree(folder: Path) -> Tree:
    """Return the tree below a folder."""
    found: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}".encode()
        elif path.is_dir():
            found[f"{name}/"] = b""
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[name] = b"special"
    return found


def comparable(name: str, content: bytes) -> bytes:
    """Return the content of a file without measured times and memory."""
    if name.endswith((".json", ".jsonl")):
        try:
            lines = content.splitlines() if name.endswith(".jsonl") else [content]
            return b"\n".join(json.dumps(_without_measured(json.loads(line))).encode() for line in lines)
        except ValueError:
            return content
    return MEASURED_XML.sub(b"", content) if name.endswith(".xml") else content


def _without_measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_measured(one) for key, one in value.items() if key not in MEASURED}
    return [_without_measured(one) for one in value] if isinstance(value, list) else value


def difference(got: Mapping[str, bytes], expected: Mapping[str, bytes]) -> Difference:
    """Return how a tree differs from the expected one, except for measured values."""
    common = got.keys() & expected.keys()
    changed = (name for name in sorted(common) if got[name] != expected[name])
    return Difference(
        tuple(sorted(expected.keys() - got.keys())),
        tuple(name for name in changed if comparable(name, got[name]) != comparable(name, expected[name])),
        tuple(sorted(got.keys() - expected.keys())),
    )


def overwritten(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """Return the files that a command changed or removed although they were there before it."""
    return [name for name, content in before.items() if after.get(name) != content]


def write_tree(folder: Path, content: Mapping[str, bytes]) -> None:
    """Make a folder anew with the files of a tree."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in content.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if data.startswith(b"-> "):
            path.symlink_to(data[3:].decode())
        else:
            path.write_bytes(data)
