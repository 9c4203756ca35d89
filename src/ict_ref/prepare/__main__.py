"""Turn a data set into one array that is read by memory map: `python -m ict_ref.prepare SOURCE --out FOLDER`.

FOLDER is worked in under names that end in .partial, and renamed when whole. The journal says how many images are safe
on disk; started again, the command goes on behind them, and ends with the same bytes.
"""

import argparse
import contextlib
import fcntl
import io
import json
import math
import os
import shutil
import signal
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from ict_ref.data.prepared import ABOUT, IMAGES, JOURNAL, LABELS, About, Recipe, open_arrays, read_about, sha256, verify
from ict_ref.prepare.sources import Part, Source, find
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.command_line import INTERRUPTED, REFUSED, Parser, say

NAME, PROGRAM = "ict_ref.prepare", "python -m ict_ref.prepare"
PARTIAL, LOCK = IMAGES + ".partial", "lock.partial"
# Images that each worker may be ahead of what is written: more would fill the memory.
AHEAD = 512
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
            return 0 if options.out is None else prepare(source, options.out, options.workers)
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
    with _bar(size, "checking") as bar:
        verify(folder, about, bar.update)
    print(f"{folder} is whole: {about.count:,} images, checksum {about.checksum()}")
    return 0


def prepare(source: Source, folder: Path, workers: int) -> int:
    """Make the prepared folder, or go on making it, and return the exit status."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose a folder with --out")
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_strange(folder)
    with _held(folder):
        if _state(source, folder) != "whole":
            _refuse_full_disk(source, folder)
            _write_images(source, folder, workers)
            _finish(source, folder)
        about = open_arrays(folder)[0]
    print(f"prepared in {folder}, checksum {about.checksum()}")
    return 0


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder, so that no two commands write into it."""
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder} is in use by another process; wait for it, or choose another --out") from None
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def _refuse_strange(folder: Path) -> None:
    ours = {ABOUT, IMAGES, LABELS, JOURNAL, PARTIAL, LOCK, *(name + ".tmp" for name in (ABOUT, LABELS, JOURNAL))}
    strange = {path.name for path in folder.iterdir()} - ours
    if strange:
        raise ValueError(f"{folder} has {min(strange)} in it, which is not of prepared data; choose another --out")


def _state(source: Source, folder: Path) -> str:
    """Return "new", "begun" or "whole". Raises ValueError if it is of another recipe, or of none."""
    names = {path.name for path in folder.iterdir()}
    if ABOUT in names:
        _refuse_another(source.recipe, read_about(folder).recipe, folder)
        (folder / JOURNAL).unlink(missing_ok=True)  # we were killed between the two
        return "whole"
    if JOURNAL in names:
        _refuse_another(source.recipe, _journal(folder)[0], folder)
        return "begun"
    arrays = names & {IMAGES, LABELS, PARTIAL}
    if arrays:
        raise ValueError(f"{folder} has {min(arrays)} and neither {ABOUT} nor a journal; choose another --out")
    return "new"


def _refuse_another(here: Recipe, there: Recipe, folder: Path) -> None:
    for name in [*there, *here]:
        if there.get(name) != here.get(name):
            raise ValueError(
                f"{folder} is of another recipe: {name} is {there.get(name)} there and {here.get(name)} here; choose "
                "another --out, or delete it"
            )


def _journal(folder: Path) -> tuple[Recipe, int]:
    """Return the recipe of the work that was begun and how many images are safe on disk."""
    try:
        tree = json.loads((folder / JOURNAL).read_bytes())
        return dict(tree["recipe"]), int(tree["done"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{folder / JOURNAL} is damaged; delete {folder} and prepare the data again") from None


def _write_journal(source: Source, folder: Path, done: int) -> None:
    write_atomically(folder / JOURNAL, json.dumps({"recipe": source.recipe, "done": done}).encode())


def _refuse_full_disk(source: Source, folder: Path) -> None:
    there = (folder / PARTIAL).stat().st_size if (folder / PARTIAL).exists() else 0
    needed = source.count * (math.prod(source.shape) + 8) + 4096 - there
    free = shutil.disk_usage(folder).free
    if free < needed and not (folder / IMAGES).exists():
        raise ValueError(f"{folder} needs {needed / 1e6:,.1f} MB; its disk has {free / 1e6:,.1f} MB left")


def _write_images(source: Source, folder: Path, workers: int) -> None:
    """Write what is missing of the images, part by part, each safe on disk before the journal says so."""
    if (folder / IMAGES).exists():
        return
    header = _header((source.count, *source.shape), np.dtype(np.uint8))
    row, path = math.prod(source.shape), folder / PARTIAL
    safe = 0
    if (folder / JOURNAL).exists() and path.exists():
        safe = min(_journal(folder)[1], (path.stat().st_size - len(header)) // row)
    todo, done = list(source.parts), 0
    while todo and done + todo[0].count <= safe:
        done += todo.pop(0).count
    _write_journal(source, folder, done)
    with path.open("r+b" if path.exists() else "w+b") as file, _bar(source.count, "preparing", "images", done) as bar:
        file.write(header)
        file.truncate(len(header) + done * row)
        file.seek(0, os.SEEK_END)
        for pixels in _read(todo, workers):
            file.write(np.ascontiguousarray(pixels).data)
            file.flush()
            os.fsync(file.fileno())
            done += len(pixels)
            _write_journal(source, folder, done)
            bar.update(len(pixels))


def _read(parts: Iterable[Part], workers: int) -> Iterator[UInt8[np.ndarray, " n channels height width"]]:
    """Yield the parts in their order, `workers` at a time being read ahead. Pillow decodes without Python's lock."""
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[int, Future[UInt8[np.ndarray, " n channels height width"]]]] = deque()
    try:
        for part in parts:
            waiting.append((part.count, pool.submit(part.read)))
            while sum(count for count, _ in waiting) > AHEAD * workers:
                yield waiting.popleft()[1].result()
        while waiting:
            yield waiting.popleft()[1].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(source: Source, folder: Path) -> None:
    """Give the files their names; data.json comes last, and makes the folder a prepared one."""
    if (folder / PARTIAL).exists():
        (folder / PARTIAL).rename(folder / IMAGES)
    if source.labels is not None:
        write_atomically(folder / LABELS, _header(source.labels.shape, source.labels.dtype) + source.labels.tobytes())
    names = [IMAGES] if source.labels is None else [IMAGES, LABELS]
    with _bar(sum((folder / name).stat().st_size for name in names), "checksums") as bar:
        sums = {name: sha256(folder / name, bar.update) for name in names}
    about = About(source.words, source.recipe, source.count, source.shape, source.classes, source.names, sums)
    write_atomically(folder / ABOUT, about.to_json())
    (folder / JOURNAL).unlink()


def _header(shape: tuple[int, ...], dtype: np.dtype[np.uint8] | np.dtype[np.int64]) -> bytes:
    """Return how a .npy file of this array begins."""
    file = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def progress(things: list[str], title: str, unit: str) -> Iterable[str]:
    """Wrap a bar around the things; it shows itself after two seconds."""
    return tqdm(things, desc=title, unit=unit, delay=2, bar_format=BAR)


BAR = "{desc} {n_fmt}/{total_fmt} |{bar:20}| {remaining} left"


def _bar(total: int, title: str, unit: str = "B", initial: int = 0) -> "tqdm[NoReturn]":
    return tqdm(total=total, initial=initial, desc=title, unit=unit, unit_scale=unit == "B", delay=2, bar_format=BAR)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"needs a whole number >= 1; got {text}")
    return int(text)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` closes the pipe early; that is no error
    sys.exit(main())
