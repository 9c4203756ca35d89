"""A command is checked through JSON; a faulty command neither harms nor outlives the check."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ict_ref.verify.__main__ import main
from ict_ref.verify.checks.check import Result, check
from ict_ref.verify.checks.result import FAILING
from ict_ref.verify.target import external_process as module
from ict_ref.verify.target.external_process import (
    ExternalTarget,
    MissingError,
    RefusedError,
    received,
)
from ict_ref.verify.target.line_process import ExternalTargetError
from ict_ref.verify.vectors.load import functions, is_refusal, paper_of, vectors
from ict_ref.verify.vectors.values import decoded

PEERS = Path(__file__).parent / "implementations"
# Without the site module Python starts in a few hundredths of a second.
PYTHON = [sys.executable, "-I", "-S"]
GOOD = shlex.join([*PYTHON, str(PEERS / "peer.py")])
DEVIATING = f"{GOOD} --deviation"

# Computes pseudo_huber_constant; the action for c_in is filled in. Every process records its number.
BROKEN = """
import json, math, os, signal, subprocess, sys, time
def born():
    with open({pids!r}, "a") as file:
        print(os.getpid(), file=file)
def say(**answer):
    print(json.dumps(answer), flush=True)
born()
{at_start}
for line in sys.stdin:
    id, function, args = (json.loads(line)[key] for key in ("id", "function", "args"))
    if function == "c_in":
        {instead}
    elif args["dim"] < 1:
        say(id=id, error="needs dim >= 1")
    else:
        say(id=id, value=0.00054 * math.sqrt(args["dim"]))
