"""Known deviations in the model, the objectives, the samplers and the editing, in 50 digits."""

import math
from collections.abc import Callable

from tools.vectors import oracle_editing as editing
from tools.vectors import oracle_model as right
from tools.vectors.arrays import Array, Real, mp, mpf, per_example
from tools.vectors.oracle_editing import Operator
from tools.vectors.oracle_model import Function, above, at
from tools.vectors.oracle_theory import mean_over_levels


def edm_skip(sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5) -> Array:
    """sigma_min forgotten."""
    del sigma_min
    return right.c_skip(sigma, 0, sigma_data)


def sigma_in_c_out(sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5) -> Array:
    """sigma in place of sigma - sigma_min."""
    del sigma_min
    return right.c_out(sigma, 0, sigma_data)


def diffusers_scalings(sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5) -> Array:
    """sigma / sqrt(sigma^2 + sigma_data^2)."""
    del sigma_min
    return right.c_out(sigma, 0, sigma_data).map(lambda value: value / mpf(sigma_data))


def squared_c_in(sigma: Array, sigma_data: Real = 0.5) -> Array:
    """The root forgotten."""
    return right.c_in(sigma, sigma_data).map(lambda value: value**2)


def raw_sigma_noise(sigma: Array) -> Array:
    """sigma itself."""
    return sigma


def scaled_noise(sigma: Array) -> Array:
    """1000 log(sigma) / 4."""
    return 1000 * right.c_noise(sigma)


def edm_coefficients(
    network: Function, x: Array, sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5
) -> Array:
    """Both coefficients without sigma_min."""
    del sigma_min
    return right.boundary_parameterization(network, x, sigma, 0, sigma_data)


def no_input_scaling(
    network: Function, x: Array, sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5
) -> Array:
    """The network gets x, not c_in x."""
    undo = per_example(right.c_in(sigma, sigma_data), x)
    return right.boundary_parameterization(lambda v, c: network(v / undo, c), x, sigma, sigma_min, sigma_data)


def raw_sigma_embedded(
    network: Function, x: Array, sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5
) -> Array:
    """The network gets sigma, not log(sigma) / 4."""
    return right.boundary_parameterization(lambda v, c: network(v, sigma), x, sigma, sigma_min, sigma_data)


def clamped_output(network: Function, x: Array, sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5) -> Array:
    """f cut to [-1, 1]."""
    return right.boundary_parameterization(network, x, sigma, sigma_min, sigma_data).map(clamp)


def clamp(value: Real) -> Real:
    """value cut to [-1, 1]."""
    return max(mpf(-1), min(mpf(1), value))


def cosine_first(c_noise: Array, frequencies: Array) -> Array:
    """Cosines before sines."""
    halves = right.fourier_embedding(c_noise, frequencies).examples()
    return Array((len(c_noise), 2 * len(frequencies)), tuple(v for row in halves for v in swap_halves(row)))


