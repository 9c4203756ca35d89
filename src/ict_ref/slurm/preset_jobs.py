"""The SLURM jobs of the presets: how many GPUs each of the paper's runs takes, and for how long a start may run.

A node has eight GPUs. Runs on CIFAR-10 take one node, those on ImageNet enough nodes to end in one or two weeks on
A100s (docs/plan.md). A job is signalled five minutes before its time limit: SLURM may do so a minute early, a step
takes seconds, and a checkpoint of up to 8 GB takes a minute on a slow file system.
"""

import dataclasses

from ict_ref.slurm.options import Job

GPUS = Job(gpus_per_node=8, cpus_per_process=8, minutes=1440, signal_seconds=300)
NODES = {"imagenet64": 4, "imagenet64_time1000": 4, "imagenet64_deep": 8, "imagenet64_ct": 4}
"""Number of nodes of a preset; those that are not listed take one."""
SMALL = ("digits", "minimal")
"""Presets that train on a CPU. Only these were ever trained for this repository."""


def is_of_the_paper(preset: str) -> bool:
    """Return whether a preset is one of the paper's runs, which need GPUs."""
    return preset not in SMALL


def preset_job(preset: str, *, gpus: bool = True) -> Job:
    """Return the job of a preset; without `gpus` it is one process on one core."""
    if not (gpus and is_of_the_paper(preset)):
        return Job()
    return dataclasses.replace(GPUS, nodes=NODES.get(preset, 1))
