"""Vectors for the schedules: grids, curricula, probabilities, weights."""

import math
from collections.abc import Callable

from tools.vectors.arrays import Array, array
from tools.vectors.case import INF, NAN, Argument, Case, acceptable, elsewhere, invalid, large, valid
from tools.vectors.generated import Levels
from tools.vectors.oracle_schedule import sigma_grid

K = 400_000  # the paper's training steps
SIZES = (161, 641, 1281)  # numbers of levels in the second half of a run


def levels(n: int, **numbers: float) -> Array:
    """The doubles nearest to the paper's levels."""
    return sigma_grid(n, **numbers).map(lambda value: array(float(value)).values[0])


BAD_LEVELS: dict[str, Array] = {
    "one level only: N < 2": array([1.0]),
    "no level: N < 2": Array((0,), ()),
    "a level is NaN": array([0.002, NAN, 80.0]),
    "the last level is infinite": array([0.002, 1.0, INF]),
    "levels descend": array([80.0, 1.0, 0.002]),
    "two levels are equal: the grid does not ascend": array([0.002, 1.0, 1.0, 80.0]),
    "sigma_min = 0: noise levels are positive": array([0.0, 1.0, 80.0]),
    "a negative level": array([-1.0, 1.0, 80.0]),
}


def refused_levels(**others: Argument) -> list[Case]:
    """Grids that no formula takes."""
    return [invalid(comment, sigmas=sigmas, **others) for comment, sigmas in BAD_LEVELS.items()]


GRID: list[Case] = [
    valid("the least grid: both ends", n=2),
    valid("N = 3", n=3),
    valid("N = 11, the paper's first", n=11),
    valid("N = 18, consistency distillation on CIFAR-10", n=18),
    valid(
        "N = 1281, the paper's last: nodes 467, 493, 514, 572 are its two-step levels .661, .821, .973, 1.526", n=1281
    ),
    valid("rho = 1: equal steps", n=9, rho=1.0),
    valid("rho = 3 on [0.5, 10]", n=6, sigma_min=0.5, sigma_max=10.0, rho=3.0),
    valid("a wide range", n=5, sigma_min=1e-6, sigma_max=1e6, rtol=1e-12),
    valid("a narrow range", n=5, sigma_min=1.0, sigma_max=1.0009765625),
    *(large(f"N = {n}", n=n, rtol=1e-12) for n in SIZES if n < 1281),
    invalid("N = 1 < 2", n=1),
    invalid("N = 0 < 2", n=0),
    invalid("N = -3 < 2", n=-3),
    invalid("sigma_min = 0", n=5, sigma_min=0.0),
    invalid("sigma_min < 0", n=5, sigma_min=-0.002),
    invalid("sigma_min = sigma_max", n=5, sigma_min=2.0, sigma_max=2.0),
    invalid("sigma_min > sigma_max", n=5, sigma_min=80.0, sigma_max=0.002),
    invalid("sigma_min is NaN", n=5, sigma_min=NAN),
    invalid("sigma_max is infinite", n=5, sigma_max=INF),
    invalid("sigma_max is NaN", n=5, sigma_max=NAN),
    invalid("rho = 0", n=5, rho=0.0),
    invalid("rho is NaN", n=5, rho=NAN),
]


def refused_curriculum(few: int) -> list[Case]:
    """Steps and numbers of levels that no curriculum takes."""
    del few
    return [
        invalid("step = -1 < 0", step=-1, total_steps=100),
        invalid("step = K + 1 > K", step=101, total_steps=100),
        invalid("K = 0", step=0, total_steps=0),
        invalid("s0 = 0 < 1", step=0, total_steps=100, s0=0, s1=10),
        invalid("s0 < 0", step=0, total_steps=100, s0=-2, s1=10),
        invalid("s1 < s0", step=0, total_steps=100, s0=10, s1=9),
    ]


