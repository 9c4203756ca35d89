"""Train, sample and score: `python -m ict_ref.launch --config digits`.

Started again with the same configuration, it goes on where it was stopped.
"""

import argparse
import contextlib
import dataclasses
import difflib
import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import tyro

from ict_ref.config import PRESETS, Config
from ict_ref.prepared import read_about

# torch is imported once the arguments are known to be good: help and errors come at once.
if TYPE_CHECKING:
    from ict_ref.data import Dataset
    from ict_ref.training import Trainer

PROGRAM = "python -m ict_ref.launch"
FAILED, REFUSED = 1, 2
# Images that are made where nothing says how many.
SHOWN = 80


@dataclass(frozen=True)
class Launch:
    """Train a consistency model, make samples of it in one and two steps, and score them.

    The run has a folder of its own with its configuration, metrics, checkpoint, samples.png and scores.json. The same
    command goes on where it was stopped. Exit status: 0 done; 1 below the bars, or a loss that is not finite;
    2 refused; 130 stopped by Ctrl-C, 143 by SIGTERM.
    """

    preset: Annotated[
        str, tyro.conf.arg(name="config", metavar="{" + ",".join(PRESETS) + "}", help_behavior_hint="(required)")
    ]
    """Preset to start from; every option below changes one of its fields."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path | None = None
    """Run folder; by default runs/PRESET-DIGITS, the digits differing between configurations."""

    def folder(self) -> Path:
        """Return the run folder."""
        return self.out or Path("runs") / f"{self.preset}-{self.config.digest()}"


class StopRequest:
    """Ctrl-C and SIGTERM as a wish to stop soon; a second one stops at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Return whether somebody wants the run to stop."""
        return self.signal is not None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Receive the signals while the block runs."""
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt(number)
        self.signal = signal.Signals(number)


def parse(arguments: Sequence[str]) -> Launch:
    """Return the run that the arguments describe. Raises ValueError with one line, or exits 0 after --help."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--config")
    try:
        known, rest = first.parse_known_args(arguments)
    except argparse.ArgumentError:
        raise ValueError(f"--config needs a preset: {', '.join(PRESETS)}") from None
    wants_help = "--help" in rest or "-h" in rest
    name = known.config or ("digits" if wants_help else None)
    if name is None:
        raise ValueError(f"needs --config, one of {', '.join(PRESETS)}; see {PROGRAM} --help")
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"perhaps you meant {near[0]}" if near else f"there are {', '.join(PRESETS)}"
        raise ValueError(f"unknown preset {name}; {hint}")
    default = Launch(name, PRESETS[name]())
    if wants_help:
        return tyro.cli(Launch, prog=PROGRAM, default=default, args=rest)
    _refuse_unknown(rest, default.config)
    launch = _parsed(default, rest)
    return dataclasses.replace(launch, config=with_checksum(launch.config))


def with_checksum(config: Config) -> Config:
    """Return the configuration with its data's checksum, which makes it the same wherever they lie.

    Raises ValueError or OSError if there are no prepared data where it says.
    """
    data = config.data
    if data.name == "digits":
        return config
    if not data.path:
        raise ValueError(f"data.path needs the folder of {data.name} that python -m ict_ref.prepare made; got none")
    checksum = data.checksum or read_about(Path(data.path)).checksum()
    return dataclasses.replace(config, data=dataclasses.replace(data, checksum=checksum))


def _parsed(default: Launch, rest: Sequence[str]) -> Launch:
    """Return what the options make of the default. Raises ValueError with one line."""
    # What is left for tyro to refuse are values, and it draws the message in a box.
    box = io.StringIO()
    with contextlib.redirect_stderr(box):
        try:
            return tyro.cli(Launch, prog=PROGRAM, default=default, args=rest)
        except SystemExit:
            raise ValueError(_one_line(box.getvalue())) from None


def _refuse_unknown(arguments: Sequence[str], config: Config) -> None:
    known = ["--out"]
    for group, fields in dataclasses.asdict(config).items():
        for name, value in fields.items():
            known.append(f"--{group}.{name.replace('_', '-')}")
            if isinstance(value, bool):
                known.append(f"--{group}.no-{name.replace('_', '-')}")
    for argument in arguments:
        option = argument.split("=")[0].replace("_", "-")
        if option.startswith("--") and option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f"perhaps you meant {near[0]}" if near else f"see {PROGRAM} --help"
            raise ValueError(f"unknown option {option}; {hint}")


def _one_line(box: str) -> str:
    """Return the message in one of tyro's boxes as one line."""
    rows = [row.strip("│ ") for row in box.splitlines() if row.startswith("│")]
    rule = next((number for number, row in enumerate(rows) if set(row) == {"─"}), len(rows))
    message = " ".join(rows[:rule]) or " ".join(box.split())
    if " needs " in message:  # our own, from a dataclass
        return message.split(": ", maxsplit=1)[-1]
    return f"{message}; see {PROGRAM} --help"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    with contextlib.ExitStack() as stack:
        try:
            try:
                launch = parse(sys.argv[1:] if arguments is None else arguments)
                trainer, dataset = prepare(launch, stack)
            except (ValueError, OverflowError) as error:
                return _say(REFUSED, str(error))
            return train(launch, trainer) or judge(launch, trainer, dataset)
        except BrokenPipeError:
            # Nobody reads any more. What is left in the buffer must not be written at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except MemoryError as error:
            return _say(REFUSED, f"this machine has not enough memory: {error}")
        except OSError as error:
            return _say(REFUSED, f"cannot use {error.filename or 'the run folder'}: {error.strerror or error}")
        except FloatingPointError as error:
            return _say(FAILED, f"{error}; what was saved before it is in {launch.folder()}")
        except KeyboardInterrupt as error:
            number = error.args[0] if error.args else signal.SIGINT
            return _say(128 + number, "stopped at once; the same command goes on from what was saved, if anything was")


