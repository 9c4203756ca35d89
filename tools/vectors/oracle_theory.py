"""Closed forms for simple data (iCT, Section 3.2, Appendix A) and the statistics of Section 4, in 50 digits."""

from tools.vectors.arrays import Array, Real, mp, mpf, per_example


def repeat(event: Array, batch: int) -> Array:
    """One event for every example."""
    return Array((batch, *event.shape), event.values * batch)


def delta_consistency_function(x: Array, sigma: Array, xi: Array, sigma_min: Real = 0.002) -> Array:
    """f*(x, sigma) = sigma_min/sigma x + (1 - sigma_min/sigma) xi."""
    share = per_example(sigma.map(lambda s: mpf(sigma_min) / s), x)
    return share * x + share.map(lambda a: 1 - a) * repeat(xi, len(x))


def gaussian_consistency_function(x: Array, sigma: Array, mean: Array, std: Real, sigma_min: Real = 0.002) -> Array:
    """f*(x, sigma) = mean + sqrt((std^2 + sigma_min^2) / (std^2 + sigma^2)) (x - mean)."""
    variance = mpf(std) ** 2
    scale = sigma.map(lambda s: mp.sqrt((variance + mpf(sigma_min) ** 2) / (variance + s**2)))
    centre = repeat(mean, len(x))
    return centre + per_example(scale, x) * (x - centre)


def gaussian_mixture_score(x: Array, sigma: Array, means: Array, stds: Array, mixture_weights: Array) -> Array:
    """grad_x log sum_m mixture_weights_m N(x | means_m, (stds_m^2 + sigma^2) I)."""
    scores: list[Real] = []
    for value, s in zip(x.examples(), sigma, strict=True):
        numerator, total = [mpf(0)] * len(value), mpf(0)
        for mean, std, weight in zip(means.examples(), stds, mixture_weights, strict=True):
            variance = std**2 + s**2
            gap = [m - v for m, v in zip(mean, value, strict=True)]
            density = weight * mp.exp(-mp.fsum(g * g for g in gap) / (2 * variance)) / variance ** (mpf(len(gap)) / 2)
            numerator = [n + density * g / variance for n, g in zip(numerator, gap, strict=True)]
            total += density
        scores += [n / total for n in numerator]
    return Array(x.shape, tuple(scores))


def mean_over_levels(power: int, a: Real, b: Real) -> Real:
    """E[sigma^-power], sigma ~ U[a, b]."""
    if power == 0:
        return mpf(1)
    if power == 1:
        return mp.log(b / a) / (b - a)
    return (a ** (1 - power) - b ** (1 - power)) / ((power - 1) * (b - a))


def mean_square_share(a: Real, b: Real) -> Real:
    """E[(1 - sigma_min/sigma)^2]."""
    return 1 - 2 * a * mean_over_levels(1, a, b) + a * a * mean_over_levels(2, a, b)


def mean_slope(a: Real, b: Real) -> Real:
    """E[sigma_min/sigma^2 (1 - sigma_min/sigma)]."""
    return a * mean_over_levels(2, a, b) - a * a * mean_over_levels(3, a, b)


def ct_loss_limit(theta: Real, theta_minus: Real, sigma_min: Real = 0.002, sigma_max: Real = 80.0) -> Real:
    """E[(1 - sigma_min/sigma)^2] (theta - theta-)^2."""
    return mean_square_share(mpf(sigma_min), mpf(sigma_max)) * (theta - theta_minus) ** 2


def ct_gradient_limit(theta: Real, xi: Real, sigma_min: Real = 0.002, sigma_max: Real = 80.0) -> Real:
    """d/dtheta E[sigma_min/sigma^2 (1 - sigma_min/sigma) (theta - xi)^2]."""
    return 2 * mean_slope(mpf(sigma_min), mpf(sigma_max)) * (theta - xi)


def ct_gradient_divergence(theta: Real, theta_minus: Real) -> Real:
    """The infinity with the sign of theta - theta-."""
    return mpf("inf") if theta > theta_minus else mpf("-inf")


