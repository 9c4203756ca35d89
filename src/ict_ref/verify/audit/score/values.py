"""The right value of a score for two sets of features, and the values of known deviations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor

from ict_ref import formulas

Features = Float64[Tensor, "_n _d"]
Value = tuple[float, ...]
"""One number, or precision and recall."""


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features."""

    mean: Float64[Tensor, " d"]
    cov: Float64[Tensor, "d d"]


def moments(features: Features, correction: int = 1) -> Moments:
    """Return the mean, and the covariance divided by N - 1, or by N without correction."""
    return Moments(features.mean(0), torch.cov(features.mT, correction=correction))


def frechet(a: Moments, b: Moments) -> float:
    """Return the Frechet distance of two sets."""
    return float(formulas.frechet_distance(a.mean, a.cov, b.mean, b.cov))


def _means(a: Moments, b: Moments) -> float:
    return float((a.mean - b.mean).square().sum())


def _traces(a: Moments, b: Moments) -> float:
    return float(a.cov.trace() + b.cov.trace())


def _with_eps(a: Moments, b: Moments, eps: float) -> float:
    """Return the distance with eps on the diagonal of both covariances under the root."""
    shift = eps * torch.eye(len(a.mean), dtype=torch.float64)
    moved = frechet(Moments(a.mean, a.cov + shift), Moments(b.mean, b.cov + shift))
    return moved - 2 * eps * len(a.mean)


def _diagonal(a: Moments, b: Moments) -> float:
    roots = (a.cov.diagonal() * b.cov.diagonal()).sqrt()
    return _means(a, b) + _traces(a, b) - 2 * float(roots.sum())


def _elementwise(a: Moments, b: Moments) -> float:
    return _means(a, b) + _traces(a, b) - 2 * float((a.cov @ b.cov).diagonal().clamp_min(0).sqrt().sum())


FRECHET: Mapping[str, Callable[[Moments, Moments], float]] = {
    "": frechet,
    "RootOfScore": lambda a, b: frechet(a, b) ** 0.5,
    "MeanNotSquared": lambda a, b: frechet(a, b) - _means(a, b) + _means(a, b) ** 0.5,
    "NoCovariance": _means,
    "NoMean": lambda a, b: frechet(a, b) - _means(a, b),
    "NoTraceOfRoot": lambda a, b: _means(a, b) + _traces(a, b),
    "RootOnce": lambda a, b: (frechet(a, b) + _means(a, b) + _traces(a, b)) / 2,
    "DiagonalCovariance": _diagonal,
    "ElementwiseRoot": _elementwise,
    **{"EpsAlways" + " " * i: partial(_with_eps, eps=eps) for i, eps in enumerate((1e-2, 1e-3, 1e-4))},
}
"""The distance and its known deviations, as functions of moments."""


def fid(a: Features, b: Features) -> dict[str, Value]:
    """Return the Frechet distance under the name "", and that of known deviations and of two of them."""
    found: dict[str, Value] = {}
    for correction, first in ((1, ""), (0, "DividedByN")):
        pair = moments(a, correction), moments(b, correction)
        for name, of_pair in FRECHET.items():
            found[" and ".join(filter(None, (first, name.strip()))) + name[len(name.strip()) :]] = (of_pair(*pair),)
    return found


def of_moments(a: Features, b: Features) -> dict[str, Value]:
    """Return the Frechet distance of given moments, and that of known deviations."""
    pair = moments(a), moments(b)
    return {name: (of_pair(*pair),) for name, of_pair in FRECHET.items()}


def kid(a: Features, b: Features) -> dict[str, Value]:
    """Return the kernel distance under the name "", and that of known deviations."""
    right = float(formulas.kernel_distance(b, a))
    width = a.shape[1]
    of_kernels = {
        "UnscaledKernel": lambda x, y: (x @ y.mT + 1) ** 3,
        "NoConstant": lambda x, y: (x @ y.mT / width) ** 3,
        "SquareKernel": lambda x, y: (x @ y.mT / width + 1) ** 2,
    }
    found = {name: (_mmd(a, b, kernel),) for name, kernel in of_kernels.items()}
    biased = _mmd(a, b, lambda x, y: (x @ y.mT / width + 1) ** 3, biased=True)
    root = max(right, 0.0) ** 0.5
    return {"": (right,), "BiasedKid": (biased,), "TimesThousand": (1000 * right,), "RootOfScore": (root,), **found}


def _mmd(a: Features, b: Features, kernel: Callable[[Tensor, Tensor], Tensor], *, biased: bool = False) -> float:
    within = 0.0
    for one in (a, b):
        of_set, n = kernel(one, one), len(one)
        total = of_set.sum() if biased else of_set.sum() - of_set.trace()
        within += float(total) / (n * n if biased else n * (n - 1))
    return within - 2 * float(kernel(a, b).mean())


def precision_recall(a: Features, b: Features, k: int) -> dict[str, Value]:
    """Return precision and recall under the name "", and those of known deviations."""
    precision, recall = _with_k(a, b, k)
    found: dict[str, Value] = {"": (precision, recall), "SwappedPrecision": (recall, precision)}
    if k > 1:
        found["CountsItself"] = _with_k(a, b, k - 1)
    others = [other for other in range(1, 11) if other not in (k, k - 1)]
    found |= {"OtherK" + " " * place: _with_k(a, b, other) for place, other in enumerate(others)}
    return {**found, "SharedReach": _shared_reach(a, b, k)}


def _with_k(a: Features, b: Features, k: int) -> Value:
    precision, recall = formulas.precision_recall(b, a, k=k)
    return float(precision), float(recall)


def _shared_reach(a: Features, b: Features, k: int) -> Value:
    """Return the numbers with the reach of the example itself, not that of the other set's examples."""
    between = torch.cdist(a, b)
    reaches = [torch.cdist(one, one).kthvalue(k + 1).values for one in (a, b)]
    precision = (between <= reaches[0][:, None]).any(1).double().mean()
    recall = (between <= reaches[1][None]).any(0).double().mean()
    return float(precision), float(recall)
