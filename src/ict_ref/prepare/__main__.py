"""Conversion of a data set to one memory-mapped array: `python -m ict_ref.prepare SOURCE --out FOLDER`."""

import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ict_ref.data.prepared import open_arrays, verify
from ict_ref.data.published import COUNTS, PublishedSplit, contents, differences, grouped, recognised
from ict_ref.prepare.options import EPILOG, PrepareOptions
from ict_ref.utils.command_line import guarded
from ict_ref.utils.option_parser import parse_options
from ict_ref.utils.printable import printable, printable_lines
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
    from ict_ref.prepare.next_steps import next_steps
    from ict_ref.prepare.sources import find
    from ict_ref.prepare.writer import write_prepared

    assert options.source is not None  # noqa: S101 (or there is a folder to check)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of unusual images that it reads correctly
            source = find(
                options.source,
                split=options.split,
                size=options.size,
                grey=options.grey,
                class_map=options.class_map,
                unknown_files=options.unknown_files,
            )
            print(printable_lines(described(source)))
            if options.out is None:
                return 0
            about = write_prepared(source, options.out, options.workers)
            for remark in source.remarks():
                print(printable_lines(remark))
            place, steps = printable(options.out), next_steps(source, options.out)
            print(printable_lines(f"prepared in {place}, checksum {about.checksum()}\n{steps}"))
            return 0
    except OSError as error:
        error.filename = error.filename or options.out  # a full disk has no file name
        raise


def described(source: "Source") -> str:
    """Return a description of the data set: its images, its recipe, and what it is recognised as."""
    shape = "x".join(map(str, source.shape))
    size = source.count * math.prod(source.shape) / 1e6
    classes = f"in {source.classes} classes" if source.classes else "without classes"
    if source.names:
        classes += f" ({', '.join(map(printable, source.names[:3]))}{', ...' if source.classes > 3 else ''})"
    found = f"found {grouped(source.count)} images of {shape} {classes}, {size:,.1f} MB"
    found += f"; {printable(source.left_out)}" if source.left_out else ""
    remarks = [*identified(source), *compared(source.files), *ordered(source.class_order)]
    return "\n".join([found, f"recipe: {printable(source.words)}", *remarks])


def identified(source: "Source") -> list[str]:
    """Return a line with the published split that this is, or its differences from it; none for own images."""
    split = source.recognised()
    if split is not None:
        return [recognition(split, source.shape, source.evidence)]
    if not source.published:
        return []
    published = source.published[0]
    phrases = differences(published, source.contents())
    if source.missing:
        others = len(source.missing) - 3
        phrases.append(
            f"without {', '.join(source.missing[:3])}" + (f" and {others} other batches" if others > 0 else "")
        )
    return [f"{', '.join(phrases)}: not {published.title(source.shape)} as published"]


def recognition(split: PublishedSplit, shape: tuple[int, int, int], evidence: str) -> str:
    """Return a line with the published split that data are, and the evidence."""
    return f"recognised: {split.title(shape)} as published, {split.split} split, by {evidence}"


def compared(files: str | None) -> list[str]:
    """Return a line that says that files are not the published ones."""
    return ["files: their MD5s are not the published ones (--unknown-files)"] if files == "unknown" else []


def ordered(class_order: str | None) -> list[str]:
    """Return a line with the meaning of an order of classes that is not the sorted one."""
    if class_order is None:
        return []
    meaning = "Labels are consistent within these data, but class k is not class k of a model trained on sorted synsets"
    return [f"classes: {class_order}. {meaning}. --class-map map_clsloc.txt translates them."]


def check(folder: Path) -> int:
    """Compare the arrays with their checksums and return the exit status.

    Raises:
        ValueError: The folder is not prepared data or an array is damaged.
        OSError: A file cannot be read.
    """
    about, _, labels = open_arrays(folder)
    size = sum((folder / name).stat().st_size for name in about.sha256)
    with bar(size, "checking", "B") as shown:
        verify(folder, about, shown.update)
    print(printable(f"{folder} is whole: {grouped(about.count)} images, checksum {about.checksum()}"))
    split = recognised(contents(about.count, about.shape, labels, about.names))
    if split is not None:
        print(recognition(split, about.shape, (about.published or {}).get("evidence", COUNTS)))
    for line in [*compared(about.files), *ordered(about.class_order)]:
        print(printable(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
