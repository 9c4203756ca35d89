"""Vectors for TrigFlow: change of variables, path, parameterization, tangent, loss, law of the time, sampler."""

from tools.vectors.arrays import Array, array
from tools.vectors.callbacks import callback
from tools.vectors.case import INF, NAN, Argument, Case, draw, elsewhere, invalid, valid

LEVELS = array([0.0, 0.002, 0.1, 0.5, 1.0, 80.0])
ANGLES = array([0.01, 0.1, 0.5, 1.1, 1.5])
HALF_TURN = 1.5707963267948966
BAD_TIMES = {"t is NaN": array([0.5, NAN]), "t < 0": array([-0.1]), "t out of range: pi/2 or more": array([1.6])}
BAD_STDS = {"sigma_data = 0": 0.0, "sigma_data < 0": -0.5, "sigma_data is NaN": NAN}

TIME: list[Case] = [
    valid("0, and levels of the paper", sigma=LEVELS),
    valid("one level, no axes", sigma=array(3.0)),
    valid("sigma_data = 1", sigma=array([0.5, 2.0]), sigma_data=1.0),
    elsewhere(valid("far out", sigma=array([1e-9, 1e9]))),
    *(invalid(comment, sigma=array([1.0]), sigma_data=std) for comment, std in BAD_STDS.items()),
    invalid("sigma < 0", sigma=array([-1.0])),
    invalid("sigma is NaN", sigma=array([NAN])),
    invalid("sigma is infinite", sigma=array([INF])),
]
LEVEL: list[Case] = [
    valid("five angles", t=ANGLES),
    valid("0", t=array([0.0])),
    valid("the two-step time 1.1, no axes", t=array(1.1)),
    valid("t_max", t=array([1.564546408]), rtol=1e-11),
    valid("sigma_data = 1", t=ANGLES, sigma_data=1.0),
    *(invalid(comment, t=array([1.0]), sigma_data=std) for comment, std in BAD_STDS.items()),
    *(invalid(comment, t=t) for comment, t in BAD_TIMES.items()),
]


def paths() -> list[Case]:
    """Vectors for the path and its velocity."""
    one, half = array([0.7, 1.2]), array([HALF_TURN, 0.0])
    return [
        valid("two examples", x0=draw(501, 2, 3), z=draw(502, 2, 3), t=one, rtol=1e-12, atol=1e-15),
        valid("no event axes", x0=array([0.3, -0.7]), z=array([-0.2, 0.4]), t=one, rtol=1e-12, atol=1e-15),
        valid("images", x0=draw(503, 2, 3, 2, 2), z=draw(504, 2, 3, 2, 2), t=one, rtol=1e-12, atol=1e-15),
        valid("both ends", x0=draw(505, 2, 2), z=draw(506, 2, 2), t=half, rtol=1e-12, atol=1e-15),
        invalid("z of another shape", x0=draw(507, 2, 2), z=draw(508, 2, 3), t=one),
        invalid("one angle for two examples", x0=draw(507, 2, 2), z=draw(507, 2, 2), t=array([0.7])),
        *(invalid(comment, x0=draw(507, len(t), 2), z=draw(507, len(t), 2), t=t) for comment, t in BAD_TIMES.items()),
    ]


def steps() -> list[Case]:
    """Vectors for the step of the path."""

    def at(seed: int, *shape: int, **changed: Argument) -> dict[str, Argument]:
        given: dict[str, Argument] = {"x": draw(seed, *shape), "velocity": draw(seed + 1, *shape)}
        return {**given, "t": array([0.7, 1.5][: shape[0]]), "t_low": array([0.3, 1.1][: shape[0]]), **changed}

    return [
        valid("two examples", rtol=1e-12, atol=1e-15, **at(510, 2, 3)),
        valid("no event axes", rtol=1e-12, atol=1e-15, **at(512, 2)),
        valid("to 0", rtol=1e-12, atol=1e-15, **at(514, 2, 2, t_low=array([0.0, 0.0]))),
        valid("no step", rtol=1e-12, atol=1e-15, **at(516, 2, 2, t_low=array([0.7, 1.5]))),
        invalid("t' > t: opposite order", **at(518, 1, 2, t_low=array([0.8]))),
        invalid("t' < 0", **at(518, 1, 2, t_low=array([-0.1]))),
        invalid("t' is NaN", **at(518, 1, 2, t_low=array([NAN]))),
        invalid("t out of range: above pi/2", **at(518, 1, 2, t=array([1.6]))),
        invalid("velocity of another shape", **at(518, 1, 2, velocity=draw(519, 1, 3))),
    ]


NETWORK = callback("network_bend", a=0.75, b=-1.5)


