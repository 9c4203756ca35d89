"""Checks of ZIP archives that their readers leave out: the checksums of members, and the list of members."""

import io
import zipfile
from pathlib import Path

BLOCK = 1 << 20
"""Number of bytes that are read at once."""
MANY = 0xFFFF
"""Number of members in the record at the end of an archive that has as many or more."""


def refuse_flipped(file: Path | io.BytesIO) -> None:
    """Compare each member of a ZIP archive with its CRC-32; other files have no checksums and pass.

    A member with the CRC-32 0 passes: torch writes it if its user has turned checksums off.

    Raises:
        ValueError: a member or the list of members is damaged.
        OSError: the file cannot be opened.
    """
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            refuse_incomplete(archive)
            for member in archive.infolist():
                if member.CRC != 0:
                    _read(archive, member)
    except Exception as error:  # a damaged header may raise any exception in zipfile and its decompressors
        reason = str(error) or type(error).__name__
        raise ValueError(f"expected a whole archive, got a damaged file ({reason}). Download it again.") from None


def refuse_incomplete(archive: zipfile.ZipFile) -> None:
    """Reject an archive whose list of members has another number or other names than the archive itself.

    The list has no checksum, and a changed bit in it can hide members without an error of `zipfile`. Such bits are in
    the name of a member, or in the length of a comment, which then covers the members that follow.

    Raises:
        ValueError: the list has fewer members than the archive states.
        zipfile.BadZipFile: a name in the list differs from the one at the member.
    """
    listed, stated = len(archive.infolist()), _stated_members(archive)
    if stated not in (listed, MANY):
        raise ValueError(f"expected {stated} members, got a list of {listed}")
    for member in archive.infolist():
        archive.open(member).close()  # compares the names


def _stated_members(archive: zipfile.ZipFile) -> int:
    """Return the number of members in the record at the end of an archive, `MANY` if it does not fit there."""
    assert archive.fp is not None  # noqa: S101 (the archive is open)
    archive.fp.seek(archive.start_dir)
    end = archive.fp.read()
    record = end[end.rfind(b"PK\x05\x06") :]
    return int.from_bytes(record[10:12], "little")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    with archive.open(member) as file:
        while file.read(BLOCK):
            pass
