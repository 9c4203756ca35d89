"""Conversion of a data set to one memory-mapped array: `python -m ict_ref.prepare SOURCE --out FOLDER`."""

import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ict_ref.data.prepared import open_arrays, verify
from ict_ref.prepare.options import EPILOG, PrepareOptions
from ict_ref.utils.command_line import guarded
from ict_ref.utils.option_parser import parse_options
from ict_ref.utils.progress import bar

# torch is imported after the arguments are checked, so that help and errors appear at once.
if TYPE_CHECKING:
    from ict_ref.prepare.sources import Source

NAME = "ict_ref.prepare"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(
        NAME,
        lambda: prepare(parse_options(PrepareOptions, arguments, NAME, EPILOG)),
        stopped="stopped; the same command resumes from the images on disk",
        after_repair=". Fix this; then the same command resumes.",
    )


def prepare(options: PrepareOptions) -> int:
    """Prepare or check the data and return the exit status.

    Raises:
        ValueError: The source or the output folder cannot be used.
        OSError: A file cannot be read or written.
    """
    if options.check is not None:
        return check(options.check)
    from ict_ref.prepare.sources import find
    from ict_ref.prepare.writer import write_prepared

    assert options.source is not None  # noqa: S101 (or there is a folder to check)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of unusual images that it reads correctly
            source = find(options.source, split=options.split, size=options.size, grey=options.grey)
            print(described(source))
            return 0 if options.out is None else write_prepared(source, options.out, options.workers)
    except OSError as error:
        error.filename = error.filename or options.out  # a full disk has no file name
        raise


def described(source: "Source") -> str:
    """Return a description of the data set in two lines."""
    shape = "x".join(map(str, source.shape))
    size = source.count * math.prod(source.shape) / 1e6
    classes = f"in {source.classes} classes" if source.classes else "without classes"
    if source.names:
        classes += f" ({', '.join(source.names[:3])}{', ...' if source.classes > 3 else ''})"
    return f"found {source.count:,} images of {shape} {classes}, {size:,.1f} MB\nrecipe: {source.words}"


def check(folder: Path) -> int:
    """Compare the arrays with their checksums and return the exit status.

    Raises:
        ValueError: The folder is not prepared data or an array is damaged.
        OSError: A file cannot be read.
    """
    about, _, _ = open_arrays(folder)
    size = sum((folder / name).stat().st_size for name in about.sha256)
    with bar(size, "checking", "B") as shown:
        verify(folder, about, shown.update)
    print(f"{folder} is whole: {about.count:,} images, checksum {about.checksum()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