def prepare(launch: Launch, stack: contextlib.ExitStack) -> "tuple[Trainer, Dataset]":
    """Return what the run needs, as it was last saved, its folder held until the stack ends.

    Raises ValueError or OSError for what the user must mend.
    """
    import torch

    from ict_ref.data import load
    from ict_ref.run_folder import open_run
    from ict_ref.training import Trainer, resume

    config, folder = launch.config, launch.folder()
    if config.train.threads > 0:
        torch.set_num_threads(config.train.threads)
    dataset = load(config.data)
    trainer = Trainer(config, dataset.train)
    stack.enter_context(open_run(folder, config))
    resume(trainer, folder)
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    print(f"{launch.preset}: {len(dataset.train)} images, {parameters:,} parameters, run folder {folder}")
    if trainer.step > 0:
        print(f"going on after step {trainer.step} of {config.train.steps}")
    return trainer, dataset


def train(launch: Launch, trainer: "Trainer") -> int:
    """Train to the end, or until a signal; return 0, or the exit status of the signal."""
    from ict_ref.training import fit

    stop = StopRequest()
    with stop.listening():
        finished = fit(trainer, launch.folder(), stop)
    if finished or stop.signal is None:
        return 0
    where = f"after step {trainer.step} of {launch.config.train.steps} in {launch.folder()}"
    message = f"stopped by {stop.signal.name} and saved {where}; the same command goes on from there"
    return _say(128 + stop.signal, message)


def judge(launch: Launch, trainer: "Trainer", dataset: "Dataset") -> int:
    """Sample from the average, save picture and scores, print the table and return the exit status.

    Without held-out images there are no scores, and no bars.
    """
    import torch

    from ict_ref.evaluate import Judge, below_bars, table
    from ict_ref.figures import sample_sheet
    from ict_ref.files import write_atomically
    from ict_ref.sample import images

    config, folder, held_out = launch.config, launch.folder(), dataset.held_out
    unscored = len(held_out) == 0
    # Without held-out images, what a picture needs: some of each of the first classes.
    wanted = torch.arange(SHOWN) * min(dataset.train.classes, 10) // SHOWN if unscored else held_out.labels
    labels = wanted if config.data.labels else None
    high, middle = config.method.sigma_max, config.sample.two_step_sigma
    made = {
        name: images(
            trainer.average,
            labels,
            sigmas,
            count=len(wanted),
            event=trainer.event,
            seed=config.train.seed,
            clip=config.sample.clip,
        )
        for name, sigmas in {"one step": [high], f"two steps, sigma {middle}": [high, middle]}.items()
    }
    if unscored:
        sample_sheet(made, labels, folder / "samples.png")
        print("\nnot scored, and held to no bars: there are no held-out images (--data.held-out)")
        print(f"samples: {folder / 'samples.png'}")
        return 0
    sample_sheet({**made, "real images, held out": held_out.pixels}, labels, folder / "samples.png")

    referee = Judge(held_out)
    scores = [referee.score(name, pixels, labels) for name, pixels in made.items()]
    yardsticks = referee.yardsticks(dataset.train, labels, config.train.seed)
    content = [dataclasses.asdict(score) for score in scores + yardsticks]
    write_atomically(folder / "scores.json", json.dumps(content, indent=2).encode() + b"\n")
    print(f"\n{len(held_out)} images each, judged by as many held-out real ones\n")
    print(table(scores + yardsticks, config.bars))
    print(f"\nsamples: {folder / 'samples.png'}")
    missed = below_bars(scores[0], config.bars)
    return _say(FAILED, f"one-step samples fail: {'; '.join(missed)}") if missed else 0


def _say(status: int, message: str) -> int:
    """Print one line to standard error, and return the status."""
    print(f"ict_ref.launch: {' '.join(message.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
