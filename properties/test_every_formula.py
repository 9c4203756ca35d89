"""Laws of every formula: arguments are left alone, dtypes are kept, and derivatives go through."""

import copy
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

import ict_ref.formulas as formulas
from ict_ref.formulas import (
    boundary_parameterization,
    continuous_consistency_training_loss,
    denoise,
    edit,
    gaussian_consistency_function,
    gaussian_mixture_score,
    inpainting_operator,
    kernel_distance,
    multistep_sample,
    one_step_sample,
    renoise,
    slerp,
    squared_l2,
    stroke_edit,
)
from properties.domains import CASES, descending, f64, features, noises, sigma, tanh, x, z
from properties.law_of import law_of

# Schedules are float64 by their annotations; everything else computes in the dtype that it gets.
SCHEDULES = {"sigmas", "weights", "u", "pmf", "log_sigma", "times"}
FLOAT64 = {"index_from_uniform", "lognormal_density", "log_sigma_density", "truncated_weights"}
OF_IMAGES = [
    name
    for name, case in CASES.items()
    if any(isinstance(value, Tensor) and key not in SCHEDULES for key, value in case.arguments.items())
]


def tensors(value: object) -> list[Tensor]:
    """Return the tensors in what a function takes or returns."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in tensors(part)] if isinstance(value, tuple | list) else []


@pytest.mark.parametrize("name", CASES)
def test_arguments_are_left_as_they_were(name: str) -> None:
    """Formulas do not change their arguments."""
    arguments = CASES[name].arguments
    before = {key: copy.deepcopy(value) for key, value in arguments.items() if isinstance(value, Tensor)}
    getattr(formulas, name)(**arguments)
    for key, value in before.items():
        assert torch.equal(torch.as_tensor(arguments[key]), value), key


def rounded(name: str, dtype: torch.dtype) -> dict[str, object]:
    """Return the arguments of a function with everything except schedules in this dtype."""
    schedule = SCHEDULES - ({"weights"} if name.startswith("continuous_") else set())
    return {
        key: value.to(dtype)
        if isinstance(value, Tensor) and value.is_floating_point() and key not in schedule
        else value
        for key, value in CASES[name].arguments.items()
    }


@pytest.mark.parametrize("name", OF_IMAGES)
def test_float32_returns_float32_near_float64(name: str) -> None:
    """The dtype of the images is the dtype of the result, which differs by rounding alone."""
    got = tensors(getattr(formulas, name)(**rounded(name, torch.float32)))
    expected = tensors(getattr(formulas, name)(**rounded(name, torch.float64)))
    for mine, theirs in zip(got, expected, strict=True):
        if theirs.is_floating_point() and name not in FLOAT64:
            assert mine.dtype == torch.float32
        scale = float(theirs.abs().max())
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-4, atol=1e-5 * scale)


mean = f64(0.3, -0.1, 0.2, 0.0, 0.1, 0.5, -0.2, 0.4).reshape(2, 4)
mixture = {"means": torch.stack([mean, -mean]), "stds": f64(0.0, 0.5), "mixture_weights": f64(0.25, 0.75)}
DIFFERENTIABLE = {
    "boundary_parameterization": lambda y, s: boundary_parameterization(tanh, y, s),
    "renoise": lambda y, _: renoise(y, 2 * y, sigma=0.5),
    "one_step_sample": lambda y, _: one_step_sample(tanh, y),
    "multistep_sample": lambda y, _: multistep_sample(tanh, torch.stack([y, 0.1 * y]), descending),
    "stroke_edit": lambda y, _: stroke_edit(tanh, y, noises, descending),
    "edit": lambda y, _: edit(tanh, y, inpainting_operator(), x > 0, noises, descending),
    "slerp": lambda y, s: slerp(y, z, s / 100),
    "denoise": lambda y, s: denoise(tanh, y, s),
    "gaussian_consistency_function": lambda y, s: gaussian_consistency_function(y, s, mean=mean, std=0.5),
    "gaussian_mixture_score": lambda y, s: gaussian_mixture_score(y, s, **mixture),
    "kernel_distance": lambda y, _: kernel_distance(features, y.reshape(-1, 3)),
}


@law_of(
    "boundary_parameterization",
    "renoise",
    "one_step_sample",
    "multistep_sample",
    "stroke_edit",
    "edit",
    "slerp",
    "denoise",
    "gaussian_consistency_function",
    "gaussian_mixture_score",
    "kernel_distance",
)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_go_through(name: str) -> None:
    """Reverse and forward mode agree with central differences, in the images and in the levels."""
    y, levels = x.clone().requires_grad_(), (sigma + 0.1).requires_grad_()
    torch.autograd.gradcheck(DIFFERENTIABLE[name], (y, levels), check_forward_ad=True)


@law_of("continuous_consistency_training_loss")
@given(st.floats(0.01, 10.0), st.floats(0.1, 2.0))
def test_continuous_loss_includes_the_derivative_of_the_preconditioning(level: float, sigma_data: float) -> None:
    """D f of f = c_skip x + c_out F(c_in x, c_noise) is its central difference along (z, 1): nothing is held still."""
    levels = torch.full((3,), level, dtype=torch.float64)
    f = partial(boundary_parameterization, tanh, sigma_data=sigma_data)
    got = continuous_consistency_training_loss(f, x, z, levels, weights=torch.ones(3).double(), distance=squared_l2)
    step = 1e-5 * level

    def path(t: float) -> Tensor:
        return f(x + (level + t) * z, levels + t)

    derivative = (path(step) - path(-step)) / (2 * step)
    expected = 2 * (path(0.0) * derivative).reshape(3, -1).sum(1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()) + 1e-9)


@law_of("pseudo_huber")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_overflows_is_infinite_and_not_a_nan(dtype: torch.dtype) -> None:
    """pseudo_huber(x, y) = infinity where ||x - y||^2 is."""
    far = torch.full((2, 3), torch.finfo(dtype).max / 4, dtype=dtype)
    far[1] = 0.5
    got = formulas.pseudo_huber(far, torch.zeros_like(far), c=0.03)
    assert float(got[0]) == float("inf")
    assert float(got[1]) == pytest.approx(0.8365, rel=0.01)


@law_of("pseudo_huber")
def test_the_least_constant_is_one_that_the_dtype_can_square() -> None:
    """c^2 is the smallest normal number of float32: d = ||x - y|| but for c, and below it c is refused."""
    x32, y32 = torch.ones(1, 4), torch.zeros(1, 4)
    assert float(formulas.pseudo_huber(x32, y32, c=2.0**-63)) == 2
    with pytest.raises(ValueError, match=r"c\^2 > 0 in torch.float32"):
        formulas.pseudo_huber(x32, y32, c=2.0**-64)


@law_of("continuous_consistency_training_loss", "continuous_consistency_distillation_loss")
@pytest.mark.parametrize("name", ["training", "distillation"])
def test_continuous_losses_take_levels_and_weights_of_a_schedule(name: str) -> None:
    """Levels and weights in float64, as a grid has them, are rounded to the dtype of x, in which f and the loss are."""
    x32, seen = x.float(), set()

    def f(y: Tensor, levels: Tensor) -> Tensor:
        seen.add((y.dtype, levels.dtype))
        return tanh(y, levels)

    second = z.float() if name == "training" else None
    loss = (
        formulas.continuous_consistency_training_loss(f, x32, second, sigma, weights=f64(1, 2, 3), distance=squared_l2)
        if second is not None
        else formulas.continuous_consistency_distillation_loss(
            f, f, x32, sigma, weights=f64(1, 2, 3), distance=squared_l2
        )
    )
    assert loss.dtype == torch.float32
    assert seen == {(torch.float32, torch.float32)}
