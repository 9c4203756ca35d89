"""Build the site into site/ and open its pages in a browser: `nox -s docs`, which installs what this needs."""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools.site import browser, notebook, reader, reading, reference, stage

ROOT = Path(__file__).parents[2]
SOURCE, SITE, PICTURES = ROOT / ".nox" / "docs-source", ROOT / "site", ROOT / ".nox" / "docs-pictures"
PICTURED = (
    "index.html", "reference/ledger-ict.html", "docs/verify.html", "docs/notebook.html", "docs/reading.html",
    "docs/play.html",
)  # fmt: skip


def build() -> int:
    """Build the site anew and return the exit status of Sphinx."""
    shutil.rmtree(SITE, ignore_errors=True)
    generated = reference.pages()
    stage.stage(SOURCE, generated, {"Reference": generated})
    reading.write(SOURCE / "docs" / "reading.md")
    notebook.write(SOURCE / "docs" / "notebook.md", "A row for each sample of all digits")
    strict = ("-q", "-n", "-W", "--keep-going", "-E", "-d", str(ROOT / ".nox" / "docs-trees"))
    command = (sys.executable, "-m", "sphinx", "-c", str(ROOT / "docs"), *strict, str(SOURCE), str(SITE))
    return subprocess.run(command, check=False).returncode


def check() -> int:
    """Open the pages and return 1 if something is wrong with one."""
    pages, equations, wrong = browser.check(SITE, PICTURES, PICTURED)
    wrong += reader.use(SITE)
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    sys.stdout.write(f"{pages} pages, {equations} equations, {len(wrong)} findings; screenshots in {PICTURES}\n")
    return 1 if wrong else 0


def main(arguments: list[str] | None = None) -> int:
    """Build the site, check it, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.site", description=__doc__)
    parser.add_argument("--no-browser", action="store_true", help="do not open the pages in Chromium")
    parser.add_argument("--no-build", action="store_true", help="open the pages that are there")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    status = 0 if options.no_build else build()
    sys.stdout.write(f"built {SITE} in {time.monotonic() - start:.0f} s\n")
    return status or (0 if options.no_browser else check())


if __name__ == "__main__":
    raise SystemExit(main())
