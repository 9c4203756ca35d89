"""The session of faults finds each kind of fault in commands that have it, and none in one that has none."""

import contextlib
import hashlib
import json
import os
import pickletools
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from tools.faults.__main__ import parsed, point_of, share
from tools.faults.damage import VALUES, apply, with_checksum_of
from tools.faults.histories import without_set_aside
from tools.faults.hostile import generated
from tools.faults.kills import descendants
from tools.faults.library import Call, built, unsynced
from tools.faults.page import INTRODUCTION, as_page, environment
from tools.faults.report import TITLES, as_json, as_markdown, as_text, rows, summary
from tools.faults.results import OUTCOMES, RIGHT, Findings, Point, Result, append, latest, result, sizes, source
from tools.faults.server import Server
from tools.faults.session import Choice, Found, run
from tools.faults.trees import difference, overwritten, tree, write_tree

from ict_ref.utils.atomic import set_aside

ROOT = Path(__file__).parents[2]
COMPILES = sys.platform == "linux" and any(map(shutil.which, ("cc", "gcc", "clang")))
Outcomes: TypeAlias = dict[str, dict[str, Any]]
MANNERS = ("careful", "in-place", "unsynced", "leaving", "overwriting", "failing", "hanging", "crashing", "silent")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Return the outcome of every point of each manner of writing."""
    if not COMPILES:
        pytest.skip("the library of faults is for Linux and needs a C compiler")
    folder = tmp_path_factory.mktemp("faulty")
    command = [sys.executable, "-m", "tests.support.faulty", str(folder), *MANNERS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    found: Outcomes = json.loads(ended.stdout)
    return found


def test_a_careful_command_is_right_at_every_call(outcomes: Outcomes) -> None:
    assert set(outcomes["careful"].values()) == {RIGHT}
    # unlink, open, three writes, fsync and rename; each but unlink needs space
    assert len(outcomes["careful"]) == 1 + 4 + 7 * 2 + 6 * 2 + 3


@pytest.mark.parametrize(
    ("manner", "point", "outcome"),
    [
        ("in-place", "kill -9, 1 open", RIGHT),
        ("in-place", "kill -9, 3 write", "lost"),
        ("in-place", "kill -9 in a write, 4 write", "lost"),
        ("in-place", "kill -9, 5 fsync", RIGHT),
        ("in-place", "no space once, 2 write", "lost"),
        ("unsynced", "synced renames, all", "lost"),
        ("unsynced", "kill -9, 4 write", RIGHT),
        ("leaving", "synced renames, all", RIGHT),
        ("leaving", "kill -9, 6 rename", "left over"),
        ("leaving", "I/O error once, 5 fsync", "left over"),
        ("overwriting", "kill -9, 2 write", "overwritten"),
        ("failing", "no space for ever, 4 write", "traceback"),
        ("failing", "kill -9, 4 write", RIGHT),
        ("hanging", "quota, 1 all", "hang"),
        ("hanging", "kill -9, 4 write", RIGHT),
        ("crashing", "I/O error once, 7 rename", "signal"),
        ("silent", "no space once, 7 rename", "lost"),
        ("silent", "read-only, 1 all", "lost"),
        ("silent", "kill -9, 7 rename", RIGHT),
    ],
)
def test_each_kind_of_fault_is_found(outcomes: Outcomes, manner: str, point: str, outcome: str) -> None:
    assert outcomes[manner][point] == outcome


def test_a_command_pauses_before_a_call_and_continues(outcomes: Outcomes) -> None:
    expected = {"pauses": True, "there": [".out.txt.tmp"], "status": 0, "pauses without the fault": False}
    assert outcomes["pause"] == expected


def test_damage_counts_files_of_the_user_and_not_those_of_the_command(outcomes: Outcomes) -> None:
    kinds, part, source = ("cut", "FIFO", "dangling link"), "out.txt.part", "source.txt"
    # A resumed command may remove its own lock and part; the user's notes and source must stay.
    expected = {
        ("resuming", part): (RIGHT,) * 3,
        ("cleaning", part): ("overwritten",) * 3,
        ("repairing", part): (RIGHT,) * 3,
        ("resuming", source): (RIGHT,) * 3,
        ("cleaning", source): ("overwritten",) * 3,
        ("repairing", source): ("overwritten",) * 3,
    }
    wanted = {
        f"{file} of {manner}, {kind}": outcome
        for (manner, file), found in expected.items()
        for kind, outcome in zip(kinds, found, strict=True)
    }
    assert outcomes["damage"] == wanted


@pytest.mark.skipif(not COMPILES, reason="the library of faults is for Linux and needs a C compiler")
def test_a_result_may_name_a_damaged_file_by_its_own_checksum() -> None:
    whole, damaged = (hashlib.sha256(content).hexdigest() for content in (b"whole", b"damaged"))
    found = {
        "j.json": f'{{"file": "{damaged}", "other": "{whole}", "score": 1}}'.encode(),
        "a.npz": damaged.encode(),
    }
    expected = {"j.json": found["j.json"].replace(damaged.encode(), whole.encode()), "a.npz": found["a.npz"]}
    assert with_checksum_of(b"whole", b"damaged", found) == expected
    assert with_checksum_of(b"other", b"other", found) == found


def test_the_library_is_built_once() -> None:
    first = built()
    written = first.stat().st_mtime_ns
    assert built() == first
    assert first.stat().st_mtime_ns == written


def test_a_rename_of_what_is_not_synced_is_found_in_folders_too() -> None:
    def calls(*lines: tuple[str, str, str]) -> list[Call]:
        return [Call(number, *line) for number, line in enumerate(lines, start=1)]

    whole = calls(("write", "a.tmp", ""), ("fsync", "a.tmp", ""), ("rename", "a.tmp", "a"))
    assert unsynced(whole) == []
    late = calls(("write", "a.tmp", ""), ("fsync", "a.tmp", ""), ("write", "a.tmp", ""), ("rename", "a.tmp", "a"))
    assert unsynced(late) == ["rename a.tmp -> a"]
    folder = calls(("write", "d.tmp/x", ""), ("rename", "d.tmp", "d"), ("fsync", "d/x", ""), ("rename", "d", "e"))
    assert unsynced(folder) == ["rename d.tmp/x -> d"]


def test_trees_differ_by_bytes_but_not_by_measured_time(tmp_path: Path) -> None:
    log = b'{"step": 1, "loss": 2.5, "images_per_second": %d}\n'
    one = {"a/": b"", "a/m.jsonl": log % 7, "b": b"x", "link": b"-> b"}
    write_tree(tmp_path / "t", one)
    assert tree(tmp_path / "t") == one
    assert not difference(one | {"a/m.jsonl": log % 8}, one)
    changed = difference(one | {"a/m.jsonl": log.replace(b"2.5", b"2.6") % 7, "c": b""}, one)
    assert (changed.missing, changed.changed, changed.extra) == ((), ("a/m.jsonl",), ("c",))
    assert str(difference({}, {"b": b"x"})) == "missing: b"
    assert overwritten(one, one | {"c": b""}) == []
    assert overwritten(one, {**one, "b": b"y"}) == ["b"]


def test_damaged_files_that_a_command_renamed_are_not_left_over(tmp_path: Path) -> None:
    damaged = tmp_path / "a.json"
    for _ in range(3):
        damaged.touch()
        set_aside(damaged)
    (tmp_path / "a.damaged.tmp").touch()
    assert len(tree(tmp_path)) == 4
    assert without_set_aside(tree(tmp_path)) == {"a.damaged.tmp": b""}


class Numbers:
    """A part whose points are numbers, of which those divisible by 4 are lost."""

    def __init__(self) -> None:
        self.checked: list[int] = []

    def cases(self) -> list[str]:
        return ["even", "odd", "broken"]

    def points(self, case: str) -> list[Point]:
        if case == "broken":
            raise RuntimeError("it does not work")
        return [Point("numbers", case, "integer", str(k)) for k in range(case == "odd", 12, 2)]

    def check(self, point: Point) -> Found:
        self.checked.append(int(point.place))
        return [("left over", "a"), ("lost", "b")] if int(point.place) % 4 == 0 else []


def test_a_session_resumes_and_repeats_what_failed(tmp_path: Path) -> None:
    path, part = tmp_path / "r.jsonl", Numbers()
    shown: list[str] = []
    found = run({"numbers": part}, Choice(only=("even",)), path, shown.append)
    assert [one.outcome for one in found] == ["lost", RIGHT] * 3
    assert found[0].detail == "lost: b; left over: a"
    assert [line.split("|")[-1] for line in shown] == [f"{k}: lost: b; left over: a" for k in (0, 4, 8)]
    with path.open("a") as file:
        file.write('{"part": "numb')  # the line of a session that was killed
    part.checked.clear()
    again = run({"numbers": part}, Choice(), path, shown.append)
    assert part.checked == [1, 3, 5, 7, 9, 11]
    assert [one.detail for one in again if one.outcome != RIGHT] == ["lost: it does not work"]
    assert len(latest(path)) == 13
    assert sizes(path) == {("numbers", "even"): 6, ("numbers", "odd"): 6}
    assert sizes(path, "other") == {}
    part.checked.clear()
    run({"numbers": part}, Choice(only=("even",), again=True), path, shown.append)
    assert part.checked == [0, 4, 8]


def test_shares_and_seeds_choose_points(tmp_path: Path) -> None:
    points = [Point("numbers", "all", "integer", str(k)) for k in range(100)]
    shares = [Choice(share=(k, 3)).chosen(points) for k in (1, 2, 3)]
    assert sorted((one for some in shares for one in some), key=lambda one: int(one.place)) == points
    assert all(len(one) > 20 for one in shares)
    drawn = [Choice(seed=seed, each=5).chosen(points) for seed in ("a", "a", "b")]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert len(drawn[0]) == 5
    part = Numbers()
    assert run({"numbers": part}, Choice(seconds=-1.0), tmp_path / "r", print) == []


def test_results_of_other_code_do_not_count(tmp_path: Path) -> None:
    one = result(Point("p", "c", "k", "1"), [], 1.0)
    append(tmp_path / "r", one)
    append(tmp_path / "r", Result(**{**vars(one), "place": "2", "source": "other"}))
    assert [found.place for found in latest(tmp_path / "r").values()] == ["1"]
    assert [found.place for found in latest(tmp_path / "r", "other").values()] == ["2"]
    assert one.source == source()


def test_the_table_counts_each_point_once() -> None:
    kinds = [RIGHT, *OUTCOMES, RIGHT]
    found = [Result("calls", "launch", "kill -9", str(k), "", kind, "why") for k, kind in enumerate(kinds)]
    (line, total), (part, _) = rows(found), summary(found)
    assert line == ("calls", "launch", "kill -9", "9", "2", *["1"] * 7)
    assert total == ("all", "", "", *line[3:])
    assert part == ("calls", *line[3:])
    assert as_text(TITLES, [line]).splitlines()[1].split()[-9:] == ["9", "2", *["1"] * 7]
    assert as_markdown(TITLES, [line]).splitlines()[2] == f"| {' | '.join(line)} |"
    book = json.loads(as_json(found, {"commit": "abc"}))
    assert book["commit"] == "abc"
    assert book["table"] == [
        {"part": "calls", "case": "launch", "kind": "kill -9", "points": 9, RIGHT: 2, **dict.fromkeys(OUTCOMES, 1)},
        {"part": "all", "case": "", "kind": "", "points": 9, RIGHT: 2, **dict.fromkeys(OUTCOMES, 1)},
    ]
    assert [one["place"] for one in book["not_right"]] == [str(k) for k in range(1, 8)]


@pytest.mark.parametrize(
    ("err", "one_line"),
    [
        ("ict_ref.launch: cannot use run: disk\n", True),
        ("\rtraining 0/4 | ? left\rtraining 2/4 | 00:01 left\nict_ref.launch: cannot use run: disk\n", True),
        ("\rtraining 0/4 | ? leftict_ref.launch: cannot use run: disk\n", False),
        ("\rwriting 3/3 | 00:00 left\r                        \rict_ref.edit: expected a new path\n", True),
        ("\rwriting 3/3 | 00:00 left\rict_ref.edit: expected a new path\n", False),
        ("\rwriting 3/3 | 00:00 left\r             \rict_ref.edit: expected\nsecond line\n", False),
        ("ict_ref.launch: cannot use run\nsecond line\n", False),
        ("\rtraining 1/4 | ? left\nict_ref: warning: a was not written\nict_ref.launch: cannot use run\n", True),
        ("ict_ref: warning: a\x1b[31m was not written\nict_ref.launch: cannot use run\n", False),
        ("ict_ref: warning: a was not written\nict_ref.launch: cannot use run\nsecond line\n", False),
        ("ict_ref.launch: cannot use run\nict_ref: warning: a was not written\n", False),
        ("ict_ref.launch: got \x1b[31mred\n", False),
        ("", False),
    ],
)
def test_a_rejection_is_one_line_beside_the_progress_bar(err: str, one_line: bool, tmp_path: Path) -> None:
    (tmp_path / "command.err").write_text(err, newline="")
    (tmp_path / "command.out").touch()
    command = [sys.executable, "-c", "import os; os._exit(2)"]
    process = os.posix_spawn(sys.executable, command, os.environ, setsid=True)
    ended = Server(tmp_path).wait(process, tmp_path, 20.0)
    assert ended.status == 2
    assert ended.one_line == one_line


def test_the_worst_finding_counts() -> None:
    assert Findings().outcome == RIGHT
    assert Findings((("left over", ""), ("overwritten", ""), ("traceback", ""))).outcome == "overwritten"


def damaged(path: Path, kind: str, place: str) -> None:
    apply(path, Point("damage", "a file", kind, place))


def test_a_file_is_damaged_as_the_point_says(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = b'{"step": 3, "config": {"sizes": [8, 16]}}'
    for kind, place, content in (
        ("bit flip", "byte 9 bit 0", text.replace(b"3", b"2")),
        ("wrong head", "byte 0", bytes([ord("{") ^ 0xFF]) + text[1:]),
        ("cut", "after byte 5", text[:5]),
        ("empty", "all", b""),
        ("zeros", "all", bytes(len(text))),
    ):
        path.write_bytes(text)
        damaged(path, kind, place)
        assert path.read_bytes() == content, kind
    for number, value in enumerate(VALUES):
        path.write_bytes(text)
        damaged(path, "wrong value", f"/config/sizes/1 = {number}")
        assert b"".join(path.read_bytes().split()) == text.replace(b" ", b"").replace(b"16", value.encode())
    (tmp_path / "b.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n')
    damaged(tmp_path / "b.jsonl", "wrong value", "/step = 0")
    assert (tmp_path / "b.jsonl").read_bytes() == b'{"step": null}\n{"step": 2}\n'


@pytest.mark.parametrize("kind", ["FIFO", "/dev/zero", "dangling link", "loop of links", "folder"])
def test_something_else_takes_the_place_of_a_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"text")
    damaged(path, kind, "all")
    seen = {
        "FIFO": path.is_fifo(),
        "/dev/zero": path.is_symlink() and path.is_char_device(),
        "dangling link": path.is_symlink() and not path.exists() and str(path.readlink()) == "nowhere",
        "loop of links": path.is_symlink() and path.readlink() == Path("a"),
        "folder": path.is_dir(),
    }
    assert [name for name, there in seen.items() if there] == [kind]


def test_generated_pickles_are_the_same_for_a_seed_and_of_many_kinds() -> None:
    whole = b"\x80\x02}." + bytes(1000)
    made = [generated(random.Random(f"0-{k}"), whole) for k in range(60)]  # noqa: S311 (content)
    assert made == [generated(random.Random(f"0-{k}"), whole) for k in range(60)]  # noqa: S311 (content)
    assert len(set(made)) == 60
    read = 0
    for one in made:
        with contextlib.suppress(Exception):
            read += len(list(pickletools.genops(one))) > 5
    assert read > 30  # most are whole pickles
    assert sum(b"ndarray" in one for one in made) > 10


def test_the_page_has_every_point_that_is_not_right() -> None:
    found = [Result("calls", "launch", "kill -9", str(k), "", kind, "why|<b>\x1b") for k, kind in enumerate(OUTCOMES)]
    page = as_page(found, {"tried": "all points", "code": "abc"})
    assert "Measured: tried all points, code abc." in page
    assert page.count("why/&lt;b>?") == len(OUTCOMES)
    assert "Every point is right." in as_page([Result("calls", "launch", "kill -9", "1", "")], {})
    about = environment([result(Point("p", "c", "k", "1"), [], 1.0)] * 2)
    assert set(about) == {"code", "date", "Python", "torch"}
    assert about["code"] == source()


def test_the_committed_page_begins_as_the_command_writes_it() -> None:
    # Otherwise the next page would lack what was changed in this one by hand.
    assert (ROOT / "docs" / "faults.md").read_text("utf-8").startswith(INTRODUCTION)


def test_processes_of_a_process_are_found() -> None:
    child = "import time; print(1, flush=True); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = descendants(process.pid)
        for one in (process.pid, *found):
            os.kill(one, signal.SIGKILL)
    assert len(found) == 1


def test_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert share("2/10") == (2, 10)
    assert parsed(["--today"]).seed.count("-") == 2
    assert point_of("calls|launch|kill -9|3 open") == Point("calls", "launch", "kill -9", "3 open")
    for wrong in ("0/3", "4/3", "x", "1"):
        with pytest.raises(SystemExit):
            parsed(["--share", wrong])
        assert "expected K/N" in capsys.readouterr().err
