"""Resumable writing of a prepared folder, part by part.

Unfinished files have names that end in .partial and are renamed when complete. The journal holds the number of images
that are safe on disk. A resumed command continues after these images and writes the same bytes.
"""

import contextlib
import hashlib
import io
import math
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ict_ref.data.prepared import ABOUT, IMAGES, JOURNAL, LABELS, About, open_arrays, read_about, sha256
from ict_ref.prepare.journal import Journal, read_journal, refuse_another_recipe, write_journal
from ict_ref.prepare.read_files import FILES, FileLog, Read, read_part
from ict_ref.prepare.sources import Source
from ict_ref.utils.atomic import locked, refuse_link, remove_leftovers, write_atomically, written_name
from ict_ref.utils.command_line import say
from ict_ref.utils.locks import OWNER
from ict_ref.utils.progress import bar
from ict_ref.utils.regular_file import refuse_irregular

PARTIAL, LOCK = IMAGES + ".partial", "lock.partial"
# Files that are written atomically. A killed process may leave a temporary file for each.
WRITTEN = (ABOUT, LABELS, JOURNAL, FILES)
# Largest number of images that a worker may be ahead of the writer, which limits memory.
AHEAD = 512
# Bytes of images that are read at once to compare their hash.
BLOCK = 2**24


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
        if _state(source, folder) == "whole":
            about = open_arrays(folder)[0]
            say("ict_ref", 0, _found_whole(source, folder))
            return about
        _refuse_full_disk(source, folder)
        _write_images(source, folder, workers)
        _finish(source, folder)
        return open_arrays(folder)[0]


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock the folder, so that only one command writes into it."""
    with locked(folder, LOCK):
        _refuse_strange(folder)  # another process may have written into it in the meantime
        remove_leftovers(folder, WRITTEN.__contains__)
        yield


def _refuse_strange(folder: Path) -> None:
    ours = {ABOUT, IMAGES, LABELS, JOURNAL, PARTIAL, FILES, LOCK, LOCK + OWNER, *(name + ".tmp" for name in WRITTEN)}
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
        _remove_notes(folder)  # an earlier process ended before this
        return "whole"
    if JOURNAL in names:
        refuse_another_recipe(source.recipe, read_journal(folder).recipe, folder)
        return "begun"
    arrays = names & {IMAGES, LABELS, PARTIAL}
    if arrays:
        raise ValueError(
            f"--out: expected {ABOUT} or a journal beside {min(arrays)}, got neither in {folder}. Choose another --out."
        )
    return "new"


def _found_whole(source: Source, folder: Path) -> str:
    """Return what is known of a source whose images are prepared already; its content is not read again."""
    written = (folder / ABOUT).stat().st_mtime_ns
    names = list(dict.fromkeys(name for part in source.parts for name in part.files))
    newer = [name for name in names if (source.folder / name).stat().st_mtime_ns > written]
    if newer:
        return (
            f"warning: {folder} was prepared before {len(newer)} of {len(names)} files of the source were written, "
            f"such as {newer[0]}. Their content is not read again; prepare another folder to compare the checksums."
        )
    return f"note: {folder} is prepared already, from files of these names and sizes; their content is not read again"


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
    header = _header((source.count, *source.shape), np.dtype(np.uint8))
    row, path = math.prod(source.shape), folder / PARTIAL
    for name in (IMAGES, PARTIAL, FILES, JOURNAL):
        refuse_link(folder / name)
        if (folder / name).exists():
            refuse_irregular(folder / name)
    log = FileLog(folder)
    if (folder / IMAGES).exists():
        if not (folder / JOURNAL).exists() or _kept(folder / IMAGES, source, log, header, row)[0] == source.count:
            return
        (folder / IMAGES).rename(path)
    safe, hashed = _kept(path, source, log, header, row)
    done, number = 0, 0
    while number < len(source.parts) and done + source.parts[number].count <= safe:
        done, number = done + source.parts[number].count, number + 1
    if done < safe:  # parts of another size, of an earlier version
        done, number, hashed = 0, 0, hashlib.sha256()
        log.start_again()
    log.cut()

    def note() -> None:
        write_journal(Journal(source.recipe, done, hashed.hexdigest(), log.count, log.sha256), folder)

    note()
    with (
        path.open("r+b" if path.exists() else "w+b") as file,
        bar(source.count, "preparing", "images", initial=done) as shown,
    ):
        file.write(header)
        file.truncate(len(header) + done * row)
        file.seek(0, os.SEEK_END)
        for pixels, files in _read(source, number, workers):
            content = np.ascontiguousarray(pixels).data
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            hashed.update(content)
            done += len(pixels)
            log.append(files)
            note()
            shown.update(len(pixels))


def _kept(path: Path, source: Source, log: FileLog, header: bytes, row: int) -> tuple[int, Any]:
    """Return how many images of a stopped command are whole, all that it noted or none, and the hash of their bytes.

    Raises:
        ValueError: A file from which they were read has changed since.
        OSError: A file cannot be read.
    """
    folder, hashed = path.parent, hashlib.sha256()
    log.start_again()
    if not ((folder / JOURNAL).exists() and path.exists()):
        return 0, hashed
    journal = read_journal(folder)
    with path.open("rb") as file:
        whole = file.read(len(header)) == header
        left = journal.done * row
        while whole and left > 0 and (block := file.read(min(left, BLOCK))):
            hashed.update(block)
            left -= len(block)
    if whole and left == 0 and hashed.hexdigest() == journal.sha256 and log.resume(journal.files, journal.files_sha256):
        log.refuse_changed(source.folder)
        return journal.done, hashed
    if journal.done:
        say("ict_ref.prepare", 0, f"{path} is damaged, or of an earlier version; its images are written again")
    return 0, hashlib.sha256()


def _read(source: Source, first: int, workers: int) -> Iterator[Read]:
    """Yield the parts from the first on, and read ahead in `workers` threads; Pillow decodes without Python's lock.

    A file with the images of several parts is returned with the first of them.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[int, Future[Read]]] = deque()
    before = set(source.parts[first - 1].files) if first else set()
    try:
        for part in source.parts[first:]:
            names = [name for name in part.files if name not in before]
            before = set(part.files)
            waiting.append((part.count, pool.submit(read_part, part, names, source.folder)))
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
        files=source.files,
    )
    write_atomically(folder / ABOUT, about.to_json())
    _remove_notes(folder)


def _remove_notes(folder: Path) -> None:
    """Delete the journal and the list of files that were read."""
    for name in (JOURNAL, FILES):
        (folder / name).unlink(missing_ok=True)


def _header(shape: tuple[int, ...], dtype: np.dtype[np.uint8] | np.dtype[np.int64]) -> bytes:
    """Return the header of a .npy file for this array."""
    file = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()
