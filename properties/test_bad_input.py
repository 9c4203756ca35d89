"""Every public formula refuses what is outside its domain: a ValueError that names the symbol, never anything else.

Shapes and types are not checked by the import hook here, as in training.
"""

import inspect
import math
from collections.abc import Callable, Iterator

import hypothesis.strategies as st
import jaxtyping
import pytest
import torch
from hypothesis import given
from torch import Tensor

import ict_ref.formulas as formulas
from properties.domains import BATCH, CASES, Values, f64, spoiled
from properties.law_of import law_of


@pytest.fixture(autouse=True, scope="module")
def _unchecked() -> Iterator[None]:
    """Leave shapes to the formulas themselves."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


PAIRS = [(name, parameter) for name, case in CASES.items() for parameter in case.bad]


def function(name: str) -> Callable[..., object]:
    """Return the public function of this name."""
    found: Callable[..., object] = getattr(formulas, name)
    return found


def numbers(value: object) -> Iterator[Tensor]:
    """Return every tensor and number in what a function returned."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, float | int):
        yield torch.tensor(value)
    elif isinstance(value, tuple):
        for part in value:
            yield from numbers(part)


def test_every_parameter_of_every_function_has_values_that_are_refused_or_a_reason() -> None:
    """The table is whole."""
    functions = {name for name in formulas.__all__ if inspect.isfunction(getattr(formulas, name))}
    assert set(CASES) == functions
    for name, case in CASES.items():
        parameters = set(inspect.signature(function(name)).parameters)
        assert set(case.arguments) == parameters, name
        assert set(case.bad) | set(case.free) == parameters, name
        assert not set(case.bad) & set(case.free), name


@pytest.mark.parametrize("name", CASES)
def test_what_is_in_the_domain_is_taken(name: str) -> None:
    """The arguments that other tests spoil are valid, and their values are not NaN."""
    value = function(name)(**CASES[name].arguments)
    assert not any(bool(tensor.isnan().any()) for tensor in numbers(value))


@pytest.mark.parametrize(("name", "parameter"), PAIRS, ids=[".".join(pair) for pair in PAIRS])
def test_what_is_outside_the_domain_is_rejected(name: str, parameter: str) -> None:
    """One argument is replaced by a value that it must not have."""
    case = CASES[name]

    @given(case.bad[parameter])
    def refused(value: object) -> None:
        with pytest.raises(ValueError, match=rf"^(?=.*{parameter})expected .+, got .+\. .+\.$") as caught:
            function(name)(**{**case.arguments, parameter: value})
        assert caught.type is ValueError

    refused()


def value_or_refusal(f: Callable[..., object], arguments: dict[str, object]) -> object:
    """Return the function's value, or None where it refuses its arguments."""
    try:
        return f(**arguments)
    except ValueError as error:
        if not str(error).startswith("expected "):
            raise
        return None


wild: Values = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([*map(float, ("nan", "inf", "-inf")), 0.0, -1.0, 1e-300, 1e300])
)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.arguments])
def test_wild_numbers_are_accepted_or_rejected_and_never_become_nan(name: str) -> None:
    """Any number in place of any number: a value without NaN, or a ValueError; no other exception."""
    good = {key: value for key, value in CASES[name].arguments.items() if key not in CASES[name].free}
    options: dict[str, Values] = {
        key: wild
        if isinstance(value, float)
        else st.integers(-5, 12)
        if isinstance(value, int)
        else spoiled(value, wild)
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 1
        else st.just(value)
        for key, value in good.items()
    }

    @given(st.fixed_dictionaries({key: st.one_of(st.just(good[key]), options[key]) for key in good}))
    def taken_or_refused(arguments: dict[str, object]) -> None:
        value = value_or_refusal(function(name), {**CASES[name].arguments, **arguments})
        assert not any(bool(tensor.isnan().any()) for tensor in numbers(value))

    taken_or_refused()


@pytest.mark.parametrize(("sigma_min", "sigma_max", "rho"), [(2.6e-231, 0.5, 1e-300), (0.002, 80.0, 1e300)])
def test_a_density_between_roots_that_are_equal_in_float64_is_rejected(
    sigma_min: float, sigma_max: float, rho: float
) -> None:
    """sigma_max^(1/rho) - sigma_min^(1/rho) = 0 in float64: 0 / 0, found by the test above."""
    with pytest.raises(ValueError, match="rho such that"):
        function("log_sigma_density")(
            log_sigma=torch.tensor([-7.0], dtype=torch.float64), sigma_min=sigma_min, sigma_max=sigma_max, rho=rho
        )


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("squared_l2", "x"), ("l1", "y"), ("pseudo_huber", "x"), ("consistency_training_loss", "z"), ("renoise", "x")],
)
def test_a_nan_in_the_data_stays_in_its_example(name: str, parameter: str) -> None:
    """A NaN among the values of an example is not refused and not hidden, and touches no other example."""
    broken = CASES[name].arguments[parameter]
    assert isinstance(broken, Tensor)
    broken = broken.clone()
    broken[1, 0, 0] = math.nan
    [value] = numbers(function(name)(**{**CASES[name].arguments, parameter: broken}))
    assert value.reshape(BATCH, -1).isnan().any(1).tolist() == [False, True, False]


@law_of("gaussian_mixture_score")
@pytest.mark.parametrize("mixture_weights", [(0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (1.0, 1e-320)])
def test_gaussian_mixture_score_is_a_number_or_refused_where_a_component_is_infinitely_far(
    mixture_weights: tuple[float, float],
) -> None:
    """score = (mean - x) / scale^2 of the near component; found by the test of wild numbers."""
    x, means = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[0.0, 1e-3], [1e10, 1e10]], dtype=torch.float64)
    arguments: dict[str, object] = {"x": x, "sigma": f64(1e-300), "means": means, "stds": f64(1.0, 0.0)}
    arguments["mixture_weights"] = f64(*mixture_weights)
    if mixture_weights == (0.0, 1.0):
        with pytest.raises(ValueError, match="expected finite"):
            function("gaussian_mixture_score")(**arguments)
    else:
        (value,) = numbers(function("gaussian_mixture_score")(**arguments))
        torch.testing.assert_close(value, torch.tensor([[0.0, 1e-3]], dtype=torch.float64), rtol=1e-12, atol=0)
