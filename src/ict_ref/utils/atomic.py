"""Files that appear at once and whole, under names that are locked; nothing of anyone else is touched.

Every command creates, locks and completes its files by these functions. A file is written beside its final path under a
name that nobody else has, and gets its final name when it is on disk.
"""

import contextlib
import ctypes
import errno
import filecmp
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ict_ref.utils.command_line import refuse_place
from ict_ref.utils.locks import Lock, lock_file
from ict_ref.utils.regular_file import refuse_irregular
from ict_ref.utils.system import WINDOWS, open_flags

TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp", re.DOTALL)
"""Name of a temporary file or folder; the group is the name of the file that is written."""
AT_FDCWD, RENAME_NOREPLACE = -100, 1
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EMLINK)
"""Errors of renameat2 and link on a file system or system without them."""


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends, replace the file by what was written there.

    At every moment, also after a crash, the path holds the old file or the whole new one. If the block fails or the
    disk is full, the old one stays. The temporary file is new, and its name is `temporary(path)`.

    Raises:
        ValueError: The path is a symbolic link.
        OSError: The file cannot be written. The error names the path.
    """
    refuse_link(path)
    with _named(path):
        aside = _created(path)
        try:
            yield aside
            sync(aside)
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)  # frees the space on a full disk
            raise
        sync(path.parent)


@contextmanager
def own_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside a path, for a library that writes temporary files; delete it at the end.

    Raises:
        OSError: The folder cannot be created.
    """
    folder = temporary(path)
    folder.mkdir()
    try:
        yield folder
    finally:
        _delete(folder)


