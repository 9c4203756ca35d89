"""The plan of a job: whether an update fits its GPUs, and whether its times suit a step and a checkpoint."""

import math
from collections.abc import Iterator

from ict_ref.launch.fitting import described, fit_of, with_recorded
from ict_ref.launch.options import Launch
from ict_ref.plan.fit import Fit
from ict_ref.plan.flop import flop_per_image
from ict_ref.plan.hardware import Gpu, gpu_of_type, peak
from ict_ref.plan.memory import state_sizes
from ict_ref.slurm.options import Job
from ict_ref.slurm.preflight import gpu_type

SHARE = 0.2
"""Share of a GPU's peak by which a step is estimated: less than a run should reach."""
BYTES_PER_SECOND = 2e8
"""Rate at which a checkpoint is written, of a slow shared file system."""
EARLY = 60
"""Seconds by which SLURM may send the signal early."""


def gpu_of_job(job: Job) -> tuple[Gpu | None, int]:
    """Return the GPU of a job, if it is known, and its memory in bytes, 0 if that is unknown."""
    gpu = gpu_of_type(gpu_type(job)) if job.gpus_per_node else None
    stated = job.gpu_memory_gb * 2**30 if job.gpus_per_node else 0
    return gpu, stated or (0 if gpu is None else gpu.memory_bytes)


def predicted(launch: Launch) -> tuple[Fit, int] | None:
    """Return the microbatches with which an update fits the job's GPUs, and their memory; None if it is unknown.

    Raises:
        ValueError: Nothing fits, or noise shards cannot be divided among the processes.
    """
    _, bytes_free = gpu_of_job(launch.job)
    if not bytes_free:
        return None
    config = with_recorded(launch.config, launch.folder())
    return fit_of(config, processes=launch.job.processes, bytes_free=bytes_free), bytes_free


def memory_line(launch: Launch) -> str:
    """Return a line about the memory of the job's GPUs.

    Raises:
        ValueError: Nothing fits, or noise shards cannot be divided among the processes.
    """
    found = predicted(launch)
    if found is None:
        return "memory: chosen when the run begins; give --job.gpu-type or --job.gpu-memory-gb to see it here"
    gpu, _ = gpu_of_job(launch.job)
    source = (
        "--job.gpu-memory-gb" if launch.job.gpu_memory_gb or gpu is None else f"{gpu.name}; see --job.gpu-memory-gb"
    )
    return f"memory: {described(*found)} ({source})"


def too_short(launch: Launch) -> Iterator[str]:
    """Yield a line for each time of the job that is too short for a step and a checkpoint on its GPUs."""
    gpu, _ = gpu_of_job(launch.job)
    if gpu is None:
        return
    job, config = launch.job, launch.config
    flop = flop_per_image(config) * config.train.batch_size
    step = flop / (job.processes * SHARE * peak(gpu, config))
    checkpoint = state_sizes(config).checkpoint / BYTES_PER_SECOND
    needs = f"a step of up to {math.ceil(step)} s and a checkpoint of up to {math.ceil(checkpoint)} s"
    least = math.ceil(EARLY + step + checkpoint)
    if job.signal_seconds < least:
        expected = f"at least {least}, for {needs} after a signal that may be {EARLY} s early"
        yield f"--job.signal-seconds: expected {expected}, got {job.signal_seconds}"
    if 60 * job.minutes < job.signal_seconds + step + checkpoint:
        yield f"--job.minutes: expected more than --job.signal-seconds with {needs}, got {job.minutes}"