def ct_gradient_leading_term(
    theta: Real, xi: Real, delta_sigma: Real, sigma_min: Real = 0.002, sigma_max: Real = 80.0
) -> Real:
    """2 E[sigma_min Delta sigma/sigma^2 (1 - sigma_min/sigma)] (theta - xi)."""
    return 2 * mean_slope(mpf(sigma_min), mpf(sigma_max)) * mpf(delta_sigma) * (theta - xi)


def ct_gradient_divergent_term(theta: Real, theta_minus: Real, sigma_min: Real = 0.002, sigma_max: Real = 80.0) -> Real:
    """2 E[(1 - sigma_min/sigma)^2 (theta - theta-)]."""
    return 2 * mean_square_share(mpf(sigma_min), mpf(sigma_max)) * (theta - theta_minus)


def matrix(x: Array) -> Real:
    """An array [d, d] as mpmath's matrix."""
    return mp.matrix(x.nested())


def root(symmetric: Real) -> Real:
    """The square root of a positive semi-definite matrix."""
    values, vectors = mp.eigsy(symmetric)
    return vectors * mp.diag([mp.sqrt(max(mpf(0), value)) for value in values]) * vectors.T


def trace(square: Real) -> Real:
    """The sum of the diagonal."""
    return mp.fsum(square[i, i] for i in range(square.rows))


def frechet_distance(mean1: Array, cov1: Array, mean2: Array, cov2: Array) -> Array:
    """||mean1 - mean2||^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2))."""
    means = mp.fsum((a - b) ** 2 for a, b in zip(mean1, mean2, strict=True))
    c1, c2 = matrix(cov1), matrix(cov2)
    half = root(c1)
    between = half * c2 * half
    return Array((), (means + trace(c1) + trace(c2) - 2 * trace(root((between + between.T) / 2)),))


def distance(p: list[Real], q: list[Real]) -> Real:
    """Euclid's."""
    return mp.sqrt(mp.fsum((a - b) ** 2 for a, b in zip(p, q, strict=True)))


def share_within_reach(points: list[list[Real]], reference: list[list[Real]], k: int) -> Real:
    """The fraction of points within the reach of a reference point, its k-th nearest neighbour."""
    reach = [sorted(distance(p, q) for j, q in enumerate(reference) if j != i)[k - 1] for i, p in enumerate(reference)]
    inside = [any(distance(p, q) <= r for q, r in zip(reference, reach, strict=True)) for p in points]
    return mpf(sum(inside)) / len(points)


def precision_recall(real: Array, fake: Array, k: int = 3) -> tuple[Array, Array]:
    """The share of fakes within reach of a real, and the share of reals within reach of a fake."""
    reals, fakes = real.examples(), fake.examples()
    return (
        Array((), (share_within_reach(fakes, reals, k),)),
        Array((), (share_within_reach(reals, fakes, k),)),
    )


def inception_score(p: Array) -> Array:
    """exp(mean over examples of KL(p(y|x) || p(y)))."""
    rows = p.examples()
    marginal = [mp.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    divergences = [
        mp.fsum(q * mp.log(q / m) for q, m in zip(row, marginal, strict=True) if q > 0) for row in rows
    ]  # fmt: skip
    return Array((), (mp.exp(mp.fsum(divergences) / len(rows)),))


def kernel(p: list[Real], q: list[Real]) -> Real:
    """(x . y / d + 1)^3."""
    return (mp.fsum(a * b for a, b in zip(p, q, strict=True)) / len(p) + 1) ** 3


def mean_kernel_within(points: list[list[Real]]) -> Real:
    """The mean of the kernel over pairs of different points."""
    n = len(points)
    return mp.fsum(kernel(points[i], points[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))


def kernel_distance(real: Array, fake: Array) -> Array:
    """mean k(x, x') + mean k(y, y') - 2 mean k(x, y), x != x', y != y'."""
    reals, fakes = real.examples(), fake.examples()
    across = mp.fsum(kernel(p, q) for p in reals for q in fakes) / (len(reals) * len(fakes))
    return Array((), (mean_kernel_within(reals) + mean_kernel_within(fakes) - 2 * across,))
