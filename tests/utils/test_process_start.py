"""Ctrl-C while a command loads, and standard streams that are closed or full."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.datasets import random_images, write_images

from ict_ref.__main__ import COMMANDS
from ict_ref.data.prepared import open_arrays, verify

# An installer writes this script for the entry point of pyproject.toml.
SCRIPT = "import sys\nfrom ict_ref.__main__ import console\nsys.exit(console())\n"
# A module that receives Ctrl-C while it is imported, and swallows the exception, as some imports of torch do.
INTERRUPTED = (
    "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
    "raise SystemExit(7)\n"
)


def done(*words: str | Path, place: Path, closed: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """Run Python with the words; `closed` is a redirection of the shell, and `place` is first in the path."""
    # An empty entry would be the working directory.
    paths = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, *map(str, words)]
    others = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, env={**others, "PYTHONPATH": paths}, capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize("name", ["ict_ref", *[f"ict_ref.{command.name}" for command in COMMANDS]])
def test_an_interrupt_while_a_command_loads_is_one_line_and_status_130(name: str, tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text(INTERRUPTED)
    made = done("-m", name, place=tmp_path)
    assert (made.returncode, made.stdout, made.stderr) == (130, "", f"{name}: stopped\n")


def test_an_interrupt_while_the_script_loads_is_one_line_and_status_130(tmp_path: Path) -> None:
    (tmp_path / "ict-ref").write_text(SCRIPT)
    (tmp_path / "tyro.py").write_text(INTERRUPTED)
    made = done(tmp_path / "ict-ref", "sample", place=tmp_path)
    assert (made.returncode, made.stdout, made.stderr) == (130, "", "ict-ref: stopped\n")


@pytest.mark.parametrize("words", [["plan", "--config", "cifar10"], ["experiments"], ["verify", "math"]])
def test_an_interrupt_while_torch_loads_is_one_line_and_status_130(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(INTERRUPTED)
    made = done("-m", f"ict_ref.{words[0]}", *words[1:], place=tmp_path)
    assert (made.returncode, made.stdout, made.stderr) == (130, "", f"ict_ref.{words[0]}: stopped\n")


@pytest.mark.parametrize("module", ["re", "typing", "enum", "signal", "copyreg", "inspect", "tyro"])
def test_a_module_of_the_working_directory_is_not_imported(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("raise SystemExit('imported from the working directory')\n")
    made = done("-m", "ict_ref", "--version", place=tmp_path / "elsewhere", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")


def test_an_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text(INTERRUPTED)
    made = done("-m", "ict_ref", place=tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert (made.returncode, made.stderr) == (7, "")


def test_other_programs_keep_their_interrupts(tmp_path: Path) -> None:
    program = "import signal, ict_ref; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert done("-c", program, place=tmp_path).stdout == "True\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_neither_the_result_nor_the_status(closed: str, tmp_path: Path) -> None:
    source = write_images(tmp_path / "set", random_images(3, 3, 4, 4), [0, 1, 2])
    made = done("-m", "ict_ref.prepare", source, "--out", tmp_path / "out", place=tmp_path, closed=closed)
    assert (made.returncode, made.stderr) == (0, "")
    verify(tmp_path / "out", open_arrays(tmp_path / "out")[0])
    rejected = done("-m", "ict_ref.prepare", "--nope", place=tmp_path, closed=closed)
    assert rejected.returncode == 2
    assert len(rejected.stderr.splitlines()) == (0 if "2>&-" in closed else 1)
    assert done("-m", "ict_ref.prepare", "--help", place=tmp_path, closed=closed).returncode == 0


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_a_full_standard_output_is_named(words: list[str], tmp_path: Path) -> None:
    for options, named in ([], "standard output"), (["-u"], "a file or standard output"):
        made = done(*options, "-m", "ict_ref", *words, place=tmp_path, closed=">/dev/full")
        assert made.returncode == 2
        assert made.stderr.endswith(f": cannot use {named}: No space left on device\n")
        assert made.stderr.count("\n") == 1


def test_a_full_standard_error_does_not_change_the_status(tmp_path: Path) -> None:
    made = done("-m", "ict_ref", "--nope", place=tmp_path, closed="2>/dev/full")
    assert (made.returncode, made.stdout) == (2, "")
