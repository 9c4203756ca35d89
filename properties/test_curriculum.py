"""Laws of the number of noise levels and of the teacher's averaging."""

import math
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ict_ref.formulas import (
    constant_curriculum,
    cosine_curriculum,
    exponential_curriculum,
    linear_curriculum,
    sqrt_curriculum,
    square_curriculum,
    teacher_ema_decay,
)
from properties.law_of import law_of

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


@law_of("exponential_curriculum")
@given(curricula)
def test_exponential_curriculum_doubles_or_is_capped(options: dict[str, int]) -> None:
    """Where N changes, N - 1 doubles or reaches s1; the changes are at multiples of the first one, K'."""
    intervals = [n - 1 for n in trace(exponential_curriculum, options)]
    changes = [k for k in range(1, len(intervals)) if intervals[k] != intervals[k - 1]]
    for k in changes:
        assert intervals[k] == min(2 * intervals[k - 1], options["s1"])
        assert k % changes[0] == 0


@law_of("exponential_curriculum")
@given(st.integers(1, 40), st.integers(0, 4000))
def test_exponential_curriculum_names_the_least_number_of_steps(s0: int, beyond: int) -> None:
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


neighbours = st.sampled_from(
    [
        (square_curriculum, linear_curriculum),
        (linear_curriculum, sqrt_curriculum),
        (sqrt_curriculum, constant_curriculum),
    ]
)


@law_of("square_curriculum", "linear_curriculum", "sqrt_curriculum", "constant_curriculum")
@given(neighbours, curricula, st.data())
def test_rising_curricula_are_ordered(
    pair: tuple[Curriculum, Curriculum], options: dict[str, int], data: st.DataObject
) -> None:
    """Square <= linear <= sqrt <= constant: power means with exponents 1/2, 1, 2 ascend."""
    step = data.draw(st.integers(0, options["total_steps"]))
    lower, upper = (curriculum(step, **options) for curriculum in pair)
    assert lower <= upper


@law_of("constant_curriculum", "linear_curriculum", "square_curriculum", "cosine_curriculum")
def test_curricula_of_figure_3b_begin_with_10_by_default() -> None:
    """s0 = 10: s1 = 10 is the least s1, and N(0) is 10 where N rises."""
    for curriculum in (constant_curriculum, linear_curriculum, square_curriculum, cosine_curriculum):
        assert curriculum(0, total_steps=1, s1=10) == (11 if curriculum is constant_curriculum else 10)
        with pytest.raises(ValueError, match="s0 = 10, s1 = 9"):
            curriculum(0, total_steps=1, s1=9)


rates = st.floats(1e-6, 1 - 1e-6)


@law_of("teacher_ema_decay")
@given(st.integers(1, 2000), rates)
def test_teacher_ema_decay_starts_at_mu0(s0: int, mu0: float) -> None:
    """N = s0: mu = mu0."""
    assert teacher_ema_decay(s0, s0=s0, mu0=mu0) == pytest.approx(mu0, rel=1e-13)


@law_of(
    "exponential_curriculum",
    "constant_curriculum",
    "sqrt_curriculum",
    "linear_curriculum",
    "square_curriculum",
    "cosine_curriculum",
)
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


@law_of("teacher_ema_decay")
@given(st.integers(-5, 0), st.sampled_from([0.0, 1.0, -0.5, 2.0, math.nan, math.inf]))
def test_teacher_ema_decay_refuses_what_is_outside_its_domain(low: int, mu0: float) -> None:
    """N >= 1, s0 >= 1, 0 < mu0 < 1."""
    with pytest.raises(ValueError, match="n >= 1"):
        teacher_ema_decay(low, s0=2, mu0=0.9)
    with pytest.raises(ValueError, match="s0 >= 1"):
        teacher_ema_decay(10, s0=low, mu0=0.9)
    with pytest.raises(ValueError, match="mu0"):
        teacher_ema_decay(10, s0=2, mu0=mu0)
