"""The engine under mutation: `nox -s engine_mutation` draws mutants and runs the tests that execute the changed lines.

Each mutant runs in a copy of the repository, in a process that is forked after slow imports. Its tests stop at the
first failure, nearest files and quick tests first. Results are appended to a file as they come, so that the same
command resumes a stopped session. A mutant that survives must be listed in equivalent_engine_mutants.toml with the
reason.
"""

import argparse
import contextlib
import json
import multiprocessing
import multiprocessing.queues
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import accumulate, count
from pathlib import Path

from tools import engine_coverage
from tools.engine_mutants import Mutant, Place, draw, mutants

ROOT = Path(__file__).parents[1]
LISTED = Path(__file__).with_name("equivalent_engine_mutants.toml")
OUTPUT = ROOT / "mutants" / "engine"
TESTS = tuple(
    f"tests/{name}"
    for name in ("training", "networks", "checkpoint", "distributed", "data", "sample", "evaluate", "plan", "utils")
)
SAMPLED = {
    "training": (
        "loss", "microbatches", "trainer", "radam", "ema", "nonfinite", "sampled_noise", "discretization", "loop",
        "state", "speed",
    ),
    "networks": ("dropout", "blocks", "unet", "embedding", "model", "adm", "ncsnpp"),
    "checkpoint": ("training_state", "safetensors_io", "ema_weights", "load", "run_dir"),
    "distributed": ("process_group",),
    "data": ("dataset",),
    "sample": ("images", "make", "recipe", "parts"),
    "evaluate": ("moments", "pairs", "scores", "evaluator", "measured", "statistics_file"),
    "plan": ("memory", "fit", "flop", "count"),
}  # fmt: skip
MODULES = [f"src/ict_ref/{package}/{name}.py" for package, names in SAMPLED.items() for name in names]
# Imports of each test process that no mutant changes. Those of pytest's plugins are not among them: it rewrites them.
SLOW_IMPORTS = ("numpy", "PIL.Image", "safetensors.torch", "scipy.stats", "sklearn.datasets", "torch.distributed")
# Timeout in multiples of the time that the tests take unchanged, and at least in seconds.
PATIENCE, LEAST_S = 10, 300
REPORT = "mutation-report.txt"
# Exit status of a test process that could not start; pytest itself ends with 0 to 5.
INTERNAL_ERROR = 70


_copy: "Copy"


@dataclass(frozen=True)
class Result:
    """The end of one mutant."""

    path: str
    line: int
    operator: str
    was: str
    becomes: str
    number: int
    outcome: str
    """killed, timeout (which counts as killed) or survived."""
    test: str
    """The test that noticed it."""
    tests: int
    """Number of tests that were to run."""
    seconds: float

    @property
    def mutant(self) -> Mutant:
        """Return the mutant."""
        return Mutant(self.path, self.was, self.becomes, self.number)


