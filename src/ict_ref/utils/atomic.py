"""Files that are never half-written, and folders that one process holds at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Give a place aside to write to, which takes the file's place when the block ends.

    At every moment either the old file or the whole new one is there, also after a crash; if the block fails, or the
    disk is full, the old one stays.
    """
    aside = path.with_name(path.name + ".tmp")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)  # a full disk needs the room
        raise
    aside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at every moment either the old one or the whole new one is there."""
    with atomically(path) as aside:
        aside.write_bytes(content)


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the folder by a lock on its file `name` while the block runs.

    Raises ValueError if another process holds it. The system releases the lock of a process that is killed.
    """
    lock = FileLock(folder / name)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"{folder} is in use by another process; wait for it, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()
