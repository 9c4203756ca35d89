"""Stages of the measurements on a GPU: one that hangs, fails or has no time left costs only itself."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks.gpu.__main__ import NAMES, GpuOptions, Record, main, run_all
from benchmarks.gpu.notes import Notes, read_rows
from benchmarks.gpu.runner import PLAN, WHOLE_S, Stage
from benchmarks.gpu.stage import STAGES, function
from tests.support.one_line import rejection

# Programs of stages, which get their name and the folder.
ROW = """import os, sys, time; open(f'{sys.argv[2]}/{sys.argv[1]}.json', 'w').write('[{"what": "a"}]');"""
PROGRAMS = {
    "good": f"{ROW} print('some log')",
    "bad": f"{ROW} print('first'); sys.exit('the reason')",
    "hung": f"{ROW} open(sys.argv[2] + '/pid', 'w').write(str(os.fork() or time.sleep(60))); time.sleep(60)",
    "silent": "import os; os._exit(3)",
    "slow": f"{ROW} time.sleep(1)",
}


def ran(folder: Path, stages: Sequence[Stage], *, seconds: float = 100) -> dict[str, Any]:
    """Run programs as stages, and return the content of the JSON file by stage."""
    record, work = Record(folder / "out", tiny=True), folder / "work"
    work.mkdir()

    def command(name: str) -> list[str]:
        return [sys.executable, "-S", "-c", PROGRAMS[name], name, str(work)]

    run_all(stages, command, work, record, ends=time.monotonic() + seconds)
    found: dict[str, Any] = json.loads((folder / "out" / "gpu.json").read_text())["stages"]
    return found


def test_a_stage_that_hangs_or_fails_costs_only_itself(tmp_path: Path) -> None:
    began = time.monotonic()
    found = ran(tmp_path, [Stage("hung", 1.5), Stage("bad", 30), Stage("silent", 30), Stage("good", 30)])
    assert time.monotonic() - began < 30
    assert {name: stage["status"] for name, stage in found.items()} == {
        "hung": "stopped at its limit of 2 s",
        "bad": "failed: the reason",
        "silent": "failed: it printed nothing",
        "good": "done",
    }
    assert [len(stage["rows"]) for stage in found.values()] == [1, 1, 0, 1]
    assert "some log" in (tmp_path / "out" / "gpu.log").read_text()


def test_the_processes_of_a_stage_end_with_it(tmp_path: Path) -> None:
    ran(tmp_path, [Stage("hung", 1.5)])
    child = int((tmp_path / "work" / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return  # dead, and not yet collected by this machine's first process
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("a process of the stage still runs")


def test_stages_without_time_are_left_out(tmp_path: Path) -> None:
    found = ran(tmp_path, [Stage("good", 30), Stage("slow", 30)], seconds=9)
    assert {stage["status"] for stage in found.values()} == {"left out: no time was left"}


def test_a_stage_beside_others_ends_before_one_that_measures_time(tmp_path: Path) -> None:
    stages = [Stage("slow", 30, beside=True), Stage("silent", 30), Stage("good", 30, waits=True)]
    assert [*ran(tmp_path, stages)] == ["silent", "slow", "good"]


def test_every_stage_has_a_function_and_a_limit() -> None:
    assert [stage.name for stage in PLAN] == [*NAMES] == [*STAGES]
    assert all(callable(function(name)) for name in STAGES)
    assert WHOLE_S <= 480


def test_rows_are_in_the_file_after_each_and_have_five_digits(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "a.json")
    assert read_rows(tmp_path / "a.json") == []
    notes.add("x", value=1.23456789)
    assert read_rows(tmp_path / "a.json") == [{"what": "x", "value": 1.2346}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--limit", "0"), "--limit: expected a number of seconds > 0, got 0.0"),
        (("--spent", "-1"), "--spent: expected a number of seconds >= 0, got -1.0"),
        (("--only", "spede"), "--only: expected one of device, compile"),
    ],
)
def test_options_are_rejected_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(arguments) == 2
    assert message in rejection(capsys, "benchmarks.gpu")


def test_existing_results_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    GpuOptions(out=tmp_path)
    (tmp_path / "gpu.json").touch()
    assert main(["--out", str(tmp_path)]) == 2
    assert "--out: expected a new or empty folder" in rejection(capsys, "benchmarks.gpu")
