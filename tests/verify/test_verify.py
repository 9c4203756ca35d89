"""Checks of implementations, right and wrong: what passes, what fails, and which deviation is named."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import torch
from tests.support.wrong_implementations import WRONG
from tests.verify.implementations import numpy_module
from tools.vectors import generate
from torch import Tensor

import ict_ref.formulas
from ict_ref.equations import formulas
from ict_ref.verify import parametrize_with_checks
from ict_ref.verify.__main__ import main
from ict_ref.verify.checks import run_laws
from ict_ref.verify.checks.check import Calling, check, check_function
from ict_ref.verify.checks.law import BrokenError, close
from ict_ref.verify.laws import LAWS
from ict_ref.verify.report.finding import findings
from ict_ref.verify.report.report import graded
from ict_ref.verify.vectors.load import deviations, functions, vectors
from ict_ref.verify.vectors.values import ARRAYS

pytestmark = pytest.mark.usefixtures("few_examples")

PEERS = Path(__file__).parent / "implementations"
ROOT = Path(__file__).parents[2]


def namespace(**functions: Callable[..., object]) -> object:
    return types.SimpleNamespace(**functions)


def statuses(implementation: object, *only: str) -> dict[str, str]:
    return {result.id: result.status for result in check(implementation, only=only)}


def messages(implementation: object, *only: str) -> list[str]:
    return [result.message for result in check(implementation, only=only) if result.status == "fail"]


def test_the_reference_passes_every_vector() -> None:
    assert messages(ict_ref.formulas) == []


def test_every_function_has_vectors_of_its_source() -> None:
    sources = {formula.name: formula.source for formula in formulas()}
    assert set(functions()) == set(sources)
    for name, source in sources.items():
        assert {vector.source for vector in vectors(name)} == {source}
        assert all(vector.comment for vector in vectors(name))


@pytest.mark.parametrize("name", functions())
def test_the_vectors_are_of_their_schema(name: str) -> None:
    schema = json.loads((generate.DATA / "schema.json").read_text())
    jsonschema.validate(json.loads((generate.DATA / f"{name}.json").read_text()), schema)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda vector: vector.pop("comment"),
        lambda vector: vector.pop("rtol"),
        lambda vector: vector.update(result="invalid"),
        lambda vector: vector.update(value=[1.0]),
        lambda vector: vector.update(values=1.0),
        lambda vector: vector.update(arguments={"x": "one"}),
    ],
)
def test_a_vector_that_is_not_of_the_schema_is_found(spoil: Callable[[dict[str, Any]], object]) -> None:
    book = json.loads((generate.DATA / "c_in.json").read_text())
    spoil(book["vectors"][0])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(book, json.loads((generate.DATA / "schema.json").read_text()))


def test_every_known_deviation_has_a_value_in_the_vectors_and_an_implementation() -> None:
    shown = {deviation for name in functions() for vector in vectors(name) for deviation in vector.deviations}
    assert set(deviations()) == shown == set(WRONG)
    assert all(deviation.function in functions() for deviation in deviations().values())


@pytest.mark.parametrize("deviation", sorted(WRONG))
def test_a_known_deviation_fails_with_its_id(deviation: str) -> None:
    name = deviations()[deviation].function
    failed = [result for result in check(namespace(**{name: WRONG[deviation]}), only=[name]) if result.status == "fail"]
    named = {result.deviation for result in failed}
    assert deviation in named
    [one] = [result for result in failed if result.deviation == deviation][:1]
    assert deviations()[deviation].what in one.message
    assert deviations()[deviation].effect in one.message


def spoiled(value: Any) -> Any:
    """Return a value that is a little wrong."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float) and math.isinf(value):
        return math.copysign(sys.float_info.max, value)
    if isinstance(value, float):
        return 1 - 1e-6 if value == 0 else value * (1 + 1e-6)
    if isinstance(value, Tensor):
        if value.dtype == torch.bool:
            return ~value
        return value + 1 if not value.is_floating_point() else value * (1 + 1e-6) + 1e-6
    if isinstance(value, tuple):
        return tuple(map(spoiled, value))
    return ict_ref.formulas.Operator(lambda x: spoiled(value.forward(x)), lambda c: spoiled(value.inverse(c)))


