"""Checks of the archives: metadata, the description as an index shows it, and the names of the wheel."""

import email
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from readme_renderer import markdown

from tools.package.build import CheckError

REFERENCE = re.compile(r'(?:href|src)="([^"]*)"')


def check(wheel: Path, sdist: Path) -> None:
    """Check what an index shows of the two archives.

    Raises:
        CheckError: twine or check-wheel-contents finds a fault, or the description is not rendered or has a dead link.
    """
    run("twine", "check", "--strict", str(wheel), str(sdist))
    run("check_wheel_contents", str(wheel))
    text = metadata(wheel).get_payload()
    rendered = markdown.render(str(text))
    if rendered is None:
        raise CheckError("the description is not rendered")
    links = REFERENCE.findall(rendered)
    dead = [link for link in links if not link.startswith(("https://", "#"))]
    if dead:
        raise CheckError(f"the description has relative links, which an index does not resolve: {', '.join(dead)}")
    print(f"description: rendered, {len(links)} links, each absolute")
    with zipfile.ZipFile(wheel) as archive:
        sizes = [one.file_size for one in archive.infolist()]
    print(f"wheel: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB unpacked")


def metadata(wheel: Path) -> "email.message.Message[str, str]":
    """Return the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(archive.read(name).decode())


def run(module: str, *arguments: str) -> None:
    """Run a checker in an empty folder, so that it reads no configuration but the package's.

    Raises:
        CheckError: it finds a fault.
    """
    with TemporaryDirectory() as empty:
        config = ("--config", str(Path(__file__).parents[2] / "pyproject.toml"))
        command = [sys.executable, "-m", module, *(config if module == "check_wheel_contents" else ()), *arguments]
        done = subprocess.run(command, cwd=empty, capture_output=True, text=True)
    if done.returncode != 0:
        raise CheckError(f"{module} {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    print(f"{module}: passed")
