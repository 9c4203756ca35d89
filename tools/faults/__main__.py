"""Faults on purpose: `nox -s faults`, hours of one core; the same command resumes a stopped session.

`nox -s faults -- --only calls --share 1/10` tries a tenth of a part, `-- --seconds 50 --seed X` what fits into a
minute, in an order that depends on X. Results are appended to a file, and points that the file has are not tried
again while the code is the same. The session ends with a table, and with status 1 if a point is not right.
"""

import argparse
import datetime as dt
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.faults import page, results
from tools.faults.calls import Calls
from tools.faults.damage import Damage
from tools.faults.histories import Histories
from tools.faults.hostile import Hostile
from tools.faults.kills import Kills
from tools.faults.library import FOLDER, ROOT, preload
from tools.faults.pairs import Pairs
from tools.faults.report import TITLES, as_text, rows
from tools.faults.results import OUTPUT, RIGHT, Point, Result
from tools.faults.scenarios import Inputs
from tools.faults.server import Server
from tools.faults.session import Choice, Part, checked, run, show
from tools.faults.values import Values

QUICK = ("calls", "damage", "values", "hostile")
"""Parts that a session with --seconds chooses from; a point of the others takes too long."""


def main(arguments: Sequence[str]) -> int:
    """Try the chosen points, print the table and return the exit status."""
    options = parsed(arguments)
    if options.docs:
        found = list(results.latest(options.out, options.source).values())
        every = results.sizes(options.out, options.source)
        cases = sum(len(part.cases()) for part in parts_of(options, inputs_of(options)).values())
        reached = f"{len(found)} of {sum(every.values())} points, in {len(every)} of {cases} cases"
        page.write(found, ROOT / "docs", reached + (f", drawn by the seed {options.seed}" if options.seed else ""))
        return 0
    if options.table:
        return end(list(results.latest(options.out, options.source).values()))
    try:
        preload(["-m", "tools.faults", *arguments])
    except ValueError as error:
        print(f"tools.faults: {error}", file=sys.stderr)
        return 2
    begun, inputs = time.monotonic(), inputs_of(options)
    inputs.make()
    parts = parts_of(options, inputs)
    if options.point:
        return end([checked(parts[point.part], point) for point in map(point_of, options.point)])
    only = tuple(options.only) or (QUICK if options.seconds is not None else ())
    choice = Choice(only, options.share, options.seed, options.seconds, begun, options.each, options.again)
    if options.seed:
        show(f"seed {options.seed}")
    found = run(parts, choice, options.out, show)
    return end(found if options.seconds is not None else list(results.latest(options.out).values()))


def inputs_of(options: argparse.Namespace) -> Inputs:
    """Return the inputs of a session, which need not exist yet."""
    place = FOLDER / options.name
    return Inputs(Server(place / "scratch"), place / "inputs")


def parts_of(options: argparse.Namespace, inputs: Inputs) -> dict[str, Part]:
    """Return the parts of a session."""
    place, server = FOLDER / options.name, inputs.server
    return {
        "calls": Calls(server, inputs, place / "work"),
        "damage": Damage(server, inputs, place / "work", options.seed),
        "values": Values(server, inputs, place / "work"),
        "hostile": Hostile(server, inputs, place / "work", options.seed),
        "pairs": Pairs(server, inputs, place / "work"),
        "histories": Histories(server, inputs, place / "work", options.seed),
        "kills": Kills(server, inputs, place / "work", options.seed),
    }


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=str(__doc__).split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="parts, or beginnings of cases")
    parser.add_argument("--share", type=share, default=(1, 1), metavar="K/N", help="the K-th of N shares of the points")
    parser.add_argument("--seed", default="", help="try cases and points in an order that depends on this text")
    parser.add_argument("--today", action="store_true", help="take the date as the seed")
    parser.add_argument("--seconds", type=float, help="try no other point after this time, and try known points again")
    parser.add_argument("--each", type=int, metavar="N", help="try at most N points of each case")
    parser.add_argument("--again", action="store_true", help="try the points again that were not right")
    parser.add_argument("--point", action="append", metavar="PART|CASE|KIND|PLACE", help="try this point alone")
    parser.add_argument("--name", default="session", help="folder of inputs and work; one for each session at a time")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="file of results (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="print the table of the file and try nothing")
    parser.add_argument(
        "--docs",
        action="store_true",
        help="write the file's table to docs/faults.md and .json; --seed as it was given",
    )
    parser.add_argument("--source", help="with --table or --docs: the checksum of other code")
    options = parser.parse_args(arguments)
    if options.today:
        options.seed = dt.datetime.now(dt.UTC).date().isoformat()
    return options


def share(text: str) -> tuple[int, int]:
    """Return K and N of K/N."""
    number, _, shares = text.partition("/")
    if not (number.isdecimal() and shares.isdecimal() and 1 <= int(number) <= int(shares)):
        raise argparse.ArgumentTypeError(f"expected K/N with 1 <= K <= N, got {text}")
    return int(number), int(shares)


def point_of(name: str) -> Point:
    """Return the point with this name."""
    part, case, kind, place = name.split("|")
    return Point(part, case, kind, place)


def end(found: Sequence[Result]) -> int:
    """Print the points that are not right, the table, and return the exit status."""
    for one in found:
        if one.outcome != RIGHT:
            print(f"{one.outcome}: --point '{one.part}|{one.case}|{one.kind}|{one.place}': {one.detail}")
    print(as_text(TITLES, rows(found)))
    return 0 if all(one.outcome == RIGHT for one in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
