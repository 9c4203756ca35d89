"""Vectors for the parameterisation, the embeddings, the distances and the objectives."""

from tools.vectors.arrays import Array, array
from tools.vectors.callbacks import callback
from tools.vectors.case import INF, NAN, Argument, Case, draw, elsewhere, invalid, large, marked, valid, whole
from tools.vectors.cases_schedule import levels
from tools.vectors.generated import Integers, Levels, Uniform

LEVELS = array([0.002, 0.1, 0.5, 1.0, 80.0])
BAD_SIGMAS = {"sigma is NaN": array([1.0, NAN]), "sigma < 0": array([-1.0, 1.0]), "sigma is infinite": array([INF])}


def scalings(*, has_data: bool = True, has_min: bool = True, atol: float = 0.0) -> list[Case]:
    """Levels for c_skip, c_out, c_in and c_noise."""
    cases = [
        valid("the paper's levels .1, 1, 80, and sigma_min", sigma=LEVELS, atol=atol),
        valid("one level, no axes", sigma=array(3.0)),
        valid("two axes", sigma=array([[0.25, 2.0], [10.0, 40.0]])),
        valid("a batch of one", sigma=array([0.821])),
        valid("just above sigma_min", sigma=array([0.0021, 0.0030, 0.01]), rtol=1e-12),
        valid("far above sigma_max", sigma=array([1e3, 1e6])),
    ]
    if has_data:
        cases += [
            valid("sigma_data = 1", sigma=array([0.5, 1.0, 2.0]), sigma_data=1.0),
            invalid("sigma_data = 0", sigma=array([1.0]), sigma_data=0.0),
            invalid("sigma_data < 0", sigma=array([1.0]), sigma_data=-0.5),
            invalid("sigma_data is NaN", sigma=array([1.0]), sigma_data=NAN),
        ]
    if has_min:
        cases += [
            valid("sigma_min = 0.5", sigma=array([0.5, 1.0, 2.0]), sigma_min=0.5),
            invalid("sigma_min is NaN", sigma=array([1.0]), sigma_min=NAN),
            invalid("sigma_min < 0", sigma=array([1.0]), sigma_min=-0.002),
        ]
    cases += [invalid(comment, sigma=sigma) for comment, sigma in BAD_SIGMAS.items()]
    return [*cases, large("the 1281 levels of the end of a run", sigma=Levels(1281), rtol=1e-11)]


# A batch of CIFAR-10. Differences of two such batches have norms of about 64.
CIFAR = (128, 3, 32, 32)
PART_OF_CIFAR = (16, 3, 32, 32)
NETWORK = callback("network_bend", a=0.75, b=-1.5)


def sixteen_levels() -> Array:
    """Every 85th of the 1281 levels, from the lowest."""
    return array([float(level) for level in levels(1281).values[::85]])


BOUNDARY: list[Case] = [
    valid("at sigma_min the input comes back", network=NETWORK, x=array([[0.5, -1.25]]), sigma=array([0.002])),
    valid("levels from sigma_min to sigma_max", network=NETWORK, x=draw(1, 5, 3), sigma=LEVELS, rtol=1e-12, atol=1e-14),
    valid("no event axes", network=NETWORK, x=array([0.3, -0.7]), sigma=array([0.5, 2.0])),
    valid("a batch of one", network=NETWORK, x=draw(2, 1, 4), sigma=array([0.1])),
    valid("images", network=NETWORK, x=draw(3, 2, 3, 2, 2), sigma=array([0.821, 1.526]), rtol=1e-12, atol=1e-14),
    valid(
        "another network",
        network=callback("network_bend", a=-2.0, b=3.0),
        x=draw(4, 3, 2),
        sigma=array([0.01, 1.0, 10.0]),
        rtol=1e-12,
        atol=1e-14,
    ),
    valid("noise of level 80", network=NETWORK, x=array([[81.0, -120.0, 40.0]]), sigma=array([80.0])),
    large(
        "a part of a batch of CIFAR-10, levels of the end of a run",
        network=NETWORK,
        x=Uniform(1, PART_OF_CIFAR, -1.0, 1.0),
        sigma=sixteen_levels(),
    ),
    valid("other numbers", network=NETWORK, x=draw(5, 2, 2), sigma=array([0.5, 3.0]), sigma_min=0.01, sigma_data=1.0),
    invalid("sigma_data = 0", network=NETWORK, x=array([[1.0]]), sigma=array([1.0]), sigma_data=0.0),
    invalid("sigma is NaN", network=NETWORK, x=array([[1.0]]), sigma=array([NAN])),
    invalid("sigma < 0", network=NETWORK, x=array([[1.0]]), sigma=array([-1.0])),
    invalid("one level for two examples", network=NETWORK, x=array([[1.0], [2.0]]), sigma=array([1.0])),
]

