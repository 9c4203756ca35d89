"""The training loop, with its metrics, checkpoints and sheets of samples."""

import time
from collections.abc import Callable
from pathlib import Path

from ict_ref.checkpoint.run_dir import read_run
from ict_ref.checkpoint.training_state import (
    checkpoint_file,
    checkpoints,
    newest_checkpoint,
    set_aside,
)
from ict_ref.checkpoint.writer import CheckpointWriter
from ict_ref.training.discretization import discretization, milestones
from ict_ref.training.metrics_log import Metrics, forget_metrics_after, summary
from ict_ref.training.speed import Cost, SpeedMeter
from ict_ref.training.trainer import Trainer
from ict_ref.utils.progress import bar


def resume(trainer: Trainer, folder: Path) -> list[str]:
    """Restore the newest good checkpoint of the run folder, if it has one, and return a line per damaged one.

    Damaged checkpoints are renamed. The first process reads the files and shares the state with the others.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the newest checkpoint.
        ValueError: the folder has checkpoints, and none of them is good.
    """
    damaged: list[str] = []
    if trainer.group.first:
        if (folder / "config.json").exists():
            trainer.identities = read_run(folder).identities
        _, rejected = newest_checkpoint(folder, trainer.restore)
        damaged = [f"{reason}; it is now {set_aside(path).name}" for path, reason in rejected.items()]
        forget_metrics_after(folder, trainer.step)
    trainer.share()
    return damaged


def fit(
    trainer: Trainer,
    folder: Path,
    stop_requested: Callable[[], bool],
    *,
    show_samples: Callable[[Path], None] = lambda _: None,
    cost: Cost | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """Train to the end of the curriculum and return True; on a requested stop, save and return False.

    `stop_requested` is called after each update. `show_samples` writes a sheet of samples to the path that it gets.
    With `cost` the metrics have TFLOP/s and the share of the peak. `clock` returns seconds.

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
        with writer, _Recorder(trainer, folder, show_samples, meter_of(trainer, cost, clock), writer) as recorder:
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
        meter: SpeedMeter,
        writer: CheckpointWriter,
    ) -> None:
        self.trainer, self.folder, self.options = trainer, folder, trainer.config.record
        self.show_samples, self.meter, self.writer = show_samples, meter, writer
        first, steps = trainer.group.first, trainer.config.train.steps
        self.bar = bar(steps, "training", "steps", initial=trainer.step, run=True, shown=first)
        self.metrics = Metrics(folder, step=trainer.step, tensorboard=self.options.tensorboard) if first else None

    def __enter__(self) -> "_Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.metrics is not None:
            self.metrics.close()

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
        if self.metrics is not None:
            self._write(self.metrics, logs=logs, saves=saves)

    def _write(self, metrics: Metrics, *, logs: bool, saves: bool) -> None:
        """Write the files of the first process, in this order."""
        step = self.trainer.step
        if logs:
            self._log(metrics)
        self.bar.update()
        if due(step, self.options.sample_every):
            with self.meter.paused():
                self.show_samples(self.folder / "samples" / f"step-{step:08d}.png")
        if saves:
            with self.meter.paused():
                self._save(metrics)

    def _log(self, metrics: Metrics) -> None:
        trainer = self.trainer
        values: dict[str, int | float] = {
            "levels": len(discretization(trainer.step - 1, trainer.config).sigmas),
            "loss": float(trainer.loss),  # waits for the GPU
            "gradient_norm": float(trainer.norm),
            **self.meter.read(trainer.step),
            "microbatches": len(trainer.microbatches.shards),
            "skipped_steps": trainer.skipped,
            **({} if trainer.loss_scale is None else {"loss_scale": float(trainer.loss_scale.value)}),
        }
        metrics.write(trainer.step, values)
        self.bar.set_postfix_str(summary(values), refresh=False)

    def _save(self, metrics: Metrics) -> None:
        metrics.sync()  # before the checkpoint, after which these lines are not written again
        self.writer.save(self.trainer.checkpoint())
