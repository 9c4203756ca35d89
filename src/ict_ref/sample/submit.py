"""Sampling as a SLURM job: `python -m ict_ref.sample --slurm`."""

import dataclasses
from functools import partial
from pathlib import Path

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.sample.make import NAME, execute, recipe_of
from ict_ref.sample.options import Sampling
from ict_ref.sample.parts import Parts
from ict_ref.slurm.preflight import problems
from ict_ref.slurm.submit import executor, submit
from ict_ref.slurm.worker import SlurmTask


def submit_sampling(sampling: Sampling) -> int:
    """Submit the job and return the exit status of the submission, or with --wait that of the job.

    Raises:
        ValueError: The job would reject its options later, or SLURM rejects the job.
        OSError: A file cannot be read or written.
    """
    sampling = dataclasses.replace(sampling, model=sampling.model.resolve(), out=sampling.place.resolve())
    if sampling.job.gpus_per_node and sampling.device == "auto":
        # A job that requests GPUs must fail without them, instead of sampling on CPUs.
        sampling = dataclasses.replace(sampling, device="cuda")
    recipe = recipe_of(
        sampling, load_pretrained(sampling.model, step=sampling.step, ema=sampling.ema, ema_sigma=sampling.ema_sigma)
    )
    work = SlurmTask(
        name=NAME,
        folder=sampling.place.with_name(f"{sampling.place.name}.job"),
        kind="job folder",
        job=sampling.job,
        action=partial(execute, sampling),
        total=sampling.count,
        unit="images",
        progress=partial(progress, sampling.parts, recipe.batches),
    )
    not_ready = list(problems(sampling.job))
    if "%" in str(work.folder):
        not_ready.insert(0, f"--out: expected a path without %, which SLURM replaces, got {sampling.place}")
    if sampling.dry_run:
        print(executor(work).text(), *(f"not ready: {line}" for line in not_ready), sep="\n")
        return 0
    if not_ready:
        raise ValueError(not_ready[0])
    return submit(work, wait=sampling.wait)


def progress(folder: Path, batches: list[range]) -> tuple[int, str]:
    """Return the number of finished samples, also after the parts are removed."""
    total = sum(len(batch) for batch in batches)
    made = Parts(folder, batches).made() if folder.exists() else 0
    done = folder.with_name(folder.name.removesuffix(".parts")).exists()
    return (total if done else made), ""
