"""Files that the command writes: reports for programs, which replace earlier reports and nothing else."""

import json
import os
from pathlib import Path

from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.command_line import expect, refuse_place

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
        ValueError: The path has become a symbolic link or another file.
        OSError: The file cannot be written.
    """
    refuse_file(path, option)
    write_atomically(path, text.encode())


def append_step_summary(text: str) -> None:
    """Append a report to the file that GitHub Actions shows with a job, if there is one.

    Raises:
        OSError: The file cannot be written.
    """
    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if place:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(text + "\n")


def as_badge(message: str, colour: str) -> str:
    """Return a badge as JSON for shields.io."""
    return json.dumps({"schemaVersion": 1, "label": "iCT formulas", "message": message, "color": colour}) + "\n"
