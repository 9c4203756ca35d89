"""Every formula equals its literal form, `ict_ref.paper`, where rounding does not hurt the literal form."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from ict_ref import formulas, paper
from properties.strategies import (
    batch_sizes,
    event_shapes,
    grids,
    levels_of,
    pmfs,
    rhos,
    seeds,
    sigma_datas,
    sigma_maxs,
    sigma_mins,
)

Strategy = st.SearchStrategy[dict[str, Any]]
numbers = st.floats(-3.0, 3.0).map(lambda value: round(value, 6))


class Domain(NamedTuple):
    """The domain on which a formula and its literal form agree: in words, as a strategy, and how nearly.

    `scale` is the size of the terms that a sum may cancel; results of other functions agree to 1e-12 of themselves.
    """

    words: str
    arguments: Strategy
    scale: float = 0.0


def student(x: Tensor, sigma: Tensor) -> Tensor:
    """Return values of size 1 that depend on both arguments."""
    return torch.tanh(x) / (1 + sigma.reshape(-1, *(1 for _ in x.shape[1:])))


def teacher(x: Tensor, sigma: Tensor) -> Tensor:
    """Return other values of size 1 than the student's."""
    return torch.sin(x) + 2 + sigma.reshape(-1, *(1 for _ in x.shape[1:])) / 80


def huber(x: Tensor, y: Tensor) -> Tensor:
    """Return a distance."""
    return paper.pseudo_huber(x, y, c=0.5)


@st.composite
def examples(draw: st.DrawFn, /, *names: str, **others: Any) -> dict[str, Any]:
    """Unit normal images of one shape under these names, and other arguments; `levels_of` is one level for each."""
    shape = (draw(batch_sizes), *draw(event_shapes))
    generator = torch.Generator().manual_seed(draw(seeds))
    images = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name in names}
    return images | {key: draw(other(shape[0]) if other is levels_of else other) for key, other in others.items()}


@st.composite
def losses(draw: st.DrawFn, /, *names: str, **others: Any) -> dict[str, Any]:
    """Arguments of a loss on a random grid."""
    drawn = draw(examples(*names, **others))
    sigmas, batch = draw(grids()), len(drawn[names[0]])
    index = draw(st.lists(st.integers(0, len(sigmas) - 2), min_size=batch, max_size=batch))
    return drawn | {
        "student": student,
        "teacher": teacher,
        "index": torch.tensor(index),
        "sigmas": sigmas,
        "distance": huber,
        "weights": torch.linspace(2.0, 0.5, len(sigmas) - 1, dtype=torch.float64),
    }


@st.composite
def different(draw: st.DrawFn) -> dict[str, Any]:
    """Two images that are at least a tenth of c apart, and c."""
    drawn = draw(examples("x", "y"))
    distance = (drawn["x"] - drawn["y"]).reshape(len(drawn["x"]), -1).norm(dim=1)
    return drawn | {"c": min(draw(st.floats(0.01, 10.0)), 10 * float(distance.min()))}


