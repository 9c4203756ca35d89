"""Every formula has LaTeX that KaTeX accepts; as SymPy reads it, it is the code, for all that numbers can show."""

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
from tests.support.latex_reader import read

from ict_ref import formulas, paper
from ict_ref.equations import formulas as known
from ict_ref.formulas.editing import Operator
from ict_ref.papers import ect, scm, slct, tcm

ROOT = Path(__file__).parents[1]
LATEX: dict[str, str] = tomllib.loads((ROOT / "docs" / "latex.toml").read_text())
KATEX = ROOT / "docs" / "_static" / "katex" / "katex.min.js"
# Renders each line of each text from standard input, and prints those that KaTeX does not accept.
SCRIPT = """
const katex = require(process.argv[1]);
const texts = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
for (const line of texts.flatMap((text) => text.trim().split("\\n"))) {
  try { katex.renderToString(line, { throwOnError: true, strict: "error" }); }
  catch (error) { console.log(error.message); }
}
"""


def level(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def image(value: float) -> torch.Tensor:
    """Return a batch of one example with one value."""
    return torch.tensor([[value]], dtype=torch.float64)


def pair(first: float, second: float) -> torch.Tensor:
    return torch.tensor([first, second], dtype=torch.float64)


def images(first: float, second: float) -> torch.Tensor:
    """Return two batches of one example with one value."""
    return pair(first, second)[:, None, None]


# Functions among the arguments, of SymPy's numbers and of torch's alike.
def bend(x: Any, s: Any) -> Any:
    return 3 * x / (2 + s) + s * x**2


def bow(x: Any, s: Any) -> Any:
    return x**2 - s * x / 2


def gap(x: Any, y: Any) -> Any:
    return x**2 - 2 * y


def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(gap(x, y)).squeeze(1)


INDEX = torch.tensor([0])
SIGMA, X, T, V, DATA = sympy.symbols("sigma x t v sigma_data")


def mean(value: sympy.Expr) -> sympy.Expr:
    """Return E[value] for sigma ~ U[sigma_min, sigma_max]."""
    low, high = sympy.symbols("sigma_min sigma_max")
    return sympy.integrate(value, (SIGMA, low, high)) / (high - low)


def coefficient(name: str) -> Callable[[sympy.Expr], sympy.Expr]:
    """Return the function of sigma that the LaTeX of this name defines."""
    return lambda sigma: read(LATEX[name], (), {}).subs(SIGMA, sigma)


FUNCTIONS: dict[str, Callable[..., sympy.Expr]] = {
    **{name: coefficient(name) for name in ("c_skip", "c_out", "c_in", "c_noise")},
    **dict.fromkeys(("F", "f", "f_theta", "s"), bend),
    **dict.fromkeys(("f_theta_^-", "f_0"), bow),
    "d": gap,
    "lambda": lambda _: sympy.Symbol("lambda"),
    "E": mean,
    "G": lambda value: mean(value).diff(sympy.Symbol("theta")),
    "Phi": lambda z: (1 + sympy.erf(z / sympy.sqrt(2))) / 2,
    "Q": lambda p: sympy.sqrt(2) * sympy.erfinv(2 * p - 1),
}
# Words that SymPy does not read. "s" is a score's value, "D" that of a derivative, "G" the derivative of a mean.
PLAIN = {
    r"\operatorname{stopgrad}": "",
    r"\theta^-": r"\theta_{^-}",
    r"\nabla_x \log p_\sigma(x)": " s",
    r"\nabla_x \log p_{\sigma_{i+1}}(x_{i+1})": " s",
    r"\breve{x}": "y",
    r"\Delta\sigma": "h",
    r"\frac{\mathrm{d}F}{\mathrm{d}t}": "D",
    r"\frac{\mathrm{d}}{\mathrm{d}\theta} \operatorname{E}": "G",
}
# The test reads the second step of these samplers, because it contains the first.
SAMPLERS = ("multistep_sample", "edit", "stroke_edit", "trigflow_sample")

# The literal code at the values of the symbols of its LaTeX. A formula without literal code is taken itself.
SCALAR: dict[str, tuple[str, Callable[..., Any]]] = {
    "c_skip": ("sigma sigma_min sigma_data", lambda s, low, d: paper.c_skip(level(s), sigma_min=low, sigma_data=d)),
    "c_out": ("sigma sigma_min sigma_data", lambda s, low, d: paper.c_out(level(s), sigma_min=low, sigma_data=d)),
    "c_in": ("sigma sigma_data", lambda s, d: paper.c_in(level(s), sigma_data=d)),
    "c_noise": ("sigma", lambda s: paper.c_noise(level(s))),
    "euler_step": (
        "x_i+1 sigma_i sigma_i+1 s",
        lambda x, low, high, s: paper.euler_step(image(x), level(high), level(low), image(s)),
    ),
    "heun_step": (
        "x_i+1 sigma_i sigma_i+1",
        lambda x, low, high: formulas.heun_step(image(x), level(high), level(low), bend),
    ),
    "probability_flow_drift": (
        "sigma s",
        lambda sigma, s: paper.probability_flow_drift(image(1), level(sigma), lambda *_: image(s)),
    ),
    "boundary_parameterization": (
        "x sigma_min sigma sigma_data",
        lambda x, low, s, d: paper.boundary_parameterization(bend, image(x), level(s), sigma_min=low, sigma_data=d),
    ),
    "consistency_matching_loss": (
        "x_i+1 sigma_i sigma_i+1 s lambda",
        lambda x, low, high, s, w: paper.consistency_matching_loss(
            bend, bow, lambda *_: image(s), image(x), INDEX, pair(low, high), distance=distance, weights=level(w)
        ),
    ),
    "consistency_training_loss": (
        "x z sigma_i sigma_i+1 lambda",
        lambda x, z, low, high, w: paper.consistency_training_loss(
            bend, bow, image(x), image(z), INDEX, pair(low, high), distance=distance, weights=level(w)
        ),
    ),
    "one_step_sample": ("z sigma_max", lambda z, high: paper.one_step_sample(bend, image(z), sigma_max=high)),
    "multistep_sample": (
        "z_1 z_2 sigma_min sigma_2 sigma_1",
        lambda z, y, low, t, s: paper.multistep_sample(bend, images(z, y), pair(s, t), sigma_min=low),
    ),
    "edit: generated": (
        "z_1 z_2 sigma_min sigma_2 sigma_1 y A",
        lambda z, w, low, t, s, y, a: edited(a, True, y, z, w, low, t, s),
    ),
    "edit: kept": (
        "z_1 z_2 sigma_min sigma_2 sigma_1 y A",
        lambda z, w, low, t, s, y, a: edited(a, False, y, z, w, low, t, s),
    ),
    "stroke_edit": (
        "z_1 z_2 sigma_min sigma_2 sigma_1 y",
        lambda z, w, low, t, s, y: formulas.stroke_edit(bend, image(y), images(z, w), pair(s, t), sigma_min=low),
    ),
    "denoise": ("x sigma", lambda x, s: formulas.denoise(bend, image(x), level(s))),
    "ema_update": ("mu theta^- theta", lambda mu, ema, value: paper.ema_update(level(ema), level(value), decay=mu)),
    "squared_l2": ("x y", lambda x, y: paper.squared_l2(image(x), image(y))),
    "l1": ("x y", lambda x, y: formulas.l1(image(x), image(y))),
    "uniform_weights": ("sigma_i sigma_i+1", lambda low, high: paper.uniform_weights(pair(low, high))),
    "renoise": ("x z sigma_min sigma", lambda x, z, low, s: paper.renoise(image(x), image(z), sigma=s, sigma_min=low)),
    "delta_consistency_function": (
        "x xi sigma sigma_min",
        lambda x, xi, s, low: paper.delta_consistency_function(image(x), level(s), xi=level(xi), sigma_min=low),
    ),
    "gaussian_consistency_function": (
        "x m s sigma_min sigma",
        lambda x, m, std, low, s: formulas.gaussian_consistency_function(
            image(x), level(s), mean=level(m), std=std, sigma_min=low
        ),
    ),
    "ct_loss_limit": (
        "theta theta^- sigma_min sigma_max",
        lambda value, ema, low, high: level(paper.ct_loss_limit(value, ema, sigma_min=low, sigma_max=high)),
    ),
    "ct_gradient_limit": (
        "theta xi sigma_min sigma_max",
        lambda value, xi, low, high: level(paper.ct_gradient_limit(value, xi, sigma_min=low, sigma_max=high)),
    ),
    "ct_gradient_divergence: up": ("theta^- theta", lambda ema, v: level(paper.ct_gradient_divergence(v, ema))),
    "ct_gradient_divergence: down": ("theta theta^-", lambda v, ema: level(paper.ct_gradient_divergence(v, ema))),
    "ct_gradient_leading_term": (
        "theta xi h sigma_min sigma_max",
        lambda value, xi, h, low, high: level(
            paper.ct_gradient_leading_term(value, xi, delta_sigma=h, sigma_min=low, sigma_max=high)
        ),
    ),
    "ct_gradient_divergent_term": (
        "theta theta^- sigma_min sigma_max",
        lambda value, ema, low, high: level(
            paper.ct_gradient_divergent_term(value, ema, sigma_min=low, sigma_max=high)
        ),
    ),
    "pseudo_huber": ("x y c", lambda x, y, c: paper.pseudo_huber(image(x), image(y), c=c)),
    "lognormal_density": (
        "sigma P_mean P_std",
        lambda s, mean, std: formulas.lognormal_density(level(s).log(), p_mean=mean, p_std=std),
    ),
    "log_sigma_density": (
        "sigma_min sigma sigma_max rho",
        lambda low, s, high, rho: paper.log_sigma_density(level(s).log(), sigma_min=low, sigma_max=high, rho=rho),
    ),
    "inverse_gap_weights": (
        "sigma_i sigma_i+1",
        lambda low, high: paper.inverse_gap_weights(torch.cat([level(low), level(high)])),
    ),
    "ect_mapping": ("t q k b", lambda t, q, k, b: ect.ect_mapping(level(t), exponent=3, q=q, k=k, b=b)),
    "consistency_tuning_loss": (
        "x z r t w",
        lambda x, z, r, t, w: ect.consistency_tuning_loss(
            bend, bow, image(x), image(z), level(t), level(r), distance=distance, weights=level(w)
        ),
    ),
    "lognormal_level": (
        "u sigma_min sigma_max P_mean P_std",
        lambda u, low, high, mean, std: ect.lognormal_level(
            level(u), p_mean=mean, p_std=std, sigma_min=low, sigma_max=high
        ),
    ),
    "adaptive_weights": ("x y c p", lambda x, y, c, p: ect.adaptive_weights(image(x), image(y), c=c, p=p)),
    "gap_weights": ("r t", lambda r, t: ect.gap_weights(level(t), level(r))),
    "snr_weights": ("t sigma_data", lambda t, d: ect.snr_weights(level(t), sigma_data=d)),
    "l2": ("x y", lambda x, y: ect.l2(image(x), image(y))),
    "trigflow_interpolant": ("x_0 z t", lambda x, z, t: scm.trigflow_interpolant(image(x), image(z), level(t))),
    "trigflow_velocity": ("x_0 z t", lambda x, z, t: scm.trigflow_velocity(image(x), image(z), level(t))),
    "trigflow_parameterization": (
        "x t sigma_data",
        lambda x, t, d: scm.trigflow_parameterization(bend, image(x), level(t), sigma_data=d),
    ),
    "trigflow_tangent": (
        "x t v sigma_data r",
        lambda x, t, v, d, r: scm.trigflow_tangent(bend, image(x), level(t), image(v), sigma_data=d, warmup=r)[1],
    ),
    "trigflow_difference": (
        "t' t x v sigma_data r",
        lambda low, t, x, v, d, r: scm.trigflow_difference(
            bend, image(x), level(t), level(low), image(v), sigma_data=d, warmup=r
        ),
    ),
    "adaptive_weighting": ("s w", lambda s, w: scm.adaptive_weighting(level(s), level(w), dim=3)),
    "scm_loss": (
        "x t v w c r sigma_data",
        lambda x, t, v, w, c, r, d: scm.scm_loss(
            bend, image(x), level(t), image(v), level(w), c=c, warmup=r, sigma_data=d
        ),
    ),
    "trigflow_sample": (
        "z_1 z_2 t_2 t_1",
        lambda z, y, low, high: scm.trigflow_sample(bend, images(z, y), pair(high, low)),
    ),
    "trigflow_step": ("x v t t'", lambda x, v, t, u: scm.trigflow_step(image(x), image(v), level(t), level(u))),
    "trigflow_time": ("sigma sigma_data", lambda s, d: scm.trigflow_time(level(s), sigma_data=d)),
    "trigflow_level": ("t sigma_data", lambda t, d: scm.trigflow_level(level(t), sigma_data=d)),
    "trigflow_time_density": (
        "t P_mean P_std sigma_data",
        lambda t, mean, std, d: scm.trigflow_time_density(level(t), p_mean=mean, p_std=std, sigma_data=d),
    ),
    "normalized_tangent": ("g c", lambda g, c: scm.normalized_tangent(image(g), c=c)),
    "truncated: below": ("x sigma sigma_cut", lambda x, s, cut: truncated(x, s, cut)),
    "truncated: above": ("x sigma_cut sigma", lambda x, cut, s: truncated(x, s, cut)),
    "truncated: at": ("x sigma", lambda x, s: truncated(x, s, s)),
    "cauchy": ("x y c", lambda x, y, c: slct.cauchy(image(x), image(y), c=c)),
}
# Increasing values, so that sigma_min < sigma and r < t; all of them are doubles.
VALUES = ((0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.5), (0.125, 0.375, 1.125, 1.375, 1.4375, 2.25, 3.5))

# Formulas of whole numbers, at whole numbers.
WHOLE: dict[str, tuple[str, Callable[..., float]]] = {
    **{
        name: ("k K s_0 s_1", partial(lambda f, k, t, a, b: f(k, total_steps=t, s0=a, s1=b), getattr(of, name)))
        for of, names in ((paper, "exponential sqrt"), (formulas, "constant linear square cosine"))
        for name in (f"{kind}_curriculum" for kind in names.split())
    },
    "tangent_warmup": ("k H", lambda k, h: scm.tangent_warmup(k, warmup_steps=h)),
    "ect_exponent": ("k d", lambda k, d: ect.ect_exponent(k, steps_per_stage=d)),
    "pseudo_huber_constant": ("d", lambda d: paper.pseudo_huber_constant(d)),
    "teacher_ema_decay": ("N s_0", lambda n, s0: paper.teacher_ema_decay(n, s0=s0, mu0=0.9)),
    "uniform_pmf": ("N", lambda n: float(paper.uniform_pmf(torch.arange(1.0, n + 1, dtype=torch.float64))[0])),
}  # fmt: skip
NUMBERS = ((0, 100, 2, 16), (37, 100, 10, 1280), (61, 97, 3, 50), (100, 100, 10, 1280), (250, 100, 2, 150))


def edited(a: float, generates: bool, y: float, *numbers: float) -> torch.Tensor:
    z, w, low, t, s = numbers
    operator, mask = Operator(lambda x: a * x, lambda x: x / a), torch.tensor([[generates]])
    return formulas.edit(bend, image(y), operator, mask, images(z, w), pair(s, t), sigma_min=low)


def truncated(x: float, sigma: float, cut: float) -> torch.Tensor:
    return tcm.truncated(bend, bow, image(x), level(sigma), sigma_cut=cut)


def path_derivative() -> sympy.Expr:
    """Return dF/dt at (x/sigma_data, t), where x moves with velocity v."""
    place, time = sympy.symbols("place time")
    value = bend(place, time)
    derivative = value.diff(place) * V / DATA + value.diff(time)
    return derivative.subs({place: X / DATA, time: T})


def tangent() -> sympy.Expr:
    return latex_of("trigflow_tangent", "").subs(sympy.Symbol("D"), path_derivative())


# Values of symbols that are not arguments of their formula.
FIXED: dict[str, Callable[[], dict[str, sympy.Expr]]] = {
    "ect_mapping": lambda: {"a": 3},
    "teacher_ema_decay": lambda: {"mu_0": sympy.Rational(9, 10)},
    "edit: generated": lambda: {"Omega": 1},
    "edit: kept": lambda: {"Omega": 0},
    "truncated: at": lambda: {"sigma_cut": SIGMA},
    "trigflow_tangent": lambda: {"D": path_derivative()},
    "adaptive_weighting": lambda: {"d": 3},
    "scm_loss": lambda: {"g": tangent(), "F_theta": 0, "F_theta_^-": 0, "d": 1},  # both F have the same value
}

# Formulas of vectors, matrices, sets of examples or statements, whose own laws and second computations compare them.
NOT_SCALAR = (
    "fourier_embedding",
    "positional_embedding",
    "gaussian_mixture_score",
    "slerp",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "precision_recall",
    "inpainting_operator",
    "colorization_operator",
    "colorization_mask",
    "super_resolution_operator",
    "super_resolution_mask",
    "search_intermediate_sigma",
    "index_from_uniform",
    "truncated_weights",
    "continuous_consistency_training_loss",
    "continuous_consistency_distillation_loss",
    "log_student_t_level",
    "log_student_t_density",
)


def latex_of(name: str, symbols: str) -> sympy.Expr:
    """Return what SymPy reads of a formula whose LaTeX has these symbols."""
    text = LATEX[name]
    if name in SAMPLERS:
        text = "\n".join(reversed(text.replace("{k-1}", "1").replace("_k", "_2").strip().splitlines()))
    for word, plain in PLAIN.items():
        text = text.replace(word, plain)
    return read(text, symbols.split(), FUNCTIONS)


def value_of(case: str, symbols: str, values: tuple[float, ...]) -> float:
    """Return the value that SymPy computes from the LaTeX, in 30 digits. A case is a formula, or has it before ": "."""
    given = {
        sympy.Symbol(symbol.replace("theta^-", "theta_^-")): sympy.Rational(v)
        for symbol, v in zip(symbols.split(), values, strict=False)
    }
    fixed = {sympy.Symbol(symbol): value for symbol, value in FIXED.get(case, dict)().items()}
    value = latex_of(case.split(": ")[0], symbols).subs(fixed).subs(given)
    assert not value.free_symbols, f"{case}: {value.free_symbols} without a value"
    return float(value.evalf(30))


def test_every_formula_has_latex_and_nothing_else_has() -> None:
    assert set(LATEX) == {formula.name for formula in known()}


def test_every_formula_is_compared_or_is_not_scalar() -> None:
    compared = {case.split(": ")[0] for case in (*SCALAR, *WHOLE)} | {"sigma_grid", "lognormal_pmf"}
    assert compared.isdisjoint(NOT_SCALAR)
    assert compared | set(NOT_SCALAR) == set(LATEX)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_katex_accepts_every_line() -> None:
    def rejected(texts: list[str]) -> str:
        command = ("node", "-e", SCRIPT, str(KATEX))
        return subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True).stdout

    assert rejected(list(LATEX.values())) == ""
    assert "Undefined control sequence" in rejected([r"\foo"])


