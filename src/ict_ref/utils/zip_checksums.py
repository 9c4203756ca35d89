"""Checksums of the members of ZIP archives, such as the files of `torch.save`, which torch does not compare."""

import io
import zipfile
from pathlib import Path

BLOCK = 1 << 20
"""Number of bytes that are read at once."""


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
            for member in archive.infolist():
                if member.CRC != 0:
                    _read(archive, member)
    except Exception as error:  # a damaged header may raise any exception in zipfile and its decompressors
        reason = str(error) or type(error).__name__
        raise ValueError(f"expected a whole archive, got a damaged file ({reason}). Download it again.") from None


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    with archive.open(member) as file:
        while file.read(BLOCK):
            pass
