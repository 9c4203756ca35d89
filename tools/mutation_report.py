"""The report of `nox -s mutation`: the number of wrong variants that the tests notice, and the others.

A variant that the tests do not notice must be listed in equivalent_mutants.toml with the reason why it is equivalent. A
listed variant that they notice is an error. Either ends with status 1.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LISTED = Path(__file__).with_name("equivalent_mutants.toml")
STATISTICS = Path("mutants/mutmut-cicd-stats.json")
# A variant that never ends has been noticed.
NOTICED = {"killed", "timeout"}


@dataclass(frozen=True)
class Mutant:
    """A function with one place changed."""

    function: str
    was: str
    becomes: str


def mutmut(*arguments: str) -> str:
    """Return the output of the mutation tester."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def mutant(name: str, diff: str) -> Mutant:
    """Return the mutant of this name, from its unified diff."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++", "#", "@@"))]
    was, becomes = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return Mutant(re.sub(r"^ict_ref\.formulas\.|(?<=\.)x_|__mutmut_\d+$", "", name), was, becomes)


def listed(path: Path = LISTED) -> dict[Mutant, str]:
    """Return the mutants that are equivalent, each with the reason."""
    entries = tomllib.loads(path.read_text())["mutant"]
    return {Mutant(entry["function"], entry["was"], entry["becomes"]): entry["why"] for entry in entries}


def report(total: int, alive: Iterable[Mutant], equivalent: dict[Mutant, str]) -> tuple[list[str], bool]:
    """Return the lines to print, and whether every mutant is noticed or explained."""
    found = Counter(alive)
    unexplained = [one for one in found if one not in equivalent]
    stale = [one for one in equivalent if one not in found]
    same, survived = sum(found[one] for one in equivalent), sum(found[one] for one in unexplained)
    killed = total - same - survived
    lines = [f"{one.function}\n  - {one.was}\n  + {one.becomes}" for one in unexplained]
    lines += [f"{one.function}: listed as equivalent, but noticed or gone\n  + {one.becomes}" for one in stale]
    score = 100 * killed / max(1, total - same)
    lines.append(f"{total} mutants: {killed} killed, {survived} survived, {same} equivalent; score {score:.1f} %")
    return lines, not unexplained and not stale


def main() -> int:
    """Print the report of the last mutation run."""
    statuses = dict(re.findall(r"^ +(\S+): (.+)$", mutmut("results"), re.MULTILINE))
    alive = [mutant(name, mutmut("show", name)) for name, status in statuses.items() if status not in NOTICED]
    mutmut("export-cicd-stats")
    total = json.loads(STATISTICS.read_text())["total"]
    lines, passed = report(total, alive, listed())
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
