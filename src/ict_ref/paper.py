"""The equations of arXiv:2310.14189 as the paper prints them, in its order.

Use `ict_ref.formulas`, which has the same functions in a stable, checked form. This module does not check arguments or
rearrange equations. Numbers are float64. `properties/test_paper.py` tests the domain on which both forms agree.

`sigmas[index]` is the paper's sigma_i, `sigmas[index + 1]` its sigma_{i+1}: `index` counts from 0. `sigmas` ascends,
except in `multistep_sample`. A loss has one value per example; the paper's E is its mean. "Row M1" means that row of
docs/paper_and_code.md.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64, Int64
from numpy.polynomial.legendre import leggauss
from torch import Tensor

ConsistencyFunction: TypeAlias = Callable[
    [Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]
]
ScoreFunction: TypeAlias = ConsistencyFunction
Distance: TypeAlias = Callable[
    [Float[Tensor, " batch *event"], Float[Tensor, " batch *event"]], Float[Tensor, " batch"]
]


# Notation.


def _per_example(sigma: Float[Tensor, " batch"], x: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch *ones"]:
    """Return sigma in a shape that multiplies the examples x."""
    return sigma.reshape(-1, *(1 for _ in x.shape[1:]))


def _each(sigma: float | Float64[Tensor, ""], x: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch"]:
    """Return the one noise level sigma, once for each example of x."""
    return x.new_full((len(x),), float(sigma))


def _norm(x: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch"]:
    """Return ||x||_2 of each example."""
    norm: Tensor = torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1)
    return norm


def _stopgrad(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return stopgrad(x)."""
    return x.detach()


def _matrix_root(matrix: Float[Tensor, " d d"]) -> Float[Tensor, " d d"]:
    """Return matrix^(1/2), whose square is a diagonalizable matrix with positive eigenvalues."""
    values, vectors = torch.linalg.eig(matrix)
    root: Tensor = vectors @ torch.diag(torch.sqrt(values)) @ torch.linalg.inv(vectors)
    return root.real


def _expectation(f: Callable[[Tensor], Tensor], sigma_min: float, sigma_max: float) -> float:
    """Return E[f(sigma)] for sigma ~ U[sigma_min, sigma_max], by Gauss-Legendre quadrature in log sigma."""
    node, weight = map(torch.tensor, leggauss(64))
    sigma = sigma_min * (sigma_max / sigma_min) ** ((node + 1) / 2)
    density = math.log(sigma_max / sigma_min) / 2 * sigma / (sigma_max - sigma_min)
    return float((weight * density * f(sigma)).sum())


# Section 2: consistency models.


def probability_flow_drift(
    x: Float[Tensor, " batch *event"], sigma: Float[Tensor, " batch"], score: ScoreFunction
) -> Float[Tensor, " batch *event"]:
    """Eq. (1): dx/dsigma = -sigma score(x, sigma), where score(x, sigma) = grad_x log p_sigma(x)."""
    return -_per_example(sigma, x) * score(x, sigma)


def boundary_parameterization(
    network: Callable[[Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]],
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    sigma_min: float = 0.002,
    sigma_data: float = 0.5,
) -> Float[Tensor, " batch *event"]:
    """Eq. (2): f(x, sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma)).

    Row A3: the paper prints F(x, sigma) and leaves the four functions to CM, Appendix C, and EDM, Table 1.
    """
    skip = _per_example(c_skip(sigma, sigma_min=sigma_min, sigma_data=sigma_data), x)
    out = _per_example(c_out(sigma, sigma_min=sigma_min, sigma_data=sigma_data), x)
    scale = _per_example(c_in(sigma, sigma_data=sigma_data), x)
    return skip * x + out * network(scale * x, c_noise(sigma))


def c_skip(
    sigma: Float[Tensor, "*shape"], *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Float[Tensor, "*shape"]:
    """Below Eq. (2): c_skip(sigma) = sigma_data^2 / ((sigma - sigma_min)^2 + sigma_data^2). Row A3."""
    return sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)