def parameterizations() -> list[Case]:
    """Vectors for f."""
    tight: dict[str, float] = {"rtol": 1e-12, "atol": 1e-14}
    two = array([0.7, 1.2])
    return [
        valid("at 0 the input comes back", network=NETWORK, x=array([[0.5, -1.25]]), t=array([0.0])),
        valid("five angles", network=NETWORK, x=draw(521, 5, 3), t=ANGLES, **tight),
        valid("no event axes", network=NETWORK, x=array([0.3, -0.7]), t=two, **tight),
        valid("images", network=NETWORK, x=draw(522, 2, 3, 2, 2), t=two, **tight),
        valid("another network", network=callback("network_bend", a=-2.0, b=3.0), x=draw(523, 2, 2), t=two, **tight),
        valid("sigma_data = 1", network=NETWORK, x=draw(524, 2, 2), t=two, sigma_data=1.0, **tight),
        *(
            invalid(comment, network=NETWORK, x=array([[1.0]]), t=array([1.0]), sigma_data=std)
            for comment, std in BAD_STDS.items()
        ),
        *(invalid(comment, network=NETWORK, x=draw(525, len(t), 1), t=t) for comment, t in BAD_TIMES.items()),
        invalid("one angle for two examples", network=NETWORK, x=array([[1.0], [2.0]]), t=array([1.0])),
    ]


def tangents(**others: Argument) -> list[Case]:
    """Vectors for the tangent, the difference and the loss; `others` are one example's further arguments."""

    def at(seed: int, *shape: int, **changed: Argument) -> dict[str, Argument]:
        more = {name: Array((shape[0],), value.values[: shape[0]]) for name, value in others.items()}
        given: dict[str, Argument] = {"network": NETWORK, "x": draw(seed, *shape), "velocity": draw(seed + 1, *shape)}
        return {**given, "t": array([0.7, 1.1, 1.5][: shape[0]]), **more, **changed}

    tight: dict[str, float] = {"rtol": 1e-10, "atol": 1e-12}
    first = {name: Array((2,), value.values[:2]) for name, value in others.items()}
    return [
        valid("three angles", **tight, **at(530, 3, 2)),
        valid("no event axes", **tight, **at(532, 2)),
        valid("images", **tight, **at(534, 2, 3, 2, 1)),
        valid("without the slow term: r = 0", **tight, **at(536, 2, 2, warmup=0.0)),
        valid("half of the warm-up", **tight, **at(538, 2, 3, warmup=0.5)),
        valid("sigma_data = 1", **tight, **at(540, 2, 2, sigma_data=1.0)),
        valid("another network", **tight, **at(542, 1, 3, network=callback("network_bend", a=-2.0, b=3.0))),
        invalid("warmup > 1 is out of range", **at(544, 1, 2, warmup=1.5)),
        invalid("warmup < 0", **at(544, 1, 2, warmup=-0.5)),
        invalid("warmup is NaN", **at(544, 1, 2, warmup=NAN)),
        invalid("t = 0", **at(544, 1, 2, t=array([0.0]))),
        invalid("t out of range: pi/2 or more", **at(544, 1, 2, t=array([1.6]))),
        invalid("t is NaN", **at(544, 1, 2, t=array([NAN]))),
        invalid("velocity of another shape", **at(544, 1, 2, velocity=draw(546, 1, 3))),
        invalid("one angle for two examples", **at(544, 2, 2, t=array([0.7]), **first)),
        invalid("sigma_data = 0", **at(544, 1, 2, sigma_data=0.0)),
    ]


WARMUP: list[Case] = [
    *(valid(f"k = {step}", step=step) for step in (0, 1, 5000, 9999, 10_000, 20_000)),
    elsewhere(valid("H = 3", step=2, warmup_steps=3)),
    invalid("step < 0", step=-1),
    invalid("warmup_steps = 0", step=0, warmup_steps=0),
]
NORMALIZED: list[Case] = [
    valid("3 and 4", g=array([[3.0, 4.0]])),
    valid("three examples", g=draw(550, 3, 4)),
    valid("thirty ones", g=array([[1.0] * 30])),
    valid("0 stays 0", g=array([[0.0, 0.0]])),
    valid("no event axes", g=array([0.5, -2.0])),
    valid("images", g=draw(551, 2, 3, 2, 2)),
    elsewhere(valid("c = 1", g=draw(552, 2, 3), c=1.0)),
    invalid("c = 0", g=array([[1.0]]), c=0.0),
    invalid("c < 0", g=array([[1.0]]), c=-0.1),
    invalid("c is NaN", g=array([[1.0]]), c=NAN),
]
S, W = array([1.0, 0.9, 0.9, 3072.0, 0.25]), array([0.0, 8.0, -2.0, 0.0, 8.03])
WEIGHTING: list[Case] = [
    valid("images of 3072 values", squared_norm=S, log_weight=W, dim=3072),
    valid("one value", squared_norm=S, log_weight=W * -1, dim=1),
    valid("an error of 0", squared_norm=array([0.0]), log_weight=array([2.0]), dim=12),
    invalid("dim = 0", squared_norm=S, log_weight=W, dim=0),
    invalid("two weights for five examples", squared_norm=S, log_weight=array([0.0, 1.0]), dim=4),
    invalid("squared_norm < 0", squared_norm=array([-1.0]), log_weight=array([0.0]), dim=4),
]
DENSITY: list[Case] = [
    valid("five angles", t=ANGLES, rtol=1e-12),
    valid("one angle, no axes", t=array(0.6343243192), rtol=1e-12),
    elsewhere(valid("ImageNet: P_std = 1.6", t=ANGLES, p_std=1.6, rtol=1e-12)),
    elsewhere(valid("P_mean = 0.5", t=ANGLES, p_mean=0.5, rtol=1e-12)),
    valid("sigma_data = 1", t=ANGLES, sigma_data=1.0, rtol=1e-12),
    valid("near pi/2", t=array([1.564546408]), rtol=1e-10),
    *(invalid(comment, t=t) for comment, t in BAD_TIMES.items()),
    invalid("t = 0", t=array([0.0])),
    invalid("p_std = 0", t=ANGLES, p_std=0.0),
    invalid("p_mean is NaN", t=ANGLES, p_mean=NAN),
    *(invalid(comment, t=ANGLES, sigma_data=std) for comment, std in BAD_STDS.items()),
]


