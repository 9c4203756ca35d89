"""A run as a SLURM job: `python -m ict_ref.launch --slurm`."""

import dataclasses
import json
from functools import partial
from pathlib import Path

from ict_ref.launch.options import Launch
from ict_ref.launch.preflight import refuse_unless_ready
from ict_ref.launch.run import execute, say
from ict_ref.slurm.submit import submit
from ict_ref.slurm.worker import SlurmTask
from ict_ref.training.loggers import METRICS
from ict_ref.training.metrics_log import summary
from ict_ref.utils.command_line import REFUSED
from ict_ref.utils.regular_file import read_regular, real_path


def submit_run(launch: Launch) -> int:
    """Submit the run and return the exit status of the submission, or with --wait that of the run."""
    launch = for_slurm(launch)
    try:
        refuse_unless_ready(launch)
        # The job itself writes config.json, so that a rejected submission leaves nothing.
        return submit(as_slurm_task(launch), wait=launch.wait)
    except (ValueError, OverflowError) as error:
        return say(REFUSED, str(error))
    except BrokenPipeError:
        raise  # nobody reads the output
    except OSError as error:
        return say(REFUSED, f"cannot use {error.filename or launch.folder()}: {error.strerror or error}")


def for_slurm(launch: Launch) -> Launch:
    """Return the run with the absolute path of its folder, and on GPUs if its job has some."""
    launch = dataclasses.replace(launch, out=real_path(launch.folder()))
    if launch.job.gpus_per_node and launch.config.machine.device == "auto":
        # A job that requests GPUs must fail without them, instead of training on CPUs.
        machine = dataclasses.replace(launch.config.machine, device="cuda")
        launch = dataclasses.replace(launch, config=dataclasses.replace(launch.config, machine=machine))
    return launch


def as_slurm_task(launch: Launch) -> SlurmTask:
    """Return the run as a SLURM task."""
    return SlurmTask(
        name="ict_ref.launch",
        folder=launch.folder(),
        kind="run folder",
        job=launch.job,
        action=partial(execute, launch),
        total=launch.config.train.steps,
        progress=partial(progress, launch.folder() / METRICS),
    )


def progress(metrics: Path) -> tuple[int, str]:
    """Return the last step in the metrics, and a summary of its values."""
    lines = read_regular(metrics).splitlines() if metrics.exists() else []
    for line in reversed(lines):
        try:
            last = json.loads(line)
        except ValueError:
            continue  # this line is still being written
        return last["step"], summary(last)
    return 0, ""
