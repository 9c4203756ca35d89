"""Verdicts on right and wrong implementations, and the report of each format."""

import json
import math
import re
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from tools import verify_report
from torch import Tensor

import ict_ref.formulas
from ict_ref.verify.__main__ import main
from ict_ref.verify.checks.check import Calling, check, check_function
from ict_ref.verify.checks.explain import Cause
from ict_ref.verify.checks.known_deviations import COMBINATIONS, form
from ict_ref.verify.checks.result import FAILING, Result
from ict_ref.verify.report.finding import findings, fix_of, seen_in
from ict_ref.verify.report.report import graded
from ict_ref.verify.target.arrays import as_tensor, stored
from ict_ref.verify.target.call import applied, recognised
from ict_ref.verify.vectors.load import deviations, functions, is_refusal, vectors
from ict_ref.verify.vectors.values import NUMPY, TORCH, decoded

pytestmark = pytest.mark.usefixtures("few_examples")

PEERS = Path(__file__).parent / "implementations"


def namespace(**functions: Callable[..., object]) -> object:
    return types.SimpleNamespace(**functions)


def wrong(name: str, function: Callable[..., object], **calling: Any) -> list[Result]:
    """Return the wrong results of one function's vectors."""
    found = check_function(function, name, Calling(**calling))
    return [result for result in found if result.status == "fail" and result.kind in FAILING]


