"""The journal of unfinished prepared data: the recipe, and the number of images that are safe on disk."""

import json
from pathlib import Path

from ict_ref.data.prepared import JOURNAL, Recipe
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.json_file import entry, read_json


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


def read_journal(folder: Path) -> tuple[Recipe, int]:
    """Return the recipe of unfinished data and the number of images that are safe on disk.

    Raises:
        ValueError: The journal is damaged.
    """
    advice = f"Delete {folder} and prepare the data again."
    tree = read_json(folder / JOURNAL, advice)
    try:
        return entry(tree, "recipe", Recipe), entry(tree, "done", int, least=0)
    except ValueError as error:
        raise ValueError(f"{folder / JOURNAL} is damaged ({error}). {advice}") from None


def write_journal(recipe: Recipe, folder: Path, done: int) -> None:
    """Record that `done` images are safe on disk."""
    write_atomically(folder / JOURNAL, json.dumps({"recipe": recipe, "done": done}).encode())