def open_to_append(path: Path) -> TextIO:
    """Open a text file to append lines, and create it if it does not exist.

    Raises:
        ValueError: The path is a symbolic link, a pipe or a device.
        OSError: The file cannot be written.
    """
    refuse_link(path)
    if os.path.lexists(path):
        refuse_irregular(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | open_flags("O_NOFOLLOW", "O_NONBLOCK")
    return os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at every moment the path holds the old file or the whole new one.

    Raises:
        ValueError: The path is a symbolic link.
        OSError: The file cannot be written. The error names the path.
    """
    with atomically(path) as aside:
        aside.write_bytes(content)


def write_under_lock(path: Path, content: bytes) -> None:
    """Write a file that several processes may write, and delete temporary files of those that were killed meanwhile.

    Raises:
        ValueError: The path is a symbolic link, or another process writes it.
        OSError: The file cannot be written. The error names the path.
    """
    with locked_output(path):
        remove_leftovers(path.parent, path.name.__eq__)
        write_atomically(path, content)


class NewFiles:
    """New files and folders of one command, written under temporary names until all get their final names.

    `resumes` is whether a command that was killed has left its lock, so that files may exist that it has completed.
    """

    def __init__(self, options: Mapping[Path, str], *, resumes: bool, again: bool) -> None:
        self.resumes, self.has_completed, self._again = resumes, False, again
        self._options = options
        self._asides: dict[Path, Path] = {}

    def option(self, path: Path) -> str:
        """Return the option by which a path was given."""
        return self._options.get(path, "--out")

    def file(self, path: Path) -> Path:
        """Create an empty temporary file for this path and return its path.

        Raises:
            OSError: The file cannot be created.
        """
        self._asides[path] = _created(path)
        return self._asides[path]

    def folder(self, path: Path) -> Path:
        """Create an empty temporary folder for this path and return its path.

        Raises:
            OSError: The folder cannot be created.
        """
        self._asides[path] = temporary(path)
        self._asides[path].mkdir()
        return self._asides[path]

    def write(self, path: Path, content: bytes) -> None:
        """Write a temporary file for this path.

        Raises:
            OSError: The file cannot be written. The error names the path.
        """
        with _named(path):
            self.file(path).write_bytes(content)

    def complete(self) -> None:
        """Give the files their final names, in the order in which they were created. Nothing is overwritten.

        Raises:
            ValueError: A path exists with other content.
            OSError: A file cannot be written. The error names the path.
        """
        for path, aside in self._asides.items():
            with _named(path):
                _sync_all(aside)
        for path, aside in self._asides.items():
            with _named(path):
                try:
                    rename_new(aside, path)
                    self.has_completed = True
                except (FileExistsError, NotADirectoryError, IsADirectoryError):
                    if not ((self.resumes or self._again) and _same(aside, path)):
                        refuse_place(path, self.option(path))
                sync(path.parent)
        self.remove()

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Let an error of a temporary file, or of the last one if it has no name, name the final path.

        Raises:
            OSError: The error of the block.
        """
        try:
            yield
        except OSError as error:
            if not self._asides:
                raise
            written = Path(os.fsdecode(error.filename or list(self._asides.values())[-1]))
            for path, aside in self._asides.items():
                if written.is_relative_to(aside):
                    raise _of(path, error) from None
            raise

    def remove(self) -> None:
        """Delete the temporary files."""
        for aside in self._asides.values():
            _delete(aside)
        self._asides.clear()


@contextmanager
def new_files(*paths: Path, options: Mapping[Path, str] | None = None, again: bool = False) -> Iterator[NewFiles]:
    """Lock the paths of new files and folders while the block runs, then complete what was written for them.

    The last file that the block creates is the commit point: when it exists, the others do. If the process is killed,
    the same command completes the files, and what the killed one had completed is compared with them. `options` are the
    options by which the paths were given, by default --out. With `again`, files with the same content may always exist.

    >>> with new_files(Path("a.txt")) as new:
    ...     new.write(Path("a.txt"), b"content")
    >>> Path("a.txt").read_text(), len(list(Path().iterdir()))
    ('content', 1)

    Raises:
        ValueError: A path exists, or another process has locked it.
        OSError: A file cannot be written. The error names the path.
    """
    with contextlib.ExitStack() as held:
        locks: list[Lock] = []
        new = NewFiles(options or {}, resumes=False, again=again)
        try:
            for path in sorted(set(paths)):
                locks.append(held.enter_context(locked_output(path)))
                new.resumes |= locks[-1].existed
            for path in paths:
                remove_leftovers(path.parent, path.name.__eq__)
                if not (new.resumes or again):
                    refuse_place(path, new.option(path))
            with new.named_errors():
                yield new
            new.complete()
        except BaseException:
            # By its lock files the same command recognises that some paths are of a command that has not ended.
            stays = (new.resumes or new.has_completed) and any(os.path.lexists(path) for path in paths)
            for lock in locks:
                lock.stays = stays
            raise
        finally:
            new.remove()


@contextmanager
def locked_output(path: Path) -> Iterator[Lock]:
    """Lock the path of a file or folder while the block runs, and create the folders above it.

    If the block fails, folders that were created and are empty are deleted.

    Raises:
        ValueError: Another process has locked it.
        OSError: The folder or the lock file cannot be created.
    """
    created = [folder for folder in path.absolute().parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with lock_file(lock_of(path)) as lock:
            yield lock
    except BaseException:
        for folder in created:
            with contextlib.suppress(OSError):  # others may have written into it
                folder.rmdir()
        raise


def lock_of(path: Path) -> Path:
    """Return the path of the lock file of a file or folder."""
    return path.with_name(f".{path.name}.lock")


def refuse_outputs(*paths: Path, options: Mapping[Path, str] | None = None) -> None:
    """Reject paths that `new_files` would reject, before any work; those that a killed command has locked may exist.

    Raises:
        ValueError: A path exists, or the nearest existing folder above it is not writable.
    """
    if not any(lock_of(path).exists() for path in paths):
        for path in paths:
            refuse_place(path, (options or {}).get(path, "--out"))


def rename_new(old: Path, new: Path) -> None:
    """Rename a file or folder to a path that does not exist, at once and without overwriting anything.

    Raises:
        OSError: The new path exists (FileExistsError), or the file cannot be renamed.
    """
    try:
        return _rename_noreplace(old, new)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    if not old.is_dir():
        try:
            os.link(old, new, follow_symlinks=False)
            return old.unlink()
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
    if os.path.lexists(new):  # the last resort, under the lock of the new path
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    old.rename(new)
    return None


def _rename_noreplace(old: Path, new: Path) -> None:
    """Call renameat2 with RENAME_NOREPLACE.

    Raises:
        OSError: The system does not have the call, the new path exists, or the file cannot be renamed.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    number = errno.ENOSYS
    if call is not None:
        if call(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), str(new))


def _same(aside: Path, path: Path) -> bool:
    """Return whether two files, or two folders of files, have the same content; a link is not the same."""
    kinds = [stat.S_IFMT(one.stat(follow_symlinks=False).st_mode) for one in (aside, path)]
    if kinds[0] != kinds[1]:
        return False
    if not aside.is_dir():
        return filecmp.cmp(aside, path, shallow=False)
    names = [{one.name for one in folder.iterdir()} for folder in (aside, path)]
    return names[0] == names[1] and all(_same(aside / name, path / name) for name in names[0])


def _created(path: Path) -> Path:
    """Create an empty temporary file for this path.

    Raises:
        OSError: The file cannot be created. The error names the path.
    """
    aside = temporary(path)
    with _named(path):
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | open_flags("O_NOFOLLOW"), 0o666))
    return aside


def _delete(aside: Path) -> None:
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of a file without a name, or with a temporary one, name this path.

    Raises:
        OSError: The error of the block.
    """
    try:
        yield
    except OSError as error:
        name = error.filename
        if name is None or TEMPORARY.fullmatch(Path(os.fsdecode(name)).name):
            raise _of(path, error) from None
        raise


def _of(path: Path, error: OSError) -> OSError:
    """Return the error as one of this path; NumPy's error of a full disk has neither number nor name."""
    return OSError(error.errno or errno.EIO, error.strerror or f"not written, {error}", str(path))


def sync(path: Path) -> None:
    """Wait until a file or the entries of a folder are on disk. Windows does this for files only.

    Raises:
        OSError: The disk is full or fails.
    """
    if WINDOWS and path.is_dir():
        return
    number = os.open(path, (os.O_RDWR if WINDOWS else os.O_RDONLY) | open_flags())
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _sync_all(path: Path) -> None:
    """Wait until a file, or a folder with everything in it, is on disk."""
    if path.is_dir():
        for one in path.iterdir():
            _sync_all(one)
    sync(path)


def refuse_link(path: Path) -> None:
    """Reject a symbolic link at the path of a file that is written.

    Raises:
        ValueError: The path is a symbolic link.
    """
    if path.is_symlink():
        got = f"got a symbolic link to {path.readlink()}"
        raise ValueError(f"{path}: expected a regular file, {got}. Replace the link by the file.")


def set_aside(path: Path) -> Path:
    """Rename a damaged file to NAME.damaged, so that nothing overwrites it, and return its new path.

    Raises:
        OSError: The file cannot be renamed.
    """
    number, aside = 1, path.with_name(f"{path.name}.damaged")
    while True:
        with contextlib.suppress(FileExistsError):
            rename_new(path, aside)
            return aside
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")


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
    while (found := TEMPORARY.fullmatch(name)) is not None:  # a temporary file may have one of its own
        name = found[1]
    return name


def remove_leftovers(folder: Path, chosen: Callable[[str], object]) -> None:
    """Delete the temporary files and folders that killed processes left for the chosen names of files.

    The caller holds a lock, so that no other process writes these files.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        name = written_name(path.name)
        if name != path.name and chosen(name) and not path.is_symlink():
            _delete(path)


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock file `name` of the folder while the block runs, then delete it.

    The system releases the lock of a process that is killed.

    Raises:
        ValueError: another process holds the lock.
        OSError: the lock file cannot be created.
    """
    with lock_file(folder / name):
        yield
