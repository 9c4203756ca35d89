"""The page docs/gpu.md: `python -m benchmarks.gpu.page FILE` writes it from a gpu.json, which it copies to docs/.

Without FILE it is written from docs/gpu.json; where that does not exist, the page says "not measured" everywhere.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.gpu.__main__ import FORMAT, NAMES
from benchmarks.gpu.networks import POLICIES, Case
from benchmarks.gpu.speed import TARGETS, cases, described
from ict_ref.utils import file_format
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.command_line import expect, guarded
from ict_ref.utils.json_file import entry, read_json
from ict_ref.utils.option_parser import parse_options

NAME = "benchmarks.gpu.page"
EPILOG = "\nexit status: 0 written; 2 rejected, one line gives the reason\n"
PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
DATA = PAGE.with_suffix(".json")
NOT_MEASURED = "not measured"
ADVICE = "Write it again with python -m benchmarks.gpu."
SHARE, MASKS = 0.5, 0.01
"""Targets: the least share of the matrix products' rate, and the largest share of masks in an update."""
PRESETS = ("cifar10", "imagenet64")
Row = Mapping[str, Any]

HEAD = """# Measured on a GPU

`nox -s gpu` measures and tests what needs a GPU, in stages that cannot stop each other.
A machine with only Python, torch with CUDA and Triton needs no installation and no network:

<!-- not run: needs a GPU -->

```sh
bash benchmarks/gpu_check.sh --wheels FOLDER --out gpu_check      # at most eight minutes, into gpu_check/gpu.json
bash benchmarks/gpu_check.sh --tiny --out gpu_check_tiny          # tries every stage, also on a CPU
python -m benchmarks.gpu.page gpu_check/gpu.json                  # writes this page
```

FOLDER has the wheels of missing packages, such as tyro, docstring-parser, typeguard and submitit.
Times are medians. Documentation claims about GPUs what this page shows, and nothing more.
"""


@dataclass(frozen=True)
class Measured:
    """The content of a gpu.json, or of none."""

    stages: Mapping[str, Mapping[str, Any]]

    def rows(self, what: str, **values: object) -> list[Row]:
        """Return the rows of this kind that have these values."""
        rows = (row for stage in self.stages.values() for row in stage["rows"])
        return [r for r in rows if r["what"] == what and all(r.get(name) == value for name, value in values.items())]

    def row(self, what: str, **values: object) -> Row:
        """Return the first such row, or an empty one."""
        return next(iter(self.rows(what, **values)), {})

    def status(self, stage: str) -> str:
        """Return how a stage ended."""
        found: str = self.stages[stage]["status"] if stage in self.stages else NOT_MEASURED
        return found


def read(file: Path) -> Measured:
    """Return the content of a gpu.json.

    Raises:
        LaterFormatError: a later version wrote the file.
        ValueError: the file is damaged, or is of a tiny run, which measures nothing.
        OSError: the file cannot be read.
    """
    stored = read_json(file, ADVICE)
    file_format.format_of(file, stored, FORMAT)
    expect(not entry(stored, "tiny", bool), str(file), "a measurement", "a run with --tiny", ADVICE)
    return Measured(entry(stored, "stages", Mapping[str, Mapping[str, Any]]))


def page(measured: Measured) -> str:
    """Return the text of the page."""
    sections: dict[str, Callable[[Measured], Iterable[str]]] = {
        "Device": device,
        "Stages": stages,
        "Tests": tests,
        "CPU and GPU": equality,
        "A run": run,
        "Speed": speed,
        "Masks": masks,
        "Kernels": kernels,
        "Rounding": rounding,
        "Checkpoints": checkpoints,
    }
    machine = measured.row("machine")
    where = f"Measured on {machine['gpu']}, {machine['date']}." if machine else "Nothing on this page is measured yet."
    parts = [
        HEAD,
        f"**{where}**\n",
        *("\n".join([f"## {title}", "", *lines(measured), ""]) for title, lines in sections.items()),
    ]
    return "\n".join(parts)


