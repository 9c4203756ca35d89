"""The report of a dry run: `python -m ict_ref.launch --dry-run`."""

import contextlib
from collections.abc import Sequence

from ict_ref.launch import sources
from ict_ref.launch.job_plan import memory_line
from ict_ref.launch.options import Launch
from ict_ref.launch.preflight import problems


def report(launch: Launch, arguments: Sequence[str]) -> str:
    """Return the configuration, the values that differ from the preset, the sbatch file, and what is not ready.

    Nothing is written. The sbatch file is made by the code that submits it.

    Raises:
        ValueError: The arguments are not allowed.
        OSError: The cluster file cannot be read.
    """
    with contextlib.suppress(ValueError, OSError):  # `problems` has a line for it
        launch = launch.with_data()
    if launch.slurm:
        from ict_ref.launch.submit import for_slurm  # imports submitit, which a run here does not need

        launch = for_slurm(launch)
    not_ready = problems(launch)
    changed = sources.changes(launch, arguments)
    parts = [
        launch.config.to_json(),
        sources.table(changed) if changed else f"all values are those of the preset {launch.preset}",
    ]
    if launch.slurm:
        if launch.job.gpus_per_node:
            with contextlib.suppress(ValueError, OSError):  # `problems` has a line for it
                parts.append(memory_line(launch))
        parts.append(_sbatch_file(launch))
    parts.append("\n".join(f"not ready: {line}" for line in not_ready) or "ready")
    return "\n\n".join(parts)


def _sbatch_file(launch: Launch) -> str:
    from ict_ref.launch.submit import as_slurm_task
    from ict_ref.slurm.submit import executor

    return executor(as_slurm_task(launch)).text().strip()
