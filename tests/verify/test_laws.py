"""Laws run on any implementation: each can be broken, and what breaks it is shown as small as it gets."""

import json
import math
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.support import wrong_successors
from tests.support.wrong_implementations import WRONG
from tests.verify.implementations import numpy_module
from torch import Tensor

import ict_ref.formulas
from ict_ref.verify import parametrize_with_checks
from ict_ref.verify.__main__ import main
from ict_ref.verify.checks import run_laws
from ict_ref.verify.checks.check import Result
from ict_ref.verify.checks.run_laws import FunctionUnderTest, check_law
from ict_ref.verify.laws import LAWS, Law
from ict_ref.verify.vectors.load import deviations, vectors
from ict_ref.verify.vectors.values import NUMPY, TORCH

PEERS = Path(__file__).parent / "implementations"
BY_NAME = {law.name: law for law in LAWS}
FEW = 20

Value = Any


def mapped(change: Callable[[Tensor], Tensor]) -> Callable[[Value], Value]:
    """Return a change of tensors as one of whatever a function returns."""

    def changed(value: Value) -> Value:
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        if isinstance(value, Tensor):
            return change(value).to(value.dtype)
        return type(value)(change(torch.tensor(float(value), dtype=torch.float64)))

    return changed


def bumped(value: Tensor) -> Tensor:
    """Return it with its last entry changed."""
    out = value.clone()
    out.view(-1)[-1:] *= 1.01
    out.view(-1)[-1:] += 1 if not value.is_floating_point() else 1e-3
    return out


def widened(value: Tensor) -> Tensor:
    """Return it with values that depend on their neighbours."""
    return value.double() + 0.01 * value.double().flatten().roll(1).reshape(value.shape).abs() + 0.01


CHANGES: dict[str, Callable[[Value], Value]] = {
    "1 % and .001 more": mapped(lambda value: 1.01 * value.double() + (1e-3 if value.is_floating_point() else 1)),
    "the last one changed": mapped(bumped),
    "what is beside it leaks in": mapped(widened),
    "half of it": mapped(lambda value: value.double() / 2),
    "squared": mapped(lambda value: value.double() ** 2),
    "its sign": mapped(lambda value: -value.double()),
    "backwards": mapped(lambda value: value.flip(0) if value.ndim else value),
    "rounded": mapped(lambda value: value.double().round(decimals=2)),
    "always 3": mapped(lambda value: torch.full_like(value.double(), 3)),
    "float": lambda value: float(value) if isinstance(value, int) else value,
    "never refused": lambda value: value,
}


def impostors(law: Law) -> list[Callable[..., object]]:
    """Return implementations that are wrong: known deviations first, then changed values, then careless code."""
    right = getattr(ict_ref.formulas, law.function)

    def wrong(change: Callable[[Value], Value], careless: bool) -> Callable[..., object]:
        def call(**arguments: Any) -> object:
            try:
                return change(right(**arguments))
            except Exception:
                if careless:
                    return torch.zeros(1, dtype=torch.float64)
                raise

        return call

    def tilted(**arguments: Any) -> object:
        """Return the right value times a factor without symmetry."""
        handed = [value.double().flatten() for value in arguments.values() if isinstance(value, Tensor)]
        seen = sum(float((values * torch.arange(1, len(values) + 1)).sum()) for values in handed)
        return mapped(lambda value: value * (1 + 0.01 * math.sin(seen)))(right(**arguments))

    known: dict[str, object] = {}

    def remembered(**arguments: Any) -> object:
        """Return the same object as for equal arguments before."""
        key = repr({name: value.tolist() if isinstance(value, Tensor) else value for name, value in arguments.items()})
        if key not in known:
            known[key] = right(**arguments)
        return known[key]

    def viewed(**arguments: Any) -> object:
        """View each array as one row, which some memory layouts forbid."""
        for value in arguments.values():
            if isinstance(value, Tensor):
                value.view(-1)
        return right(**arguments)

    deviating = [WRONG[name] for name, deviation in deviations().items() if deviation.function == law.function]
    changed = [wrong(change, name == "never refused") for name, change in CHANGES.items()]
    return [*SPECIAL.get(law.name, []), *deviating, *changed, tilted, remembered, viewed]


