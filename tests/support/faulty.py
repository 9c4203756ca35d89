"""Outcomes of every fault of the commands in `writing`: `python -m tests.support.faulty FOLDER MANNER...` in JSON."""

import json
import os
import signal
import sys
from pathlib import Path

from tests.support.writing import TEXT
from tools.faults.calls import Calls
from tools.faults.damage import Case, Damage
from tools.faults.library import fault, preload
from tools.faults.results import Findings
from tools.faults.scenarios import Inputs, Scenario
from tools.faults.server import Server


def main() -> None:
    """Check every point of each manner."""
    place, manners = Path(sys.argv[1]), sys.argv[2:]
    server = Server(place / "scratch")
    scenarios = tuple(
        Scenario(name, "tests.support.writing", (name,), beside=("out.txt.tmp",), seconds=2.0) for name in manners
    )
    calls = Calls(server, Inputs(server, place / "inputs"), place / "work", scenarios)
    outcomes = {
        scenario.name: {
            f"{point.kind}, {point.place}": Findings(tuple(calls.check(point))).outcome
            for point in calls.points(scenario.name)
            if scenario.name != "hanging" or point.kind in ("quota", "kill -9")  # each hang takes its time limit
        }
        for scenario in scenarios
    }
    others = {"pause": paused(server, place / "pause"), "damage": damaged(server, place)}
    print(json.dumps(outcomes | others))


def damaged(server: Server, place: Path) -> dict[str, str]:
    """Return the outcomes of damage to a part of a command that was killed, and to a source file of the user."""
    inputs = Inputs(server, place / "inputs")
    (place / "inputs").mkdir(exist_ok=True)
    (place / "inputs" / "source.txt").write_bytes(TEXT)
    beside = ("out.txt.tmp", "notes.txt")
    scenarios = [
        Scenario(name, "tests.support.writing", (name,), inputs=("source.txt",), beside=beside)
        for name in ("resuming", "cleaning", "repairing")
    ]
    killed = [Case("out.txt.part", one, stopped=r"open .*\.out\.txt\.tmp") for one in scenarios]
    whole = [Case("source.txt", one, by_hand=True) for one in scenarios]
    damage = Damage(server, inputs, place / "work", files=(*killed, *whole))
    return {
        f"{point.case}, {point.kind}": Findings(tuple(damage.check(point))).outcome
        for case in damage.cases()
        for point in damage.points(case)
        if point.kind in ("cut", "FIFO", "dangling link")
    }


def paused(server: Server, folder: Path) -> dict[str, object]:
    """Return what happens while a command pauses before its third call, and after it."""
    folder.mkdir()
    process = server.start("tests.support.writing", ["careful"], folder, chosen=fault("pause", 3))
    found: dict[str, object] = {"pauses": server.wait_for_pause(process, 20.0)}
    found["there"] = sorted(path.name for path in folder.iterdir())
    os.kill(process, signal.SIGCONT)
    found["status"] = server.wait(process, folder, 20.0).status
    whole = server.start("tests.support.writing", ["careful"], folder)
    found["pauses without the fault"] = server.wait_for_pause(whole, 20.0)
    server.wait(whole, folder, 20.0)
    return found


if __name__ == "__main__":
    preload(["-m", "tests.support.faulty", *sys.argv[1:]])
    main()
