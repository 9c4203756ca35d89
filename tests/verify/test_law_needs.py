"""Tests of what laws need: without it a law is skipped with its reason, and never counts as passed."""

import ast
import inspect
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tests.support.runs import unchecked
from tests.verify.implementations import numpy_module
from torch import Tensor

import ict_ref.formulas
from ict_ref.verify import laws, parametrize_with_checks
from ict_ref.verify.checks.check import Result
from ict_ref.verify.checks.law import Law, Laws, NotTriedError, close, equal, needs, tolerance, tolerances
from ict_ref.verify.checks.law import given as given_inputs
from ict_ref.verify.checks.law import law as law_of
from ict_ref.verify.checks.run_laws import FunctionUnderTest, check_law, check_laws
from ict_ref.verify.laws import LAWS, MODULES, strategies
from ict_ref.verify.vectors.values import NUMPY, TORCH

pytestmark = pytest.mark.usefixtures("few_examples")

GRADIENT_LAWS = {law.name for law in LAWS if "gradients" in law.needs}
FEW = 10

Value = Any


def results(function: Callable[..., object], name: str, **options: Any) -> dict[str, Result]:
    """Return the results of all laws of a function on a few examples."""
    namespace = types.SimpleNamespace(**{name: function})
    found = {result.id: result for result in check_laws(namespace, examples=FEW, **options)}
    assert found
    return found


def without_stop_gradient(
    *, student: Any, teacher: Any, x: Value, z: Value, index: Value, sigmas: Value, distance: Any, weights: Value
) -> Value:
    """Return the training loss in operations that NumPy and torch share: nothing stops the teacher's gradient."""
    axes = (-1,) + (1,) * (x.ndim - 1)
    high, low = sigmas[index + 1], sigmas[index]
    f_high, f_low = (network(x + s.reshape(axes) * z, s) for network, s in ((student, high), (teacher, low)))
    return weights[index] * distance(f_high, f_low)


def test_a_numpy_loss_without_a_stop_gradient_does_not_pass_the_laws_of_the_gradient() -> None:
    found = results(without_stop_gradient, "consistency_training_loss", arrays=NUMPY)
    skipped = {name for name, result in found.items() if result.status == "skipped"}
    assert skipped == {name for name in GRADIENT_LAWS if name.startswith("consistency_training_loss:")}
    assert len(skipped) == 2
    for name in skipped:
        assert found[name].message.startswith(f"{name}: not tried: it is about gradients, which these arrays do not")
    assert {result.status for name, result in found.items() if name not in skipped} == {"pass"}


def test_the_same_loss_in_torch_breaks_the_laws_of_the_gradient() -> None:
    found = results(without_stop_gradient, "consistency_training_loss")
    failed = {name for name, result in found.items() if result.status == "fail"}
    assert failed == {name for name in GRADIENT_LAWS if name.startswith("consistency_training_loss:")}
    assert {result.kind for result in found.values()} == {"wrong"}


def test_code_in_numpy_that_gets_tensors_is_not_accused_by_laws_of_the_gradient() -> None:
    def huber(x: Tensor, y: Tensor, *, c: float) -> Value:
        return numpy_module.pseudo_huber(np.asarray(x), np.asarray(y), c=c)

    def detached(x: Tensor, y: Tensor, *, c: float) -> Value:
        return numpy_module.pseudo_huber(np.asarray(x.detach()), np.asarray(y.detach()), c=c)

    for function, reason in ((huber, "computes in NumPy (--arrays numpy)"), (detached, "a ndarray does not carry")):
        found = results(function, "pseudo_huber")
        assert {name for name, result in found.items() if result.status == "fail"} == set()
        skipped = {name: result.message for name, result in found.items() if result.status == "skipped"}
        assert set(skipped) == {name for name in GRADIENT_LAWS if name.startswith("pseudo_huber:")}
        assert all(reason in message for message in skipped.values())


@pytest.mark.parametrize("name", ["l1", "pseudo_huber", "consistency_training_loss", "boundary_parameterization"])
def test_a_torch_value_without_its_gradient_is_a_failure(name: str) -> None:
    right = getattr(ict_ref.formulas, name)

    def detached(**arguments: Any) -> Tensor:
        value: Tensor = right(**arguments)
        return value.detach()

    found = results(detached, name)
    assert {name for name, result in found.items() if result.status == "fail"} == {
        law for law in GRADIENT_LAWS if law.startswith(f"{name}:")
    }
    assert not any(result.status == "skipped" for result in found.values())


