"""One training step in 50 digits, value after value: the content of `trace.json`.

The network is F(x, c) = a x + b c + x^2 with the parameters (a, b); the optimizer is at its first step, where RAdam's
update is the learning rate times the gradient (its variance is not yet rectified), for any betas.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.vectors import oracle_model as model
from tools.vectors import oracle_schedule as schedule
from tools.vectors.arrays import Array, array, mp, mpf, per_example
from tools.vectors.callbacks import callback, network_bend
from tools.vectors.case import draw

STEP, TOTAL_STEPS = 100, 800
A, B = 0.5, 0.25
# Large enough that rounding of the parameters does not hide a wrong update or average.
LEARNING_RATE, EMA_DECAY = 0.1, 0.9
SHAPE = (3, 2, 2)
H = mpf(10) ** -15
NETWORK = "F(x, c) = a x + b c + x^2, elementwise, with parameters = (a, b)"


@dataclass(frozen=True)
class Value:
    """A value of the step: its meaning, its function with arguments, and its tolerance."""

    name: str
    value: Any
    meaning: str
    source: str
    function: str | None = None
    arguments: tuple[tuple[str, Any], ...] = ()
    rtol: float = 1e-12


def ref(name: str) -> dict[str, str]:
    """An earlier value, by name."""
    return {"value": name}


def inputs() -> dict[str, Any]:
    """The inputs of the step."""
    return {
        "step": STEP,
        "total_steps": TOTAL_STEPS,
        "s0": 10,
        "s1": 1280,
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "rho": 7.0,
        "p_mean": -1.1,
        "p_std": 2.0,
        "sigma_data": 0.5,
        "u": array([0.03, 0.4, 0.97]),
        "x": draw(1, *SHAPE, scale=1.0),
        "z": draw(2, *SHAPE),
        "parameters": array([A, B]),
        "learning_rate": LEARNING_RATE,
        "ema_decay": EMA_DECAY,
    }


def f(x: Array, sigma: Array, a: Any, b: Any) -> Array:
    """The consistency model with these parameters."""
    return model.boundary_parameterization(network_bend(a, b), x, sigma)


def half(name: str, x: Array, sigma: Array, who: str) -> list[Value]:
    """The values at one of the two levels, for f at x and sigma."""
    coefficients: dict[str, Callable[..., Any]] = {
        "c_skip": model.c_skip,
        "c_out": model.c_out,
        "c_in": model.c_in,
        "c_noise": model.c_noise,
    }
    of = {key: function(sigma) for key, function in coefficients.items()}
    scaled = per_example(of["c_in"], x) * x
    network = callback("network_bend", a=A, b=B)
    source = "CM, Appendix C"
    return [
        *(
            Value(f"{key}_{name}", value, f"{key}(sigma_{name})", source, key, (("sigma", ref(f"sigma_{name}")),))
            for key, value in of.items()
        ),
        Value(f"network_input_{name}", scaled, f"c_in_{name} x_{name}", source),
        Value(
            f"network_output_{name}",
            network_bend(A, B)(scaled, of["c_noise"]),
            f"a input + b c_noise_{name} + input^2, input being network_input_{name}",
            "the network of this trace",
        ),
        Value(
            who,
            f(x, sigma, A, B),
            f"f(x_{name}, sigma_{name}) = c_skip_{name} x_{name} + c_out_{name} network_output_{name}",
            "iCT, Section 2, Eq. (2)",
            "boundary_parameterization",
            (("network", network), ("x", ref(f"x_{name}")), ("sigma", ref(f"sigma_{name}"))),
        ),
    ]


def entries() -> list[Value]:
    """Every value of the step, in the order in which it is computed."""
    given = inputs()
    x, z = given["x"], given["z"]
    n = schedule.exponential_curriculum(STEP, TOTAL_STEPS)
    sigmas = schedule.sigma_grid(n)
    pmf = schedule.lognormal_pmf(sigmas)
    index = schedule.index_from_uniform(given["u"], pmf)
    weights = schedule.inverse_gap_weights(sigmas)
    low, high = model.at(sigmas, index), model.at(sigmas, model.above(index))
    x_hi, x_lo = x + per_example(high, x) * z, x + per_example(low, x) * z
    student, teacher = f(x_hi, high, A, B), f(x_lo, low, A, B)
    c = model.pseudo_huber_constant(4)
    weight = model.at(weights, index)
    loss = weight * model.pseudo_huber(student, teacher, c)

    def mean_loss(a: Any, b: Any) -> Any:
        values = weight * model.pseudo_huber(f(x_hi, high, a, b), teacher, c)
        return mp.fsum(values) / len(values)

    a, b = mpf(A), mpf(B)
    slopes = [
        (mean_loss(a + H, b) - mean_loss(a - H, b)) / (2 * H),
        (mean_loss(a, b + H) - mean_loss(a, b - H)) / (2 * H),
    ]
    gradient = Array((2,), tuple(slopes))
    updated = given["parameters"] - mpf(LEARNING_RATE) * gradient
    ema = model.ema_update(given["parameters"], updated, EMA_DECAY)
    both = callback("preconditioned_bend", a=A, b=B)
    return [
        Value("n", n, "N(k)", "iCT, Section 3.4, Eq. (9)", "exponential_curriculum",
              (("step", ref("step")), ("total_steps", ref("total_steps")))),
        Value("sigmas", sigmas, "the N(k) noise levels, ascending", "iCT, Section 2", "sigma_grid", (("n", ref("n")),)),
        Value("pmf", pmf, "p(i), one for each interval", "iCT, Section 3.5, Eq. (10)", "lognormal_pmf",
              (("sigmas", ref("sigmas")),)),
        Value("index", index, "the interval of each example, from u by p(i), counted from 0", "iCT, Section 3.5",
              "index_from_uniform", (("u", ref("u")), ("pmf", ref("pmf")))),
        Value("weights", weights, "lambda(sigma_i), one for each interval", "iCT, Section 3.1", "inverse_gap_weights",
              (("sigmas", ref("sigmas")),)),
        Value("sigma_hi", high, "sigmas[index + 1], the student's level", "iCT, Section 2, Eq. (5)"),
        Value("sigma_lo", low, "sigmas[index], the teacher's level", "iCT, Section 2, Eq. (5)"),
        Value("weight", weight, "weights[index]", "iCT, Section 2, Eq. (5)"),
        Value("x_hi", x_hi, "x + sigma_hi z", "iCT, Section 2, Eq. (5)"),
        Value("x_lo", x_lo, "x + sigma_lo z, with the same x and z", "iCT, Section 2, Eq. (5)"),
        *half("hi", x_hi, high, "student"),
        *half("lo", x_lo, low, "teacher"),
        Value("c", c, "0.00054 sqrt(d), d = 4 values in an example", "iCT, Section 3.3", "pseudo_huber_constant",
              (("dim", 4),)),
        Value("distance", model.pseudo_huber(student, teacher, c), "d(student, teacher), one for each example",
              "iCT, Section 3.3, Eq. (8)", "pseudo_huber",
              (("x", ref("student")), ("y", ref("teacher")), ("c", ref("c"))), 1e-10),
        Value("loss", loss, "weight distance, one for each example", "iCT, Section 2, Eq. (5)",
              "consistency_training_loss",
              (("student", both), ("teacher", both), ("x", ref("x")), ("z", ref("z")), ("index", ref("index")),
               ("sigmas", ref("sigmas")), ("distance", callback("pseudo_huber", c=float(c))),
               ("weights", ref("weights"))), 1e-10),
        Value("mean_loss", mean_loss(a, b), "the mean of loss over the batch", "iCT, Section 2, Eq. (5)", rtol=1e-10),
        Value("gradient", gradient, "d mean_loss / d (a, b), the teacher held still", "iCT, Section 2, Eq. (4)",
              rtol=1e-9),
        Value("updated", updated, "parameters - learning_rate gradient: RAdam's first step", "iCT, Appendix B",
              rtol=1e-10),
        Value("ema", ema, "ema_decay parameters + (1 - ema_decay) updated", "iCT, Section 2, Eq. (4)",
              "ema_update", (("ema", ref("parameters")), ("value", ref("updated")), ("decay", ref("ema_decay")))),
    ]  # fmt: skip
