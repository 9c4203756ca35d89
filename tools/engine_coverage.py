"""The lines of the engine that each quick test executes, and the time that the test takes.

Lines that a fixture executes belong to all tests of the fixture's file, because a fixture can serve several tests.
"""

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class TestMap:
    """Which tests execute which lines."""

    __test__ = False  # pytest would collect a class of this name

    digest: str
    """Digest of the files from which the map was recorded."""
    seconds: dict[str, float]
    """Time of each test, by node id."""
    lines: dict[str, dict[str, list[str]]]
    """Tests or test files, by the path of the module and the number of the line."""

    def tests(self, module: str, line: int, nearest: tuple[str, ...]) -> list[str]:
        """Return the tests that execute this line: by the first beginning of `nearest` that fits, then quick first.

        A line without a test, such as one that only an import or another process executes, has the tests of the module.
        """
        by_line = self.lines.get(module, {})
        contexts = by_line.get(str(line)) or [one for found in by_line.values() for one in found]
        chosen = {test for context in contexts for test in self._of(context)}
        chosen |= set() if chosen else {test for test in self.seconds if test.startswith(nearest)}

        def distance(test: str) -> int:
            return next((i for i, beginning in enumerate(nearest) if test.startswith(beginning)), len(nearest))

        return sorted(chosen, key=lambda test: (distance(test), self.seconds[test], test))

    def _of(self, context: str) -> list[str]:
        return [context] if context in self.seconds else [one for one in self.seconds if one.startswith(context + "::")]


class Recorder:
    """A pytest plugin that records the context of each executed line."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = defaultdict(float)
        self.unusable: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.measured.switch_context(nodeid.partition("::")[0])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        self.measured.switch_context(item.nodeid)

    def pytest_runtest_logfinish(self) -> None:
        self.measured.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed or report.skipped:
            self.unusable.add(report.nodeid)


def digest(folder: str, root: Path = ROOT) -> str:
    """Return the digest of the Python files on which the tests in a folder depend."""
    found = hashlib.sha256()
    for place in ("src", "tests/support", folder):
        for path in sorted((root / place).rglob("*.py")):
            found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def record(folder: str, root: Path = ROOT) -> TestMap:
    """Run the quick tests in this folder, and return the lines that each executes.

    A test that fails or is skipped is left out, because it cannot distinguish a mutant from the original.
    """
    began = digest(folder, root)
    measured = coverage.Coverage(data_file=None, include=[f"{root}/src/ict_ref/*"], config_file=False)
    recorder = Recorder(measured)
    measured.start()
    pytest.main(["-q", "-p", "no:cacheprovider", folder], plugins=[recorder])
    measured.stop()
    seconds = {test: spent for test, spent in recorder.seconds.items() if test not in recorder.unusable}
    known = {*seconds, *(test.partition("::")[0] for test in seconds)}
    data, lines = measured.get_data(), {}
    for name in data.measured_files():
        contexts = {str(line): sorted(known & {*found}) for line, found in data.contexts_by_lineno(name).items()}
        lines[Path(name).relative_to(root).as_posix()] = {line: found for line, found in contexts.items() if found}
    return TestMap(began, seconds, lines)


def read(path: Path) -> TestMap:
    """Return a recorded map."""
    return TestMap(**json.loads(path.read_text()))


def joined(maps: Iterable[TestMap]) -> TestMap:
    """Return the union of the maps of several folders."""
    seconds: dict[str, float] = {}
    lines: dict[str, dict[str, list[str]]] = {}
    for one in maps:
        seconds |= one.seconds
        for module, by_line in one.lines.items():
            here = lines.setdefault(module, {})
            for line, found in by_line.items():
                here[line] = here.get(line, []) + found
    return TestMap("", seconds, lines)


def main() -> None:
    """Write the map of the tests in a folder: python -m tools.engine_coverage FILE FOLDER."""
    path, folder = sys.argv[1:]
    Path(path).write_text(json.dumps(asdict(record(folder))))


if __name__ == "__main__":
    main()
