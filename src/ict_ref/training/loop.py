"""The training loop: update after update until the curriculum ends or somebody stops it, and what it leaves behind."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ict_ref.checkpoint.run_dir import stored_digests
from ict_ref.checkpoint.training_state import (
    checkpoint_file,
    checkpoints,
    newest_checkpoint,
    save_checkpoint,
    set_aside,
)
from ict_ref.training.loss import discretization
from ict_ref.training.metrics_log import Metrics, forget_metrics_after
from ict_ref.training.trainer import Trainer
from ict_ref.utils.progress import bar


def resume(trainer: Trainer, folder: Path) -> list[str]:
    """Go on where the run in this folder was last saved, if it was; return a line for each damaged checkpoint.

    Damaged ones are set aside, and the newest whole one is taken; raises ValueError if there are some and none is
    whole. Of several processes the first one reads the files.
    """
    damaged: list[str] = []
    if trainer.group.first:
        digests = stored_digests(folder) if (folder / "config.json").exists() else ()
        _, refused = newest_checkpoint(folder, partial(trainer.restore, digests=digests))
        damaged = [f"{error.split(';')[0]}; it is now {set_aside(path).name}" for path, error in refused.items()]
        forget_metrics_after(folder, trainer.step)
    trainer.share()
    return damaged


def fit(
    trainer: Trainer,
    folder: Path,
    stop_requested: Callable[[], bool],
    *,
    show_samples: Callable[[Path], None] = lambda _: None,
) -> bool:
    """Train to the end, saving on the way, and return True; or, once stop is requested, save and return False.

    `show_samples` is asked for a picture where the configuration wants one. Raises FloatingPointError at the first loss
    or gradient that is not finite and may not be left out; the last checkpoint stays as it is.
    """
    train, record, first = trainer.config.train, trainer.config.record, trainer.group.first
    try:
        with _Watch(trainer, folder) as watch:
            while trainer.step < train.steps:
                trainer.update()
                step, ends = trainer.step, trainer.step == train.steps
                stopping = trainer.group.any(stop_requested())
                saves = stopping or ends or any(due(step, n) for n in (record.save_every, record.milestone_every))
                if saves or ends or due(step, record.log_every):
                    trainer.guard.raise_recorded()
                if ends or due(step, record.log_every):
                    watch.note()
                watch.advance()
                if first and due(step, record.sample_every):
                    show_samples(folder / "samples" / f"step-{step:08d}.png")
                if saves:
                    watch.save()
                if stopping and not ends:
                    return False
        return True
    except FloatingPointError as error:
        saved = next(iter(checkpoints(folder)), None)
        last = (
            "nothing had been saved"
            if saved is None
            else f"the last good checkpoint is {checkpoint_file(folder, saved)}"
        )
        raise FloatingPointError(f"{error}; {last}") from None
    finally:
        trainer.microbatches.close()


def due(step: int, every: int) -> bool:
    """Return whether this step is one of every so many; of every 0 none is."""
    return every > 0 and step % every == 0


class _Watch:
    """What the first process tells of the run: a progress bar, metrics and checkpoints. The others are silent."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer, self.folder, self.record = trainer, folder, trainer.config.record
        self.began, self.first_step = time.monotonic(), trainer.step
        self.speaks = trainer.group.first
        steps = trainer.config.train.steps
        self.bar = bar(steps, "training", "steps", initial=trainer.step, run=True, shown=self.speaks)
        self.metrics = Metrics(folder, step=trainer.step, tensorboard=self.record.tensorboard) if self.speaks else None

    def __enter__(self) -> "_Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.metrics is not None:
            self.metrics.close()

    def note(self) -> None:
        """Note the last step's numbers."""
        if self.metrics is None:
            return
        trainer = self.trainer
        levels = len(discretization(trainer.step - 1, trainer.config).sigmas)
        loss, norm = float(trainer.loss), float(trainer.norm)
        done = (trainer.step - self.first_step) * trainer.config.train.batch_size
        speed = done / (time.monotonic() - self.began)
        values: dict[str, int | float] = {
            "levels": levels,
            "loss": loss,
            "gradient_norm": norm,
            "images_per_second": round(speed, 1),
        }
        self.metrics.write(trainer.step, values)
        self.bar.set_postfix_str(f"N {levels}, loss {loss:.4g}, {speed:.0f} images/s", refresh=False)

    def advance(self) -> None:
        """Move the bar on."""
        self.bar.update()

    def save(self) -> None:
        """Write a checkpoint."""
        if self.metrics is None:
            return
        self.metrics.sync()  # on disk before the checkpoint that says they are
        record = self.record
        save_checkpoint(
            self.folder, self.trainer.checkpoint(), keep=record.keep, milestone_every=record.milestone_every
        )
