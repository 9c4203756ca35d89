"""The training loop, with its metrics, checkpoints and sheets of samples."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from ict_ref.checkpoint.run_dir import open_run, read_run
from ict_ref.checkpoint.training_state import (
    checkpoint_file,
    checkpoints,
    drop_old,
    newest_checkpoint,
)
from ict_ref.checkpoint.writer import CheckpointWriter
from ict_ref.config import Config
from ict_ref.config.identity import flat
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.networks.own import OwnNetwork
from ict_ref.training.discretization import discretization, milestones
from ict_ref.training.level_pairs import has_stages, stage_of
from ict_ref.training.loggers import open_loggers
from ict_ref.training.metrics_log import forget_metrics_after, summary
from ict_ref.training.microbatches import Examples
from ict_ref.training.speed import Cost, SpeedMeter
from ict_ref.training.trackers import trackers
from ict_ref.training.trainer import Trainer
from ict_ref.utils.atomic import set_aside
from ict_ref.utils.progress import bar


@runtime_checkable
class Callback(Protocol):
    """A function that is called with each line of the metrics, in the first process.

    An exception in it ends the run. Checkpoints before stay whole.
    """

    def __call__(self, step: int, metrics: Mapping[str, int | float], /) -> object:
        """Use the metrics after update number `step`, from 1; `ict_ref.training.metrics_log` lists them."""


def begin(
    config: Config,
    examples: Examples,
    group: ProcessGroup,
    folder: Path,
    held: contextlib.ExitStack,
    *,
    network: OwnNetwork | None = None,
) -> tuple[Trainer, list[str]]:
    """Return the trainer of a run, resumed from its last checkpoint, and a line per damaged file or other environment.

    The first process creates or reopens the run folder; `held` keeps its lock. `network` is one of the user's own.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the folder.
        ValueError: the folder belongs to another run or is in use, or the configuration, the data or the network cannot
            be trained.
        OSError: a file cannot be read or written.
    """
    resumes = group.any(group.first and bool(checkpoints(folder)))
    trainer = Trainer(config, examples, group, resumes=resumes, network=network)
    notes: list[str] = []
    if group.first:
        notes = held.enter_context(open_run(folder, config, trainer.images, trainer.own_network, group.device))
    return trainer, notes + resume(trainer, folder)


def resume(trainer: Trainer, folder: Path) -> list[str]:
    """Restore the newest good checkpoint of the run folder, if it has one, and return a line per damaged file.

    Damaged files are renamed. Checkpoints that are not kept, of a process that was killed before it deleted them, are
    deleted. The first process reads the files and shares the state with the others.

    Raises:
        ForeignCheckpointError: a checkpoint of another run is among the newest.
        LaterFormatError: a later version of ict_ref wrote the newest checkpoint.
        ValueError: the folder has checkpoints, and none of them is good.
    """
    damaged: list[str] = []
    if trainer.group.first:
        if (folder / "config.json").exists():
            trainer.identities = read_run(folder).identities
        _, rejected = newest_checkpoint(folder, trainer.restore)
        damaged = [f"{reason}; it is now {set_aside(path).name}" for path, reason in rejected.items()]
        damaged += forget_metrics_after(folder, trainer.step, trainer.config.record.log_every)
        drop_old(folder, trainer.config.record.keep, milestones(trainer.config))
    trainer.share()
    return damaged


def fit(
    trainer: Trainer,
    folder: Path,
    stop_requested: Callable[[], bool],
    *,
    show_samples: Callable[[Path], None] = lambda _: None,
    callbacks: Sequence[Callback] = (),
    cost: Cost | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """Train to the end of the curriculum and return True; on a requested stop, save and return False.

    `stop_requested` is called after each update. `show_samples` writes a sheet of samples to the path that it gets.
    `callbacks` are called in the first process with each line of the metrics, after the files of that step. With `cost`
    the metrics have TFLOP/s and the share of the peak. `clock` returns seconds.

    A thread writes the checkpoints. This function returns, or raises an error, when the last one is on disk. An error
    of the thread is raised at the next checkpoint or at the end.

    >>> from dataclasses import replace
    >>> from ict_ref.checkpoint.run_dir import open_run
    >>> from ict_ref.config import minimal
    >>> from ict_ref.data.dataset import load
    >>> config = replace(minimal(), train=replace(minimal().train, steps=8))
    >>> folder, trainer = Path("run"), Trainer(config, load(config.data).train)
    >>> with open_run(folder, config):
    ...     damaged = resume(trainer, folder)
    ...     fit(trainer, folder, stop_requested=lambda: False)
    True
    >>> sorted(path.name for path in folder.glob("*.*s*"))
    ['checkpoint-00000008.safetensors', 'config.json', 'metrics.jsonl']

    Raises:
        FloatingPointError: a loss or a gradient is not finite and may not be skipped. Checkpoints stay as they are.
        OSError: a file cannot be written.
    """
    steps, writer = trainer.config.train.steps, writer_of(trainer, folder)
    try:
        meter = meter_of(trainer, cost, clock)
        with writer, _Recorder(trainer, folder, show_samples, callbacks, meter, writer) as recorder:
            while trainer.step < steps:
                trainer.update()
                stopping = trainer.group.any(stop_requested())
                recorder.record(stopping=stopping)
                if stopping and trainer.step < steps:
                    return False
        return True
    except FloatingPointError as error:
        saved = next(iter(checkpoints(folder)), None)
        last = "No checkpoint was saved before."
        if saved is not None:
            last = f"The last good checkpoint is {checkpoint_file(folder, saved)}."
        raise FloatingPointError(f"{error}. {last}") from None
    finally:
        trainer.microbatches.close()


def due(step: int, every: int) -> bool:
    """Return whether `step` is a multiple of `every`; never, if `every` is 0."""
    return every > 0 and step % every == 0


def meter_of(trainer: Trainer, cost: Cost | None, clock: Callable[[], float] = time.perf_counter) -> SpeedMeter:
    """Return a meter of the updates that the trainer makes from now on."""
    size, processes = trainer.config.train.batch_size, trainer.group.size
    return SpeedMeter(trainer.device, step=trainer.step, batch_size=size, processes=processes, cost=cost, clock=clock)


def writer_of(trainer: Trainer, folder: Path) -> CheckpointWriter:
    """Return the writer of the run's checkpoints into its folder."""
    return CheckpointWriter(folder, keep=trainer.config.record.keep, milestones=milestones(trainer.config))


