"""A run in this process, as rank 0 or another rank: training in all ranks, sampling and scoring in rank 0."""

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ict_ref.launch.options import Launch
from ict_ref.launch.results import SCORES_FORMAT
from ict_ref.utils import command_line, file_format
from ict_ref.utils.command_line import FAILED, REFUSED
from ict_ref.utils.printable import printable
from ict_ref.utils.signals import StopRequest
from ict_ref.utils.version import __version__

# torch is imported after the arguments are checked, so that help and errors appear at once.
if TYPE_CHECKING:
    from ict_ref.data.dataset import Dataset
    from ict_ref.distributed.process_group import ProcessGroup
    from ict_ref.launch.session import Session
    from ict_ref.training.trainer import Trainer

NAME = "ict_ref.launch"
MINIMAL_NOTE = (
    "preset minimal: its samples are not yet digits; it only checks that a run works. "
    "Train digits with python -m ict_ref.launch --config digits."
)
BFLOAT16_NOTE = "bfloat16 rounds by 6 to 9 c at N = 1281; see docs/precision.md"


def execute(launch: Launch) -> int:
    """Run in this process, as the rank that the environment sets, and return the exit status."""
    return guarded(lambda: run(launch))


def guarded(action: Callable[[], int]) -> int:
    """Run `action` and return its exit status; a ValueError that reaches this function is a defect and is raised."""
    stopped = "stopped at once; the same command resumes from the last checkpoint, or starts again without one"
    return command_line.guarded(NAME, action, refused=(), stopped=stopped, files="the run folder")


def run(launch: Launch) -> int:
    """Train, then sample and score in the first process; return the exit status."""
    from ict_ref.distributed.process_group import joined
    from ict_ref.launch.fitting import out_of_memory_explained

    with contextlib.ExitStack() as folder:
        with contextlib.ExitStack() as connection:
            try:
                group = connection.enter_context(joined(launch.config.machine))
                session = prepare(launch, group, folder)
            except (ValueError, OverflowError) as error:
                return say(REFUSED, str(error))
            launch = dataclasses.replace(launch, config=session.trainer.config)
            with out_of_memory_explained(launch.config, group.size):
                status = train(launch, session)
        return status if status or not group.first else sample_and_score(launch, session.trainer, session.dataset)


def prepare(launch: Launch, group: "ProcessGroup", folder: contextlib.ExitStack) -> "Session":
    """Return the run, resumed from its last checkpoint; `folder` holds the lock of the run folder.

    Raises:
        ValueError: The configuration, the data or the run folder cannot be used; the message is one line.
        OSError: A file cannot be read or written.
    """
    from ict_ref.launch.session import open_session

    place = launch.folder()
    session = open_session(launch.config, launch.preset, place, group, folder)
    if group.first:
        _print_begin(launch.preset, place, session)
    return session


def _print_begin(preset: str, place: Path, session: "Session") -> None:
    """Print what the run trains, where, and after which step it resumes."""
    trainer, group, images = session.trainer, session.trainer.group, len(session.dataset.train)
    for line in session.damaged:
        say(0, line)
    parameters = sum(parameter.numel() for parameter in trainer.student.parameters())
    print(printable(f"{preset}: {images} images, {parameters:,} parameters, run folder {place}"))
    train = trainer.config.train
    if group.size > 1:
        print(f"{group.size} processes on {group.device.type}, {train.batch_size // group.size} images each")
    if session.choice:
        print(session.choice)
    if train.precision == "bfloat16":
        print(BFLOAT16_NOTE)
    if trainer.step > 0:
        print(f"resumed after step {trainer.step} of {train.steps}")


def train(launch: Launch, session: "Session") -> int:
    """Train until the last step or a signal; return 0, or the exit status of the signal."""
    from ict_ref.training.loop import fit

    stop, trainer = StopRequest(), session.trainer
    with stop.listening():
        finished = fit(
            trainer,
            launch.folder(),
            stop,
            show_samples=lambda path: show_samples(launch, trainer, path),
            cost=session.cost,
        )
    if finished:
        return 0
    # Another rank may have received the signal instead of this one.
    number = stop.signal or signal.SIGTERM
    where = f"after step {trainer.step} of {launch.config.train.steps} in {launch.folder()}"
    message = f"stopped by {number.name} and saved {where}; the same command resumes there"
    return say(128 + number, message)


def show_samples(launch: Launch, trainer: "Trainer", path: Path) -> None:
    """Save a picture of samples from the EMA weights; every picture of a run uses the same noise."""
    from ict_ref.sample.denoiser import images_of_run
    from ict_ref.sample.images import shown_labels
    from ict_ref.sample.sheet import sample_sheet

    path.parent.mkdir(exist_ok=True)
    config = launch.config
    count, labels = shown_labels(trainer.classes, config)
    sample_sheet(images_of_run(trainer.ema, labels, config, count=count, event=trainer.event), labels, path)


def sample_and_score(launch: Launch, trainer: "Trainer", dataset: "Dataset") -> int:
    """Sample from the EMA weights, save picture and scores, print the table and return the exit status.

    Without held-out images this function writes only the picture and ignores acceptance thresholds.
    """
    from ict_ref.evaluate.evaluator import Evaluator, K, below_thresholds, table
    from ict_ref.sample.denoiser import images_of_run
    from ict_ref.sample.sheet import sample_sheet
    from ict_ref.utils.atomic import write_atomically

    config, folder, held_out = launch.config, launch.folder(), dataset.held_out
    if len(held_out) == 0:
        show_samples(launch, trainer, folder / "samples.png")
        print("\nsamples are not scored or compared with acceptance thresholds: --data.held-out leaves 0 images")
        _print_end(launch)
        return 0
    labels = held_out.labels if config.data.labels else None
    made = images_of_run(trainer.ema, labels, config, count=len(held_out), event=trainer.event)
    sample_sheet({**made, "real images, held out": held_out.pixels}, labels, folder / "samples.png")

    evaluator = Evaluator(held_out)
    scores = [evaluator.score(name, pixels, labels) for name, pixels in made.items()]
    baselines = evaluator.baselines(dataset.train, labels, config.train.seed)
    content = {
        file_format.KEY: SCORES_FORMAT,
        "ict_ref": __version__,
        "step": trainer.step,
        "seed": config.train.seed,
        "protocol": f"{len(held_out)} images, against as many held-out ones, by pixels from -1 to 1, k = {K}",
        "scores": [dataclasses.asdict(score) for score in scores + baselines],
    }
    write_atomically(folder / "scores.json", json.dumps(content, indent=2).encode() + b"\n")
    print(f"\n{len(held_out)} images each, scored against {len(held_out)} held-out real images\n")
    print(table(scores + baselines, config.acceptance))
    print()
    _print_end(launch)
    missed = below_thresholds(scores[0], config.acceptance)
    kind = "samples" if config.method.objective == "denoising" else "one-step samples"
    return say(FAILED, f"{kind} miss acceptance thresholds: {'; '.join(missed)}") if missed else 0


def _print_end(launch: Launch) -> None:
    """Print the path of the samples and, for the preset minimal, a note on their quality."""
    print(printable(f"samples: {launch.folder() / 'samples.png'}"))
    if launch.preset == "minimal" and launch.config.data.name == "digits":
        print(MINIMAL_NOTE)


def say(status: int, message: str) -> int:
    """Print one line to standard error, and return the status."""
    return command_line.say(NAME, status, message)
