"""Turn a data set into one array that is read by memory map: `python -m ict_ref.prepare SOURCE --out FOLDER`."""

import argparse
import math
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ict_ref.data.prepared import open_arrays, verify
from ict_ref.prepare.progress import bar, progress
from ict_ref.prepare.sources import Source, find
from ict_ref.prepare.writer import write_prepared
from ict_ref.utils.command_line import INTERRUPTED, REFUSED, Parser, say

NAME, PROGRAM = "ict_ref.prepare", "python -m ict_ref.prepare"
DESCRIPTION = """\
Turn a data set into one array that training reads by memory map, with labels, checksums and the recipe.

SOURCE is seen for what it is by its files:
  cifar-10-python.tar.gz, cifar-10-binary.tar.gz    CIFAR-10 as published, or the folder unpacked from it
  train-00000-of-00001.parquet                      CIFAR-10 from Hugging Face, or the folder of such files (by pyarrow)
  train_data_batch_1.npz                            ImageNet downsampled, a batch, or the folder of all ten
  a folder of images, or of one folder per class    ImageNet ILSVRC2012, or your own; the class is the index of the
                                                    folder's name, sorted

Images are made RGB (--grey: one channel). With --size S, an image is halved (BOX) while its short side is at least 2 S,
resized (BICUBIC) so that its short side is S, and cropped to the middle square: what the authors of consistency models
did to ImageNet. EXIF orientation is not applied: an image is taken as it is stored.

Without --out the command says what it would do, and does nothing. With it, FOLDER gets images.npy (uint8, count x
channels x S x S), labels.npy (int64; if there are classes) and data.json. It can be stopped at any time: the same
command goes on, and ends with the same bytes. A FOLDER with anything else in it is refused and left as it is.
"""
EPILOG = """\
exit status: 0 done; 2 refused, one line says why; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.prepare cifar-10-python.tar.gz --out data/cifar10
  python -m ict_ref.prepare cifar-10-python.tar.gz --split test --out data/cifar10-test
  python -m ict_ref.prepare ILSVRC2012/train --size 64 --out data/imagenet64
  python -m ict_ref.prepare photographs --size 32
  python -m ict_ref.prepare --check data/imagenet64
  python -m ict_ref.launch --config digits --data.name folder --data.path data/mine
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    line = Parser(PROGRAM, DESCRIPTION, EPILOG)
    line.add_argument("source", nargs="?", type=Path, metavar="SOURCE", help="an archive, a file or a folder")
    line.add_argument("--out", type=Path, metavar="FOLDER", help="where the prepared data go; without, nothing is done")
    line.add_argument("--split", choices=["train", "test"], default="train", help="of published sets (default: train)")
    line.add_argument("--size", type=_positive, metavar="S", help="side of the images; without, all must have one size")
    line.add_argument("--grey", action="store_true", help="one channel instead of three")
    line.add_argument(
        "--workers",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads that decode images (default: one per core); what is made does not depend on it",
    )
    line.add_argument("--check", type=Path, metavar="FOLDER", help="compare a prepared folder with its checksums")
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    try:
        options = parser().parse_args(arguments)
        if (options.source is None) == (options.check is None):
            raise ValueError(f"needs a SOURCE, or --check FOLDER; see {PROGRAM} --help")
        if options.check is not None:
            return check(options.check)
        if options.out is not None and options.source.resolve() in (options.out.resolve() / "data.json").parents:
            raise ValueError(f"{options.out} lies in {options.source}; choose an --out beside it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd but whole images: not one line among a million bars
            listing = partial(progress, title="listing", unit=" folders")
            source = find(options.source, split=options.split, size=options.size, grey=options.grey, progress=listing)
            print(described(source))
            return 0 if options.out is None else write_prepared(source, options.out, options.workers)
    except ValueError as error:
        return say(NAME, REFUSED, str(error))
    except OSError as error:
        where = error.filename or options.out
        return say(NAME, REFUSED, f"cannot use {where}: {error.strerror or error}; mended, the same command goes on")
    except KeyboardInterrupt:
        return say(NAME, INTERRUPTED, "stopped; the same command goes on from what is safe on disk")


def described(source: Source) -> str:
    """Return what was found, in two lines."""
    shape = "x".join(map(str, source.shape))
    size = source.count * math.prod(source.shape) / 1e6
    classes = f"in {source.classes} classes" if source.classes else "without classes"
    if source.names:
        classes += f" ({', '.join(source.names[:3])}{', ...' if source.classes > 3 else ''})"
    return f"found {source.count:,} images of {shape} {classes}, {size:,.1f} MB\nrecipe: {source.words}"


def check(folder: Path) -> int:
    """Compare the arrays with their checksums and return the exit status."""
    about, _, _ = open_arrays(folder)
    size = sum((folder / name).stat().st_size for name in about.sha256)
    with bar(size, "checking") as shown:
        verify(folder, about, shown.update)
    print(f"{folder} is whole: {about.count:,} images, checksum {about.checksum()}")
    return 0


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"needs a whole number >= 1; got {text}")
    return int(text)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` closes the pipe early; that is no error
    sys.exit(main())
