"""Kills of a command at each change of the file system, after each of which the same command makes the same."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = ("open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate")
BROKEN = 99
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND


def in_child(action: Callable[[], object], at: int = 0) -> tuple[int, int]:
    """Run `action` in a forked process, killed before its change number `at`, and return its status and the changes.

    The status is that of `action`, or minus the number of the signal. Changes are counted in the folder of work.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        seen, here = 0, Path.cwd()

        def changing(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event not in CHANGES or not isinstance(arguments[0], str | os.PathLike):
                return
            path = Path(os.fsdecode(arguments[0])).absolute()
            only_read = event == "open" and not int(arguments[2] or 0) & WRITING and not path.is_dir()
            if path.is_relative_to(here) and not only_read:
                seen += 1
                if seen == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(changing)
        status: object = BROKEN
        try:
            status = action()
            os.write(writing, seen.to_bytes(4, "little"))
        except BaseException:
            traceback.print_exc()
        finally:  # this process is not to run further tests
            os._exit(status if isinstance(status, int) else 0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return os.waitstatus_to_exitcode(status), int.from_bytes(pipe.read(), "little")


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return everything below a folder: the bytes of each file, and None for each folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def unclean(folder: Path, action: Callable[[], object], begin: Callable[[], object], every: int = 1) -> list[str]:
    """Return a line for each change before which a kill has an effect that the same command does not fix.

    `folder`, the folder of work, is emptied by `begin`. The command may reject its files where the killed one had ended
    its work.
    """
    begin()
    status, changes = in_child(action)
    assert status == 0
    assert changes > 0
    whole, found = contents(folder), []
    for at in range(1, changes + 1, every):
        begin()
        assert in_child(action, at)[0] == -signal.SIGKILL
        left = contents(folder)
        status, _ = in_child(action)
        after = contents(folder)
        if after != whole or (status != 0 and left != whole):
            odd = sorted(name for name in after.keys() | whole.keys() if after.get(name, b"-") != whole.get(name, b"-"))
            found.append(f"change {at} of {changes}: status {status}, different: {odd}, left: {sorted(left)}")
    return found
