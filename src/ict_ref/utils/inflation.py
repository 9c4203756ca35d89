"""Sizes of what ZIP archives hold, checked before anything is decompressed: a small archive may hold terabytes."""

import contextlib
import io
import math
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ict_ref.utils.available_memory import available_bytes
from ict_ref.utils.zip_checksums import refuse_incomplete

LARGEST_CODE = 1 << 27
"""Most bytes that an archive of torch may hold beyond its own; the code of published programs has less than 1 MB."""
ZIP_START = b"PK\x03\x04"
LARGEST_HEADER = 65_536
"""Largest header of an array in bytes; NumPy writes some 100 and parses at most 10 000."""


def refuse_inflated_arrays(file: BinaryIO | io.BytesIO, names: Iterable[str]) -> None:
    """Reject an .npz whose named arrays have another size than their headers state, or do not fit in memory.

    Names that the archive does not have are skipped, unless its list of members is damaged. The file's position is then
    at its beginning.

    Raises:
        ValueError: an array has another size, is not an array, or does not fit in memory, or a member is not listed.
        zipfile.BadZipFile: the archive is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        refuse_incomplete(archive)
        # NumPy prefers a member without the ending.
        wanted = {member for name in names for member in (name, f"{name}.npy")}
        members = [member for member in archive.infolist() if member.filename in wanted]
        for member in members:
            _refuse_another_size(archive, member)
    _refuse_too_large(members)
    file.seek(0)


def refuse_inflated(file: Path | io.BytesIO) -> None:
    """Reject an archive of torch whose members are much larger than the file, or do not fit in memory.

    torch compresses code alone; tensors are stored as they are. Archives within the archive are checked too. Other
    files pass.

    Raises:
        ValueError: the members are too large.
        OSError: the file cannot be read.
    """
    # The library that opens a damaged archive, or another file, has its own error.
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        stored, needed = archive.start_dir, sum(member.file_size for member in members)
        if needed > stored + LARGEST_CODE:
            raise ValueError(
                f"expected tensors that are stored uncompressed, got {needed} bytes in {stored} stored ones"
            )
        _refuse_too_large(members)
        for member in members:
            try:
                with archive.open(member) as stream:
                    start = stream.read(4)
                content = archive.read(member) if start == ZIP_START else b""
            except (zlib.error, EOFError):
                raise ValueError(f"expected whole members, got a damaged {member.filename}") from None
            if content:
                refuse_inflated(io.BytesIO(content))


def _refuse_too_large(members: Iterable[zipfile.ZipInfo]) -> None:
    needed, free = sum(member.file_size for member in members), available_bytes()
    if needed > free:
        raise ValueError(
            f"expected content that fits in the free {free / 1e6:,.0f} MB of memory, got {needed / 1e6:,.0f} MB"
        )


def _refuse_another_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Reject a member that is not an array with as many bytes as its shape and type need.

    Raises:
        ValueError: the member is not an array or has another size.
    """
    with archive.open(member) as stream:
        start = stream.read(8)
        size = stream.read(2 if start[6:7] == b"\x01" else 4)
        length = int.from_bytes(size, "little")
        if not start.startswith(np.lib.format.MAGIC_PREFIX) or length > LARGEST_HEADER:
            raise ValueError(f"expected an array in its member {member.filename}, got other content")
        header = io.BytesIO(start + size + stream.read(length))
    version = np.lib.format.read_magic(header)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(header)
    needed = len(header.getvalue()) + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and needed != member.file_size:  # arrays of objects are rejected by NumPy
        raise ValueError(f"expected {needed} bytes in its member {member.filename}, got {member.file_size}")
