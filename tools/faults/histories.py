"""Histories of a command as Hypothesis draws them: start, kill, fill the disk, damage the last file, resume.

However a history goes, the command must end with the bytes of one that nothing happened to.
"""

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tools.faults.calls import Calls, of_second
from tools.faults.damage import MANY
from tools.faults.library import Kind, fault
from tools.faults.results import Point
from tools.faults.scenarios import Inputs, Scenario, named
from tools.faults.server import Server
from tools.faults.session import Found
from tools.faults.trees import Tree, tree, write_tree

PART = "histories"
"""Name of this part of the session."""
HISTORIES, EXAMPLES, STEPS = 20, 3, 5
"""Number of points, histories of each, and events of a history."""
CHECKPOINTS = "run/checkpoint-*.safetensors"
RESUMED: Mapping[str, tuple[Scenario, str]] = {
    "launch": (named("launch"), CHECKPOINTS),
    "launch, EMA profiles": (named("launch, EMA profiles"), CHECKPOINTS),
    "prepare": (named("prepare"), "made/images.npy.partial"),
    "sample, many": (MANY, "o.npz.parts/batch-*.npy"),
}
"""Commands that resume, and the files of theirs that are damaged."""
FAULTS: tuple[Kind, ...] = ("kill -9", "kill -9 in a write", "no space for ever", "I/O error once")
SET_ASIDE = re.compile(r"\.damaged(-\d+)?$")
FRACTIONS = st.floats(0, 1, exclude_max=True)


@dataclass
class Histories:
    """The part of the session that draws histories."""

    server: Server
    inputs: Inputs
    folder: Path
    seed: str = ""

    def cases(self) -> list[str]:
        """Return the names of the commands."""
        return [f"histories of {name}" for name in RESUMED]

    def points(self, case: str) -> Iterator[Point]:
        """Yield the seeds of the histories, which depend on the seed of the session."""
        choose = random.Random(f"{self.seed}{case}")  # noqa: S311 (seeds)
        for _ in range(HISTORIES):
            yield Point(PART, case, f"{EXAMPLES} histories", f"seed {choose.randrange(2**32)}")

    def check(self, point: Point) -> Found:
        """Return the findings of a point."""
        calls = Calls(self.server, self.inputs, self.folder)
        machine = _machine(calls, point.case.removeprefix("histories of "))
        chosen = settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # a shorter history would take minutes to find
        )
        try:
            run_state_machine_as_test(with_seed(int(point.place.split()[1]))(machine), settings=chosen)
        except AssertionError as error:
            steps = [line.strip() for line in getattr(error, "__notes__", []) if line.strip()]
            return [("lost", f"{error} {' '.join(steps)}")]
        return []


def _machine(calls: Calls, name: str) -> type[RuleBasedStateMachine]:
    """Return the machine of a command: its state is its folder."""
    scenario, pattern = RESUMED[name]
    before, expected, log = calls.reference(scenario)
    folder, server, least = calls.folder, calls.server, 2 if pattern == CHECKPOINTS else 1

    class History(RuleBasedStateMachine):
        """Events of a run."""

        def __init__(self) -> None:
            super().__init__()
            write_tree(folder, before)

        @rule(kind=st.sampled_from(FAULTS), where=FRACTIONS)
        def start_with_a_fault(self, kind: Kind, where: float) -> None:
            """Start or resume the run; a fault happens at some call, if the run gets there."""
            chosen = fault(kind, 1 + int(where * len(log)))
            ended = server.run(scenario.command, scenario.arguments, folder, chosen=chosen, seconds=scenario.seconds)
            assert not ended.hung, "the run hangs"
            assert not ended.traceback, ended.last_line
            assert ended.status in (0, 2, -9), f"status {ended.status}: {ended.last_line}"

        # A run whose only checkpoint is damaged is rejected, and a result that is complete does not need its parts.
        @precondition(lambda self: len([*folder.glob(pattern)]) >= least and not (folder / "o.npz").exists())
        @rule(where=FRACTIONS, how=st.sampled_from(("flip", "cut")))
        def damage_the_last_file(self, where: float, how: str) -> None:
            """Flip a bit of the last file in the order of names, or cut it."""
            newest = max(folder.glob(pattern))
            content = newest.read_bytes()
            place = int(where * len(content))
            flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] if content else b""
            newest.write_bytes(content[:place] if how == "cut" else flipped)

        @precondition(lambda self: (folder / "run" / "metrics.jsonl").is_file())
        @rule(text=st.sampled_from((b'{"step": 9', b"\0" * 100, b'{"step": 99, "levels": 3}\n')))
        def lengthen_the_log(self, text: bytes) -> None:
            """Append what a power loss may leave after the synced part of metrics.jsonl."""
            with (folder / "run" / "metrics.jsonl").open("ab") as file:
                file.write(text)

        def teardown(self) -> None:
            """Let the run end, and compare."""
            ended = server.run(scenario.command, scenario.arguments, folder, seconds=scenario.seconds)
            found = of_second(ended, scenario, without_set_aside(tree(folder)), expected)
            assert not found, "; ".join(detail for _, detail in found)

    return History


def without_set_aside(found: Tree) -> Tree:
    """Return a tree without the damaged files that a command has renamed, the second of a name to NAME.damaged-2."""
    return {name: content for name, content in found.items() if not SET_ASIDE.search(name)}
