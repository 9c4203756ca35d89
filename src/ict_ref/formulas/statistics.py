"""Distances between two sets of examples, computed from features that the caller supplies: pixels, or a network's."""

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.formulas import _domain

# Ratios of the smallest to the largest Cholesky pivot, in units of eps: in float64 1e-10 of each covariance, and 1e-12
# of both, where an eigenvalue that is rounded to eps of the largest has a root that is rounded to 1e-10.
WELL_CONDITIONED, WELL_ROUNDED = 4.5e5, 4.5e3


def frechet_distance(
    mean1: Float[Tensor, " d"],
    cov1: Float[Tensor, " d d"],
    mean2: Float[Tensor, " d"],
    cov2: Float[Tensor, " d d"],
) -> Float[Tensor, ""]:
    """Return ||mean1 - mean2||_2^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)).

    Source: iCT, Section 4, Tables 2 and 3 (FID); Heusel et al. 2017, Eq. (6).

    It is the squared 2-Wasserstein distance of two normal distributions. FID is this distance for the features of one
    particular network; for any other features it is not FID. The covariances may be singular; those that are not take a
    tenth of the time. Use float32 or better.

    Raises: ValueError if shapes differ, if a value is not finite, or if a covariance is not symmetric and positive
    semidefinite.
    """
    _same_features("FID", mean1=mean1, cov1=cov1, mean2=mean2, cov2=cov2)
    for symbol, tensor in (("mean1", mean1), ("cov1", cov1), ("mean2", mean2), ("cov2", cov2)):
        _domain.finite(symbol, tensor, "FID")
    for symbol, cov in (("cov1", cov1), ("cov2", cov2)):
        if _domain.looks_at(cov) and not _is_symmetric(cov):
            _domain.refuse(f"a symmetric {symbol} (FID)", f"{symbol} != {symbol}^T", "give a covariance matrix")
    squared: Tensor = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * _trace_of_root(cov1, cov2)
    return squared.clamp_min(0)


