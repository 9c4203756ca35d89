"""Laws of the number of noise levels, and of the teacher's averaging."""

import math

from ict_ref.verify.checks.law import BrokenError, Function, Laws, close, equal, given, law, needs, refused, tolerance
from ict_ref.verify.laws import strategies as some

RISING = ("sqrt_curriculum", "linear_curriculum", "square_curriculum", "cosine_curriculum")
CURRICULA = ("exponential_curriculum", "constant_curriculum", *RISING)
ROUNDING = 1e-12
"""Where a whole number is reached exactly, rounding of N before its ceiling is a matter of precision."""


def levels(f: Function, step: int, **options: int) -> int:
    """Return N(k), which may be of any type here: vectors find a wrong type.

    Raises:
        BrokenError: It is not whole.
    """
    n = float(f(step=step, **options))
    if not n.is_integer():
        raise BrokenError(f"got {n!r}, should be a whole number")
    return int(n)


def trace(f: Function, options: dict[str, int]) -> list[int]:
    """Return N(0), ..., N(K)."""
    return [levels(f, k, **options) for k in range(options["total_steps"] + 1)]


@law(*CURRICULA)
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths)
def never_falls_and_ends_at_the_top(f: Function, s0: int, s1: int, total_steps: int) -> None:
    """N(k) <= N(k + 1), s0 <= N(k) <= N(K) = s1 + 1, and N is whole."""
    numbers = trace(f, {"s0": s0, "s1": s1, "total_steps": total_steps})
    needs(numbers == sorted(numbers), f"N falls: {numbers[:20]}")
    equal(numbers[-1], s1 + 1, "N(K) =")
    needs(numbers[0] >= s0, f"N(0) = {numbers[0]}, should be at least s0")


@law("exponential_curriculum")
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths)
def begins_with_s0_cells(f: Function, s0: int, s1: int, total_steps: int) -> None:
    """N(0) = s0 + 1."""
    equal(levels(f, 0, s0=s0, s1=s1, total_steps=total_steps), s0 + 1, "N(0) =")


@law("exponential_curriculum")
@given(s0=some.s0s, doublings=some.doublings, k_prime=some.k_primes, fraction=some.fractions)
def doubles_every_k_prime_steps(f: Function, s0: int, doublings: int, k_prime: int, fraction: float) -> None:
    """s1 = s0 2^m and K = K' (m + 1): N(k) = s0 2^floor(k / K') + 1, up to the cap."""
    total_steps = k_prime * (doublings + 1)
    step = int(fraction * total_steps)
    expected = s0 * (1 << min(step // k_prime, doublings)) + 1
    got = levels(f, step, total_steps=total_steps, s0=s0, s1=s0 << doublings)
    equal(got, expected, f"N({step}) of K = {total_steps} is")


@law("exponential_curriculum", kind="accepts")
@given(s0=some.s0s, doublings=some.doublings)
def refuses_what_has_no_k_prime(f: Function, s0: int, doublings: int) -> None:
    """K < log2(s1/s0) + 1 leaves K' = 0 steps at each N, and is refused."""
    refused(lambda: f(step=0, total_steps=doublings, s0=s0, s1=s0 << doublings), f"K = {doublings}, where K' = 0")


@law(*RISING)
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths)
def begins_with_s0_levels(f: Function, s0: int, s1: int, total_steps: int) -> None:
    """N(0) = s0 >= 2: no root of a square is rounded above itself, and one level is not a grid."""
    equal(levels(f, 0, s0=s0, s1=s1, total_steps=total_steps), s0, "N(0) =")


@law(*RISING)
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths, step=some.steps, m=some.small_integers)
def depends_on_the_share_of_the_training(f: Function, s0: int, s1: int, total_steps: int, step: int, m: int) -> None:
    """N(m k; m K) = N(k; K)."""
    longer = levels(f, m * step, s0=s0, s1=s1, total_steps=m * total_steps)
    equal(longer, levels(f, step, s0=s0, s1=s1, total_steps=total_steps), f"with {m} times as many steps")


