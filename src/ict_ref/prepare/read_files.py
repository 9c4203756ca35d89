"""The files from which prepared images were read, so that a stopped command resumes only with the same files.

A file of equal size and times of change is not read again, because a change of its content sets the time of its status,
which no program can set back. Otherwise the SHA-256 decides, so that copied or restored files are still the same.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ict_ref.data.prepared import sha256
from ict_ref.prepare.sources import Part
from ict_ref.utils.atomic import open_to_append, write_atomically
from ict_ref.utils.json_file import checked
from ict_ref.utils.regular_file import read_regular

FILES = "files.partial"
"""Name of the file in the folder of unfinished data: a line of JSON per file, in the order in which they were read."""
Status = tuple[int, int, int]
"""Size in bytes, and the times in ns at which the content and the status of a file last changed."""


@dataclass(frozen=True)
class ReadFile:
    """A file that was read."""

    name: str
    """Path below the folder of the source."""
    sha256: str
    status: Status

    def refuse_changed(self, root: Path, folder: Path) -> None:
        """Reject a file whose content has changed since it was read.

        Raises:
            ValueError: The content has changed.
            OSError: The file cannot be read.
        """
        path = root / self.name
        if status_of(path) != self.status and sha256(path) != self.sha256:
            raise ValueError(
                f"SOURCE: expected {path} as it was read before the stop, got other content. Restore it, or delete "
                f"{folder} to prepare the data again."
            )


def status_of(path: Path) -> Status:
    """Return the properties of a file that change with its content.

    Raises:
        OSError: The file does not exist.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


Read = tuple[UInt8[np.ndarray, " n channels height width"], list[ReadFile]]
"""Images, and the files from which they were read."""


def read_part(part: Part, names: Sequence[str], root: Path) -> Read:
    """Return the images of a part, and those of its files that are named.

    Raises:
        ValueError: A file cannot be used, or has changed while it was read.
        OSError: A file cannot be read.
    """
    before = [status_of(root / name) for name in names]
    pixels = part.read()
    read = [ReadFile(name, sha256(root / name), status) for name, status in zip(names, before, strict=True)]
    for file in read:
        if status_of(root / file.name) != file.status:
            raise ValueError(f"SOURCE: expected {root / file.name} to stay as it is, got a change while it was read")
    return pixels, read


class FileLog:
    """The file `files.partial` of unfinished data; the journal has the number of its valid lines and their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.count, self._hashed = folder, 0, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the lines."""
        return self._hashed.hexdigest()

    def resume(self, count: int, digest: str) -> bool:
        """Return whether the first `count` lines have this SHA-256, and keep them if so, otherwise none."""
        path = self._folder / FILES
        lines = read_regular(path).splitlines(keepends=True)[:count] if path.is_file() else []
        whole = hashlib.sha256(b"".join(lines))
        if len(lines) != count or whole.hexdigest() != digest:
            return False
        self.count, self._hashed = count, whole
        return True

    def start_again(self) -> None:
        """Forget all lines."""
        self.count, self._hashed = 0, hashlib.sha256()

    def cut(self) -> None:
        """Write the file with the valid lines only.

        Raises:
            ValueError: It is a symbolic link.
            OSError: It cannot be written.
        """
        path = self._folder / FILES
        lines = read_regular(path).splitlines(keepends=True)[: self.count] if self.count else []
        write_atomically(path, b"".join(lines))

    def append(self, files: Sequence[ReadFile]) -> None:
        """Append files and wait until they are on disk.

        Raises:
            OSError: The file cannot be written.
        """
        lines = "".join(json.dumps([file.name, file.sha256, *file.status]) + "\n" for file in files)
        with open_to_append(self._folder / FILES) as log:
            log.write(lines)
            log.flush()
            os.fsync(log.fileno())
        self.count += len(files)
        self._hashed.update(lines.encode())

    def refuse_changed(self, root: Path) -> None:
        """Reject a source with a file that has changed since it was read.

        Raises:
            ValueError: A file has changed, or the log has other lines than the command writes.
            OSError: A file cannot be read.
        """
        for file in self._files():
            file.refuse_changed(root, self._folder)

    def _files(self) -> Iterator[ReadFile]:
        """Yield the files.

        Raises:
            ValueError: A line is not that of a file.
        """
        path = self._folder / FILES
        for line in read_regular(path).splitlines()[: self.count] if self.count else ():
            name, digest, *status = checked(json.loads(line), tuple[str, str, int, int, int], str(path))
            yield ReadFile(name, digest, (status[0], status[1], status[2]))
