"""Vectors for the closed forms and the statistics."""

from tools.vectors.arrays import Array, array
from tools.vectors.case import INF, NAN, Argument, Case, draw, elsewhere, invalid, valid

XI, MEAN = array([0.5, -1.0]), array([0.25, -0.5])
NEAR = {"rtol": 1e-12, "atol": 1e-14}

DELTA: list[Case] = [
    valid("three levels", x=draw(300, 3, 2), sigma=array([0.01, 1.0, 80.0]), xi=XI, **NEAR),
    valid("sigma_min: the input", x=draw(301, 2, 2), sigma=array([0.002, 0.002]), xi=XI, **NEAR),
    valid("no event axes", x=array([0.5, 2.0]), sigma=array([0.5, 3.0]), xi=array(1.5), **NEAR),
    valid("a batch of one", x=draw(302, 1, 2), sigma=array([0.821]), xi=XI, **NEAR),
    valid("sigma_min = 0.5", x=draw(303, 2, 2), sigma=array([0.5, 2.0]), xi=XI, sigma_min=0.5, **NEAR),
    valid("noise of level 80", x=array([[81.0, -161.0]]), sigma=array([80.0]), xi=XI, **NEAR),
    valid("images", x=draw(304, 2, 3, 2, 1), sigma=array([0.004, 2.0]), xi=draw(305, 3, 2, 1), **NEAR),
    invalid("sigma = 0", x=array([[1.0, 2.0]]), sigma=array([0.0]), xi=XI),
    invalid("sigma < 0", x=array([[1.0, 2.0]]), sigma=array([-1.0]), xi=XI),
    invalid("sigma is NaN", x=array([[1.0, 2.0]]), sigma=array([NAN]), xi=XI),
    invalid("sigma_min < 0", x=array([[1.0, 2.0]]), sigma=array([1.0]), xi=XI, sigma_min=-0.002),
    invalid("xi has another shape", x=array([[1.0, 2.0]]), sigma=array([1.0]), xi=array([1.0, 2.0, 3.0])),
]


def normal(comment: str, x: Array, sigma: Array, **others: Argument) -> Case:
    """Normal data."""
    return valid(comment, x=x, sigma=sigma, **NEAR, **{"mean": MEAN, "std": 0.5, **others})


GAUSSIAN: list[Case] = [
    normal("three levels", draw(310, 3, 2), array([0.01, 1.0, 80.0])),
    normal("sigma_min: the input", draw(311, 2, 2), array([0.002, 0.002])),
    normal("no event axes", array([0.5, 2.0]), array([0.5, 3.0]), mean=array(1.5)),
    normal("a batch of one", draw(312, 1, 2), array([0.821])),
    normal("std = 0: data of one point", draw(313, 2, 2), array([0.5, 2.0]), std=0.0),
    normal("sigma_min = 0.25", draw(314, 2, 2), array([0.5, 2.0]), sigma_min=0.25),
    normal("noise of level 80", array([[81.0, -161.0]]), array([80.0]), std=2.0),
    invalid("std < 0", x=array([[1.0, 2.0]]), sigma=array([1.0]), mean=MEAN, std=-0.5),
    invalid("std is NaN", x=array([[1.0, 2.0]]), sigma=array([1.0]), mean=MEAN, std=NAN),
    invalid("sigma is NaN", x=array([[1.0, 2.0]]), sigma=array([NAN]), mean=MEAN, std=0.5),
    invalid("sigma < 0", x=array([[1.0, 2.0]]), sigma=array([-1.0]), mean=MEAN, std=0.5),
    invalid("the mean has another shape", x=array([[1.0, 2.0]]), sigma=array([1.0]), mean=array([1.0]), std=0.5),
]

MEANS, STDS, SHARES = array([[-1.0, 0.0], [1.0, 1.0]]), array([0.5, 0.25]), array([0.25, 0.75])


def mixture(comment: str, x: Array, sigma: Array, **others: Argument) -> Case:
    """A mixture of normal laws."""
    return valid(
        comment, x=x, sigma=sigma, **{**NEAR, "means": MEANS, "stds": STDS, "mixture_weights": SHARES, **others}
    )


def bad_mixture(comment: str, **others: Argument) -> Case:
    """An invalid mixture."""
    common: dict[str, Argument] = {
        "x": array([[0.5, 0.5]]),
        "sigma": array([1.0]),
        "means": MEANS,
        "stds": STDS,
        "mixture_weights": SHARES,
    }
    return invalid(comment, **{**common, **others})


