"""Reading of regular files alone: a pipe would wait forever, and a device has no end."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ict_ref.utils.system import open_flags

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def real_path(path: Path) -> Path:
    """Return the absolute path without links; of a loop of links, which Path.resolve() rejects, the path itself."""
    return Path(os.path.realpath(path))


def open_regular(path: Path | str) -> BinaryIO:
    """Return a regular file, opened for reading.

    Raises:
        ValueError: it is a pipe, a device or a socket.
        OSError: it cannot be opened, or is a folder.
    """
    # Without O_NONBLOCK the opening of a pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | open_flags("O_NONBLOCK"))
    try:
        _refuse(os.fstat(descriptor).st_mode, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path | str, most: int | None = None) -> bytes:
    """Return the content of a regular file of at most `most` bytes.

    Raises:
        ValueError: it is a pipe, a device or a socket, or larger.
        OSError: it cannot be read, or is a folder.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise ValueError(f"{path}: expected at most {most} bytes, got {size}")
        return file.read() if most is None else file.read(most)


def refuse_irregular(path: Path | str) -> None:
    """Reject what is not a regular file, before a library opens it by its path.

    Raises:
        ValueError: it is a pipe, a device or a socket.
        OSError: it does not exist, is a loop of links or a folder.
    """
    _refuse(os.stat(path).st_mode, path)  # noqa: PTH116 - a path may be a string


def _refuse(mode: int, path: Path | str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "a special file")
        raise ValueError(f"{path}: expected a regular file, got {kind}")
