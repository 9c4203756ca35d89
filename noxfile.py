"""Sessions for contributors: `python -m nox -s tests typecheck`, `-s demo`, and the others of `nox --list`.

All sessions share one environment, .nox/dev, which is built when pyproject.toml or constraints.txt has changed.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "typecheck", "lint"]
# The shared environment is ours to build: nox would make one for each session, a gigabyte each.
nox.options.default_venv_backend = "none"

HERE = Path(__file__).resolve().parent
VENV = HERE / ".nox" / "dev"
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
MADE_OF = ("pyproject.toml", "constraints.txt")
# One thread a process: torch's threads wait for each other by spinning, which shared cores punish. Compiled modules are
# kept, whatever the caller's environment says: the tests start a hundred processes. A cluster file changes no session.
VARIABLES = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "", "ICT_REF_PROFILE": "none"}


def run(session: nox.Session, *command: str) -> None:
    """Run Python with these arguments in the shared environment."""
    session.run(environment(session), *command, external=True, env=VARIABLES)


def environment(session: nox.Session) -> str:
    """Return the shared environment's interpreter, the environment built anew if what it is made of has changed."""
    digest = hashlib.sha256(sys.version.encode())
    for name in MADE_OF:
        digest.update((HERE / name).read_bytes())
    stamp = VENV / ".stamp"
    if not (stamp.is_file() and stamp.read_text() == digest.hexdigest()):
        session.log("building .nox/dev: about a minute")
        session.run(sys.executable, "-m", "venv", "--clear", str(VENV), external=True)
        install = ("-m", "pip", "install", "--quiet", "-c", "constraints.txt", "-e", ".[dev]")
        # Modules are compiled when they are first imported: that halves the installation.
        session.run(str(PYTHON), *install, external=True, env={"PIP_NO_COMPILE": "1"})
        stamp.write_text(digest.hexdigest())
    return str(PYTHON)