class Copy:
    """A copy of the repository, for one mutant at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stamps = folder, count(int(time.time()))
        shutil.rmtree(folder, ignore_errors=True)
        ignored = shutil.ignore_patterns(".git", ".nox", ".mypy_cache", ".ruff_cache", ".venv", "mutants", "runs")
        shutil.copytree(ROOT, folder, ignore=ignored)

    def write(self, name: str, text: str) -> None:
        """Write a module. Its time differs from all before: compiled modules are recognised by time and size."""
        path, stamp = self.folder / name, next(self.stamps)
        path.write_text(text)
        os.utime(path, (stamp, stamp))

    def check(self, tests: list[str]) -> None:
        """Collect these tests, unchanged.

        Raises:
            RuntimeError: a test is not found, so that each mutant would seem to be noticed.
        """
        outcome, _ = run_tests(self.folder, ["--collect-only", *tests], LEAST_S)
        if outcome != "survived":
            raise RuntimeError(f"{self.folder}: expected that all tests are found, got {outcome}: {REPORT}.")

    def run(self, place: Place, tests: list[str], timeout_s: float) -> Result:
        """Run the tests with this mutant in place of its module."""
        about, began = place.mutant, time.monotonic()
        original = (self.folder / about.path).read_text()
        self.write(about.path, place.text)
        try:
            outcome, test = run_tests(self.folder, tests, timeout_s)
        finally:
            self.write(about.path, original)
        seconds = round(time.monotonic() - began, 1)
        return Result(
            about.path, place.line, place.operator, about.was, about.becomes, about.number, outcome, test, len(tests),
            seconds,
        )  # fmt: skip


def run_tests(folder: Path, tests: list[str], timeout_s: float) -> tuple[str, str]:
    """Run these tests in a process of its own, and return the outcome and the first test that fails."""
    report = folder / REPORT
    pid = os.fork()
    if pid == 0:
        _child(folder, tests, report)
    status = None
    try:
        status = _exit_status(pid, timeout_s)
    finally:  # programs that the tests started and left, too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if status is None:
            os.waitpid(pid, 0)
    if status is None:
        return "timeout", ""
    if status == INTERNAL_ERROR:
        raise RuntimeError(f"{folder}: expected that pytest starts, got:\n{report.read_text()}")
    noticed = re.search(r"^(?:FAILED|ERROR) (\S+)", report.read_text(), re.MULTILINE)
    return ("survived" if status == 0 else "killed"), noticed[1] if noticed else ""


def _child(folder: Path, tests: list[str], report: Path) -> None:
    """Run pytest in a forked process, and end it."""
    status = INTERNAL_ERROR
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(folder / "src")
        sys.path[:0] = [str(folder), str(folder / "src")]
        with report.open("w") as sys.stdout:
            os.dup2(sys.stdout.fileno(), 1)
            os.dup2(sys.stdout.fileno(), 2)
            import pytest

            status = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *tests]))
    except BaseException:
        report.write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _exit_status(pid: int, timeout_s: float) -> int | None:
    """Wait for a process, and return its exit status, or None if it does not end in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    return None


def nearest(path: str) -> tuple[str, ...]:
    """Return how the names of the tests of a module begin, and those of its package."""
    package, name = Path(path).parts[-2:]
    return f"tests/{package}/test_{name.removesuffix('.py')}", f"tests/{package}/"


def listed(path: Path = LISTED) -> dict[Mutant, str]:
    """Return the listed mutants, each with the reason."""
    entries = tomllib.loads(path.read_text()).get("mutant", [])
    return {Mutant(one["path"], one["was"], one["becomes"], one.get("number", 0)): one["why"] for one in entries}


def report(results: Iterable[Result], equivalent: dict[Mutant, str], existing: set[Mutant]) -> tuple[list[str], bool]:
    """Return the lines to print, and whether every mutant that ran is noticed or listed.

    `existing` holds all mutants of the modules, drawn or not.
    """
    results = list(results)
    alive = [one for one in results if one.outcome == "survived"]
    noticed = {one.mutant for one in results} - {one.mutant for one in alive}
    unexplained = [one for one in alive if one.mutant not in equivalent]
    stale = [one for one in equivalent if one in noticed or one not in existing]
    lines = [f"{one.path}:{one.line} ({one.tests} tests)\n  - {one.was}\n  + {one.becomes}" for one in unexplained]
    lines += [f"{one.path}: listed, but noticed or gone\n  + {one.becomes}" for one in stale]
    same = len(alive) - len(unexplained)
    killed = len(results) - len(alive)
    score = 100 * killed / max(1, len(results) - same)
    lines.append(
        f"{len(results)} mutants: {killed} killed, {len(unexplained)} survived, {same} listed; score {score:.1f} %"
    )
    return lines, not unexplained and not stale


def read_results(path: Path) -> dict[Mutant, Result]:
    """Return the recorded results, the last of each mutant. A line that was cut is ignored."""
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            result = Result(**json.loads(line))
        except ValueError:
            continue
        found[result.mutant] = result
    return found


