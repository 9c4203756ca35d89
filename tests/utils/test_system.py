"""Formulas and verify on a system without file locks and POSIX signals, and the line of every other command there."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ict_ref.__main__ import COMMANDS, main
from ict_ref.utils.system import existing_signals, has_locks_and_signals, open_flags

# Windows does not have these, which the package names.
MODULES = ("fcntl", "resource", "pwd", "grp", "termios")
SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "setitimer", "alarm", "pthread_sigmask")
FLAGS = ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "getuid", "killpg", "setsid", "mkfifo")
OTHERS = [one.name for one in COMMANDS if one.name != "verify"]
# The libraries, which choose by the name of the system, are imported first. Then the modules, signals and flags go.
SIMULATION = """\
import contextlib, io, json, os, signal, sys
import hypothesis.strategies, jaxtyping, numpy, torch, torch.multiprocessing, tqdm, tyro
import matplotlib.pyplot, PIL.Image, safetensors, sklearn.datasets, submitit
sys.modules |= dict.fromkeys({modules!r})
for name in {signals!r}:
    delattr(signal, name)
for name in {flags!r}:
    delattr(os, name)

from ict_ref.__main__ import main
from ict_ref.formulas import sigma_grid
results = {{"grid": sigma_grid(2).tolist()}}
for words in {commands!r}:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        results[" ".join(words)] = [main(words), out.getvalue(), err.getvalue()]
try:
    from ict_ref import train
except ImportError as error:
    results["train"] = str(error)
print(json.dumps(results))
"""
LINE = "operating system: expected Linux or macOS, got Linux. Only the formulas, eq and verify work on every system.\n"
MINE = """\
def c_skip(sigma, *, sigma_min=0.002, sigma_data=0.5):
    return sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)
"""
VERIFY = ["verify", "mine.py", "--json", "found.json", "--seconds", "60"]
COMMANDS_THERE = [VERIFY, ["verify", "exec", "cat"], ["eq", "c_skip"], [], *([name, "--help"] for name in OTHERS)]


def test_formulas_and_verify_work_without_locks_and_signals_and_the_others_say_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    text = SIMULATION.format(modules=MODULES, signals=SIGNALS, flags=FLAGS, commands=COMMANDS_THERE)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found.pop("grid") == pytest.approx([0.002, 80])
    assert found.pop("train") == f"ict_ref.train: {LINE.strip()}"
    status, report, errors = found.pop(" ".join(VERIFY))
    assert (status, errors) == (0, "")
    assert "right  1 function" in report
    assert json.loads((tmp_path / "found.json").read_text())["target"]
    assert found.pop("verify exec cat") == [2, "", f"python -m ict_ref.verify: {LINE}"]
    assert [found.pop(words)[0] for words in ("eq c_skip", "")] == [0, 0]
    assert found == {f"{name} --help": [2, "", f"ict_ref.{name}: {LINE}"] for name in OTHERS}


@pytest.mark.parametrize("missing", ["fcntl", "SIGUSR2"])
def test_a_run_needs_both_locks_and_signals(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert has_locks_and_signals()
    if missing == "fcntl":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        monkeypatch.delattr(signal, missing)
    assert not has_locks_and_signals()
    assert main(["launch", "--list"]) == 2
    assert capsys.readouterr() == ("", f"ict_ref.launch: {LINE}")


def test_signals_and_flags_that_do_not_exist_are_left_out() -> None:
    assert existing_signals("SIGTERM", "SIGNONE", "SIGINT") == (signal.SIGTERM, signal.SIGINT)
    assert open_flags("O_NONE") == open_flags()