C = array([-1.5536520, 0.0, 1.0955067])  # log(sigma) / 4 at .002, 1, 80
FOURIER: list[Case] = [
    valid("iCT's scale 0.02", c_noise=C, frequencies=array([0.02, -0.01, 0.005]), atol=1e-15),
    valid("the older scale 16", c_noise=C, frequencies=array([16.0, -8.5, 3.25]), rtol=1e-12, atol=1e-13),
    valid("a batch of one, one frequency", c_noise=array([0.3]), frequencies=array([1.0])),
    valid("c_noise = 0: sines 0, cosines 1", c_noise=array([0.0]), frequencies=array([0.5, 2.0])),
    valid("frequency 0", c_noise=array([0.7, -0.7]), frequencies=array([0.0, 0.25])),
    valid("many frequencies", c_noise=array([-0.5756463]), frequencies=draw(6, 8), rtol=1e-12, atol=1e-14),
    valid("eighths of a turn", c_noise=array([0.125, 0.375]), frequencies=array([1.0, -1.0])),
    invalid("c_noise is NaN", c_noise=array([NAN]), frequencies=array([1.0])),
    invalid("a frequency is infinite", c_noise=array([1.0]), frequencies=array([INF])),
]

POSITIONAL: list[Case] = [
    valid("log(sigma) / 4 of .002, 1, 80", c_noise=C, width=8, atol=1e-15),
    valid("width = 2: one frequency, 1", c_noise=array([0.5, -0.5]), width=2),
    valid("width = 4", c_noise=array([1.0]), width=4),
    valid("the older embedding's thousandfold", c_noise=array([-1553.652, 273.87667]), width=8, rtol=1e-11, atol=1e-12),
    valid("c_noise = 0: cosines 1, sines 0", c_noise=array([0.0]), width=6),
    valid("max_period = 100", c_noise=array([0.25, 2.0]), width=6, max_period=100.0),
    valid("width = 16", c_noise=array([2.5]), width=16),
    invalid("width = 7 is odd", c_noise=array([1.0]), width=7),
    invalid("width = 1 is odd", c_noise=array([1.0]), width=1),
    invalid("width = 0", c_noise=array([1.0]), width=0),
    invalid("width < 0", c_noise=array([1.0]), width=-2),
    invalid("max_period = 0", c_noise=array([1.0]), width=4, max_period=0.0),
    invalid("c_noise is NaN", c_noise=array([NAN]), width=4),
]


def batches() -> dict[str, Argument]:
    """Two batches of the size of CIFAR-10's."""
    return {"x": Uniform(2, CIFAR, -1.0, 1.0), "y": Uniform(3, CIFAR, -1.0, 1.0)}


def pairs() -> list[tuple[str, Array, Array]]:
    """Pairs of examples for the distances."""
    ones = array([[1.0] * 30])
    return [
        ("two values, one different", array([[1.0, 0.0]]), array([[0.0, 0.0]])),
        ("three examples", draw(7, 3, 4), draw(8, 3, 4)),
        ("equal inputs: 0", draw(9, 2, 3), draw(9, 2, 3)),
        ("no event axes", array([0.5, -2.0, 3.0]), array([0.25, 1.0, 3.0])),
        ("a batch of one, thirty values", ones, ones * 0),
        ("images", draw(10, 2, 3, 2, 2), draw(11, 2, 3, 2, 2)),
        ("far apart", array([[1e6, -1e6]]), array([[-1e6, 1e6]])),
        ("very close", array([[0.5, 0.5]]), array([[0.5000001192092896, 0.5]])),
    ]