MIXTURE: list[Case] = [
    mixture("three levels", draw(320, 3, 2), array([0.1, 1.0, 10.0])),
    mixture("no event axes", array([0.5, -2.0]), array([0.5, 3.0]), means=array([-1.0, 1.0])),
    mixture("a batch of one", draw(321, 1, 2), array([0.821])),
    mixture(
        "one component",
        draw(322, 2, 2),
        array([0.5, 2.0]),
        means=array([[0.5, -0.5]]),
        stds=array([0.5]),
        mixture_weights=array([1.0]),
    ),
    mixture("points: std = 0", draw(323, 2, 2), array([0.5, 2.0]), stds=array([0.0, 0.0])),
    elsewhere(mixture("far out, where every density underflows", array([[100.0, -100.0]]), array([0.1]))),
    mixture(
        "sigma_min, between two points: exponents of 156 250 hang on each other",
        array([[0.0, 0.5]]),
        array([0.002]),
        stds=array([0.0, 0.0]),
        rtol=1e-9,
    ),
    mixture("images", draw(324, 2, 1, 2, 1), array([0.25, 4.0]), means=draw(325, 2, 1, 2, 1)),
    bad_mixture("the weights add up to 0.9", mixture_weights=array([0.25, 0.65])),
    bad_mixture("a negative weight", mixture_weights=array([-0.25, 1.25])),
    bad_mixture("a weight is NaN", mixture_weights=array([NAN, 0.75])),
    bad_mixture("std < 0", stds=array([-0.5, 0.25])),
    bad_mixture("sigma is NaN", sigma=array([NAN])),
    bad_mixture("sigma < 0", sigma=array([-1.0])),
    bad_mixture("one weight for two components", mixture_weights=array([1.0])),
]

RANGES: list[tuple[str, dict[str, Argument]]] = [
    ("sigma_min = 0", {"sigma_min": 0.0}),
    ("sigma_min < 0", {"sigma_min": -0.002}),
    ("sigma_min = sigma_max", {"sigma_min": 1.0, "sigma_max": 1.0}),
    ("sigma_min > sigma_max", {"sigma_min": 2.0, "sigma_max": 1.0}),
    ("sigma_min is NaN", {"sigma_min": NAN}),
    ("sigma_max is infinite", {"sigma_max": INF}),
]
APART: dict[str, Argument] = {"theta": 1.5, "theta_minus": 1.0}
LOSS_LIMIT: list[Case] = [
    valid("the paper's range", **APART),
    valid("theta- above theta", theta=-0.5, theta_minus=2.0),
    valid("sigma_min / sigma_max = 0.05", **APART, sigma_min=0.05, sigma_max=1.0, rtol=1e-12),
    valid("sigma_min / sigma_max = 0.5", **APART, sigma_min=0.5, sigma_max=1.0, rtol=1e-12),
    valid("sigma_min / sigma_max = 0.9: the closed form cancels", **APART, sigma_min=0.9, sigma_max=1.0, rtol=1e-11),
    valid("theta- = theta: 0", theta=1.5, theta_minus=1.5),
    valid("a wide range", **APART, sigma_min=1e-6, sigma_max=1e6),
    *(invalid(comment, **APART, **numbers) for comment, numbers in RANGES),
    invalid("theta is NaN", theta=NAN, theta_minus=1.0),
]

