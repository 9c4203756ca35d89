"""Kill a command at its n-th file-system call, or fail the call, run it again and compare all bytes.

A point is right if the command, run again, leaves the bytes of a run that was never stopped, and nothing else. An
error must be one line and status 2. Files that were there before must have the same bytes after each run.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.faults.library import Call, Kind, fault, unsynced
from tools.faults.results import Point
from tools.faults.scenarios import SCENARIOS, Inputs, Scenario
from tools.faults.server import Ended, Server
from tools.faults.session import Found
from tools.faults.trees import Tree, difference, overwritten, tree, write_tree

PART = "calls"
"""Name of this part of the session."""
EVERY_CALL: tuple[Kind, ...] = ("kill -9", "no space once", "no space for ever", "I/O error once")
FILE_SYSTEMS: tuple[Kind, ...] = ("no locks", "no hard links", "quota", "read-only")
NEED_SPACE = ("open", "write", "fsync", "ftruncate", "mkdir", "rename", "link", "symlink")
"""Operations that a full disk fails."""
SYNCED = "synced renames"


@dataclass
class Calls:
    """The part of the session that fails calls."""

    server: Server
    inputs: Inputs
    folder: Path
    """Working folder, the same for each run."""
    scenarios: tuple[Scenario, ...] = SCENARIOS
    references: dict[str, tuple[Tree, Tree, tuple[Call, ...]]] = field(default_factory=dict)

    def cases(self) -> list[str]:
        """Return the names of the commands."""
        return [scenario.name for scenario in self.scenarios]

    def points(self, case: str) -> Iterator[Point]:
        """Yield the points of one command, which is run without a fault to count its calls."""
        scenario = self._named(case)
        _, _, calls = self.reference(scenario)
        yield Point(PART, scenario.name, SYNCED, "all")
        for kind in FILE_SYSTEMS:
            yield Point(PART, scenario.name, kind, "1 all")
        for call in calls:
            place = f"{call.number} {call.operation}"
            for kind in EVERY_CALL:
                if kind.startswith("no space") and call.operation not in NEED_SPACE:
                    continue
                yield Point(PART, scenario.name, kind, place)
            if call.operation == "write":
                yield Point(PART, scenario.name, "kill -9 in a write", place)

    def reference(self, scenario: Scenario) -> tuple[Tree, Tree, tuple[Call, ...]]:
        """Return the folder before and after the command without a fault, and its calls.

        Raises:
            RuntimeError: The command fails without a fault, or two runs differ.
        """
        if scenario.name not in self.references:
            before, found = self.inputs.of(scenario), []
            for _ in range(2):
                write_tree(self.folder, before)
                ended = self._run(scenario)
                if ended.status not in scenario.statuses:
                    raise RuntimeError(f"{scenario.name} ended with {ended.status} without a fault: {ended.err}")
                found.append((tree(self.folder), ended.log.calls))
            if differs := difference(found[0][0], found[1][0]):
                raise RuntimeError(f"{scenario.name} differs between two runs: {differs}")
            self.references[scenario.name] = (before, found[1][0], found[1][1])
        return self.references[scenario.name]

    def check(self, point: Point) -> Found:
        """Return the findings of a point."""
        scenario = self._named(point.case)
        before, expected, calls = self.reference(scenario)
        if point.kind == SYNCED:
            return [("lost", f"written, not synced, then: {line}") for line in unsynced(calls)[:3]]
        write_tree(self.folder, before)
        number = int(point.place.split(" ", 1)[0])
        stopped = self._run(scenario, point.kind, number)
        if not stopped.log.fired and point.kind not in FILE_SYSTEMS:
            return []  # the call is not reached in every run: threads, or names that are random
        between = tree(self.folder)
        found = of_stopped(stopped, scenario, killed=point.kind.startswith("kill"))
        found += [("overwritten", name) for name in overwritten(before, between)]
        if stopped.status in scenario.statuses:
            done = of_first(stopped, between, expected)
            if point.kind in FILE_SYSTEMS or any(outcome == "lost" for outcome, _ in done):
                return found + done
        again = self._run(scenario)
        after = tree(self.folder)
        found += [("overwritten", name) for name in overwritten(before, after)]
        return found + of_second(again, scenario, after, expected)

    def _named(self, case: str) -> Scenario:
        return next(one for one in self.scenarios if one.name == case)

    def _run(self, scenario: Scenario, kind: str | None = None, number: int = 0) -> Ended:
        chosen = fault("kill -9", 0) if kind is None else fault(kind, number)  # type: ignore[arg-type]
        return self.server.run(
            scenario.command, scenario.arguments, self.folder, chosen=chosen, seconds=scenario.seconds
        )


def of_stopped(ended: Ended, scenario: Scenario, *, killed: bool) -> Found:
    """Return the findings about the run with the fault."""
    if ended.hung:
        return [("hang", "in the run with the fault")]
    if killed:
        return [] if ended.status == -9 else of_ended(ended)
    if ended.status in scenario.statuses:
        return [("traceback", ended.last_line)] if ended.traceback else []
    return of_ended(ended)


def of_first(ended: Ended, between: Tree, expected: Tree) -> Found:
    """Return the findings about a run that says that it did its work in spite of the fault."""
    differs = difference(between, expected)
    if differs.missing or differs.changed:
        return [("lost", f"status {ended.status} in spite of the fault, but {differs}")]
    return [("left over", ", ".join(differs.extra[:4]))] if differs.extra else []


def of_ended(ended: Ended) -> Found:
    """Return the findings about a run that has refused its work: it must have status 2 and one line."""
    if ended.hung:
        return [("hang", f"after {ended.seconds:.0f} s")]
    if ended.status < 0:
        return [("signal", f"signal {-ended.status}")]
    if ended.traceback:
        return [("traceback", ended.last_line)]
    if ended.status != 2:
        return [("lost", f"status {ended.status}, not 2: {ended.last_line}")]
    return [] if ended.one_line else [("not one line", ended.err[-300:])]


def of_second(ended: Ended, scenario: Scenario, after: Tree, expected: Tree) -> Found:
    """Return the findings about the run after the one with the fault.

    It must do the work; where the first run had done all of it, it may refuse to do it again.
    """
    differs = difference(after, expected)
    if ended.status not in scenario.statuses:
        refused = of_ended(ended)
        if refused or differs:
            return [*refused, ("lost", f"the same command: {ended.last_line} ({differs})")]
        return []
    found: Found = [("traceback", ended.last_line)] if ended.traceback else []
    if differs.missing or differs.changed:
        found.append(("lost", f"status {ended.status}, but {differs}"))
    if differs.extra:
        found.append(("left over", ", ".join(differs.extra[:4])))
    return found
