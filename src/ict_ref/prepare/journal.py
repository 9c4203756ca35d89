"""The journal of a folder that is being prepared: the recipe, and how many images are safe on disk."""

import json
from pathlib import Path

from ict_ref.data.prepared import JOURNAL, Recipe
from ict_ref.utils.atomic import write_atomically


def refuse_another_recipe(here: Recipe, there: Recipe, folder: Path) -> None:
    """Raise ValueError unless the folder holds the work of this recipe."""
    for name in [*there, *here]:
        if there.get(name) != here.get(name):
            raise ValueError(
                f"{folder} is of another recipe: {name} is {there.get(name)} there and {here.get(name)} here; choose "
                "another --out, or delete it"
            )


def read_journal(folder: Path) -> tuple[Recipe, int]:
    """Return the recipe of the work that was begun and how many images are safe on disk."""
    try:
        tree = json.loads((folder / JOURNAL).read_bytes())
        return dict(tree["recipe"]), int(tree["done"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{folder / JOURNAL} is damaged; delete {folder} and prepare the data again") from None


def write_journal(recipe: Recipe, folder: Path, done: int) -> None:
    """Record that `done` images are safe on disk."""
    write_atomically(folder / JOURNAL, json.dumps({"recipe": recipe, "done": done}).encode())
