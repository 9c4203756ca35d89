"""The number of noise levels at training step k: the six curricula of Figure 3b, and the teacher's EMA decay.

`step` is k, the number of updates made so far, in [0, K]; `total_steps` is K. Every curriculum returns N(k), the number
of noise levels, and ends with s1 + 1. The number of intervals is N(k) - 1. The exponential curriculum begins with s0 +
1, the constant one with s1 + 1, the others with s0. All count updates, not examples or epochs: the batch size does not
change them.

The functions use integer arithmetic where possible: a rounded root of 10 may be above 10, and its ceiling 11.
"""

import math
from fractions import Fraction

from ict_ref.formulas import _domain


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """Return N(k) = min(s0 2^floor(k / K'), s1) + 1 with K' = floor(K / (log2 floor(s1 / s0) + 1)).

    Source: iCT, Section 3.4, Eq. (9).

    The bracket of the printed log2[s1/s0] is a floor.

    Raises: ValueError unless 1 <= s0 <= s1, 0 <= step <= total_steps, and K is large enough that K' >= 1.

    >>> [exponential_curriculum(k, total_steps=400_000) for k in (0, 50_000, 399_999)]
    [11, 21, 1281]
    """
    _check(step, total_steps, s0, s1, "iCT Eq. (9)")
    # math.log2 is exact for powers of two. Otherwise the quotient is irrational, so rounding does not change its floor.
    k_prime = math.floor(total_steps / (math.log2(s1 // s0) + 1))
    if k_prime < 1:
        _domain.refuse(
            "K' >= 1 (iCT Eq. (9))",
            f"K' = {k_prime} for total_steps = {total_steps}, s0 = {s0}, s1 = {s1}",
            f"train for at least {math.ceil(math.log2(s1 // s0) + 1)} steps, or choose s0 and s1 closer together",
        )
    # After bit_length(s1) doublings the cap always holds. The bound avoids a number of thousands of digits.
    doublings = min(step // k_prime, s1.bit_length())
    return min(s0 << doublings, s1) + 1


def sqrt_curriculum(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    """Return N(k) = ceil(sqrt(k/K ((s1 + 1)^2 - s0^2) + s0^2) - 1) + 1.

    Source: iCT, Table 1, left column; CM, Appendix C.

    Table 1 prints the root over k/K alone, which would give N(K) = 22 801 for s0 = 2, s1 = 150. N(K) must be s1 + 1 =
    151, as in the authors' CM code. N(0) is s0, not s0 + 1. The defaults are those for CIFAR-10; ImageNet has s1 = 200.

    Raises: ValueError unless 1 <= s0 <= s1 and 0 <= step <= total_steps.
    """
    _check(step, total_steps, s0, s1, "iCT Table 1")
    # ceil(sqrt(a) - 1) + 1 = ceil(sqrt(a)); for a fraction a it is the least m with m^2 >= ceil(a).
    a = -(-(step * ((s1 + 1) ** 2 - s0**2) + total_steps * s0**2) // total_steps)
    return _ceil_sqrt(a)


def constant_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """Return N(k) = s1 + 1.

    Source: iCT, Section 3.4, Figure 3b; interpretation: the paper names the curve and prints no formula.

    Raises: ValueError unless 1 <= s0 <= s1 and 0 <= step <= total_steps.
    """
    _check(step, total_steps, s0, s1, "iCT Section 3.4")
    return s1 + 1


def linear_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """Return N(k) = ceil(k/K (s1 + 1) + (1 - k/K) s0 - 1) + 1.

    Source: iCT, Section 3.4, Figure 3b; interpretation: the paper names the curve and prints no formula.

    This is the printed square root curve with exponent 1 in place of 2.

    Raises: ValueError unless 1 <= s0 <= s1 and 0 <= step <= total_steps.
    """
    _check(step, total_steps, s0, s1, "iCT Section 3.4")
    return -(-(step * (s1 + 1) + (total_steps - step) * s0) // total_steps)


def square_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """Return N(k) = ceil((k/K sqrt(s1 + 1) + (1 - k/K) sqrt(s0))^2 - 1) + 1.

    Source: iCT, Section 3.4, Figure 3b; interpretation: the paper names the curve and prints no formula.

    This is the printed square root curve with exponent 1/2 in place of 2.

    Raises: ValueError unless 1 <= s0 <= s1 and 0 <= step <= total_steps.
    """
    _check(step, total_steps, s0, s1, "iCT Section 3.4")
    k, rest = step, total_steps - step
    # K^2 times the square is k^2 (s1 + 1) + (K - k)^2 s0 + 2 k (K - k) sqrt((s1 + 1) s0). Only the root must be rounded
    # up before the sum is.
    root = _ceil_sqrt(4 * k**2 * rest**2 * (s1 + 1) * s0)
    return -(-(k**2 * (s1 + 1) + rest**2 * s0 + root) // total_steps**2)


def cosine_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """Return N(k) = ceil(u (s1 + 1) + (1 - u) s0 - 1) + 1 with u = (1 - cos(pi k / K)) / 2.

    Source: iCT, Section 3.4, Figure 3b; interpretation: the paper names the curve and prints no formula.

    The cosine is computed in float64; its ceiling equals that of the real number for K up to 10^9.

    Raises: ValueError unless 1 <= s0 <= s1 and 0 <= step <= total_steps.
    """
    _check(step, total_steps, s0, s1, "iCT Section 3.4")
    # Between its ends the cosine of a rational part of pi is rational at these fractions only (Niven). Only there can u
    # be rational, so that rounding could change the ceiling.
    quarters = {Fraction(1, 3): 1, Fraction(1, 2): 2, Fraction(2, 3): 3}
    fraction = Fraction(step, total_steps)
    if fraction in quarters:
        return s0 - (-quarters[fraction] * (s1 + 1 - s0) // 4)
    u = math.sin(math.pi * step / (2 * total_steps)) ** 2
    return s0 + math.ceil(u * (s1 + 1 - s0))


def teacher_ema_decay(n: int, *, s0: int, mu0: float) -> float:
    """Return mu = exp(s0 log(mu0) / N), with N = N(k).

    Source: iCT, Table 1, left column; CM, Appendix C.

    The paper writes N(k). The authors' CM code divides by N(k) - 1, which gives mu(0) = mu0^2 for s0 = 2: an acceptable
    variant. iCT's own teacher has mu = 0, that is, it does not average.

    Raises: ValueError unless n >= 1, s0 >= 1 and 0 < mu0 < 1.
    """
    if n < 1 or s0 < 1:
        _domain.refuse("n >= 1 and s0 >= 1 (iCT Table 1)", f"n = {n}, s0 = {s0}", "give N(k) and its start")
    if not 0 < mu0 < 1:
        _domain.refuse("0 < mu0 < 1 (iCT Table 1)", f"mu0 = {mu0}", "the paper uses 0.9 and 0.95")
    return math.exp(s0 * math.log(mu0) / n)


def _check(step: int, total_steps: int, s0: int, s1: int, source: str) -> None:
    if not 1 <= s0 <= s1:
        _domain.refuse(f"1 <= s0 <= s1 ({source})", f"s0 = {s0}, s1 = {s1}", "give s0 and s1 in this order")
    if total_steps < 1 or not 0 <= step <= total_steps:
        _domain.refuse(
            f"0 <= step <= total_steps and total_steps >= 1 ({source})",
            f"step = {step}, total_steps = {total_steps}",
            "give a step of this training",
        )


def _ceil_sqrt(a: int) -> int:
    """Return the least integer whose square is at least a."""
    return math.isqrt(a - 1) + 1 if a > 0 else 0
