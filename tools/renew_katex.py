"""Renew docs/_static/katex from the package registry of npm: `python -m tools.renew_katex VERSION`.

The folder keeps what the site needs: the script that renders equations, its style, its fonts, licence and version.
"""

import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HOME = Path(__file__).parents[1] / "docs" / "_static" / "katex"
KEPT = re.compile(r"package/(LICENSE|dist/katex\.min\.(js|css)|dist/fonts/[\w-]+\.woff2)")


def renew(version: str) -> None:
    """Download a version and replace the folder's files."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"katex@{version}"], cwd=folder, check=True)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            files = {one.name: archive.extractfile(one) for one in archive if KEPT.fullmatch(one.name)}
            for name, file in files.items():
                place = HOME / name.removeprefix("package/").removeprefix("dist/")
                place.parent.mkdir(parents=True, exist_ok=True)
                if file is not None:
                    place.write_bytes(file.read())
    style = HOME / "katex.min.css"
    # The other formats of the fonts are for browsers of before 2016.
    style.write_text(re.sub(r',url\([^)]+\.(woff|ttf)\) format\("\w+"\)', "", style.read_text()) + "\n")
    (HOME / "VERSION").write_text(f"{version}\n")


if __name__ == "__main__":
    renew(sys.argv[1])