REFUSED_PAIRS: list[tuple[str, Array, Array]] = [
    ("different events", array([[1.0, 2.0]]), array([[1.0, 2.0, 3.0]])),
    ("different batches", array([[1.0], [2.0]]), array([[1.0], [2.0], [3.0]])),
    ("one example against two: no broadcasting", array([[1.0, 2.0]]), array([[1.0, 2.0], [3.0, 4.0]])),
]


def unusual(case: Case) -> Case:
    """The case, marked if no images of training are so far apart or so close."""
    if case.comment == "far apart":
        return elsewhere(case)
    return marked(case, "Elsewhere", "Cancellation") if case.comment == "very close" else case


def distances(**others: Argument) -> list[Case]:
    """Vectors for a distance without a constant."""
    return [
        *(unusual(valid(comment, x=x, y=y, **others)) for comment, x, y in pairs()),
        large("two batches of CIFAR-10", **batches(), **others),
        *(invalid(comment, x=x, y=y, **others) for comment, x, y in REFUSED_PAIRS),
    ]


X, Y = array([[1.0, 0.0]]), array([[0.0, 0.5]])
HUBER: list[Case] = [
    *distances(c=0.03),
    valid("CIFAR-10's c, which belongs to 3072 values", x=draw(12, 2, 5), y=draw(13, 2, 5), c=0.029929839625296264),
    valid("an example of one value", x=array([[1.0], [0.25]]), y=array([[0.0], [0.0]]), c=0.5),
    marked(
        valid(
            "a tiny difference, where the root cancels",
            x=array([[1e-7], [3e-5]]),
            y=array([[0.0], [0.0]]),
            c=0.03,
            rtol=1e-12,
        ),
        "Elsewhere",
        "Cancellation",
    ),
    valid("c far above the difference: squared l2 / 2c", x=X, y=Y, c=1e4, rtol=1e-12),
    valid("c far below the difference: the norm", x=X, y=Y, c=1e-12),
    invalid("c = 0: the gradient is infinite where x = y", x=X, y=Y, c=0.0),
    invalid("c < 0", x=X, y=Y, c=-0.03),
    invalid("c is NaN", x=X, y=Y, c=NAN),
    invalid("c is infinite", x=X, y=Y, c=INF),
]
CONSTANT: list[Case] = [
    valid("CIFAR-10: 3 x 32 x 32", dim=3072),
    valid("ImageNet: 3 x 64 x 64", dim=12288),
    valid("one value", dim=1),
    valid("two values", dim=2),
    valid("MNIST: 28 x 28", dim=784),
    valid("3 x 256 x 256", dim=196608),
    invalid("dim = 0 < 1", dim=0),
    invalid("dim < 0", dim=-1),
]

SCORE = callback("gaussian_score", mean=0.5, std=0.75)
DRIFT: list[Case] = [
    valid("a Gaussian's drift", x=draw(14, 3, 2), sigma=array([0.1, 1.0, 10.0]), score=SCORE),
    valid("no event axes", x=array([1.0, -2.0]), sigma=array([0.5, 2.0]), score=SCORE),
    valid("a batch of one", x=draw(15, 1, 4), sigma=array([0.821]), score=SCORE),
    valid("at the mean: 0", x=array([[0.5, 0.5]]), sigma=array([3.0]), score=SCORE),
    valid(
        "data of one point",
        x=draw(16, 2, 2),
        sigma=array([0.002, 80.0]),
        score=callback("gaussian_score", mean=0.0, std=0.0),
    ),
    valid("images", x=draw(17, 2, 3, 2, 2), sigma=array([1.0, 5.0]), score=SCORE),
    valid("a score that bends", x=draw(18, 2, 3), sigma=array([0.5, 1.5]), score=callback("bend", a=-1.0, b=0.25)),
    invalid("sigma is NaN", x=X, sigma=array([NAN]), score=SCORE),
    invalid("sigma < 0", x=X, sigma=array([-1.0]), score=SCORE),
]