def cause(name: str, function: Callable[..., object]) -> str | None:
    """Return the one cause that is named for a function's wrong values."""
    causes = {result.deviation for result in wrong(name, function) if result.got is not None}
    assert len(causes) == 1
    return causes.pop()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Return a function that writes a module of this text and returns its path."""

    def written(text: str) -> str:
        path = tmp_path / "target_of_a_test.py"
        path.write_text(text)
        return str(path)

    yield written
    sys.modules.pop("target_of_a_test", None)


# Verdicts.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unchecked_numpy.py", "unchecked_float32.py"])
def test_a_right_implementation_without_checks_ends_with_status_0(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    assert main([str(PEERS / name), "--json", str(path)]) == 0, capsys.readouterr().out
    report = json.loads(path.read_text())
    assert [finding for finding in report["findings"] if finding["fails"]] == []
    assert {finding["kind"] for finding in report["findings"]} <= {"precision", "accepts", "type"}
    assert main([str(PEERS / name), "--only", "c_in", "c_out", "--strict"]) == 1


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_small_probabilities_in_float32_are_a_matter_of_precision(
    seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(PEERS / "copied_library.py")
    assert main([path, "--only", "lognormal_pmf", "--seed", seed]) == 0, capsys.readouterr().out
    assert "right to float32" in capsys.readouterr().out
    # A law that is broken by a value that is wrong to float32 too remains a failure.
    assert main([path, "--only", "pseudo_huber", "--seed", seed]) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", functions())
def test_the_reference_in_a_narrow_dtype_is_right_at_every_vector(name: str, dtype: torch.dtype) -> None:
    if dtype == torch.bfloat16 and name in ("frechet_distance", "precision_recall"):
        pytest.skip("torch does not have eigenvalues and distances in bfloat16 on the CPU")
    if dtype == torch.bfloat16 and name in ("ect_mapping", "gap_weights", "consistency_tuning_loss"):
        pytest.skip("both levels of a late stage are one number in bfloat16, which is refused")

    def narrowed(value: object) -> object:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(dtype)
        return float(torch.tensor(value).to(dtype)) if isinstance(value, float) else value

    def function(**arguments: object) -> object:
        right, rounded = getattr(ict_ref.formulas, name), {key: narrowed(value) for key, value in arguments.items()}
        try:
            value = right(**rounded)
        except TypeCheckError:  # the types of a schedule are float64
            value = right(**{key: widened(value) for key, value in rounded.items()})
        return tuple(map(narrowed, value)) if isinstance(value, tuple) else narrowed(value)

    def widened(value: object) -> object:
        return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

    assert [result.message for result in wrong(name, function, dtype=dtype)] == []
    if dtype == torch.float32:  # and with float64 arguments
        assert [result.message for result in wrong(name, function)] == []


@pytest.mark.parametrize("name", ["c_in", "c_out", "c_skip", "sigma_grid", "lognormal_pmf", "pseudo_huber", "renoise"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_value_that_is_a_thousandth_off_is_wrong_in_every_dtype(name: str, dtype: torch.dtype) -> None:
    right = getattr(ict_ref.formulas, name)
    found = {result.id for result in wrong(name, lambda **arguments: right(**arguments) * 1.001, dtype=dtype)}
    valued = [
        vector for vector in vectors(name) if not is_refusal(vector) and torch.as_tensor(decoded(vector.value)).any()
    ]
    assert len(found) >= 0.7 * len(valued)


def test_a_wrong_value_elsewhere_is_wrong_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    import ict_ref.verify.checks.check as module

    flagged = tuple(replace(vector, flags=("Elsewhere",)) for vector in vectors("c_in") if not is_refusal(vector))
    monkeypatch.setattr(module, "vectors", lambda name, version=0: flagged)
    found = wrong("c_in", lambda sigma, sigma_data=0.5: sigma)
    assert {result.kind for result in found} == {"elsewhere"}


def test_a_float_for_a_whole_number_is_a_note_that_does_not_hide_a_wrong_value() -> None:
    def levels(**arguments: Any) -> float:
        return float(ict_ref.formulas.exponential_curriculum(**arguments))

    found = check_function(levels, "exponential_curriculum", Calling())
    assert [(result.id, result.kind) for result in found if result.status == "fail" and result.kind != "accepts"] == [
        ("exponential_curriculum:returns_the_type_of_its_formula", "type")
    ]
    assert cause("exponential_curriculum", lambda **arguments: levels(**arguments) + 1) is None


def test_a_side_effect_is_found_once_beside_the_wrong_values() -> None:
    def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
        torch.rand(1)
        return ict_ref.formulas.c_out(sigma, sigma_min=sigma_min, sigma_data=sigma_data) / 2

    found = [r for r in check_function(c_out, "c_out", Calling()) if r.status == "fail"]
    assert cause("c_out", c_out) == "0.5 times the right value everywhere"
    assert [result.id for result in found if result.kind == "type"] == ["c_out:keeps_global_state"]


def test_one_cause_in_two_functions_is_one_finding() -> None:
    def noisy(function: Callable[..., object]) -> Callable[..., object]:
        def call(**arguments: object) -> object:
            torch.rand(1)
            return function(**arguments)

        return call

    names = ("c_in", "c_noise")
    found = check(namespace(**{name: noisy(getattr(ict_ref.formulas, name)) for name in names}), only=names)
    [finding] = findings(graded(found, strict=False))
    assert finding.functions == names
    assert finding.cause == "changes torch's global state"
    assert not finding.fails


def test_a_wrong_signature_is_one_line_and_not_counted(
    target: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = target("def c_in(noise):\n    return 1\n")
    assert main([path]) == 3
    out = capsys.readouterr().out
    assert out.count("c_in cannot") + out.count("cannot be called as c_in(sigma, sigma_data)") == 1
    assert main([path, "--strict"]) == 1


# Causes.


@pytest.mark.parametrize("function", COMBINATIONS)
def test_the_form_of_each_deviation_has_the_values_of_the_vectors(function: str) -> None:
    for name in (name for group in COMBINATIONS[function] for name in group):
        for vector in vectors(function):
            if name in vector.deviations and function != "lognormal_pmf":
                arguments = {key: decoded(value) for key, value in vector.arguments.items()}
                value = form(function, [name])(**arguments)
                got = torch.as_tensor(applied(value, vector) if vector.apply else value).double()
                expected = torch.as_tensor(decoded(vector.deviations[name])).double()
                torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ("boundary_parameterization", ("NoInputScaling", "RawSigmaEmbedded")),
        ("boundary_parameterization", ("SquaredCIn", "ScaledNoise", "EdmCoefficients")),
        ("boundary_parameterization", ("ScaledNoise",)),
        ("lognormal_pmf", ("MeanSign", "UntruncatedPmf")),
        ("multistep_sample", ("SigmaNotRooted", "ClampedSamples")),
        ("positional_embedding", ("CosSinOrder", "HalfMinusOne")),
        ("consistency_training_loss", ("MirroredIndex", "SameNoise")),
    ],
)
def test_several_deviations_at_once_are_named(function: str, names: tuple[str, ...]) -> None:
    assert cause(function, form(function, names)) == " and ".join(names)


def test_a_deviation_in_float32_and_times_a_constant_is_named() -> None:
    def huber(x: Tensor, y: Tensor, *, c: float) -> Tensor:
        return 3 * (((x.float() - y.float()) ** 2 + c**2).sqrt() - c).reshape(len(x), -1).mean(1)

    def exact(x: Tensor, y: Tensor, *, c: float) -> Tensor:
        square = ((x - y) ** 2).reshape(len(x), -1)
        return 3 * (square / ((square + c * c).sqrt() + c)).mean(1)

    assert cause("pseudo_huber", exact) == "Elementwise, 3 times its value"
    assert cause("c_noise", lambda sigma: sigma.float()) == "RawSigmaNoise"
    assert wrong("pseudo_huber", huber)


def test_a_deviation_that_explains_only_some_values_is_not_named() -> None:
    def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
        value = sigma_data * sigma / (sigma**2 + sigma_data**2).sqrt()
        return torch.where(sigma > 1, value + 1, value)

    assert cause("c_out", c_out) is None


def test_a_cause_has_its_deviations_and_its_factor() -> None:
    assert str(Cause(("A", "B"))) == "A and B"
    assert str(Cause((), 1000.0)) == "1000 times the right value everywhere"
    assert str(Cause(("A",), 0.5)) == "A, 0.5 times its value"


def test_every_deviation_has_a_fix_and_its_places_have_commits() -> None:
    assert all(map(fix_of, deviations()))
    places = [place for name in deviations() for place in seen_in(name)]
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", place.repository) for place in places)
    assert all(re.fullmatch("[0-9a-f]{7}", place.commit) and (place.path or not place.line) for place in places)
    assert str(places[0]) == "Kinyugo/consistency_models@2e6618d consistency_models/consistency_models.py:137"


def test_functions_of_several_papers_are_grouped_by_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ict_ref.formulas", "--only", "ect_exponent", "pseudo_huber_constant", "tangent_warmup"]) == 0
    lines = capsys.readouterr().out.splitlines()
    places = [lines.index(f"{paper}:") for paper in ("iCT", "ECT", "sCM")]
    assert places == sorted(places)
    names = ("pseudo_huber_constant", "ect_exponent", "tangent_warmup")
    assert all(name in lines[place + 1] for name, place in zip(names, places, strict=True))
    assert main(["ict_ref.formulas", "--only", "ect_exponent"]) == 0
    assert "ECT:" not in capsys.readouterr().out.splitlines()


# Calls.


def test_a_call_that_does_not_end_is_wrong_and_the_others_are_still_made(
    target: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = target(
        "import ict_ref.formulas as f\n\n\n"
        "def exponential_curriculum(step, *, total_steps, s0=10, s1=1280):\n"
        "    n = s0\n"
        "    while n != s0 << 3 and step > 0:\n        n *= 3\n        n %= 10**9\n"
        "    return f.exponential_curriculum(step, total_steps=total_steps, s0=s0, s1=s1)\n\n\n"
        "c_in = f.c_in\n"
    )
    began = time.monotonic()
    assert main([path, "--only", "exponential_curriculum", "c_in", "--seconds", "0.05", "-v"]) == 1
    assert time.monotonic() - began < 30
    out = capsys.readouterr().out
    assert "no answer in 0.05 s" in out
    assert re.search(r"^right +c_in ", out, re.M)
    assert "not tried: no answer in 0.05 s" in out


def test_prints_of_the_target_are_not_in_the_report_unless_they_are_shown(
    target: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = target(
        "import os, sys\nfrom ict_ref.formulas import c_in as right\nprint('at import')\n\n\n"
        "def c_in(sigma, *, sigma_data=0.5):\n"
        "    print('a call')\n    os.write(1, b'below Python\\n')\n"
        "    sys.stderr.write('an error\\n')\n    os.write(2, b'below stderr\\n')\n"
        "    return right(sigma, sigma_data=sigma_data)\n"
    )
    assert main([path, "--only", "c_in"]) == 0
    out, err = capfd.readouterr()
    printed = ("at import", "a call", "below Python", "an error", "below stderr")
    assert not [text for text in printed if text in out + err]
    sys.modules.pop("target_of_a_test", None)
    assert main([path, "--only", "c_in", "-s"]) == 0
    shown = "".join(capfd.readouterr())
    assert all(text in shown for text in printed)


class Foreign:
    """An array that is neither torch's nor NumPy's, and that both can convert. It is not JAX's: that is not here."""

    def __init__(self, values: object) -> None:
        self.values = np.asarray(values)
        self.shape, self.dtype = self.values.shape, self.values.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(self.values, dtype=dtype)