ALIKE: dict[str, Argument] = {"theta": 1.5, "xi": 0.5}
GRADIENT_LIMIT: list[Case] = [
    valid("the paper's range", **ALIKE),
    valid("theta = xi: 0", theta=0.5, xi=0.5),
    valid("theta below xi", theta=-1.0, xi=0.5),
    valid("sigma_min / sigma_max = 0.05", **ALIKE, sigma_min=0.05, sigma_max=1.0, rtol=1e-12),
    valid("sigma_min / sigma_max = 0.5", **ALIKE, sigma_min=0.5, sigma_max=1.0, rtol=1e-12),
    valid("a wide range", **ALIKE, sigma_min=1e-6, sigma_max=1e6),
    *(invalid(comment, **ALIKE, **numbers) for comment, numbers in RANGES),
    invalid("theta is NaN", theta=NAN, xi=0.5),
    invalid("xi is infinite", theta=1.5, xi=INF),
]
DIVERGENCE: list[Case] = [
    valid("theta- < theta: +inf", **APART),
    valid("theta- > theta: -inf", theta=1.0, theta_minus=1.5),
    valid("theta- one rounding below theta", theta=1.0, theta_minus=0.9999999999999999),
    valid("theta- one rounding above theta", theta=-1.0, theta_minus=-0.9999999999999999),
    valid("theta = 0", theta=0.0, theta_minus=1e-300),
    valid("theta- = 0", theta=1e300, theta_minus=0.0),
    invalid("theta- = theta: the limit is finite", theta=1.5, theta_minus=1.5),
    invalid("theta is NaN", theta=NAN, theta_minus=1.0),
    invalid("theta- is infinite", theta=1.0, theta_minus=-INF),
]
LEADING: list[Case] = [
    valid("the paper's range", **ALIKE, delta_sigma=0.01),
    valid("theta = xi: 0", theta=0.5, xi=0.5, delta_sigma=0.01),
    valid("theta below xi", theta=-1.0, xi=0.5, delta_sigma=1.0),
    valid("sigma_min / sigma_max = 0.05", **ALIKE, delta_sigma=1e-4, sigma_min=0.05, sigma_max=1.0, rtol=1e-12),
    valid("sigma_min / sigma_max = 0.5", **ALIKE, delta_sigma=1e-6, sigma_min=0.5, sigma_max=1.0, rtol=1e-12),
    valid("a wide range", **ALIKE, delta_sigma=0.5, sigma_min=1e-6, sigma_max=1e6),
    *(invalid(comment, **ALIKE, delta_sigma=0.01, **numbers) for comment, numbers in RANGES),
    invalid("xi is NaN", theta=1.5, xi=NAN, delta_sigma=0.01),
    invalid("Delta sigma = 0", **ALIKE, delta_sigma=0.0),
    invalid("Delta sigma < 0", **ALIKE, delta_sigma=-0.01),
    invalid("Delta sigma is NaN", **ALIKE, delta_sigma=NAN),
]
DIVERGENT: list[Case] = [
    valid("theta- < theta", **APART),
    valid("theta- > theta", theta=1.0, theta_minus=1.5),
    valid("theta- = theta: 0", theta=1.5, theta_minus=1.5),
    valid("sigma_min / sigma_max = 0.05", **APART, sigma_min=0.05, sigma_max=1.0, rtol=1e-12),
    valid("sigma_min / sigma_max = 0.5", **APART, sigma_min=0.5, sigma_max=1.0, rtol=1e-12),
    valid("sigma_min / sigma_max = 0.9: the closed form cancels", **APART, sigma_min=0.9, sigma_max=1.0, rtol=1e-11),
    valid("a wide range", **APART, sigma_min=1e-6, sigma_max=1e6),
    *(invalid(comment, **APART, **numbers) for comment, numbers in RANGES),
    invalid("theta is NaN", theta=NAN, theta_minus=1.0),
    invalid("theta- is infinite", theta=1.0, theta_minus=INF),
]

UNIT, WIDE = array([[1.0, 0.0], [0.0, 1.0]]), array([[2.0, 0.5], [0.5, 1.0]])
ZERO, SHIFT = array([0.0, 0.0]), array([3.0, 4.0])
FLAT = array([[1.0, 1.0], [1.0, 1.0]])
FRECHET: list[Case] = [
    valid("only the means differ: 25", mean1=ZERO, cov1=UNIT, mean2=SHIFT, cov2=UNIT, atol=1e-12),
    valid("diagonal covariances", mean1=ZERO, cov1=array([[4.0, 0.0], [0.0, 9.0]]), mean2=ZERO, cov2=UNIT, rtol=1e-12),
    valid(
        "covariances that do not commute",
        mean1=ZERO,
        cov1=WIDE,
        mean2=SHIFT,
        cov2=array([[1.0, -0.75], [-0.75, 3.0]]),
        rtol=1e-12,
    ),
    valid("equal laws: 0", mean1=SHIFT, cov1=WIDE, mean2=SHIFT, cov2=WIDE, atol=1e-7),
    valid(
        "one dimension: (s1 - s2)^2",
        mean1=array([1.0]),
        cov1=array([[4.0]]),
        mean2=array([1.0]),
        cov2=array([[0.25]]),
        rtol=1e-12,
    ),
    valid("a singular covariance", mean1=ZERO, cov1=FLAT, mean2=SHIFT, cov2=WIDE, rtol=1e-7),
    valid("points: covariances 0", mean1=ZERO, cov1=UNIT * 0, mean2=SHIFT, cov2=UNIT * 0, atol=1e-12),
    valid(
        "three dimensions",
        mean1=array([1.0, 0.0, -1.0]),
        cov1=array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.25], [0.0, 0.25, 3.0]]),
        mean2=array([0.0, 0.5, 0.0]),
        cov2=array([[1.0, 0.0, 0.5], [0.0, 2.0, 0.0], [0.5, 0.0, 1.0]]),
        rtol=1e-12,
    ),
    invalid(
        "a covariance that is not symmetric", mean1=ZERO, cov1=array([[1.0, 0.5], [0.0, 1.0]]), mean2=ZERO, cov2=UNIT
    ),
    invalid("a negative variance", mean1=ZERO, cov1=array([[1.0, 0.0], [0.0, -1.0]]), mean2=ZERO, cov2=UNIT),
    invalid("a mean is NaN", mean1=array([NAN, 0.0]), cov1=UNIT, mean2=ZERO, cov2=UNIT),
    invalid("a covariance is NaN", mean1=ZERO, cov1=array([[NAN, 0.0], [0.0, 1.0]]), mean2=ZERO, cov2=UNIT),
    invalid("different dimensions", mean1=ZERO, cov1=UNIT, mean2=array([0.0]), cov2=array([[1.0]])),
]

