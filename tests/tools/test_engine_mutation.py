import json
import time
from dataclasses import asdict, replace
from pathlib import Path

from tools.engine_coverage import TestMap, joined
from tools.engine_mutants import Mutant
from tools.engine_mutation import MODULES, ROOT, Result, listed, nearest, read_results, report, run_tests, within

ONE = Result("src/a.py", 4, "compare", "x > 1", "x >= 1", 0, "survived", "", 3, 1.5)
KILLED = replace(ONE, line=9, was="y", becomes="z", outcome="killed", test="tests/test_a.py::test_b")
SLOW = replace(KILLED, was="while y:", outcome="timeout")
LINES = {
    "src/ict_ref/training/ema.py": {"7": ["tests/training/test_loop.py::slow", "tests/training/test_ema.py::slow"]},
    "src/ict_ref/training/radam.py": {"5": ["tests/training/test_loop.py"]},
}
MAP = TestMap(
    "",
    {
        "tests/training/test_ema.py::quick": 0.1, "tests/training/test_ema.py::slow": 9.0,
        "tests/training/test_loop.py::slow": 2.0, "tests/training/test_loop.py::quick": 1.0,
    },
    LINES,
)  # fmt: skip


def test_a_line_has_the_tests_that_execute_it_those_of_its_module_first() -> None:
    path = "src/ict_ref/training/ema.py"
    tests = ["tests/training/test_ema.py::slow", "tests/training/test_loop.py::slow"]
    assert MAP.tests(path, 7, nearest(path)) == tests
    assert MAP.tests(path, 8, nearest(path)) == tests  # the tests of the module


def test_tests_of_the_package_come_before_quicker_ones() -> None:
    path, tests = "src/ict_ref/training/ema.py", ["tests/plan/test_a.py::b", "tests/training/test_loop.py::slow"]
    found = TestMap("", {tests[0]: 0.1, tests[1]: 2.0}, {path: {"7": tests}})
    assert found.tests(path, 7, nearest(path)) == tests[::-1]


def test_a_mutant_has_the_first_tests_within_the_time_and_at_least_one() -> None:
    seconds = {"a": 3.0, "b": 2.0, "c": 1.0}
    assert within(["a", "b", "c"], seconds, 5.0) == ["a", "b"]
    assert within(["a", "b"], seconds, 1.0) == ["a"]


def test_a_line_of_a_fixture_has_all_tests_of_the_file_quick_ones_first() -> None:
    path = "src/ict_ref/training/radam.py"
    tests = ["tests/training/test_loop.py::quick", "tests/training/test_loop.py::slow"]
    assert MAP.tests(path, 5, nearest(path)) == tests


def test_a_module_that_only_other_processes_execute_has_the_tests_of_its_name() -> None:
    path = "src/ict_ref/training/loop.py"
    assert MAP.tests(path, 1, nearest(path))[0] == "tests/training/test_loop.py::quick"


def test_the_maps_of_folders_are_joined() -> None:
    path = "src/ict_ref/training/ema.py"
    other = TestMap("", {"tests/plan/test_a.py::b": 1.0}, {path: {"7": ["tests/plan/test_a.py::b"]}})
    assert joined([MAP, other]).tests(path, 7, nearest(path))[-1] == "tests/plan/test_a.py::b"


def test_the_report_counts_a_mutant_that_never_ends_as_killed() -> None:
    lines, passed = report([KILLED, SLOW], {}, set())
    assert (lines, passed) == (["2 mutants: 2 killed, 0 survived, 0 listed; score 100.0 %"], True)


def test_a_survivor_is_printed_unless_it_is_listed() -> None:
    lines, passed = report([ONE, KILLED], {}, {ONE.mutant})
    assert lines[0] == "src/a.py:4 (3 tests)\n  - x > 1\n  + x >= 1"
    assert lines[1] == "2 mutants: 1 killed, 1 survived, 0 listed; score 50.0 %"
    assert not passed
    lines, passed = report([ONE, KILLED], {ONE.mutant: "the same"}, {ONE.mutant})
    assert (lines, passed) == (["2 mutants: 1 killed, 0 survived, 1 listed; score 100.0 %"], True)


def test_a_listed_mutant_that_is_noticed_or_gone_is_reported() -> None:
    for results, existing in (([KILLED], {KILLED.mutant}), ([], set[Mutant]())):
        lines, passed = report(results, {KILLED.mutant: "the same"}, existing)
        assert lines[0] == "src/a.py: listed, but noticed or gone\n  + z"
        assert not passed
    assert report([], {KILLED.mutant: "not drawn"}, {KILLED.mutant})[1]


def test_results_are_read_up_to_a_line_that_was_cut_and_the_last_of_a_mutant_counts(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert read_results(path) == {}
    again = replace(ONE, outcome="killed")
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in (ONE, KILLED, again)) + '{"path": "sr')
    assert read_results(path) == {ONE.mutant: again, KILLED.mutant: KILLED}


def test_tests_run_in_a_process_of_their_own_up_to_a_time(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import time\ndef test_good(): pass\ndef test_bad(): assert 0\ndef test_endless(): time.sleep(60)\n"
    )
    (tmp_path / "pytest.ini").touch()
    began = time.monotonic()
    assert run_tests(tmp_path, ["test_it.py::test_good"], 60) == ("survived", "")
    assert run_tests(tmp_path, ["test_it.py"], 60) == ("killed", "test_it.py::test_bad")
    assert run_tests(tmp_path, ["test_it.py::test_endless"], 3) == ("timeout", "")
    assert time.monotonic() - began < 40


def test_every_listed_mutant_has_a_reason_and_is_of_a_sampled_module() -> None:
    assert all(len(why.split()) >= 4 for why in listed().values())
    assert {one.path for one in listed()} <= set(MODULES)
    assert all((ROOT / path).is_file() for path in MODULES)