def test_map(output: Path, jobs: int) -> engine_coverage.TestMap:
    """Return which tests execute which lines, recorded anew for each folder whose tests or whose engine changed.

    The tests run in a copy as those of a mutant do: one that needs more than a copy has is left out.
    """
    files = {folder: output / f"lines-of-{Path(folder).name}.json" for folder in TESTS}
    old = [folder for folder, path in files.items() if not _is_current(path, folder)]
    copy = Copy(output / "copy-unchanged") if old else None

    def record(folder: str) -> None:
        assert copy is not None
        sys.stdout.write(f"recording which lines the tests in {folder} execute\n")
        sys.stdout.flush()
        command = [sys.executable, "-m", "tools.engine_coverage", str(files[folder]), folder]
        environment = {**os.environ, "PYTHONPATH": str(copy.folder / "src")}
        with files[folder].with_suffix(".txt").open("w") as log:
            subprocess.run(command, check=True, cwd=copy.folder, env=environment, stdout=log)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(record, old))
    return engine_coverage.joined(map(engine_coverage.read, files.values()))


def _is_current(path: Path, folder: str) -> bool:
    return path.is_file() and engine_coverage.read(path).digest == engine_coverage.digest(folder)


def options(arguments: list[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="nox -s engine_mutation --", description="Draw mutants of the engine and run tests."
    )
    parser.add_argument("--sample", type=int, default=300, help="number of mutants (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at the same time")
    parser.add_argument(
        "--limit-s", type=float, default=60, help="seconds of tests for each mutant, nearest tests first (default 60)"
    )
    parser.add_argument(
        "--again", action="store_true", help="run recorded survivors again, after a change of the tests"
    )
    parser.add_argument("--report", action="store_true", help="print the report of the recorded results only")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run what is not recorded, print the report, and return the exit status."""
    chosen = options(arguments)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"seed-{chosen.seed}.jsonl"
    places = draw(ROOT, MODULES, sample=chosen.sample, seed=chosen.seed)
    recorded = read_results(path)
    if chosen.again:
        recorded = {mutant: one for mutant, one in recorded.items() if one.outcome != "survived"}
    pending = [place for place in places if place.mutant not in recorded]
    if pending and not chosen.report:
        run_all(pending, test_map(OUTPUT, chosen.jobs), path, jobs=chosen.jobs, limit_s=chosen.limit_s)
    recorded = read_results(path)
    existing = {place.mutant for name in MODULES for place in mutants(name, (ROOT / name).read_text())}
    drawn = [recorded[place.mutant] for place in places if place.mutant in recorded]
    lines, passed = report(drawn, listed(), existing)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if passed else 1


def within(tests: list[str], seconds: dict[str, float], limit_s: float) -> list[str]:
    """Return the first tests that take this time together, and at least one."""
    sums = accumulate(seconds[test] for test in tests)
    return [
        test for number, (test, spent) in enumerate(zip(tests, sums, strict=True)) if not number or spent <= limit_s
    ]


def run_all(places: list[Place], tests: engine_coverage.TestMap, path: Path, *, jobs: int, limit_s: float = 60) -> None:
    """Run these mutants, and append each result to the file."""
    for name in SLOW_IMPORTS:
        __import__(name)
    work: list[tuple[Place, list[str], float]] = []
    for place in places:
        every = tests.tests(place.mutant.path, place.line, nearest(place.mutant.path))
        chosen = within(every, tests.seconds, limit_s)
        work.append((place, chosen, max(LEAST_S, PATIENCE * sum(tests.seconds[test] for test in chosen))))
    fork = multiprocessing.get_context("fork")
    copies = fork.SimpleQueue()
    for job in range(jobs):
        copy = Copy(OUTPUT / f"copy-{job}")
        copy.check(sorted({test for _, chosen, _ in work for test in chosen}))
        copies.put(copy)
    with fork.Pool(jobs, _begin, (copies,)) as pool, path.open("a") as output:
        for number, result in enumerate(pool.imap_unordered(_run, work), 1):
            output.write(json.dumps(asdict(result)) + "\n")
            output.flush()
            sys.stdout.write(
                f"{number}/{len(places)} {result.outcome} {result.path}:{result.line} {result.seconds} s\n"
            )
            sys.stdout.flush()


def _begin(copies: "multiprocessing.queues.SimpleQueue[Copy]") -> None:
    """Take a copy for this worker."""
    global _copy
    _copy = copies.get()


def _run(work: tuple[Place, list[str], float]) -> Result:
    """Run a mutant in the copy of this worker."""
    return _copy.run(*work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
