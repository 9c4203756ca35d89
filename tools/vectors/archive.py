"""The archive of the newest vectors, `dist/ict-vectors-N.tar.gz`: `python -m tools.vectors.archive [FOLDER]`.

The same files give the same bytes: times, owners and modes are fixed.
"""

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path

from ict_ref.verify.vectors.load import VERSION
from tools.vectors.generate import DATA

NAME = f"ict-vectors-{VERSION}"
# Files beside the folder of a version, by their names in the archive.
COMMON = {"README.md": DATA.parent / "VECTORS.md", "LICENSE": DATA.parent / "LICENSE"}


def contents() -> dict[str, bytes]:
    """Every file of the archive, in the order of their names."""
    paths = {**COMMON, **{path.name: path for path in DATA.iterdir()}}
    return {f"{NAME}/{name}": paths[name].read_bytes() for name in sorted(paths)}


def archive() -> bytes:
    """The bytes of the archive."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in contents().items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), compresslevel=9, mtime=0)


def main(folder: Path) -> None:
    """Write the archive, and its checksum beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = archive()
    (folder / f"{NAME}.tar.gz").write_bytes(content)
    (folder / f"{NAME}.tar.gz.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {NAME}.tar.gz\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist"))