"""
HANG = "time.sleep(60)"
OTHER = "pseudo_huber_constant"


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """Return the file of process numbers; fail if one of the processes still runs at the end."""
    file = tmp_path / "pids"
    yield file
    numbers = [int(line) for line in file.read_text().split()]
    assert numbers
    # init reaps a grandchild some time after its end.
    deadline = time.monotonic() + 2
    while any(map(alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [number for number in numbers if alive(number)] == []


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.parents[1].is_dir() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def broken(pids: Path, instead: str, at_start: str = "") -> str:
    """Return the command of an implementation that does something else when it is called for c_in."""
    script = pids.parent / "broken.py"
    script.write_text(BROKEN.format(pids=str(pids), instead=instead, at_start=at_start))
    return shlex.join([*PYTHON, str(script)])


def results(command: str, *only: str, seconds: float = 10.0) -> list[Result]:
    with ExternalTarget(command, seconds=seconds) as peer:
        return list(check(peer, only=only or peer.functions()))


def failures(found: list[Result]) -> list[str]:
    return [result.message for result in found if result.status == "fail"]


def statuses(found: list[Result], function: str) -> set[str]:
    return {result.status for result in found if result.function == function}


def test_a_good_command_passes_every_vector_of_its_functions_and_the_rest_is_missing_once() -> None:
    found = results(GOOD)
    assert failures(found) == []
    passed = {result.function for result in found if result.status == "pass"}
    assert passed == {"c_skip", "c_noise", "pseudo_huber_constant", "pseudo_huber", "uniform_weights"}
    missing = [result for result in found if result.status == "missing"]
    assert sorted([*passed, *(result.id for result in missing)]) == sorted(ExternalTarget.functions())
    assert {result.message for result in missing} == {f"no function {result.function}" for result in missing}


JAVASCRIPT = PEERS / "javascript"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@needs_node
def test_a_command_in_javascript_passes_every_vector_of_every_function_of_ict() -> None:
    found = results(f"node {shlex.quote(str(JAVASCRIPT / 'peer.js'))}")
    assert failures(found) == []
    of_others = [name for name in functions() if paper_of(vectors(name)[0].source) != "iCT"]
    assert [result.id for result in found if result.status != "pass"] == of_others
    assert {result.function for result in found} == set(functions())


PLAY = ["exponential_curriculum", "sigma_grid", "lognormal_pmf", "inverse_gap_weights", "c_skip", "c_out"]


@needs_node
def test_the_functions_of_the_page_with_sliders_pass_every_vector() -> None:
    with ExternalTarget(f"node {shlex.quote(str(JAVASCRIPT / 'play.js'))}") as peer:
        found = list(check(peer, only=PLAY))
    assert {result.function for result in found} == set(PLAY)
    assert {result.status for result in found} == {"pass"}


@needs_node
@pytest.mark.parametrize("version", [1, 2])
def test_a_command_in_javascript_passes_earlier_versions_where_names_are_the_same(version: int) -> None:
    only = ["heun_step", "consistency_training_loss", "multistep_sample", "inpainting_operator", "c_in"]
    with ExternalTarget(f"node {shlex.quote(str(JAVASCRIPT / 'peer.js'))}", version=version) as peer:
        found = list(check(peer, only=only, version=version))
    assert {result.status for result in found} == {"pass"}


@needs_node
@pytest.mark.parametrize(
    ("file", "right", "wrong", "function"),
    [
        ("named.js", "2 * b * s * x,", "b * s * x,", "continuous_consistency_training_loss"),
        ("named.js", "square, 2)", "square, 1)", "continuous_consistency_distillation_loss"),
        ("model.js", "student(added(x, high, z), high)", "student(added(x, low, z), low)", "consistency_training_loss"),
        ("sampling.js", "Math.sqrt(sigma + sigma_min)", "Math.sqrt(sigma)", "multistep_sample"),
        ("operators.js", "0.587,", "0.588,", "colorization_operator"),
        ("editing.js", "chosen(mask, operator.forward(x), given)", "chosen(mask, x, given)", "edit"),
    ],
)
def test_a_command_in_javascript_with_a_mistake_fails(
    tmp_path: Path, file: str, right: str, wrong: str, function: str
) -> None:
    shutil.copytree(JAVASCRIPT, tmp_path / "peer")
    text = (tmp_path / "peer" / file).read_text()
    assert text.count(right) == 1
    (tmp_path / "peer" / file).write_text(text.replace(right, wrong))
    assert failures(results(f"node {shlex.quote(str(tmp_path / 'peer' / 'peer.js'))}", function))


def test_a_known_deviation_of_a_command_fails_with_its_id() -> None:
    found = results(DEVIATING, "c_skip", "c_noise")
    # At large levels the deviation's value is right to float32.
    assert {result.deviation for result in found if result.status == "fail" and result.kind in FAILING} == {"EdmSkip"}
    assert sum(result.deviation == "EdmSkip" for result in found) >= 5
    assert statuses(found, "c_noise") == {"pass"}


# Answers each call with an error that has the call.
ECHO = """
import json, sys
for line in sys.stdin:
    call = json.loads(line)
    print(json.dumps({"id": call.pop("id"), "error": json.dumps(call)}), flush=True)
"""


def sent(function: str, arguments: dict[str, object]) -> object:
    """Return the call that a command receives."""
    decoded_arguments = {name: decoded(value) for name, value in arguments.items()}
    with ExternalTarget(shlex.join([*PYTHON, "-c", ECHO])) as peer, pytest.raises(RefusedError) as refused:
        getattr(peer, function)(**decoded_arguments)
    return json.loads(str(refused.value))


def test_commands_are_called_for_every_function() -> None:
    assert ExternalTarget.functions() == functions()
    with ExternalTarget(GOOD) as peer, pytest.raises(AttributeError, match="expected one of"):
        peer.student(x=torch.ones(1))


@pytest.mark.parametrize("function", ["edit", "heun_step", "consistency_training_loss", "search_intermediate_sigma"])
def test_functions_among_the_arguments_are_sent_as_the_vector_has_them(function: str) -> None:
    arguments = vectors(function)[0].arguments
    assert sent(function, arguments) == {"function": function, "args": arguments}


@pytest.mark.parametrize("encoding", [{"generated": {"seed": 0, "shape": [3], "below": 8}}, {"levels": 161}])
def test_large_arguments_are_sent_as_the_vector_has_them(encoding: dict[str, object]) -> None:
    assert sent("uniform_pmf", {"sigmas": encoding}) == {"function": "uniform_pmf", "args": {"sigmas": encoding}}


def test_an_operator_is_asked_for_its_value_at_a_tensor() -> None:
    script = """
