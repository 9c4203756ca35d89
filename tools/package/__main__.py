"""Build the package twice, check both archives, and run every command of the installed wheel: `nox -s package`.

`--fast` leaves out the installation.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.package import build, description, installed

DIST = build.ROOT / "dist"


def main(options: list[str]) -> int:
    """Run all checks and return the exit status."""
    with TemporaryDirectory(prefix="ict-package-") as name:
        scratch = Path(name)
        try:
            lock_is_current()
            (scratch / "dist").mkdir()
            wheel, sdist = build.built(scratch / "dist", scratch)
            description.check(wheel, sdist)
            if "--fast" not in options:
                installed.check(wheel, scratch)
        except build.CheckError as error:
            print(f"package: {error}", file=sys.stderr)
            return 1
        DIST.mkdir(exist_ok=True)
        for path in (wheel, sdist):
            shutil.copy(path, DIST)
            print(f"dist/{path.name}")
    return 0


def lock_is_current() -> None:
    """Check that uv.lock is what uv would write for pyproject.toml.

    Raises:
        CheckError: it is not.
    """
    command = [sys.executable, "-m", "uv", "lock", "--check", "--quiet"]
    done = subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise build.CheckError(f"uv.lock is not of this pyproject.toml; run uv lock\n{done.stderr}")
    print("uv.lock: of this pyproject.toml")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
