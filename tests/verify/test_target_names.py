"""Targets whose names or neighbours are those of other modules, and an interrupted check."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RIGHT = "def c_in(sigma, sigma_data=0.5):\n    return 1 / (sigma**2 + sigma_data**2) ** 0.5\n"
# Modules that torch, NumPy or Hypothesis import. Python itself needs others, such as types, to start a module.
NAMES = ("queue", "random", "statistics", "hypothesis")


def verified(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "ict_ref.verify", *arguments, "--only", "c_in"],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["queue", "hypothesis"])
def test_a_target_may_have_the_name_of_another_module(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text(RIGHT)
    done = verified(tmp_path.parent, str(tmp_path / f"{name}.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "c_in" in done.stdout


@pytest.mark.parametrize("here", [True, False])
def test_a_target_may_have_neighbours_with_the_names_of_other_modules(here: bool, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    (tmp_path / "helper.py").write_text(RIGHT)
    (tmp_path / "impl.py").write_text("from helper import c_in\n")
    done = verified(tmp_path, "impl.py") if here else verified(tmp_path.parent, str(tmp_path / "impl.py"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_module_of_the_working_directory_is_found_first(tmp_path: Path) -> None:
    (tmp_path / "einops.py").write_text("raise SystemExit('not this one')\n")
    (tmp_path / "jaxtyping_.py").write_text(RIGHT)
    done = verified(tmp_path, "jaxtyping_")
    assert done.returncode == 0, done.stdout + done.stderr


def test_other_programs_keep_their_path(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys, os, ict_ref\nassert sys.path[0] == os.getcwd(), sys.path\n")
    done = subprocess.run([sys.executable, "-m", "mine"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_while_torch_is_imported_is_one_line_and_status_130(tmp_path: Path) -> None:
    # A module in place of torch, which swallows each interrupt, as some imports of torch do.
    (tmp_path / "path" / "torch").mkdir(parents=True)
    (tmp_path / "path" / "torch" / "__init__.py").write_text(
        f"import time\nopen({str(tmp_path / 'importing')!r}, 'w').close()\n"
        "for _ in range(600):\n    try:\n        time.sleep(0.1)\n    except KeyboardInterrupt:\n        pass\n"
    )
    paths = os.pathsep.join([str(tmp_path / "path"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "ict_ref.verify", "math", "--only", "c_in"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # as in a terminal
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (tmp_path / "importing").exists() and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "ict_ref.verify: stopped\n")


def test_an_interrupted_check_is_one_line_and_status_130(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n\ndef c_in(sigma, sigma_data=0.5):\n"
        f"    open({str(tmp_path / 'called')!r}, 'w').close()\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "ict_ref.verify", "slow.py", "--only", "c_in"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # as in a terminal
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (tmp_path / "called").exists() and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "python -m ict_ref.verify: stopped\n")