LINE = array([[0.0], [1.0], [2.1], [3.3], [4.6]])
RECALL: list[Case] = [
    valid("the same features: 1, 1", real=LINE, fake=LINE, k=1),
    valid("far apart: 0, 0", real=LINE, fake=LINE + 100, k=1),
    valid("half of them near", real=LINE, fake=array([[0.2], [2.0], [50.0], [60.0]]), k=1),
    valid("k = 3 by default", real=draw(330, 6, 2), fake=draw(331, 5, 2)),
    valid("k = 2", real=draw(332, 6, 3), fake=draw(333, 6, 3), k=2),
    valid("fakes in one place: precision 1, low recall", real=LINE, fake=array([[2.0], [2.01], [2.02]]), k=1),
    valid("k = n - 1: the farthest neighbour", real=draw(334, 4, 2), fake=draw(335, 4, 2)),
    invalid("k = 0", real=LINE, fake=LINE, k=0),
    invalid("k < 0", real=LINE, fake=LINE, k=-1),
    invalid("k = n: the k-th neighbour does not exist", real=LINE, fake=LINE, k=5),
    invalid("too few fakes", real=LINE, fake=array([[0.0], [1.0]]), k=3),
    invalid("a feature is NaN", real=LINE, fake=array([[NAN], [1.0], [2.0]]), k=1),
    invalid("different dimensions", real=LINE, fake=draw(336, 5, 2), k=1),
]

INCEPTION: list[Case] = [
    valid(
        "each example sure of another class: the number of classes",
        p=array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    ),
    valid("all alike: 1", p=array([[0.5, 0.25, 0.25]] * 3)),
    valid("one example: 1", p=array([[0.5, 0.25, 0.25]])),
    valid("two classes", p=array([[0.75, 0.25], [0.125, 0.875]]), rtol=1e-12),
    valid("some zeros", p=array([[0.5, 0.5, 0.0], [0.25, 0.0, 0.75], [1.0, 0.0, 0.0]]), rtol=1e-12),
    valid("an empty class", p=array([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]]), rtol=1e-12),
    elsewhere(valid("tiny probabilities", p=array([[1.0, 1e-300], [1e-300, 1.0]]), rtol=1e-12)),
    invalid("a row adds up to 0.9", p=array([[0.5, 0.4], [0.5, 0.5]])),
    invalid("a negative probability", p=array([[1.5, -0.5], [0.5, 0.5]])),
    invalid("a probability is NaN", p=array([[NAN, 0.5]])),
    invalid("no example", p=Array((0, 3), ())),
]

KERNEL: list[Case] = [
    valid("two of each", real=draw(340, 2, 3), fake=draw(341, 2, 3), rtol=1e-11, atol=1e-12),
    valid("more fakes than reals", real=draw(342, 3, 2), fake=draw(343, 5, 2), rtol=1e-11, atol=1e-12),
    valid(
        "the same features: below 0, the estimate is unbiased",
        real=draw(344, 4, 2),
        fake=draw(344, 4, 2),
        rtol=1e-11,
        atol=1e-12,
    ),
    valid("one dimension", real=array([[0.0], [1.0], [2.0]]), fake=array([[1.0], [3.0]]), rtol=1e-12),
    valid("features 0: 0", real=array([[0.0, 0.0]] * 2), fake=array([[0.0, 0.0]] * 3)),
    valid("far apart", real=draw(345, 3, 4), fake=draw(346, 3, 4) + 10, rtol=1e-11),
    invalid("one real: no pair", real=array([[1.0, 2.0]]), fake=draw(347, 3, 2)),
    invalid("one fake: no pair", real=draw(347, 3, 2), fake=array([[1.0, 2.0]])),
    invalid("different dimensions", real=draw(347, 3, 2), fake=draw(348, 3, 4)),
    invalid("a feature is NaN", real=draw(347, 3, 2), fake=array([[NAN, 0.0], [1.0, 2.0]])),
]

CASES: dict[str, list[Case]] = {
    "delta_consistency_function": DELTA,
    "gaussian_consistency_function": GAUSSIAN,
    "gaussian_mixture_score": MIXTURE,
    "ct_loss_limit": LOSS_LIMIT,
    "ct_gradient_limit": GRADIENT_LIMIT,
    "ct_gradient_divergence": DIVERGENCE,
    "ct_gradient_leading_term": LEADING,
    "ct_gradient_divergent_term": DIVERGENT,
    "frechet_distance": FRECHET,
    "precision_recall": RECALL,
    "inception_score": INCEPTION,
    "kernel_distance": KERNEL,
}
