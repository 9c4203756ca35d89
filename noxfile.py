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
MADE_OF = ("pyproject.toml", "constraints.txt", "requirements/ci.txt")
# One thread a process: torch's threads wait for each other by spinning, which shared cores punish. Compiled modules are
# kept, whatever the caller's environment says: the tests start a hundred processes. A cluster file changes no session.
VARIABLES = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "", "ICT_REF_PROFILE": "none"}
# Tests of the sessions `oldest` and `newest`.
OTHER_VERSIONS = (
    "tests/formulas",
    "tests/verify/test_verify.py",
    "tests/training/test_radam.py",
    "tests/checkpoint/test_network_file.py",
    "tests/sample/test_sample.py",
)


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
        install = (str(PYTHON), "-m", "pip", "install", "--quiet")
        steps: list[tuple[str, ...]] = [("-c", "constraints.txt", "-e", ".[dev]")]
        if "ICT_REQUIRE_HASHES" in os.environ:
            # Everything by its hash first; the package itself then finds it installed, and its build tool too.
            steps = [
                ("--require-hashes", "--no-deps", "-r", "requirements/ci.txt"),
                ("--no-build-isolation", *steps[0]),
            ]
        for step in steps:
            # Modules are compiled when they are first imported: that halves the installation.
            session.run(*install, *step, external=True, env={"PIP_NO_COMPILE": "1"})
        stamp.write_text(digest.hexdigest())
    return str(PYTHON)


def environment_of(session: nox.Session, name: str, requirements: str, *options: str) -> str:
    """Return the interpreter of .nox/`name`, which has what a file of requirements lists; pip gets the options."""
    place = HERE / ".nox" / name
    python = str(place / PYTHON.relative_to(VENV))
    digest = hashlib.sha256(sys.version.encode() + (HERE / requirements).read_bytes()).hexdigest()
    stamp = place / ".stamp"
    if not (stamp.is_file() and stamp.read_text() == digest):
        session.run(sys.executable, "-m", "venv", "--clear", str(place), external=True)
        install = ("-m", "pip", "install", "--quiet", "--no-compile", *options, "-r", requirements)
        session.run(python, *install, external=True)
        stamp.write_text(digest)
    return python


def package_tools(session: nox.Session) -> str:
    """Return the interpreter of the environment with the programs that build, check and resolve, each by its hash."""
    return environment_of(session, "package", "requirements/package.txt", "--require-hashes")


def test_versions(session: nox.Session, name: str, resolution: str) -> None:
    """Test the package itself with the versions that a resolution of pyproject.toml gives, in .nox/`name`."""
    listed = HERE / ".nox" / f"{name}.txt"
    resolve = ("-m", "uv", "pip", "compile", "pyproject.toml", "--all-extras", "--quiet", "--no-header")
    choice = ("--python", sys.executable, "--resolution", resolution, "--prerelease", "disallow", "--upgrade")
    session.run(package_tools(session), *resolve, *choice, "--output-file", str(listed), external=True, silent=True)
    python = environment_of(session, name, str(listed.relative_to(HERE)))
    session.run(python, "-m", "pip", "install", "--quiet", "--no-deps", "-e", ".", external=True)
    # Other versions warn of other things, and jaxtyping 0.3.0 cannot check the shapes of a package with a conftest.
    options = "addopts=--import-mode=importlib --strict-markers -m 'not slow and not thorough'"
    pytest = ("-m", "pytest", "-q", "--override-ini=filterwarnings=default", f"--override-ini={options}")
    session.run(python, *pytest, *(session.posargs or OTHER_VERSIONS), external=True, env=VARIABLES)


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
    """Break the formulas in 5 000 ways and print which of them no test notices: an hour on two cores.

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
def faults(session: nox.Session) -> None:
    """Try kills, full disks, damaged files, odd values and company on every command: hours of one core.

    The same command resumes a stopped session. `nox -s faults -- --only launch --share 1/10` tries a part, and
    `-- --seconds 50 --today` what fits into a minute. `-- --help` lists the options.
    """
    run(session, "-m", "tools.faults", *session.posargs)


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
        others = ("diffusers==0.42.1", "jax==0.10.2", "wandb==0.31.0", "mlflow==3.17.2", "pytest")
        install = ("-m", "pip", "install", "--quiet", "-c", "constraints.txt", "-e", ".[train]", *others)
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
    pytest = ("-m", "pytest", "-q", "--override-ini=addopts=--import-mode=importlib")
    contracts = ("tests/checkpoint/test_diffusers_folder.py", "tests/training/test_trackers.py")
    session.run(str(python), *pytest, *contracts, external=True, env=VARIABLES)
    diffusers = ("tests/verify/implementations/diffusers_scheduler.py", *session.posargs)
    session.run(*check, *diffusers, external=True, env=VARIABLES, success_codes=[0, 1])


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist twice, check them, and run every command of the installed wheel: ten minutes.

    The two archives are then in dist/. `nox -s package -- --fast` installs nothing.
    """
    session.run(package_tools(session), "-m", "tools.package", *session.posargs, external=True)


@nox.session
def oldest(session: nox.Session) -> None:
    """Test with the oldest versions that pyproject.toml allows: formulas, verify, files, RAdam and samples of a run.

    Run nox by the oldest Python for it. `nox -s oldest -- tests/data` runs other tests.
    """
    test_versions(session, "oldest", "lowest-direct")


@nox.session
def newest(session: nox.Session) -> None:
    """Test the same with the newest versions that exist, by the Python that runs nox.

    uv resolves the versions: a file of constraints named by UV_CONSTRAINT limits them, such as torch==2.13.0+cpu for a
    wheel in the folder UV_FIND_LINKS. Without "+cpu" the session `oldest` takes PyPI's wheel with CUDA.
    """
    test_versions(session, "newest", "highest")


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
def docs(session: nox.Session) -> None:
    """Build the documentation into site/ and open its pages in Chromium: two minutes (`-- --no-browser`)."""
    python = environment(session)
    # In a folder of its own, because packages in the shared environment would change the other sessions.
    place, requirements = HERE / ".nox" / "docs", HERE / "requirements" / "docs.txt"
    stamp, digest = place / ".stamp", hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == digest):
        shutil.rmtree(place, ignore_errors=True)
        hashes = ("--require-hashes", "--no-deps", "-r", str(requirements))
        session.run(python, "-m", "pip", "install", "--quiet", "--target", str(place), *hashes, external=True)
        stamp.write_text(digest)
    variables = {**VARIABLES, "PYTHONPATH": str(place), "ICT_REF_SITE": "1"}
    if "--no-browser" not in session.posargs:
        faults = ("-m", "pytest", "-q", "tests/tools/test_site_browser.py")
        session.run(python, *faults, external=True, env=variables)
    session.run(python, "-m", "tools.site", *session.posargs, external=True, env=variables)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff (`ruff format` and `ruff check --fix` fix most of it), and plain words."""
    run(session, "-m", "ruff", "check")
    run(session, "-m", "ruff", "format", "--check")
    run(session, "-m", "tools.prose")
