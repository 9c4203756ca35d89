"""A run in this process, as rank 0 or another rank: training in all ranks, sampling and scoring in rank 0."""

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import ict_ref
from ict_ref.launch.options import Launch
from ict_ref.slurm.preset_jobs import is_of_the_paper
from ict_ref.utils import command_line, file_format
from ict_ref.utils.command_line import FAILED, REFUSED
from ict_ref.utils.signals import StopRequest

# torch is imported after the arguments are checked, so that help and errors appear at once.
if TYPE_CHECKING:
    from ict_ref.data.dataset import Dataset
    from ict_ref.distributed.process_group import ProcessGroup
    from ict_ref.training.trainer import Trainer

NAME = "ict_ref.launch"
SCORES_FORMAT = 2
"""Format of scores.json; format 1, of version 0.1.0, is the list of scores alone."""
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
                trainer, dataset = prepare(launch, group, folder)
            except (ValueError, OverflowError) as error:
                return say(REFUSED, str(error))
            launch = dataclasses.replace(launch, config=trainer.config)
            with out_of_memory_explained(launch.config, group.size):
                status = train(launch, trainer)
        return status if status or not group.first else sample_and_score(launch, trainer, dataset)


def prepare(launch: Launch, group: "ProcessGroup", folder: contextlib.ExitStack) -> "tuple[Trainer, Dataset]":
    """Return the trainer, resumed from its last checkpoint, and the data; `folder` holds the lock of the run folder.

    Raises:
        ValueError: The configuration, the data or the run folder cannot be used; the message is one line.
        OSError: A file cannot be read or written.
    """
    import torch

    from ict_ref.checkpoint.run_dir import open_run
    from ict_ref.checkpoint.training_state import checkpoints
    from ict_ref.data.dataset import load
    from ict_ref.launch.fitting import probe_update, settled
    from ict_ref.training.loop import resume
    from ict_ref.training.metrics_log import refuse_without_tensorboard
    from ict_ref.training.trainer import Trainer

    config, place = launch.config, launch.folder()
    refuse_without_gpu(launch, group.device.type)
    if config.machine.threads > 0:
        torch.set_num_threads(config.machine.threads)
    if config.record.tensorboard:
        refuse_without_tensorboard()
    dataset = load(config.data)
    probe = partial(probe_update, examples=dataset.train, group=group)
    config, choice = settled(config, place, group, probe)
    trainer = Trainer(config, dataset.train, group, resumes=group.any(group.first and bool(checkpoints(place))))
    if group.first:
        folder.enter_context(open_run(place, config, trainer.images))
        refuse_results(place)
    damaged = resume(trainer, place)
    if group.first:
        for line in damaged:
            say(0, line)
        parameters = sum(parameter.numel() for parameter in trainer.student.parameters())
        print(f"{launch.preset}: {len(dataset.train)} images, {parameters:,} parameters, run folder {place}")
        if group.size > 1:
            print(f"{group.size} processes on {group.device.type}, {config.train.batch_size // group.size} images each")
        if choice:
            print(choice)
        if config.train.precision == "bfloat16":
            print(BFLOAT16_NOTE)
        if trainer.step > 0:
            print(f"resumed after step {trainer.step} of {config.train.steps}")
    return trainer, dataset


def refuse_without_gpu(launch: Launch, device: str) -> None:
    """Reject a run of the paper on a CPU, unless --machine.device cpu allows it.

    Raises:
        ValueError: The preset needs GPUs, and none was found.
    """
    if device == "cpu" and launch.config.machine.device == "auto" and is_of_the_paper(launch.preset):
        raise ValueError(
            f"--machine.device: expected a GPU for the preset {launch.preset}, and torch found none. "
            "Give --machine.device cpu to train on the CPU all the same."
        )


def refuse_results(folder: Path) -> None:
    """Reject results that must not be written anew: those of a later version, and links to other files.

    Raises:
        LaterFormatError: The format of scores.json is later than this version's.
        ValueError: samples.png or scores.json is a symbolic link.
    """
    from ict_ref.utils.atomic import refuse_link

    path = folder / "scores.json"
    for result in (path, folder / "samples.png"):
        refuse_link(result)
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):  # a damaged one is replaced
        stored = json.loads(path.read_text())
        if isinstance(stored, dict):
            file_format.format_of(path, stored, SCORES_FORMAT)


def train(launch: Launch, trainer: "Trainer") -> int:
    """Train until the last step or a signal; return 0, or the exit status of the signal."""
    from ict_ref.launch.fitting import cost
    from ict_ref.training.loop import fit

    stop = StopRequest()
    with stop.listening():
        finished = fit(
            trainer,
            launch.folder(),
            stop,
            show_samples=lambda path: show_samples(launch, trainer, path),
            cost=cost(launch.config, trainer.group),
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
        "ict_ref": ict_ref.__version__,
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
    print(f"samples: {launch.folder() / 'samples.png'}")
    if launch.preset == "minimal" and launch.config.data.name == "digits":
        print(MINIMAL_NOTE)


def say(status: int, message: str) -> int:
    """Print one line to standard error, and return the status."""
    return command_line.say(NAME, status, message)
