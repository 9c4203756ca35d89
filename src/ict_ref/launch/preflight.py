"""Checks of a run before its job is queued: nothing is written, and each failure is one line."""

from collections.abc import Callable, Iterator

from ict_ref.launch.options import Launch
from ict_ref.slurm import preflight as cluster
from ict_ref.slurm.preset_jobs import is_of_the_paper


def problems(launch: Launch) -> list[str]:
    """Return a line for each reason why the run cannot begin, or why its job cannot be submitted."""
    checks: tuple[Callable[[Launch], Iterator[str]], ...] = (_data, _method, _files, _packages, _folder)
    checks += (_gpus, _shards, _cluster, _memory, _times) if launch.slurm else (_here,)
    found: list[str] = []
    for check in checks:
        try:
            found += check(launch)
        except (ValueError, OverflowError) as error:
            found.append(str(error))
        except OSError as error:
            found.append(f"cannot use {error.filename}: {error.strerror or error}")
    return list(dict.fromkeys(found))


def refuse_unless_ready(launch: Launch) -> None:
    """Reject a run that cannot begin.

    Raises:
        ValueError: A check has failed. The message is the first reason, and the number of further ones.
    """
    found = problems(launch)
    if found:
        more = f" (and {len(found) - 1} more; --dry-run lists them)" if len(found) > 1 else ""
        raise ValueError(f"{found[0]}{more}")


def _data(launch: Launch) -> Iterator[str]:
    from ict_ref.data.dataset import load

    load(launch.with_data().config.data)
    yield from ()


def _method(launch: Launch) -> Iterator[str]:
    from ict_ref.training.initial_weights import refuse_missing_weights
    from ict_ref.training.loss import check_objective

    check_objective(launch.config)
    refuse_missing_weights(launch.config)
    yield from ()


def _files(launch: Launch) -> Iterator[str]:
    """Read the weights and the denoiser that the run starts from or distils; a resumed run does not need the former."""
    import torch

    from ict_ref.checkpoint.training_state import checkpoints
    from ict_ref.data.dataset import load
    from ict_ref.networks.network_checkpoint import NetworkCheckpoint
    from ict_ref.training.distillation import load_score
    from ict_ref.training.initial_weights import given_weights, refuse_other_network
    from ict_ref.utils.dtypes import torch_dtype

    starts, config = bool(launch.config.train.init) and not checkpoints(launch.folder()), launch.config
    distils = config.method.distils
    given = given_weights(config) if starts else None
    if given is None and not distils:
        return
    images = load(launch.with_data().config.data).train
    (channels, size, _), classes = images.event, images.classes if config.data.labels else 0
    if given is not None:
        network = NetworkCheckpoint(options=config.network, channels=channels, size=size, classes=classes, state={})
        refuse_other_network(given, network.empty_network(), config)
    if distils:
        dtype, device = torch_dtype(config.train.dtype), torch.device("cpu")
        load_score(config.method, images.event, labels=config.data.labels, dtype=dtype, device=device)
    yield from ()


def _packages(launch: Launch) -> Iterator[str]:
    from ict_ref.training.loggers import refuse_without_tensorboard
    from ict_ref.training.trackers import refuse_missing_trackers

    if launch.config.record.tensorboard:
        refuse_without_tensorboard()
    refuse_missing_trackers(launch.config.record)
    yield from ()


def _folder(launch: Launch) -> Iterator[str]:
    from ict_ref.checkpoint.run_dir import refuse_unusable

    if launch.slurm:
        from ict_ref.slurm.submit import refuse_a_second_job

        refuse_a_second_job(launch.folder())
    refuse_unusable(launch.folder(), launch.config)
    if launch.slurm:
        yield from cluster.unfit_folder(launch.folder().absolute(), launch.folder())


def _here(launch: Launch) -> Iterator[str]:
    from ict_ref.distributed.local_launcher import processes_to_start, visible_gpus
    from ict_ref.launch.session import refuse_uncompilable, refuse_without_gpu
    from ict_ref.utils.environment import group_numbers

    machine = launch.config.machine
    device = "cuda" if visible_gpus(machine.device) else "cpu"
    group, count = group_numbers(), processes_to_start(launch.processes, machine.device)
    yield from _undivided(launch, group.size if group.is_member else count)
    refuse_without_gpu(launch.preset, machine, device)
    refuse_uncompilable(launch.config, device)


def _gpus(launch: Launch) -> Iterator[str]:
    job, device = launch.job, launch.config.machine.device
    if device != "cpu" and not job.gpus_per_node and (device == "cuda" or is_of_the_paper(launch.preset)):
        yield (
            f"--job.gpus-per-node: expected GPUs for the preset {launch.preset}, got none. "
            "Give --job.gpus-per-node 8, or --machine.device cpu to train without GPUs."
        )


def _shards(launch: Launch) -> Iterator[str]:
    yield from _undivided(launch, launch.job.processes)


def _undivided(launch: Launch, processes: int) -> Iterator[str]:
    """Yield a line if the noise shards cannot be divided, by the microbatches that the run has recorded."""
    from ict_ref.distributed.process_group import ProcessGroup
    from ict_ref.launch.fitting import with_recorded

    try:
        config = with_recorded(launch.config, launch.folder())
        ProcessGroup(0, processes).microbatches(config.train.noise_shards, config.machine.microbatches)
    except ValueError as error:
        yield str(error)


def _memory(launch: Launch) -> Iterator[str]:
    from ict_ref.launch.job_plan import predicted

    if launch.config.data.name != "folder" or launch.config.data.path:
        predicted(launch)
    yield from ()


def _times(launch: Launch) -> Iterator[str]:
    from ict_ref.launch.job_plan import too_short

    yield from too_short(launch)


def _cluster(launch: Launch) -> Iterator[str]:
    yield from cluster.problems(launch.job)
