"""The command: `python -m ict_ref.figures`."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ict_ref.figures.catalogue import maker_of
from ict_ref.figures.options import EPILOG, FigureOptions
from ict_ref.utils.atomic import lock_of, new_files
from ict_ref.utils.command_line import guarded, refuse_place
from ict_ref.utils.option_parser import parse_options
from ict_ref.utils.printable import printable
from ict_ref.utils.regular_file import read_regular

# torch and matplotlib are imported after the arguments are checked, so that help and errors appear at once.
if TYPE_CHECKING:
    from ict_ref.utils.panel import Figure

NAME = "ict_ref.figures"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(
        NAME,
        lambda: make(parse_options(FigureOptions, arguments, NAME, EPILOG)),
        stopped="stopped; the same command resumes",
    )


def make(options: FigureOptions) -> int:
    """Make a sheet of samples, or figures, and return the exit status.

    Raises:
        ValueError: matplotlib is missing, an option does not fit the model, or a file exists with other content.
        OSError: A file cannot be read or written.
    """
    refuse_no_folder(options.out)
    if options.runs:
        return write_figures(
            {f"{number}-runs": partial(from_runs, number, options.runs) for number in options.numbers},
            options.out,
            keep=False,
        )
    if options.run is None:
        return write_figures({number: partial(made, number) for number in options.numbers}, options.out)
    from ict_ref.figures.samples import write_samples

    line = write_samples(
        options.run,
        options.out,
        step=options.step,
        ema=options.ema,
        ema_sigma=options.ema_sigma,
        size=options.sheet,
        wanted=options.labels,
        seed=options.seed or 0,
        device=options.device or "auto",
    )
    print(printable(line))
    return 0


def refuse_no_folder(folder: Path) -> None:
    """Reject a path that is not a writable folder and cannot become one.

    Raises:
        ValueError: The path cannot be used.
    """
    if not folder.exists():
        refuse_place(folder)
    elif not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"--out: expected a writable folder, got {folder}. Choose another --out.")


def write_figures(makers: Mapping[str, Callable[[], "Figure"]], folder: Path, *, keep: bool = True) -> int:
    """Make the figures, write the files that do not exist yet, print one line per figure and return the exit status.

    `makers` are functions that make a figure, by the name of its files. With `keep`, figures that exist are not made.

    Raises:
        ModuleNotFoundError: matplotlib is missing.
        ValueError: A file exists with other content.
        OSError: A file cannot be written.
    """
    from ict_ref.utils.chart import SUFFIXES, files

    for name, maker in makers.items():
        paths = {suffix: folder / f"{name}{suffix}" for suffix in SUFFIXES}
        if keep and all(path.exists() and not lock_of(path).exists() for path in paths.values()):
            print(printable(f"{paths['.png']}  kept, it exists"))
            continue
        figure = maker()
        write_missing({paths[suffix]: content for suffix, content in files(figure).items()})
        print(printable(f"{paths['.png']}  {figure.caption}"), flush=True)
    return 0


def from_runs(number: str, runs: Sequence[Path]) -> "Figure":
    """Return the figure with a curve for each run."""
    from ict_ref.figures.from_runs import figure_from_runs

    return figure_from_runs(number, runs)


def made(number: str) -> "Figure":
    """Make the figure under a progress bar and return it."""
    from ict_ref.utils.progress import bar

    maker = maker_of(number)
    with bar(maker.updates, f"figure {number}", "updates") as progress:
        return maker.make(progress.update)


def write_missing(contents: dict[Path, bytes]) -> None:
    """Write the files that do not exist yet.

    Raises:
        ValueError: A file exists with other content.
        OSError: A file cannot be read or written.
    """
    with new_files(*contents, again=True) as new:
        for path, content in contents.items():
            if os.path.lexists(path) and read_regular(path) != content:
                expected = "expected a new path or the same file"
                raise ValueError(f"--out: {expected}, got another {path}. Move it, or choose another --out.")
            new.write(path, content)


if __name__ == "__main__":
    sys.exit(main())