import json, sys
for line in sys.stdin:
    call = json.loads(line)
    x = call["apply"]["forward"]["tensor"] if "apply" in call else "no value"
    print(json.dumps({"id": call["id"], "value": x}), flush=True)
"""
    command = shlex.join([*PYTHON, "-c", script])
    found = results(command, "inpainting_operator")
    assert len(found) == len(vectors("inpainting_operator"))
    assert {result.status for result in found} == {"pass"}
    refused = [result for result in results(command, "super_resolution_operator") if "patch" in result.message]
    assert all("should be refused" in result.message for result in refused)
    assert refused


def test_rejections_and_missing_functions_raise_different_errors() -> None:
    with ExternalTarget(GOOD) as peer:
        with pytest.raises(RefusedError, match=r"^needs dim >= 1$"):
            peer.pseudo_huber_constant(dim=0)
        with pytest.raises(MissingError, match=r"^no function c_in$"):
            peer.c_in(sigma=torch.ones(1))
        assert peer.pseudo_huber_constant(dim=4) == pytest.approx(0.00108)


@pytest.mark.parametrize(
    ("instead", "message"),
    [
        ("os.write(2, b'warming'); time.sleep(60)", "did not answer within 0.8 s; its last line of errors: 'warming'"),
        ("sys.exit(3)", "the command ended with exit status 3 and did not answer"),
        ("sys.exit(0)", "the command ended with exit status 0 and did not answer"),
        ("raise RuntimeError('no')", "exit status 1 and did not answer; its last line of errors: 'RuntimeError: no'"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the command was killed by SIGSEGV and did not answer"),
        ("print('{\"id\"', end='', flush=True); sys.exit(4)", "ended with exit status 4 and did not answer"),
        ("print('hello', flush=True)", "the command sent 'hello', which is not JSON"),
        ("print(flush=True)", "the command sent '', which is not JSON"),
        ("print('[' * 100000, flush=True)", "which is not JSON"),
        ("print('9' * 5000, flush=True)", "which is not JSON"),
        ("os.write(1, bytes([255, 254, 10]))", "which is not JSON"),
        ("print('\\x1b[2J', flush=True)", "the command sent '?[2J', which is not JSON"),
        ("print(3, flush=True)", "the command sent '3', which is not a JSON object"),
        ("say(id=id - 1, value=[1.0])", ", whose id is not "),
        ("say(id=str(id), value=[1.0])", ", whose id is not "),
        ("say(value=[1.0])", ", whose id is not "),
        ("say(id=id)", ", without value, error (a text) or missing"),
        ("say(id=id, error=None)", ", without value, error (a text) or missing"),
        ("say(id=id, value=[1.0, None])", "the command sent the value '[1.0, None]', which is not a number"),
        ("say(id=id, value=[[1.0], [1.0, 2.0]])", "which is not a number, nested lists of numbers"),
        ("say(id=id, value={'callback': 'bend', 'a': 1.0, 'b': 1.0})", "which is not a number, nested lists"),
        ("say(id=id, value={'tensor': [1.0], 'dtype': 'float63'})", "which is not a number, nested lists"),
        ("say(id=id, value=10**400)", "which is not a number, nested lists"),
        ("[os.write(1, b'x' * 65536) for _ in range(1000)]", "wrote more than 4 MiB without an end of line"),
        ("[print('x') for _ in range(10**8)]", "the command sent 'x', which is not JSON"),
        ("[say(id=id, value=[1.0]) for _ in range(10**8)]", ", whose id is not "),
        ("[os.write(2, b'x' * 65536) for _ in range(10**8)]", "the command did not answer within 0.8 s"),
        ("os.close(1); time.sleep(60)", "the command closed its standard output and did not answer"),
        ("os.close(0); time.sleep(60)", "the command did not answer within 0.8 s"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", "within 0.8 s; check that it flushes "),
        ("subprocess.Popen(['sleep', '60']); sys.exit(5)", "the command ended with exit status 5 and did not answer"),
        ("os.fork() and sys.exit(6); born(); time.sleep(60)", "ended with exit status 6 and did not answer"),
    ],
)  # fmt: skip
def test_a_broken_command_fails_with_a_clear_message_and_its_other_functions_are_checked(
    pids: Path, monkeypatch: pytest.MonkeyPatch, instead: str, message: str
) -> None:
    monkeypatch.setattr(module, "TRIES_OF_A_FUNCTION", 1)
    start = time.monotonic()
    found = results(broken(pids, instead), "c_in", OTHER, seconds=0.8)
    assert time.monotonic() - start < 8
    # Only the first of a flood of correct lines is valid: the others do not belong to a call.
    assert statuses(found, "c_in") <= ({"fail", "pass"} if "10**8" in instead else {"fail"})
    assert {result.status for result in found if result.id in ("c_in#8", "c_in#13")} == {"fail"}
    assert message in " ".join(failures(found)).replace("\n", " ")
    assert "not called: the command had failed for c_in 1 times" in failures(found)[-1]
    assert statuses(found, OTHER) == {"pass"}


def test_a_command_that_always_hangs_is_restarted_a_few_times_only(pids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIES_IN_A_ROW", 4)
    found = results(broken(pids, "pass", at_start=HANG), "c_in", OTHER, "c_out", seconds=0.5)
    assert {result.status for result in found} == {"fail"}
    assert sum("did not answer within 0.5 s" in message for message in failures(found)) == 4
    assert "not called: the command had failed 4 times in a row" in failures(found)[-1]
    assert len(pids.read_text().split()) <= 4


def test_a_command_that_exits_at_once_fails_every_row(pids: Path) -> None:
    found = results(broken(pids, "pass", at_start="sys.exit('no licence')"), "c_in", OTHER)
    assert {result.status for result in found} == {"fail"}
    assert "exit status 1 and did not answer; its last line of errors: 'no licence'" in failures(found)[0]


def test_a_command_that_fails_once_is_restarted(pids: Path) -> None:
    found = results(broken(pids, "sys.exit(3) if id == 9 else say(id=id, error='')"), OTHER, "c_in")
    assert statuses(found, OTHER) == {"pass"}
    assert "exit status 3" in failures(found)[0]
    refused = [result.status for result in found if result.id in ("c_in#8", "c_in#13")]
    assert refused == ["pass", "pass"]
    assert len(pids.read_text().split()) == 2


def test_a_command_that_loses_a_function_fails(pids: Path) -> None:
    found = results(broken(pids, "say(id=id, error='') if id < 3 else say(id=id, missing=True)"), "c_in")
    assert "reports c_in as missing, which it had computed before" in failures(found)[2]
    assert {result.status for result in found} == {"fail"}


@pytest.mark.parametrize("words", ["no/such/command at all", str(PEERS), ""])
def test_a_command_that_cannot_be_started_is_a_usage_error(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(ExternalTargetError, match=r"cannot be started: |expected a command"),
        ExternalTarget(words),
    ):
        pass
    assert main(["--exec", words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["python 'peer.py", "cat \0"])
def test_an_invalid_command_line_is_rejected(command: str) -> None:
    with (
        pytest.raises(ExternalTargetError, match=r"is not a command: No closing quotation|embedded null byte"),
        ExternalTarget(command),
    ):
        pass


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_call_must_have_a_time_limit(seconds: float) -> None:
    with pytest.raises(ExternalTargetError, match="--seconds: expected a number > 0"):
        ExternalTarget(GOOD, seconds=seconds)


def test_an_interrupted_check_leaves_no_process_behind(pids: Path) -> None:
    command = broken(pids, "born(); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    runs = {
        number: subprocess.Popen(
            [sys.executable, "-m", "ict_ref.verify", "--exec", command, "--only", "c_in", "--seconds", "60"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        deadline = time.monotonic() + 120  # several test runs may share the processor
        # Each records its number at its start and at its first call.
        while not pids.exists() or len(pids.read_text().split()) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for number, run in runs.items():
            run.send_signal(number)
        for run in runs.values():
            assert run.wait(60) != 0
    finally:
        for run in runs.values():
            run.kill()
            run.wait()


def test_a_command_that_has_ended_does_not_end_the_check(pids: Path) -> None:
    command = broken(pids, "os.close(0); sys.exit(3)", at_start="os.close(0); sys.exit(3)")
    done = subprocess.run(
        [sys.executable, "-m", "ict_ref.verify", "--exec", command, "--only", "c_in"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    valued = sum(not is_refusal(vector) for vector in vectors("c_in"))
    assert f"\nWRONG  c_in  {valued} of {valued}  " in done.stdout
    assert "the command ended with exit status 3 and did not answer" in done.stdout


def test_main_checks_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--exec", GOOD, "--only", "c_noise", "c_in"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{GOOD}: 1 functions in ")
    assert f"right  c_noise {len(vectors('c_noise'))}\n" in out
    assert "1 functions missing" in out
    assert main(["--exec", DEVIATING, "--only", "c_skip"]) == 1
    assert "EdmSkip" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "TARGET: expected a value, got nothing; see python -m ict_ref.verify --help"),
        (["ict_ref.formulas", "--exec", GOOD], "unexpected argument ict_ref.formulas"),
        (["exec", GOOD, "--only", "denoised"], "--only: expected names of ict_ref.formulas, got denoised"),
    ],
)
def test_a_target_is_a_module_or_a_command(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2], torch.tensor([1, 2])),
        ([True, False], torch.tensor([True, False])),
        ([1, 2.5, "nan"], torch.tensor([1, 2.5, torch.nan], dtype=torch.float64)),
        ([2**63], torch.tensor([2.0**63], dtype=torch.float64)),
        ([], torch.tensor([], dtype=torch.float64)),
        ([[0.1]], torch.tensor([[0.1]], dtype=torch.float64)),
        ({"tensor": [0.5], "dtype": "float32"}, torch.tensor([0.5])),
    ],
)
def test_lists_become_tensors_of_the_narrowest_dtype(value: object, expected: torch.Tensor) -> None:
    found = received(value)
    assert isinstance(found, torch.Tensor)
    assert found.dtype == expected.dtype
    assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))


def test_numbers_and_several_values_are_themselves() -> None:
    assert [received(value) for value in (3, 0.5, True, None, "0.5")] == [3, 0.5, True, None, "0.5"]
    assert received({"tuple": [1.0, {"tuple": [2]}]}) == (1.0, (2,))
    assert received({"float": "inf"}) == float("inf")
    assert received(10**20) == 1e20


def test_a_request_larger_than_a_pipe_is_sent_and_answered() -> None:
    with ExternalTarget(GOOD) as peer:
        got = peer.c_noise(sigma=torch.ones(20_000, dtype=torch.float64))
    assert isinstance(got, torch.Tensor)
    assert torch.equal(got, torch.zeros(20_000, dtype=torch.float64))


def test_the_handling_of_broken_pipes_is_put_back() -> None:
    before = signal.getsignal(signal.SIGPIPE)
    with ExternalTarget(GOOD):
        assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGPIPE) == before