@st.composite
def curricula(draw: st.DrawFn) -> dict[str, Any]:
    """Steps of a curriculum that has time for all its doublings."""
    s0 = draw(st.integers(1, 40))
    s1 = s0 + draw(st.integers(0, 2000))
    total_steps = math.ceil(math.log2(s1 // s0) + 1) + draw(st.integers(0, 10**6))
    return {"step": draw(st.integers(0, total_steps)), "total_steps": total_steps, "s0": s0, "s1": s1}


def far_from_a_square(drawn: dict[str, Any]) -> bool:
    """Return whether the root's argument is a whole number's square at the ends of training only, or not nearly."""
    share = Fraction(drawn["step"], drawn["total_steps"])
    inside = share * ((drawn["s1"] + 1) ** 2 - drawn["s0"] ** 2) + drawn["s0"] ** 2
    return share in (0, 1) or abs(inside / round(math.sqrt(inside)) ** 2 - 1) > Fraction(1, 10**12)


@st.composite
def broad_grids(draw: st.DrawFn) -> dict[str, Any]:
    """Grids within two standard deviations of P_mean, at least a twentieth of one between levels."""
    p_mean, p_std = draw(st.floats(-2.0, 2.0)), draw(st.floats(0.5, 4.0))
    gaps = draw(st.lists(st.floats(0.05, 0.4), min_size=1, max_size=5))
    z = torch.tensor([0.0, *gaps], dtype=torch.float64).cumsum(0)
    sigmas = (p_mean + p_std * (z - draw(st.floats(0.0, 1.0)) * z[-1])).exp()
    return {"sigmas": sigmas, "p_mean": p_mean, "p_std": p_std}


@st.composite
def drawn_intervals(draw: st.DrawFn) -> dict[str, Any]:
    """Uniform numbers that are not within 1e-9 of a sum of the first probabilities."""
    pmf = draw(pmfs())
    cdf = pmf.cumsum(0)
    u = torch.tensor(draw(st.lists(st.floats(0.0, 1 - 1e-6), min_size=1, max_size=9)), dtype=torch.float64)
    far = ((u[:, None] - cdf).abs() > 1e-9).all(1)
    return {"u": u[far], "pmf": pmf}


@st.composite
def samplers(draw: st.DrawFn) -> dict[str, Any]:
    """Levels that descend from 80 to 0.003 or more, and their noises."""
    inner = draw(st.lists(st.floats(0.003, 79.0), max_size=4, unique=True))
    shape = (1 + len(inner), draw(batch_sizes), *draw(event_shapes))
    noises = torch.randn(shape, generator=torch.Generator().manual_seed(draw(seeds)), dtype=torch.float64)
    sigmas = torch.tensor([80.0, *sorted(inner, reverse=True)], dtype=torch.float64)
    return {"f": student, "noises": noises, "sigmas": sigmas}


@st.composite
def limits(draw: st.DrawFn, /, *names: str) -> dict[str, Any]:
    """Ends of a grid, the upper one at least twice the lower one, and these parameters."""
    sigma_min = draw(sigma_mins)
    sigma_max = draw(st.floats(2 * sigma_min, 1e3))
    return {"sigma_min": sigma_min, "sigma_max": sigma_max} | {name: draw(numbers) for name in names}


@st.composite
def regular_moments(draw: st.DrawFn) -> dict[str, Any]:
    """Two means, and two covariances with eigenvalues from 0.1 to 3 on axes of their own."""
    dim, generator = draw(st.integers(1, 6)), torch.Generator().manual_seed(draw(seeds))
    drawn: dict[str, Any] = {}
    for k in (1, 2):
        axes = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
        cov = (axes * (0.1 + 2.9 * torch.rand(dim, generator=generator, dtype=torch.float64))) @ axes.mT
        drawn |= {f"mean{k}": torch.randn(dim, generator=generator, dtype=torch.float64), f"cov{k}": (cov + cov.mT) / 2}
    return drawn


def arguments(**strategies: st.SearchStrategy[Any]) -> Strategy:
    """Return a strategy for these arguments."""
    return st.fixed_dictionaries(strategies)


levels = st.integers(1, 5).flatmap(levels_of)
functions = st.sampled_from([student, teacher])
grid = arguments(sigmas=grids())
EVERYWHERE = "the formula's own domain"
DOMAINS = {
    "probability_flow_drift": Domain(EVERYWHERE, examples("x", sigma=levels_of, score=functions)),
    "boundary_parameterization": Domain(EVERYWHERE, examples("x", sigma=levels_of, network=functions), 1.0),
    "c_skip": Domain("sigma_data^2 does not underflow", arguments(sigma=levels, sigma_data=sigma_datas)),
    "c_out": Domain("no square overflows", arguments(sigma=levels, sigma_data=sigma_datas)),
    "c_in": Domain("no square overflows or underflows", arguments(sigma=levels, sigma_data=sigma_datas)),
    "c_noise": Domain(EVERYWHERE, arguments(sigma=levels)),
    "sigma_grid": Domain(
        "rho <= 12, where the ends are nearly the powers of their roots",
        arguments(n=st.integers(2, 300), sigma_min=sigma_mins, sigma_max=sigma_maxs, rho=rhos),
    ),
    "consistency_matching_loss": Domain(
        "d well-conditioned, as for pseudo_huber", losses("x_hi", score=functions), 1.0
    ),
    "euler_step": Domain(
        EVERYWHERE,
        examples("x_hi", "score_value", sigma_hi=levels_of).map(
            lambda drawn: drawn | {"sigma_lo": drawn["sigma_hi"] / 2}
        ),
        1e3,
    ),
    "squared_l2": Domain(EVERYWHERE, examples("x", "y")),
    "ema_update": Domain(EVERYWHERE, examples("ema", "value", decay=st.floats(0.0, 0.999))),
    "consistency_training_loss": Domain("d well-conditioned, as for pseudo_huber", losses("x", "z"), 1.0),
    "one_step_sample": Domain(EVERYWHERE, examples("z", f=functions, sigma_max=sigma_maxs)),
    "multistep_sample": Domain("sigma >= 1.5 sigma_min", samplers(), 1.0),
    "renoise": Domain("sigma >= 1.5 sigma_min", examples("x", "z", sigma=st.floats(0.003, 80.0)), 100.0),
    "teacher_ema_decay": Domain(
        EVERYWHERE, arguments(n=st.integers(1, 2000), s0=st.integers(1, 40), mu0=st.floats(1e-3, 0.999))
    ),
    "sqrt_curriculum": Domain(
        "the sum under the root is not within 1e-12 of a square", curricula().filter(far_from_a_square)
    ),
    "uniform_pmf": Domain(EVERYWHERE, grid),
    "uniform_weights": Domain(EVERYWHERE, grid),
    "inverse_gap_weights": Domain(EVERYWHERE, grid),
    "delta_consistency_function": Domain(
        EVERYWHERE, examples("x", sigma=levels_of).map(lambda drawn: drawn | {"xi": drawn["x"][0].cos()}), 1.0
    ),
    "ct_loss_limit": Domain("sigma_max >= 2 sigma_min", limits("theta", "theta_minus")),
    "ct_gradient_limit": Domain("sigma_max >= 2 sigma_min", limits("theta", "xi")),
    "ct_gradient_divergence": Domain(
        EVERYWHERE,
        arguments(theta=numbers, theta_minus=numbers).filter(lambda drawn: drawn["theta"] != drawn["theta_minus"]),
    ),
    "pseudo_huber": Domain("||x - y|| >= c / 10: below it the difference loses digits", different()),
    "pseudo_huber_constant": Domain(EVERYWHERE, arguments(dim=st.integers(1, 10**9))),
    "exponential_curriculum": Domain("s0 2^floor(k / K') is a number that fits a float", curricula()),
    "log_sigma_density": Domain(
        "sigma_min <= sigma <= sigma_max, rho <= 12",
        arguments(log_sigma=levels.map(lambda sigma: sigma.clamp(0.0021, 79.9).log()), rho=rhos),
    ),
    "lognormal_pmf": Domain("levels within 2 P_std of P_mean and not closer than P_std / 20", broad_grids()),
    "index_from_uniform": Domain("u is not within 1e-9 of a sum of probabilities", drawn_intervals()),
    "frechet_distance": Domain("covariances whose condition is below 100", regular_moments(), 100.0),
    "ct_gradient_leading_term": Domain(
        "sigma_max >= 2 sigma_min",
        limits("theta", "xi").flatmap(lambda drawn: arguments(delta_sigma=st.floats(1e-6, 1.0)).map(drawn.__or__)),
    ),
    "ct_gradient_divergent_term": Domain("sigma_max >= 2 sigma_min", limits("theta", "theta_minus")),
}
IMAGES = {"x", "y", "z", "x_hi", "score_value", "ema", "value", "noises"}


def gradients(function: Callable[..., Any], drawn: dict[str, Any]) -> tuple[Any, list[Tensor]]:
    """Return a function's value and, if there is one, the gradient of its sum in the images."""
    images = {name: image.clone().requires_grad_() for name, image in drawn.items() if name in IMAGES}
    value = function(**{**drawn, **images})
    if not (isinstance(value, Tensor) and value.requires_grad):
        return value, []
    return value.detach(), list(torch.autograd.grad(value.sum(), list(images.values()), materialize_grads=True))


@pytest.mark.parametrize("name", DOMAINS)
@given(st.data())
def test_the_formula_equals_its_literal_form(name: str, data: st.DataObject) -> None:
    """ict_ref.formulas.f = ict_ref.paper.f on the domain of f, and so are their gradients; integers exactly."""
    words, strategy, scale = DOMAINS[name]
    drawn = data.draw(strategy)
    expected, slopes = gradients(getattr(paper, name), drawn)
    got, ours = gradients(getattr(formulas, name), drawn)
    assert type(got) is type(expected)
    if isinstance(expected, Tensor):
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14 * scale, msg=lambda m: f"{m}\non {words}")
    else:
        assert got == (expected if isinstance(expected, int) else pytest.approx(expected, rel=1e-12, abs=0.0)), words
    assert len(ours) == len(slopes)
    for mine, theirs in zip(ours, slopes, strict=True):
        size = max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-13 * size)


def test_every_literal_form_has_a_domain() -> None:
    """Every public function of ict_ref.paper is compared with its formula."""
    public = {
        name
        for name, value in vars(paper).items()
        if getattr(value, "__module__", "") == paper.__name__ and not name.startswith("_")
    }
    assert set(DOMAINS) == public
