"""Files that the command writes: reports for programs, which replace earlier reports and nothing else."""

import contextlib
import json
import os
from pathlib import Path

from ict_ref.utils.atomic import locked_output, open_to_append, remove_leftovers, write_atomically
from ict_ref.utils.command_line import expect, refuse_place
from ict_ref.utils.system import has_locks_and_signals

OURS = {
    "--json": '"ict_ref":',
    "--junit": '<testsuite name="ict_ref.verify"',
    "--badge": '"label": "iCT formulas"',
}
"""A part of the beginning of each file, by which an earlier one is recognised."""
BEGINNING = 4096


def refuse_file(path: Path, option: str) -> None:
    """Reject a path at which a report cannot be written. An earlier report of this command is replaced.

    Raises:
        ValueError: The folder does not exist, or the path is a symbolic link or another file.
    """
    above = path.parent
    expect(above.is_dir(), option, "a file in an existing folder", path, f"The folder {above} does not exist.")
    if not is_ours(path, option):
        refuse_place(path, option)


def is_ours(path: Path, option: str) -> bool:
    """Return whether a path is a regular file that this command wrote for the option."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return OURS[option] in file.read(BEGINNING)


def write(path: Path, option: str, text: str) -> None:
    """Write a report.

    Raises:
        ValueError: The path has become a symbolic link or another file, or another process writes it.
        OSError: The file cannot be written.
    """
    refuse_file(path, option)
    # A system without locks writes reports of one process.
    with locked_output(path) if has_locks_and_signals() else contextlib.nullcontext():
        refuse_file(path, option)  # another process may have written it in the meantime
        remove_leftovers(path.parent, path.name.__eq__)
        write_atomically(path, text.encode())


def append_step_summary(text: str) -> None:
    """Append a report to the file that GitHub Actions shows with a job, if there is one.

    Raises:
        ValueError: The file cannot be written. The message names the variable.
    """
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if not place:
        return
    try:
        with open_to_append(Path(place)) as file:
            file.write(text + "\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        expected = "a file that can be written"
        raise ValueError(f"$GITHUB_STEP_SUMMARY: expected {expected}, got {place} ({reason}). Unset it.") from None


def as_badge(message: str, colour: str) -> str:
    """Return a badge as JSON for shields.io."""
    return json.dumps({"schemaVersion": 1, "label": "iCT formulas", "message": message, "color": colour}) + "\n"