def made_up(statement: Callable[..., None], **options: Any) -> Law:
    """Return a law of c(d) for this statement about it."""
    [law] = law_of("pseudo_huber_constant", **options)(given_inputs(dim=st.integers(1, 9))(statement)).of
    return law


def test_a_law_whose_every_example_is_discarded_is_skipped() -> None:
    def never(f: Value, dim: int) -> None:
        """Nothing."""
        assume(f(dim=dim) < 0)

    result = check_law(made_up(never), ict_ref.formulas.pseudo_huber_constant)
    assert result.status == "skipped"
    assert "not tried: every example was discarded" in result.message


def test_a_law_that_compares_nothing_is_skipped() -> None:
    def silent(f: Value, dim: int) -> None:
        """Nothing."""
        if f(dim=dim) < 0:
            needs(False, "it is below 0")

    def of_empty_tensors(f: Value, dim: int) -> None:
        """Nothing of nothing."""
        close(torch.ones(0) * f(dim=dim), torch.ones(0))
        equal(torch.ones(0), torch.ones(0))
        needs(torch.ones(0) > 1, "it is not above 1")

    for statement in (silent, of_empty_tensors):
        result = check_law(made_up(statement), ict_ref.formulas.pseudo_huber_constant)
        assert result.status == "skipped"
        assert "not tried: no example compared a value" in result.message


def test_a_skipped_law_is_a_skipped_test() -> None:
    [mark] = [parametrize_with_checks(numpy_module, only=["pseudo_huber"], arrays="numpy").mark]
    checks = {parameter.id: parameter.values[0] for parameter in mark.args[1]}
    with pytest.raises(NotTriedError, match="not tried: it is about gradients"):
        checks["pseudo_huber:has_its_gradient"]()


REFUSALS = {
    "exponential_curriculum:refuses_what_has_no_k_prime",
    "multistep_sample:needs_levels_that_descend",
    *(
        f"{kind}_curriculum:refuses_steps_outside_the_training"
        for kind in ("exponential", "constant", "sqrt", "linear", "square", "cosine")
    ),
}


def test_laws_of_refusals_are_findings_of_their_own_kind() -> None:
    assert {law.name for law in LAWS if law.kind == "accepts"} == REFUSALS
    text = {law.name for law in LAWS if "refused(" in inspect.getsource(law.statement)}
    assert text == REFUSALS