@law("sqrt_curriculum")
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths, step=some.steps)
def is_the_least_number_whose_square_is_reached(f: Function, s0: int, s1: int, total_steps: int, step: int) -> None:
    """(N - 1)^2 < k/K ((s1 + 1)^2 - s0^2) + s0^2 <= N^2, to rounding."""
    n = levels(f, step, s0=s0, s1=s1, total_steps=total_steps)
    reached = step * ((s1 + 1) ** 2 - s0**2) + total_steps * s0**2
    low, high = ((n - 1) ** 2 * total_steps * (1 - ROUNDING), n**2 * total_steps * (1 + ROUNDING))
    needs(low < reached <= high, f"N = {n} where N^2 should reach {reached}/K")


@law("sqrt_curriculum", kind="precision")
@given(s0=some.first_numbers, s1=some.last_numbers, m=some.small_integers, fraction=some.fractions)
def is_n_where_n_squared_is_reached_exactly(f: Function, s0: int, s1: int, m: int, fraction: float) -> None:
    """K = m ((s1 + 1)^2 - s0^2), k = m (n^2 - s0^2): N(k) = n and N(k + 1) = n + 1, no root is rounded up."""
    n, total_steps = s0 + int(fraction * (s1 - s0)), m * ((s1 + 1) ** 2 - s0**2)
    step = m * (n**2 - s0**2)
    got = [levels(f, k, s0=s0, s1=s1, total_steps=total_steps) for k in (step, step + 1)]
    equal(got, [n, n + 1], f"N({step}), N({step + 1}) of K = {total_steps} are")


@law("square_curriculum", kind="precision")
@given(s0=some.first_numbers, m=some.small_integers, doublings=some.doublings, fraction=some.fractions)
def is_n_squared_where_n_is_reached_exactly(f: Function, s0: int, m: int, doublings: int, fraction: float) -> None:
    """s0 = a^2, s1 + 1 = b^2, K = m (b - a), k = m (n - a): N(k) = n^2, and the next step is above."""
    a, b = s0, s0 + doublings + 1
    n = a + int(fraction * doublings)
    got = [levels(f, m * (n - a) + k, s0=a**2, s1=b**2 - 1, total_steps=m * (b - a)) for k in (0, 1)]
    equal(got[0], n**2, "N =")
    needs(got[1] > got[0], f"N = {got[1]} one step later, should be above {got[0]}")


@law("cosine_curriculum", kind="precision")
@given(s0=some.first_numbers, s1=some.last_numbers, m=some.small_integers)
def is_exact_at_the_thirds(f: Function, s0: int, s1: int, m: int) -> None:
    """cos(pi/3) = 1/2, so with s0 and s1 + 1 divisible by 4: N(K/3) = (s1+1 + 3 s0)/4, N(2K/3) = (3 (s1+1) + s0)/4."""
    low, high = 4 * s0, 4 * s1 + 4
    got = [levels(f, k * m, s0=low, s1=high - 1, total_steps=3 * m) for k in (1, 2)]
    equal(got, [(high + 3 * low) // 4, (3 * high + low) // 4], "N(K/3), N(2K/3) are")


@law("linear_curriculum", kind="precision")
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths, fraction=some.fractions)
def has_equal_steps(f: Function, s0: int, s1: int, total_steps: int, fraction: float) -> None:
    """N(k) = s0 + ceil(k (s1 + 1 - s0) / K): k = m K / (s1 + 1 - s0) is where N reaches s0 + m."""
    rise = s1 + 1 - s0
    m = int(fraction * rise)
    equal(levels(f, m * total_steps, s0=s0, s1=s1, total_steps=rise * total_steps), s0 + m, "N =")


@law("square_curriculum")
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths, step=some.steps)
def is_the_least_number_whose_root_is_reached(f: Function, s0: int, s1: int, total_steps: int, step: int) -> None:
    """sqrt(N - 1) < k/K sqrt(s1 + 1) + (1 - k/K) sqrt(s0) <= sqrt(N), to rounding."""
    n = levels(f, step, s0=s0, s1=s1, total_steps=total_steps)
    root = step / total_steps * math.sqrt(s1 + 1) + (1 - step / total_steps) * math.sqrt(s0)
    needs(math.sqrt(n - 1) < root * (1 + ROUNDING), f"N = {n} is too large")
    needs(root <= math.sqrt(n) * (1 + ROUNDING), f"N = {n} is too small")


