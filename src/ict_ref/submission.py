"""Submits a run as a SLURM job, says where to look, and follows it: `python -m ict_ref.launch --slurm`."""

import contextlib
import dataclasses
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import _make_sbatch_string

from ict_ref.following import follow_job
from ict_ref.options import Launch
from ict_ref.run import REFUSED, say
from ict_ref.run_folder import open_run
from ict_ref.task import Task

# A job queues itself again at every time limit; submitit wants a number.
AS_OFTEN_AS_IT_TAKES = 100_000


def submit(launch: Launch) -> int:
    """Submit the job and return the exit status: of the submission, or with --wait of the run."""
    launch = dataclasses.replace(launch, out=launch.folder().resolve())
    try:
        refuse_what_the_job_would(launch)
        if launch.dry_run:
            print(launch.config.to_json(), "\n")
            print(sbatch_file(launch))
            return 0
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise ValueError(
                "needs sbatch and srun; this machine has none; submit where SLURM is, or leave out --slurm"
            )
        with open_run(launch.folder(), launch.config):
            pass
        job = _submitted(launch)
    except (ValueError, OverflowError) as error:
        return say(REFUSED, str(error))
    except OSError as error:
        return say(REFUSED, f"cannot use {error.filename or launch.folder()}: {error.strerror or error}")
    log = job.paths.folder / f"{job.job_id}_0_log.out"
    print(f"job {job.job_id} submitted: {launch.job.nodes} nodes, {launch.job.processes} processes")
    print(f"run folder {launch.folder()}\nlog        {log}")
    print(f"follow it  tail -F {log}   (or squeue -j {job.job_id}; end it by scancel {job.job_id})", flush=True)
    return follow_job(job, launch) if launch.wait else 0


def refuse_what_the_job_would(launch: Launch) -> None:
    """Raise ValueError for what the job would refuse, hours later in the queue."""
    from ict_ref.data import load
    from ict_ref.processes import World
    from ict_ref.step import refuse_bad_numbers

    load(launch.config.data)
    refuse_bad_numbers(launch.config)
    World(0, launch.job.processes).parts(launch.config.train.lanes, launch.config.machine.accumulate)
    if launch.config.record.tensorboard:
        from ict_ref.metrics import refuse_without_tensorboard

        refuse_without_tensorboard()


def job_folder(launch: Launch) -> Path:
    """Return where submitit puts logs and results; %j is the job's number."""
    return launch.folder() / "slurm" / "%j"


def parameters(launch: Launch) -> dict[str, Any]:
    """Return what submitit is told of the job."""
    job = launch.job
    more: dict[str, Any] = {"requeue": True}
    for option in job.sbatch:
        name, _, value = option.lstrip("-").partition("=")
        more[name] = value or True
    typed = job.gpus_per_node > 0 and job.gpu_type
    if typed:
        more["gpus-per-node"] = f"{job.gpu_type}:{job.gpus_per_node}"
    wanted = {
        "slurm_partition": job.partition, "slurm_account": job.account, "slurm_qos": job.qos,
        "slurm_constraint": job.constraint, "gpus_per_node": 0 if typed else job.gpus_per_node,
    }  # fmt: skip
    return {
        "name": launch.folder().name,
        "nodes": job.nodes,
        "tasks_per_node": job.tasks,
        "cpus_per_task": job.cpus_per_process,
        "mem_gb": job.memory_gb,
        "timeout_min": job.minutes,
        "stderr_to_stdout": True,
        "slurm_signal_delay_s": job.signal_seconds,
        # A process that is gone takes the others with it: they would wait for it.
        "slurm_srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={job.cpus_per_process}"],
        "slurm_setup": ["set -e", *job.setup],
        "slurm_additional_parameters": more,
        **{name: value for name, value in wanted.items() if value},
    }


def sbatch_file(launch: Launch) -> str:
    """Return the file that would be given to sbatch."""
    names = {"name": "job_name", "timeout_min": "time", "tasks_per_node": "ntasks_per_node", "mem_gb": "mem"}
    given = {names.get(key, key.removeprefix("slurm_")): value for key, value in parameters(launch).items()}
    given["mem"] = f"{launch.job.memory_gb}GB"
    command = f"{sys.executable} -u -m submitit.core._submit {job_folder(launch)}"
    return _make_sbatch_string(command=command, folder=job_folder(launch), **given)


def _submitted(launch: Launch) -> submitit.Job[int]:
    executor = submitit.AutoExecutor(
        folder=job_folder(launch), cluster="slurm", slurm_max_num_timeout=AS_OFTEN_AS_IT_TAKES
    )
    executor.update_parameters(**parameters(launch))
    before = set(launch.folder().glob("slurm/*"))
    cluster = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    try:
        # Submitted from within a job it is another job. submitit repeats what sbatch says.
        with contextlib.redirect_stderr(io.StringIO()), submitit.helpers.clean_env():
            os.environ |= cluster
            return executor.submit(Task(launch))
    except FailedJobError as error:
        for left in set(launch.folder().glob("slurm/*")) - before:
            left.unlink()
        raise ValueError(f"sbatch refuses the job: {_first_complaint(str(error))}") from None


def _first_complaint(text: str) -> str:
    """Return what sbatch said, on one line."""
    lines = [line.split("error:", 1)[-1].strip() for line in text.splitlines() if "error:" in line]
    return "; ".join(dict.fromkeys(lines)) or " ".join(text.split())