def test_values_are_compared_that_numpy_can_convert() -> None:
    assert torch.equal(as_tensor(Foreign([1.5, 2.0])), torch.tensor([1.5, 2.0], dtype=torch.float64))
    assert stored(Foreign([1.5])) == {"tensor": [1.5], "dtype": "float64"}
    with pytest.raises(TypeError):
        as_tensor("1.5")

    def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> object:
        return Foreign(ict_ref.formulas.c_in(sigma, sigma_data=sigma_data))

    assert [r for r in check_function(c_in, "c_in", Calling()) if r.status == "fail"] == []
    off = wrong(
        "c_in", lambda sigma, sigma_data=0.5: Foreign(1.01 * ict_ref.formulas.c_in(sigma, sigma_data=sigma_data))
    )
    assert "got [" in off[0].message


def test_the_arrays_of_a_function_are_recognised() -> None:
    first = vectors("c_in")[0]
    assert recognised(ict_ref.formulas.c_in, first) is TORCH
    assert recognised(lambda sigma, sigma_data=0.5: 1 / np.sqrt(sigma**2 + sigma_data**2), first) is NUMPY
    assert recognised(lambda sigma, sigma_data=0.5: np.asarray(sigma), first) is NUMPY
    assert recognised(lambda sigma, sigma_data=0.5: (sigma**2 + sigma_data**2) ** -0.5, first) is None
    assert recognised(lambda sigma, sigma_data=0.5: math.nan / 0, first) is TORCH


