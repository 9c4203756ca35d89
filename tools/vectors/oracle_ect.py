"""Mapping, stages, levels, weights, distance and loss of ECT, in 50 digits and in integers."""

from tools.vectors.arrays import Array, Real, mp, mpf, per_example, zip_map
from tools.vectors.oracle_model import Function, squared_l2


def ect_mapping(t: Array, exponent: int, q: Real = 2.0, k: Real = 8.0, b: Real = 1.0) -> Array:
    """t - t n / q^a, or 0 if that is negative, with n = 1 + k (1 - tanh(b t / 2)) / 2."""

    def lower(level: Real) -> Real:
        n = 1 + mpf(k) * (1 - mp.tanh(mpf(b) * level / 2)) / 2
        return max(mpf(0), level - level * n / mpf(q) ** exponent)

    return t.map(lower)


def ect_exponent(step: int, steps_per_stage: int) -> int:
    """The number of multiples of d among 0, ..., k."""
    return len(range(0, step + 1, steps_per_stage))


def normal_quantile(lower: Real, upper: Real) -> Real:
    """z with Phi(z) = lower = 1 - upper, from the tail that is smaller."""
    if lower <= upper:
        return -mp.sqrt(2) * mp.erfinv(1 - 2 * lower) if lower > mpf("1e-20") else -tail_quantile(lower)
    return mp.sqrt(2) * mp.erfinv(1 - 2 * upper) if upper > mpf("1e-20") else tail_quantile(upper)


def tail_quantile(upper: Real) -> Real:
    """z with 1 - Phi(z) = upper, for a small tail."""
    start = mp.sqrt(-2 * mp.log(upper))
    return mp.findroot(lambda z: mp.log(mp.erfc(z / mp.sqrt(2)) / 2) - mp.log(upper), start)


def lognormal_level(
    u: Array, p_mean: Real = -1.1, p_std: Real = 2.0, sigma_min: Real = 0.0, sigma_max: Real = mp.inf
) -> Array:
    """The level whose logarithm has the probability u below it, between the ends."""
    mean, std = mpf(p_mean), mpf(p_std)

    def below(level: Real) -> Real:
        return mp.erfc((mean - mp.log(level)) / (std * mp.sqrt(2))) / 2 if level > 0 else mpf(0)

    def above(level: Real) -> Real:
        return mp.erfc((mp.log(level) - mean) / (std * mp.sqrt(2))) / 2 if level > 0 else mpf(1)

    low, high = mpf(sigma_min), mpf(sigma_max)
    ends = (below(low), below(high)) if high < mp.inf else (below(low), mpf(1))
    tails = (above(low), above(high)) if high < mp.inf else (above(low), mpf(0))

    def level(part: Real) -> Real:
        lower = (1 - part) * ends[0] + part * ends[1]
        upper = (1 - part) * tails[0] + part * tails[1]
        return mp.exp(mean + std * normal_quantile(lower, upper))

    return u.map(level)


def gap_weights(t: Array, r: Array) -> Array:
    """1 / (t - r)."""
    return zip_map(lambda high, low: 1 / (high - low), t, r)


def snr_weights(t: Array, sigma_data: Real = 0.5) -> Array:
    """(t^2 + sigma_data^2) / (t sigma_data)^2."""
    return t.map(lambda level: (level**2 + mpf(sigma_data) ** 2) / (level * mpf(sigma_data)) ** 2)


def l2(x: Array, y: Array) -> Array:
    """||x - y||_2."""
    return squared_l2(x, y).map(mp.sqrt)


def adaptive_weights(x: Array, y: Array, c: Real = 0.06, p: Real = 0.5) -> Array:
    """exp(-p log(||x - y||^2 + c^2))."""
    return squared_l2(x, y).map(lambda square: mp.exp(-mpf(p) * mp.log(square + mpf(c) ** 2)))


def consistency_tuning_loss(
    student: Function, teacher: Function, x: Array, z: Array, t: Array, r: Array, distance: Function, weights: Array
) -> Array:
    """w d(f(x + t z, t), f(x + r z, r)); the target of r = 0 is x."""
    value = student(x + per_example(t, x) * z, t)
    target = teacher(x + per_example(r, x) * z, r)
    size = len(x.values) // len(x)
    chosen = tuple(target.values[j] if r.values[j // size] > 0 else x.values[j] for j in range(len(x.values)))
    return weights * distance(value, Array(x.shape, chosen))
