"""Vectors for ECT: mapping, stages, the law of the level, weights, distance and loss."""

from tools.vectors.arrays import array
from tools.vectors.callbacks import callback
from tools.vectors.case import INF, NAN, Argument, Case, draw, elsewhere, invalid, valid
from tools.vectors.cases_model import REFUSED_PAIRS, distances

T = array([0.002, 0.1, 0.5, 1.0, 3.0, 80.0])
BAD_LEVELS = {
    "t is NaN": array([1.0, NAN]),
    "t = 0": array([0.0]),
    "t < 0": array([-1.0]),
    "t is infinite": array([INF]),
}

MAPPING: list[Case] = [
    valid("the first stage on CIFAR-10", t=T, exponent=1, atol=1e-15),
    valid("the third stage", t=T, exponent=3),
    valid("the last stage, a = 8", t=T, exponent=8),
    valid("the first stage on ImageNet, q = 4", t=T, exponent=1, q=4.0, atol=1e-15),
    valid("one hour: q = 256, one stage", t=T, exponent=1, q=256.0),
    elsewhere(valid("k = 0: the constant ratio of Eq. (17)", t=T, exponent=2, k=0.0)),
    elsewhere(valid("b = 0.5", t=T, exponent=4, b=0.5, atol=1e-15)),
    valid("around the threshold log 7", t=array([1.9, 1.9459101, 1.9459102, 2.0]), exponent=1, rtol=1e-9, atol=1e-15),
    elsewhere(valid("levels far out", t=array([1e-9, 1e4, 1e9]), exponent=5)),
    valid("one level, no axes", t=array(2.5), exponent=2),
    invalid("exponent = 0", t=T, exponent=0),
    invalid("exponent < 0", t=T, exponent=-1),
    invalid("q = 1 is out of range: q > 1", t=T, exponent=1, q=1.0),
    invalid("k < 0", t=T, exponent=1, k=-1.0),
    invalid("b = 0", t=T, exponent=1, b=0.0),
    invalid("q is NaN", t=T, exponent=1, q=NAN),
    invalid("q^exponent out of range: r rounds to t", t=T, exponent=60),
    *(invalid(comment, t=t, exponent=1) for comment, t in BAD_LEVELS.items()),
]

D = 25_000  # updates of a stage in the authors' scripts
STEPS: list[tuple[str, int, int]] = [
    ("the first update", 0, D),
    ("the last update of the first stage", D - 1, D),
    ("the first update of the second stage", D, D),
    ("the second update of the second stage", D + 1, D),
    ("in the middle of a stage", 60_000, D),
    ("the fifth stage", 100_000, D),
    ("the last update of 200 000", 199_999, D),
    ("stages of one update", 3, 1),
    ("stages of ten", 10, 10),
]
EXPONENT: list[Case] = [
    *(valid(comment, step=step, steps_per_stage=length) for comment, step, length in STEPS),
    invalid("step < 0", step=-1, steps_per_stage=D),
    invalid("steps_per_stage = 0", step=0, steps_per_stage=0),
    invalid("steps_per_stage < 0", step=0, steps_per_stage=-5),
]

U = array([0.01, 0.25, 0.5, 0.9, 0.999])
CUT: dict[str, Argument] = {"sigma_min": 0.002, "sigma_max": 80.0}
LEVEL: list[Case] = [
    valid("CIFAR-10", u=U, rtol=1e-12),
    valid("cut to [0.002, 80]", u=U, rtol=1e-12, **CUT),
    elsewhere(valid("ImageNet: P_mean = -0.8, P_std = 1.6", u=U, p_mean=-0.8, p_std=1.6, rtol=1e-12)),
    valid("small and large u", u=array([1e-9, 1e-4, 0.9999]), rtol=1e-11),
    elsewhere(valid("cut below only", u=U, sigma_min=0.5, rtol=1e-12)),
    elsewhere(valid("cut above only", u=U, sigma_max=1.0, rtol=1e-12)),
    elsewhere(valid("a cut in the upper tail", u=U, sigma_min=1e4, sigma_max=1e5, rtol=1e-11)),
    elsewhere(valid("a cut in the lower tail", u=U, sigma_min=1e-7, sigma_max=1e-6, rtol=1e-11)),
    valid("one", u=array([0.3]), rtol=1e-12),
    invalid("u = 0: its level is 0", u=array([0.5, 0.0])),
    invalid("u = 1 is out of range", u=array([1.0])),
    invalid("u < 0", u=array([-0.1])),
    invalid("u is NaN", u=array([NAN])),
    invalid("p_std = 0", u=U, p_std=0.0),
    invalid("p_mean is NaN", u=U, p_mean=NAN),
    invalid("sigma_min > sigma_max", u=U, sigma_min=2.0, sigma_max=1.0),
    invalid("sigma_min < 0", u=U, sigma_min=-1.0),
    invalid("a range without probability is out of range", u=U, sigma_min=1e200, sigma_max=1e201),
]