@pytest.mark.parametrize("name", functions())
def test_a_value_that_is_a_millionth_off_fails(name: str) -> None:
    right = getattr(ict_ref.formulas, name)
    found = statuses(namespace(**{name: lambda **arguments: spoiled(right(**arguments))}), name)
    valid = [vector.name for vector in vectors(name) if vector.result != "invalid"]
    assert sum(found[one] == "fail" for one in valid) > len(valid) / 2


@pytest.mark.parametrize("value", [0.0, -math.inf, math.nan, sys.float_info.max])
def test_only_infinity_is_infinity(value: float) -> None:
    [first] = [vector.name for vector in vectors("ct_gradient_divergence") if vector.value == {"float": "inf"}][:1]
    assert statuses(namespace(ct_gradient_divergence=lambda **_: value), "ct_gradient_divergence")[first] == "fail"
    with pytest.raises(BrokenError):
        close(value, math.inf, rtol=1e-9)
    close(math.inf, math.inf)


@pytest.mark.parametrize("name", [name for name in functions() if any(v.result == "invalid" for v in vectors(name))])
def test_what_must_be_refused_fails_where_it_is_taken(name: str) -> None:
    def careless(**arguments: object) -> object:
        try:
            return getattr(ict_ref.formulas, name)(**arguments)
        except Exception:  # what the import hook refuses is refused, too
            return 0.0

    wrong = [vector.name for vector in vectors(name) if vector.result == "invalid"]
    found = statuses(namespace(**{name: careless}), name)
    assert all(found[one] == "fail" for one in wrong)
    assert "should be refused: " in " ".join(messages(namespace(**{name: careless}), name))


def test_an_implementation_in_numpy_passes_and_what_it_lacks_is_missing() -> None:
    found = list(check(numpy_module, arrays=ARRAYS["numpy"]))
    assert {result.function for result in found if result.status == "pass"} == {
        "sigma_grid", "lognormal_pmf", "pseudo_huber", "one_step_sample",
    }  # fmt: skip
    assert [result.message for result in found if result.status == "fail"] == []
    assert sum(result.status == "missing" for result in found) == len(functions()) - 4


def raises(**_: object) -> float:
    raise RuntimeError("out of order\nin two lines")


def exits(**_: object) -> float:
    sys.exit(3)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (raises, "raised RuntimeError: out of order in two lines; should be "),
        (exits, "raised SystemExit: 3; should be "),
        (lambda dim: None, "of type NoneType, not a number or an array, got None, should be "),
        (lambda dim: "0.03", "of type str, not a number or an array, got 0.03, should be "),
        (lambda dim: [0.03], "of shape [1], not [], got "),
        (lambda dim: float("nan"), "got nan, should be "),
        (lambda dim: complex(0.03), "complex, got "),
    ],
)
def test_a_broken_function_has_a_clear_row_and_the_others_still_run(
    broken: Callable[..., object], message: str
) -> None:
    implementation = namespace(pseudo_huber_constant=broken, sigma_grid=ict_ref.formulas.sigma_grid)
    found = list(check(implementation, only=["pseudo_huber_constant", "sigma_grid"]))
    failed = [result.message for result in found if result.status == "fail"]
    assert failed
    assert any(message in line for line in failed)
    assert all(result.status == "pass" for result in found if result.function == "sigma_grid")


def test_a_function_that_changes_its_arguments_fails() -> None:
    def huber(x: Tensor, y: Tensor, *, c: float) -> Tensor:
        value = ict_ref.formulas.pseudo_huber(x, y, c=c)
        x += 1
        return value

    assert any(
        "changed its argument x" in message for message in messages(namespace(pseudo_huber=huber), "pseudo_huber")
    )


def test_a_whole_number_that_comes_as_a_float_fails() -> None:
    def levels(**arguments: Any) -> float:
        return float(ict_ref.formulas.exponential_curriculum(**arguments))

    lines = messages(namespace(exponential_curriculum=levels), "exponential_curriculum")
    assert any("of type float, not a whole number, got 11.0, should be 11" in line for line in lines)