class _Recorder:
    """The progress bar, metrics, checkpoints and samples of the first process; other processes write nothing."""

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        show_samples: Callable[[Path], None],
        callbacks: Sequence[Callback],
        meter: SpeedMeter,
        writer: CheckpointWriter,
    ) -> None:
        self.trainer, self.folder, self.options = trainer, folder, trainer.config.record
        self.show_samples, self.callbacks, self.meter, self.writer = show_samples, callbacks, meter, writer
        first, steps = trainer.group.first, trainer.config.train.steps
        given = flat(json.loads(trainer.config.to_json()))
        self.loggers = (
            [*open_loggers(folder, step=trainer.step, options=given), *trackers(folder, given)] if first else []
        )
        # Last, because a bar that is not closed shares its line with the message of an error.
        self.bar = bar(steps, "training", "steps", initial=trainer.step, run=True, shown=first)

    def __enter__(self) -> "_Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        for logger in self.loggers:
            logger.close()

    def record(self, *, stopping: bool) -> None:
        """Write the files that are due after this update.

        Raises:
            FloatingPointError: an earlier update was not finite.
        """
        options, step = self.options, self.trainer.step
        ends = step == self.trainer.config.train.steps
        logs = ends or due(step, options.log_every)
        saves = stopping or ends or due(step, options.save_every) or step in self.writer.milestones
        if logs or saves:
            self.trainer.guard.raise_recorded()
        if self.loggers:
            self._write(logs=logs, saves=saves)

    def _write(self, *, logs: bool, saves: bool) -> None:
        """Write the files of the first process, in this order."""
        step = self.trainer.step
        values = self._log() if logs else {}
        self.bar.update()
        if due(step, self.options.sample_every):
            with self.meter.paused():
                self._show(self.folder / "samples" / f"step-{step:08d}.png")
        if saves:
            with self.meter.paused():
                self._save()
        for callback in self.callbacks if logs else ():
            with self.meter.paused():
                callback(step, MappingProxyType(values))

    def _log(self) -> dict[str, int | float]:
        trainer = self.trainer
        values: dict[str, int | float] = {
            "levels": len(discretization(trainer.step - 1, trainer.config).sigmas),
            **({"stage": stage_of(trainer.step - 1, trainer.config)} if has_stages(trainer.config) else {}),
            "loss": float(trainer.loss),  # waits for the GPU
            "gradient_norm": float(trainer.norm),
            **self.meter.read(trainer.step),
            "microbatches": len(trainer.microbatches.shards),
            "skipped_steps": trainer.skipped,
            **({} if trainer.loss_scale is None else {"loss_scale": float(trainer.loss_scale.value)}),
        }
        for logger in self.loggers:
            logger.log(trainer.step, values)
        self.bar.set_postfix_str(summary(values), refresh=False)
        return values

    def _show(self, sheet: Path) -> None:
        self.show_samples(sheet)
        for logger in self.loggers if sheet.exists() else ():
            logger.image(self.trainer.step, sheet)

    def _save(self) -> None:
        for logger in self.loggers:
            logger.sync()  # before the checkpoint, after which these lines are not written again
        self.writer.save(self.trainer.checkpoint())
