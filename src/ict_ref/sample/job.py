"""Any command that samples from a model as a SLURM job: checks, the sbatch file and the submission."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ict_ref.sample.placement import ModelPlacement
from ict_ref.slurm.preflight import problems, unfit_folder
from ict_ref.slurm.submit import executor, submit
from ict_ref.slurm.worker import SlurmTask
from ict_ref.utils.printable import printable_lines
from ict_ref.utils.regular_file import real_path

T = TypeVar("T", bound=ModelPlacement)


def on_gpus_of_job(options: T) -> T:
    """Return the options, with the device cuda if the job requests GPUs: without GPUs it must fail."""
    on_gpus = options.job.gpus_per_node and options.device == "auto"
    return dataclasses.replace(options, device="cuda") if on_gpus else options


def submit_command(
    name: str,
    options: ModelPlacement,
    action: Callable[[], int],
    *,
    place: Path,
    option: str,
    total: int,
    unit: str,
    progress: Callable[[], int],
) -> int:
    """Submit a job that calls `action` in each process, or with --dry-run print its sbatch file.

    `place` is the path of the results, which `option` names; PLACE.job has the logs. `progress` returns how many of
    `total` units are finished. The result is the exit status of the submission, or with --wait that of the job.

    Raises:
        ValueError: The cluster cannot run the job, or SLURM rejects it.
        OSError: The job folder cannot be written.
    """
    place = real_path(place)
    work = SlurmTask(
        name=name,
        folder=place.with_name(f"{place.name}.job"),
        kind="job folder",
        job=options.job,
        action=action,
        total=total,
        unit=unit,
        progress=lambda: (progress(), ""),
    )
    not_ready = [*unfit_folder(work.folder, place, option), *problems(options.job)]
    if options.dry_run:
        print(printable_lines("\n".join([executor(work).text(), *(f"not ready: {line}" for line in not_ready)])))
        return 0
    if not_ready:
        raise ValueError(not_ready[0])
    return submit(work, wait=options.wait)
