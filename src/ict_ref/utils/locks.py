"""Locks on names of files, by flock or, on a file system without it, by files that name their owner."""

import contextlib
import errno
import json
import os
import secrets
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ict_ref.utils.command_line import expect, say
from ict_ref.utils.json_file import entry, read_json
from ict_ref.utils.system import open_flags

WITHOUT_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
"""Errors of flock on a file system that does not support it, such as Lustre without the mount option flock."""
OUTSIDE_OF_CONTAINERS = "pid:[4026531836]"
"""The first namespace of process numbers, PROC_PID_INIT_INO in Linux's include/linux/proc_ns.h."""
OWNER = ".owner"
"""Suffix of the file that names the owner of a lock on such a file system."""


@dataclass
class Lock:
    """A lock that is held: whether its file existed, whether flock has it, and whether the file stays at its release.

    The file of a process that was killed stays, because each other process deletes its own.
    """

    existed: bool
    by_flock: bool = True
    stays: bool = False


@contextmanager
def lock_file(path: Path) -> Iterator[Lock]:
    """Hold a lock file while the block runs, then delete it.

    Only its holder deletes the file. A process that has opened a deleted file opens the new one instead, so at most one
    process holds the lock.

    Raises:
        ValueError: another process holds the lock, or the path is not an empty regular file.
        OSError: the file cannot be created.
    """
    with contextlib.ExitStack() as held:
        number, existed, missing = _acquired(path)
        held.callback(os.close, number)  # releases the lock
        if missing is not None:
            owner = path.with_name(path.name + OWNER)
            existed = held.enter_context(_owned(owner)) or existed
            say("ict_ref", 0, f"note: {path.parent} has no file locks ({missing.strerror}); {owner.name} is the lock")
        lock = Lock(existed, by_flock=missing is None)
        try:
            yield lock
        finally:
            # Work that is done does not fail because of its lock file, as in a folder of another user.
            with contextlib.suppress(OSError):
                if not lock.stays and _is_at(path, number):
                    path.unlink()


def refuse_locked(path: Path) -> None:
    """Reject a lock file that another process holds, without creating or changing a file.

    Raises:
        ValueError: another process holds the lock, or the file is another one.
        OSError: the file cannot be read.
    """
    owner = path.with_name(path.name + OWNER)
    if owner.exists():
        _refuse_living(owner, _owner(owner))
    try:
        number = os.open(path, os.O_RDONLY | open_flags("O_NOFOLLOW", "O_NONBLOCK"))
    except FileNotFoundError:
        return
    try:
        _refuse_other_files(path, number)
        _flock(path, number)
    finally:
        os.close(number)


def _acquired(path: Path) -> tuple[int, bool, OSError | None]:
    """Return a locked descriptor, whether its file existed, and the error of a file system without flock.

    Raises:
        ValueError: another process holds the lock, or the path is not an empty regular file.
        OSError: the file cannot be created or locked.
    """
    while True:
        number, existed = _opened(path)
        try:
            missing = _flock(path, number)
            if missing is not None or _is_at(path, number):
                return number, existed, missing
        except BaseException:
            os.close(number)
            raise
        os.close(number)  # its holder has deleted the file in the meantime


def _opened(path: Path) -> tuple[int, bool]:
    """Open a lock file without truncating it; return the descriptor and whether the file existed.

    Raises:
        ValueError: the path is not an empty regular file.
        OSError: the file cannot be created.
    """
    safely = open_flags("O_NOFOLLOW", "O_NONBLOCK")  # a pipe would wait for its other end
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | safely, 0o666), False
        expect(not path.is_symlink(), str(path), "a lock file", "a symbolic link", "Move it away.")
        try:
            try:
                number = os.open(path, os.O_RDWR | safely)
            except PermissionError:  # another user's
                number = os.open(path, os.O_RDONLY | safely)
        except FileNotFoundError:
            continue  # its holder has deleted it in the meantime
        try:
            _refuse_other_files(path, number)
        except ValueError:
            os.close(number)
            raise
        return number, True


def _refuse_other_files(path: Path, number: int) -> None:
    """Reject what is not a lock file: its holder would delete it.

    Raises:
        ValueError: the open file is not a regular file, or has content.
    """
    about = os.fstat(number)
    got = "another kind of file" if not stat.S_ISREG(about.st_mode) else "a file with content" if about.st_size else ""
    if got:
        raise ValueError(f"{path}: expected a lock file, which is empty, got {got}. Move it away.")


