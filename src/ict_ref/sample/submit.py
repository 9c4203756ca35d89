"""Sampling as a SLURM job: `python -m ict_ref.sample --slurm`."""

import dataclasses
from functools import partial
from pathlib import Path

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.sample.job import on_gpus_of_job, submit_command
from ict_ref.sample.make import NAME, execute, recipe_of
from ict_ref.sample.options import Sampling
from ict_ref.sample.parts import Parts
from ict_ref.utils.regular_file import real_path


def submit_sampling(sampling: Sampling) -> int:
    """Submit the job and return the exit status of the submission, or with --wait that of the job.

    Raises:
        ValueError: The job would reject its options later, or SLURM rejects the job.
        OSError: A file cannot be read or written.
    """
    sampling = on_gpus_of_job(
        dataclasses.replace(sampling, model=real_path(sampling.model), out=real_path(sampling.place))
    )
    recipe = recipe_of(
        sampling,
        load_pretrained(
            sampling.model, step=sampling.step, ema=sampling.ema, ema_sigma=sampling.ema_sigma, network=sampling.network
        ),
    )
    return submit_command(
        NAME,
        sampling,
        partial(execute, sampling),
        place=sampling.place,
        option="--out",
        total=sampling.count,
        unit="images",
        progress=partial(progress, sampling.parts, recipe.batches),
    )


def progress(folder: Path, batches: list[range]) -> int:
    """Return the number of finished samples, also after the parts are removed."""
    total = sum(len(batch) for batch in batches)
    made = Parts(folder, batches).made() if folder.exists() else 0
    return total if folder.with_name(folder.name.removesuffix(".parts")).exists() else made
