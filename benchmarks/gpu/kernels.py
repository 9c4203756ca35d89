"""The kernels of an update: their number, those that take most of the time, and where the host waits."""

import warnings
from pathlib import Path

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.device import synchronize
from benchmarks.gpu.networks import Case, trainer_of
from benchmarks.gpu.notes import Notes
from benchmarks.gpu.speed import TARGETS, described
from ict_ref.training.trainer import Trainer

# The targets are in the compiler's cache.
CASES = (*TARGETS, Case("cifar10", "float16", 256), Case("cifar10", "tf32", 256))
TOP, STEPS = 12, 2


def measure(notes: Notes, *, tiny: bool) -> None:
    """Note launches, device time, synchronisations and the top kernels of each case."""
    for case in CASES[-1:] if tiny else CASES:
        measure_case(notes, case, tiny=tiny)


def measure_case(notes: Notes, case: Case, *, tiny: bool) -> None:
    """Note the kernels of one case."""
    with trainer_of(case, tiny=tiny) as trainer:
        for _ in range(1 if tiny else 3):
            trainer.update()
        waits = synchronisations(trainer)
        profiled(notes, case, trainer, waits)


def profiled(notes: Notes, case: Case, trainer: Trainer, waits: list[str] | None) -> None:
    """Note the kernels of an update; on a CPU, torch's operations."""
    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    synchronize()
    with profile(activities=activities) as found:
        for _ in range(STEPS):
            trainer.update()
        synchronize()
    kernels = [one for one in found.key_averages() if not on_gpu or one.device_type == DeviceType.CUDA]
    times = {one.key: one.self_device_time_total if on_gpu else one.self_cpu_time_total for one in kernels}
    total = sum(times.values())
    notes.add(
        "kernels",
        **described(case),
        launches=sum(one.count for one in kernels) // STEPS,
        milliseconds=total / STEPS / 1000,
        synchronisations=None if waits is None else len(waits) / STEPS,
        where=sorted(set(waits or [])),
    )
    counts = {one.key: one.count // STEPS for one in kernels}
    for name in sorted(times, key=lambda name: -times[name])[:TOP]:
        notes.add("kernel", **described(case), name=name[:120], share=times[name] / total, launches=counts[name])


def synchronisations(trainer: Trainer) -> list[str] | None:
    """Return the lines at which the host waits for the GPU in two updates; None on a CPU."""
    if not torch.cuda.is_available():
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        for _ in range(STEPS):
            trainer.update()
        torch.cuda.set_sync_debug_mode("default")
    of_waits = [one for one in caught if "called a synchronizing" in str(one.message)]
    return [f"{Path(one.filename).name}:{one.lineno}" for one in of_waits]