def precision_recall(
    real: Float[Tensor, " reals d"],
    fake: Float[Tensor, " fakes d"],
    *,
    k: int = 3,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the fraction of fakes within reach of a real, and the fraction of reals within reach of a fake.

    Source: iCT, Section 4, Table 3; Kynkaanniemi et al. 2019, Eqs. (1) and (2).

    The reach of an example is its distance to the k-th nearest neighbour in the same set, itself not counted. The first
    number is precision: the fraction of fakes that look real. The second is recall: the fraction of reals that could be
    fakes. Use float32 or better.

    Raises: ValueError if the numbers of features differ, if a value is not finite, or unless 1 <= k < the size of each
    set.
    """
    _same_features("precision and recall", real=real, fake=fake)
    for symbol, points in (("real", real), ("fake", fake)):
        if not 1 <= k < len(points):
            _domain.refuse(
                f"1 <= k < the number of examples in {symbol} (precision and recall)",
                f"k = {k}, {len(points)} examples",
                "give more examples or a smaller k",
            )
        _domain.finite(symbol, points, "precision and recall")
    return _fraction_within_reach(fake, real, k), _fraction_within_reach(real, fake, k)


def inception_score(p: Float[Tensor, " examples classes"]) -> Float[Tensor, ""]:
    """Return exp(mean over examples of KL(p(y|x) || p(y))), p(y) the mean of p(y|x).

    Source: iCT, Section 4, Table 2 (IS); Salimans et al. 2016, Section 4.

    The score lies between 1 and the number of classes. `p` are a classifier's probabilities, not its logits. It is
    computed over all examples at once; published scores are often the mean over ten parts, which is usually smaller.
    Only with the probabilities of one particular network is it the Inception score. Its gradient is not finite where a
    p is 0.

    Raises: ValueError if `p` is empty or its rows are not probability distributions.
    """
    if len(p) < 1:
        _domain.refuse("at least one example in p (IS)", "an empty p", "give a classifier's probabilities")
    _domain.probabilities("p", p, "IS")
    marginal = p.mean(0)
    # 0 log 0 = 0. The mean of the smallest numbers of the dtype may be rounded to 0.
    marginal = marginal.clamp_min(torch.finfo(p.dtype).tiny)
    divergence = (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1)
    return divergence.mean().exp()


def kernel_distance(
    real: Float[Tensor, " reals d"],
    fake: Float[Tensor, " fakes d"],
) -> Float[Tensor, ""]:
    """Return mean k(x, x') + mean k(y, y') - 2 mean k(x, y), x != x', y != y', with k(x, y) = (x . y / d + 1)^3.

    Source: Binkowski et al. 2018, Section 4 (KID); iCT does not print it.

    This is the unbiased estimate of the squared maximum mean discrepancy, so it may be negative. It is computed over
    all examples at once; published numbers are often means over subsets, times 1000. Only with the features of one
    particular network is it KID.

    Raises: ValueError if the numbers of features differ, if a value is not finite, or if a set has fewer than two
    examples.
    """
    _same_features("KID", real=real, fake=fake)
    for symbol, points in (("real", real), ("fake", fake)):
        if len(points) < 2:
            _domain.refuse(f"at least two examples in {symbol} (KID)", f"{len(points)}", "give more examples")
        _domain.finite(symbol, points, "KID")
    return (
        _mean_off_diagonal(_kernel(real, real))
        + _mean_off_diagonal(_kernel(fake, fake))
        - 2 * _kernel(real, fake).mean()
    )


def _same_features(source: str, **tensors: Float[Tensor, "..."]) -> None:
    """Reject tensors that differ in the number of features, their last axis."""
    numbers = {symbol: tensor.shape[-1] for symbol, tensor in tensors.items()}
    if len(set(numbers.values())) > 1:
        got = ", ".join(f"{symbol} {number}" for symbol, number in numbers.items())
        _domain.refuse(f"the same features in {', '.join(numbers)} ({source})", got, "use one feature extractor")


def _kernel(x: Float[Tensor, " m d"], y: Float[Tensor, " n d"]) -> Float[Tensor, " m n"]:
    k: Tensor = (x @ y.mT / x.shape[1] + 1) ** 3
    return k


def _mean_off_diagonal(k: Float[Tensor, " n n"]) -> Float[Tensor, ""]:
    return (k.sum() - k.trace()) / (len(k) * (len(k) - 1))


def _is_symmetric(cov: Float[Tensor, " d d"]) -> bool:
    """Return whether cov = cov^T up to 1e-5 of each entry and 1e-8 of the largest."""
    slack = 1e-8 * float(cov.abs().max())
    # The first comparison, which takes a fifth of the time, suffices for a covariance.
    return float((cov - cov.mT).abs().max()) <= slack or torch.allclose(cov, cov.mT, atol=slack)


def _trace_of_root(cov1: Float[Tensor, " d d"], cov2: Float[Tensor, " d d"]) -> Float[Tensor, ""]:
    """Return tr (cov1 cov2)^(1/2), in the fastest of three ways that is accurate.

    With cov = factor factor^T it is the nuclear norm of factor1^T factor2, whose singular values are the roots of the
    eigenvalues of factor1^T cov2 factor1. Eigenvalues take a fraction of the time, but are rounded before their root.
    """
    (factor1, spread1), (factor2, spread2) = (_cholesky(cov) for cov in (cov1, cov2))
    eps = torch.finfo(cov1.dtype).eps
    if min(spread1, spread2) < WELL_CONDITIONED * eps:
        # Real, and exact where a covariance is singular.
        root: Tensor = torch.linalg.matrix_norm(_root("cov1", cov1) @ _root("cov2", cov2), ord="nuc")
    elif spread1 * spread2 < WELL_ROUNDED * eps:
        root = torch.linalg.svdvals(factor1.mT @ factor2).sum()
    else:
        between = _times_lower(_times_lower(cov2, factor1).mT, factor1)
        root = torch.linalg.eigvalsh(between).clamp_min(0).sqrt().sum()
    return root


def _times_lower(x: Float[Tensor, " m d"], lower: Float[Tensor, " d d"]) -> Float[Tensor, " m d"]:
    """Return x @ lower for a lower triangle, without the products with its upper right quarter, which is 0."""
    half = len(lower) // 2
    return torch.cat([x @ lower[:, :half], x[:, half:] @ lower[half:, half:]], dim=1)


def _cholesky(cov: Float[Tensor, " d d"]) -> tuple[Float[Tensor, " d d"], float]:
    """Return the Cholesky factor, and the ratio of its smallest to its largest pivot.

    The ratio is 0 for a covariance without a factor, and for one whose values are not read.
    """
    if not _domain.looks_at(cov):
        return cov, 0.0
    factor, info = torch.linalg.cholesky_ex(cov)
    pivots = factor.detach().diagonal().square()
    return factor, 0.0 if int(info) else float(pivots.min() / pivots.max())


def _root(symbol: str, cov: Float[Tensor, " d d"]) -> Float[Tensor, " d d"]:
    values, vectors = torch.linalg.eigh(cov)
    if _domain.looks_at(values) and float(values[0]) < -1e-6 * float(values.abs().max()):
        _domain.refuse(
            f"{symbol} without negative eigenvalues (FID)", f"{float(values[0])}", "give a covariance matrix"
        )
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    return root


def _fraction_within_reach(
    points: Float[Tensor, " points d"],
    centres: Float[Tensor, " centres d"],
    k: int,
) -> Float[Tensor, ""]:
    # The smallest distance of a centre is to itself, 0: its k-th neighbour has rank k + 1.
    reach = _distances(centres, centres).kthvalue(k + 1).values
    return (_distances(points, centres) <= reach).any(1).to(points.dtype).mean()


def _distances(a: Float[Tensor, " m d"], b: Float[Tensor, " n d"]) -> Float[Tensor, " m n"]:
    # Use differences: the expansion ||a||^2 - 2ab + ||b||^2 is not 0 from a point to itself.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