def authors_curriculum(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    """Return N(k) as the authors' code has it: at least two levels, and no check of its arguments."""
    scales = math.ceil(math.sqrt(step / total_steps * ((s1 + 1) ** 2 - s0**2) + s0**2) - 1)
    return max(scales, 1) + 1


def test_the_authors_own_curriculum_obeys_the_laws_of_values() -> None:
    found = results(authors_curriculum, "sqrt_curriculum")
    failed = {result.id: result.kind for result in found.values() if result.status != "pass"}
    # In float64 the root of a square may be rounded up.
    assert failed.pop("sqrt_curriculum:is_n_where_n_squared_is_reached_exactly", "precision") == "precision"
    assert failed == {"sqrt_curriculum:refuses_steps_outside_the_training": "accepts"}
    assert ict_ref.formulas.sqrt_curriculum(0, total_steps=100, s0=1, s1=10) == 1


def test_a_float_for_a_whole_number_is_a_finding_of_vectors_and_not_of_laws() -> None:
    def as_float(**arguments: Any) -> float:
        return float(ict_ref.formulas.sqrt_curriculum(**arguments))

    assert {result.status for result in results(as_float, "sqrt_curriculum").values()} == {"pass"}


WRONG_IN_ANY_DTYPE: dict[str, Callable[..., object]] = {
    "pseudo_huber": lambda x, y, *, c: ((x - y).square() + c * c).sqrt().sub(c).flatten(1).sum(1),
    "c_in": lambda sigma, *, sigma_data=0.5: 1 / (sigma**2 + sigma_data**2),
    "c_out": lambda sigma, *, sigma_min=0.002, sigma_data=0.5: (
        -sigma_data * (sigma - sigma_min) / (sigma**2 + sigma_data**2).sqrt()
    ),
    "ema_update": lambda ema, value, decay: decay * value + (1 - decay) * ema,
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", WRONG_IN_ANY_DTYPE)
def test_what_is_wrong_is_wrong_in_every_dtype(name: str, dtype: str) -> None:
    found = results(WRONG_IN_ANY_DTYPE[name], name, dtype=dtype)
    assert any(result.status == "fail" and result.kind == "wrong" for result in found.values())


IN_FLOAT32 = ("pseudo_huber", "c_in", "c_skip", "c_out", "c_noise", "boundary_parameterization", "ema_update", "l1")


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_code_in_float32_is_right_in_float32_and_not_in_float64(name: str) -> None:
    right = getattr(ict_ref.formulas, name)
    seen: set[torch.dtype] = set()

    def rounded(value: Value) -> Value:
        return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value

    def in_float32(**arguments: Any) -> Value:
        seen.update(value.dtype for value in arguments.values() if isinstance(value, Tensor))
        handed = {key: rounded(value) for key, value in arguments.items()}
        if "network" in handed:
            handed["network"] = lambda *values: rounded(arguments["network"](*values))
        return right(**handed)

    found = results(in_float32, name, dtype="float32")
    assert {result.status for result in found.values()} <= {"pass", "skipped"}
    assert seen == {torch.float32}
    if name != "l1":
        assert any(result.status == "fail" for result in results(in_float32, name).values())


def test_laws_of_more_digits_than_a_dtype_has_are_skipped() -> None:
    result = results(ict_ref.formulas.l1, "l1", dtype="float32")["l1:keeps_its_digits_for_near_equals"]
    assert (result.status, result.kind) == ("skipped", "precision")
    assert "not tried: it is about digits that only float64 has" in result.message
    with unchecked():
        found = results(ict_ref.formulas.uniform_pmf, "uniform_pmf", dtype="bfloat16")
    assert {result.status for result in found.values()} == {"skipped"}
    found = results(ict_ref.formulas.slerp, "slerp", dtype="float32")
    result = found["slerp:turns_by_its_share_of_the_angle"]
    assert "not tried: its tolerance of 1e-07 in float64 is 10 in float32" in result.message


def test_tolerances_are_those_of_the_dtype() -> None:
    close(1 + 1e-5, 1.0, rtol=1e-4)
    for dtype, largest in (("float64", 1e-12), ("float32", 1e-4), ("bfloat16", 1.0)):
        with tolerances(dtype):
            assert tolerance(1e-12) == pytest.approx(largest)
    with tolerances("float32"):
        close(1 + 1e-5, 1.0, rtol=1e-12)
        equal(torch.tensor(0.1), torch.tensor(0.1, dtype=torch.float64))
        with pytest.raises(NotTriedError, match="its tolerance of 1e-07 in float64 is 10 in float32"):
            close(1.0, 1.0, rtol=1e-7)
    assert tolerance(1e-12) == 1e-12


def test_the_list_of_laws_is_literal_and_complete() -> None:
    for module in MODULES:
        defined = [name for name, value in vars(module).items() if isinstance(value, Laws)]
        [listed] = [
            ast.unparse(node.value)
            for node in ast.parse(inspect.getsource(module)).body
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "LAWS" and node.value
        ]
        assert listed == f"({', '.join(defined)})"
    files = {path.stem for path in Path(str(laws.__file__)).parent.glob("*.py")} - {
        "__init__",
        "strategies",
        "successor_strategies",
    }
    assert {module.__name__.rpartition(".")[2] for module in MODULES} == files


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_inputs_are_those_of_the_statement_and_the_function_exists(law: Law) -> None:
    assert list(inspect.signature(law.statement).parameters)[1:] == list(law.inputs)
    assert callable(getattr(ict_ref.formulas, law.function))
    assert not set(law.inputs) & set(law.passed_on)


STRATEGIES = {name: value for name, value in vars(strategies).items() if isinstance(value, SearchStrategy)}


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_input_is_so_small_that_relative_tolerances_mean_nothing(name: str) -> None:
    @settings(max_examples=200, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(STRATEGIES[name])
    def is_not_small(value: Value) -> None:
        if isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point()):
            sizes = torch.as_tensor(value, dtype=torch.float64).abs()
            assert bool(((sizes == 0) | (sizes >= 1e-7)).all())

    is_not_small()


def test_callbacks_get_and_return_arrays_of_the_dtype() -> None:
    seen: list[torch.dtype] = []

    def network(scaled: Tensor, noise: Tensor) -> Tensor:
        seen.extend((scaled.dtype, noise.dtype))
        return scaled

    def parameterized(**arguments: Any) -> Tensor:
        value = arguments["network"](arguments["x"], arguments["sigma"])
        assert value.dtype == torch.float32
        return value  # type: ignore[no-any-return]

    tested = FunctionUnderTest(parameterized, "boundary_parameterization", TORCH, dtype="float32")
    x = torch.ones(2, 3, dtype=torch.float64)
    got = tested(network=network, x=x, sigma=x[:, 0], sigma_data=0.5)
    assert isinstance(got, Tensor)
    assert got.dtype == torch.float64
    assert set(seen) == {torch.float64}
