"""Two commands that write a file, for the tests of `tools.faults`: `main` writes it safely, as its options say."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

TEXT = b"some text\n" * 3


def main(arguments: Sequence[str]) -> int:
    """Write `out.txt` in the given manner and return the exit status."""
    try:
        MANNERS[arguments[0]](Path("out.txt"))
    except OSError as error:
        print(f"writing: cannot use {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def careful(path: Path) -> None:
    """Write a temporary file, sync it and rename it; a leftover is removed first."""
    aside = path.with_name(".out.txt.tmp")
    aside.unlink(missing_ok=True)
    try:
        _write(aside, sync=True)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def in_place(path: Path) -> None:
    """Write the file at its name, and take whatever is there for the whole."""
    if not path.exists():
        _write(path, sync=True)


def unsynced(path: Path) -> None:
    """Rename a file that is not synced."""
    aside = path.with_name(".out.txt.tmp")
    aside.unlink(missing_ok=True)
    _write(aside, sync=False)
    aside.replace(path)


def leaving(path: Path) -> None:
    """Write a temporary file with a new name each time, and remove no leftover."""
    aside = path.with_name(f".out.txt.{time.monotonic_ns()}.tmp")
    _write(aside, sync=True)
    aside.replace(path)


def overwriting(path: Path) -> None:
    """Write into the user's file of a likely name."""
    _write(path.with_name("out.txt.tmp"), sync=True)
    path.with_name("out.txt.tmp").replace(path)


def failing(path: Path) -> None:
    """Let an error through."""
    try:
        careful(path)
    except OSError as error:
        raise RuntimeError("disk") from error


def hanging(path: Path) -> None:
    """Try for ever."""
    try:
        careful(path)
    except OSError:
        time.sleep(1000)


def crashing(path: Path) -> None:
    """End by a signal."""
    try:
        careful(path)
    except OSError:
        os.kill(os.getpid(), signal.SIGSEGV)


def silent(path: Path) -> None:
    """Say that all is well in any case."""
    try:
        careful(path)
    except OSError:
        return


def resuming(path: Path) -> None:
    """Write a part, then the file; a lock file and the part are there meanwhile, and a part that is whole is used."""
    lock, part = path.with_name(".out.txt.lock"), path.with_name("out.txt.part")
    lock.touch()
    if not (part.is_file() and part.read_bytes() == TEXT):
        part.unlink(missing_ok=True)
        _write(part, sync=True)
    careful(path)
    part.unlink()
    lock.unlink()


def cleaning(path: Path) -> None:
    """Do the same, and remove the user's file of a likely name."""
    resuming(path)
    path.with_name("out.txt.tmp").unlink(missing_ok=True)


def repairing(path: Path) -> None:
    """Do the same, and write anew the user's source file."""
    resuming(path)
    source = path.with_name("source.txt")
    source.unlink()
    source.write_bytes(TEXT)


def _write(path: Path, *, sync: bool) -> None:
    with path.open("wb", buffering=0) as file:
        for line in TEXT.splitlines(keepends=True):
            file.write(line)
        if sync:
            os.fsync(file.fileno())


MANNERS = {
    "careful": careful, "in-place": in_place, "unsynced": unsynced, "leaving": leaving, "overwriting": overwriting,
    "failing": failing, "hanging": hanging, "crashing": crashing, "silent": silent, "resuming": resuming,
    "cleaning": cleaning, "repairing": repairing,
}  # fmt: skip