# Formats and files.


def report_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([str(PEERS / "elementwise.py"), "--only", "pseudo_huber", *arguments])
    return capsys.readouterr().out


def test_the_formats_have_the_verdict_and_where_it_comes_from(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    markdown = report_of(capsys, "--format", "markdown")
    assert "| WRONG | `pseudo_huber` | " in markdown
    assert "Checked with ict\\_ref" not in markdown
    assert "Checked with ict_ref" in markdown
    assert summary.read_text() == f"before\n{markdown}"
    latex = report_of(capsys, "--format", "latex")
    assert r"pseudo\_huber & " in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    assert "\033" not in report_of(capsys)


def test_a_badge_is_written_for_shields_io(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_of(capsys, "--badge", str(tmp_path / "b.json"))
    badge = json.loads((tmp_path / "b.json").read_text())
    assert badge.keys() == {"schemaVersion", "label", "message", "color"}
    assert (badge["schemaVersion"], badge["label"], badge["color"]) == (1, "iCT formulas", "red")
    assert badge["message"].startswith("0/1 right, vectors ")


@pytest.mark.parametrize("option", ["--json", "--junit", "--badge"])
def test_only_an_earlier_report_is_replaced(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, other = tmp_path / "report", tmp_path / "mine.txt"
    other.write_text("mine")
    for _ in range(2):
        (tmp_path / ".report.0123456789abcdef.tmp").touch()  # of a process that was killed while it wrote
        assert main(["ict_ref.formulas", "--only", "l1", option, str(path)]) == 0
        assert {one.name for one in tmp_path.iterdir()} == {"report", "mine.txt"}
    path.unlink()
    path.symlink_to(other)
    capsys.readouterr()
    for place in (path, other, tmp_path):
        assert main(["ict_ref.formulas", "--only", "l1", option, str(place)]) == 2
        assert f"{option}: expected a new path" in capsys.readouterr().err
    assert other.read_text() == "mine"


@pytest.mark.slow
def test_the_copied_library_has_one_finding_for_each_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(PEERS / "copied_library.py"), "--json", str(tmp_path / "r.json")]) == 1
    found = json.loads((tmp_path / "r.json").read_text())["findings"]
    assert [finding["deviations"] for finding in found if finding["fails"]] == [
        ["NoInputScaling", "RawSigmaEmbedded"],
        ["Elementwise"],
    ]
    notes = {finding["functions"][0]: finding["kind"] for finding in found if not finding["fails"]}
    assert notes["exponential_curriculum"] in ("type", "accepts")
    assert {"type", "precision", "accepts"} == {finding["kind"] for finding in found if not finding["fails"]}
    assert len(capsys.readouterr().out.splitlines()) <= 28  # three of them are measured costs


@pytest.mark.slow
def test_the_report_in_the_docs_is_that_of_the_command() -> None:
    found = verify_report.PLACE.search(verify_report.PAGE.read_text())
    assert found is not None
    assert len(found[2].splitlines()) <= 28  # three of them are measured costs
    assert verify_report.report() == found[2]
