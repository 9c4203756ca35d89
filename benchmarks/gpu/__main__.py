"""All stages in turn: `python -m benchmarks.gpu --out FOLDER` writes gpu.json and gpu.log there.

gpu.json has the machine, the speeds of training, which `python -m ict_ref.plan --measured` reads, and every stage with
its rows. It is written anew after each stage, so that nothing is lost where the whole is stopped.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.gpu.runner import LEAST_S, PLAN, WHOLE_S, Process, Result, Stage, command_of
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.command_line import FAILED, expect, guarded
from ict_ref.utils.option_parser import Flag, Several, parse_options

NAME = "benchmarks.gpu"
FORMAT = 1
EPILOG = "\nexit status: 0 all stages are done; 1 some are not; 2 rejected, one line gives the reason\n"
Name = Literal[
    "device", "compile", "tests", "equality", "digits", "speed", "masks", "checkpoint", "kernels", "rounding"
]

NAMES: tuple[Name, ...] = get_args(Name)


@dataclass(frozen=True)
class GpuOptions:
    """Measure and test everything that needs a GPU, in stages, and write it to a JSON file."""

    out: Path = Path("gpu_check")
    """New or empty folder for gpu.json and gpu.log."""
    limit: float = WHOLE_S
    """Seconds in all. Limits of stages grow in proportion; stages for which no time is left are left out."""
    spent: float = 0.0
    """Seconds of the limit that have passed before."""
    only: Several[Name] = NAMES
    """Stages. The others are left out."""
    tiny: Flag = False
    """Run every stage with small networks, on a CPU too, to try the stages themselves. Nothing is measured."""

    def __post_init__(self) -> None:
        expect(self.limit > 0, "--limit", "a number of seconds > 0", self.limit)
        expect(self.spent >= 0, "--spent", "a number of seconds >= 0", self.spent)
        free = not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir()))
        expect(free, "--out", "a new or empty folder", self.out, "Existing files are not overwritten.")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Return the chosen stages in order."""
        return tuple(stage for stage in PLAN if stage.name in self.only)


class Record:
    """The results of all stages, and the files in which they are."""

    def __init__(self, out: Path, *, tiny: bool) -> None:
        self.out, self.tiny, self.results = out, tiny, dict[str, Result]()
        out.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, result: Result, log: Path | None = None) -> None:
        """Write the result of a stage, append its log and print a line."""
        self.results[name] = result
        with (self.out / "gpu.log").open("ab") as file:
            file.write(f"== {name}: {result.status}\n".encode() + (log.read_bytes() if log else b""))
        write_atomically(self.out / "gpu.json", json.dumps(self.content(), indent=1).encode() + b"\n")
        print(f"{name:<12}{result.seconds:>6.0f} s  {len(result.rows):>3} rows  {result.status}", flush=True)

    def content(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        rows = [row for result in self.results.values() for row in result.rows]
        machine: dict[str, Any] = next((row for row in rows if row["what"] == "machine"), {})
        speeds = [row for row in rows if row["what"] == "speed" and "tflops" in row]
        stages = {name: result.as_json() for name, result in self.results.items()}
        return {"format": FORMAT, "tiny": self.tiny, "machine": machine, "gpu": speeds, "stages": stages}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: measure(parse_options(GpuOptions, arguments, NAME, EPILOG)))


def measure(options: GpuOptions) -> int:
    """Run the stages and return the exit status."""
    record = Record(options.out, tiny=options.tiny)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run_all(
            options.stages,
            lambda name: command_of(name, folder, tiny=options.tiny),
            folder,
            record,
            ends=time.monotonic() + options.limit - options.spent,
            factor=max(1.0, options.limit / WHOLE_S),
        )
    return 0 if all(result.status == "done" for result in record.results.values()) else FAILED


def run_all(
    stages: Sequence[Stage],
    command: Callable[[str], list[str]],
    folder: Path,
    record: Record,
    *,
    ends: float,
    factor: float = 1.0,
) -> None:
    """Run the stages until `ends`, a time of `time.monotonic`, with their limits times `factor`."""
    with ExitStack() as running:
        beside: list[Process] = []

        def finish_others() -> None:
            while beside:
                process = beside.pop()
                record.add(process.name, process.finish(), process.log)

        for stage in stages:
            if stage.waits:
                finish_others()
            left_s = ends - time.monotonic()
            if left_s < LEAST_S:
                record.add(stage.name, Result("left out: no time was left", 0.0, []))
                continue
            process = Process(stage.name, command(stage.name), folder, min(factor * stage.limit_s, left_s))
            running.callback(process.end)  # also where this process is interrupted
            if stage.beside:
                beside.append(process)
            else:
                record.add(stage.name, process.finish(), process.log)
        finish_others()


if __name__ == "__main__":
    sys.exit(main())