@pytest.mark.parametrize("values", VALUES, ids=str)
@pytest.mark.parametrize("name", SCALAR)
def test_the_latex_of_a_scalar_formula_is_its_literal_code(name: str, values: tuple[float, ...]) -> None:
    symbols, code = SCALAR[name]
    expected = value_of(name, symbols, values)
    assert float(code(*values[: len(symbols.split())]).squeeze()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
@pytest.mark.parametrize("name", WHOLE)
def test_the_latex_of_a_formula_of_whole_numbers_is_its_code(name: str, numbers: tuple[int, ...]) -> None:
    symbols, code = WHOLE[name]
    if symbols.startswith("k K") and numbers[0] > numbers[1]:
        numbers = (numbers[1] // 2, *numbers[1:])
    elif symbols in ("N s_0", "N", "d"):
        numbers = numbers[1:]
    expected = value_of(name, symbols, numbers)
    assert code(*numbers[: len(symbols.split())]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("i", range(1, 6))
def test_the_latex_of_the_grid_and_its_probabilities_is_their_code(i: int) -> None:
    sigmas = paper.sigma_grid(6, sigma_min=0.125, sigma_max=4.0, rho=3.0)
    values = (i, 6, 0.125, 4.0, 3)
    assert float(sigmas[i - 1]) == pytest.approx(
        value_of("sigma_grid", "i N sigma_min sigma_max rho", values), rel=1e-12
    )
    p = paper.lognormal_pmf(sigmas, p_mean=-1.5, p_std=1.75)
    shares = [
        value_of("lognormal_pmf", "sigma_i sigma_i+1 P_mean P_std", (float(low), float(high), -1.5, 1.75))
        for low, high in pairwise(sigmas)
    ]
    assert float(p[i - 1]) == pytest.approx(shares[i - 1] / sum(shares), rel=1e-12)
