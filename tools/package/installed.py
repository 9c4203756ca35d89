"""Run the commands of a wheel in an environment that has nothing else, then with one extra after the other."""

import os
import resource
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

from tools.package.build import ROOT, CheckError

# An implementation with one right formula, and one with a wrong one.
RIGHT = (
    "def c_skip(sigma, *, sigma_min=0.002, sigma_data=0.5):\n"
    "    return sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)\n"
)
WRONG = RIGHT.replace("(sigma - sigma_min)", "sigma")
REFUSED = 2


@dataclass(frozen=True)
class Use:
    """A command line that a user types, its exit status, and a text of its output."""

    words: str
    status: int = 0
    text: str = ""


@dataclass(frozen=True)
class Stage:
    """An extra, and what works once it is installed."""

    extra: str
    uses: tuple[Use, ...]


STAGES = (
    Stage(
        "",
        (
            Use("ict-ref", text="commands"),
            Use("ict-ref eq 10", text="lognormal_pmf"),
            Use("ict-ref completion bash", text="complete"),
            Use("ict-ref verify right.py", text="c_skip"),
            Use("ict-ref verify wrong.py", 1, "c_skip"),
            Use("ict-ref launch --list", text="imagenet64"),
            Use("ict-ref launch --config minimal --out nothing", REFUSED, "pip install"),
            Use("ict-ref figures --only analytic", REFUSED, "pip install 'matplotlib"),
        ),
    ),
    Stage(
        "train",
        (
            Use("ict-ref launch --config cifar10 --dry-run", text="not ready: --data.path"),
            Use("ict-ref launch --slurm --config cifar10 --dry-run", REFUSED, "pip install 'submitit"),
            Use("ict-ref launch --config minimal --machine.device cpu --out run"),
            Use("ict-ref sample run --count 20 --out samples"),
            Use("ict-ref evaluate samples --reference digits:held-out --features pixels --json scores.json"),
            Use("ict-ref export-checkpoint run --out network.safetensors"),
            Use("ict-ref sample network.safetensors --count 4 --out more"),
        ),
    ),
    Stage(
        "slurm",
        (
            Use(
                "ict-ref launch --slurm --config cifar10 --profile a100 --dry-run", text="#SBATCH --gpus-per-node=a100"
            ),
            Use("ict-ref launch --slurm --config minimal --profile cpu --dry-run", text="#SBATCH"),
        ),
    ),
    Stage("figures", (Use("ict-ref figures --only 4a --out drawn"),)),
    Stage("all", (Use("python -c 'import pyarrow, tensorboard'"),)),
)


def check(wheel: Path, place: Path) -> None:
    """Install the wheel in a new environment, with one extra after the other, and run its commands.

    Raises:
        CheckError: a command ends with another status or output than expected.
    """
    environment, folder = place / "environment", place / "empty folder"
    venv.create(environment, with_pip=True)
    folder.mkdir()
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    alone = size(environment)
    for stage in STAGES:
        install(environment, f"{wheel}[{stage.extra}]" if stage.extra else str(wheel))
        name = f"[{stage.extra}]" if stage.extra else "base"
        print(
            f"{name}: {(size(environment) - alone) / 1e6:,.0f} MB in {len(packages(environment))} packages", flush=True
        )
        helps = () if stage.extra else tuple(Use(words, text="usage") for words in help_lines(environment, folder))
        for use in (*helps, *stage.uses):
            run(use, environment, folder)


def install(environment: Path, requirement: str) -> None:
    """Install a requirement with the tested versions, where constraints.txt has them.

    Raises:
        CheckError: pip fails, or what is installed does not fit together.
    """
    pip = [str(environment / "bin/python"), "-m", "pip"]
    for words in (["install", "--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt"), requirement], ["check"]):
        done = subprocess.run([*pip, *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise CheckError(f"pip {words[0]} {requirement}:\n{done.stdout}{done.stderr}")


def help_lines(environment: Path, folder: Path) -> list[str]:
    """Return the command lines with --help, of the program and of each module."""
    program = "from ict_ref.__main__ import COMMANDS; print(*(one.name for one in COMMANDS))"
    command = [str(environment / "bin/python"), "-c", program]
    names = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    modules = [f"python -m ict_ref.{name} --help" for name in names]
    return [*(f"ict-ref {name.replace('_', '-')} --help" for name in ("eq", "completion", *names)), *modules]


def run(use: Use, environment: Path, folder: Path) -> None:
    """Run a command line and print its processor time.

    Raises:
        CheckError: it ends with another status or output than expected.
    """
    program = {"PATH": f"{environment / 'bin'}:{os.defpath}", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["sh", "-c", use.words], cwd=folder, env=program, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    output = done.stdout + done.stderr
    if done.returncode != use.status or use.text not in output or "Traceback" in output:
        expected = f"status {use.status} and {use.text!r}"
        raise CheckError(f"{use.words}: expected {expected}, got status {done.returncode}\n{output}")
    if use.status == REFUSED and len(done.stderr.splitlines()) != 1:
        raise CheckError(f"{use.words}: expected one line of error, got\n{done.stderr}")
    print(f"  {use.words}: status {done.returncode}, {seconds:.2f} s of processor time", flush=True)


def packages(environment: Path) -> list[Path]:
    """Return the metadata folders of the installed packages, without pip's."""
    return [path for path in environment.glob("lib/python*/site-packages/*.dist-info") if path.name[:4] != "pip-"]


def size(folder: Path) -> int:
    """Return the size of all files in bytes."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)
