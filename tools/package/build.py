"""Build wheel and sdist twice, in two places and from different routes, and compare their bytes."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The second build differs in everything that must not count: place, umask, times, language, time zone and hash seed.
FIRST = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}
SECOND = {"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "1"}
OTHER_TIME = 1_000_000_000


class CheckError(Exception):
    """A check of the package has failed."""


def built(out: Path, scratch: Path) -> tuple[Path, Path]:
    """Return the wheel and the sdist, built in `out` from the tracked files.

    Raises:
        CheckError: a second build has other bytes, or the sdist lacks a tracked file or has another one.
    """
    names = tracked()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": date_of_commit()}
    first, second = scratch / "first", scratch / "second place"
    copy(names, ROOT, first, 0o022)
    copy(names, first, second, 0o077, OTHER_TIME)
    # The first wheel is made from the unpacked sdist, and the second from the tree itself.
    build(first, out, environment | FIRST)
    build(second, scratch / "again", environment | SECOND, "--sdist", "--wheel")
    files = {path.name: path for path in sorted(out.iterdir())}
    again = {path.name: path for path in sorted((scratch / "again").iterdir())}
    if files.keys() != again.keys():
        raise CheckError(f"the two builds have other names: {sorted(files)} and {sorted(again)}")
    for name, path in files.items():
        if path.read_bytes() != again[name].read_bytes():
            raise CheckError(f"{name}: the two builds differ in {', '.join(differing(path, again[name]))}")
        print(f"{name}: {path.stat().st_size:,} bytes, twice the same, sha256 {digest(path.read_bytes())}")
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    compare_with_tracked(sdist, names)
    return wheel, sdist


def tracked() -> list[str]:
    """Return the tracked files that exist."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def date_of_commit() -> str:
    """Return the time of the last commit in seconds, which all files of the archives get."""
    shown = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def copy(names: list[str], source: Path, place: Path, mask: int, time: int | None = None) -> None:
    """Copy files with the modes that a umask gives, and with another time."""
    before = os.umask(mask)
    try:
        for name in names:
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
            if os.access(source / name, os.X_OK):
                target.chmod(0o777 & ~mask)
            if time is not None:
                os.utime(target, (time, time))
    finally:
        os.umask(before)


def build(source: Path, out: Path, environment: dict[str, str], *options: str) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *options, str(source)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise CheckError(f"the build failed:\n{done.stdout}{done.stderr}")


def differing(one: Path, other: Path) -> list[str]:
    """Return the names of the members that differ, or one word if only the archives do."""
    first, second = contents(one), contents(other)
    names = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    return names or ["times, modes or order"]


def contents(path: Path) -> dict[str, str]:
    """Return the digest of each file of an archive."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: digest(wheel.read(name)) for name in wheel.namelist()}
    with tarfile.open(path) as sdist:
        files = [(member.name, sdist.extractfile(member)) for member in sdist.getmembers()]
        return {name: digest(file.read()) for name, file in files if file is not None}


def compare_with_tracked(sdist: Path, names: list[str]) -> None:
    """Compare the names in the sdist with those of the tracked files.

    Raises:
        CheckError: they differ.
    """
    inside = {name.partition("/")[2] for name in contents(sdist)} - {"PKG-INFO"}
    if inside != set(names):
        raise CheckError(f"{sdist.name}: differs from the tracked files in {sorted(inside ^ set(names))}")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