def _flock(path: Path, number: int) -> OSError | None:
    """Lock an open file; return the error of a file system without flock.

    Raises:
        ValueError: another process holds the lock.
        OSError: the file cannot be locked.
    """
    import fcntl  # Windows does not have it, and verify writes its files without locks

    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise _in_use(path) from None
    except OSError as error:
        if error.errno in WITHOUT_FLOCK:
            return error
        raise OSError(error.errno, error.strerror, str(path)) from None
    return None


def _is_at(path: Path, number: int) -> bool:
    """Return whether an open file still has this path."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(number))
    except FileNotFoundError:
        return False


def _in_use(path: Path) -> ValueError:
    name = path.name.removesuffix(OWNER).removesuffix(".lock").removeprefix(".")
    what = path.parent / name if path.name.startswith(".") and name else path.parent
    return ValueError(f"{what} is in use by another process. Wait for it, or choose another --out.")


@contextmanager
def _owned(path: Path) -> Iterator[bool]:
    """Own a file while the block runs; yield whether it replaced that of a process that has ended.

    Raises:
        ValueError: the file is of a process that runs, of another host, or damaged.
        OSError: the file cannot be written.
    """
    mine = json.dumps({**_here(), "pid": os.getpid(), "started": _started(os.getpid()), "token": secrets.token_hex(8)})
    replaces = False
    while not _created(path, mine.encode()):
        with contextlib.suppress(FileNotFoundError):  # its owner has deleted it in the meantime
            there = _owner(path)
            _refuse_living(path, there)
            # Only who owns this further file may delete the one of the process that has ended.
            with _owned(path.with_name(f"{path.name}.{there['token']}")):
                if _owner(path) == there:
                    path.unlink()
                    replaces = True
    try:
        yield replaces
    finally:
        path.unlink()


def _created(path: Path, content: bytes) -> bool:
    """Create a file with this content; return False if there is one."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | open_flags("O_NOFOLLOW"), 0o666)
    except FileExistsError:
        return False
    try:
        os.write(number, content)
        os.fsync(number)
    finally:
        os.close(number)
    return True


def _owner(path: Path) -> Mapping[str, Any]:
    """Return the owner that a file names.

    Raises:
        ValueError: the file is damaged.
        FileNotFoundError: the file does not exist.
    """
    advice = "Delete it if no command uses this folder."
    content = read_json(path, advice)
    for name in ("host", "boot", "pids", "token"):
        entry(content, name, str, f"{path}: ")
    for name in ("pid", "started"):
        entry(content, name, int, f"{path}: ", least=0)
    expect(str(content["token"]).isalnum(), f"{path}: token", "letters and digits", content["token"], advice)
    return content


def _refuse_living(path: Path, owner: Mapping[str, Any]) -> None:
    """Reject a lock whose owner runs, or may run on another host.

    Raises:
        ValueError: the owner runs or may run.
    """
    here = _here()
    if _has_restarted(owner, here):
        return
    if any(owner[name] != here[name] for name in ("host", "boot", "pids")):
        whose = f"process {owner['pid']} on host {owner['host']}"
        raise ValueError(f"{path} is the lock of {whose}. Wait for it, or delete the file if that process has ended.")
    if _started(owner["pid"]) == owner["started"]:
        raise _in_use(path)


def _has_restarted(owner: Mapping[str, Any], here: Mapping[str, str]) -> bool:
    """Return whether the owner ran on this machine before its last start, so that it has ended.

    Machines may share a name, and containers of one image also the machine's identity, so only a process outside of
    containers is known to be of this machine.
    """
    same = all(owner.get(name) == here[name] for name in ("host", "machine", "pids"))
    known = bool(here["machine"] and here["boot"] and owner["boot"]) and here["pids"] == OUTSIDE_OF_CONTAINERS
    return same and known and owner["boot"] != here["boot"]


def _here() -> dict[str, str]:
    """Return the host, its identity and its start, and the namespace in which process numbers have their meaning."""
    boot, pids = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    machine = Path("/etc/machine-id")
    return {
        "host": socket.gethostname(),
        "machine": machine.read_text().strip() if machine.is_file() else "",
        "boot": boot.read_text().strip() if boot.exists() else "",
        "pids": str(pids.readlink()) if pids.is_symlink() else "",
    }


def _started(pid: int) -> int | None:
    """Return the start of a process in ticks after that of the host, or None if it has ended; 0 without /proc."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return 0
        return 0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
