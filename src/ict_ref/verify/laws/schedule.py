"""Laws of the noise levels, their probabilities and their weights."""

import math

import torch
from torch import Tensor

from ict_ref.verify.checks.law import Function, Laws, close, equal, given, law, needs, tolerance
from ict_ref.verify.laws import strategies as some

ENDS = torch.tensor([0.0, 1 - 2.0**-24], dtype=torch.float64)
"""The ends of [0, 1), of which the last number of float32."""
LEAST = 1e-45
"""Probabilities of this size are subnormal in float32."""


@law("sigma_grid", needs=("float32",))
@given(n=some.level_counts, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs, rho=some.rhos)
def ends_are_exact(f: Function, n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    """sigma_1 = sigma_min and sigma_N = sigma_max, to the last bit."""
    sigmas = f(n=n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    equal(len(sigmas), n, "a number of levels of")
    equal(sigmas[0], torch.tensor(sigma_min, dtype=torch.float64), "sigma_1 =")
    equal(sigmas[-1], torch.tensor(sigma_max, dtype=torch.float64), "sigma_N =")


@law("sigma_grid", needs=("float32",))
@given(n=some.level_counts, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs, rho=some.rhos)
def ascends(f: Function, n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    """sigma_i < sigma_{i+1}."""
    needs(f(n=n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho).diff() > 0, "the levels do not ascend")


@law("sigma_grid", needs=("float32",))
@given(n=some.level_counts, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs, rho=some.rhos)
def is_equally_spaced_in_roots(f: Function, n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    """sigma_{i+1}^(1/rho) - sigma_i^(1/rho) is the same for all i."""
    roots = f(n=n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho) ** (1 / rho)
    step = (math.pow(sigma_max, 1 / rho) - math.pow(sigma_min, 1 / rho)) / (n - 1)
    # The roots are rounded: each by its own size, and twice by a power.
    close(roots.diff(), torch.full_like(roots[1:], step), rtol=1e-12, atol=1e-14 * float(roots[-1]), what="steps of")


@law("sigma_grid", needs=("float32",))
@given(n=some.level_counts, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs, rho=some.rhos)
def keeps_its_nodes_when_refined(f: Function, n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    """Every second node of the grid with 2N - 1 levels is a node of the grid with N."""
    coarse, fine = (f(n=m, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho) for m in (n, 2 * n - 1))
    close(fine[::2], coarse, rtol=1e-12, what="every second level is")


@law("sigma_grid", needs=("float32",))
@given(n=some.level_counts, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs)
def is_linear_for_rho_1(f: Function, n: int, sigma_min: float, sigma_max: float) -> None:
    """rho = 1: sigma_i = sigma_min + (i-1)/(N-1) (sigma_max - sigma_min)."""
    linear = torch.linspace(sigma_min, sigma_max, n, dtype=torch.float64)
    close(f(n=n, sigma_min=sigma_min, sigma_max=sigma_max, rho=1.0), linear, rtol=1e-13, atol=1e-15 * sigma_max)


@law("sigma_grid", needs=("float32",))
@given(n=some.level_counts, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs, rho=some.rhos_from_1, a=some.factors)
def scales_with_the_units(f: Function, n: int, sigma_min: float, sigma_max: float, rho: float, a: float) -> None:
    """sigma_i(a sigma_min, a sigma_max) = a sigma_i(sigma_min, sigma_max).

    For rho >= 1: below, small levels are what is left of a difference of large numbers.
    """
    scaled = f(n=n, sigma_min=a * sigma_min, sigma_max=a * sigma_max, rho=rho)
    plain = a * f(n=n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    close(scaled, plain, rtol=1e-10, atol=1e-15 * a * sigma_max)


@law("sigma_grid", needs=("float64",))
@given(n=some.level_counts, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs, rho=some.rhos)
def is_a_value_of_the_caller_s_own(f: Function, n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    """A change of a returned grid does not change the next returned grid: they share no memory."""
    first = f(n=n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    kept = first.clone()
    first.zero_()
    equal(f(n=n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho), kept, "the second time")


@law("uniform_pmf", "lognormal_pmf", needs=("float32",))
@given(sigmas=some.grids)
def is_normalised_and_positive(f: Function, sigmas: Tensor) -> None:
    """p(i) > 0 for i = 1, ..., N - 1, and sum_i p(i) = 1."""
    p = f(sigmas=sigmas)
    equal(len(p), len(sigmas) - 1, "a number of intervals of")
    needs(p > 0, f"a probability is {float(p.min())}, should be positive")
    close(p.sum(), 1.0, rtol=1e-14 * len(p), what="a sum of")


@law("uniform_pmf", needs=("float32",))
@given(sigmas=some.grids)
def is_the_same_for_every_cell(f: Function, sigmas: Tensor) -> None:
    """p(i) = 1 / (N - 1)."""
    intervals = len(sigmas) - 1
    close(f(sigmas=sigmas), torch.full((intervals,), 1 / intervals, dtype=torch.float64), rtol=1e-15)


@law("uniform_pmf", needs=("float32",))
@given(sigmas=some.grids, a=some.factors)
def sees_only_how_many_levels_there_are(f: Function, sigmas: Tensor, a: float) -> None:
    """p is the same for any levels in the same number."""
    equal(f(sigmas=a * sigmas), f(sigmas=sigmas))


@law("lognormal_pmf", needs=("float32",))
@given(sigmas=some.grids_of_3_or_more, p_mean=some.p_means, p_std=some.p_stds, interval=some.positions)
def adds_up_when_cells_merge(f: Function, sigmas: Tensor, p_mean: float, p_std: float, interval: int) -> None:
    """Without the level between two intervals, the merged interval has the sum of their probabilities."""
    level = 1 + interval % (len(sigmas) - 2)
    pmf = f(sigmas=sigmas, p_mean=p_mean, p_std=p_std)
    merged = f(sigmas=torch.cat([sigmas[:level], sigmas[level + 1 :]]), p_mean=p_mean, p_std=p_std)
    expected = torch.cat([pmf[: level - 1], pmf[level - 1 : level + 1].sum().reshape(1), pmf[level + 1 :]])
    close(merged, expected, rtol=1e-10, atol=LEAST)


@law("lognormal_pmf", needs=("float32",))
@given(sigmas=some.grids, p_mean=some.p_means, p_std=some.p_stds, a=some.factors)
def is_scale_free(f: Function, sigmas: Tensor, p_mean: float, p_std: float, a: float) -> None:
    """sigma -> a sigma with P_mean -> P_mean + log a changes nothing."""
    scaled = f(sigmas=a * sigmas, p_mean=p_mean + math.log(a), p_std=p_std)
    close(scaled, f(sigmas=sigmas, p_mean=p_mean, p_std=p_std), rtol=1e-9, atol=LEAST)


@law("lognormal_pmf", needs=("float32",))
@given(offsets=some.offsets, p_mean=some.p_means, p_std=some.p_stds)
def is_symmetric_about_its_mean(f: Function, offsets: Tensor, p_mean: float, p_std: float) -> None:
    """On levels exp(P_mean +- t) the probabilities are the same from both ends."""
    levels = torch.cat([p_mean - offsets.flip(0), p_mean + offsets]).exp()
    pmf = f(sigmas=levels, p_mean=p_mean, p_std=p_std)
    close(pmf, pmf.flip(0), rtol=1e-10, atol=LEAST)


@law("index_from_uniform", needs=("float32",))
@given(u=some.uniforms, pmf=some.pmfs)
def returns_cells_that_can_occur(f: Function, u: Tensor, pmf: Tensor) -> None:
    """pmf[index] > 0, also at both ends of [0, 1)."""
    index = f(u=torch.cat([u, ENDS]), pmf=pmf)
    needs((index >= 0) & (index < len(pmf)), f"an index beyond the {len(pmf)} intervals: {index.tolist()}")
    needs(pmf[index] > 0, f"an interval of probability 0: {index.tolist()}")


@law("index_from_uniform", needs=("float32",))
@given(u=some.uniforms, pmf=some.pmfs)
def never_falls(f: Function, u: Tensor, pmf: Tensor) -> None:
    """u <= v implies index(u) <= index(v)."""
    index = f(u=torch.cat([u, ENDS]).sort().values, pmf=pmf)
    needs(index.diff() >= 0, f"indices {index.tolist()} of rising u, should not fall")


@law("index_from_uniform", needs=("float32",))
@given(pmf=some.pmfs)
def gives_each_cell_its_share(f: Function, pmf: Tensor) -> None:
    """M equally spaced u give each interval M p(i) indices to within one."""
    m = 1000
    index = f(u=(torch.arange(m, dtype=torch.float64) + 0.5) / m, pmf=pmf)
    fractions = torch.bincount(index, minlength=len(pmf))
    needs(
        (fractions - m * pmf).abs() <= 1.0 + m * tolerance(1e-12),
        f"of {m} equally spaced u the intervals get {fractions.tolist()}",
    )


@law("index_from_uniform", needs=("float64",))
@given(pmf=some.pmfs_with_inner_ends)
def turns_at_the_distribution_function(f: Function, pmf: Tensor) -> None:
    """u is in an interval up to j a billionth below pmf[0] + ... + pmf[j], and in a later one a billionth above."""
    ends = pmf.cumsum(0)[:-1]
    ends = ends[(ends > 1e-6) & (ends < 1 - 1e-6)]  # parts of probability 0 at the beginning and at the end
    below, above = f(u=ends - 1e-9, pmf=pmf), f(u=ends + 1e-9, pmf=pmf)
    cdf = pmf.cumsum(0)
    needs(cdf[below] <= ends + 1e-12, f"u below {ends.tolist()} gives the intervals {below.tolist()}")
    needs(cdf[above] > ends + 1e-12, f"u above {ends.tolist()} gives the intervals {above.tolist()}")


@law("log_sigma_density", needs=("float32",))
@given(positions=some.positions_about_a_range, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs, rho=some.rhos)
def is_0_outside_its_range(f: Function, positions: Tensor, sigma_min: float, sigma_max: float, rho: float) -> None:
    """p = 0 outside [log sigma_min, log sigma_max], p > 0 inside."""
    low, high = math.log(sigma_min), math.log(sigma_max)
    log_sigma, inside = low + positions * (high - low), (positions > 0) & (positions < 1)
    p = f(log_sigma=log_sigma, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    equal(p > 0, inside, "p > 0 is")


@law("log_sigma_density", needs=("float32",))
@given(log_sigma=some.inner_log_sigmas, rho=some.rhos, a=some.factors)
def does_not_see_the_units(f: Function, log_sigma: Tensor, rho: float, a: float) -> None:
    """sigma -> a sigma, with both ends, changes nothing."""
    moved = f(log_sigma=log_sigma + math.log(a), sigma_min=0.002 * a, sigma_max=80.0 * a, rho=rho)
    close(moved, f(log_sigma=log_sigma, sigma_min=0.002, sigma_max=80.0, rho=rho))


@law("log_sigma_density", needs=("float64",))
@given(sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs, rho=some.rhos)
def is_the_limit_of_the_uniform_schedule(f: Function, sigma_min: float, sigma_max: float, rho: float) -> None:
    """Its distribution function is (sigma^(1/rho) - sigma_min^(1/rho)) / (sigma_max^(1/rho) - sigma_min^(1/rho))."""
    at = torch.linspace(math.log(sigma_min) + 1e-9, math.log(sigma_max) - 1e-9, 4001, dtype=torch.float64)
    cdf = torch.cumulative_trapezoid(f(log_sigma=at, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho), at)
    roots = (at / rho).exp()
    close(cdf, (roots[1:] - roots[0]) / (roots[-1] - roots[0]), rtol=0.0, atol=1e-4, what="fractions of")


@law("lognormal_density", needs=("float32",))
@given(offsets=some.log_offsets, p_mean=some.p_means, p_std=some.p_stds)
def is_symmetric_and_falls(f: Function, offsets: Tensor, p_mean: float, p_std: float) -> None:
    """p(P_mean + t) = p(P_mean - t) <= p(P_mean) = 1 / (sqrt(2 pi) P_std)."""
    there, back = (f(log_sigma=p_mean + sign * offsets, p_mean=p_mean, p_std=p_std) for sign in (1, -1))
    close(there, back)
    [top] = f(log_sigma=torch.tensor([p_mean], dtype=torch.float64), p_mean=p_mean, p_std=p_std)
    close(top, 1 / (math.sqrt(2 * math.pi) * p_std), rtol=1e-13, what="p(P_mean) =")
    needs(there <= top * (1 + tolerance(1e-12)), f"p is {float(there.max())} beside its mean, where it is {float(top)}")


@law("lognormal_density", needs=("float64",))
@given(p_mean=some.p_means, p_std=some.p_stds)
def integrates_to_1(f: Function, p_mean: float, p_std: float) -> None:
    """Its integral over the whole line is 1, half of it below P_mean."""
    at = p_mean + p_std * torch.linspace(-12, 12, 2001, dtype=torch.float64)
    cdf = torch.cumulative_trapezoid(f(log_sigma=at, p_mean=p_mean, p_std=p_std), at)
    close(cdf[-1], 1.0, atol=1e-12, what="an integral of")
    close(cdf[999], 0.5, atol=1e-12, what="an integral up to P_mean of")


@law("uniform_weights", needs=("float32",))
@given(sigmas=some.grids)
def are_1_and_one_for_each_cell(f: Function, sigmas: Tensor) -> None:
    """lambda(sigma_i) = 1 for i = 1, ..., N - 1."""
    equal(f(sigmas=sigmas), torch.ones(len(sigmas) - 1, dtype=torch.float64))


@law("inverse_gap_weights", needs=("float32",))
@given(sigmas=some.grids)
def undo_the_gap(f: Function, sigmas: Tensor) -> None:
    """lambda(sigma_i) (sigma_{i+1} - sigma_i) = 1."""
    close(f(sigmas=sigmas) * sigmas.diff(), torch.ones(len(sigmas) - 1), rtol=1e-14, what="products of")


@law("inverse_gap_weights", needs=("float32",))
@given(n=some.level_counts_from_3, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs)
def fall_with_the_noise(f: Function, n: int, sigma_min: float, sigma_max: float) -> None:
    """lambda(sigma_{i+1}) < lambda(sigma_i) for rho > 1: errors at low noise weigh more."""
    low, high = math.pow(sigma_min, 1 / 7), math.pow(sigma_max, 1 / 7)
    sigmas = torch.linspace(low, high, n, dtype=torch.float64) ** 7
    needs(f(sigmas=sigmas).diff() < 0, "weights do not fall along the grid")


@law("inverse_gap_weights", needs=("float32",))
@given(sigmas=some.grids, a=some.factors)
def scale_inversely(f: Function, sigmas: Tensor, a: float) -> None:
    """lambda(a sigma) = lambda(sigma) / a."""
    # Rounding of a sigma is large beside a small interval.
    rounding = 1e-15 * float((sigmas[1:] / sigmas.diff()).max())
    close(f(sigmas=a * sigmas), f(sigmas=sigmas) / a, rtol=1e-12 + rounding)


@law("uniform_weights", "inverse_gap_weights", needs=("float32",))
@given(n=some.level_counts, sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs)
def are_positive_and_do_not_rise(f: Function, n: int, sigma_min: float, sigma_max: float) -> None:
    """lambda > 0, and errors at low noise weigh no less than those at high noise, on a grid with rho = 7."""
    low, high = math.pow(sigma_min, 1 / 7), math.pow(sigma_max, 1 / 7)
    weights = f(sigmas=torch.linspace(low, high, n, dtype=torch.float64) ** 7)
    needs(weights > 0, f"a weight is {float(weights.min())}")
    needs(weights.diff() <= tolerance(1e-9) * weights[:-1], "weights rise along the grid")


@law("uniform_weights", "inverse_gap_weights", needs=("float32",))
@given(sigmas=some.grids_of_3_or_more)
def belong_to_their_own_cells(f: Function, sigmas: Tensor) -> None:
    """lambda(sigma_i) depends on sigma_i and sigma_{i+1} alone: a part of the grid has that part of the weights."""
    close(f(sigmas=sigmas[1:]), f(sigmas=sigmas)[1:], rtol=1e-15)
    close(f(sigmas=sigmas[:-1]), f(sigmas=sigmas)[:-1], rtol=1e-15)


@law("uniform_pmf", "lognormal_pmf", "uniform_weights", "inverse_gap_weights", needs=("float64",))
@given(sigmas=some.grids)
def are_a_value_of_the_caller_s_own(f: Function, sigmas: Tensor) -> None:
    """A change of a returned value does not change the next returned value: they share no memory."""
    first = f(sigmas=sigmas)
    kept = first.clone()
    first.zero_()
    equal(f(sigmas=sigmas), kept, "the second time")


LAWS: tuple[Laws, ...] = (
    ends_are_exact,
    ascends,
    is_equally_spaced_in_roots,
    keeps_its_nodes_when_refined,
    is_linear_for_rho_1,
    scales_with_the_units,
    is_a_value_of_the_caller_s_own,
    is_normalised_and_positive,
    is_the_same_for_every_cell,
    sees_only_how_many_levels_there_are,
    adds_up_when_cells_merge,
    is_scale_free,
    is_symmetric_about_its_mean,
    returns_cells_that_can_occur,
    never_falls,
    gives_each_cell_its_share,
    turns_at_the_distribution_function,
    is_0_outside_its_range,
    does_not_see_the_units,
    is_the_limit_of_the_uniform_schedule,
    is_symmetric_and_falls,
    integrates_to_1,
    are_1_and_one_for_each_cell,
    undo_the_gap,
    fall_with_the_noise,
    scale_inversely,
    are_positive_and_do_not_rise,
    belong_to_their_own_cells,
    are_a_value_of_the_caller_s_own,
)