def steps(seed: int) -> list[tuple[str, Array, Array, Array]]:
    """Points, upper and lower levels."""
    return [
        ("three examples", draw(seed, 3, 2), array([0.5, 2.0, 80.0]), array([0.25, 1.5, 79.5])),
        ("no event axes", array([1.0, -2.0]), array([0.5, 2.0]), array([0.25, 0.1])),
        ("a batch of one", draw(seed + 1, 1, 4), array([1.526]), array([0.821])),
        ("down to sigma_min", draw(seed + 2, 2, 2), array([0.003, 80.0]), array([0.002, 0.002])),
        ("no step: the point stays", draw(seed + 3, 1, 3), array([1.0]), array([1.0])),
        ("images", draw(seed + 4, 2, 3, 2, 2), array([1.0, 5.0]), array([0.9, 4.0])),
    ]


EULER: list[Case] = [
    *(
        valid(
            comment,
            x_hi=x,
            sigma_hi=high,
            sigma_lo=low,
            score_value=Array(x.shape, tuple(-v / 2 for v in x)),
            atol=1e-13,
        )
        for comment, x, high, low in steps(20)
    ),
    invalid("sigma_hi is NaN", x_hi=X, sigma_hi=array([NAN]), sigma_lo=array([1.0]), score_value=Y),
    invalid(
        "the score has another shape", x_hi=X, sigma_hi=array([2.0]), sigma_lo=array([1.0]), score_value=array([[1.0]])
    ),
]
HEUN: list[Case] = [
    *(
        valid(comment, x_hi=x, sigma_hi=high, sigma_lo=low, score=SCORE, rtol=1e-12, atol=1e-13)
        for comment, x, high, low in steps(30)
    ),
    valid(
        "a score that bends",
        x_hi=draw(40, 2, 3),
        sigma_hi=array([1.5, 0.5]),
        sigma_lo=array([1.0, 0.25]),
        score=callback("bend", a=-1.0, b=0.25),
        rtol=1e-12,
        atol=1e-14,
    ),
    invalid("sigma_lo is NaN", x_hi=X, sigma_hi=array([2.0]), sigma_lo=array([NAN]), score=SCORE),
    invalid("sigma_hi < 0", x_hi=X, sigma_hi=array([-2.0]), sigma_lo=array([1.0]), score=SCORE),
]

GRID = levels(5)
WEIGHTS = array([4.0, 3.0, 2.0, 1.0])
STUDENT, TEACHER = callback("bend", a=1.0, b=0.0625), callback("bend", a=0.75, b=-0.03125)
SQUARED, PSEUDO_HUBER = callback("squared_l2"), callback("pseudo_huber", c=0.03)
EXACT = callback("gaussian_consistency", mean=0.5, std=0.75, sigma_min=0.002)


def objective(**changed: Argument) -> dict[str, Argument]:
    """Arguments of an objective, without the point."""
    common: dict[str, Argument] = {
        "student": STUDENT,
        "teacher": TEACHER,
        "index": whole(0, 1, 2, 3),
        "sigmas": GRID,
        "distance": SQUARED,
        "weights": WEIGHTS,
    }
    return {**common, **changed}


def point(seed: int, *shape: int, training: bool) -> dict[str, Argument]:
    """x and z, or x_hi and the score."""
    if training:
        return {"x": draw(seed, *shape, scale=1.0), "z": draw(seed + 1, *shape)}
    return {"x_hi": draw(seed, *shape), "score": SCORE}


