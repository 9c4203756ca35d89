"""The distance of sLCT (arXiv:2502.01441). The text of the paper was not at hand: the form is that of Barron 2019."""

import torch
from jaxtyping import Float
from torch import Tensor


def _norm(x: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch"]:
    """Return ||x||_2 of each example."""
    norm: Tensor = torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1)
    return norm


def cauchy(
    x: Float[Tensor, " batch *event"], y: Float[Tensor, " batch *event"], *, c: float
) -> Float[Tensor, " batch"]:
    """Barron 2019, alpha = 0: d(x, y) = log(1 + ||x - y||_2^2/(2 c^2))."""
    return torch.log(1 + _norm(x - y) ** 2 / (2 * c**2))