def breaks(law: Law, *functions: Callable[..., object]) -> bool:
    """Return whether one of a few examples breaks the law for one of the functions, without shrinking it.

    Each example is tried on all functions before the next one is drawn: most laws are broken by the first.
    """
    tested = [FunctionUnderTest(function, law.function, TORCH) for function in functions]

    @settings(max_examples=FEW, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(st.fixed_dictionaries(law.symbols))
    def holds(values: Any) -> None:
        for function in tested:
            law.check(function, values)

    try:
        holds()
    except Exception:
        return True
    return False


def leaking(*_: object, student: Any, x: Tensor, z: Tensor, index: Tensor, sigmas: Tensor, **others: Any) -> Tensor:
    """Return the training loss with the student as teacher, in the graph."""
    del others["teacher"]
    low, high = sigmas[index], sigmas[index + 1]
    column = [-1, *(1 for _ in x.shape[1:])]
    values = [student(x + sigma.reshape(column) * z, sigma) for sigma in (high, low)]
    loss: Tensor = others["weights"][index] * others["distance"](*values)
    return loss


def leaking_teacher(**arguments: Any) -> Tensor:
    """Return the training loss with gradient through the teacher."""
    return leaking(**{**arguments, "student": _either(arguments["student"], arguments["teacher"])})


def _either(student: Any, teacher: Any) -> Any:
    calls = iter((student, teacher))
    return lambda x, sigma: next(calls)(x, sigma)


def twice(**arguments: Any) -> Tensor:
    """Return one more evaluation than is needed."""
    arguments["f"](arguments["noises"][0], torch.full((arguments["noises"].shape[1],), 1.0).double())
    return ict_ref.formulas.multistep_sample(**arguments)


def every_node(*, objective: Any, sigmas: Tensor, before: Any = (), after: Any = ()) -> float:
    """Return the best node by scoring each of them three times."""
    nodes: list[float] = [sigma for sigma in sigmas.tolist() for _ in range(3)]
    return min(nodes, key=lambda sigma: float(objective(torch.tensor([*before, sigma, *after], dtype=torch.float64))))


def other_noise(**arguments: Any) -> Tensor:
    """Return the training loss whose teacher has another noise than its student."""
    return ict_ref.formulas.consistency_training_loss(**{**arguments, "teacher": _elsewhere(**arguments)})


def _elsewhere(*, teacher: Any, x: Tensor, z: Tensor, **_: Any) -> Any:
    return lambda at, sigma: teacher(x + sigma.reshape(-1, *(1 for _ in x.shape[1:])) * z.flip(0), sigma)


def score_of_the_data(*, score: Any, **arguments: Any) -> Tensor:
    """Return the matching loss with half of the score, as if the data were wider than they are."""
    return ict_ref.formulas.consistency_matching_loss(score=lambda x, sigma: score(x, sigma) / 2, **arguments)


def the_norm(x: Tensor, y: Tensor, *, c: float) -> Tensor:
    """Return the l2 norm, which pseudo-Huber is far out, and whose Hessian is singular."""
    length: Tensor = (x - y).reshape(len(x), -1).norm(dim=1)
    return length


def absolute(x: Tensor, y: Tensor, *, c: float) -> Tensor:
    """Return l1."""
    return ict_ref.formulas.l1(x, y)


def one_step_early(name: str) -> Callable[..., object]:
    """Return the curriculum of k + 1 updates in place of k."""

    def curriculum(*, step: int, total_steps: int, **ends: int) -> object:
        return getattr(ict_ref.formulas, name)(min(step + 1, total_steps), total_steps=total_steps, **ends)

    return curriculum


RISING = ("sqrt_curriculum", "linear_curriculum", "square_curriculum", "cosine_curriculum")
SPECIAL: dict[str, list[Callable[..., object]]] = {
    **{f"{name}:depends_on_the_share_of_the_training": [one_step_early(name)] for name in RISING},
    "consistency_training_loss:sends_no_gradient_to_the_teacher": [leaking_teacher],
    "consistency_training_loss:is_the_other_loss_up_to_o_of_delta_sigma": [other_noise],
    "consistency_matching_loss:is_the_other_loss_up_to_o_of_delta_sigma": [score_of_the_data],
    "pseudo_huber:is_twice_differentiable": [the_norm, absolute],
    "multistep_sample:costs_one_evaluation_per_level": [twice],
    "search_intermediate_sigma:scores_few_levels_and_none_twice": [every_node],
    **wrong_successors.SPECIAL,
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_every_law_can_be_broken(law: Law) -> None:
    assert breaks(law, *impostors(law))


@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_what_a_law_is_there_to_find_breaks_it(name: str) -> None:
    assert all(breaks(BY_NAME[name], wrong) for wrong in SPECIAL[name])


@pytest.mark.parametrize("deviation", ["SameNoise", "SwappedLevels", "MultiplicativeNoise"])
def test_a_deviation_of_the_training_loss_is_not_the_matching_loss_up_to_o_of_delta_sigma(deviation: str) -> None:
    assert breaks(BY_NAME["consistency_training_loss:is_the_other_loss_up_to_o_of_delta_sigma"], WRONG[deviation])


def test_squared_l2_over_2c_is_not_the_pseudo_huber_distance_though_they_bend_alike_at_0() -> None:
    def parabola(x: Tensor, y: Tensor, *, c: float) -> Tensor:
        return ict_ref.formulas.squared_l2(x, y) / (2 * c)

    assert breaks(BY_NAME["pseudo_huber:is_twice_differentiable"], parabola)


def broken(name: str, function: Callable[..., object], **options: Any) -> Result:
    """Return the failure of a law that is broken."""
    result = check_law(BY_NAME[name], function, **options)
    assert result.status == "fail"
    return result


def test_a_broken_law_shows_its_smallest_counterexample() -> None:
    result = broken("pseudo_huber:is_invariant_under_rotation", WRONG["Elementwise"])
    assert result.message.startswith("pseudo_huber:is_invariant_under_rotation: got ")
    assert "the law: d(Q x, Q y) = d(x, y)" in result.message
    assert result.message.endswith("[iCT, Section 3.3, Eq. (8)]")
    assert isinstance(result.counterexample, dict)
    # Two values, for one has no direction; all of it 0 but one.
    shape = torch.tensor(result.counterexample["x"]["tensor"]).shape
    assert list(shape) == [1, 2]
    assert sum(sum(torch.tensor(result.counterexample[name]["tensor"]).flatten() != 0) for name in "xy") == 1


@pytest.mark.usefixtures("few_examples")
def test_the_report_has_the_counterexample_ready_to_paste(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert main([str(PEERS / "elementwise.py"), "--only", "pseudo_huber", "-v", "--json", str(report)]) == 1
    lines = capsys.readouterr().out.splitlines()
    pasted = [json.loads(line.removeprefix("  as a vector: ")) for line in lines if line.startswith("  as a vector: ")]
    results = json.loads(report.read_text())["results"]
    assert pasted == [result["counterexample"] for result in results if result["counterexample"]]
    assert all({"x", "c"} <= example.keys() for example in pasted)
    assert "    source:  iCT, Section 3.3, Eq. (8)" in lines


def test_the_same_examples_are_tried_unless_a_seed_is_given() -> None:
    def seen(seed: int) -> list[object]:
        asked: list[object] = []

        def constant(dim: int) -> float:
            asked.append(dim)
            return ict_ref.formulas.pseudo_huber_constant(dim)

        check_law(BY_NAME["pseudo_huber_constant:rises"], constant, seed=seed, examples=FEW)
        return asked

    assert seen(0) == seen(0)
    assert seen(1) == seen(1)
    assert len({tuple(seen(seed)) for seed in (0, 1, 2)}) == 3


def test_thorough_tries_many_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (run_laws.EXAMPLES, run_laws.THOROUGH_EXAMPLES) == (50, 1000)
    monkeypatch.setattr(run_laws, "EXAMPLES", 10)
    monkeypatch.setattr(run_laws, "THOROUGH_EXAMPLES", 200)
    (tmp_path / "counting.py").write_text(
        "from ict_ref import formulas\ncalls = 0\n"
        "def pseudo_huber_constant(dim):\n    global calls\n    calls += 1\n"
        "    return formulas.pseudo_huber_constant(dim)\n"
    )
    counted = []
    for options in ([], ["--thorough"]):
        assert main([str(tmp_path / "counting.py"), "--only", "pseudo_huber_constant", *options]) == 0
        counted.append(__import__("sys").modules["counting"].calls)
    assert counted[1] > 10 * counted[0]
    out = capsys.readouterr().out
    assert "laws on 10 examples each" in out
    assert "laws on 200 examples each" in out


def test_without_hypothesis_only_vectors_are_run_and_the_report_states_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_laws, "hypothesis_is_installed", lambda: False)
    waivers = tmp_path / "waivers.toml"
    waivers.write_text('[[waiver]]\nid = "pseudo_huber:lies_below_the_norm"\nreason = "known"\n')
    assert main(["ict_ref.formulas", "--only", "pseudo_huber", "--waivers", str(waivers)]) == 0
    out = capsys.readouterr().out
    assert "laws not tried: pip install hypothesis" in out
    assert f"right  pseudo_huber {len(vectors('pseudo_huber'))}\n" in out


@pytest.mark.usefixtures("few_examples")
def test_a_law_can_be_waived_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loose.py").write_text(
        "from ict_ref import formulas\n"
        "def l1(x, y):\n    d = formulas.l1(x, y)\n    return d.detach() + 2 * (d - d.detach())\n"
    )
    arguments = [str(tmp_path / "loose.py"), "--only", "l1"]
    assert main([*arguments, "-v"]) == 1
    failing = set(re.findall(r"^fail +(l1:\w+): ", capsys.readouterr().out, re.MULTILINE))
    assert failing
    entries = "".join(f'[[waiver]]\nid = "{name}"\nreason = "known"\n' for name in sorted(failing))
    (tmp_path / "w.toml").write_text(entries)
    assert main([*arguments, "--waivers", str(tmp_path / "w.toml")]) == 0
    (tmp_path / "w.toml").write_text(entries + '[[waiver]]\nid = "l1:is_0_for_equals"\nreason = "stale"\n')
    assert main([*arguments, "--waivers", str(tmp_path / "w.toml")]) == 1
    assert "l1:is_0_for_equals: waived, but it does not fail" in capsys.readouterr().out


def test_laws_hold_of_an_implementation_in_numpy() -> None:
    found = list(run_laws.check_laws(numpy_module, arrays=NUMPY, examples=FEW))
    assert {result.function for result in found} == {"sigma_grid", "lognormal_pmf", "pseudo_huber", "one_step_sample"}
    assert [result.message for result in found if result.status == "fail"] == []


def test_a_numpy_implementation_that_is_wrong_breaks_laws() -> None:
    def huber(x: Any, y: Any, *, c: float) -> Any:
        return (np.sqrt((x - y) ** 2 + c * c) - c).reshape(len(x), -1).mean(axis=1)

    broken("pseudo_huber:is_invariant_under_rotation", huber, arrays=NUMPY)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda **_: [][1], "raised IndexError: list index out of range; at dim = 1"),
        (lambda **_: None, "got a NoneType, should be a number or an array; at dim = 1"),
        (lambda **_: __import__("sys").exit(3), "raised SystemExit: 3; at dim = 1"),
        (lambda **_: math.nan, "got nan, should be nan"),
    ],
)
def test_a_broken_function_has_a_clear_line(function: Callable[..., object], message: str) -> None:
    assert message in broken("pseudo_huber_constant:doubles_for_four_times_the_values", function).message