def test_an_acceptable_alternative_passes() -> None:
    def decay(n: int, *, s0: int, mu0: float) -> float:
        return ict_ref.formulas.teacher_ema_decay(n - 1, s0=s0, mu0=mu0)

    found = {
        result.id: result.status for result in check(namespace(teacher_ema_decay=decay), only=["teacher_ema_decay"])
    }
    acceptable = [vector.name for vector in vectors("teacher_ema_decay") if vector.result == "acceptable"]
    assert acceptable
    assert all(found[name] == "note" for name in acceptable)
    [finding, *_] = findings(graded(check(namespace(teacher_ema_decay=decay), only=["teacher_ema_decay"]), False))
    assert finding.kind == "note"
    assert not finding.fails
    assert "N - 1 in place of N" in finding.cause


def run(*arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ict_ref.verify", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "only", [["c_in", "pseudo_huber_constant", "sigma_grid"], pytest.param([], marks=pytest.mark.thorough)]
)
def test_the_command_passes_the_reference(only: list[str]) -> None:
    status, out, err = run("ict_ref.formulas", "--strict", *(["--only", *only] if only else []))
    assert (status, err) == (0, "")
    assert out.startswith(f"ict_ref.formulas, version {ict_ref.__version__}")
    assert re.fullmatch(r"right  \d+ functions; status 0", out.splitlines()[-1])


@pytest.mark.slow
def test_everything_that_the_command_tries_on_the_reference_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ict_ref.formulas", "--strict"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"right  {len(functions())} functions; status 0"
    assert "note" not in out


def test_the_command_names_the_known_deviation_of_a_file() -> None:
    status, out, err = run(str(PEERS / "elementwise.py"), "--only", "pseudo_huber")
    assert (status, err) == (1, "")
    assert re.search(
        r"^WRONG  pseudo_huber  \d+ of \d+  Elementwise \[iCT, Section 3.3, Eq. \(8\)\]$", out, re.MULTILINE
    )
    assert "pseudo_huber: the norm is taken per value, then averaged" in out


def test_a_module_of_the_working_directory_and_an_attribute_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Losses:\n    def pseudo_huber_constant(dim):\n        return 0.00054 * dim**0.5\n"
    )
    arguments = ("mine:Losses", "--only", "pseudo_huber_constant")
    assert run(*arguments, cwd=tmp_path)[0] == 0
    status, out, _ = run(*arguments, "--strict", cwd=tmp_path)
    assert status == 1  # dim = 0 is not refused
    assert "should be refused" in out


def test_reports_for_programs_have_the_same_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(PEERS / "elementwise.py"), "--json", str(tmp_path / "r.json"), "--junit", str(tmp_path / "r.xml")]
    assert main(arguments) == 1
    report = json.loads((tmp_path / "r.json").read_text())
    assert {
        *("schema", "ict_ref", "vectors", "vectors_sha256", "target", "version", "file", "file_sha256", "commit"),
        *("torch", "numpy", "hypothesis", "arrays", "dtype", "device", "seed", "laws", "duration"),
        *("exit_status", "summary", "findings", "results"),
    } == set(report)
    assert report["file_sha256"] == hashlib.sha256((PEERS / "elementwise.py").read_bytes()).hexdigest()
    assert report["exit_status"] == 1
    [failing] = [finding for finding in report["findings"] if finding["fails"]]
    assert failing["deviations"] == ["Elementwise"]
    assert failing["functions"] == ["pseudo_huber"]
    assert failing["seen"][0]["repository"] == "Kinyugo/consistency_models"
    failed = {result["id"] for result in report["results"] if result["status"] == "fail"}
    assert failed == set(failing["checks"])
    assert report["summary"]["fail"] == sum(result["status"] == "fail" for result in report["results"])
    fields = {"id", "function", "source", "status", "got", "expected", "rtol", "max_rel_error", "deviation"}
    fields |= {"counterexample", "message", "kind", "seconds"}
    assert all(fields == set(result) for result in report["results"])
    assert {result["status"] for result in report["results"]} == {"pass", "fail", "skipped", "note", "missing"}
    suite = ET.parse(tmp_path / "r.xml").getroot()  # noqa: S314 - ours
    assert int(suite.get("failures", "0")) == report["summary"]["fail"]
    cases = suite.findall("testcase")
    assert len(cases) == len(report["results"])
    assert {(case.get("classname"), case.get("name")) for case in cases} == {
        (result["function"], result["id"]) for result in report["results"]
    }
    assert all(float(case.get("time", "")) >= 0 for case in cases)
    assert any(float(case.get("time", "")) > 0 for case in cases)
    assert capsys.readouterr().out.splitlines()[-1] == "WRONG  1 of 1 functions; status 1"
    assert main(arguments) == 1  # its own files are replaced


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.such.module"], "no.such.module cannot be imported: ModuleNotFoundError"),
        (["nowhere.py"], "nowhere.py is not a file"),
        (["ict_ref.formulas:nothing"], "ict_ref.formulas does not have nothing"),
        ([":x"], "TARGET: expected a module or a file"),
        (["ict_ref.formulas", "--audit", "step", "--only", "l1"], "unknown option --only"),
        (["ict_ref.formulas", "--trace-inputs"], "unexpected argument ict_ref.formulas"),
        (["ict_ref.formulas", "--only", "nonsense"], "--only: expected names of ict_ref.formulas, got nonsense"),
        (
            ["ict_ref.formulas", "--json", "/no/such/folder/x.json"],
            "--json: expected a file in an existing folder, got /no/such/folder/x.json. ",
        ),
        (["ict_ref.formulas", "--waivers", "/no/such/file"], "/no/such/file: No such file"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ["raise RuntimeError('at import')", "import sys; sys.exit(3)", "def f(:"])
