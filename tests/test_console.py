"""The installed program ict-ref: every command under one name, and completion in a shell."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ict_ref
from ict_ref.__main__ import COMMANDS, completed_words, console, main
from ict_ref.utils.completion import script


def runs(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Return the exit status of the installed program."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/ict-ref", *words])
    with pytest.raises(SystemExit) as ended:
        console()
    return int(ended.value.code or 0)


def test_every_module_that_is_a_command_is_listed() -> None:
    found = set()
    root = Path(ict_ref.__path__[0])
    for source in root.rglob("*.py"):
        if source.read_text().endswith(("    sys.exit(main())\n", "    leave(main())\n")):
            names = source.relative_to(root).with_suffix("").parts
            found.add(".".join(name for name in names if name != "__main__"))
    found.remove("")  # the program itself
    assert {command.name for command in COMMANDS} == found


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_is_a_word_of_the_program(
    command: ict_ref.__main__.Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs(monkeypatch, command.name.replace("_", "-"), "--help") == 0
    assert f"usage: ict-ref {command.name} " in capsys.readouterr().out
    assert main([command.name, "--no-such-option"]) == 2
    assert f"see ict-ref {command.name} --help" in capsys.readouterr().err
    module = importlib.import_module(f"ict_ref.{command.options.partition(':')[0]}")
    assert hasattr(module, command.options.partition(":")[2])


def test_without_words_all_commands_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs(monkeypatch) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  ict-ref {command.name}" in shown
    assert "python -m" not in shown
    assert max(map(len, shown.splitlines())) <= 120


@pytest.mark.parametrize(("word", "advice"), [("lanch", "launch"), ("complete", "completion"), ("export", "see")])
def test_an_unknown_command_names_the_nearest(
    word: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs(monkeypatch, word) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ict-ref: COMMAND: expected one of those that ict-ref lists, got ")
    assert advice in line


def completed(shell: str, *words: str) -> set[str]:
    """Return the completions that bash offers for the last word."""
    line = f"COMP_WORDS=(ict-ref {' '.join(words)}); COMP_CWORD={len(words)}; _ict_ref; echo ${{COMPREPLY[@]}}"
    program = f"{script('bash', 'ict-ref', completed_words())}\n{line}"
    return set(subprocess.run([shell, "-c", program], capture_output=True, text=True, check=True).stdout.split())


def test_bash_completes_commands_and_options() -> None:
    assert completed("bash", "ex") == {"experiments", "export-checkpoint"}
    assert completed("bash", "export-checkpoint", "--em") == {"--ema", "--ema-sigma"}
    assert completed("bash", "export_checkpoint", "run/", "--o") == {"--out"}
    assert "--train.ema-decay" in completed("bash", "launch", "--train.ema")
    assert completed("bash", "e") == {"eq", "edit", "evaluate", "experiments", "export-checkpoint"}
    assert completed("bash", "eq", "--j") == {"--json"}
    assert completed("bash", "launch", "run") == set()  # files, which bash lists itself


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_reads_its_script(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs(monkeypatch, "completion", shell) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    assert "--ema-sigma" in (tmp_path / "script").read_text() or shell == "fish"
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", tmp_path / "script"], check=True)