def objectives(*, training: bool) -> list[Case]:
    """Vectors for both discrete objectives."""

    def at(seed: int, *shape: int, **changed: Argument) -> dict[str, Argument]:
        return {**objective(**changed), **point(seed, *shape, training=training)}

    def of_images() -> dict[str, Argument]:
        shape = PART_OF_CIFAR
        first, second = ("x", "z") if training else ("x_hi", None)
        batch: dict[str, Argument] = {first: Uniform(4, shape, -1.0, 1.0)}
        batch |= {second: Uniform(5, shape, -2.0, 2.0)} if second else {"score": SCORE}
        grid = {"sigmas": Levels(1281), "index": Integers(6, shape[:1], 1280), "weights": Uniform(7, (1280,), 0.5, 1.5)}
        return objective(**batch, **grid, distance=callback("pseudo_huber", c=0.029929839625296264))

    small = array([0.002, 0.5, 1.0])
    near: dict[str, Argument] = {"sigmas": small, "weights": array([2.0, 0.5]), "index": whole(0, 1)}
    loose = 1e-11
    return [
        valid("each interval of a grid of five levels", rtol=loose, **at(50, 4, 2)),
        valid("pseudo-Huber distance", rtol=loose, **at(52, 4, 2, distance=PSEUDO_HUBER)),
        valid("no event axes", rtol=loose, **at(54, 4)),
        valid("a batch of one, the first interval", rtol=loose, **at(56, 1, 3, index=whole(0))),
        valid("a batch of one, the last interval", rtol=loose, **at(58, 1, 3, index=whole(3))),
        valid("images, small levels", rtol=loose, **at(60, 2, 3, 2, 1, **near)),
        valid(
            "weights 1 / (sigma_{i+1} - sigma_i)",
            rtol=loose,
            **at(62, 2, 3, **without_rounding(near), distance=PSEUDO_HUBER),
        ),
        large("a part of a batch of CIFAR-10, N = 1281, the paper's c", **of_images()),
        valid("student and teacher alike", rtol=1e-10, **at(64, 2, 3, **near, teacher=STUDENT)),
        valid("the lower level sigma_min: the teacher's boundary", rtol=loose, **at(66, 2, 2, **near, teacher=EXACT)),
        invalid("index -1 is not an interval", **at(68, 1, 2, index=whole(-1))),
        invalid("index N - 1 is not an interval", **at(68, 1, 2, index=whole(4))),
        invalid(
            "weights for N levels, not for N - 1 intervals", **at(68, 4, 2, weights=array([4.0, 3.0, 2.0, 1.0, 1.0]))
        ),
        invalid("a weight is 0: lambda(sigma) > 0", **at(68, 4, 2, weights=array([4.0, 3.0, 0.0, 1.0]))),
        invalid("a weight is negative", **at(68, 4, 2, weights=array([4.0, 3.0, -2.0, 1.0]))),
        invalid("a weight is NaN", **at(68, 4, 2, weights=array([4.0, NAN, 2.0, 1.0]))),
        invalid("levels descend", **at(68, 4, 2, sigmas=array([80.0, 10.0, 1.0, 0.1, 0.002]))),
        invalid("a level is NaN", **at(68, 4, 2, sigmas=array([0.002, NAN, 1.0, 10.0, 80.0]))),
        invalid("two levels are equal", **at(68, 4, 2, sigmas=array([0.002, 1.0, 1.0, 10.0, 80.0]))),
    ]


def without_rounding(near: dict[str, Argument]) -> dict[str, Argument]:
    """Levels whose gaps are exact, with their inverses for weights."""
    return {**near, "sigmas": array([0.25, 0.5, 1.0]), "weights": array([4.0, 2.0])}


