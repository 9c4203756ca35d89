"""Formulas with known deviations, several at once: the vectors have the values of each deviation alone.

`COMBINATIONS` names, for a function, groups of deviations of which an implementation can have one each. The function's
form with some of them is `form(function, names)`.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.vectors.values import column

Names = frozenset[str]
Network = Callable[[Tensor, Tensor], Tensor]


def _boundary_parameterization(
    names: Names, network: Network, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Tensor:
    c_skip, c_out = _coefficients(names, sigma, sigma_min, sigma_data)
    variance = sigma**2 + sigma_data**2
    c_in = 1 / variance if "SquaredCIn" in names else 1 / variance.sqrt()
    scaled = x if "NoInputScaling" in names else column(c_in, x) * x
    c_noise = sigma if "RawSigmaEmbedded" in names else sigma.log() / 4
    output = network(scaled, 1000 * c_noise if "ScaledNoise" in names else c_noise)
    f = column(c_skip, x) * x + column(c_out, x) * output
    return f.clamp(-1, 1) if "ClampedOutput" in names else f


def _coefficients(names: Names, sigma: Tensor, sigma_min: float, sigma_data: float) -> tuple[Tensor, Tensor]:
    """Return c_skip and c_out."""
    whole = names & {"EdmCoefficients", "DiffusersScalings"}
    skip_from = 0.0 if whole or "EdmSkip" in names else sigma_min
    out_from = 0.0 if whole or "SigmaInCOut" in names else sigma_min
    c_skip = sigma_data**2 / ((sigma - skip_from) ** 2 + sigma_data**2)
    c_out = sigma_data * (sigma - out_from) / (sigma**2 + sigma_data**2).sqrt()
    return c_skip, c_out / sigma_data if "DiffusersScalings" in names else c_out


def _lognormal_pmf(names: Names, sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Tensor:
    mean = -p_mean if "MeanSign" in names else p_mean
    p: Tensor = torch.erf((sigmas.log() - mean) / (math.sqrt(2) * p_std)).diff()
    p = p / 2 if "UntruncatedPmf" in names else p / p.sum()
    return p.flip(0) if "MirroredPmf" in names else p


def _sqrt_curriculum(names: Names, step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    last = s1 if "NoPlusOne" in names else s1 + 1
    root = math.sqrt(min(step, total_steps) / total_steps * (last**2 - s0**2) + s0**2)
    return math.ceil(root - 1) + (0 if "NoCeilShift" in names else 1)


def _positional_embedding(names: Names, c_noise: Tensor, width: int, *, max_period: float = 10000.0) -> Tensor:
    half = width // 2
    count = half - 1 if "HalfMinusOne" in names else half
    angles = c_noise[:, None] * max_period ** (-torch.arange(half, dtype=torch.float64) / count)
    parts = (angles.cos(), angles.sin())
    return torch.cat(parts[::-1] if "CosSinOrder" in names else parts, 1)


def _multistep_sample(names: Names, f: Network, noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002) -> Tensor:
    x = torch.zeros_like(noises[0])
    for k, (z, sigma) in enumerate(zip(noises, sigmas, strict=True)):
        first = k == 0 or "SigmaNotRooted" in names
        std = sigma if first else (sigma**2 - sigma_min**2).clamp(min=0).sqrt()
        x = f(x + std * z, sigma.expand(len(z)))
        x = x.clamp(-1, 1) if "ClampedSamples" in names else x
    return x


def _edit(
    names: Names, f: Network, reference: Tensor, operator: formulas.Operator, mask: Tensor, noises: Tensor,
    sigmas: Tensor, *, sigma_min: float = 0.002,
) -> Tensor:  # fmt: skip
    known = operator.forward(reference)
    x = operator.inverse(known.masked_fill(mask, 0.0))
    if "MinusOneFill" in names:
        x = reference.masked_fill(mask, -1.0)
    for k, (z, sigma) in enumerate(zip(noises, sigmas, strict=True)):
        std = sigma if k == 0 else (sigma**2 - sigma_min**2).clamp(min=0).sqrt()
        sample = f(x + std * z, sigma.expand(len(z)))
        given = sample if "XNotTransformed" in names else operator.forward(sample)
        x = operator.inverse(torch.where(mask, given, known))
    return x


def _consistency_training_loss(
    names: Names, student: Network, teacher: Network, x: Tensor, z: Tensor, index: Tensor, sigmas: Tensor,
    *, distance: Callable[[Tensor, Tensor], Tensor], weights: Tensor,
) -> Tensor:  # fmt: skip
    index = len(weights) - 1 - index if "MirroredIndex" in names else index
    low, high = sigmas[index], sigmas[index + 1]
    base = x if "MultiplicativeNoise" in names else torch.ones_like(x)
    start = torch.zeros_like(x) if "MultiplicativeNoise" in names else x
    x_lo, x_hi = (start + base * column(sigma, x) * z for sigma in (low, high))
    x_hi = x_lo if "SameNoise" in names else x_hi
    pair = (student(x_hi, high), teacher(x_lo, low))
    if "SwappedLevels" in names:
        pair = (student(x_lo, low), teacher(x_hi, high))
    at = (index + 1).clamp(max=len(weights) - 1) if "UpperLevelWeights" in names else index
    return weights[at] * distance(*pair)


def _pseudo_huber_as_printed(x: Tensor, y: Tensor, *, c: float) -> Tensor:
    return ((x - y).reshape(len(x), -1).square().sum(1) + c**2).sqrt() - c


AS_PRINTED: dict[str, Callable[..., object]] = {
    "pseudo_huber": _pseudo_huber_as_printed,
    "lognormal_pmf": partial(_lognormal_pmf, frozenset()),
}
"""Printed forms that lose more digits than those of `ict_ref.formulas`."""

_COMBINABLE: dict[str, Callable[..., Any]] = {
    "boundary_parameterization": _boundary_parameterization,
    "lognormal_pmf": _lognormal_pmf,
    "sqrt_curriculum": _sqrt_curriculum,
    "positional_embedding": _positional_embedding,
    "multistep_sample": _multistep_sample,
    "edit": _edit,
    "consistency_training_loss": _consistency_training_loss,
}
COMBINATIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "boundary_parameterization": (
        ("NoInputScaling", "SquaredCIn"),
        ("RawSigmaEmbedded", "ScaledNoise"),
        ("EdmCoefficients", "EdmSkip", "SigmaInCOut", "DiffusersScalings"),
        ("ClampedOutput",),
    ),
    "lognormal_pmf": (("MeanSign",), ("MirroredPmf",), ("UntruncatedPmf",)),
    "sqrt_curriculum": (("NoPlusOne",), ("NoCeilShift",)),
    "positional_embedding": (("CosSinOrder",), ("HalfMinusOne",)),
    "multistep_sample": (("SigmaNotRooted",), ("ClampedSamples",)),
    "edit": (("XNotTransformed",), ("MinusOneFill",)),
    "consistency_training_loss": (
        ("MirroredIndex",), ("SameNoise", "SwappedLevels"), ("MultiplicativeNoise",), ("UpperLevelWeights",),
    ),
}  # fmt: skip


def combinations(function: str) -> Iterator[tuple[str, ...]]:
    """Yield the names of deviations that a function can have together, fewest first."""
    groups: Iterable[tuple[str | None, ...]] = ((None, *group) for group in COMBINATIONS.get(function, ()))
    chosen = [tuple(name for name in names if name) for names in product(*groups)]
    yield from sorted(filter(None, chosen), key=len)


def form(function: str, names: Iterable[str]) -> Callable[..., Any]:
    """Return the form of a function with these deviations; the function must be in COMBINATIONS."""
    return partial(_COMBINABLE[function], frozenset(names))
