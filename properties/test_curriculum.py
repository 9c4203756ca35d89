"""Laws of the number of noise levels and of the teacher's averaging."""

import math
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import assume, example, given

from ict_ref.formulas import (
    constant_curriculum,
    cosine_curriculum,
    exponential_curriculum,
    linear_curriculum,
    sqrt_curriculum,
    square_curriculum,
    teacher_ema_decay,
)

Curriculum = Callable[..., int]

curricula = st.tuples(st.integers(1, 40), st.integers(0, 2000), st.integers(1, 300)).map(
    lambda t: {"s0": t[0], "s1": t[0] + t[1], "total_steps": t[2] + math.ceil(math.log2((t[0] + t[1]) // t[0]) + 1)}
)
rising = st.sampled_from([sqrt_curriculum, linear_curriculum, square_curriculum, cosine_curriculum])
every = st.sampled_from(
    [
        exponential_curriculum,
        sqrt_curriculum,
        constant_curriculum,
        linear_curriculum,
        square_curriculum,
        cosine_curriculum,
    ]
)


def trace(curriculum: Curriculum, options: dict[str, int]) -> list[int]:
    """Return N(0), ..., N(K)."""
    return [curriculum(k, **options) for k in range(options["total_steps"] + 1)]


@given(curricula)
def test_exponential_curriculum_runs_from_s0_to_s1(options: dict[str, int]) -> None:
    """N(0) = s0 + 1 and N(K) = s1 + 1."""
    assert exponential_curriculum(0, **options) == options["s0"] + 1
    assert exponential_curriculum(options["total_steps"], **options) == options["s1"] + 1


@given(curricula)
def test_exponential_curriculum_doubles_or_is_capped(options: dict[str, int]) -> None:
    """Where N changes, N - 1 doubles or reaches s1; the changes are at multiples of the first one, K'."""
    cells = [n - 1 for n in trace(exponential_curriculum, options)]
    changes = [k for k in range(1, len(cells)) if cells[k] != cells[k - 1]]
    for k in changes:
        assert cells[k] == min(2 * cells[k - 1], options["s1"])
        assert k % changes[0] == 0


@given(st.integers(1, 30), st.integers(0, 10), st.integers(1, 200), st.integers(0, 4000))
def test_exponential_curriculum_changes_every_k_prime_steps(s0: int, doublings: int, k_prime: int, step: int) -> None:
    """s1 = s0 2^m and K = K' (m + 1): N(k) = s0 2^floor(k / K') + 1, up to the cap."""
    total_steps = k_prime * (doublings + 1)
    assume(step <= total_steps)
    expected = s0 * 2 ** min(step // k_prime, doublings) + 1
    assert exponential_curriculum(step, total_steps=total_steps, s0=s0, s1=s0 * 2**doublings) == expected


@given(st.integers(1, 40), st.integers(0, 4000))
def test_exponential_curriculum_says_how_many_steps_it_needs(s0: int, beyond: int) -> None:
    """With too few steps it is refused, and the number of steps that the message names is the least that is not."""
    for total_steps in range(1, 20):
        try:
            exponential_curriculum(0, total_steps=total_steps, s0=s0, s1=s0 + beyond)
        except ValueError as error:
            hint = int(str(error).split("at least ")[1].split(" steps")[0])
            assert hint > total_steps
            assert exponential_curriculum(0, total_steps=hint, s0=s0, s1=s0 + beyond) == s0 + 1
            with pytest.raises(ValueError, match="at least"):
                exponential_curriculum(0, total_steps=hint - 1, s0=s0, s1=s0 + beyond)


@given(every, curricula)
@example(square_curriculum, {"s0": 10, "s1": 1280, "total_steps": 100})
def test_curricula_never_fall_and_never_leave_their_range(curriculum: Curriculum, options: dict[str, int]) -> None:
    """N(k) <= N(k + 1), s0 <= N(k) <= s1 + 1, and N is an int."""
    numbers = trace(curriculum, options)
    assert numbers == sorted(numbers)
    assert options["s0"] <= numbers[0]
    assert numbers[-1] == options["s1"] + 1
    assert {type(number) for number in numbers} == {int}


@given(rising, curricula)
def test_rising_curricula_run_from_s0_to_s1(curriculum: Curriculum, options: dict[str, int]) -> None:
    """N(0) = s0 and N(K) = s1 + 1, as integers: no root of a square is rounded above itself."""
    assert curriculum(0, **options) == options["s0"]
    assert curriculum(options["total_steps"], **options) == options["s1"] + 1


@given(rising, curricula, st.integers(2, 7), st.data())
def test_rising_curricula_depend_on_the_share_of_the_training(
    curriculum: Curriculum, options: dict[str, int], factor: int, data: st.DataObject
) -> None:
    """N(ak; aK) = N(k; K)."""
    step = data.draw(st.integers(0, options["total_steps"]))
    longer = {**options, "total_steps": factor * options["total_steps"]}
    assert curriculum(factor * step, **longer) == curriculum(step, **options)


neighbours = st.sampled_from(
    [
        (square_curriculum, linear_curriculum),
        (linear_curriculum, sqrt_curriculum),
        (sqrt_curriculum, constant_curriculum),
    ]
)


@given(neighbours, curricula, st.data())
def test_rising_curricula_are_ordered(
    pair: tuple[Curriculum, Curriculum], options: dict[str, int], data: st.DataObject
) -> None:
    """Square <= linear <= sqrt <= constant: power means with exponents 1/2, 1, 2 ascend."""
    step = data.draw(st.integers(0, options["total_steps"]))
    lower, upper = (curriculum(step, **options) for curriculum in pair)
    assert lower <= upper


@given(curricula, st.data())
def test_linear_curriculum_has_equal_steps(options: dict[str, int], data: st.DataObject) -> None:
    """N(k) = s0 + ceil(k (s1 + 1 - s0) / K): k = m K / (s1 + 1 - s0) is where N reaches s0 + m."""
    rise = options["s1"] + 1 - options["s0"]
    m = data.draw(st.integers(0, rise))
    longer = {**options, "total_steps": rise * options["total_steps"]}
    assert linear_curriculum(m * options["total_steps"], **longer) == options["s0"] + m


@given(curricula, st.data())
def test_sqrt_curriculum_is_the_least_number_whose_square_is_reached(
    options: dict[str, int], data: st.DataObject
) -> None:
    """(N - 1)^2 < k/K ((s1 + 1)^2 - s0^2) + s0^2 <= N^2."""
    step = data.draw(st.integers(0, options["total_steps"]))
    s0, s1, total = options["s0"], options["s1"], options["total_steps"]
    n = sqrt_curriculum(step, **options)
    reached = step * ((s1 + 1) ** 2 - s0**2) + total * s0**2
    assert (n - 1) ** 2 * total < reached <= n**2 * total


@given(curricula, st.data())
def test_cosine_curriculum_is_symmetric_about_the_middle(options: dict[str, int], data: st.DataObject) -> None:
    """cos(pi (1 - u)) = -cos(pi u): what has risen by k is still to rise at K - k, to within the ceilings."""
    step, total = data.draw(st.integers(0, options["total_steps"])), options["total_steps"]
    ends = options["s0"] + options["s1"] + 1
    assert 0 <= cosine_curriculum(step, **options) + cosine_curriculum(total - step, **options) - ends <= 1


def test_curricula_of_figure_3b_begin_with_10_unless_told_otherwise() -> None:
    """s0 = 10: s1 = 10 is the least s1, and N(0) is 10 where N rises."""
    for curriculum in (constant_curriculum, linear_curriculum, square_curriculum, cosine_curriculum):
        assert curriculum(0, total_steps=1, s1=10) == (11 if curriculum is constant_curriculum else 10)
        with pytest.raises(ValueError, match="s0 = 10, s1 = 9"):
            curriculum(0, total_steps=1, s1=9)


@given(curricula)
def test_constant_curriculum_is_constant(options: dict[str, int]) -> None:
    """N(k) = s1 + 1."""
    assert set(trace(constant_curriculum, options)) == {options["s1"] + 1}


rates = st.floats(1e-6, 1 - 1e-6)


@given(st.integers(1, 2000), rates)
def test_teacher_ema_decay_starts_at_mu0(s0: int, mu0: float) -> None:
    """N = s0: mu = mu0."""
    assert teacher_ema_decay(s0, s0=s0, mu0=mu0) == pytest.approx(mu0, rel=1e-13)


@given(st.integers(1, 2000), st.integers(1, 200), rates)
def test_teacher_ema_decay_rises_with_the_number_of_levels(n: int, s0: int, mu0: float) -> None:
    """0 < mu(N) < mu(N + 1) < 1, but where float64 cannot tell them apart."""
    here, there = (teacher_ema_decay(m, s0=s0, mu0=mu0) for m in (n, n + 1))
    assert 0 <= here <= there < 1


@given(st.integers(1, 2000), st.integers(1, 20), st.integers(1, 20), rates)
def test_teacher_ema_decay_turns_sums_into_products(n: int, a: int, b: int, mu0: float) -> None:
    """mu(N; s0 = a + b) = mu(N; a) mu(N; b)."""
    product = teacher_ema_decay(n, s0=a, mu0=mu0) * teacher_ema_decay(n, s0=b, mu0=mu0)
    assert teacher_ema_decay(n, s0=a + b, mu0=mu0) == pytest.approx(product, rel=1e-11, abs=1e-300)


@given(every, st.integers(-5, 0), st.integers(1, 50), st.integers(1, 20))
def test_curricula_refuse_what_is_outside_their_domain(curriculum: Curriculum, low: int, s0: int, beyond: int) -> None:
    """1 <= s0 <= s1 and 0 <= k <= K."""
    total = 100
    for step in (low - 1, total + beyond):
        with pytest.raises(ValueError, match="step"):
            curriculum(step, total_steps=total)
    with pytest.raises(ValueError, match="total_steps"):
        curriculum(0, total_steps=low)
    with pytest.raises(ValueError, match="s0"):
        curriculum(0, total_steps=total, s0=low, s1=s0)
    with pytest.raises(ValueError, match="s1"):
        curriculum(0, total_steps=total, s0=s0 + beyond, s1=s0)


@given(st.integers(-5, 0), st.sampled_from([0.0, 1.0, -0.5, 2.0, math.nan, math.inf]))
def test_teacher_ema_decay_refuses_what_is_outside_its_domain(low: int, mu0: float) -> None:
    """N >= 1, s0 >= 1, 0 < mu0 < 1."""
    with pytest.raises(ValueError, match="n >= 1"):
        teacher_ema_decay(low, s0=2, mu0=0.9)
    with pytest.raises(ValueError, match="s0 >= 1"):
        teacher_ema_decay(10, s0=low, mu0=0.9)
    with pytest.raises(ValueError, match="mu0"):
        teacher_ema_decay(10, s0=2, mu0=mu0)
