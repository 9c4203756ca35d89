"""The files that end a run: a picture of samples, and their scores."""

from pathlib import Path

from ict_ref.utils import file_format
from ict_ref.utils.atomic import refuse_link
from ict_ref.utils.json_file import LARGEST_FILE, json_object
from ict_ref.utils.regular_file import read_regular

SCORES_FORMAT = 2
"""Format of scores.json; format 1, of version 0.1.0, is the list of scores alone."""


def refuse_results(folder: Path) -> None:
    """Reject results that must not be written anew: those of a later version, and links to other files.

    Raises:
        LaterFormatError: The format of scores.json is later than this version's.
        ValueError: samples.png, scores.json or the folder samples is a symbolic link.
    """
    path = folder / "scores.json"
    for result in (path, folder / "samples.png", folder / "samples"):
        refuse_link(result)
    if not path.exists():
        return
    content = read_regular(path, LARGEST_FILE)
    try:
        stored = json_object(content, path)
    except ValueError:
        return  # a damaged one is replaced
    file_format.format_of(path, stored, SCORES_FORMAT)
