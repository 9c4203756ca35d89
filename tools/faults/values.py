"""Odd values for every option of every command: each must be refused by one line and status 2, or work.

The options are read from `--help`. A word that Python takes for a number, such as one of full-width digits, must not
count as a number.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.faults.calls import of_ended
from tools.faults.results import Point
from tools.faults.scenarios import NET, Inputs, Scenario
from tools.faults.server import HANG_S, Ended, Server
from tools.faults.session import Found
from tools.faults.trees import Tree, overwritten, tree, write_tree

PART = "values"
"""Name of this part of the session."""
VALUES = {
    "negative": "-1", "zero": "0", "half": "0.5", "large": str(2**63), "larger": str(2**64), "huge": "1" + "0" * 5000,
    "overflow": "1e400", "tiny": "1e-400", "nan": "nan", "inf": "inf", "-inf": "-inf", "empty": "", "space": " ",
    "newline": "a\nb", "carriage return": "a\rb", "escape": "\x1b[31mred", "long": "x" * 10_000, "percent": "%s%n{}",
    "tilde": "~/there", "spaces": "a b/c d", "relative": "sub/../there", "nonexistent": "nowhere/at all",
    "device": "/dev/null", "root": "/", "dot": ".", "dash": "-", "quotes": "\"'`$(id)", "true": "true", "none": "none",
    "surrogate": "caf\udce9", "unicode": "\u00e9\u200b\u202e",
}  # fmt: skip
"""Values by name."""
NUMBERS = {"full-width digit": "\uff11", "Arabic digit": "\u0663", "underscore": "1_0", "padded": " 1"}
"""Words that Python's `int` takes for numbers."""
COMMANDS = (
    Scenario("launch", "ict_ref.launch", ("--config", "minimal", "--dry-run")),
    Scenario("sample", "ict_ref.sample", (NET, "--count", "2", "--device", "cpu", "--out", "o.png"), inputs=(NET,)),
    Scenario("prepare", "ict_ref.prepare", ("images", "--out", "made"), inputs=("images",)),
    Scenario("prepare --check", "ict_ref.prepare", ("--check", "data"), inputs=("data",)),
    Scenario("eq", "ict_ref", ("eq", "9")),
    Scenario("edit", "ict_ref.edit", (NET, "few", "--labels", "1", "--sigma", "5", "--task", "denoise", "--noisy"),
             inputs=(NET, "few")),
    Scenario("evaluate", "ict_ref.evaluate", ("few", "--reference", "images", "--k", "1"), inputs=("few", "images")),
    Scenario("evaluate, a run", "ict_ref.evaluate",
             ("run", "--reference", "images", "--count", "8", "--k", "1", "--device", "cpu"), inputs=("run", "images")),
    Scenario("search", "ict_ref.search",
             (NET, "--reference", "images", "--count", "4", "--nodes", "3", "--device", "cpu"), inputs=(NET, "images")),
    Scenario("figures", "ict_ref.figures", ("--only", "3b")),
    Scenario("figures --run", "ict_ref.figures", ("--run", NET, "--sheet", "2", "2", "--device", "cpu"), inputs=(NET,)),
    Scenario("export_checkpoint", "ict_ref.export_checkpoint", ("run", "--out", "e.safetensors"), inputs=("run",)),
    Scenario("export_checkpoint, diffusers", "ict_ref.export_checkpoint",
             ("run", "--format", "diffusers", "--out", "pipeline"), inputs=("run",)),
    Scenario("import_checkpoint", "ict_ref.import_checkpoint",
             ("published.pt", "--size", "8", "--head-channels", "16", "--out", "imported"), inputs=("published.pt",)),
    Scenario("verify", "ict_ref.verify", ("ict_ref.formulas", "--only", "c_in"), statuses=(0, 1)),
    Scenario("verify trace", "ict_ref.verify", ("trace", "trace.json"), inputs=("trace.json",), statuses=(0, 1)),
    Scenario("plan", "ict_ref.plan", ("--config", "minimal")),
)  # fmt: skip
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]")
LEFT_OUT = ("--help", "--no-", "--slurm", "--wait")
"""Beginnings of options without a value, and of those that submit jobs."""


@dataclass
class Values:
    """The part of the session that gives odd values to options."""

    server: Server
    inputs: Inputs
    folder: Path
    references: dict[str, tuple[Tree, float, list[str]]] = field(default_factory=dict)

    def cases(self) -> list[str]:
        """Return the names of the commands."""
        return [f"options of {scenario.name}" for scenario in COMMANDS]

    def points(self, case: str) -> Iterator[Point]:
        """Yield each option of a command with each value."""
        for option in self.reference(case)[2]:
            for name in (*VALUES, *NUMBERS):
                yield Point(PART, case, name, option)

    def reference(self, case: str) -> tuple[Tree, float, list[str]]:
        """Return the folder before a command, its time in seconds and its options.

        Raises:
            RuntimeError: The command fails without odd values.
        """
        if case not in self.references:
            scenario = _scenario(case)
            before = self.inputs.of(scenario)
            words = scenario.arguments[:1] if scenario.arguments[0] in ("trace", "eq") else ()
            helped = self._run(scenario, (*words, "--help"), before, 60)
            ended = self._run(scenario, scenario.arguments, before, 120)
            if ended.status not in scenario.statuses:
                raise RuntimeError(f"{case} ended with {ended.status}: {ended.err}")
            options = sorted(set(FLAG.findall(helped.out)))
            taken = [option for option in options if not option.startswith(LEFT_OUT)]
            self.references[case] = (before, ended.seconds, taken)
        return self.references[case]

    def check(self, point: Point) -> Found:
        """Return the findings of a point."""
        scenario, (before, seconds, _) = _scenario(point.case), self.reference(point.case)
        value = (VALUES | NUMBERS)[point.kind]
        ended = self._with(scenario, point.place, value, before, HANG_S + 5 * seconds)
        found: Found = [("overwritten", name) for name in overwritten(before, tree(self.folder))]
        if ended.hung or ended.status not in scenario.statuses:
            return found + of_ended(ended)
        if ended.traceback:
            found.append(("traceback", ended.last_line))
        if not _printable(ended.out):
            found.append(("not one line", f"control characters in standard output: {ended.out[:100]!r}"))
        if point.kind in NUMBERS and self._is_number(scenario, point.place, before, seconds):
            found.append(("lost", f"takes {value!r} for a number"))
        return found

    def _is_number(self, scenario: Scenario, option: str, before: Tree, seconds: float) -> bool:
        """Return whether an option takes 1 and refuses a letter."""
        statuses = [self._with(scenario, option, value, before, HANG_S + 5 * seconds).status for value in ("1", "x")]
        return statuses[0] in scenario.statuses and statuses[1] not in scenario.statuses

    def _with(self, scenario: Scenario, option: str, value: str, before: Tree, seconds: float) -> Ended:
        return self._run(scenario, (*scenario.arguments, f"{option}={value}"), before, seconds)

    def _run(self, scenario: Scenario, arguments: tuple[str, ...], before: Tree, seconds: float) -> Ended:
        write_tree(self.folder, {"home/": b"", **before})
        home = {"HOME": str(self.folder / "home"), "XDG_CONFIG_HOME": str(self.folder / "home")}
        return self.server.run(scenario.command, arguments, self.folder, variables=home, seconds=seconds)


def _printable(text: str) -> bool:
    """Return whether a text has no control characters except line ends."""
    return all(line.isprintable() for line in text.replace("\t", " ").split("\n"))


def _scenario(case: str) -> Scenario:
    return next(one for one in COMMANDS if f"options of {one.name}" == case)