def c_out(
    sigma: Float[Tensor, "*shape"], *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Float[Tensor, "*shape"]:
    """Below Eq. (2): c_out(sigma) = sigma_data (sigma - sigma_min) / sqrt(sigma_data^2 + sigma^2). Row A3."""
    return sigma_data * (sigma - sigma_min) / torch.sqrt(sigma_data**2 + sigma**2)


def c_in(sigma: Float[Tensor, "*shape"], *, sigma_data: float = 0.5) -> Float[Tensor, "*shape"]:
    """EDM, Table 1: c_in(sigma) = 1 / sqrt(sigma^2 + sigma_data^2). Row A3."""
    return 1 / torch.sqrt(sigma**2 + sigma_data**2)


def c_noise(sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """EDM, Table 1: c_noise(sigma) = log(sigma) / 4. Row A3."""
    return torch.log(sigma) / 4


def sigma_grid(
    n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Float64[Tensor, " {n}"]:
    """Table 1: sigma_i = (sigma_min^(1/rho) + (i-1)/(N-1) (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho."""
    i = torch.arange(1, n + 1, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas: Tensor = (low + (i - 1) / (n - 1) * (high - low)) ** rho
    return sigmas


def consistency_matching_loss(
    student: ConsistencyFunction,
    teacher: ConsistencyFunction,
    score: ScoreFunction,
    x_hi: Float[Tensor, " batch *event"],
    index: Int64[Tensor, " batch"],
    sigmas: Float64[Tensor, " n"],
    *,
    distance: Distance,
    weights: Float64[Tensor, " n-1"],
) -> Float[Tensor, " batch"]:
    """Eq. (3): lambda(sigma_i) d(f_theta(x_{i+1}, sigma_{i+1}), f_theta-(x_i, sigma_i)), x_i by `euler_step`.

    Row M3: x_i has a separate symbol, which Eq. (5) does not share.
    """
    sigma_lo, sigma_hi = sigmas[index], sigmas[index + 1]
    x_lo = euler_step(x_hi, sigma_hi, sigma_lo, _stopgrad(score(x_hi, sigma_hi)))
    return weights[index] * distance(student(x_hi, sigma_hi), _stopgrad(teacher(x_lo, sigma_lo)))


def euler_step(
    x_hi: Float[Tensor, " batch *event"],
    sigma_hi: Float[Tensor, " batch"],
    sigma_lo: Float[Tensor, " batch"],
    score_value: Float[Tensor, " batch *event"],
) -> Float[Tensor, " batch *event"]:
    """Below Eq. (3): x_i = x_{i+1} - (sigma_i - sigma_{i+1}) sigma_{i+1} score_value."""
    return x_hi - _per_example((sigma_lo - sigma_hi) * sigma_hi, x_hi) * score_value


def squared_l2(x: Float[Tensor, " batch *event"], y: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch"]:
    """Below Eq. (3): d(x, y) = ||x - y||_2^2."""
    return _norm(x - y) ** 2


def ema_update(
    ema: Float[Tensor, "*shape"], value: Float[Tensor, "*shape"], *, decay: float
) -> Float[Tensor, "*shape"]:
    """Eq. (4): theta- <- stopgrad(mu theta- + (1 - mu) theta) with mu = decay, theta- = ema, theta = value."""
    return _stopgrad(decay * ema + (1 - decay) * value)


def consistency_training_loss(
    student: ConsistencyFunction,
    teacher: ConsistencyFunction,
    x: Float[Tensor, " batch *event"],
    z: Float[Tensor, " batch *event"],
    index: Int64[Tensor, " batch"],
    sigmas: Float64[Tensor, " n"],
    *,
    distance: Distance,
    weights: Float64[Tensor, " n-1"],
) -> Float[Tensor, " batch"]:
    """Eq. (5): lambda(sigma_i) d(f_theta(x + sigma_{i+1} z, sigma_{i+1}), f_theta-(x + sigma_i z, sigma_i))."""
    sigma, sigma_next = sigmas[index], sigmas[index + 1]
    student_value = student(x + _per_example(sigma_next, x) * z, sigma_next)
    teacher_value = teacher(x + _per_example(sigma, x) * z, sigma)
    return weights[index] * distance(student_value, _stopgrad(teacher_value))


def one_step_sample(
    f: ConsistencyFunction, z: Float[Tensor, " batch *event"], *, sigma_max: float = 80.0
) -> Float[Tensor, " batch *event"]:
    """Section 2: x = f(sigma_max z, sigma_max), z ~ N(0, I)."""
    return f(sigma_max * z, _each(sigma_max, z))


def multistep_sample(
    f: ConsistencyFunction,
    noises: Float[Tensor, " levels batch *event"],
    sigmas: Float64[Tensor, " levels"],
    *,
    sigma_min: float = 0.002,
) -> Float[Tensor, " batch *event"]:
    """Section 2: x = sigma_1 z_1; x = f(x, sigma_{k-1}) + sqrt(sigma_k^2 - sigma_min^2) z_k, k > 1; then f(x, sigma_k).

    `sigmas` descends from sigma_max: k counts upward here, downward in the paper. Row M11.
    """
    x = sigmas[0] * noises[0]
    for k in range(1, len(sigmas)):
        x = renoise(f(x, _each(sigmas[k - 1], x)), noises[k], sigma=float(sigmas[k]), sigma_min=sigma_min)
    return f(x, _each(sigmas[-1], x))


def renoise(
    x: Float[Tensor, " batch *event"], z: Float[Tensor, " batch *event"], *, sigma: float, sigma_min: float = 0.002
) -> Float[Tensor, " batch *event"]:
    """Section 2: x + sqrt(sigma^2 - sigma_min^2) z."""
    return x + math.sqrt(sigma**2 - sigma_min**2) * z


# Table 1, left column: the design of Song et al. (2023). Its noise levels are `sigma_grid`.


def teacher_ema_decay(n: int, *, s0: int, mu0: float) -> float:
    """Table 1: mu = exp(s0 log(mu0) / N), with N = N(k). The right column has mu = 0. Row M7."""
    return math.exp(s0 * math.log(mu0) / n)


def sqrt_curriculum(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    """Table 1: N(k) = ceil(sqrt(k/K ((s1 + 1)^2 - s0^2) + s0^2) - 1) + 1. Row M1: the root is over the whole sum."""
    return math.ceil(math.sqrt(step / total_steps * ((s1 + 1) ** 2 - s0**2) + s0**2) - 1) + 1


def uniform_pmf(sigmas: Float64[Tensor, " n"]) -> Float64[Tensor, " n-1"]:
    """Table 1: p(i) = 1 / (N - 1), which is i ~ U[1, N - 1]."""
    return torch.full_like(sigmas[1:], 1 / (len(sigmas) - 1))


def uniform_weights(sigmas: Float64[Tensor, " n"]) -> Float64[Tensor, " n-1"]:
    """Table 1: lambda(sigma_i) = 1."""
    return torch.ones_like(sigmas[1:])


# Section 3 and Table 1, right column: the paper's modifications.


def inverse_gap_weights(sigmas: Float64[Tensor, " n"]) -> Float64[Tensor, " n-1"]:
    """Section 3.1, Table 1: lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i)."""
    return 1 / (sigmas[1:] - sigmas[:-1])


def delta_consistency_function(
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    xi: Float[Tensor, "*event"],
    sigma_min: float = 0.002,
) -> Float[Tensor, " batch *event"]:
    """Section 3.2: f*(x, sigma) = sigma_min/sigma x + (1 - sigma_min/sigma) xi, and f_theta if xi is theta."""
    return _per_example(sigma_min / sigma, x) * x + _per_example(1 - sigma_min / sigma, x) * xi


def ct_loss_limit(theta: float, theta_minus: float, *, sigma_min: float = 0.002, sigma_max: float = 80.0) -> float:
    """Eqs. (6) and (11): lim L^N = E[(1 - sigma_min/sigma)^2] (theta - theta-)^2, for theta- != theta."""
    return _expectation(lambda s: (1 - sigma_min / s) ** 2, sigma_min, sigma_max) * (theta - theta_minus) ** 2


def ct_gradient_limit(theta: float, xi: float, *, sigma_min: float = 0.002, sigma_max: float = 80.0) -> float:
    """Eqs. (7) and (12): lim 1/Delta sigma dL^N/dtheta = 2 E[sigma_min/sigma^2 (1 - sigma_min/sigma)] (theta - xi).

    For theta- = theta, with the derivative d/dtheta taken. Row M5.
    """
    return 2 * _expectation(lambda s: sigma_min / s**2 * (1 - sigma_min / s), sigma_min, sigma_max) * (theta - xi)


def ct_gradient_divergence(theta: float, theta_minus: float) -> float:
    """Eqs. (7) and (12): the limit is +infinity for theta- < theta, -infinity for theta- > theta."""
    return math.copysign(math.inf, theta - theta_minus)


def pseudo_huber(
    x: Float[Tensor, " batch *event"], y: Float[Tensor, " batch *event"], *, c: float
) -> Float[Tensor, " batch"]:
    """Eq. (8), Table 1: d(x, y) = sqrt(||x - y||_2^2 + c^2) - c. Row A1: the norm is over the whole example."""
    return torch.sqrt(_norm(x - y) ** 2 + c**2) - c


def pseudo_huber_constant(dim: int) -> float:
    """Section 3.3, Table 1: c = 0.00054 sqrt(d)."""
    return 0.00054 * math.sqrt(dim)


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """Eq. (9): N(k) = min(s0 2^floor(k / K'), s1) + 1 with K' = floor(K / (log2 floor(s1 / s0) + 1)). Row M2."""
    k_prime = math.floor(total_steps / (math.log2(math.floor(s1 / s0)) + 1))
    n: int = min(s0 * 2 ** math.floor(step / k_prime), s1) + 1
    return n


def log_sigma_density(
    log_sigma: Float64[Tensor, "*shape"], *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Float64[Tensor, "*shape"]:
    """Section 3.5: p(log sigma) = sigma sigma^(1/rho - 1) / (rho (sigma_max^(1/rho) - sigma_min^(1/rho)))."""
    sigma = torch.exp(log_sigma)
    p: Tensor = sigma * sigma ** (1 / rho - 1) / (rho * (sigma_max ** (1 / rho) - sigma_min ** (1 / rho)))
    return p


def lognormal_pmf(
    sigmas: Float64[Tensor, " n"], *, p_mean: float = -1.1, p_std: float = 2.0
) -> Float64[Tensor, " n-1"]:
    """Eq. (10): p(i) ~ erf((log sigma_{i+1} - P_mean) / (sqrt2 P_std)) - erf((log sigma_i - P_mean) / (sqrt2 P_std)).

    Row M6: there are N - 1 of them.
    """
    low, high = torch.log(sigmas[:-1]), torch.log(sigmas[1:])
    p = torch.erf((high - p_mean) / (math.sqrt(2) * p_std)) - torch.erf((low - p_mean) / (math.sqrt(2) * p_std))
    return p / torch.sum(p)


def index_from_uniform(u: Float64[Tensor, " batch"], pmf: Float64[Tensor, " intervals"]) -> Int64[Tensor, " batch"]:
    """Section 3.5, Table 1: i ~ p(i), the j with pmf[0] + ... + pmf[j-1] <= u < pmf[0] + ... + pmf[j], u ~ U[0, 1)."""
    return (torch.cumsum(pmf, 0) <= u[:, None]).sum(1)


# Section 4: the distance of Tables 2 and 3.


def frechet_distance(
    mean1: Float[Tensor, " d"],
    cov1: Float[Tensor, " d d"],
    mean2: Float[Tensor, " d"],
    cov2: Float[Tensor, " d d"],
) -> Float[Tensor, ""]:
    """Tables 2 and 3 (FID): ||mean1 - mean2||_2^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)).

    The paper cites Heusel et al. 2017, Eq. (6). The covariances are regular.
    """
    root = _matrix_root(torch.matmul(cov1, cov2))
    squared: Tensor = torch.linalg.vector_norm(mean1 - mean2) ** 2 + torch.trace(cov1 + cov2 - 2 * root)
    return squared


# Appendix A: the proof of Proposition 1.


def ct_gradient_leading_term(
    theta: float, xi: float, *, delta_sigma: float, sigma_min: float = 0.002, sigma_max: float = 80.0
) -> float:
    """Eq. (13): dL^N/dtheta ~ 2 E[sigma_min Delta sigma/sigma^2 (1 - sigma_min/sigma)] (theta - xi).

    For theta- = theta. Row M4: the last factor is inside E.
    """
    mean = _expectation(lambda s: sigma_min * delta_sigma / s**2 * (1 - sigma_min / s), sigma_min, sigma_max)
    return 2 * mean * (theta - xi)


def ct_gradient_divergent_term(
    theta: float, theta_minus: float, *, sigma_min: float = 0.002, sigma_max: float = 80.0
) -> float:
    """Eq. (13): dL^N/dtheta ~ 2 E[(1 - sigma_min/sigma)^2 (theta - theta-)], for theta- != theta."""
    return 2 * _expectation(lambda s: (1 - sigma_min / s) ** 2 * (theta - theta_minus), sigma_min, sigma_max)