def test_a_function_with_a_different_value_each_time_has_another_message_than_a_wrong_one() -> None:
    calls = iter(range(10**6))

    def drifting(dim: int) -> object:
        # Wrong at one call, and right at the next with the same arguments.
        return ict_ref.formulas.pseudo_huber_constant(dim) * (2 if next(calls) == 60 else 1)

    said = broken("pseudo_huber_constant:doubles_for_four_times_the_values", drifting).message
    assert "the same arguments give a different value the second time" in said


def test_a_function_that_changes_its_arguments_breaks_every_law() -> None:
    def spoiling(x: Tensor, y: Tensor) -> Tensor:
        value = ict_ref.formulas.l1(x, y)
        x += 1
        return value

    assert (
        "changed its argument x; a function must not change its arguments"
        in broken("l1:is_0_for_equals", spoiling).message
    )


def test_a_test_suite_can_have_a_check_per_law() -> None:
    wrong = types.SimpleNamespace(pseudo_huber=WRONG["Elementwise"])
    [mark] = [parametrize_with_checks(wrong, waivers={"pseudo_huber:is_invariant_under_rotation": "known"}).mark]
    checks = {parameter.id: parameter for parameter in mark.args[1]}
    assert set(checks) > {law.name for law in LAWS if law.function == "pseudo_huber"}
    with pytest.raises(AssertionError, match="lies_below_the_norm: d = "):
        checks["pseudo_huber:lies_below_the_norm"].values[0]()
    checks["pseudo_huber:is_0_for_equals"].values[0]()
    [waived] = checks["pseudo_huber:is_invariant_under_rotation"].marks
    assert waived.kwargs == {"reason": "known", "strict": True}


