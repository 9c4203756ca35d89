"""Train the preset `digits` in each precision and print its scores: `python -m benchmarks.learning FOLDER`.

Each run has a folder of its own in FOLDER, and the same command continues what was stopped. On a CPU, TF32, bfloat16
and float16 are emulated in both passes; samples are in float32 everywhere.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from benchmarks.emulation import emulation
from ict_ref.experiments.runs import Table
from ict_ref.launch.__main__ import main as launch
from ict_ref.utils.command_line import expect, guarded
from ict_ref.utils.option_parser import Several, parse_options

NAME = "benchmarks.learning"
EPILOG = "\nexit status: 0 done; 2 rejected, one line gives the reason\n"
Policy = Literal["float32", "tf32", "bfloat16", "float16"]
SCORES = ("frechet_distance", "accuracy", "recall")


@dataclass(frozen=True)
class LearningOptions:
    """Train the preset digits in each precision with several seeds, and print mean and standard deviation of scores."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the runs, which is made if it does not exist."""
    policies: Several[Policy] = ("float32", "tf32", "float16", "bfloat16")
    """Precisions, each a `train.precision`."""
    seeds: int = 3
    """Number of seeds: 0, 1, ..."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device."""
    preset: Literal["digits", "minimal"] = "digits"
    """Preset; minimal is for tests."""

    def __post_init__(self) -> None:
        expect(self.seeds >= 1, "--seeds", "an integer >= 1", self.seeds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: measure(parse_options(LearningOptions, arguments, NAME, EPILOG)))


def measure(options: LearningOptions) -> int:
    """Train what is not trained yet, print the table and return the exit status."""
    for policy in options.policies:
        for seed in range(options.seeds):
            train(options, policy, seed)
    rows = [
        row(policy, [results(options, policy, seed) for seed in range(options.seeds)]) for policy in options.policies
    ]
    columns = ("precision", *(f"{step}, {name}" for step in ("1 step", "2 steps") for name in SCORES), "skipped")
    print(Table(f"{options.preset}, {options.seeds} seeds, on {options.device}", columns, tuple(rows)).text())
    return 0


def folder_of(options: LearningOptions, policy: str, seed: int) -> Path:
    """Return the run folder of a precision and a seed."""
    return options.folder / f"{policy}-{seed}"


def train(options: LearningOptions, policy: str, seed: int) -> None:
    """Train, sample and score one run, unless it has scores already.

    Raises:
        ChildProcessError: the run ended without scores.
    """
    place = folder_of(options, policy, seed)
    if (place / "scores.json").exists():
        return
    given = ["--config", options.preset, "--out", str(place), "--profile", "none", "--processes", "1"]
    given += ["--train.precision", policy, "--train.seed", str(seed), "--machine.device", options.device]
    with emulation(policy, torch.device(options.device)):
        status = launch(given)
    if not (place / "scores.json").exists():
        raise ChildProcessError(f"{place}: expected scores, but the run ended with status {status}")


def results(options: LearningOptions, policy: str, seed: int) -> tuple[list[float], int]:
    """Return the scores of one run, in one and in two steps, and the number of its updates that were skipped."""
    place = folder_of(options, policy, seed)
    scores: list[dict[str, Any]] = json.loads((place / "scores.json").read_text("utf-8"))["scores"]
    last = json.loads((place / "metrics.jsonl").read_text("utf-8").splitlines()[-1])
    return [float(entry[name]) for entry in scores[:2] for name in SCORES], int(last["skipped_steps"])


def row(policy: str, runs: Sequence[tuple[list[float], int]]) -> tuple[str, ...]:
    """Return a row of the table: mean and standard deviation of each score, and the updates that were skipped."""
    columns = zip(*(scores for scores, _ in runs), strict=True)
    skipped = ", ".join(str(count) for _, count in runs)
    return (policy, *(spread(column) for column in columns), skipped)


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of a sample.

    >>> spread([1.0, 2.0, 3.0])
    '2.000 ± 1.000'
    """
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.3f} ± {deviation:.3f}"


if __name__ == "__main__":
    sys.exit(main())
