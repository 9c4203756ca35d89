"""A compiled network without a compiler is rejected before any work, in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.edit.test_edit import network

from ict_ref.utils.command_line import guarded
from ict_ref.utils.compiler import refuse_without_compiler


def tool(folder: Path, name: str) -> Path:
    """Write a program that fails."""
    (folder / name).write_text("#!/bin/sh\nexit 1\n")
    (folder / name).chmod(0o755)
    return folder / name


@pytest.mark.skipif(sys.platform == "darwin", reason="the compiler has another name")
def test_the_compiler_is_that_of_the_device_or_of_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CXX", "CC"):
        monkeypatch.delenv(name, raising=False)
    expected = r"^--x: expected a C\+\+ compiler for torch.compile \(g\+\+\), got none. Install one, or do without\.$"
    with pytest.raises(ValueError, match=expected):
        refuse_without_compiler("cpu", "--x", "do without")
    with pytest.raises(ValueError, match=r"expected a C compiler for torch.compile \(gcc or clang\), got none"):
        refuse_without_compiler("cuda", "--x", "do without")
    tool(tmp_path, "g++")
    refuse_without_compiler("cpu", "--x", "do without")
    tool(tmp_path, "clang")
    refuse_without_compiler("cuda", "--x", "do without")
    monkeypatch.setenv("CXX", "icpx")
    with pytest.raises(ValueError, match=r"\(icpx\), got none by \$CXX"):
        refuse_without_compiler("cpu", "--x", "do without")
    monkeypatch.setenv("CXX", str(tmp_path / "g++"))
    refuse_without_compiler("cpu", "--x", "do without")


def test_commands_reject_it_and_write_nothing(tmp_path: Path) -> None:
    path, _ = network(tmp_path, channels=1, classes=0)
    commands = [
        ("ict_ref.launch", "--config", "minimal", "--machine.compile", "--machine.device", "cpu"),
        ("ict_ref.sample", path, "--compile", "--device", "cpu"),
    ]
    (tmp_path / "empty").mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("CXX", "CC")}
    for words in commands:
        done = subprocess.run(
            [sys.executable, "-m", *words, "--out", str(tmp_path / "out")],
            env={**environment, "PATH": str(tmp_path / "empty")}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        (line,) = done.stderr.splitlines()
        assert "compile: expected a C++ compiler for torch.compile" in line
    assert not (tmp_path / "out").exists()


def test_a_compiler_that_fails_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def fails() -> int:
        raise BackendCompilerFailed(lambda: None, OSError("g++: fatal error: Python.h: not here"), None)

    assert guarded("ict_ref.it", fails) == 2
    line = capsys.readouterr().err
    assert line.startswith("ict_ref.it: torch.compile failed (")
    assert line.count("\n") == 1
