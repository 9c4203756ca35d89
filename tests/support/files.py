"""The files of a folder, to compare them before and after."""

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path in the folder, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
