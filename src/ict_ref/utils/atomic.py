"""Atomic file writes, and locks on folders."""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp", re.DOTALL)
"""Name of a temporary file or folder; the group is the name of the file that is written."""


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends, replace the file by what was written there.

    At every moment, also after a crash, the path holds the old file or the whole new one. If the block fails or the
    disk is full, the old one stays. The temporary file is new, and its name is `temporary(path)`.

    Raises:
        ValueError: The path is a symbolic link.
        OSError: The file cannot be written.
    """
    refuse_link(path)
    aside = temporary(path)
    try:
        aside.open("xb").close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)  # frees the space on a full disk
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at every moment the path holds the old file or the whole new one.

    Raises:
        ValueError: The path is a symbolic link.
        OSError: The file cannot be written.
    """
    with atomically(path) as aside:
        aside.write_bytes(content)


def refuse_link(path: Path) -> None:
    """Reject a symbolic link at the path of a file that is written.

    Raises:
        ValueError: The path is a symbolic link.
    """
    if path.is_symlink():
        got = f"got a symbolic link to {path.readlink()}"
        raise ValueError(f"{path}: expected a regular file, {got}. Replace the link by the file.")


def temporary(path: Path) -> Path:
    """Return a path beside this one for a temporary file or folder: .NAME.RANDOM.tmp, with 16 random digits."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def written_name(name: str) -> str:
    """Return the name of the file for which a temporary file has this name, or the name itself.

    >>> written_name(".config.json.0123456789abcdef.tmp")
    'config.json'
    >>> written_name("config.json")
    'config.json'
    """
    found = TEMPORARY.fullmatch(name)
    return name if found is None else found[1]


def remove_leftovers(folder: Path, chosen: Callable[[str], object]) -> None:
    """Delete the temporary files and folders that killed processes left for the chosen names of files.

    The caller holds a lock, so that no other process writes these files.
    """
    for path in folder.iterdir():
        name = written_name(path.name)
        if name != path.name and chosen(name) and not path.is_symlink():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock on the file `name` of the folder while the block runs.

    The system releases the lock of a process that is killed.

    Raises:
        ValueError: another process holds the lock.
    """
    lock = FileLock(folder / name)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"{folder} is in use by another process. Wait for it, or choose another --out.") from None
    try:
        yield
    finally:
        lock.release()
