"""Versions, seeds and checksums of a verification, with which its verdict can be repeated."""

import hashlib
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from ict_ref.utils.regular_file import real_path
from ict_ref.utils.version import __version__
from ict_ref.verify.target.load import Target

GIT_SECONDS = 10
UNKNOWN = "unknown"


def versions(target: Target) -> dict[str, object]:
    """Return the target with its checksum and commit, and the versions of everything that takes part."""
    file = Path(target.file)
    return {
        "target": target.text,
        "version": target.version,
        "file": target.file,
        "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else UNKNOWN,
        "commit": commit_of(file) if file.is_file() else UNKNOWN,
        "ict_ref": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "hypothesis": _version("hypothesis"),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit_of(file: Path) -> str:
    """Return the commit of the repository that has a file, with "+" if the file was changed since; else unknown."""
    git = ("git", "-c", "core.fsmonitor=false", "-C", str(real_path(file).parent))
    try:
        tracked = _output(*git, "ls-files", "--error-unmatch", file.name)
        commit = _output(*git, "rev-parse", "--short=12", "HEAD") if tracked else ""
        changed = _output(*git, "status", "--porcelain", "--", file.name) if commit else ""
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return f"{commit}{'+' if changed else ''}" if commit else UNKNOWN


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)  # noqa: S603
    return done.stdout.strip()


@cache
def vectors_sha256(number: int) -> str:
    """Return the checksum of a version of the vectors: that of the lines which sha256sum prints for its files.

    In the folder of the version, `LC_ALL=C sha256sum *.json | sha256sum` prints the same.
    """
    folder = files("ict_ref.verify") / "data" / f"v{number}"
    paths = sorted((path for path in folder.iterdir() if path.name.endswith(".json")), key=lambda path: path.name)
    lines = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()