def continuous(*, training: bool) -> list[Case]:
    """Vectors for both continuous objectives."""

    def at(seed: int, *shape: int, **changed: Argument) -> dict[str, Argument]:
        batch = shape[0]
        common: dict[str, Argument] = {
            "student": STUDENT,
            "sigma": array([0.25, 1.0, 3.0][:batch]),
            "weights": array([1.0, 0.5, 2.0][:batch]),
            "distance": SQUARED,
            "x": draw(seed, *shape, scale=1.0),
        }
        second: dict[str, Argument] = {"z": draw(seed + 1, *shape)} if training else {"score": SCORE}
        return {**common, **second, **changed}

    loose = 1e-11
    bent = callback("bend", a=0.5, b=-0.25)
    return [
        valid("three levels", rtol=loose, atol=1e-13, **at(70, 3, 2)),
        valid(
            "pseudo-Huber distance: the Hessian is 1 / c", rtol=loose, atol=1e-12, **at(72, 3, 2, distance=PSEUDO_HUBER)
        ),
        valid("no event axes", rtol=loose, atol=1e-13, **at(74, 3)),
        valid("a batch of one", rtol=loose, atol=1e-13, **at(76, 1, 4)),
        valid("images", rtol=loose, atol=1e-13, **at(78, 2, 3, 2, 1)),
        valid("another function", rtol=loose, atol=1e-13, **at(80, 2, 3, student=bent)),
        valid("weights far apart", rtol=loose, atol=1e-13, **at(82, 2, 2, weights=array([1e-6, 1e6]))),
        valid("small levels", rtol=loose, atol=1e-13, **at(84, 2, 2, sigma=array([0.002, 0.01]))),
        invalid("sigma is NaN", **at(86, 1, 2, sigma=array([NAN]))),
        invalid("sigma < 0", **at(86, 1, 2, sigma=array([-1.0]))),
        invalid("one weight for two examples", **at(86, 2, 2, weights=array([1.0]))),
        invalid("a weight is 0: lambda(sigma) > 0", **at(86, 2, 2, weights=array([0.0, 1.0]))),
        invalid("a weight is negative", **at(86, 2, 2, weights=array([-1.0, 1.0]))),
        invalid("a weight is NaN", **at(86, 2, 2, weights=array([NAN, 1.0]))),
    ]


AVERAGE: list[Case] = [
    valid("one step", ema=array([1.0, 2.0]), value=array([3.0, -2.0]), decay=0.9, atol=1e-15),
    valid("iCT's decay on CIFAR-10", ema=draw(90, 2, 3), value=draw(91, 2, 3), decay=0.99993, atol=1e-15),
    valid("ImageNet's decay", ema=draw(92, 4), value=draw(93, 4), decay=0.99997, atol=1e-15),
    valid("decay 0: the value", ema=draw(94, 3), value=draw(95, 3), decay=0.0),
    valid("no axes", ema=array(1.0), value=array(2.0), decay=0.5),
    valid("equal: nothing moves", ema=draw(96, 3), value=draw(96, 3), decay=0.75),
    invalid("decay = 1: the EMA weights would never move", ema=array([1.0]), value=array([2.0]), decay=1.0),
    invalid("decay > 1", ema=array([1.0]), value=array([2.0]), decay=1.5),
    invalid("decay < 0", ema=array([1.0]), value=array([2.0]), decay=-0.1),
    invalid("decay is NaN", ema=array([1.0]), value=array([2.0]), decay=NAN),
    invalid("different shapes", ema=array([1.0, 2.0]), value=array([2.0]), decay=0.5),
]

CASES: dict[str, list[Case]] = {
    "c_skip": scalings(),
    "c_out": scalings(),
    "c_in": scalings(has_min=False),
    "c_noise": [
        *scalings(has_data=False, has_min=False),
        valid("a wide range", sigma=array([1e-300, 1e-9, 1e9, 1e300])),
        invalid("sigma = 0", sigma=array([0.0])),
    ],
    "boundary_parameterization": BOUNDARY,
    "fourier_embedding": FOURIER,
    "positional_embedding": POSITIONAL,
    "squared_l2": distances(),
    "l1": distances(),
    "pseudo_huber": HUBER,
    "pseudo_huber_constant": CONSTANT,
    "probability_flow_drift": DRIFT,
    "euler_step": EULER,
    "heun_step": HEUN,
    "consistency_matching_loss": objectives(training=False),
    "consistency_training_loss": objectives(training=True),
    "continuous_consistency_training_loss": continuous(training=True),
    "continuous_consistency_distillation_loss": continuous(training=False),
    "ema_update": AVERAGE,
}