def device(measured: Measured) -> Iterable[str]:
    """Yield the table of the machine, and that of its rates."""
    machine = measured.row("machine")
    names = ("gpu", "memory_gib", "multiprocessors", "torch", "cuda", "cudnn", "nccl", "date", "ict_ref")
    yield from table(("machine", ""), [(name.replace("_gib", ", GiB"), cell(machine.get(name))) for name in names])
    yield ""
    rates = [(policy, number(measured.row("product", precision=policy), "tflops")) for policy in POLICIES]
    yield from table(("product of 8192x8192 matrices", "TFLOP/s"), rates)
    yield ""
    copy = number(measured.row("copy"), "tb_per_second")
    yield f"Bandwidth of a copy on the device, in TB/s read and written: {copy}."


def stages(measured: Measured) -> Iterable[str]:
    """Yield the table of stages."""
    yield from table(
        ("stage", "result", "seconds"),
        [(name, measured.status(name), number(measured.stages.get(name, {}), "seconds")) for name in NAMES],
    )


def tests(measured: Measured) -> Iterable[str]:
    """Yield the numbers of tests, and the tests that failed."""
    rows = measured.rows("test")
    counts = {name: sum(row["outcome"] == name for row in rows) for name in ("passed", "failed", "skipped")}
    result = ", ".join(f"{count} {name}" for name, count in counts.items()) if rows else NOT_MEASURED
    yield f"[tests/end_to_end/test_cuda.py](../tests/end_to_end/test_cuda.py): {result}."
    yield from (f"- failed: `{row['test']}`" for row in rows if row["outcome"] == "failed")


def equality(measured: Measured) -> Iterable[str]:
    """Yield the differences between the CPU and the device."""
    yield f"Floats of the 256 pixel values that differ: {cell(measured.row('pixels').get('differing'))}."
    yield ""
    found = [(precision, measured.row("updates", precision=precision)) for precision in ("float64", "float32")]
    yield from table(
        ("ten updates of `minimal`", "largest relative difference of a loss", "largest difference of a parameter"),
        [(precision, number(row, "loss"), number(row, "parameter")) for precision, row in found],
    )


def run(measured: Measured) -> Iterable[str]:
    """Yield the result of the launcher's run."""
    row = measured.row("run")
    names = ("preset", "status", "seconds", "frechet_distance", "accuracy", "recall")
    yield from table(
        ("launcher", "exit status", "seconds", "Fréchet distance", "accuracy", "recall"),
        [(cell(row.get("preset")), *(number(row, name) for name in names[1:]))],
    )


def speed(measured: Measured) -> Iterable[str]:
    """Yield the table of speeds, and whether the targets are met."""
    yield "A share is that of the measured rate of matrix products in the same precision."
    yield "All 64 noise shards of a preset are in the batch. Compiled networks have channels last."
    yield ""
    rows = []
    for case in sorted(cases(), key=place):
        row = measured.row("speed", **described(case))
        names = ("images_per_second", "milliseconds", "tflops", "share", "peak_gib")
        failed = "out of memory" if "OutOfMemory" in row.get("failed", "") else row.get("failed")
        numbers = [
            failed or number(row, names[0]),
            *(("",) * 4 if failed else (number(row, name) for name in names[1:])),
        ]
        kind = "compiled" if case.compiled else "eager"
        rows.append((f"`{case.preset}`", case.precision, kind, str(case.batch), *numbers))
    columns = ("preset", "precision", "", "batch", "images/s", "ms per update", "TFLOP/s", "share", "peak GiB")
    yield from table(columns, rows)
    yield ""
    for case in TARGETS:
        share = measured.row("speed", **described(case)).get("share")
        target = f"a share of {SHARE} for `{case.preset}`, compiled, {case.precision}, batch {case.batch}"
        yield f"- Target: {target}: {verdict(share, lambda value: value >= SHARE)}."


def place(case: Case) -> tuple[str, int, int, bool]:
    """Return the place of a case in the table."""
    return case.preset, -case.batch, POLICIES.index(case.precision), case.compiled


def masks(measured: Measured) -> Iterable[str]:
    """Yield the times of the masks, and whether the target is met."""
    rows = []
    for case in TARGETS:
        made = measured.row("masks", preset=case.preset, batch=case.batch).get("milliseconds")
        update = measured.row("speed", **described(case)).get("milliseconds")
        share = None if made is None or update is None else made / update
        result = verdict(share, lambda value: value <= MASKS)
        rows.append((f"`{case.preset}`", str(case.batch), cell(made), cell(share), result))
    yield from table(("preset", "batch", "ms", "share of an update", f"target: {MASKS}"), rows)


def kernels(measured: Measured) -> Iterable[str]:
    """Yield the kernels of an update of each case, and those that take most of its time."""
    found = measured.rows("kernels")
    rows = [
        (named(row), *(number(row, name) for name in ("launches", "milliseconds", "synchronisations")))
        for row in found or [{"preset": preset} for preset in PRESETS]
    ]
    yield from table(("update", "launches", "ms on the device", "synchronisations (target: 0)"), rows)
    for row in found:
        yield from ["", f"{named(row)}:", ""]
        fields = {name: row[name] for name in ("preset", "precision", "compiled", "batch")}
        top = measured.rows("kernel", **fields)
        yield from table(
            ("kernel", "launches", "share"),
            [(f"`{one['name'].replace('|', ' ')}`", cell(one["launches"]), cell(one["share"])) for one in top],
        )


def rounding(measured: Measured) -> Iterable[str]:
    """Yield the largest error of each precision over all noise levels."""
    yield "The largest errors over five noise levels, as multiples of c ([precision.md](precision.md))."
    yield ""
    rows = []
    for preset in PRESETS:
        found = measured.rows("rounding", preset=preset)
        worst = [cell(max((row[policy] for row in found), default=None)) for policy in POLICIES]
        rows.append((f"`{preset}`", *worst))
    yield from table(("preset", *(f"`{policy}`" for policy in POLICIES)), rows)


def checkpoints(measured: Measured) -> Iterable[str]:
    """Yield the times of a checkpoint."""
    yield "Training waits for the check of finite values and for the copy to the host, not for the thread that writes."
    yield ""
    names = ("gib", "check_s", "copy_s", "write_s", "check_mib", "copy_mib")
    found = [(preset, measured.row("checkpoint", preset=preset)) for preset in PRESETS]
    yield from table(
        (
            "preset",
            "GiB",
            "check, s",
            "copy, s",
            "copy and file, s",
            "GPU memory of the check, MiB",
            "of the copy, MiB",
        ),
        [(f"`{preset}`", *(number(row, name) for name in names)) for preset, row in found],
    )


def named(row: Row) -> str:
    """Return the case of a row in words."""
    kind = {True: ", compiled", False: ", eager"}.get(row.get("compiled", ""), "")
    batch = f", batch {row['batch']}" if "batch" in row else ""
    return f"`{row['preset']}`{', ' + row['precision'] if 'precision' in row else ''}{kind}{batch}"


def verdict(value: float | None, holds: Callable[[float], bool]) -> str:
    """Return whether a target is met."""
    if value is None:
        return NOT_MEASURED
    return f"{'met' if holds(value) else 'missed'} with {cell(value)}"


def number(row: Row, name: str) -> str:
    """Return a value of a row."""
    return cell(row.get(name))


def cell(value: object) -> str:
    """Return a value as a cell of a table.

    >>> cell(0.123456), cell(1234.5), cell(None)
    ('0.123', '1230', 'not measured')
    """
    if value is None:
        return NOT_MEASURED
    if not isinstance(value, float):
        return str(value)
    short = f"{value:.3g}"
    return f"{float(short):.0f}" if "e+" in short else short


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Yield the lines of a table."""
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    yield from (f"| {' | '.join(row)} |" for row in rows)


@dataclass(frozen=True)
class PageOptions:
    """Write docs/gpu.md from the file that `python -m benchmarks.gpu` wrote, and copy this file to docs/gpu.json."""

    file: Annotated[Path, tyro.conf.Positional] = DATA
    """The file gpu.json; by default docs/gpu.json, or nothing where it does not exist."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: write(parse_options(PageOptions, arguments, NAME, EPILOG)))


def committed() -> Measured:
    """Return the measurements beside the page, or none."""
    return read(DATA) if DATA.exists() else Measured({})


def write(options: PageOptions) -> int:
    """Write the page and return the exit status."""
    if options.file.resolve() != DATA:
        read(options.file)
        write_atomically(DATA, options.file.read_bytes())
    write_atomically(PAGE, page(committed()).encode())
    print(f"{PAGE}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
