"""Numbers of noise levels.

Oracle: exact fractions and integers; mpmath, 60 digits, for the cosine.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import mpmath
import pytest
import torch

from ict_ref.formulas import (
    constant_curriculum,
    cosine_curriculum,
    linear_curriculum,
    sqrt_curriculum,
    square_curriculum,
    teacher_ema_decay,
)

Curriculum = Callable[..., int]
Oracle = Callable[[int, int, int, int], int]

CURRICULA = [constant_curriculum, linear_curriculum, square_curriculum, cosine_curriculum, sqrt_curriculum]
HUGE = 10**18

# With v = (u (s1+1)^p + (1-u) s0^p)^(1/p) and u = k/K, ceil(v - 1) + 1 is the least integer m >= v.


def least(reaches: Callable[[int], bool], low: int, high: int) -> int:
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low


def exact_sqrt(k: int, total: int, s0: int, s1: int) -> int:
    return least(lambda m: m * m * total >= k * (s1 + 1) ** 2 + (total - k) * s0**2, s0, s1 + 1)


def exact_linear(k: int, total: int, s0: int, s1: int) -> int:
    return least(lambda m: m * total >= k * (s1 + 1) + (total - k) * s0, s0, s1 + 1)


def exact_square(k: int, total: int, s0: int, s1: int) -> int:
    # K^2 v = k^2 (s1+1) + (K-k)^2 s0 + sqrt(4 k^2 (K-k)^2 (s1+1) s0)
    rational = k * k * (s1 + 1) + (total - k) ** 2 * s0
    radicand = 4 * k * k * (total - k) ** 2 * (s1 + 1) * s0
    return least(lambda m: m * total**2 >= rational and (m * total**2 - rational) ** 2 >= radicand, s0, s1 + 1)


def exact_cosine(k: int, total: int, s0: int, s1: int) -> int:
    # Niven: cos(pi u) is rational only where 2 cos(pi u) is an integer. Elsewhere v is irrational: digits decide.
    twice = {Fraction(0): 2, Fraction(1, 3): 1, Fraction(1, 2): 0, Fraction(2, 3): -1, Fraction(1): -2}
    if Fraction(k, total) in twice:
        return math.ceil(s0 + (s1 + 1 - s0) * Fraction(2 - twice[Fraction(k, total)], 4))
    with mpmath.workdps(100):
        v = s0 + (s1 + 1 - s0) * (1 - mpmath.cos(mpmath.pi * k / total)) / 2
        assert abs(v - mpmath.nint(v)) > mpmath.mpf("1e-90")
        return int(mpmath.ceil(v))


SHAPES = [
    (sqrt_curriculum, exact_sqrt),
    (linear_curriculum, exact_linear),
    (square_curriculum, exact_square),
    (cosine_curriculum, exact_cosine),
]


@pytest.mark.parametrize(
    ("curriculum", "expected"),
    [
        (sqrt_curriculum, [2, 76, 107, 151]),  # v = 2, sqrt(5703.25), sqrt(11402.5), 151; the paper misprints 22801
        (constant_curriculum, [1281] * 4),
        (linear_curriculum, [10, 328, 646, 1281]),  # v = 10, 327.75, 645.5, 1281
        (square_curriculum, [10, 129, 380, 1281]),  # v = 10, 128.13, 379.34, 1281; sqrt(10)^2 rounds to above 10
        (cosine_curriculum, [10, 197, 646, 1281]),  # v = 10, 196.13, 645.5, 1281
    ],
)
def test_the_default_curricula_have_their_values_at_the_quarters(curriculum: Curriculum, expected: list[int]) -> None:
    got = [curriculum(k, total_steps=400_000) for k in (0, 100_000, 200_000, 400_000)]
    assert got == expected
    assert {type(n) for n in got} == {int}


@pytest.mark.parametrize(("curriculum", "exact"), SHAPES)
@pytest.mark.parametrize(
    ("total", "s0", "s1"),
    [
        (1, 10, 1280),
        (7, 2, 150),
        (500, 2, 150),
        (1271, 10, 1280),  # linear: v = 10 + k, an integer at every step
        (293, 9, 15),  # sqrt(9) and sqrt(16) are integers, v only at the ends
        (360, 1, 15),  # square: v = (1 + 3 u)^2 is 4 at a third and 9 at two thirds
        (360, 2, 17),  # square: v = 2 (1 + 2 u)^2 is 8 at the half, with irrational roots
        (300, 2, 9),  # cosine: v is 4, 6, 8 at a third, the half, two thirds
        (240, 3, 4),  # sqrt: v = sqrt(9 + 16 u) is 4 at u = 7/16
        (300, 5, 5),
        (300, 1, 1),
    ],
)
def test_a_curriculum_is_an_exact_ceiling_at_every_step(
    curriculum: Curriculum, exact: Oracle, total: int, s0: int, s1: int
) -> None:
    got = [curriculum(k, total_steps=total, s0=s0, s1=s1) for k in range(total + 1)]
    assert got == [exact(k, total, s0, s1) for k in range(total + 1)]
    assert got[0] == s0
    assert got[-1] == s1 + 1


@pytest.mark.parametrize(("curriculum", "exact"), SHAPES)
@pytest.mark.parametrize("seed", range(15))
def test_a_curriculum_is_an_exact_ceiling_for_random_runs(curriculum: Curriculum, exact: Oracle, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    total, s0, span = (int(torch.randint(1, top, (), generator=generator)) for top in (1_000_001, 60, 3000))
    steps = [0, 1, total // 2, total - 1, total, *torch.randint(0, total + 1, (20,), generator=generator).tolist()]
    got = [curriculum(k, total_steps=total, s0=s0, s1=s0 + span) for k in steps]
    assert got == [exact(k, total, s0, s0 + span) for k in steps]


@pytest.mark.parametrize(
    ("curriculum", "s0", "s1", "parts", "part", "value"),
    [
        (sqrt_curriculum, 2, 150, 1, 0, 2),
        (linear_curriculum, 10, 1280, 1, 0, 10),
        (square_curriculum, 10, 1280, 1, 0, 10),
        (cosine_curriculum, 10, 1280, 1, 0, 10),
        (sqrt_curriculum, 3, 4, 16, 7, 4),
        (linear_curriculum, 10, 1280, 1271, 777, 787),
        (square_curriculum, 1, 8, 2, 1, 4),
        (cosine_curriculum, 2, 9, 3, 1, 4),
        (cosine_curriculum, 2, 9, 2, 1, 6),
    ],
)
def test_a_value_a_hair_above_an_integer_is_rounded_up(
    curriculum: Curriculum, s0: int, s1: int, parts: int, part: int, value: int
) -> None:
    # v is exactly `value` at u = part/parts and strictly increasing. One step of 10^18 later it is above, which float64
    # cannot represent, and one step earlier it is below. The cosine is computed in float64, up to K = 10^9.
    scale = HUGE if curriculum is not cosine_curriculum else 10**9 // parts
    total, step = parts * scale, part * scale
    assert curriculum(step, total_steps=total, s0=s0, s1=s1) == value
    assert curriculum(step + 1, total_steps=total, s0=s0, s1=s1) == value + 1
    if part:
        assert curriculum(step - 1, total_steps=total, s0=s0, s1=s1) == value
    assert curriculum(total - 1, total_steps=total, s0=s0, s1=s1) == s1 + 1


@pytest.mark.parametrize(("s0", "s1"), [(10, 1280), (2, 150), (1, 1)])
def test_the_constant_curriculum_is_its_end_from_the_first_step(s0: int, s1: int) -> None:
    assert [constant_curriculum(k, total_steps=9, s0=s0, s1=s1) for k in range(10)] == [s1 + 1] * 10


@pytest.mark.parametrize("curriculum", CURRICULA)
def test_a_curriculum_outside_its_domain_is_rejected(curriculum: Curriculum) -> None:
    for step in (-1, 401):
        with pytest.raises(ValueError, match="step"):
            curriculum(step, total_steps=400)
    for total_steps in (0, -400):
        with pytest.raises(ValueError, match=r"total_steps|\bK\b"):
            curriculum(0, total_steps=total_steps)
    for s0, s1 in ((0, 10), (-1, 10), (11, 10), (2, 0)):
        with pytest.raises(ValueError, match=r"s[01]"):
            curriculum(0, total_steps=400, s0=s0, s1=s1)


@pytest.mark.parametrize(
    ("n", "s0", "mu0", "expected"),
    [
        (2, 2, 0.9, 0.9),  # mu(0) = mu0 where N(0) = s0
        (4, 2, 0.81, 0.9),  # mu0^(s0/N) is a square root
        (151, 2, 0.9, 0.99860546974360563),  # mpmath, 50 digits
        (201, 2, 0.95, 0.99948974918356496),
    ],
)
def test_the_rate_of_the_teacher_has_its_values(n: int, s0: int, mu0: float, expected: float) -> None:
    got = teacher_ema_decay(n, s0=s0, mu0=mu0)
    assert type(got) is float
    assert got == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("n", [1, 2, 11, 151, 1281, 10**7])
@pytest.mark.parametrize("s0", [1, 2, 10])
@pytest.mark.parametrize("mu0", [1e-9, 0.5, 0.95, 0.9999999])
def test_the_rate_of_the_teacher_agrees_with_fifty_digits(n: int, s0: int, mu0: float) -> None:
    with mpmath.workdps(50):
        power = mpmath.root(mpmath.mpf(mu0) ** s0, n)
        assert float(abs(teacher_ema_decay(n, s0=s0, mu0=mu0) / power - 1)) < 1e-13


@pytest.mark.parametrize("mu0", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf])
def test_a_first_rate_outside_the_open_unit_interval_is_rejected(mu0: float) -> None:
    with pytest.raises(ValueError, match="mu0"):
        teacher_ema_decay(11, s0=2, mu0=mu0)


@pytest.mark.parametrize("count", [0, -3])
def test_a_rate_for_zero_levels_is_rejected(count: int) -> None:
    with pytest.raises(ValueError, match=r"\b[nN]\b"):
        teacher_ema_decay(count, s0=2, mu0=0.9)
    with pytest.raises(ValueError, match="s0"):
        teacher_ema_decay(11, s0=count, mu0=0.9)
