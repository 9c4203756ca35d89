"""Two commands at once on one folder: the result is that of one of them, whole, and the other is refused by a line.

The first command pauses before one of its file-system calls, the second runs to its end, and the first continues.
"""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from tools.faults.calls import of_ended
from tools.faults.library import Call, fault
from tools.faults.results import Point
from tools.faults.scenarios import Inputs, Scenario, named
from tools.faults.server import Ended, Server
from tools.faults.session import Found
from tools.faults.trees import Tree, comparable, difference, overwritten, tree, write_tree

PART = "pairs"
"""Name of this part of the session."""
SAME, OTHER, ELSE = "same command", "other seed", "other command"
SEEDED: Mapping[str, tuple[str, ...]] = {
    "launch": ("--train.seed", "1"),
    "sample to .npz": ("--seed", "1"),
    "sample to a folder": ("--seed", "1"),
    "sample to .png": ("--seed", "1"),
    "edit": ("--seed", "1"),
    "search": ("--seed", "1"),
    "figures, a sheet": ("--seed", "1"),
    "prepare": ("--size", "4"),
    "evaluate": ("--k", "2"),
    "export_checkpoint": ("--step", "3"),
    "import_checkpoint": ("--dropout", "0.5"),
    "export_checkpoint, diffusers": ("--step", "3"),
    "edit, prepared data": ("--seed", "1"),
}
"""Options that give a command another result."""
FOLDERS = ("launch", "prepare", "sample to a folder", "edit", "search", "figures, a sheet", "import_checkpoint",
           "export_checkpoint, diffusers")  # fmt: skip
"""Commands that write a folder, each of which is tried together with each other one on the same folder."""


@dataclass
class Pairs:
    """The part of the session that runs two commands at once."""

    server: Server
    inputs: Inputs
    folder: Path
    references: dict[str, tuple[Tree, tuple[Call, ...]]] = field(default_factory=dict)

    def cases(self) -> list[str]:
        """Return the names of the pairs."""
        return [f"{name} twice" for name in SEEDED] + [f"{a} + {b}" for a, b in combinations(FOLDERS, 2)]

    def points(self, case: str) -> Iterator[Point]:
        """Yield the points of a pair; one for each call of the first command."""
        for kind in (SAME, OTHER) if case.endswith(" twice") else (ELSE,):
            first, second = _pair(case, kind)
            _, calls = self._alone(first, self.inputs.of(first) | self.inputs.of(second))
            for call in calls:
                yield Point(PART, case, kind, f"{call.number} {call.operation}")

    def check(self, point: Point) -> Found:
        """Return the findings of a point."""
        first, second = _pair(point.case, point.kind)
        before = self.inputs.of(first) | self.inputs.of(second)
        alone, other = self._alone(first, before)[0], self._alone(second, before)[0]
        write_tree(self.folder, before)
        paused = fault("pause", int(point.place.split()[0]))
        one = self.server.start(first.command, first.arguments, self.folder, chosen=paused, name="first")
        ended: list[Ended] = []
        if self.server.wait_for_pause(one, first.seconds):
            ended.append(self.server.run(second.command, second.arguments, self.folder, seconds=second.seconds))
            os.kill(one, signal.SIGCONT)
        ended.insert(0, self.server.wait(one, self.folder, first.seconds, "first"))
        if len(ended) == 1:
            return []  # the call is not reached in every run
        after = tree(self.folder)
        found: Found = [("overwritten", name) for name in overwritten(before, after)]
        found += _of_both(ended, (first, second), after, (alone, other))
        return self._without_resumable(found, before, ended, (first, second), (alone, other))

    def _without_resumable(
        self,
        found: Found,
        before: Tree,
        ended: list[Ended],
        commands: tuple[Scenario, Scenario],
        alone: tuple[Tree, Tree],
    ) -> Found:
        """Return the findings without what is left over, if the refused command resumes with it in a free place."""
        if not any(kind == "left over" for kind, _ in found):
            return found
        refused = int(ended[0].status in commands[0].statuses)
        for name in sorted(alone[1 - refused].keys() - before.keys(), reverse=True):
            path = self.folder / name
            with contextlib.suppress(OSError):  # a folder may hold files of the other command
                path.rmdir() if name.endswith("/") else path.unlink()
        again = self.server.run(commands[refused].command, commands[refused].arguments, self.folder, seconds=300)
        resumes = again.status in commands[refused].statuses and not difference(tree(self.folder), alone[refused])
        return [one for one in found if one[0] != "left over"] if resumes else found

    def _alone(self, scenario: Scenario, before: Tree) -> tuple[Tree, tuple[Call, ...]]:
        """Return the folder after one command alone, and its calls."""
        key = repr((scenario.command, scenario.arguments, sorted(before)))
        if key not in self.references:
            write_tree(self.folder, before)
            ended = self.server.run(scenario.command, scenario.arguments, self.folder, seconds=300)
            if ended.status not in scenario.statuses:
                raise RuntimeError(f"{scenario.name} ended with {ended.status}: {ended.err}")
            self.references[key] = (tree(self.folder), ended.log.calls)
        return self.references[key]


def _pair(case: str, kind: str) -> tuple[Scenario, Scenario]:
    """Return the two commands."""
    if kind == ELSE:
        one, two = (_into_shared(named(name)) for name in case.split(" + "))
        return one, two
    first = named(case.removesuffix(" twice"))
    added = SEEDED[first.name] if kind == OTHER else ()
    return first, replace(first, arguments=(*first.arguments, *added))


def _into_shared(scenario: Scenario) -> Scenario:
    """Return the command with the folder `shared` for its results."""
    place = scenario.arguments.index("--out") + 1
    return replace(
        scenario, arguments=(*scenario.arguments[:place], "shared", *scenario.arguments[place + 1 :]), beside=()
    )


def _of_both(ended: list[Ended], commands: tuple[Scenario, Scenario], after: Tree, alone: tuple[Tree, Tree]) -> Found:
    """Return the findings about the ends of both commands and their common result."""
    found: Found = []
    done = [one.status in command.statuses and not one.hung for one, command in zip(ended, commands, strict=True)]
    for one, well in zip(ended, done, strict=True):
        found += [] if well else of_ended(one)
        if well and one.traceback:
            found.append(("traceback", one.last_line))
    if not any(done):
        return [*found, ("lost", f"both refused: {ended[0].last_line}; {ended[1].last_line}")]
    differs = [difference(after, one) for one in alone]
    if all(done):
        both = not _conflicts(*alone) and not difference(after, alone[0] | alone[1])
        same = not difference(alone[0], alone[1]) and not differs[0]
        if not both and not same:
            found.append(("overwritten", f"both end with 0; to the first {differs[0]}; to the second {differs[1]}"))
    elif kept := differs[done.index(True)]:
        found.append(("left over" if not (kept.missing or kept.changed) else "lost", f"of the one that worked: {kept}"))
    return found


def _conflicts(one: Tree, other: Tree) -> list[str]:
    """Return the files that both commands write, with different bytes."""
    common = one.keys() & other.keys()
    return [name for name in common if comparable(name, one[name]) != comparable(name, other[name])]