def change_points() -> list[Case]:
    """The first and the last step of each of the eight stages."""
    runs = {
        "the paper's run on CIFAR-10, K' = 50 000": K,
        "the paper's run on ImageNet, K' = 100 000": 2 * K,
        "K = 400 007, K' = floor(50 000.875)": 400_007,
    }
    cases = []
    for run, total in runs.items():
        firsts = [stage * (total // 8) for stage in range(8)]
        lasts = [*(first - 1 for first in firsts[1:]), total - 1]
        for stage, (first, last) in enumerate(zip(firsts, lasts, strict=True), start=1):
            cases += [
                valid(f"{run}: the first step of stage {stage}", step=first, total_steps=total),
                valid(f"{run}: the last step of stage {stage}", step=last, total_steps=total),
            ]
    return cases


EXPONENTIAL: list[Case] = [
    *change_points(),
    valid("the paper's run, K' = 50 000: the end", step=K, total_steps=K),
    valid("s0 = 1: N(0) = 2", step=0, total_steps=10, s0=1, s1=4),
    valid("s0 = s1: one stage", step=7, total_steps=10, s0=5, s1=5),
    valid("the least K with K' = 1: eight stages", step=3, total_steps=8),
    valid("K' = 1, k = K: the cap s1", step=8, total_steps=8),
    valid("s1/s0 = 15: K' = floor(1000 / (log2 15 + 1)) = 203, k = 2 K'", step=406, total_steps=1000, s0=10, s1=150),
    valid("s1/s0 = 15: k = 3 K' - 1", step=608, total_steps=1000, s0=10, s1=150),
    valid("floor(25/10) = 2: K' = 500, k = K' - 1 (log2 2.5 would give 430)", step=499, total_steps=1000, s0=10, s1=25),
    valid("floor(25/10) = 2: k = K'", step=500, total_steps=1000, s0=10, s1=25),
    valid("floor(19/10) = 1: one stage of K steps, k = K - 1", step=999, total_steps=1000, s0=10, s1=19),
    valid("s1/s0 = 2^29: log2 is 29 exactly, K' = 10; k = 9", step=9, total_steps=300, s0=1, s1=2**29),
    valid("s1/s0 = 2^29: k = 290", step=290, total_steps=300, s0=1, s1=2**29),
    *refused_curriculum(8),
    invalid("K = 7: K' = floor(7 / 8) = 0", step=0, total_steps=7),
    invalid("K = 1, two stages: K' = 0", step=0, total_steps=1, s0=1, s1=2),
]

SQRT: list[Case] = [
    valid("N(0) = s0", step=0, total_steps=800_000),
    valid("N(K) = s1 + 1", step=800_000, total_steps=800_000),
    valid("k = 1: just above s0", step=1, total_steps=800_000),
    valid("half way", step=400_000, total_steps=800_000),
    valid("k = K - 1", step=799_999, total_steps=800_000),
    valid("ImageNet: s1 = 200", step=123_456, total_steps=800_000, s1=200),
    valid("iCT's s0, s1", step=100_000, total_steps=K, s0=10, s1=1280),
    valid(
        "the root is a whole number: 1/3 (8^2 - 1) + 1 = 22; 1/9 (10^2 - 8^2) + 8^2 = 68",
        step=1,
        total_steps=9,
        s0=8,
        s1=9,
    ),
    valid("the root is 6 exactly: 32/60 (8^2 - 2^2) + 2^2 = 36", step=32, total_steps=60, s0=2, s1=7),
    valid("the root is just above 6", step=33, total_steps=60, s0=2, s1=7),
    valid("s0 = s1", step=1, total_steps=10, s0=3, s1=3),
    valid("K = 1, k = 1", step=1, total_steps=1),
    acceptable(
        "s0 = 1: N(0) = 1, a grid of one level",
        {"two levels or more (the authors' code of consistency models)": 2},
        step=0,
        total_steps=800_000,
        s0=1,
    ),
    *refused_curriculum(2),
]

CONSTANT: list[Case] = [
    valid("the paper's s1, k = 0", step=0, total_steps=K),
    valid("k = 1", step=1, total_steps=K),
    valid("half way", step=200_000, total_steps=K),
    valid("k = K", step=K, total_steps=K),
    valid("s0 = s1 = 1: N = 2", step=0, total_steps=5, s0=1, s1=1),
    valid("s1 = 150", step=3, total_steps=5, s0=2, s1=150),
    *refused_curriculum(2),
]

LINEAR: list[Case] = [
    valid("N(0) = s0", step=0, total_steps=K),
    valid("k = 1: just above s0", step=1, total_steps=K),
    valid("a quarter: 327.75", step=100_000, total_steps=K),
    valid("half way: 645.5", step=200_000, total_steps=K),
    valid("k = K - 1", step=K - 1, total_steps=K),
    valid("N(K) = s1 + 1", step=K, total_steps=K),
    valid("a whole number: 1/3 (13 - 10) + 10 = 11", step=1, total_steps=3, s0=10, s1=12),
    valid("a whole number: 7/10 of 10", step=7, total_steps=10, s0=1, s1=10),
    *refused_curriculum(2),
]

SQUARE: list[Case] = [
    valid("N(0) = s0: sqrt(10)^2 in doubles is above 10", step=0, total_steps=K),
    valid("k = 1: just above s0", step=1, total_steps=K),
    valid("a quarter", step=100_000, total_steps=K),
    valid("half way", step=200_000, total_steps=K),
    valid("k = K - 1", step=K - 1, total_steps=K),
    valid("N(K) = s1 + 1", step=K, total_steps=K),
    valid(
        "a whole number: (2 + 1/2)^2 would be 6.25; 1/2 of sqrt 16 + 1/2 of sqrt 4 = 3, squared 9",
        step=1,
        total_steps=2,
        s0=4,
        s1=15,
    ),
    valid("a whole number: (1 + 1/3 (4 - 1))^2 = 4", step=1, total_steps=3, s0=1, s1=15),
    *refused_curriculum(2),
]

COSINE: list[Case] = [
    valid("N(0) = s0", step=0, total_steps=K),
    valid("k = 1: just above s0", step=1, total_steps=K),
    valid("a quarter", step=100_000, total_steps=K),
    valid("half way: u = 1/2", step=200_000, total_steps=K),
    valid("three quarters", step=300_000, total_steps=K),
    valid("k = K - 1", step=K - 1, total_steps=K),
    valid("N(K) = s1 + 1", step=K, total_steps=K),
    valid("a whole number: u = 1/4 at k = K / 3, 10 + 8 / 4 = 12", step=1, total_steps=3, s0=10, s1=17),
    *refused_curriculum(2),
]


def decay(comment: str, n: int, s0: int, mu0: float) -> Case:
    """mu of N, or of N - 1."""
    alternatives: dict[str, dict[str, Argument] | int] = {
        "N - 1 in place of N (the authors' code of consistency models)": {"n": n - 1, "s0": s0, "mu0": mu0}
    }
    return acceptable(comment, alternatives, n=n, s0=s0, mu0=mu0)


DECAY: list[Case] = [
    decay("N(0) = s0: mu = mu0", 2, 2, 0.9),
    decay("ImageNet's mu0", 2, 2, 0.95),
    decay("CIFAR-10's last: s1 = 150", 151, 2, 0.9),
    decay("ImageNet's last: s1 = 200", 201, 2, 0.95),
    decay("half way", 76, 2, 0.9),
    decay("a small mu0", 40, 10, 1e-6),
    decay("mu0 near 1", 1281, 10, 0.999999),
    invalid("mu0 = 0", n=10, s0=2, mu0=0.0),
    invalid("mu0 = 1", n=10, s0=2, mu0=1.0),
    invalid("mu0 > 1", n=10, s0=2, mu0=1.5),
    invalid("mu0 < 0", n=10, s0=2, mu0=-0.5),
    invalid("mu0 is NaN", n=10, s0=2, mu0=NAN),
    invalid("s0 = 0 < 1", n=10, s0=0, mu0=0.9),
    invalid("N = 0", n=0, s0=2, mu0=0.9),
]

CELLS = {
    "the least grid": levels(2),
    "N = 3": levels(3),
    "N = 11, the paper's first": levels(11),
    "N = 21": levels(21),
    "uneven levels": array([0.01, 0.5, 0.75, 3.0, 100.0]),
    "rho = 1": levels(6, rho=1.0),
    "extreme levels": array([1e-6, 1e-3, 1.0, 1e3, 1e6]),
    "close levels": array([1.0, 1.0000152587890625, 1.000030517578125]),
}

# Grids that no run of the paper has.
ODD_CELLS = ("uneven levels", "rho = 1", "extreme levels", "close levels")


def of_grids(tolerance: Callable[[str], float] = lambda _: 1e-13) -> list[Case]:
    """Small grids, and the grids of the second half of a run."""
    cases = {comment: valid(comment, sigmas=sigmas, rtol=tolerance(comment)) for comment, sigmas in CELLS.items()}
    return [
        *(elsewhere(case) if comment in ODD_CELLS else case for comment, case in cases.items()),
        *(large(f"the paper's grid of N = {n} levels", sigmas=Levels(n), rtol=1e-11, atol=0.0) for n in SIZES),
    ]


UNIFORM_PMF = [*of_grids(), *refused_levels()]
UNIFORM_WEIGHTS = list(UNIFORM_PMF)
GAP_WEIGHTS = [*of_grids(), *refused_levels()]

LOGNORMAL_PMF: list[Case] = [
    *of_grids(lambda comment: 1e-10 if "close" in comment else 1e-12),
    valid(
        "symmetric about P_mean: so is p", sigmas=array([0.25, 0.5, 1.0, 2.0, 4.0]), p_mean=0.0, p_std=1.0, rtol=1e-12
    ),
    valid(
        "far in the upper tail",
        sigmas=array([math.exp(3), math.exp(4), math.exp(5), math.exp(6)]),
        p_mean=-1.1,
        p_std=0.5,
        rtol=1e-11,
    ),
    valid("far in the lower tail", sigmas=array([1e-9, 1e-8, 1e-7, 1e-6]), p_mean=0.0, p_std=2.0, rtol=1e-11),
    valid("EDM's law: -1.2, 1.2", sigmas=levels(9), p_mean=-1.2, p_std=1.2, rtol=1e-12),
    *refused_levels(),
    invalid("P_std = 0", sigmas=levels(3), p_std=0.0),
    invalid("P_std < 0", sigmas=levels(3), p_std=-2.0),
    invalid("P_std is NaN", sigmas=levels(3), p_std=NAN),
    invalid("P_mean is NaN", sigmas=levels(3), p_mean=NAN),
]

QUARTERS = array([0.25, 0.25, 0.25, 0.25])
GAPS = array([0.0, 0.5, 0.0, 0.5, 0.0])
BELOW_ONE = math.nextafter(1.0, 0.0)
INDEX: list[Case] = [
    valid("inside each interval", u=array([0.1, 0.3, 0.6, 0.9]), pmf=QUARTERS),
    valid("at each lower edge: the interval above it", u=array([0.0, 0.25, 0.5, 0.75]), pmf=QUARTERS),
    valid(
        "just below each upper edge", u=array([math.nextafter(b, 0.0) for b in (0.25, 0.5, 0.75, 1.0)]), pmf=QUARTERS
    ),
    elsewhere(
        valid(
            "intervals of probability 0 are never drawn, not even at the edges",
            u=array([0.0, 0.25, 0.5, BELOW_ONE]),
            pmf=GAPS,
        )
    ),
    valid("one interval", u=array([0.0, 0.5, BELOW_ONE]), pmf=array([1.0])),
    valid("a batch of one", u=array([0.7]), pmf=array([0.125, 0.125, 0.75])),
    valid(
        "ten tenths, which do not add up to 1 in doubles", u=array([0.05, 0.55, 0.95, BELOW_ONE]), pmf=array([0.1] * 10)
    ),
    valid("uneven intervals", u=array([0.01, 0.2, 0.49, 0.8, 0.99]), pmf=array([0.063, 0.182, 0.246, 0.509])),
    invalid("u = 1", u=array([0.5, 1.0]), pmf=QUARTERS),
    invalid("u < 0", u=array([-0.1, 0.5]), pmf=QUARTERS),
    invalid("u is NaN", u=array([NAN]), pmf=QUARTERS),
    invalid("the probabilities add up to 0.9", u=array([0.5]), pmf=array([0.4, 0.5])),
    invalid("the probabilities add up to 1.1", u=array([0.5]), pmf=array([0.6, 0.5])),
    invalid("a negative probability", u=array([0.5]), pmf=array([1.5, -0.5])),
    invalid("a probability is NaN", u=array([0.5]), pmf=array([NAN, 0.5])),
    invalid("no interval", u=array([0.5]), pmf=Array((0,), ())),
]

LOG_DENSITY: list[Case] = [
    valid("in the range", log_sigma=array([-6.0, -4.0, -2.0, 0.0, 2.0, 4.0])),
    valid("out of the range: 0", log_sigma=array([-7.0, 5.0, 100.0])),
    valid("both", log_sigma=array([-6.5, -6.0, 4.0, 4.5])),
    valid("one number, no axes", log_sigma=array(0.0)),
    valid("two axes", log_sigma=array([[-1.0, 1.0], [-3.0, 3.0]])),
    valid("rho = 1", log_sigma=array([-2.0, 0.0, 2.0]), rho=1.0),
    valid("another range", log_sigma=array([-1.0, 0.0, 2.0, 3.0]), sigma_min=0.5, sigma_max=10.0, rho=3.0),
    invalid("sigma_min = 0", log_sigma=array([0.0]), sigma_min=0.0),
    invalid("sigma_min > sigma_max", log_sigma=array([0.0]), sigma_min=2.0, sigma_max=1.0),
    invalid("log sigma is NaN", log_sigma=array([0.0, NAN])),
    invalid("rho = 0", log_sigma=array([0.0]), rho=0.0),
]

NORMAL_DENSITY: list[Case] = [
    valid("at the mean", log_sigma=array([-1.1])),
    valid("around the mean", log_sigma=array([-6.0, -3.0, 0.0, 3.0])),
    valid("in the tails", log_sigma=array([-25.0, 25.0]), rtol=1e-12),
    valid("one number, no axes", log_sigma=array(0.5)),
    valid("two axes", log_sigma=array([[-1.0, 1.0], [-3.0, 3.0]])),
    valid("EDM's law: -1.2, 1.2", log_sigma=array([-1.2, 0.0, 1.2]), p_mean=-1.2, p_std=1.2),
    valid("the standard normal law", log_sigma=array([0.0, 1.0, -1.0, 2.0]), p_mean=0.0, p_std=1.0),
    invalid("P_std = 0", log_sigma=array([0.0]), p_std=0.0),
    invalid("P_std < 0", log_sigma=array([0.0]), p_std=-1.0),
    invalid("P_std is NaN", log_sigma=array([0.0]), p_std=NAN),
    invalid("log sigma is NaN", log_sigma=array([NAN])),
]

CASES: dict[str, list[Case]] = {
    "sigma_grid": GRID,
    "exponential_curriculum": EXPONENTIAL,
    "sqrt_curriculum": SQRT,
    "constant_curriculum": CONSTANT,
    "linear_curriculum": LINEAR,
    "square_curriculum": SQUARE,
    "cosine_curriculum": COSINE,
    "teacher_ema_decay": DECAY,
    "uniform_pmf": UNIFORM_PMF,
    "lognormal_pmf": LOGNORMAL_PMF,
    "index_from_uniform": INDEX,
    "log_sigma_density": LOG_DENSITY,
    "lognormal_density": NORMAL_DENSITY,
    "uniform_weights": UNIFORM_WEIGHTS,
    "inverse_gap_weights": GAP_WEIGHTS,
}
