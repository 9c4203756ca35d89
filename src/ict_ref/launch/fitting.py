"""The use of a device by a run: microbatches and recomputation so that an update fits its memory, and its arithmetic.

The choice is made once, when a run begins, and is stored in config.json. A run that resumes takes the stored numbers,
because accumulation changes rounding.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ict_ref.checkpoint.run_dir import load_config
from ict_ref.config import Config
from ict_ref.plan.fit import Fit, fits
from ict_ref.plan.flop import flop_per_image
from ict_ref.plan.hardware import gpu_of_device, peak
from ict_ref.plan.memory import memory, state_sizes
from ict_ref.training.speed import Cost
from ict_ref.utils.available_memory import available_bytes
from ict_ref.utils.command_line import is_of_memory
from ict_ref.utils.environment import whole_number

if TYPE_CHECKING:
    from ict_ref.distributed.process_group import ProcessGroup
    from ict_ref.training.microbatches import Examples

Probe = Callable[[Config], bool]
"""Whether an update of a configuration fits into the device's memory."""
UNCERTAINTY = 1.15
"""Largest ratio of predicted and used memory in the tests of the prediction."""


def settled(config: Config, folder: Path, group: "ProcessGroup", probe: Probe) -> tuple[Config, str]:
    """Return the configuration with its microbatches and recomputation chosen, and a line about a new choice.

    The first process chooses for all of them, by the device with the least free memory. All processes probe the choice
    on a GPU.

    Raises:
        ValueError: nothing fits, or the stored numbers do not fit any more.
    """
    bytes_free = group.least(free_bytes(group, config))
    config = with_recorded(config, folder) if group.first else config
    if not group.any(group.first and "auto" in (config.machine.accumulate, config.machine.recompute)):
        config = _shared(config, group)
        if group.first:
            _refuse_what_does_not_fit(_on_device_of(group, config), group.size, bytes_free)
        return config, ""
    return _chosen(config, group, bytes_free, probe)


def _chosen(config: Config, group: "ProcessGroup", bytes_free: int, probe: Probe) -> tuple[Config, str]:
    """Return the first setting that fits by prediction and by the probe, and a line about it in the first process.

    Raises:
        ValueError: nothing fits.
    """
    fit = fit_of(_on_device_of(group, config), processes=group.size, bytes_free=bytes_free) if group.first else None
    chosen = _shared(config if fit is None else _with(config, fit), group)
    if group.any(not probe(chosen)):
        # The next choice must need less memory than the one that failed.
        return _chosen(config, group, bytes_free if fit is None else fit.memory.total, probe)
    return chosen, "" if fit is None else described(fit, bytes_free)


def free_bytes(group: "ProcessGroup", config: Config) -> int:
    """Return the free memory of this process's device for an update.

    Processes of a machine share its memory evenly. There the first one also needs a copy of the checkpoint that its
    thread writes.
    """
    if group.device.type == "cuda":
        return int(torch.cuda.mem_get_info(group.device)[0])
    here = whole_number("LOCAL_WORLD_SIZE", group.size, 1)
    return max(0, available_bytes() - state_sizes(config).checkpoint) // here


def with_recorded(config: Config, folder: Path) -> Config:
    """Return the configuration with the numbers that its run has recorded, where none are given.

    Raises:
        ValueError: config.json of the folder is damaged.
    """
    if not (folder / "config.json").exists():
        return config
    stored, given = load_config(folder).machine, config.machine
    return _with_numbers(
        config,
        accumulate=stored.accumulate if given.accumulate == "auto" else given.accumulate,
        recompute=stored.recompute if given.recompute == "auto" else given.recompute,
    )


def probe_update(config: Config, examples: "Examples", group: "ProcessGroup") -> bool:
    """Return whether an update of this process's part of the batch fits into the memory of its GPU.

    The update is real, of the size that the run has, but without the other processes and uncompiled; nothing of it is
    kept. On a CPU nothing is tried, because a process without memory is killed.
    """
    if group.device.type != "cuda":
        return True
    from ict_ref.distributed.process_group import ProcessGroup
    from ict_ref.training.trainer import Trainer

    train = dataclasses.replace(
        config.train,
        batch_size=config.train.batch_size // group.size,
        noise_shards=config.train.noise_shards // group.size,
        init="",
    )
    machine = dataclasses.replace(config.machine, compile=False)
    alone = dataclasses.replace(config, train=train, machine=machine)
    trainer = None
    try:
        trainer = Trainer(alone, examples, ProcessGroup(device=group.device))
        trainer.update()
        torch.cuda.synchronize(group.device)
    except torch.OutOfMemoryError:
        return False
    finally:
        if trainer is not None:
            trainer.microbatches.close()
        del trainer
        torch.cuda.empty_cache()
    return True