def test_a_module_that_cannot_be_imported_is_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text(text)
    assert main([str(tmp_path / "broken.py")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_function_is_a_failure_only_if_all_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(PEERS / "numpy_module.py")
    assert main([path, "--arrays", "numpy"]) == 0
    assert main([path, "--arrays", "numpy", "--require-all"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"; {len(functions()) - 4} missing; status 1")


def test_a_waiver_with_a_reason_lets_a_failure_pass_and_a_stale_one_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waivers, path = tmp_path / "waivers.toml", str(PEERS / "elementwise.py")
    waivers.write_text('[[waiver]]\nid = "pseudo_huber"\nreason = "known, issue 12"\n')
    assert main([path, "--waivers", str(waivers)]) == 0
    assert "(waived: known, issue 12)" in capsys.readouterr().out
    assert main(["ict_ref.formulas", "--only", "pseudo_huber", "--waivers", str(waivers)]) == 1
    assert "pseudo_huber: waived, but it does not fail; remove the waiver" in capsys.readouterr().out
    for text in ('[[waiver]]\nid = "pseudo_huber"\n', "no toml", 'waiver = "x"\n'):
        waivers.write_text(text)
        assert main([path, "--waivers", str(waivers)]) == 2


def test_code_that_leaves_checks_to_its_caller_can_be_checked_by_its_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bare.py").write_text(
        "def c_in(sigma, *, sigma_data=0.5):\n    return 1 / (sigma**2 + sigma_data**2) ** 0.5\n"
    )
    arguments = [str(tmp_path / "bare.py"), "--only", "c_in"]
    assert main(arguments) == 0
    assert "arguments outside the domain that 1 functions accept" in capsys.readouterr().out
    assert main([*arguments, "--strict"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"FAIL   c_in  \d+ of \d+  accepts \d+ arguments outside its domain", out)
    assert "should be refused" in out
    assert main([*arguments, "--values-only", "--strict"]) == 0
    assert "outside" not in capsys.readouterr().out


def test_a_function_can_be_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "losses.py").write_text(
        "from ict_ref.formulas import l1\n\nclass Loss:\n    huber = staticmethod(l1)\n"
    )
    assert main([f"{tmp_path / 'losses.py'}:Loss.huber", "--only", "l1"]) == 0
    assert "\nright  l1 " in capsys.readouterr().out


def test_with_only_some_functions_only_their_waivers_can_be_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.toml").write_text('[[waiver]]\nid = "pseudo_huber#17"\nreason = "known"\n')
    assert main(["ict_ref.formulas", "--only", "c_in", "--waivers", str(tmp_path / "w.toml")]) == 0
    assert main(["ict_ref.formulas", "--only", "pseudo_huber", "--waivers", str(tmp_path / "w.toml")]) == 1
    capsys.readouterr()


def test_what_is_not_tried_has_no_stale_waivers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("pseudo_huber#17", "pseudo_huber:lies_below_the_norm", "trace:loss", "step:loss")
    (tmp_path / "w.toml").write_text("".join(f'[[waiver]]\nid = "{name}"\nreason = "known"\n' for name in names))
    (tmp_path / "mine.json").write_text('{"n": 21}')
    stale = {}
    for mode in (["--trace", str(tmp_path / "mine.json")], ["ict_ref.formulas", "--only", "pseudo_huber"]):
        main([*mode, "-v", "--values-only", "--waivers", str(tmp_path / "w.toml")])
        out = capsys.readouterr().out.splitlines()
        lines = [line.removeprefix("fail     ") for line in out if line.startswith("fail ")]
        stale[mode[0]] = [line.split(": waived, but")[0] for line in lines if ": waived, but it does not fail" in line]
    assert stale == {"--trace": ["trace:loss"], "ict_ref.formulas": ["pseudo_huber:lies_below_the_norm"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[waivers]]\nid = "l1"\nreason = "x"\n', "expected only [[waiver]], got waivers"),
        ('[[waiver]]\nid = "c_inn"\nreason = "x"\n', "such as pseudo_huber#3 as id, got c_inn"),
    ],
)
def test_an_invalid_waiver_is_rejected(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.toml").write_text(text)
    assert main(["ict_ref.formulas", "--only", "l1", "--waivers", str(tmp_path / "w.toml")]) == 2
    assert message in capsys.readouterr().err


def test_a_target_without_the_chosen_functions_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(PEERS / "elementwise.py"), "--only", "c_in", "c_out"]) == 3
    assert "does not have any of c_in, c_out\n" in capsys.readouterr().err
    assert main(["math"]) == 3
    err = capsys.readouterr().err
    assert "math does not have any of the functions" in err
    assert "`python -m ict_ref.verify audit step` checks a step" in err


