"""The figures from formulas alone: 1a, 3b, 4a and 6a."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor

from ict_ref.figures.catalogue import AtOnce
from ict_ref.formulas import (
    Distance,
    c_noise,
    constant_curriculum,
    cosine_curriculum,
    exponential_curriculum,
    fourier_embedding,
    l1,
    linear_curriculum,
    log_sigma_density,
    lognormal_density,
    lognormal_pmf,
    positional_embedding,
    pseudo_huber,
    sigma_grid,
    sqrt_curriculum,
    square_curriculum,
    squared_l2,
    uniform_pmf,
)
from ict_ref.utils.panel import Figure, Panel, Points

Embedding = Callable[[Float64[Tensor, " n"]], Float64[Tensor, " n values"]]

SCALES = (16.0, 2.0, 0.2, 0.02)
# Number of Fourier frequencies, whose mean square is within 0.2 % of the normal distribution's.
FREQUENCIES = 4096
CM_POSITIONAL = "positional of 1000 c_noise"
# Size of ADM's positional embedding on ImageNet.
VALUES = 192
ITERATIONS, S0, S1 = 400_000, 10, 1280
CURRICULA = {
    "exponential, Eq. (9)": exponential_curriculum,
    "constant": constant_curriculum,
    "square root": sqrt_curriculum,
    "linear": linear_curriculum,
    "square": square_curriculum,
    "cosine": cosine_curriculum,
}
LEVELS = S1 + 1
HUBER_CONSTANTS = (0.03, 0.3, 1.0, 3.0)


def noise_embeddings() -> Figure:
    """Return Figure 1a: differences of embeddings between two noise levels, and their rate of change."""
    tried = {f"Fourier, scale {scale:g}": fourier(scale) for scale in SCALES}
    embeddings = {**tried, "positional": positional(1.0), CM_POSITIONAL: positional(1000.0)}
    ratio = torch.logspace(-4, 0, 401, dtype=torch.float64)
    differences = Panel(
        "difference of the embeddings at two noise levels",
        "log sigma' - log sigma",
        "rms over the values of e(sigma') - e(sigma)",
        {name: points(ratio, difference(embedding, ratio)) for name, embedding in embeddings.items()},
        "log",
        "log",
    )
    scales = torch.logspace(-2.5, 1.5, 9, dtype=torch.float64)
    of_scales = torch.stack([sensitivity(fourier(scale)) for scale in scales.tolist()])
    slopes = Panel(
        "sensitivity by Fourier scale",
        "Fourier scale",
        "rms over the values of de/d log sigma",
        {
            "Fourier, any scale": points(scales, of_scales),
            "positional": points(scales, sensitivity(positional(1.0)).expand_as(scales)),
            CM_POSITIONAL: points(scales, sensitivity(positional(1000.0)).expand_as(scales)),
        },
        "log",
        "log",
    )
    rms = {name: float(sensitivity(embedding)) for name, embedding in embeddings.items()}
    gaps = sigma_grid(LEVELS).log().diff()
    caption = (
        "Sensitivity of noise embeddings e of c_noise = log(sigma)/4. The rms of de/d log sigma is "
        f"{rms['Fourier, scale 16']:.1f} for Fourier scale 16, {rms['Fourier, scale 0.02']:.2g} for 0.02, "
        f"{rms['positional']:.2g} for the positional embedding ({VALUES} values) and {rms[CM_POSITIONAL]:.0f} for "
        "that of 1000 c_noise, which the public ImageNet code of CM has. Differences depend on sigma'/sigma alone; "
        f"neighbours of {LEVELS} levels are {float(gaps.min()):.2g} to {float(gaps.max()):.2g} apart in log sigma. "
        "Fourier frequencies are at the quantiles of N(0, scale^2)."
    )
    return Figure("1a", caption, (differences, slopes))


def curricula() -> Figure:
    """Return Figure 3b: the six curricula."""
    # Both sides of every multiple of 1000, where jumps occur, so that they are drawn vertically.
    steps = sorted({k - side for k in range(0, ITERATIONS + 1, 1000) for side in (0, 1)} - {-1})
    curves = {
        name: tuple((float(k), float(n(k, total_steps=ITERATIONS, s0=S0, s1=S1))) for k in steps)
        for name, n in CURRICULA.items()
    }
    caption = (
        f"Curricula for the total number of noise levels, s0 = {S0}, s1 = {S1}, K = {ITERATIONS:,} iterations. "
        "The paper names linear, square and cosine curves and prints no formula; here they are CM's square root with "
        "powers 1 and 1/2 in place of 2, and half a period of the cosine."
    )
    return Figure("3b", caption, (Panel("curricula", "training iteration k", "number of noise levels N(k)", curves),))


def noise_schedules() -> Figure:
    """Return Figure 4a: the densities of log sigma, and the probabilities of intervals of a fine grid."""
    sigmas = sigma_grid(LEVELS)
    logs, ends = sigmas.log(), sigmas[[0, -1]].log()
    aside = torch.stack([ends[0].nextafter(ends[0] - 1), ends[1].nextafter(ends[1] + 1)])
    x = torch.cat([torch.linspace(-8, 6, 701, dtype=torch.float64), ends, aside]).sort().values
    cells = torch.arange(20, S1, 40)
    middle, width = (logs[1:] + logs[:-1]) / 2, logs.diff()
    chances = {"default": uniform_pmf(sigmas), "lognormal": lognormal_pmf(sigmas)}
    discrete = {
        f"{name}, p(i) of N = {LEVELS}": points(middle[cells], (pmf / width)[cells]) for name, pmf in chances.items()
    }
    densities = {
        "default schedule (CM)": points(x, log_sigma_density(x)),
        "lognormal schedule": points(x, lognormal_density(x)),
    }
    caption = (
        "Density of log sigma. The default schedule, uniform in the index, draws high noise levels most; the lognormal "
        f"one, P_mean = -1.1 and P_std = 2, corrects it. Circles: p(i) of every 40th of {S1} cells, uniform or of "
        "Eq. (10), divided by the cell's width in log sigma."
    )
    panel = Panel("noise schedules", "log sigma", "p(log sigma)", {**densities, **discrete}, dots=tuple(discrete))
    return Figure("4a", caption, (panel,))


def metrics() -> Figure:
    """Return Figure 6a: squared l2, l1 and pseudo-Huber distances of numbers, by their difference."""
    distances: dict[str, Distance] = {
        "squared l2": squared_l2,
        "l1": l1,
        **{f"pseudo-Huber, c = {c:g}": partial(pseudo_huber, c=c) for c in HUBER_CONSTANTS},
    }

    def curves(x: Float64[Tensor, " n"]) -> dict[str, Points]:
        return {
            name: points(x, distance(x[:, None], torch.zeros_like(x)[:, None])) for name, distance in distances.items()
        }

    shapes = Panel("shapes", "x - y", "d(x, y)", curves(torch.linspace(-2, 2, 401, dtype=torch.float64)))
    wide = curves(torch.logspace(-3, 2, 251, dtype=torch.float64))
    slopes = Panel("the same at all scales", "|x - y|", "d(x, y)", wide, "log", "log")
    caption = (
        "Shapes of metrics d(x, y) of numbers, as they are, not rescaled. Pseudo-Huber metrics, Eq. (8), are parabolas "
        "(x - y)^2/(2c) below c, as squared l2 is one, and have the slope of l1 above. c = 0.03 is the paper's for "
        "CIFAR-10, where |x - y| is the norm of a difference of images."
    )
    return Figure("6a", caption, (shapes, slopes))


def fourier(scale: float) -> Embedding:
    """Return the Fourier embedding whose frequencies are at the quantiles of N(0, scale^2)."""
    chances = (torch.arange(FREQUENCIES, dtype=torch.float64) + 0.5) / FREQUENCIES
    return partial(fourier_embedding, frequencies=scale * torch.special.ndtri(chances))


def positional(time_scale: float) -> Embedding:
    """Return the positional embedding of time_scale * c_noise."""
    return lambda c: positional_embedding(time_scale * c, VALUES)


def difference(embedding: Embedding, ratio: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Return the rms over the values of e(sigma') - e(sigma) at log sigma' = log sigma + ratio, with sigma = 0.5.

    The result is the same at any sigma, because sine and cosine of one frequency lie on a circle.
    """
    low = torch.full_like(ratio, 0.5)
    away = embedding(c_noise(low * ratio.exp())) - embedding(c_noise(low))
    return away.square().mean(1).sqrt()


def sensitivity(embedding: Embedding) -> Float64[Tensor, ""]:
    """Return the rms over the values of de/d log sigma, which is the same at any sigma."""
    log_sigma = torch.zeros(1, dtype=torch.float64)
    slope: Tensor = torch.func.jvp(lambda x: embedding(c_noise(x.exp())), (log_sigma,), (torch.ones_like(log_sigma),))[
        1
    ]
    return slope.square().mean().sqrt()


def points(x: Float64[Tensor, " n"], y: Float64[Tensor, " n"]) -> Points:
    """Return the pairs (x, y) as numbers."""
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


MAKERS = {
    "1a": AtOnce(noise_embeddings),
    "3b": AtOnce(curricula),
    "4a": AtOnce(noise_schedules),
    "6a": AtOnce(metrics),
}
