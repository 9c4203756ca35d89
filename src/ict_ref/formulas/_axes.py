"""The shape in which one number per example multiplies examples of any shape."""

from jaxtyping import Float
from torch import Tensor


def per_example(sigma: Float[Tensor, " batch"], x: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch *ones"]:
    """Return sigma with as many trailing axes of length 1 as x has event axes."""
    return sigma.reshape(-1, *(1 for _ in x.shape[1:]))
