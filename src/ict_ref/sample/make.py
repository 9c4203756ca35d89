"""Sampling in one or more processes: each makes a fraction of the batches, and the first writes the result."""

import contextlib
import json
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel, load_pretrained
from ict_ref.config import Machine
from ict_ref.data.image_files import write_grid, write_npz, write_pngs
from ict_ref.distributed.process_group import ProcessGroup, joined
from ict_ref.sample.options import ONE_FILE, Sampling
from ict_ref.sample.parts import Parts
from ict_ref.sample.recipe import FORMAT, Recipe
from ict_ref.utils import file_format
from ict_ref.utils.atomic import NewFiles, new_files
from ict_ref.utils.command_line import guarded, say
from ict_ref.utils.compiler import refuse_without_compiler
from ict_ref.utils.printable import printable
from ict_ref.utils.progress import bar
from ict_ref.utils.signals import StopRequest
from ict_ref.utils.version import __version__

NAME = "ict_ref.sample"
# Largest number of classes that a grid shows as columns.
WIDEST = 20


def execute(sampling: Sampling) -> int:
    """Make samples in this process, and convert expected errors to one line and an exit status."""
    return guarded(NAME, lambda: make(sampling), stopped="stopped at once; the same command resumes")


def make(sampling: Sampling) -> int:
    """Make samples as the rank that the environment sets, and return the exit status.

    Raises:
        ValueError: The model, its noise levels or labels, or the output path cannot be used.
        OSError: A file cannot be read or written.
    """
    if sampling.threads:
        torch.set_num_threads(sampling.threads)
    with contextlib.ExitStack() as held, joined(Machine(device=sampling.device), option="--device") as group:
        if sampling.compile:
            refuse_without_compiler(group.device.type, "--compile", "leave --compile out")
        recipe = recipe_of(
            sampling,
            load_pretrained(
                sampling.model,
                group.device,
                step=sampling.step,
                ema=sampling.ema,
                ema_sigma=sampling.ema_sigma,
                network=sampling.network,
            ),
        )
        parts = Parts(sampling.parts, recipe.batches, recipe.trained.event)
        about = {
            file_format.KEY: FORMAT,
            "ict_ref": __version__,
            "model": recipe.trained.name,
            "shape": list(recipe.trained.event),
            "count": sampling.count,
            **recipe.described(),
        }
        new = None
        if group.first:
            new = held.enter_context(new_files(*sampling.files))
            for remark in recipe.remarks:
                print(printable(f"{recipe.trained.name}: {remark}"))
            parts.begin(about)
        group.any(False)  # the other ranks wait for the first
        stop = StopRequest()
        with stop.listening():
            _make_missing(parts, recipe, group, stop)
            stopped = group.any(stop())
        if stopped:
            number = stop.signal or 15
            return say(
                NAME, 128 + number, f"stopped, {parts.made()} of {sampling.count} made; the same command resumes"
            )
        if new is not None:
            write(parts, sampling, new, about, recipe.labels)
            how = f"noise levels {recipe.levels}, seed {recipe.seed}"
            print(printable(f"{recipe.count} samples of {recipe.trained.name}, {how}: {sampling.place}"))
        return 0


def recipe_of(sampling: Sampling, trained: PretrainedModel) -> Recipe:
    """Return the recipe of the samples.

    Raises:
        ValueError: The model does not support the noise levels or labels.
    """
    clip = {"as-trained": None, "yes": True, "no": False}[sampling.clip]
    return Recipe(
        trained, sampling.count, sampling.sigmas, sampling.labels, sampling.seed, clip, sampling.precision,
        sampling.compile, sampling.truncate, sampling.label_order,
    )  # fmt: skip


def write(
    parts: Parts, sampling: Sampling, new: NewFiles, about: dict[str, Any], labels: Int64[Tensor, " n"] | None
) -> None:
    """Write the samples and their description, the samples last, then remove the parts.

    Raises:
        ValueError: A part is damaged, or another file has appeared in place of the samples.
        OSError: A file cannot be written.
    """
    pixels, place = parts.gathered(), sampling.place
    description = json.dumps(about, indent=2).encode() + b"\n"
    if sampling.ending in ONE_FILE:
        new.write(sampling.about, description)
        aside = new.file(place)
        if sampling.ending == ".npz":
            write_npz(pixels, aside, labels)
        else:
            write_grid(pixels, aside, columns(labels))
    else:
        aside = new.folder(place)
        write_pngs(pixels, aside)
        (aside / sampling.about.name).write_bytes(description)
    new.complete()
    parts.remove()


def columns(labels: Int64[Tensor, " n"] | None) -> int | None:
    """Return the number of columns of a grid: one per class if at most WIDEST classes alternate, else None."""
    if labels is None:
        return None
    turn = len(set(labels.tolist()))
    return turn if 1 < turn <= WIDEST and bool((labels == labels[torch.arange(len(labels)) % turn]).all()) else None


def _make_missing(parts: Parts, recipe: Recipe, group: ProcessGroup, stop: StopRequest) -> None:
    """Make the missing batches of this process until a signal."""
    missing = parts.missing(group.rank, group.size)
    total = sum(len(parts.batches[number]) for number in missing)
    with bar(total, "sampling", "images", shown=group.first) as progress:
        for number in missing:
            if stop():
                return
            parts.keep(number, recipe.make(parts.batches[number]))
            progress.update(len(parts.batches[number]))
