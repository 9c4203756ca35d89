"""Recognition of Git LFS pointers: short texts that stand where a large file is to be."""

import io
from pathlib import Path

START = b"version https://git-lfs.github.com/spec/"
POINTER = "it is a Git LFS pointer, not the file itself. Run git lfs pull in its repository"


def is_pointer(file: str | Path | io.BytesIO) -> bool:
    r"""Return whether a file, or the content of one, is a Git LFS pointer.

    >>> is_pointer(io.BytesIO(b"version https://git-lfs.github.com/spec/v1\noid sha256:00"))
    True
    """
    if isinstance(file, io.BytesIO):
        return file.getbuffer()[: len(START)] == START
    path = Path(file)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(START)) == START


def explained(path: str | Path, error: object) -> str:
    """Return the reason why a file cannot be used: that it is a pointer, or else the error."""
    return POINTER if is_pointer(path) else str(error)
