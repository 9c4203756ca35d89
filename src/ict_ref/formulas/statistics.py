"""How close two sets of examples are, judged by their features. Features are the caller's: pixels, or a network's."""

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.formulas import _domain


def frechet_distance(
    mu1: Float[Tensor, " d"],
    cov1: Float[Tensor, " d d"],
    mu2: Float[Tensor, " d"],
    cov2: Float[Tensor, " d d"],
) -> Float[Tensor, ""]:
    """Return ||mu1 - mu2||^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)).

    Source: iCT, Section 4, Tables 2 and 3 (FID); Heusel et al. 2017, Eq. (6).

    The squared 2-Wasserstein distance of two normal distributions. FID is this distance for the features of one
    particular network; for any other features it is not FID. The covariances may be singular.
    """
    for symbol, tensor in (("mu1", mu1), ("cov1", cov1), ("mu2", mu2), ("cov2", cov2)):
        if _domain.looks_at(tensor) and not bool(tensor.isfinite().all()):
            _domain.refuse(f"a finite {symbol} (FID)", "NaN or infinity", "look for it in the features")
    for symbol, cov in (("cov1", cov1), ("cov2", cov2)):
        if _domain.looks_at(cov) and not torch.allclose(cov, cov.mT, rtol=1e-5, atol=1e-8 * float(cov.abs().max())):
            _domain.refuse(f"a symmetric {symbol} (FID)", "cov != cov^T", "give a covariance matrix")
    # tr (cov1 cov2)^(1/2) is the nuclear norm of cov1^(1/2) cov2^(1/2): real, and exact where a covariance is singular.
    trace_of_root = torch.linalg.matrix_norm(_root("cov1", cov1) @ _root("cov2", cov2), ord="nuc")
    squared: Tensor = (mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * trace_of_root
    return squared.clamp_min(0)


def precision_recall(
    real: Float[Tensor, " reals d"],
    fake: Float[Tensor, " fakes d"],
    *,
    k: int = 3,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the share of fakes within reach of a real, and the share of reals within reach of a fake.

    Source: iCT, Section 4, Table 3; Kynkaanniemi et al. 2019, Eqs. (1) and (2).

    Within reach of a point: no farther from it than its k-th nearest neighbour in its own set, itself not counted.
    The first is precision, how many fakes look real; the second recall, how many reals could be fakes.
    """
    for symbol, points in (("real", real), ("fake", fake)):
        if not 1 <= k < len(points):
            _domain.refuse(
                f"1 <= k < the number of examples in {symbol} (precision and recall)",
                f"k = {k}, {len(points)} examples",
                "give more examples or a smaller k",
            )
        if _domain.looks_at(points) and not bool(points.isfinite().all()):
            _domain.refuse(f"finite {symbol} (precision and recall)", "NaN or infinity", "look for it in the features")
    return _share_within_reach(fake, real, k), _share_within_reach(real, fake, k)


def _root(symbol: str, cov: Float[Tensor, " d d"]) -> Float[Tensor, " d d"]:
    values, vectors = torch.linalg.eigh(cov)
    if _domain.looks_at(values) and float(values[0]) < -1e-6 * float(values.abs().max()):
        _domain.refuse(
            f"{symbol} without negative eigenvalues (FID)", f"{float(values[0])}", "give a covariance matrix"
        )
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    return root


def _share_within_reach(
    points: Float[Tensor, " points d"],
    centres: Float[Tensor, " centres d"],
    k: int,
) -> Float[Tensor, ""]:
    # The smallest distance of a centre is to itself, 0: its k-th neighbour has rank k + 1.
    reach = _distances(centres, centres).kthvalue(k + 1).values
    return (_distances(points, centres) <= reach).any(1).to(points.dtype).mean()


def _distances(a: Float[Tensor, " m d"], b: Float[Tensor, " n d"]) -> Float[Tensor, " m n"]:
    # By differences: the expansion ||a||^2 - 2ab + ||b||^2 is not 0 from a point to itself.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
