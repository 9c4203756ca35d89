"""Scratch folders of processes in the system's temporary folder."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ict_ref.utils.locks import lock_file

PREFIX, LOCK = "ict_ref-", ".ict_ref.lock"
OLD_S = 60
"""Age of a folder whose owner has had time to lock it."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder, and delete it when the block ends; first delete those of processes that were killed.

    A folder is locked by its process, so it is known whether that process still runs.

    Raises:
        OSError: The folder cannot be created.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as place, lock_file(Path(place) / LOCK):
        yield Path(place)


def remove_abandoned(folder: Path, older_than_s: float = OLD_S) -> None:
    """Delete this user's scratch folders whose process has ended."""
    for place in folder.glob(f"{PREFIX}*"):
        try:
            about = place.stat(follow_symlinks=False)
            is_ours = not place.is_symlink() and about.st_uid == os.getuid() and (place / LOCK).is_file()
            if is_ours and time.time() - about.st_mtime > older_than_s:
                with lock_file(place / LOCK) as lock:
                    # Without flock, the process of a folder that was locked by flock may still run.
                    if lock.by_flock:
                        shutil.rmtree(place, ignore_errors=True)
        except (OSError, ValueError):  # deleted by another process, or in use
            continue
