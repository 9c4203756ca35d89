"""Atomic file writes, and locks on folders."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends, replace the file by what was written there.

    At every moment, also after a crash, the path holds the old file or the whole new one. If the block fails or the
    disk is full, the old one stays.
    """
    aside = path.with_name(path.name + ".tmp")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)  # frees the space on a full disk
        raise
    aside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at every moment the path holds the old file or the whole new one."""
    with atomically(path) as aside:
        aside.write_bytes(content)


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
