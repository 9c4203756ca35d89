"""One run of the command: reading, editing and writing images."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel, load_pretrained
from ict_ref.data.dataset import to_float, to_uint8
from ict_ref.data.image_files import write_npz, write_pngs
from ict_ref.edit.between import between
from ict_ref.edit.inputs import given_images, given_labels, mask_of
from ict_ref.edit.model import function_of
from ict_ref.edit.options import DENOISE, LEVELS, STROKE, Options, shown
from ict_ref.edit.tasks import ROWS, Levels, Task, colorize, inpaint, remove_noise, stroke, super_resolve
from ict_ref.formulas import sigma_grid
from ict_ref.sample.images import VALUES
from ict_ref.sample.recipe import FORMAT, network_sha256
from ict_ref.sample.sheet import draw_sheet
from ict_ref.utils import file_format
from ict_ref.utils.atomic import new_files
from ict_ref.utils.command_line import expect
from ict_ref.utils.printable import printable
from ict_ref.utils.progress import bar
from ict_ref.utils.version import __version__


@dataclass(frozen=True)
class Made:
    """The results of a task, the columns of its picture and its settings."""

    pixels: UInt8[Tensor, " n channels height width"]
    labels: Int64[Tensor, " n"] | None
    columns: list[tuple[str, UInt8[Tensor, " rows _ height width"]]]
    names: list[str]
    about: dict[str, object]
    """Settings beyond the options, such as default values."""


def work(options: Options) -> int:
    """Run the task, write its results, print their paths and return the exit status.

    Raises:
        ValueError: The model, the images or an option cannot be used.
        OSError: A file cannot be read or written.
    """
    trained = load_pretrained(
        options.model,
        options.device,
        step=options.step,
        ema=options.ema,
        ema_sigma=options.ema_sigma,
        network=options.network,
    )
    if trained.event[0] not in (1, 3):
        raise ValueError(
            f"RUN|FILE: expected a model of grey or colour images, got {trained.name} of {trained.event[0]} channels"
        )
    with new_files(options.folder) as new:
        made = _interpolated(options, trained) if options.task == "interpolate" else _edited(options, trained)
        _write(options, trained, made, new.folder(options.folder))
    print(printable(f"{options.task}: {len(made.pixels)} images by {trained.name}"))
    out = options.folder
    print(printable(f"see {out}/edit.png; one by one in {out}/images, all in images.npz, settings in edit.json"))
    return 0


def _edited(options: Options, trained: PretrainedModel) -> Made:
    at = levels(options, trained)
    images, labels = _inputs(options, trained)
    task, settings = _task(options, images, trained.event, at)
    chunks = _chunks(len(images), trained.event)
    with bar(len(chunks) * len(at.sigmas), options.task, "evaluations") as progress:
        pixels = torch.cat([run(task, at, trained, labels, chosen, progress.update) for chosen in chunks])
    about = {"sigmas": at.sigmas.tolist(), **settings}
    return Made(pixels, labels, [*task.beside.items(), ("result", pixels)], _row_names(labels, len(pixels)), about)


def _inputs(
    options: Options, trained: PretrainedModel
) -> tuple[UInt8[Tensor, " n channels height width"], Int64[Tensor, " n"] | None]:
    """Return the images to edit and their labels."""
    side, patch = trained.event[2], options.chosen_patch
    expect(side % patch == 0, "--patch", f"a divisor of {side}, the side of the model's images", patch)
    images, own = given_images(options.images, trained, count=options.count, patch=patch)
    return images, given_labels(options.labels, own, trained, len(images))


def _task(
    options: Options, images: UInt8[Tensor, " n channels height width"], event: tuple[int, int, int], at: Levels
) -> tuple[Task, dict[str, object]]:
    """Return the task of the options and its settings."""
    match options.task:
        case "inpaint":
            where = options.mask or "right"
            mask = mask_of(where, event, count=len(images), seed=at.seed)
            return inpaint(images, mask, at), {"mask": where}
        case "colorize":
            return colorize(images, at), {}
        case "superres":
            side, patch = event[2], options.chosen_patch
            given = "small images" if images.shape[-1] < side else "images, then averaged"
            return super_resolve(images, side, patch, at), {"patch": patch, "given": given}
        case "stroke":
            return stroke(images, at), {}
        case _:
            return remove_noise(images, options.noisy, at), {"noise": "in the images" if options.noisy else "added"}


@torch.no_grad()
def run(
    task: Task,
    at: Levels,
    trained: PretrainedModel,
    labels: Int64[Tensor, " n"] | None,
    chosen: range,
    after: Callable[[], object] = lambda: None,
) -> UInt8[Tensor, " some channels height width"]:
    """Return the results of the task for the chosen images, rounded to 8 bits."""
    device = next(trained.model.parameters()).device
    some = slice(chosen.start, chosen.stop)
    f = function_of(trained, None if labels is None else labels[some].to(device), after)
    y, noises = to_float(task.y[some]).to(device), at.noises(chosen, trained.event).to(device)
    return to_uint8(task.change(f, y, noises, some)).cpu()


def levels(options: Options, trained: PretrainedModel) -> Levels:
    """Return the given noise levels, or those of the task.

    Raises:
        ValueError: A level is outside the range of training.
    """
    low, high = trained.lowest_sigma, trained.method.sigma_max
    if options.sigmas:
        trained.refuse_untrained("--sigmas", options.sigmas)
        if not low <= options.sigmas[-1] <= options.sigmas[0] <= high:
            raise ValueError(
                f"--sigmas: expected levels from {high:g} to {low:g} as in training, got {shown(options.sigmas)}"
            )
        sigmas = torch.tensor(options.sigmas, dtype=torch.float64)
    elif options.task in ("stroke", "denoise"):
        usual = STROKE if options.task == "stroke" else (DENOISE,)
        trained.refuse_untrained("--sigmas", usual)
        sigmas = torch.tensor(usual, dtype=torch.float64)
    else:
        sigmas = sigma_grid(LEVELS, sigma_min=low, sigma_max=high, rho=trained.method.rho).flip(0)
    return Levels(sigmas, trained.model.sigma_min, options.chosen_seeds[0])


def _interpolated(options: Options, trained: PretrainedModel) -> Made:
    first, second = options.chosen_seeds
    steps = options.steps or 9
    rows = options.count or len(options.labels) or min(trained.classes, 10) or 8
    labels = trained.labels(rows, options.labels)
    chunks = _chunks(rows, trained.event)
    with bar(len(chunks) * steps, options.task, "evaluations") as progress:
        parts = [
            between(trained, labels, (first, second), steps=steps, chosen=chosen, after=progress.update)
            for chosen in chunks
        ]
    made = torch.cat(parts)
    titles = [f"seed {first}", *(f"{k / (steps - 1):.3g}" for k in range(1, steps - 1)), f"seed {second}"]
    columns = [(title, made[:, k]) for k, title in enumerate(titles)]
    of_each = None if labels is None else labels.repeat_interleave(steps)
    about: dict[str, object] = {"steps": steps, "sigmas": [trained.method.sigma_max]}
    return Made(made.flatten(0, 1), of_each, columns, _row_names(labels, rows), about)


def _write(options: Options, trained: PretrainedModel, made: Made, folder: Path) -> None:
    """Write the results into a folder that appears when they are whole."""
    write_pngs(made.pixels, folder / "images")
    write_npz(made.pixels, folder / "images.npz", made.labels)
    shown = [(title, [image[None] for image in images[:ROWS]]) for title, images in made.columns]
    draw_sheet(shown, made.names[:ROWS], folder / "edit.png", 1, side=64)
    about = {
        file_format.KEY: FORMAT,
        "version": __version__,
        "model": trained.name,
        "network_sha256": network_sha256(trained),
        "task": options.task,
        "given": list(options.images),
        "count": len(made.pixels),
        "labels": None if made.labels is None else made.labels.tolist(),
        "seeds": list(options.chosen_seeds),
        "clip": trained.sample.clip,
        **made.about,
    }
    (folder / "edit.json").write_bytes((json.dumps(about, indent=2) + "\n").encode())


def _row_names(labels: Int64[Tensor, " rows"] | None, rows: int) -> list[str]:
    """Return the name of each row of the picture: its label, or an empty name without labels."""
    return [""] * rows if labels is None else [str(label) for label in labels.tolist()]


def _chunks(count: int, event: tuple[int, ...]) -> list[range]:
    together = max(1, VALUES // math.prod(event))
    return [range(start, min(start + together, count)) for start in range(0, count, together)]