@law("cosine_curriculum")
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths, step=some.steps)
def is_symmetric_about_the_middle(f: Function, s0: int, s1: int, total_steps: int, step: int) -> None:
    """N(k) + N(K - k) = s0 + s1 + 1, to within the two ceilings."""
    there, back = (levels(f, k, s0=s0, s1=s1, total_steps=total_steps) for k in (step, total_steps - step))
    needs(0 <= there + back - (s0 + s1 + 1) <= 2, f"N(k) + N(K - k) = {there + back}, should be {s0 + s1 + 1}")


@law("constant_curriculum")
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths)
def is_constant(f: Function, s0: int, s1: int, total_steps: int) -> None:
    """N(k) = s1 + 1."""
    equal(sorted(set(trace(f, {"s0": s0, "s1": s1, "total_steps": total_steps}))), [s1 + 1], "the values of N are")


@law(*CURRICULA, kind="accepts")
@given(s0=some.first_numbers, s1=some.last_numbers, total_steps=some.lengths, beyond=some.steps_beyond)
def refuses_steps_outside_the_training(f: Function, s0: int, s1: int, total_steps: int, beyond: int) -> None:
    """Needs 0 <= k <= K."""
    options = {"s0": s0, "s1": s1, "total_steps": total_steps}
    refused(lambda: f(step=-beyond, **options), f"step {-beyond}")
    refused(lambda: f(step=total_steps + beyond, **options), f"step {total_steps + beyond} of K = {total_steps}")


@law("teacher_ema_decay")
@given(n=some.level_counts, s0=some.s0s, m=some.small_integers, mu0=some.mu0s)
def turns_sums_into_products(f: Function, n: int, s0: int, m: int, mu0: float) -> None:
    """mu(N; s0 = a + b) = mu(N; a) mu(N; b)."""
    close(f(n=n, s0=s0 + m, mu0=mu0), f(n=n, s0=s0, mu0=mu0) * f(n=n, s0=m, mu0=mu0))


@law("teacher_ema_decay")
@given(n=some.level_counts, s0=some.s0s, mu0=some.mu0s)
def rises_with_the_number_of_levels(f: Function, n: int, s0: int, mu0: float) -> None:
    """0 <= mu(N) <= mu(N + 1) < 1."""
    here, there = f(n=n, s0=s0, mu0=mu0), f(n=n + 1, s0=s0, mu0=mu0)
    needs(0 <= here <= there < 1, f"mu(N) = {here} and mu(N + 1) = {there}")


@law("teacher_ema_decay")
@given(n=some.level_counts, s0=some.s0s, mu0=some.mu0s)
def is_mu0_to_the_power_of_s0_over_n(f: Function, n: int, s0: int, mu0: float) -> None:
    """mu^N = mu0^s0 for mu over N, or where the public CM code's N - 1 is meant, mu^(N-1) = mu0^s0."""
    log_mu = math.log(f(n=n, s0=s0, mu0=mu0))
    wanted = s0 * math.log(mu0)
    ours, theirs = abs(n * log_mu - wanted), abs((n - 1) * log_mu - wanted)
    # Near 1, mu itself is rounded by more than the digits of its logarithm.
    rounding = tolerance(1e-12) * abs(wanted) + tolerance(1e-15) * n
    needs(min(ours, theirs) <= rounding, f"log mu = {log_mu}, should be {wanted / n}")


LAWS: tuple[Laws, ...] = (
    never_falls_and_ends_at_the_top,
    begins_with_s0_cells,
    doubles_every_k_prime_steps,
    refuses_what_has_no_k_prime,
    begins_with_s0_levels,
    depends_on_the_share_of_the_training,
    is_the_least_number_whose_square_is_reached,
    is_n_where_n_squared_is_reached_exactly,
    is_n_squared_where_n_is_reached_exactly,
    is_exact_at_the_thirds,
    has_equal_steps,
    is_the_least_number_whose_root_is_reached,
    is_symmetric_about_the_middle,
    is_constant,
    refuses_steps_outside_the_training,
    turns_sums_into_products,
    rises_with_the_number_of_levels,
    is_mu0_to_the_power_of_s0_over_n,
)