def test_wrong_names_of_parameters_are_a_failure() -> None:
    def c_in(s: Tensor, *, sigma_data: float = 0.5) -> Tensor:
        return ict_ref.formulas.c_in(s, sigma_data=sigma_data)

    found = list(check(namespace(c_in=c_in), only=["c_in"]))
    assert {(result.status, result.kind) for result in found} == {("fail", "type")}
    assert all("cannot be called by the names of the parameters: " in result.message for result in found)
    assert list(run_laws.check_laws(namespace(c_in=c_in), only=["c_in"])) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: torch.manual_seed(0), "changed torch's global state: the random state"),
        (lambda: torch.set_grad_enabled(False), "changed torch's global state: the gradient mode"),
        (lambda: torch.set_default_dtype(torch.float64), "changed torch's global state: the default dtype"),
    ],
)
def test_a_change_of_the_global_state_is_reported_and_undone(spoil: Callable[[], object], message: str) -> None:
    def constant(dim: int) -> float:
        spoil()
        return ict_ref.formulas.pseudo_huber_constant(dim)

    torch.rand(1)
    before = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()
    lines = messages(namespace(pseudo_huber_constant=constant), "pseudo_huber_constant")
    assert any(message in line for line in lines)
    law = next(law for law in LAWS if law.name == "pseudo_huber_constant:rises")
    assert message in run_laws.check_law(law, constant).message
    now = torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()
    assert torch.equal(before[0], now[0])
    assert before[1:] == now[1:]


def test_a_test_suite_can_have_a_check_per_vector(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(PEERS)!r})\n"
        "import elementwise\n"
        "from ict_ref.verify import parametrize_with_checks\n\n"
        "@parametrize_with_checks(elementwise)\n"
        "def test_mine(check):\n"
        "    check()\n\n"
        "@parametrize_with_checks(elementwise, waivers={'pseudo_huber#1': 'known'})\n"
        "def test_waived(check):\n"
        "    check()\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "Elementwise: " in done.stdout
    assert "test_mine[pseudo_huber#1]" in done.stdout
    assert "1 xfailed" in done.stdout


def test_a_namespace_without_functions_is_rejected() -> None:
    with pytest.raises(ValueError, match="expected an implementation"):
        parametrize_with_checks(types.SimpleNamespace())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_weights_of_one_interval_too_few_are_wrong(dtype: torch.dtype) -> None:
    def weights(sigmas: Tensor) -> Tensor:
        found = ict_ref.formulas.uniform_weights(sigmas.double()).to(sigmas.dtype)
        return found if len(sigmas) < 1000 else found[1:]

    found = check_function(weights, "uniform_weights", Calling(dtype=dtype))
    assert [result.message for result in found if "of shape [1279], not [1280]" in result.message]