def cost(config: Config, group: "ProcessGroup") -> Cost | None:
    """Return the arithmetic of an update and the peak of the device; None in all processes but the first."""
    if not group.first:
        return None
    gpu = gpu_of_device(torch.cuda.get_device_name(group.device)) if group.device.type == "cuda" else None
    return Cost(flop_per_image(config), None if gpu is None else peak(gpu, config))


@contextlib.contextmanager
def out_of_memory_explained(config: Config, processes: int) -> Iterator[None]:
    """Turn an error about missing memory into one that names the options that need less.

    Raises:
        MemoryError: the block ran out of memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_of_memory(error):
            raise
        machine, shards = config.machine, config.train.noise_shards // processes
        more = [n for n in range(machine.microbatches + 1, shards + 1) if shards % n == 0]
        advice = [f"--machine.accumulate {count}" for count in more[:1]]
        advice += ["--machine.recompute"] * (not machine.recomputes)
        images = config.train.batch_size // (processes * machine.microbatches)
        raise MemoryError(
            f"{images} images at a time do not fit ({str(error).splitlines()[0]}). "
            f"Give {' or '.join(advice) or 'more processes (--job.nodes)'}; the run then resumes."
        ) from error


def fit_of(config: Config, *, processes: int, bytes_free: int) -> Fit:
    """Return the cheapest setting that fits into memory; numbers of the configuration are kept.

    Raises:
        ValueError: nothing fits, or noise shards cannot be divided among the processes.
    """
    machine = config.machine
    return fits(
        config,
        processes=processes,
        bytes_free=bytes_free,
        accumulate=None if machine.accumulate == "auto" else machine.accumulate,
        recompute=None if machine.recompute == "auto" else machine.recompute,
    )


def described(fit: Fit, bytes_free: int) -> str:
    """Return a line about a choice."""
    microbatches = f"{fit.accumulate} microbatch{'es' if fit.accumulate > 1 else ''} of {fit.images} images"
    recomputed = "recomputed" if fit.recompute else "kept"
    sizes = f"about {_gib(fit.memory.total)} of {_gib(bytes_free)} GiB"
    return f"{microbatches} per process and update, activations {recomputed}: {sizes}"


def _gib(size: int) -> str:
    """Return a size in GiB, without an exponent where it is large."""
    value = size / 2**30
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _with(config: Config, fit: Fit) -> Config:
    return _with_numbers(config, accumulate=fit.accumulate, recompute=fit.recompute)


def _with_numbers(config: Config, **numbers: Any) -> Config:
    return dataclasses.replace(config, machine=dataclasses.replace(config.machine, **numbers))


def _on_device_of(group: "ProcessGroup", config: Config) -> Config:
    """Return the configuration with the device that was chosen, on which the memory of an update depends."""
    return _with_numbers(config, device=group.device.type)


def _shared(config: Config, group: "ProcessGroup") -> Config:
    """Return the configuration with the numbers of the first process."""
    numbers = torch.tensor([config.machine.microbatches, int(config.machine.recomputes)])
    group.share_([numbers])
    return _with_numbers(config, accumulate=int(numbers[0]), recompute=bool(numbers[1]))


def _refuse_what_does_not_fit(config: Config, processes: int, bytes_free: int) -> None:
    """Reject numbers that were given or stored, and that need clearly more memory than there is.

    Raises:
        ValueError: the prediction exceeds the free memory by more than its uncertainty.
    """
    machine = config.machine
    needed = memory(config, accumulate=machine.microbatches, recompute=machine.recomputes, processes=processes).total
    if needed > UNCERTAINTY * bytes_free:
        raise ValueError(
            f"--machine.accumulate: expected numbers that fit into {_gib(bytes_free)} GiB, got "
            f"{machine.microbatches} microbatches (recompute {machine.recomputes}), which need about "
            f"{_gib(needed)} GiB. Give more microbatches, or --machine.recompute."
        )
