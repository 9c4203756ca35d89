"""A run in this process, alone or one of several: train, and in the first process sample and score."""

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ict_ref.launch.options import Launch
from ict_ref.utils import command_line
from ict_ref.utils.command_line import FAILED, REFUSED
from ict_ref.utils.signals import StopRequest

# torch is imported once the arguments are known to be good: help and errors come at once.
if TYPE_CHECKING:
    from ict_ref.data.dataset import Dataset
    from ict_ref.distributed.process_group import ProcessGroup
    from ict_ref.training.trainer import Trainer

NAME = "ict_ref.launch"


def execute(launch: Launch) -> int:
    """Run in this process, alone or as one of those that the environment speaks of, and return the exit status."""
    return guarded(lambda: run(launch))


def guarded(action: Callable[[], int]) -> int:
    """Do it and return its exit status; a ValueError is a defect of ours, unless something has said what it refuses."""
    stopped = "stopped at once; the same command goes on from what was saved, if anything was"
    return command_line.guarded(NAME, action, refused=(), stopped=stopped, files="the run folder")


def run(launch: Launch) -> int:
    """Train, and in the first process sample and score; return the exit status."""
    from ict_ref.distributed.process_group import joined

    with contextlib.ExitStack() as folder:
        with contextlib.ExitStack() as group:
            try:
                world = group.enter_context(joined(launch.config.machine))
                trainer, dataset = prepare(launch, world, folder)
            except (ValueError, OverflowError) as error:
                return say(REFUSED, str(error))
            status = train(launch, trainer)
        return status if status or not world.first else judge(launch, trainer, dataset)


def prepare(launch: Launch, world: "ProcessGroup", folder: contextlib.ExitStack) -> "tuple[Trainer, Dataset]":
    """Return what the run needs, as it was last saved, its folder held until the stack ends.

    Raises ValueError or OSError for what the user must mend.
    """
    import torch

    from ict_ref.checkpoint.run_dir import open_run
    from ict_ref.data.dataset import load
    from ict_ref.training.loop import resume
    from ict_ref.training.metrics_log import refuse_without_tensorboard
    from ict_ref.training.trainer import Trainer

    config, place = launch.config, launch.folder()
    if config.machine.threads > 0:
        torch.set_num_threads(config.machine.threads)
    if config.record.tensorboard:
        refuse_without_tensorboard()
    dataset = load(config.data)
    trainer = Trainer(config, dataset.train, world)
    if world.first:
        folder.enter_context(open_run(place, config))
    damaged = resume(trainer, place)
    if world.first:
        for line in damaged:
            say(0, line)
        parameters = sum(parameter.numel() for parameter in trainer.student.parameters())
        print(f"{launch.preset}: {len(dataset.train)} images, {parameters:,} parameters, run folder {place}")
        if world.size > 1:
            print(f"{world.size} processes on {world.device.type}, {config.train.batch_size // world.size} images each")
        if trainer.step > 0:
            print(f"going on after step {trainer.step} of {config.train.steps}")
    return trainer, dataset


def train(launch: Launch, trainer: "Trainer") -> int:
    """Train to the end, or until a signal; return 0, or the exit status of the signal."""
    from ict_ref.training.loop import fit

    stop = StopRequest()
    with stop.listening():
        finished = fit(trainer, launch.folder(), stop, show_samples=lambda path: show_samples(launch, trainer, path))
    if finished:
        return 0
    # Another process of the run may have been told, and not this one.
    number = stop.signal or signal.SIGTERM
    where = f"after step {trainer.step} of {launch.config.train.steps} in {launch.folder()}"
    message = f"stopped by {number.name} and saved {where}; the same command goes on from there"
    return say(128 + number, message)


def show_samples(launch: Launch, trainer: "Trainer", path: Path) -> None:
    """Save a picture of what the average makes of the noise that every such picture is made of."""
    from ict_ref.sample.images import one_and_two_steps, shown_labels
    from ict_ref.sample.sheet import sample_sheet

    path.parent.mkdir(exist_ok=True)
    config = launch.config
    count, labels = shown_labels(trainer.classes, config)
    sample_sheet(one_and_two_steps(trainer.ema, labels, config, count=count, event=trainer.event), labels, path)


def judge(launch: Launch, trainer: "Trainer", dataset: "Dataset") -> int:
    """Sample from the average, save picture and scores, print the table and return the exit status.

    Without held-out images there are no scores, and no bars.
    """
    from ict_ref.evaluate.evaluator import Evaluator, below_thresholds, table
    from ict_ref.sample.images import one_and_two_steps
    from ict_ref.sample.sheet import sample_sheet
    from ict_ref.utils.atomic import write_atomically

    config, folder, held_out = launch.config, launch.folder(), dataset.held_out
    if len(held_out) == 0:
        show_samples(launch, trainer, folder / "samples.png")
        print("\nnot scored, and held to no bars: there are no held-out images (--data.held-out)")
        print(f"samples: {folder / 'samples.png'}")
        return 0
    labels = held_out.labels if config.data.labels else None
    made = one_and_two_steps(trainer.ema, labels, config, count=len(held_out), event=trainer.event)
    sample_sheet({**made, "real images, held out": held_out.pixels}, labels, folder / "samples.png")

    referee = Evaluator(held_out)
    scores = [referee.score(name, pixels, labels) for name, pixels in made.items()]
    baselines = referee.baselines(dataset.train, labels, config.train.seed)
    content = [dataclasses.asdict(score) for score in scores + baselines]
    write_atomically(folder / "scores.json", json.dumps(content, indent=2).encode() + b"\n")
    print(f"\n{len(held_out)} images each, judged by as many held-out real ones\n")
    print(table(scores + baselines, config.bars))
    print(f"\nsamples: {folder / 'samples.png'}")
    missed = below_thresholds(scores[0], config.bars)
    return say(FAILED, f"one-step samples fail: {'; '.join(missed)}") if missed else 0


def say(status: int, message: str) -> int:
    """Print one line to standard error, and return the status."""
    return command_line.say(NAME, status, message)