def grid(n: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Return the grid as printed, whose ends are rounded by two powers."""
    i = torch.arange(n, dtype=torch.float64) / (n - 1)
    ends = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    found: Tensor = (ends[0] + i * (ends[1] - ends[0])) ** rho
    return found


def test_a_last_bit_of_float64_is_a_matter_of_precision() -> None:
    found = check_law(BY_NAME["sigma_grid:ends_are_exact"], grid, examples=FEW)
    assert (found.status, found.kind) == ("fail", "precision")
    off = check_law(BY_NAME["sigma_grid:ends_are_exact"], lambda **given: 1.001 * grid(**given), examples=FEW)
    assert (off.status, off.kind) == ("fail", "wrong")


def test_a_law_that_holds_at_the_papers_settings_is_broken_elsewhere() -> None:
    of_paper = check_law(
        BY_NAME["sigma_grid:is_equally_spaced_in_roots"], lambda **given: grid(**given | {"rho": 7.0}), examples=FEW
    )
    assert (of_paper.status, of_paper.kind) == ("fail", "elsewhere")
    of_none = check_law(
        BY_NAME["sigma_grid:is_equally_spaced_in_roots"], lambda **given: grid(**given | {"rho": 6.5}), examples=FEW
    )
    assert (of_none.status, of_none.kind) == ("fail", "wrong")


def test_a_law_is_not_tried_on_a_function_without_its_parameter() -> None:
    def c_in(sigma: Tensor) -> Tensor:
        return (sigma**2 + 0.25).rsqrt()

    found = [check_law(law, c_in, examples=FEW) for law in LAWS if law.function == "c_in"]
    assert {result.status for result in found} == {"skipped"}
    assert "got an unexpected keyword argument 'sigma_data'" in found[0].message

    def broken(sigma: Tensor, sigma_data: float = 0.5) -> Tensor:
        raise TypeError("of its own")

    assert check_law(BY_NAME["c_in:makes_the_variance_1"], broken, examples=FEW).status == "fail"


def test_the_command_leaves_no_files_where_it_runs(tmp_path: Path) -> None:
    program = ["-m", "ict_ref.verify", "ict_ref.formulas", "--only", "c_in"]
    subprocess.run([sys.executable, *program], cwd=tmp_path, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []
