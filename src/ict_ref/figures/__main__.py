"""The command: `python -m ict_ref.figures`."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ict_ref.figures.catalogue import FIGURES, maker_of
from ict_ref.utils.command_line import Parser, guarded, refuse_place

# torch and matplotlib are imported once the arguments are known to be good: help and errors come at once.
if TYPE_CHECKING:
    from ict_ref.utils.panel import Figure

PROGRAM, NAME = "python -m ict_ref.figures", "ict_ref.figures"
GROUPS = {
    "analytic": [number for number, entry in FIGURES.items() if entry.analytic],
    "experiments": [number for number, entry in FIGURES.items() if not entry.analytic],
}
BAR = "{desc} {n_fmt}/{total_fmt} updates |{bar:20}| {remaining} left"
DESCRIPTION = """\
Make the paper's figures, each as NUMBER.png and NUMBER.svg, with the points behind it as NUMBER.csv (panel, curve, x,
y); and of a trained model a sheet of samples as Figures 5 and 7 to 10 have them, in one step and in two from the same
noise.

figures, and about how long each takes on one CPU thread:
{figures}

Each is written as soon as it is made, the quick ones first. A figure whose three files are there is kept, so that the
same command goes on after it was stopped; nothing is overwritten. The same figure has the same bytes each time, as long
as matplotlib is the same. Drawing needs matplotlib: pip install 'ict_ref[figures]'.

A sheet needs no matplotlib. Of a model with labels each row is of a class, and sample k is that of python -m
ict_ref.sample with the same --labels and --seed; beside NAME-sheet.png, NAME-sheet.json says how it was made.
"""
EPILOG = """\
exit status: 0 done; 2 refused, one line says why; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.figures
  python -m ict_ref.figures --only analytic
  python -m ict_ref.figures --only 1a 3b --out paper
  python -m ict_ref.figures --run runs/digits-c86323d6
  python -m ict_ref.figures --run net.safetensors --sheet 4 12 --labels 207 88 1 976
"""


def parser() -> Parser:
    """Return the command line."""
    lines = (f"  {number}  {entry.what:48} {_duration(entry.seconds)}" for number, entry in FIGURES.items())
    line = Parser(PROGRAM, DESCRIPTION.format(figures="\n".join(lines)), EPILOG)
    line.add_argument("--out", type=Path, default=Path("figures"), metavar="FOLDER", help="default: figures")
    line.add_argument(
        "--only",
        nargs="+",
        choices=[*FIGURES, *GROUPS],
        metavar="NUMBER",
        help="these figures (default: all); analytic: all from formulas; experiments: all that are trained for",
    )
    of_run = line.add_argument_group("a sheet of samples")
    of_run.add_argument("--run", type=Path, metavar="RUN", help="a run's folder or a network file")
    of_run.add_argument(
        "--sheet", nargs=2, type=int, metavar=("ROWS", "COLUMNS"), help="default: 10 8, of fewer classes a row for each"
    )
    of_run.add_argument("--labels", nargs="+", type=int, metavar="CLASS", help="of the rows, sorted (default: from 0)")
    of_run.add_argument("--seed", type=int, metavar="S", help="of the noise (default: 0)")
    of_run.add_argument("--device", choices=["auto", "cpu", "cuda"], help="default: auto, a GPU if there is one")
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: _dispatched(arguments), stopped="stopped; the same command goes on")


def _dispatched(arguments: Sequence[str] | None) -> int:
    options = parser().parse_args(arguments)
    for name in ("only",) if options.run else ("sheet", "labels", "seed", "device"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} goes {'not ' if options.run else ''}with --run; see {PROGRAM} --help")
    refuse_no_folder(options.out)
    if options.run:
        return write_sheet(options)
    wanted = {number for name in options.only or FIGURES for number in GROUPS.get(name, [name])}
    return write_figures([number for number in FIGURES if number in wanted], options.out)


def refuse_no_folder(folder: Path) -> None:
    """Raise ValueError unless this is a folder that can be written to, or one can be made here."""
    if not folder.exists():
        refuse_place(folder)
    elif not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"--out needs a folder that can be written to; {folder} is none")


def write_sheet(options: Namespace) -> int:
    """Write a sheet of samples, print a line and return the exit status."""
    if options.seed is not None and options.seed < 0:
        raise ValueError(f"--seed needs an integer >= 0; got {options.seed}")
    from ict_ref.figures.samples import write_samples

    line = write_samples(
        options.run,
        options.out,
        size=tuple(options.sheet) if options.sheet else None,
        wanted=tuple(options.labels or ()),
        seed=options.seed or 0,
        device=options.device or "auto",
    )
    print(line)
    return 0


def write_figures(numbers: Sequence[str], folder: Path) -> int:
    """Make these figures, but for those that are there; print a line for each and return the exit status."""
    try:
        from ict_ref.utils.chart import SUFFIXES, files
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        raise ValueError("figures need matplotlib: pip install 'ict_ref[figures]'") from None
    for number in numbers:
        paths = {suffix: folder / f"{number}{suffix}" for suffix in SUFFIXES}
        if all(path.exists() for path in paths.values()):
            print(f"{paths['.png']}  kept, it was there")
            continue
        figure = made(number)
        write_missing({paths[suffix]: content for suffix, content in files(figure).items()})
        print(f"{paths['.png']}  {figure.caption}", flush=True)
    return 0


def made(number: str) -> "Figure":
    """Return the figure, made under a progress bar."""
    from tqdm import tqdm

    maker = maker_of(number)
    with tqdm(total=maker.updates, desc=f"figure {number}", delay=2, leave=False, bar_format=BAR) as bar:
        return maker.make(bar.update)


def write_missing(contents: dict[Path, bytes]) -> None:
    """Write the files that are not there. Raises ValueError if one is there with another content."""
    from ict_ref.utils.atomic import write_atomically

    there = [path for path in contents if os.path.lexists(path)]
    for path in there:
        if path.read_bytes() != contents[path]:
            raise ValueError(f"{path} is there and is another, and nothing is overwritten; move it, or choose an --out")
    for path in contents.keys() - set(there):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, contents[path])


def _duration(seconds: float) -> str:
    return "at once" if seconds < 1 else f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
