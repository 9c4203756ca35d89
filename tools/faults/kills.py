"""Kill a run of two processes at drawn moments, a process of it or all, and resume it until it ends.

The run must end with the bytes of one that was never killed, and no process may stay.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.faults.calls import of_second
from tools.faults.results import Point
from tools.faults.scenarios import CURRICULUM, NET, Inputs, Scenario
from tools.faults.server import Ended, Server
from tools.faults.session import Found
from tools.faults.trees import Tree, overwritten, tree, write_tree

PART = "kills"
"""Name of this part of the session."""
TIMES = 10
"""Number of points of each kind."""
KILLS = 2
"""Number of kills before the run may end."""
STAY_S = 20.0
"""Time in seconds after which a process of a killed run must have ended."""
KINDS = ("kill a rank", "kill the launcher", "kill all", "terminate the launcher")
RUNS = (
    Scenario(
        "launch, two processes",
        "ict_ref.launch",
        ("--config", "minimal", "--train.steps", "30", "--record.save-every", "4", "--record.keep", "2", *CURRICULUM,
         "--data.name", "folder", "--data.path", "data", "--train.batch-size", "4", "--processes", "2", "--out", "run"),
        inputs=("data",),
        seconds=300,
    ),
    Scenario(
        "sample, two processes",
        "ict_ref.sample",
        (NET, "--count", "4100", "--device", "cpu", "--processes", "2", "--out", "o.npz"),
        inputs=(NET,),
        seconds=300,
    ),
)  # fmt: skip


@dataclass
class Kills:
    """The part of the session that kills runs of several processes."""

    server: Server
    inputs: Inputs
    folder: Path
    seed: str = ""
    references: dict[str, tuple[Tree, Tree, float]] = field(default_factory=dict)

    def cases(self) -> list[str]:
        """Return the names of the runs."""
        return [scenario.name for scenario in RUNS]

    def points(self, case: str) -> Iterator[Point]:
        """Yield the points of a run; the moments depend on the seed."""
        choose = random.Random(f"{self.seed}{case}")  # noqa: S311 (moments)
        for kind in KINDS:
            for _ in range(TIMES):
                moments = " ".join(f"{choose.uniform(0.1, 1):.3f}" for _ in range(KILLS))
                yield Point(PART, case, kind, f"after {moments} of the run")

    def check(self, point: Point) -> Found:
        """Return the findings of a point."""
        scenario = next(one for one in RUNS if one.name == point.case)
        before, expected, seconds = self._reference(scenario)
        write_tree(self.folder, before)
        found: Found = []
        for moment in (float(word) for word in point.place.split() if word[0].isdigit()):
            found += self._killed(scenario, point.kind, moment * seconds)
        again = self._run(scenario)
        after = tree(self.folder)
        found += [("overwritten", name) for name in overwritten(before, after)]
        return found + of_second(again, scenario, after, expected)

    def _reference(self, scenario: Scenario) -> tuple[Tree, Tree, float]:
        if scenario.name not in self.references:
            before = self.inputs.of(scenario) | {"tmp/": b""}
            write_tree(self.folder, before)
            ended = self._run(scenario)
            if ended.status != 0:
                raise RuntimeError(f"{scenario.name} ended with {ended.status}: {ended.err}")
            self.references[scenario.name] = (before, tree(self.folder), ended.seconds)
        return self.references[scenario.name]

    def _run(self, scenario: Scenario) -> Ended:
        process = self._start(scenario)
        return self.server.wait(process, self.folder, scenario.seconds)

    def _start(self, scenario: Scenario) -> int:
        temporary = {"TMPDIR": str(self.folder / "tmp")}
        return self.server.start(scenario.command, scenario.arguments, self.folder, variables=temporary)

    def _killed(self, scenario: Scenario, kind: str, seconds: float) -> Found:
        """Start the run, kill what the kind names after some time, and wait for all of its processes."""
        launcher = self._start(scenario)
        time.sleep(seconds)
        ranks = descendants(launcher)
        number = signal.SIGTERM if kind.startswith("terminate") else signal.SIGKILL
        chosen = {"kill a rank": ranks[-1:], "kill all": [launcher, *ranks]}.get(kind, [launcher])
        for process in chosen:
            _signal(process, number)
        begun = time.monotonic()
        while (left := [one for one in ranks if _alive(one)]) and time.monotonic() - begun < STAY_S + seconds:
            time.sleep(0.05)
        for process in left:
            _signal(process, signal.SIGKILL)
        ended = self.server.wait(launcher, self.folder, STAY_S + 5 * seconds)
        found: Found = [("hang", f"{len(left)} processes stay after {kind}")] if left else []
        if ended.hung:
            found.append(("hang", f"the launcher does not end after {kind}"))
        return found + ([("traceback", ended.last_line)] if ended.traceback else [])


def descendants(process: int) -> list[int]:
    """Return the processes that a process has started, directly or not."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    found = [int(child) for child in children]
    return found + [inner for child in found for inner in descendants(child)]


def _alive(process: int) -> bool:
    """Return whether a process runs; one that has ended and is not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _signal(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
