"""Resumable writing of a prepared folder, part by part.

Unfinished files have names that end in .partial and are renamed when complete. The journal holds the number of images
that are safe on disk. A resumed command continues after these images and writes the same bytes.
"""

import contextlib
import io
import math
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ict_ref.data.prepared import ABOUT, IMAGES, JOURNAL, LABELS, About, open_arrays, read_about, sha256
from ict_ref.prepare.journal import read_journal, refuse_another_recipe, write_journal
from ict_ref.prepare.sources import Part, Source
from ict_ref.utils.atomic import locked, refuse_link, remove_leftovers, write_atomically, written_name
from ict_ref.utils.progress import bar

PARTIAL, LOCK = IMAGES + ".partial", "lock.partial"
# Files that are written atomically. A killed process may leave a temporary file for each.
WRITTEN = (ABOUT, LABELS, JOURNAL)
# Largest number of images that a worker may be ahead of the writer, which limits memory.
AHEAD = 512


def write_prepared(source: Source, folder: Path, workers: int) -> About:
    """Write or resume the prepared folder and return the content of its data.json.

    Raises:
        ValueError: The folder holds other files or another recipe, or its disk is too small.
        OSError: A file cannot be read or written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out: expected a folder, got the file {folder}. Choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_strange(folder)
    with _held(folder):
        if _state(source, folder) != "whole":
            _refuse_full_disk(source, folder)
            _write_images(source, folder, workers)
            _finish(source, folder)
        return open_arrays(folder)[0]


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock the folder, so that only one command writes into it."""
    with locked(folder, LOCK):
        try:
            remove_leftovers(folder, WRITTEN.__contains__)
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def _refuse_strange(folder: Path) -> None:
    ours = {ABOUT, IMAGES, LABELS, JOURNAL, PARTIAL, LOCK, *(name + ".tmp" for name in WRITTEN)}
    strange = {path.name for path in folder.iterdir() if written_name(path.name) not in ours}
    if strange:
        raise ValueError(
            f"--out: expected an empty folder or prepared data, got {folder} with {min(strange)}. Choose another --out."
        )


def _state(source: Source, folder: Path) -> str:
    """Return "new", "begun" or "whole". Raises ValueError for another recipe or a missing one."""
    names = {path.name for path in folder.iterdir()}
    if ABOUT in names:
        refuse_another_recipe(source.recipe, read_about(folder).recipe, folder)
        (folder / JOURNAL).unlink(missing_ok=True)  # an earlier process ended between the two writes
        return "whole"
    if JOURNAL in names:
        refuse_another_recipe(source.recipe, read_journal(folder)[0], folder)
        return "begun"
    arrays = names & {IMAGES, LABELS, PARTIAL}
    if arrays:
        raise ValueError(
            f"--out: expected {ABOUT} or a journal beside {min(arrays)}, got neither in {folder}. Choose another --out."
        )
    return "new"


def _refuse_full_disk(source: Source, folder: Path) -> None:
    there = (folder / PARTIAL).stat().st_size if (folder / PARTIAL).exists() else 0
    needed = source.count * (math.prod(source.shape) + 8) + 4096 - there
    free = shutil.disk_usage(folder).free
    if free < needed and not (folder / IMAGES).exists():
        raise ValueError(
            f"--out: expected {needed / 1e6:,.1f} MB of free space for {folder}, got {free / 1e6:,.1f} MB. "
            "Free space, or choose another --out."
        )


def _write_images(source: Source, folder: Path, workers: int) -> None:
    """Write the missing images part by part; the journal counts a part after it is safe on disk."""
    if (folder / IMAGES).exists():
        return
    refuse_link(folder / IMAGES)
    header = _header((source.count, *source.shape), np.dtype(np.uint8))
    row, path = math.prod(source.shape), folder / PARTIAL
    refuse_link(path)
    safe = 0
    if (folder / JOURNAL).exists() and path.exists():
        safe = min(read_journal(folder)[1], (path.stat().st_size - len(header)) // row)
    todo, done = list(source.parts), 0
    while todo and done + todo[0].count <= safe:
        done += todo.pop(0).count
    write_journal(source.recipe, folder, done)
    with (
        path.open("r+b" if path.exists() else "w+b") as file,
        bar(source.count, "preparing", "images", initial=done) as shown,
    ):
        file.write(header)
        file.truncate(len(header) + done * row)
        file.seek(0, os.SEEK_END)
        for pixels in _read(todo, workers):
            file.write(np.ascontiguousarray(pixels).data)
            file.flush()
            os.fsync(file.fileno())
            done += len(pixels)
            write_journal(source.recipe, folder, done)
            shown.update(len(pixels))


def _read(parts: Iterable[Part], workers: int) -> Iterator[UInt8[np.ndarray, " n channels height width"]]:
    """Yield the parts in order, and read ahead in `workers` threads; Pillow decodes without Python's lock."""
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
    """Rename the files and write data.json last, which marks the folder as complete."""
    if (folder / PARTIAL).exists():
        (folder / PARTIAL).rename(folder / IMAGES)
    if source.labels is not None:
        write_atomically(folder / LABELS, _header(source.labels.shape, source.labels.dtype) + source.labels.tobytes())
    names = [IMAGES] if source.labels is None else [IMAGES, LABELS]
    with bar(sum((folder / name).stat().st_size for name in names), "checksums", "B") as shown:
        sums = {name: sha256(folder / name, shown.update) for name in names}
    about = About(
        words=source.words,
        recipe=source.recipe,
        count=source.count,
        shape=source.shape,
        classes=source.classes,
        names=source.names,
        sha256=sums,
        published=source.recognised_as(),
        class_order=source.class_order,
    )
    write_atomically(folder / ABOUT, about.to_json())
    (folder / JOURNAL).unlink()


def _header(shape: tuple[int, ...], dtype: np.dtype[np.uint8] | np.dtype[np.int64]) -> bytes:
    """Return the header of a .npy file for this array."""
    file = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()
