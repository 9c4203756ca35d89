"""Sheets of samples from a trained model, in one step and in two steps from the same noise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel, load_pretrained
from ict_ref.config import Machine
from ict_ref.distributed.process_group import joined
from ict_ref.sample.recipe import FORMAT, Recipe
from ict_ref.sample.sheet import COLUMNS, ROWS, sample_sheet
from ict_ref.utils import file_format
from ict_ref.utils.atomic import new_files, refuse_outputs
from ict_ref.utils.command_line import expect, model_name
from ict_ref.utils.progress import bar
from ict_ref.utils.version import __version__


def write_samples(
    run: Path,
    folder: Path,
    *,
    step: int | None = None,
    ema: float | None = None,
    ema_sigma: float | None = None,
    size: tuple[int, int] | None,
    wanted: tuple[int, ...],
    seed: int,
    device: Literal["auto", "cpu", "cuda"],
) -> str:
    """Write NAME-sheet.png and its description NAME-sheet.json to the folder, and return a summary line.

    `run` is a run folder, whose checkpoint after `step` updates is used, or a file. `ema` and `ema_sigma` choose EMA
    weights as in `load_pretrained`. `size` and `wanted` are the arguments of `planned`.

    Raises:
        ValueError: The model cannot be loaded, does not have such labels, or an output path exists.
        OSError: A file cannot be read or written.
    """
    place = folder / f"{model_name(run, step, ema, ema_sigma)}-sheet.png"
    description = place.with_suffix(".json")
    refuse_outputs(place, description)
    with joined(Machine(device=device), option="--device") as group, new_files(description, place) as new:
        trained = load_pretrained(run, group.device, step=step, ema=ema, ema_sigma=ema_sigma)
        recipes, rows, columns = planned(trained, size, wanted, seed)
        with bar(2 * rows * columns, "sampling", "images") as progress:
            blocks = {title: made(recipe, columns, progress.update) for title, recipe in recipes.items()}
        about = {
            file_format.KEY: FORMAT,
            "ict_ref": __version__,
            "model": trained.name,
            "rows": rows,
            "columns": columns,
            "blocks": {title: recipe.described() for title, recipe in recipes.items()},
        }
        new.write(description, json.dumps(about, indent=2).encode() + b"\n")
        labels = next(iter(recipes.values())).labels
        sample_sheet(blocks, labels, new.file(place), rows=rows, columns=columns)
    return f"{place}  {trained.name}, {rows} rows of {columns}, from the same noise: {'; '.join(blocks)}"


def planned(
    trained: PretrainedModel, size: tuple[int, int] | None, wanted: tuple[int, ...], seed: int
) -> tuple[dict[str, Recipe], int, int]:
    """Return the recipes of the samples by title, and the numbers of rows and columns.

    Rows show the wanted classes, or the first ones. The default size is 8 columns, and 10 rows or one per class.

    Raises:
        ValueError: The model does not support this size or these labels.
    """
    classes = wanted or tuple(range(trained.classes))
    rows, columns = size or (min(ROWS, len(classes) or ROWS), COLUMNS)
    expect(rows >= 1 and columns >= 1, "--sheet", "ROWS >= 1 and COLUMNS >= 1", f"{rows} {columns}")
    different = len(set(wanted)) == len(wanted)
    expect(different, "--labels", "different classes, one per row", " ".join(map(str, wanted)))
    enough = not classes or rows <= len(classes)
    expect(enough, "--sheet", f"at most {len(classes)} rows, one per class", rows)
    high, middle = trained.method.sigma_max, trained.sample.two_step_sigma
    levels = {"one step": (high,), f"two steps, sigma {middle}": (high, middle)}
    recipes = {title: Recipe(trained, rows * columns, sigmas, classes[:rows], seed) for title, sigmas in levels.items()}
    return recipes, rows, columns


def made(recipe: Recipe, together: int, tick: Callable[[int], object]) -> UInt8[Tensor, " n channels height width"]:
    """Return the samples, made `together` at a time; `tick` is called with the size of each batch."""
    parts = []
    for start in range(0, recipe.count, together):
        parts.append(recipe.make(range(start, start + together)))
        tick(together)
    return torch.cat(parts)