@nox.session
def demo(session: nox.Session) -> None:
    """Train iCT on real digits and score its samples: three minutes on two cores; fails below its thresholds."""
    run(session, "-m", "ict_ref.launch", "--config", "digits", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run examples and laws with shapes and types checked (`nox -s tests -- -k grid` for some of them)."""
    # A worker that is done takes tests from another: none waits at the end.
    workers = ("-n", str(min(os.cpu_count() or 1, 4)), "--dist", "worksteal")
    run(session, "-m", "pytest", *workers, "--ignore=tests/slurm_cluster", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that take 5 to 40 seconds each: killed runs, several processes, trends of experiments."""
    workers = ("-n", str(min(os.cpu_count() or 1, 4)), "--dist", "worksteal")
    run(session, "-m", "pytest", "-m", "slow and not thorough", *workers, *session.posargs)


@nox.session
def thorough(session: nox.Session) -> None:
    """Run the tests that take minutes each: twenty kills, generated code, the largest network."""
    run(session, "-m", "pytest", "-m", "thorough", *session.posargs)


@nox.session
def slurm(session: nox.Session) -> None:
    """Run the launcher on a real SLURM of three nodes on this machine: three minutes (see CONTRIBUTING)."""
    # Each file has a cluster of its own.
    workers = ("-n", "2", "--dist", "loadfile")
    command = (environment(session), "-m", "pytest", "tests/slurm_cluster", *workers, *session.posargs)
    session.run(*command, external=True, env={**VARIABLES, "ICT_REQUIRE_SLURM": "1"})


@nox.session
def properties(session: nox.Session) -> None:
    """Run the laws alone, each on many more and ever new examples."""
    run(session, "-m", "pytest", "properties", "--hypothesis-profile=thorough", *session.posargs)


@nox.session
def seeds(session: nox.Session) -> None:
    """Run the laws of the reference with many seeds: hours of one core; the same command resumes a stopped session.

    `nox -s seeds -- --plan scaling --seeds 5` runs a part, and `-- --table` prints what was found.
    """
    run(session, "-m", "tools.law_seeds", *session.posargs)


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check every line with mypy --strict."""
    run(session, "-m", "mypy", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Break the formulas in 3 000 ways and print which of them no test notices: eight minutes on two cores.

    `nox -s mutation -- --resume` resumes an interrupted run.
    """
    if "--resume" not in session.posargs:
        shutil.rmtree(HERE / "mutants", ignore_errors=True)
    run(session, "-m", "mutmut", "run", "--max-children", str(os.cpu_count() or 1))
    run(session, "-m", "tools.mutation_report")


@nox.session
def engine_mutation(session: nox.Session) -> None:
    """Break the engine in 300 drawn places and print which no test notices: an hour or two on two cores.

    The same command resumes a stopped session. `nox -s engine_mutation -- --help` lists the options.
    """
    run(session, "-m", "tools.engine_mutation", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Check diffusers' scheduler, and formulas, a step and a loop in JAX, in an environment of its own: three minutes.

    A failure of third-party code does not fail this session: docs/third_party.md lists those of diffusers.
    `nox -s peers -- --checkouts DIR` audits the codes of tools/peers/peers.toml instead, and writes docs/peers.md.
    """
    place = HERE / ".nox" / "peers"
    python = place / PYTHON.relative_to(VENV)
    if not (place / ".stamp").is_file():
        session.run(sys.executable, "-m", "venv", "--clear", str(place), external=True)
        others = ("diffusers==0.42.1", "jax==0.10.2")
        install = ("-m", "pip", "install", "--quiet", "-c", "constraints.txt", "-e", ".[verify]", *others)
        session.run(str(python), *install, external=True, env={"PIP_NO_COMPILE": "1"})
        (place / ".stamp").touch()
    if "--checkouts" in session.posargs:
        session.run(str(python), "-m", "tools.peers", *session.posargs, external=True, env=VARIABLES)
        return
    check = (str(python), "-m", "ict_ref.verify")
    jax = ("tests/verify/implementations/jax_module.py",)
    for options in ((), ("--strict",)):
        session.run(*check, *jax, *options, external=True, env=VARIABLES)
    for kind, name in (("step", "step"), ("training", "make")):
        target = f"tests/verify/implementations/jax_training.py:{name}"
        session.run(*check, "audit", kind, target, external=True, env=VARIABLES)
    diffusers = ("tests/verify/implementations/diffusers_scheduler.py", *session.posargs)
    session.run(*check, *diffusers, external=True, env=VARIABLES, success_codes=[0, 1])


@nox.session
def bench(session: nox.Session) -> None:
    """Measure how fast training and scoring are, as ratios: seven minutes on two idle cores (`-- --only step`)."""
    session.run(environment(session), "-m", "benchmarks", *session.posargs, external=True)


@nox.session
def gpu(session: nox.Session) -> None:
    """Test and measure on a GPU, in at most eight minutes (`-- --out FOLDER`); `-- --tiny` tries it on a CPU."""
    session.run(environment(session), "-m", "benchmarks.gpu", *session.posargs, external=True)


@nox.session
def numerics(session: nox.Session) -> None:
    """Print the rounding error of each precision: an hour on a CPU core (`-- --width 64 --blocks 1` is quicker)."""
    run(session, "-m", "benchmarks.numerics", *session.posargs)


@nox.session
def vectors(session: nox.Session) -> None:
    """Write the vectors of `ict_ref.verify` from their 50-digit oracles, and dist/ict-vectors-N.tar.gz: two minutes."""
    run(session, "-m", "tools.vectors.generate")
    run(session, "-m", "tools.vectors.archive")


@nox.session
def equations(session: nox.Session) -> None:
    """Write the tables of equations, functions, laws and oracles into docs/equations.md."""
    run(session, "-m", "tools.equation_table")


@nox.session
def plan(session: nox.Session) -> None:
    """Write the tables of memory and time into docs/plan.md."""
    run(session, "-m", "tools.plan_table")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff (`ruff format` and `ruff check --fix` fix most of it), and plain words."""
    run(session, "-m", "ruff", "check")
    run(session, "-m", "ruff", "format", "--check")
    run(session, "-m", "tools.prose")