def swap_halves(row: list[Real]) -> list[Real]:
    """The second half before the first."""
    return row[len(row) // 2 :] + row[: len(row) // 2]


def cos_sin_order(c_noise: Array, width: int, max_period: Real = 10000.0) -> Array:
    """Sines before cosines."""
    halves = right.positional_embedding(c_noise, width, max_period).examples()
    return Array((len(c_noise), width), tuple(v for row in halves for v in swap_halves(row)))


def half_minus_one(c_noise: Array, width: int, max_period: Real = 10000.0) -> Array | None:
    """f_k = max_period^(-(k-1)/(h-1))."""
    half = width // 2
    if half < 2:
        return None
    return right.positional_embedding(c_noise, width, mpf(max_period) ** (mpf(half) / (half - 1)))


def elementwise(x: Array, y: Array, c: Real) -> Array:
    """The mean of each value's own distance."""
    size = max(1, len(x.values) // len(x))
    return elementwise_sum(x, y, c) / size


def elementwise_sum(x: Array, y: Array, c: Real) -> Array:
    """The sum of each value's own distances."""
    each = [
        [mp.sqrt((a - b) ** 2 + mpf(c) ** 2) - mpf(c) for a, b in zip(p, q, strict=True)]
        for p, q in zip(x.examples(), y.examples(), strict=True)
    ]
    return Array((len(x),), tuple(mp.fsum(row) for row in each))


def cancelled_huber(x: Array, y: Array, c: Real) -> Array | None:
    """sqrt(s + c^2) - c in doubles, digit by digit (only where an example is one number: no order of summation)."""
    if len(x.values) != len(x):
        return None
    gaps = [float(a) - float(b) for a, b in zip(x.values, y.values, strict=True)]
    return Array((len(x),), tuple(mpf(math.sqrt(gap * gap + float(c) * float(c)) - float(c)) for gap in gaps))


def mean_reduction(x: Array, y: Array) -> Array:
    """The mean of the squares."""
    return right.squared_l2(x, y) / (len(x.values) // len(x))


def unsquared_norm(x: Array, y: Array) -> Array:
    """The norm itself."""
    return right.squared_l2(x, y).map(mp.sqrt)


def l1_mean_reduction(x: Array, y: Array) -> Array:
    """The mean of the absolute values."""
    return right.l1(x, y) / (len(x.values) // len(x))


def hard_coded_c(dim: int) -> Real:
    """0.06 for every size."""
    del dim
    return mpf("0.06")


def teacher_at_higher_level(
    student: Function, teacher: Function, score: Function, x_hi: Array, index: Array, sigmas: Array,
    distance: Function, weights: Array,
) -> Array:  # fmt: skip
    """The teacher gets Euler's point, but sigma_{i+1}."""
    higher = at(sigmas, above(index))
    return right.consistency_matching_loss(
        student, lambda x, s: teacher(x, higher), score, x_hi, index, sigmas, distance, weights
    )


def swapped_levels(
    student: Function, teacher: Function, x: Array, z: Array, index: Array, sigmas: Array,
    distance: Function, weights: Array,
) -> Array:  # fmt: skip
    """The student at sigma_i, the teacher at sigma_{i+1}."""
    return right.consistency_training_loss(teacher, student, x, z, index, sigmas, distance, weights)


def same_noise(
    student: Function, teacher: Function, x: Array, z: Array, index: Array, sigmas: Array,
    distance: Function, weights: Array,
) -> Array:  # fmt: skip
    """The student's point has the teacher's noise: x + sigma_i z, at sigma_{i+1}."""
    low = x + per_example(at(sigmas, index), x) * z
    return right.consistency_training_loss(
        lambda v, s: student(low, s), teacher, x, z, index, sigmas, distance, weights
    )


def multiplicative_noise(
    student: Function, teacher: Function, x: Array, z: Array, index: Array, sigmas: Array,
    distance: Function, weights: Array,
) -> Array:  # fmt: skip
    """x sigma z in place of x + sigma z."""
    return right.consistency_training_loss(
        student, teacher, x * 0, x * z, index, sigmas, distance, weights
    )  # fmt: skip


def upper_level_weights(
    student: Function, teacher: Function, x: Array, z: Array, index: Array, sigmas: Array,
    distance: Function, weights: Array,
) -> Array:  # fmt: skip
    """The weight of the interval above (unchanged for the last interval)."""
    shifted = Array(weights.shape, (*weights.values[1:], weights.values[-1]))
    return right.consistency_training_loss(student, teacher, x, z, index, sigmas, distance, shifted)


def mirrored_index(
    student: Function, teacher: Function, x: Array, z: Array, index: Array, sigmas: Array,
    distance: Function, weights: Array,
) -> Array:  # fmt: skip
    """The interval and its weight counted from sigma_max down."""
    mirrored = index.map(lambda j: len(weights) - 1 - j)
    return right.consistency_training_loss(student, teacher, x, z, mirrored, sigmas, distance, weights)


def minus_sign_continuous(
    student: Function, x: Array, z: Array, sigma: Array, weights: Array, distance: Function
) -> Array:
    """d/dsigma - z . d/dx."""
    noisy = x + per_example(sigma, x) * z
    value = student(noisy, sigma)
    return weights * right.hessian_form(distance, value, value, right.derivative_along(student, noisy, sigma, z * -1))


def dropped_hessian(student: Function, x: Array, z: Array, sigma: Array, weights: Array, distance: Function) -> Array:
    """The Hessian left out: the factor 2 of the squared norm, 1 / c of the pseudo-Huber metric."""
    del distance
    noisy = x + per_example(sigma, x) * z
    products = student(noisy, sigma) * right.derivative_along(student, noisy, sigma, z)
    return weights * Array(sigma.shape, tuple(mp.fsum(row) for row in products.examples()))


def swapped_ema(ema: Array, value: Array, decay: Real) -> Array:
    """The EMA weights in the value's place."""
    return right.ema_update(value, ema, decay)


def renoise_not_rooted(x: Array, z: Array, sigma: Real, sigma_min: Real = 0.002) -> Array:
    """x + sigma z."""
    del sigma_min
    return right.renoise(x, z, sigma, 0)


def sigma_not_rooted(f: Function, noises: Array, sigmas: Array, sigma_min: Real = 0.002) -> Array:
    """Noise of level sigma added to samples that have noise of level sigma_min."""
    del sigma_min
    return right.multistep_sample(f, noises, sigmas, 0)


def clamped_samples(f: Function, noises: Array, sigmas: Array, sigma_min: Real = 0.002) -> Array:
    """Every sample cut to [-1, 1]."""
    return right.multistep_sample(lambda x, s: f(x, s).map(clamp), noises, sigmas, sigma_min)


def stale_ternary(
    objective: Callable[[Array], Real], sigmas: Array, before: tuple[Real, ...] = (), after: tuple[Real, ...] = ()
) -> Real | None:
    """Ternary search whose last comparison returns the probes of the last round, not the ends that it compared."""
    nodes = right.candidates(sigmas, before, after)

    def value(p: int) -> Real:
        levels = (*before, nodes[p], *after)
        return objective(Array((len(levels),), levels))

    low, high = 0, len(nodes) - 1
    probes: tuple[int, int] | None = None
    while high - low >= 3:
        probes = (low + (high - low) // 3, high - (high - low) // 3)
        if value(probes[0]) < value(probes[1]):
            high = probes[1]
        else:
            low = probes[0]
    if probes is None:
        return None
    middle = (low + high) // 2
    if low < middle < high and value(middle) < min(value(low), value(high)):
        return nodes[middle]
    return nodes[probes[0] if value(low) < value(high) else probes[1]]


def x_not_transformed(
    f: Function,
    reference: Array,
    operator: Operator,
    mask: Array,
    noises: Array,
    sigmas: Array,
    sigma_min: Real = 0.002,
) -> Array | None:
    """A^-1[(A y)(1 - Omega) + x Omega]: the sample is not taken through A.

    Only for new luma under old colours: elsewhere the value hangs on columns of Q that the paper leaves free.
    """
    if mask.values != (True, False, False):
        return None
    known = operator.forward(reference)
    x = operator.inverse(editing.choose(mask, known * 0, known))
    for k in range(len(sigmas)):
        sigma = sigmas.values[k]
        noisy = x + noises.part(0) * sigma if k == 0 else right.renoise(x, noises.part(k), sigma, sigma_min)
        x = operator.inverse(editing.choose(mask, f(noisy, right.levels_like(sigma, x)), known))
    return x


def minus_one_fill(
    f: Function,
    reference: Array,
    operator: Operator,
    mask: Array,
    noises: Array,
    sigmas: Array,
    sigma_min: Real = 0.002,
) -> Array | None:
    """The first input has -1, not 0, where the image is to be made (inpainting)."""
    if operator.forward(reference) is not reference:
        return None
    filled = editing.choose(mask, (reference * 0).map(lambda v: v - 1), reference)
    first = right.levels_like(sigmas.values[0], reference)
    known = operator.forward(reference)
    x = f(filled + noises.part(0) * sigmas.values[0], first)
    x = operator.inverse(editing.choose(mask, operator.forward(x), known))
    for k in range(1, len(sigmas)):
        sigma = sigmas.values[k]
        made = f(right.renoise(x, noises.part(k), sigma, sigma_min), right.levels_like(sigma, x))
        x = operator.inverse(editing.choose(mask, operator.forward(made), known))
    return x


def index_for_level(f: Function, reference: Array, noises: Array, sigmas: Array, sigma_min: Real = 0.002) -> Array:
    """The first noise is scaled by the number of its level, 0, not by the level."""
    silent = Array(noises.shape, (mpf(0),) * len(reference.values) + noises.values[len(reference.values) :])
    return editing.stroke_edit(f, reference, silent, sigmas, sigma_min)


def stroke_erased(f: Function, reference: Array, noises: Array, sigmas: Array, sigma_min: Real = 0.002) -> Array:
    """Algorithm 4's first line with Omega = 1 everywhere: the picture is erased before the noise is added."""
    return right.multistep_sample(f, noises, sigmas, sigma_min) + reference * 0


def whole_batch_angle(z1: Array, z2: Array, alpha: Array) -> Array:
    """One angle for the whole batch."""
    return editing.slerp_along(z1, z2, alpha, [editing.angle(list(z1.values), list(z2.values))] * len(z1))


def printed_eq13(theta: Real, xi: Real, delta_sigma: Real, sigma_min: Real = 0.002, sigma_max: Real = 80.0) -> Real:
    """Eq. (13) as printed, (1 - sigma_min/sigma) behind the expectation: the product of two means."""
    a, b = mpf(sigma_min), mpf(sigma_max)
    share = 1 - a * mean_over_levels(1, a, b)
    return 2 * a * mean_over_levels(2, a, b) * mpf(delta_sigma) * (theta - xi) * share