def samplers() -> list[Case]:
    """Vectors for sampling."""
    f, late = callback("bend", a=1.5, b=0.25), 1.564546408
    tight: dict[str, float] = {"rtol": 1e-11, "atol": 1e-13}
    return [
        valid("one time, pi/2", f=f, noises=draw(560, 1, 2, 3), times=array([HALF_TURN]), **tight),
        valid("two times", f=f, noises=draw(561, 2, 2, 2), times=array([late, 1.1]), **tight),
        valid("three times", f=f, noises=draw(562, 3, 1, 2), times=array([late, 1.1, 0.4]), **tight),
        valid("no event axes", f=f, noises=draw(563, 2, 2), times=array([late, 1.1]), **tight),
        valid("images", f=f, noises=draw(564, 2, 2, 3, 2, 1), times=array([late, 1.1]), **tight),
        invalid("times ascend: opposite order", f=f, noises=draw(565, 2, 1, 2), times=array([0.5, 1.1])),
        invalid("two times are equal", f=f, noises=draw(565, 2, 1, 2), times=array([1.1, 1.1])),
        invalid("the last time is 0", f=f, noises=draw(565, 2, 1, 2), times=array([1.1, 0.0])),
        invalid("a time out of range: above pi/2", f=f, noises=draw(565, 1, 1, 2), times=array([1.6])),
        invalid("a time is NaN", f=f, noises=draw(565, 1, 1, 2), times=array([NAN])),
        invalid("three noises for two times", f=f, noises=draw(566, 3, 1, 2), times=array([1.5, 1.1])),
    ]


LOW = array([0.63, 0.5, 0.0])
DIFFERENCE: list[Case] = [
    *tangents(t_low=LOW),
    invalid("t' is t: out of range", network=NETWORK, x=array([[1.0]]), velocity=array([[0.5]]), t=array([0.5]),
            t_low=array([0.5])),
    invalid("t' < 0", network=NETWORK, x=array([[1.0]]), velocity=array([[0.5]]), t=array([0.5]),
            t_low=array([-0.5])),
]  # fmt: skip
LOSS: list[Case] = [
    *tangents(log_weight=array([0.5, -1.0, 2.0])),
    elsewhere(
        valid("c = 1", network=NETWORK, x=array([[0.3, -0.8]]), velocity=array([[0.4, 0.2]]), t=array([0.7]),
              log_weight=array([1.0]), c=1.0, rtol=1e-10)
    ),
    invalid("c = 0", network=NETWORK, x=array([[1.0]]), velocity=array([[0.5]]), t=array([0.5]),
            log_weight=array([0.0]), c=0.0),
    invalid("two weights for one example", network=NETWORK, x=array([[1.0]]), velocity=array([[0.5]]), t=array([0.5]),
            log_weight=array([0.0, 1.0])),
]  # fmt: skip

CASES: dict[str, list[Case]] = {
    "trigflow_time": TIME,
    "trigflow_level": LEVEL,
    "trigflow_interpolant": paths(),
    "trigflow_velocity": paths(),
    "trigflow_step": steps(),
    "trigflow_parameterization": parameterizations(),
    "trigflow_tangent": tangents(),
    "trigflow_difference": DIFFERENCE,
    "tangent_warmup": WARMUP,
    "normalized_tangent": NORMALIZED,
    "adaptive_weighting": WEIGHTING,
    "scm_loss": LOSS,
    "trigflow_time_density": DENSITY,
    "trigflow_sample": samplers(),
}
