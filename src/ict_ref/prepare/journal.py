"""The journal of unfinished prepared data: the recipe, the images safe on disk, and the files that were read."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from ict_ref.data.prepared import JOURNAL, Recipe
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.json_file import entry, read_json


@dataclass(frozen=True)
class Journal:
    """The content of the journal."""

    recipe: Recipe
    done: int
    """Number of images that are safe on disk."""
    sha256: str
    """SHA-256 of their bytes; empty in journals of versions before 0.2."""
    files: int
    """Number of lines of files.partial that are valid."""
    files_sha256: str
    """SHA-256 of these lines; empty in journals of versions before 0.2."""


def refuse_another_recipe(here: Recipe, there: Recipe, folder: Path) -> None:
    """Reject a folder whose recipe differs.

    Raises:
        ValueError: The recipes differ.
    """
    for name in [*there, *here]:
        if there.get(name) != here.get(name):
            raise ValueError(
                f"--out: {folder} has another recipe: expected {name} {here.get(name)}, got {there.get(name)}. "
                "Choose another --out, or delete the folder."
            )


def read_journal(folder: Path) -> Journal:
    """Return the content of the journal.

    Raises:
        ValueError: The journal is damaged.
    """
    advice = f"Delete {folder} and prepare the data again."
    tree = read_json(folder / JOURNAL, advice)
    try:
        return Journal(
            recipe=entry(tree, "recipe", Recipe),
            done=entry(tree, "done", int, least=0),
            sha256=entry(tree, "sha256", str) if "sha256" in tree else "",
            files=entry(tree, "files", int, least=0) if "files" in tree else 0,
            files_sha256=entry(tree, "files_sha256", str) if "files_sha256" in tree else "",
        )
    except ValueError as error:
        raise ValueError(f"{folder / JOURNAL} is damaged ({error}). {advice}") from None


def write_journal(journal: Journal, folder: Path) -> None:
    """Record that images are safe on disk, and the files from which they were read."""
    write_atomically(folder / JOURNAL, json.dumps(dataclasses.asdict(journal)).encode())