HIGH = array([1.0, 80.0, 0.1, 2.0])
LOW = array([0.5, 40.0, 0.09, 0.0])
REFUSED_LEVELS: list[tuple[str, dict[str, Argument]]] = [
    ("r > t: the pair is in the opposite order", {"t": array([0.5]), "r": array([1.0])}),
    ("r is t: out of range", {"t": array([0.5]), "r": array([0.5])}),
    ("r < 0", {"t": array([0.5]), "r": array([-0.1])}),
    ("t is NaN", {"t": array([NAN]), "r": array([0.1])}),
    ("t is infinite", {"t": array([INF]), "r": array([0.1])}),
]
GAP: list[Case] = [
    valid("four pairs, one of them of level 0", t=HIGH, r=LOW),
    valid("a late stage", t=array([1.0]), r=array([0.9876])),
    valid("one pair, no axes", t=array(3.0), r=array(2.5)),
    elsewhere(valid("far out", t=array([1e6, 1e-6]), r=array([1.0, 1e-7]))),
    *(invalid(comment, **pair) for comment, pair in REFUSED_LEVELS),
    invalid("two levels for one: different shapes", t=array([1.0, 2.0]), r=array([0.5])),
]
SNR: list[Case] = [
    valid("five levels", t=array([0.01, 0.1, 0.5, 1.0, 80.0])),
    valid("one level, no axes", t=array(2.0)),
    valid("sigma_data = 1", t=array([0.5, 2.0]), sigma_data=1.0),
    elsewhere(valid("far out", t=array([1e-6, 1e6]))),
    invalid("sigma_data = 0", t=array([1.0]), sigma_data=0.0),
    *(invalid(comment, t=t) for comment, t in BAD_LEVELS.items()),
]

PAIR: dict[str, Argument] = {"x": draw(401, 3, 4), "y": draw(402, 3, 4)}
ADAPTIVE: list[Case] = [
    valid("three examples", **PAIR),
    valid("equal inputs: c^-2p", x=draw(403, 2, 3), y=draw(403, 2, 3)),
    valid("no event axes", x=array([0.5, -2.0]), y=array([0.25, 1.0])),
    valid("images", x=draw(404, 2, 3, 2, 2), y=draw(405, 2, 3, 2, 2)),
    elsewhere(valid("p = 1", p=1.0, **PAIR)),
    elsewhere(valid("p = 0: all are 1", p=0.0, **PAIR)),
    elsewhere(valid("c = 1", c=1.0, **PAIR)),
    invalid("c = 0", c=0.0, **PAIR),
    invalid("c < 0", c=-0.06, **PAIR),
    invalid("p < 0", p=-0.5, **PAIR),
    invalid("p is NaN", p=NAN, **PAIR),
    *(invalid(comment, x=x, y=y) for comment, x, y in REFUSED_PAIRS),
]

STUDENT, TEACHER = callback("bend", a=1.5, b=0.25), callback("bend", a=0.75, b=-0.5)


def losses() -> list[Case]:
    """Vectors for the loss."""

    def at(seed: int, *shape: int, **changed: Argument) -> dict[str, Argument]:
        batch = shape[0]
        common: dict[str, Argument] = {
            "student": STUDENT,
            "teacher": TEACHER,
            "x": draw(seed, *shape, scale=1.0),
            "z": draw(seed + 1, *shape),
            "t": array([1.0, 3.0, 0.1][:batch]),
            "r": array([0.5, 0.0, 0.09][:batch]),
            "distance": callback("squared_l2"),
            "weights": array([2.0, 0.5, 100.0][:batch]),
        }
        return {**common, **changed}

    loose = 1e-11
    return [
        valid("three pairs, one of them of level 0", rtol=loose, atol=1e-13, **at(410, 3, 2)),
        valid("pseudo-Huber distance", rtol=loose, **at(412, 3, 2, distance=callback("pseudo_huber", c=0.06))),
        valid("no event axes", rtol=loose, **at(414, 3)),
        valid("a batch of one", rtol=loose, **at(416, 1, 4)),
        valid("images", rtol=loose, **at(418, 2, 3, 2, 1)),
        valid("pure denoising: r = 0", rtol=loose, **at(420, 2, 3, r=array([0.0, 0.0]))),
        valid("a late stage", rtol=1e-9, **at(422, 2, 2, t=array([1.0, 20.0]), r=array([0.9877, 19.9]))),
        *(invalid(comment, **at(424, 1, 2, **pair)) for comment, pair in REFUSED_LEVELS),
        invalid("one weight for two examples", **at(424, 2, 2, weights=array([1.0]))),
        invalid("a weight is 0: w > 0", **at(424, 2, 2, weights=array([0.0, 1.0]))),
        invalid("z of another shape", **at(424, 2, 2, z=draw(426, 2, 3))),
        invalid("one level for two examples", **at(424, 2, 2, t=array([1.0]))),
    ]


CASES: dict[str, list[Case]] = {
    "ect_mapping": MAPPING,
    "ect_exponent": EXPONENT,
    "lognormal_level": LEVEL,
    "gap_weights": GAP,
    "snr_weights": SNR,
    "l2": distances(),
    "adaptive_weights": ADAPTIVE,
    "consistency_tuning_loss": losses(),
}
