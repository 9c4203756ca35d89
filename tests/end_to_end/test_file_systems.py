"""Commands on file systems without locks, and on those that cannot be written."""

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.runs import short_run

from ict_ref.edit.__main__ import main as edit
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.export_checkpoint import main as export
from ict_ref.figures.__main__ import main as figures
from ict_ref.launch.__main__ import main as launch
from ict_ref.prepare.__main__ import main as prepare
from ict_ref.sample.__main__ import main as sample
from ict_ref.search.__main__ import main as search
from ict_ref.utils.locks import OWNER

PLAIN = " ".join(f"--acceptance.{name} None" for name in ("accuracy", "frechet-distance", "recall"))
COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "edit": (edit, "RUN digits:held-out --task inpaint --count 2 --sigmas 80 2 --out new"),
    "evaluate": (evaluate, "RUN --count 20 --reference digits:held-out --save-stats s.npz --json new"),
    "export_checkpoint": (export, "RUN --out new"),
    "figures": (figures, "--run RUN --sheet 2 2 --out new"),
    "launch": (launch, f"--config minimal --train.steps 8 {PLAIN} --out new"),
    "sample": (sample, "RUN --count 3 --out new"),
    "search": (search, "RUN --count 20 --nodes 3 --reference digits:held-out --out new"),
}
PREPARE: tuple[Callable[[Sequence[str]], int], str] = (prepare, "images --size 64 --out new")

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run."""
    return short_run(tmp_path_factory.mktemp("file systems") / "run")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def words(options: str, run: Path) -> list[str]:
    """Return the arguments of a command."""
    return [str(run) if word == "RUN" else word for word in options.split()]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_system_without_locks_is_named_and_the_command_works(
    command: str, run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    number = {"launch": errno.ENOSYS, "sample": errno.ENOLCK}.get(command, errno.EOPNOTSUPP)

    def missing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", missing)
    main, options = COMMANDS[command]
    assert main(words(options, run)) == 0
    assert f"has no file locks ({os.strerror(number)}); " in capfd.readouterr().err
    assert Path("new").exists()
    assert not [path for path in Path().rglob("*") if path.name.endswith((".lock", OWNER, ".tmp"))]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("command", [*COMMANDS, "prepare"])
def test_a_file_system_that_cannot_be_written_is_one_line(
    command: str, number: int, run: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    opened, here = os.open, Path.cwd()

    def refused(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & os.O_CREAT and Path(path).absolute().is_relative_to(here):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *rest, **named)

    if command == "prepare":
        Path("images").mkdir()
        (Path("images") / "a.png").write_bytes((run / "samples.png").read_bytes())
    main, options = COMMANDS.get(command, PREPARE)
    capsys.readouterr()
    monkeypatch.setattr("os.open", refused)
    assert main(words(options, run)) == 2
    (line,) = capsys.readouterr().err.splitlines()  # prepare describes its images before
    assert line.startswith(f"ict_ref.{command}: ")
    assert os.strerror(number) in line
    assert "new" in line or "s.npz" in line
